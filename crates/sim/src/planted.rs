//! Planted bugs: each must be caught by a checker within a bounded number of seeds.
//!
//! Owns the list that is run and the one switch that a run reads. The bugs themselves stand where they belong, behind the
//! feature `planted`.

use pairline_group::planted::Planted;
use std::cell::Cell;

thread_local! {
    static CURRENT: Cell<Option<Planted>> = const { Cell::new(None) };
}

/// The bug of the runs on this thread.
pub fn current() -> Option<Planted> {
    CURRENT.with(Cell::get)
}

/// Plants a bug for the runs on this thread, or none.
pub fn plant(bug: Option<Planted>) {
    CURRENT.with(|current| current.set(bug));
}

/// All bugs.
pub fn all() -> Vec<Planted> {
    Planted::ALL.to_vec()
}

/// Why no world of this simulator has shown a bug; the tests of `group` plant and catch those.
pub fn unreachable(bug: Planted) -> Option<&'static str> {
    match bug {
        Planted::NoEpochCheck => {
            Some("no proposal of the node names an epoch, and the chain hash refuses the entry first")
        }
        Planted::HandoverWithoutDigest => Some("needs two copies that differ unseen: a changed record in a checkpoint"),
        Planted::SeedLogPurged => {
            Some("needs a checkpoint in the middle of a seed, and seeds of few records are too short for one")
        }
        Planted::SwapBackwards => Some("needs an old seed whose ranges fit the present copy: a forged frame"),
        Planted::UnderwayIgnored => {
            Some("needs a full disk here while the partner's is put back to an older one: one seed in 2,000 meets both")
        }
        Planted::VoteNotStored => Some(
            "whom a voter chose that dies at once (the seeds do that) has no lease, and writes nothing but the empty item that another leader of its term writes too",
        ),
        Planted::CopyKeepsOldLog => Some(
            "needs a log with more of its own than the copy has, and a death just before the mark: a lease lets nobody write so much alone",
        ),
        Planted::PassedOnAndKept => Some(
            "a leader that passes on takes no changes whatever its lease says; only a read in the 400 ms of that lease, of what the next one has changed by then, would show it",
        ),
        Planted::ChangeWithoutJoint => Some(
            "the host exchanges one voter at a time: it needs a cut between just these two pairs in one round trip",
        ),
        Planted::PromiseForgotten => {
            Some("the library's own rule, that who hears a leader votes for nobody else, hides it but for some 50 ms")
        }
        Planted::WitnessLeads | Planted::WitnessVotesForAll | Planted::WitnessCounted => {
            Some("no pool of these worlds has a witness: the tests of replication have such worlds, and catch it")
        }
        Planted::SurvivorNotDurable | Planted::OutlivedUntold | Planted::SurvivorSharesAll => Some(
            "no group loses two of its disks in these worlds: the tests of replication have such worlds, and catch it",
        ),
        Planted::FollowerBelieved => {
            Some("what a follower says of the lag is true, if older: what is shown then is less, and not wrong")
        }
        Planted::TakenOverUnasked => {
            Some("the lock in the journal and the count of resumptions end one of the two runs before it has an effect")
        }
        _ => None,
    }
}

/// A seed that showed a bug when this was written, where that is not one of the first three. The regular run takes it first, and spares
/// those before it; where what is drawn has changed since and it shows nothing, all are taken.
pub fn shown_by(bug: Planted) -> Option<u64> {
    match bug {
        Planted::AckBeforeSync => Some(8),
        Planted::CursorBeforeDurable => Some(53),
        Planted::PromoteSameEpoch => Some(59),
        Planted::OldDiskAccepted => Some(14),
        Planted::RebaseWithoutTail => Some(45),
        Planted::UnconfirmedServes => Some(6),
        Planted::SoftExtensionForgotten => Some(25),
        Planted::FlightsOutliveLeader => Some(12),
        Planted::RetriedAfterRinging => Some(12),
        Planted::ChangeAtAppend => Some(7),
        Planted::LearnerCounted => Some(89),
        Planted::TailsOfOneServer => Some(105),
        Planted::OpeningForgotten => Some(21),
        _ => None,
    }
}

/// Whether a bug shows only where a pool has several servers.
pub fn is_of_pool(bug: Planted) -> bool {
    matches!(
        bug,
        Planted::VoteNotStored
            | Planted::FollowerSpeaksEarly
            | Planted::CopyNotDurable
            | Planted::CopyKeepsOldLog
            | Planted::LeadsBeforeApplied
            | Planted::FlightsOutliveLeader
            | Planted::LeaseIgnored
            | Planted::PromiseForgotten
            | Planted::PassedOnAndKept
            | Planted::ChangeWithoutJoint
            | Planted::ChangeAtAppend
            | Planted::LearnerCounted
            | Planted::OldNumberAccepted
            | Planted::AckBeforeMajority
            | Planted::AckOnArrival
            | Planted::StaleLocalRead
            | Planted::RetriedAfterRinging
            | Planted::ForeignFlowIsOwn
            | Planted::WitnessLeads
            | Planted::WitnessVotesForAll
            | Planted::WitnessCounted
    )
}

/// Whether a bug shows only where two pools of several servers are paired.
pub fn is_of_site(bug: Planted) -> bool {
    matches!(
        bug,
        Planted::FenceAtAskedOnly
            | Planted::HandoverByFollower
            | Planted::OneServerIsThePool
            | Planted::FollowerBelieved
            | Planted::TakenOverUnasked
            | Planted::TailsOfOneServer
            | Planted::OpeningForgotten
    )
}

/// Runs a seed of the kind of world in which a bug shows. Where only some seeds of it meet what the bug needs, all are made to: a bug that
/// one seed in some hundreds shows is missed by the next unrelated change of what the seeds do.
pub fn seed(bug: Planted, seed: u64) -> crate::run::Outcome {
    match bug {
        Planted::AckBeforeSync => crate::run::seed(seed, crate::options::with_slow_disks),
        Planted::ChangeAtAppend | Planted::OldNumberAccepted => {
            crate::pool::seed(seed, crate::pool::options::with_members)
        }
        Planted::LearnerCounted => crate::pool::seed(seed, crate::pool::options::with_learners),
        Planted::FenceAtAskedOnly | Planted::TailsOfOneServer => {
            crate::site::seed(seed, crate::site::options::with_disasters)
        }
        Planted::OpeningForgotten => crate::site::seed(seed, crate::site::options::with_a_rough_start),
        _ if is_of_site(bug) => crate::site::seed(seed, |_| {}),
        _ if is_of_pool(bug) => crate::pool::seed(seed, |_| {}),
        _ => crate::run::seed(seed, |_| {}),
    }
}
