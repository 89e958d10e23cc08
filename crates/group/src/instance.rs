//! One copy of one group on this server.
//!
//! Owns its state, its consensus, what is proposed and not yet applied, and its role. Proposals are in `propose`, what a
//! commit does in `commit`, what its replicas say to each other and who leads in `replicas`, changes of serving pool in `procedure`,
//! checkpoints in `checkpoint`, copies for replicas that are far behind in `copy`, a copy that goes on alone in `survive`; shipping is in
//! `ship`.

pub(crate) mod checkpoint;
mod commit;
mod copy;
mod gathered;
pub(crate) mod moves;
mod procedure;
mod propose;
pub(crate) mod replicas;
mod status;
pub(crate) mod survive;
pub(crate) mod whole;
mod words;

use crate::codec::{self, Fence, Item};
use crate::config::{HostConfig, planted};
use crate::consensus::{Consensus, ConsensusError, Members, ReplicaId, ReplicaMessage, Start};
use crate::dedup::Bounds;
use crate::entry::{Body, ChainHash, Entry, OpId};
use crate::frame::{Frame, GroupHello};
use crate::ids::{Epoch, GroupId, LinkId, Millis, PoolId, Position, ServerId, Ticket};
use crate::io::{Alarm, Done, HostOutput, LogRecord, Now, Refusal, Role};
use crate::record::{Class, Key};
use crate::retained::Retained;
use crate::shadow::Shadow;
use crate::ship::{Sink, Source};
use crate::state::{Rules, State};
use bytes::Bytes;
pub(crate) use procedure::{Change, Procedure};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What an instance may use while it works.
pub(crate) struct Cx<'a> {
    pub(crate) cfg: &'a HostConfig,
    pub(crate) now: Now,
    pub(crate) partner: Option<PoolId>,
    /// The link to the partner, if one is up.
    pub(crate) link: Option<LinkId>,
    pub(crate) out: &'a mut VecDeque<HostOutput>,
    /// Set when a hello has to be sent for some group.
    pub(crate) hello: &'a mut BTreeSet<GroupId>,
    /// The links to other servers of this pool.
    pub(crate) peers: &'a BTreeMap<ServerId, LinkId>,
}

impl Cx<'_> {
    pub(crate) fn send(&mut self, frame: Frame) {
        if let Some(link) = self.link {
            self.out.push_back(HostOutput::Send { link, frame });
        }
    }

    /// Sends a message to another replica; one that is not linked does without, as with any that is lost.
    pub(crate) fn tell(&mut self, group: GroupId, message: ReplicaMessage) {
        if let Some(link) = self.peers.get(&replicas::server(message.to)).copied() {
            self.out.push_back(HostOutput::Send { link, frame: Frame::Replica { group, message: Box::new(message) } });
        }
    }

    pub(crate) fn done(&mut self, ticket: Ticket, group: GroupId, done: Done) {
        self.out.push_back(HostOutput::Done { ticket, group, done });
    }

    pub(crate) fn alarm(&mut self, alarm: Alarm) {
        self.out.push_back(HostOutput::Alarm(alarm));
    }

    pub(crate) fn rules(&self) -> Rules {
        rules(self.cfg)
    }
}

/// The rules of applying under this configuration.
pub(crate) fn rules(cfg: &HostConfig) -> Rules {
    let limits = &cfg.limits;
    Rules {
        dedup: Bounds { sessions: limits.dedup_sessions, window: limits.dedup_window, expiry: limits.dedup_expiry },
        compare_digest: !planted!(cfg, HandoverWithoutDigest),
        any_epoch: planted!(cfg, NoEpochCheck),
    }
}

/// How a waiting request ends when the entry that it waits for is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Committed,
    Duplicate,
    NoChange,
}

/// An item proposed and not yet applied.
#[derive(Debug)]
struct Flight {
    index: u64,
    item: Item,
    payload: Bytes,
    waiters: Vec<(Ticket, Wait)>,
}

/// Where the next entry goes: after everything proposed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) position: Position,
    pub(crate) chain: ChainHash,
    pub(crate) time: Millis,
}

