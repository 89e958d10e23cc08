//! The replicas of one group within its pool, as one of them sees the others.
//!
//! Owns their numbers, what is said between them, and what follows from a change of leader: what was proposed and is not committed has an
//! unknown outcome, and whoever leads now writes at the end of what is committed. Consensus itself is `consensus`'s.

use super::{Cx, Flight, Instance};
use crate::codec::{self, Item};
use crate::config::{HostConfig, planted};
use crate::consensus::members::{self, Members};
pub(crate) use crate::consensus::members::{generation, is_witness, server};
use crate::consensus::{Change, Faults, Heard, Impossible, Known, ReplicaBody, ReplicaId, ReplicaMessage};
use crate::entry::{Body, ChainHash};
use crate::ids::{Epoch, GroupId, Millis, Position, ServerId};
use crate::io::{Done, Now, Refusal, ReplicaStatus, Role};
use crate::placement;
use serde::{Deserialize, Serialize};

/// How long a copy that takes no part believes what it last heard of who leads.
const OVERHEARD: Millis = 1_000;

/// Items that a replica may lack and still be asked to lead.
pub(super) const NEAR: u64 = 64;

/// What a leader that has a partner says with each heartbeat.
#[derive(Serialize, Deserialize)]
struct Word {
    /// Of which epoch it speaks.
    epoch: Epoch,
    /// Its authority is confirmed.
    confirmed: bool,
    /// Up to there the partner's copy has everything.
    acked: Option<u64>,
    /// Up to there the leader's goes.
    last: u64,
    /// Of a copy of the partner's group: how far behind the partner it is at most.
    behind: Option<Behind>,
}

/// At this place a copy has everything that the partner had so long ago.
#[derive(Serialize, Deserialize)]
struct Behind {
    position: Position,
    chain: ChainHash,
    ms: Millis,
}

/// The number of this server's first replica of any group.
pub(crate) fn own(cfg: &HostConfig) -> ReplicaId {
    of_kind(cfg.is_witness(), members::number(cfg.server, cfg.incarnation, 0))
}

/// A number as that of a witness, or of a replica with data.
pub(super) fn of_kind(witness: bool, number: ReplicaId) -> ReplicaId {
    if witness { members::as_witness(number) } else { number }
}

/// A replica's number as stored: 0 is the server's first.
pub(super) fn or_own(cfg: &HostConfig, replica: ReplicaId) -> ReplicaId {
    if replica == 0 { own(cfg) } else { replica }
}

/// The replicas that a group begins with: one on each server that it is placed on, with its first disk, and the witness.
pub(crate) fn first_members(cfg: &HostConfig, group: GroupId) -> Members {
    let number = |server| {
        let first = of_kind(cfg.witness == Some(server), members::number(server, 1, 0));
        if server == cfg.server { own(cfg) } else { first }
    };
    Members::of(placement::of(group, &cfg.servers).into_iter().chain(cfg.witness).map(number))
}

/// The faults that a test planted.
pub(super) fn faults(cfg: &HostConfig) -> Faults {
    Faults {
        vote_not_stored: planted!(cfg, VoteNotStored),
        follower_speaks_early: planted!(cfg, FollowerSpeaksEarly),
        leads_before_applied: planted!(cfg, LeadsBeforeApplied),
        lease_ignored: planted!(cfg, LeaseIgnored),
        promise_forgotten: planted!(cfg, PromiseForgotten),
        passed_on_and_kept: planted!(cfg, PassedOnAndKept),
        changes_without_joint: planted!(cfg, ChangeWithoutJoint),
        changes_at_append: planted!(cfg, ChangeAtAppend),
        learners_count: planted!(cfg, LearnerCounted),
        old_number_accepted: planted!(cfg, OldNumberAccepted),
        witness_leads: planted!(cfg, WitnessLeads),
        witness_votes_for_all: planted!(cfg, WitnessVotesForAll),
        witness_counted: planted!(cfg, WitnessCounted),
    }
}

/// Whether this server has a replica of a group.
pub(crate) fn has(cfg: &HostConfig, group: GroupId) -> bool {
    let all = cfg.is_witness() || (group.is_cms() && cfg.has(cfg.server));
    all || placement::of(group, &cfg.servers).contains(&cfg.server)
}

