//! Named faults that tests plant to prove that the checkers see them.
//!
//! Owns the list. Compiled only with the feature `planted`; a normal build has neither the list nor a branch for it.

/// A fault that can be planted by `HostConfig::planted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Planted {
    /// A proposal is answered when it is appended, before the disk has it.
    AckBeforeSync,
    /// The epoch that a proposal names, and that an entry carries, is not looked at.
    NoEpochCheck,
    /// The receiver acknowledges shipped entries before its own disk has them.
    CursorBeforeDurable,
    /// A seed carries no de-duplication table.
    DedupNotInSeed,
    /// `Promote` keeps the epoch's number.
    PromoteSameEpoch,
    /// An active that finds its backup ahead serves at once.
    OldDiskAccepted,
    /// A returned instance is re-based without its tail having been stored.
    RebaseWithoutTail,
    /// A swap is accepted though its position is not higher.
    SwapBackwards,
    /// The target of a handover activates without comparing digests.
    HandoverWithoutDigest,
    /// Lag is computed from wall clocks.
    LagFromWallClock,
    /// A restarted active serves before it is confirmed.
    UnconfirmedServes,
    /// Each copy removes expired soft records by its own clock.
    ExpireByLocalClock,
    /// `Promote` does not extend the expiry of soft records.
    SoftExtensionForgotten,
    /// A checkpoint carries no de-duplication table.
    DedupNotInCheckpoint,
    /// A canary counts before the entries that it speaks of are there.
    CanaryBeforeData,
    /// Without any canary the lag is 0.
    UnknownLagIsZero,
    /// A checkpoint that was taken in the middle of a seed lets the seed's log go.
    SeedLogPurged,
    /// A change joins the entry that is being gathered without a look at what that entry writes.
    SharedPosition,
    /// An active whose disk lost entries does not wait for those that its backup has taken and not applied.
    UnderwayIgnored,
    /// A vote is given and not written down.
    VoteNotStored,
    /// What a follower has to say goes out before what it says is synced.
    FollowerSpeaksEarly,
    /// A replica takes part again before the copy that it took over is on disk.
    CopyNotDurable,
    /// After a copy was taken over, what stood in the log before is believed.
    CopyKeepsOldLog,
    /// A leader takes changes before it has applied all of its log.
    LeadsBeforeApplied,
    /// Who steps down waits for what it proposed and takes whatever comes in its place for it.
    FlightsOutliveLeader,
    /// A leader counts on nobody else leading, however long ago a majority has heard it.
    LeaseIgnored,
    /// A follower that has just heard a leader helps another to lead.
    PromiseForgotten,
    /// A leader that has told another to lead goes on as if it had not.
    PassedOnAndKept,
    /// A leader answers a change when its own disk has it, whatever the others have.
    AckBeforeMajority,
    /// What another server proposes is acknowledged when it arrives.
    AckOnArrival,
    /// What decides something is read from the copy here, whoever leads.
    StaleLocalRead,
    /// A call whose leading server is lost is sent to the next one although it has rung.
    RetriedAfterRinging,
    /// A connection that another server of the pool owns is taken for one of this server.
    ForeignFlowIsOwn,
    /// New voters decide without the old ones at once.
    ChangeWithoutJoint,
    /// A change of the replicas takes effect where it is appended, committed or not.
    ChangeAtAppend,
    /// A replica that only follows counts for the leader's lease.
    LearnerCounted,
    /// A replica that was taken from the group is heard, and an older disk of a server let in.
    OldNumberAccepted,
    /// An order to stand down is carried out only in the groups that the server leads which got it.
    FenceAtAskedOnly,
    /// A handover that the partner asks for is made by the server that was asked, whoever leads.
    HandoverByFollower,
    /// Heartbeats of one server of the partner count only: its silence is the pool's.
    OneServerIsThePool,
    /// Of a group's copies in a pool the one is shown that has least to tell of its lag, not its leader's.
    FollowerBelieved,
    /// A procedure is taken over without a look whether it runs.
    TakenOverUnasked,
    /// Tails are applied only at the server that is asked.
    TailsOfOneServer,
    /// A witness campaigns, and is heard when it leads.
    WitnessLeads,
    /// A witness gives its vote to one whose log is older.
    WitnessVotesForAll,
    /// A witness is told of everything at once, and its word counts, though the other replica with data is there.
    WitnessCounted,
    /// A copy that goes on alone leads before that is on disk.
    SurvivorNotDurable,
    /// Copies of before a group was left with one survivor are not told, and go on.
    OutlivedUntold,
    /// The epoch of a survivor says nothing of what was not known to be committed.
    SurvivorSharesAll,
    /// A leader whose entry that opens a group was lost takes it for open when it leads again.
    OpeningForgotten,
}

impl Planted {
    /// All of them, in a fixed order.
    pub const ALL: [Planted; 50] = [
        Planted::AckBeforeSync,
        Planted::NoEpochCheck,
        Planted::CursorBeforeDurable,
        Planted::DedupNotInSeed,
        Planted::PromoteSameEpoch,
        Planted::OldDiskAccepted,
        Planted::RebaseWithoutTail,
        Planted::SwapBackwards,
        Planted::HandoverWithoutDigest,
        Planted::LagFromWallClock,
        Planted::UnconfirmedServes,
        Planted::ExpireByLocalClock,
        Planted::SoftExtensionForgotten,
        Planted::DedupNotInCheckpoint,
        Planted::CanaryBeforeData,
        Planted::UnknownLagIsZero,
        Planted::SeedLogPurged,
        Planted::SharedPosition,
        Planted::UnderwayIgnored,
        Planted::VoteNotStored,
        Planted::FollowerSpeaksEarly,
        Planted::CopyNotDurable,
        Planted::CopyKeepsOldLog,
        Planted::LeadsBeforeApplied,
        Planted::FlightsOutliveLeader,
        Planted::LeaseIgnored,
        Planted::PromiseForgotten,
        Planted::PassedOnAndKept,
        Planted::AckBeforeMajority,
        Planted::AckOnArrival,
        Planted::StaleLocalRead,
        Planted::RetriedAfterRinging,
        Planted::ForeignFlowIsOwn,
        Planted::ChangeWithoutJoint,
        Planted::ChangeAtAppend,
        Planted::LearnerCounted,
        Planted::OldNumberAccepted,
        Planted::FenceAtAskedOnly,
        Planted::HandoverByFollower,
        Planted::OneServerIsThePool,
        Planted::FollowerBelieved,
        Planted::TakenOverUnasked,
        Planted::TailsOfOneServer,
        Planted::WitnessLeads,
        Planted::WitnessVotesForAll,
        Planted::WitnessCounted,
        Planted::SurvivorNotDurable,
        Planted::OutlivedUntold,
        Planted::SurvivorSharesAll,
        Planted::OpeningForgotten,
    ];
}