/// What the proposals in flight make of a record.
#[derive(Clone, Copy, Debug)]
struct Spec {
    /// Sequence of the last entry in flight that touches it.
    seq: u64,
    /// Version and class, or absent.
    now: Option<(Position, Class)>,
}

/// Speculative changes over the state: those of the entries in flight that this copy wrote itself.
#[derive(Debug, Default)]
struct Overlay {
    keys: BTreeMap<Key, Spec>,
    ops: BTreeMap<OpId, u64>,
}

/// What was last told of a copy: role, epoch, whether it is confirmed, stopped, and led by another server; and who leads.
type Told = (Role, Epoch, bool, bool, bool, Option<ServerId>);

/// One copy of one group.
pub(crate) struct Instance {
    pub(crate) group: GroupId,
    pub(crate) own: PoolId,
    consensus: Consensus,
    pub(crate) state: State,
    pub(crate) shadow: Option<Shadow>,
    overlay: Overlay,
    /// Small changes of this turn that will be one entry. Only while proposals follow each other: every other input, and the
    /// end of the turn, has it written first.
    gathered: Option<gathered::Gathered>,
    flight: VecDeque<Flight>,
    flight_bytes: u64,
    pub(crate) head: Head,
    pub(crate) retained: Retained,
    /// For an active: authority confirmed since the restart.
    pub(crate) confirmed: bool,
    /// An administrator, or the absence of a partner, has vouched for what this copy's disk had at the start.
    asserted: bool,
    /// Servers that asked to come in; for the leader.
    asked: moves::Asked,
    /// Since when nobody is known to lead.
    quiet_since: Millis,
    /// The configuration before the first item of its log.
    origin: Members,
    /// A higher epoch is known that this copy's own log does not have.
    pub(crate) fence: Option<Fence>,
    /// While the fence is not committed: the one before.
    unsure_fence: Option<Option<Fence>>,
    /// Highest epoch ever heard of.
    pub(crate) heard: Epoch,
    /// While another leads: what this copy would stand down for, by what the partner's leader says, if it led.
    pub(crate) told_of: Option<Fence>,
    /// Entries of stored divergent tails that wait for a decision.
    pub(crate) tail: u64,
    /// Whether this process wrote an entry of its own since it started.
    pub(crate) appended: bool,
    stopped: Option<Box<str>>,
    pub(crate) procedure: Option<Procedure>,
    applied: (u64, u64),
    touched: BTreeSet<Key>,
    cleared: bool,
    /// The checkpoint of all records that is being taken.
    whole: Option<whole::Whole>,
    changed: bool,
    /// Applied index in the last durable checkpoint, and in those under way.
    durable: u64,
    pending_checkpoints: VecDeque<(u64, u64)>,
    purged: u64,
    /// Drains that wait for the sync of a batch.
    unsynced: VecDeque<(u64, u64)>,
    /// The last batch that is synced.
    synced: u64,
    /// Positions and digests of the last entries.
    pub(crate) history: VecDeque<(Position, [u8; 32])>,
    pub(crate) verified: Option<(Position, Millis)>,
    told: Option<Told>,
    /// The term in which this replica leads, as far as the rest of the copy knows.
    led: Option<u64>,
    /// The replica that is about to lead instead of this one, by agreement.
    passing: Option<ReplicaId>,
    /// When it began, or ended, to lead.
    led_since: Millis,
    /// While this copy takes no part: who leads, in which term, and when that was heard.
    overheard: Option<(u64, ReplicaId, Millis)>,
    /// Copies of the state that are on their way to other replicas, one that arrives, and one that is not on disk yet.
    copies: copy::Copies,
    copy_number: u64,
    copy_in: Option<copy::CopyIn>,
    restoring: Option<copy::Restoring>,
    /// The order to go on alone, until it is carried out.
    surviving: Option<survive::Surviving>,
    /// Records for the log that are not of consensus' making.
    marks: Vec<LogRecord>,
    /// To be opened by whichever replica leads first: nobody else can have the group.
    opening: bool,
    replaying: bool,
    /// At home here and not on this disk: opened once the partner, or an administrator, has said that nobody has it.
    pub(crate) unopened: bool,
    pub(crate) source: Source,
    pub(crate) sink: Sink,
    pub(crate) peer: Option<GroupHello>,
    reseed_told: bool,
    /// A seed was given up: entries that were to follow it are still in the log, and are passed over.
    pub(crate) orphans: bool,
    /// A leader knows this copy to have had what it does not have.
    outdated: bool,
    /// How far leaders were, and when.
    words: words::Words,
    /// Up to there entries were written by earlier leaders.
    led_from: u64,
}