/// The disk of its server that a replica is on.
pub(crate) fn incarnation(replica: ReplicaId) -> u64 {
    members::age(replica).0
}

impl Instance {
    /// The number of this replica.
    pub(crate) fn number(&self) -> ReplicaId {
        self.consensus.replica()
    }

    /// Whether another replica leads, or none does yet.
    pub(crate) fn follows(&self) -> bool {
        self.restoring.is_some() || (!self.consensus.is_alone() && !self.consensus.leads())
    }

    /// Opens a group that nobody else can have: at once, or as soon as some replica leads.
    pub(crate) fn open_first(&mut self, cx: &mut Cx<'_>) {
        self.opening = !self.consensus.is_alone();
        if !self.opening {
            self.open(cx);
        }
    }

    /// The server that leads, as far as this copy knows; this one only while nobody else can.
    pub(crate) fn leader(&self, now: Now) -> Option<ServerId> {
        if self.leads_now(now) {
            return self.consensus.leader().map(server);
        }
        if !self.takes_part() {
            let told = self.overheard.filter(|(_, _, at)| now.mono < at.saturating_add(OVERHEARD));
            return told.map(|(_, leader, _)| server(leader));
        }
        self.consensus.leader().filter(|leader| *leader != self.consensus.replica()).map(server)
    }

    /// Whether this copy leads, and nobody else can.
    pub(crate) fn leads_now(&self, now: Now) -> bool {
        self.takes_part() && self.consensus.leads() && self.consensus.holds(now.mono)
    }

    /// Whether this copy is the one that speaks to the partner.
    pub(crate) fn speaks(&self, now: Now) -> bool {
        (self.consensus.is_alone() && self.restoring.is_none()) || self.leads_now(now)
    }

    /// How the replicas stand, as the leader knows.
    pub(crate) fn replicas(&self, now: Now) -> Vec<ReplicaStatus> {
        let own = self.consensus.replica();
        let leads = self.leads_now(now);
        // On the way to other voters those of before decide as well: one that comes can take nobody's place yet.
        let members = self.consensus.members();
        let counts = |replica| !members.is_joint() || members.outgoing.contains(&replica);
        let status = |known: Known| ReplicaStatus {
            server: server(known.replica),
            voter: known.votes && counts(known.replica),
            witness: members::is_witness(known.replica),
            behind: known.behind,
            heard: known.heard.is_some(),
            leads: leads && known.replica == own,
        };
        self.consensus.known(now.mono).into_iter().map(status).collect()
    }

    /// About 100 ms have passed.
    pub(crate) fn tick_consensus(&mut self, cx: &mut Cx<'_>) {
        if !self.takes_part() {
            return;
        }
        if cx.partner.is_some() && !self.follows() && !self.consensus.is_alone() {
            let word = Word {
                epoch: self.state.epoch(),
                confirmed: self.confirmed,
                acked: self.source.acked,
                last: self.state.position.seq,
                behind: self.says_behind(cx.now),
            };
            self.consensus.say(cx.now.mono, codec::encode(&word).into());
        }
        self.consensus.tick(cx.now.mono);
    }

    /// A short while has passed.
    pub(crate) fn hurry(&mut self, now: Now) {
        if self.takes_part() {
            self.consensus.hurry(now.mono);
        }
    }

    /// Whether this is a witness's copy: it holds no data, and never leads.
    pub(crate) fn is_witness(&self) -> bool {
        self.consensus.is_witness()
    }

    /// There is a link to a server of the pool.
    pub(crate) fn met_server(&mut self, server: ServerId) {
        self.consensus.linked(server, true);
    }

    /// No link to a server of the pool is left.
    pub(crate) fn lost_server(&mut self, gone: ServerId) {
        self.consensus.linked(gone, false);
        let leads = self.consensus.leader().filter(|leader| *leader != self.consensus.replica());
        if leads.map(server) == Some(gone) && self.takes_part() {
            self.consensus.lost_leader();
        }
    }

    /// Another replica says something.
    pub(crate) fn hear(&mut self, cx: &mut Cx<'_>, message: ReplicaMessage) {
        if !self.takes_part() {
            self.overhear(cx.now, &message);
            return;
        }
        match self.consensus.hear(cx.now.mono, message) {
            Ok(Some(heard)) => self.on_word(cx, &heard),
            Ok(None) => {}
            Err(Impossible::Lost) => self.outdated = self.consensus.can_do_without_this(),
            Err(why @ Impossible::Forked) => self.stop(cx, &why.to_string()),
            // Of no consequence, whoever sent it: it is as if it had been lost.
            Err(Impossible::Misdirected | Impossible::Contradiction | Impossible::Ahead) => {}
            Err(Impossible::Gone | Impossible::Blank | Impossible::Witness | Impossible::Content) => {}
        }
    }