/// Digests kept for comparison with a partner that is a little behind.
const HISTORY: usize = 256;

impl Instance {
    /// A copy without any entry.
    pub(crate) fn fresh(cfg: &HostConfig, group: GroupId, now: Now) -> Result<Instance, ConsensusError> {
        let start = Start {
            seed: cfg.seed,
            replica: replicas::own(cfg),
            members: replicas::first_members(cfg, group),
            keep: cfg.limits.replica_items,
            now: now.mono,
            faults: replicas::faults(cfg),
            ..Start::default()
        };
        let origin = start.members.clone();
        let consensus = Consensus::start(group, start)?;
        Ok(Instance { origin, ..Instance::with(cfg, group, consensus) })
    }

    /// A copy that knows nothing and waits for the state of another.
    pub(crate) fn blank(
        cfg: &HostConfig,
        group: GroupId,
        replica: ReplicaId,
        now: Now,
    ) -> Result<Instance, ConsensusError> {
        let start = Start {
            seed: cfg.seed,
            replica,
            keep: cfg.limits.replica_items,
            now: now.mono,
            faults: replicas::faults(cfg),
            ..Start::default()
        };
        Ok(Instance::with(cfg, group, Consensus::start(group, start)?))
    }

    fn with(cfg: &HostConfig, group: GroupId, consensus: Consensus) -> Instance {
        Instance {
            group,
            own: cfg.pool,
            consensus,
            state: State::default(),
            shadow: None,
            overlay: Overlay::default(),
            gathered: None,
            flight: VecDeque::new(),
            flight_bytes: 0,
            head: Head::default(),
            retained: Retained::default(),
            confirmed: false,
            asserted: false,
            asked: moves::Asked::new(),
            quiet_since: 0,
            origin: Members::default(),
            fence: None,
            unsure_fence: None,
            heard: Epoch::default(),
            told_of: None,
            tail: 0,
            appended: false,
            stopped: None,
            procedure: None,
            applied: (0, 0),
            touched: BTreeSet::new(),
            cleared: false,
            whole: None,
            changed: true,
            durable: 0,
            pending_checkpoints: VecDeque::new(),
            purged: 0,
            unsynced: VecDeque::new(),
            synced: 0,
            history: VecDeque::new(),
            verified: None,
            told: None,
            led: None,
            passing: None,
            led_since: 0,
            overheard: None,
            copies: copy::Copies::default(),
            copy_number: 0,
            copy_in: None,
            restoring: None,
            surviving: None,
            marks: Vec::new(),
            opening: false,
            replaying: false,
            unopened: false,
            source: Source::default(),
            sink: Sink::default(),
            peer: None,
            reseed_told: false,
            orphans: false,
            outdated: false,
            words: words::Words::default(),
            led_from: 0,
        }
    }

    /// Writes the first entry of a group that is created active here.
    pub(crate) fn open(&mut self, cx: &mut Cx<'_>) {
        let epoch = Epoch { number: 1, granted_by: self.own };
        let entry = Entry {
            position: Position { epoch, seq: 1 },
            prev: ChainHash::default(),
            time: cx.now.wall,
            op: None,
            step: None,
            body: Body::Open { pool: self.own },
        };
        // What could not be written, or is lost with the lead, is still to be done.
        if self.write(entry, Vec::new()).is_ok() {
            (self.unopened, self.confirmed) = (false, true);
        }
    }

    /// Opens the group, if it was to be opened from here and that could not be done.
    pub(crate) fn open_if_due(&mut self, cx: &mut Cx<'_>) {
        let empty = self.state.position.seq == 0 && self.shadow.is_none();
        let could = empty && self.idle() && !self.follows() && self.passing.is_none();
        // The partner's word counts for more than that of before.
        let elsewhere = self.peer.as_ref().is_some_and(|peer| peer.position.seq > 0);
        if could && self.opening && !elsewhere {
            self.open(cx);
        } else if could && self.unopened {
            self.reconcile(cx);
        }
    }

    /// What this copy is.
    pub(crate) fn role(&self) -> Role {
        if self.fence.is_some() {
            return Role::Fenced;
        }
        match self.state.serving() {
            Some((pool, _)) if pool == self.own => Role::Active,
            _ => Role::Backup,
        }
    }

    /// Who serves, in which epoch, as far as this copy knows.
    pub(crate) fn serving(&self) -> Option<(PoolId, Epoch)> {
        match self.fence {
            Some(fence) if fence.epoch > self.state.epoch() => Some((fence.pool, fence.epoch)),
            _ => self.state.serving(),
        }
    }

    /// Whether proposals are accepted now.
    pub(crate) fn can_commit(&self, now: Now) -> bool {
        self.stopped.is_none()
            && self.confirmed
            && self.procedure.is_none()
            && self.passing.is_none()
            && self.role() == Role::Active
            && self.leads_now(now)
    }

    /// Group time now: the leader's clock counts only where the group is active.
    pub(crate) fn time(&self, now: Now) -> Millis {
        if self.role() == Role::Active { self.state.time.max(now.wall) } else { self.state.time }
    }