    fn says_behind(&self, now: Now) -> Option<Behind> {
        let base = self.sink.lag_base.filter(|_| self.role() != Role::Active)?;
        let (position, chain) = (self.state.position, self.state.chain);
        Some(Behind { position, chain, ms: now.mono.saturating_sub(base) })
    }

    /// Whether a leader knows this copy to have had what it does not have, and goes on without it: it is to come in anew.
    pub(crate) fn is_outdated(&self) -> bool {
        self.outdated
    }

    /// The leader says what it has heard from the partner: one that leads after it need not ask again.
    fn on_word(&mut self, cx: &Cx<'_>, heard: &Heard) {
        let Ok(word) = codec::decode::<Word>(&heard.note) else { return };
        if !self.follows() {
            return;
        }
        if self.role() != Role::Active {
            // Said after this copy's clock showed `asked`: what was so long ago then was so at that time less this at the latest. A clock
            // that began later than that cannot say it.
            let stamp = heard.asked.zip(word.behind.as_ref()).and_then(|(asked, behind)| asked.checked_sub(behind.ms));
            if let (Some(stamp), Some(behind)) = (stamp, word.behind) {
                self.on_behind(cx, stamp, behind.position, behind.chain);
            }
            return;
        }
        if word.epoch != self.state.epoch() {
            return;
        }
        self.confirmed |= word.confirmed && !self.unopened && !self.is_told_of_newer();
        self.source.acked = self.source.acked.max(word.acked);
        if let Some(asked) = heard.asked {
            self.words.heard(word.epoch, (asked, word.last), self.source.acked);
        }
    }

    /// A copy that takes no part knows who leads all the same: what is meant for the leader comes to this server too.
    fn overhear(&mut self, now: Now, message: &ReplicaMessage) {
        let leads = matches!(message.body, ReplicaBody::Heartbeat { .. } | ReplicaBody::Append { .. });
        if leads && self.overheard.is_none_or(|(term, ..)| term <= message.term) {
            self.overheard = Some((message.term, message.from, now.mono));
        }
    }

    /// A stopped copy among several says nothing more, so that the others go on without it; nor does one whose state is not on disk.
    pub(super) fn takes_part(&self) -> bool {
        self.restoring.is_none() && (self.consensus.is_alone() || !self.is_stopped())
    }

    /// A change of the configuration is committed.
    pub(super) fn change_members(&mut self, cx: &mut Cx<'_>, change: &Change) {
        if let Err(error) = self.consensus.apply_change(change) {
            self.stop(cx, &error.to_string());
        }
    }

    /// Sends what is to be said to the others.
    pub(crate) fn speak(&mut self, cx: &mut Cx<'_>) {
        for message in self.consensus.take_messages() {
            cx.tell(self.group, message);
        }
    }

    /// Whether this copy is the only one in its pool.
    pub(crate) fn is_alone(&self) -> bool {
        self.consensus.is_alone()
    }

    /// Whether this copy is to leave it to others to lead.
    pub(crate) fn yields(&mut self, on: bool) {
        self.consensus.yields(on);
    }

    /// The replica of a server, if the group could be passed on to it now. Where there is no hurry it has been led here for a while, and
    /// nothing is under way that would have to begin anew.
    pub(crate) fn could_pass_to(&self, now: Now, to: ServerId, since: Millis, hurry: bool) -> Option<ReplicaId> {
        let leads = self.leads_now(now) && !self.is_alone() && self.passing.is_none() && self.led_since <= since;
        let seeding = self.source.seed.is_some() || self.source.seed_due || self.shadow.is_some();
        let busy = seeding || !self.copies.is_empty() || self.sink.pulling.is_some();
        if !leads || self.procedure.is_some() || (busy && !hurry) {
            return None;
        }
        let known = self.consensus.known(now.mono).into_iter().find(|known| server(known.replica) == to)?;
        let healthy = known.heard.is_some_and(|heard| heard <= since);
        let leads = known.votes && !members::is_witness(known.replica);
        (healthy && leads && known.behind <= NEAR).then_some(known.replica)
    }

    /// Whether this copy would lead, if the one that does asks it to.
    pub(crate) fn may_take(&self, from: ReplicaId) -> bool {
        let could = !self.is_witness() && self.takes_part() && self.follows() && self.copy_in.is_none();
        could && self.consensus.leader() == Some(from)
    }

    /// Another replica will lead: nothing more is taken in here, and it is told when it has everything.
    pub(crate) fn pass_to(&mut self, cx: &mut Cx<'_>, to: ReplicaId) {
        if self.procedure.is_none() {
            self.close_gathered(cx);
            self.passing = Some(to);
            self.pass_on(cx);
        }
    }

    /// Tells the other replica to lead, if nothing is in flight here and it has everything.
    pub(crate) fn pass_on(&mut self, cx: &mut Cx<'_>) {
        if let Some(to) = self.passing.filter(|_| self.flight.is_empty() && self.procedure.is_none()) {
            self.consensus.pass_to(cx.now.mono, to);
        }
    }

    /// Whether another is about to lead.
    pub(crate) fn is_passed_on(&self) -> bool {
        self.passing.is_some()
    }

    /// It will not: this copy goes on, unless the other was told already.
    pub(crate) fn keep(&mut self) {
        self.passing = None;
    }

    /// Draws the conclusions from a change of leader; whether something was written.
    pub(crate) fn note_leader(&mut self, cx: &mut Cx<'_>) -> bool {
        let leads = self.consensus.leads_in();
        if leads == self.led || self.consensus.is_alone() {
            if self.led.is_none() && self.shadow.is_none() {
                // Behind a change of the replicas in its log, the only one too knows what is committed only when it leads.
                self.rehead();
            }
            self.led = leads;
            return false;
        }
        if self.led.is_some() {
            self.stepped_down(cx);
        }
        self.led = leads;
        self.passing = None;
        self.led_since = cx.now.mono;
        if leads.is_some() {
            self.led_from = self.state.position.seq;
            self.rehead();
            self.unlinked();
            // What an earlier time of leading left unfinished is begun anew.
            self.sink.led_anew();
            if self.shadow.is_some() {
                // What its leader knew of the seed is gone with it.
                self.append(Item::SeedAbort, Vec::new());
            }
            self.fence_as_told(cx);
            if self.opening {
                self.open(cx);
            }
        }
        self.tell_role(cx);
        leads.is_some()
    }

    /// This copy is one no more: whoever waits is told.
    pub(crate) fn ends(&mut self, cx: &mut Cx<'_>) {
        self.stepped_down(cx);
    }

    /// Another replica leads, or will: what was proposed here may yet be committed, or never.
    fn stepped_down(&mut self, cx: &mut Cx<'_>) {
        self.drop_overlay();
        if let Some(before) = self.unsure_fence.take() {
            // Its entry may never be committed; if it is, it counts then.
            self.fence = before;
        }
        if planted!(cx.cfg, FlightsOutliveLeader) {
            return;
        }
        let opens = |flight: &Flight| match &flight.item {
            Item::Entry(stored) => matches!(stored.entry.body, Body::Open { .. }),
            _ => false,
        };
        if self.flight.iter().any(opens) && !planted!(cx.cfg, OpeningForgotten) {
            // If its entry is lost, the group is still to be opened; if not, it is once that is applied.
            (self.unopened, self.confirmed) = (true, false);
        }
        let gathered = self.gathered.take().map(|gathered| gathered.waiters).unwrap_or_default();
        let flights = self.flight.drain(..).flat_map(|flight| flight.waiters);
        let mut tickets: Vec<_> = gathered.into_iter().chain(flights).map(|(ticket, _)| ticket).collect();
        tickets.extend(self.procedure.take().into_iter().flat_map(|procedure| procedure.tickets));
        self.flight_bytes = 0;
        self.appended = false;
        // Whether the partner's history is another one is for the next leader to find.
        self.source.broken = false;
        self.sink.unsure = false;
        self.drop_copies(|_, _, _| true);
        self.rehead();
        for ticket in tickets {
            cx.done(ticket, self.group, Done::Refused(Refusal::OutcomeUnknown));
        }
    }
}