    pub(crate) fn leads(&self) -> bool {
        self.consensus.leads()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// Whether nothing is in flight.
    pub(crate) fn idle(&self) -> bool {
        self.flight.is_empty()
    }

    /// The group holds nothing but its opening, so nothing is lost if it is replaced.
    pub(crate) fn virgin(&self) -> bool {
        self.state.position.seq <= 1 && self.state.len() == 0 && self.flight.is_empty()
    }

    /// Stops the group: an invariant does not hold.
    pub(crate) fn stop(&mut self, cx: &mut Cx<'_>, reason: &str) {
        if self.stopped.is_some() {
            return;
        }
        self.stopped = Some(reason.into());
        cx.alarm(Alarm::GroupStopped { group: self.group, reason: reason.into() });
        let refused = Done::Refused(Refusal::Stopped(reason.into()));
        for flight in &mut self.flight {
            for (ticket, _) in flight.waiters.drain(..) {
                cx.done(ticket, self.group, refused.clone());
            }
        }
        let procedure = self.procedure.take().into_iter().flat_map(|procedure| procedure.tickets);
        let tickets: Vec<Ticket> = procedure.chain(self.end_survival()).collect();
        tickets.into_iter().for_each(|ticket| cx.done(ticket, self.group, refused.clone()));
        self.tell_role(cx);
    }

    /// Puts the head back on the applied state where nothing is in flight and no shadow is being built.
    pub(crate) fn rehead(&mut self) {
        if self.flight.is_empty() {
            self.head = Head { position: self.state.position, chain: self.state.chain, time: self.state.time };
        }
    }

    /// Stops serving at once, though the fence is not committed yet.
    pub(crate) fn set_fence(&mut self, fence: Fence) {
        if !self.consensus.is_alone() {
            self.unsure_fence.get_or_insert(self.fence);
        }
        self.fence = Some(fence);
        self.confirmed = false;
    }

    /// Proposes an item; `false` if consensus cannot take it now.
    pub(crate) fn append(&mut self, item: Item, waiters: Vec<(Ticket, Wait)>) -> bool {
        self.offer(item, waiters).is_ok()
    }

    /// Proposes an item; who waited for it comes back if consensus cannot take it now.
    fn offer(&mut self, item: Item, waiters: Vec<(Ticket, Wait)>) -> Result<(), Vec<(Ticket, Wait)>> {
        assert!(self.gathered.is_none(), "what was gathered goes first");
        let payload = codec::encode_item(&item);
        let Some(index) = self.consensus.propose(&payload) else {
            return Err(waiters);
        };
        self.flight_bytes += u64::try_from(payload.len()).unwrap_or(0);
        self.flight.push_back(Flight { index, item, payload, waiters });
        Ok(())
    }

    /// Writes an entry of this copy's own at the head; who waited for it comes back if consensus cannot take it now.
    pub(crate) fn write(&mut self, entry: Entry, waiters: Vec<(Ticket, Wait)>) -> Result<(), Vec<(Ticket, Wait)>> {
        let stored = codec::Stored::new(entry);
        let head = Head { position: stored.entry.position, chain: stored.chain, time: stored.entry.time };
        self.offer(Item::Entry(stored), waiters)?;
        self.head = head;
        self.appended = true;
        Ok(())
    }

    /// Tells the shell, and the partner, if role, epoch or confirmation changed.
    pub(crate) fn tell_role(&mut self, cx: &mut Cx<'_>) {
        let now = (
            self.role(),
            self.serving().map(|(_, epoch)| epoch).unwrap_or_default(),
            self.confirmed,
            self.is_stopped(),
            self.follows(),
            self.leader(cx.now),
        );
        if self.told == Some(now) {
            return;
        }
        self.told = Some(now);
        if !self.replaying {
            cx.out.push_back(HostOutput::RoleChanged { group: self.group });
        }
        // What the partner hears comes from whoever leads.
        if !self.follows() {
            cx.hello.insert(self.group);
        }
    }

    /// Takes what consensus has to store and applies what it has committed. `batch` is the number that the next log batch
    /// will have. Returns whether anything happened.
    pub(crate) fn drain(&mut self, cx: &mut Cx<'_>, batch: u64, records: &mut Vec<LogRecord>) -> bool {
        let mut any = false;
        if !self.marks.is_empty() {
            records.append(&mut self.marks);
            self.restoring.iter_mut().for_each(|restoring| restoring.mark = Some(batch));
        }
        while let Some(drained) = self.consensus.drain() {
            any = true;
            let before = records.len();
            records.extend(drained.items.into_iter().map(|item| checkpoint::item_record(self.group, item)));
            // Behind the items: what it says to be committed is there, if the batch is torn.
            records.extend(drained.hard.map(|hard| self.hard_record(hard)));
            let bare = records.len() == before;
            if let Some(restoring) = self.restoring.as_mut().filter(|restoring| bare || restoring.drain == 0) {
                // It is as good as synced when the checkpoint is, which is written after the log.
                restoring.drain = drained.number;
            } else if !bare {
                self.unsynced.push_back((batch, drained.number));
            } else if let Some(last) = self.unsynced.back_mut() {
                last.1 = drained.number;
            } else {
                self.consensus.persisted(drained.number);
            }
            for item in drained.committed {
                let index = item.index;
                self.committed(cx, item);
                self.consensus.applied(index);
            }
        }
        any
    }

    /// Everything up to this batch is synced.
    pub(crate) fn synced(&mut self, batch: u64) {
        self.synced = self.synced.max(batch);
        if self.restoring.is_some() {
            return;
        }
        let mut number = None;
        while let Some((waiting, drained)) = self.unsynced.front().copied() {
            if waiting > batch {
                break;
            }
            number = Some(drained);
            self.unsynced.pop_front();
        }
        if let Some(number) = number {
            self.consensus.persisted(number);
        }
    }

    /// Does everything that can be done now: store, apply, decide, ship.
    pub(crate) fn work(&mut self, cx: &mut Cx<'_>, batch: u64, records: &mut Vec<LogRecord>) {
        let before = self.told;
        self.close_gathered(cx);
        while self.drain(cx, batch, records) {
            if self.flight.is_empty() {
                self.settled(cx);
            }
        }
        if self.note_leader(cx) {
            while self.drain(cx, batch, records) {}
        }
        self.tell_role(cx);
        if self.told != before || self.pulled_enough() {
            self.reconcile(cx);
            while self.drain(cx, batch, records) {}
        }
        self.acknowledge(cx);
        self.pump(cx);
        if self.restoring.is_some() {
            self.advance_restoring(cx);
            while self.drain(cx, batch, records) {}
        }
        self.answer_survival(cx);
        if planted!(cx.cfg, AckBeforeMajority) && self.unsynced.is_empty() {
            self.answer_flights(cx);
        }
        self.speak(cx);
    }

    /// A planted fault: what is in flight is answered as if it were committed.
    fn answer_flights(&mut self, cx: &mut Cx<'_>) {
        for flight in &mut self.flight {
            let Item::Entry(stored) = &flight.item else { continue };
            for (ticket, _) in flight.waiters.drain(..) {
                cx.done(ticket, self.group, Done::Committed(stored.entry.position));
            }
        }
    }

    /// Nothing is in flight any more.
    fn settled(&mut self, cx: &mut Cx<'_>) {
        if self.procedure.is_some() {
            self.advance_procedure(cx);
        }
        if self.fence.is_some() {
            self.reconcile(cx);
        }
    }

    /// An administrator, or the absence of a partner, stands in for the partner's word.
    pub(crate) fn assert_active(&mut self, cx: &mut Cx<'_>) {
        self.asserted = true;
        if self.unopened {
            let nobody = self.peer.as_ref().is_none_or(|peer| peer.position.seq == 0) && self.state.position.seq == 0;
            // Whoever leads, or will, opens it.
            self.opening |= self.follows() || nobody;
            if !self.follows() && nobody {
                self.open(cx);
                self.tell_role(cx);
            }
            return;
        }
        // A partner that is known to have more is heard before anybody's word.
        let newer = self.heard > self.state.epoch() || self.is_told_of_newer();
        let behind = (cx.link.is_some() && self.sink.pulling.is_some()) || newer;
        if self.role() == Role::Active && self.stopped.is_none() && !self.confirmed && !behind {
            self.confirmed = true;
            self.sink.pulling = None;
            self.tell_role(cx);
        }
    }

    /// The pair is broken, or another partner takes its place: nothing is known of what the partner has.
    pub(crate) fn unpaired(&mut self) {
        self.source = Source::default();
        self.sink = Sink::default();
        self.peer = None;
        self.told_of = None;
    }

    /// So many entries of the stored tails wait for a decision. The tails' files say so; what is kept here only bridges the
    /// time until they are read after a start.
    pub(crate) fn tail_open(&mut self, entries: u64) {
        self.changed |= self.tail != entries;
        self.tail = entries;
    }

    /// Lets kept entries go that nobody needs, and alarms when one goes that the partner does not have.
    pub(crate) fn trim(&mut self, cx: &mut Cx<'_>) {
        let limits = &cfg_limits(cx);
        let done = match cx.partner {
            Some(_) => self.partner_has(),
            None => self.state.position.seq,
        };
        let seeded = self.source.seed.as_ref().map_or(u64::MAX, |seed| seed.start.seq);
        self.retained.trim(done.min(seeded), limits.0, limits.1);
        let lost = self.retained.cap(limits.2, limits.3, done);
        if lost && cx.partner.is_some() && !self.follows() {
            self.source.overrun();
            if !self.reseed_told {
                self.reseed_told = true;
                cx.alarm(Alarm::ReseedNeeded { group: self.group });
            }
        }
    }

    /// Sequence up to which the partner surely has everything, or does not need it from here.
    pub(crate) fn partner_has(&self) -> u64 {
        let here = self.state.position.seq;
        let acked = self.source.acked.unwrap_or(0).min(here);
        if let Some(fence) = self.fence {
            return if fence.tail_stored { here } else { fence.fork.saturating_sub(1).min(here) };
        }
        let handed = self.state.lineage.last().map_or(0, |item| item.first.saturating_sub(1));
        match self.role() {
            Role::Active => acked,
            Role::Backup | Role::Fenced if self.handed_over() && acked < handed => acked,
            Role::Backup | Role::Fenced => here,
        }
    }

    pub(crate) fn reseeded(&mut self) {
        self.reseed_told = false;
    }
}

fn cfg_limits(cx: &Cx<'_>) -> (usize, u64, usize, u64) {
    let limits = &cx.cfg.limits;
    (limits.history_entries, limits.history_bytes, limits.retain_entries, limits.retain_bytes)
}
