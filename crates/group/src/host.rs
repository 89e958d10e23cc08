//! All copies of groups on one server.
//!
//! Owns which groups there are, the pairing, the link to the partner, log batches and checkpoints over all groups. A pure
//! state machine: inputs in, outputs out; it reads no clock and draws no random number. What one copy does is in
//! `instance` and `ship`.

mod even;
mod input;
mod led;
mod link;
mod moves;
mod partner;
mod survivors;

use crate::config::{HostConfig, Others};
use crate::dedup::Seen;
use crate::entry::OpId;
use crate::ids::{Epoch, GroupId, LinkId, Millis, PoolId, Position, ServerId};
use crate::instance::checkpoint::{self, GroupRecoverError};
use crate::instance::{Cx, Instance, replicas};
use crate::io::{GroupStatus, HostOutput, LogBatch, Now, RecoveredGroup, ReplicaStatus, Role};
use crate::lineage::LineageItem;
use crate::record::{Key, Kind, Record};
use even::Even;
use led::Led;
use moves::Moves;
use partner::Partners;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

/// Interval of consensus ticks.
const CONSENSUS_TICK: Millis = 100;
/// Interval of the periodic work of each copy.
const CHORES: Millis = 50;

/// Why a host could not be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// One of its groups could not.
    #[error("group {group}: {source}")]
    Group {
        /// Which.
        group: GroupId,
        /// Why.
        #[source]
        source: GroupRecoverError,
    },
    /// The disk gave back one group twice.
    #[error("group {0} is there twice")]
    Twice(GroupId),
    /// Nothing was given back: a host without groups is a fresh one.
    #[error("no groups")]
    Nothing,
}

/// All copies of one server.
pub struct Host {
    cfg: HostConfig,
    now: Now,
    groups: BTreeMap<GroupId, Instance>,
    partner: Option<(PoolId, u16)>,
    links: BTreeMap<LinkId, (PoolId, ServerId)>,
    /// The links to other servers of this pool, the youngest to each.
    peers: BTreeMap<ServerId, LinkId>,
    /// The linked servers of the partner pool.
    partners: Partners,
    even: Even,
    moves: Moves,
    led: Led,
    out: VecDeque<HostOutput>,
    /// Copies with something to do before the next output.
    touched: BTreeSet<GroupId>,
    /// Those that may be gathering what was proposed; some of them more than once.
    gathering: Vec<GroupId>,
    /// Copies whose standing the partner has to be told.
    hello: BTreeSet<GroupId>,
    hello_number: u64,
    clock_told: bool,
    next_batch: u64,
    awaiting: VecDeque<(u64, Vec<GroupId>)>,
    ticked: Millis,
    chores: Millis,
    /// The copy that was last in the round of checkpoints that is under way.
    checkpointed: Option<GroupId>,
    recovered: bool,
}

/// Borrows the parts of a host that one of its copies may use beside itself.
macro_rules! cx {
    ($host:expr, $group:expr) => {
        $crate::instance::Cx {
            peers: &$host.peers,
            cfg: &$host.cfg,
            now: $host.now,
            partner: $crate::host::partner_for($host.partner, $group),
            link: $crate::host::partner_for($host.partner, $group).and($host.partners.link($group)),
            out: &mut $host.out,
            hello: &mut $host.hello,
        }
    };
}
use cx;

/// The pool with which a group's copies are exchanged: the partner; where pools are not paired, the management store alone
/// is followed by the other pool.
fn partner_for(partner: Option<(PoolId, u16)>, group: GroupId) -> Option<PoolId> {
    partner.filter(|(_, groups)| *groups > 0 || group.is_cms()).map(|(pool, _)| pool)
}

impl Host {
    /// A server with an empty disk: opens its pool's groups (and `cms` where it is at home), active here. Whether the
    /// deployment is new or the disk was replaced, only other pools know; what they may have is not opened before they, or
    /// an administrator, have spoken: it is taken over from them if they have it.
    pub fn new(cfg: HostConfig, now: Now) -> Host {
        let mut host = Host::empty(cfg, now);
        let own = host.cfg.pool;
        let mut ids: Vec<GroupId> = (0..host.cfg.groups).map(|index| GroupId { pool: own, index }).collect();
        if host.cfg.cms_home {
            ids.push(GroupId::CMS);
        }
        for id in ids {
            let sure = host.cfg.knows_alone(id);
            host.create(id, Some(sure));
        }
        host.want();
        host
    }

    /// A server after a restart, from what its disk gave back. The log after each checkpoint is replayed before this
    /// returns. Own active copies start unconfirmed if the pool is paired (it holds copies of another pool's groups).
    ///
    /// # Errors
    /// If a group's checkpoint or log contradicts itself; nothing is written then.
    pub fn recover(cfg: HostConfig, now: Now, groups: Vec<RecoveredGroup>) -> Result<Host, RecoverError> {
        if groups.is_empty() {
            return Err(RecoverError::Nothing);
        }
        let mut host = Host::empty(cfg, now);
        host.recovered = true;
        for from in groups {
            let group = from.group;
            let instance =
                Instance::recover(&cx!(host, group), from).map_err(|source| RecoverError::Group { group, source })?;
            host.moves.expected.insert(group, None);
            if host.groups.insert(group, instance).is_some() {
                return Err(RecoverError::Twice(group));
            }
        }
        host.doubt();
        let own = host.cfg.pool;
        let paired = host.is_paired();
        let mut missing: Vec<GroupId> = (0..host.cfg.groups).map(|index| GroupId { pool: own, index }).collect();
        missing.extend(host.cfg.cms_home.then_some(GroupId::CMS));
        missing.retain(|id| !host.groups.contains_key(id));
        let mut records = Vec::new();
        let mut writers = Vec::new();
        let confirm = !paired || crate::config::planted!(host.cfg, UnconfirmedServes);
        for (id, instance) in &mut host.groups {
            let mut cx = cx!(host, *id);
            instance.drain(&mut cx, host.next_batch, &mut records);
            let own = id.pool == host.cfg.pool || (id.is_cms() && host.cfg.cms_home);
            instance.recovered(&mut cx, confirm, own && confirm && host.cfg.knows_alone(*id));
            writers.push(*id);
        }
        host.send_batch(records, writers);
        // A group of a younger configuration, or one whose first record was lost with the crash that followed it.
        for id in missing {
            let sure = confirm && host.cfg.knows_alone(id);
            host.create(id, Some(sure));
        }
        host.want();
        Ok(host)
    }

    /// Whether another pool has copies of this one's groups, as far as is known.
    fn is_paired(&self) -> bool {
        let own = self.cfg.pool;
        self.cfg.others == Others::Partner || self.groups.keys().any(|id| !id.is_cms() && id.pool != own)
    }

    fn empty(cfg: HostConfig, now: Now) -> Host {
        let founds = cfg.founds();
        Host {
            cfg,
            now,
            groups: BTreeMap::new(),
            partner: None,
            links: BTreeMap::new(),
            peers: BTreeMap::new(),
            partners: Partners::default(),
            even: Even::default(),
            moves: Moves::of(founds),
            led: Led::default(),
            out: VecDeque::new(),
            touched: BTreeSet::new(),
            gathering: Vec::new(),
            hello: BTreeSet::new(),
            // Rises across restarts too, as long as the wall clock does.
            hello_number: now.wall.wrapping_mul(1024),
            clock_told: false,
            next_batch: 1,
            awaiting: VecDeque::new(),
            ticked: now.mono,
            chores: now.mono,
            checkpointed: None,
            recovered: false,
        }
    }

    /// Creates a copy that this server does not have: opened active here (at once, or when nobody else has it), or an empty
    /// backup.
    fn create(&mut self, id: GroupId, open: Option<bool>) {
        self.moves.expected.entry(id).or_insert(open);
        let first = || replicas::first_members(&self.cfg, id).contains(replicas::own(&self.cfg));
        if !self.groups.contains_key(&id) && self.moves.founds && first() {
            self.found(id);
        }
    }

    /// Begins a group that nobody has yet.
    fn found(&mut self, id: GroupId) {
        let open = self.moves.expected.get(&id).copied().flatten();
        let Ok(mut instance) = checkpoint::fresh(&self.cfg, id, self.now) else {
            return;
        };
        let mut cx = cx!(self, id);
        match open.filter(|_| !self.cfg.is_witness()) {
            Some(true) => instance.open_first(&mut cx),
            Some(false) => instance.unopened = true,
            None => {}
        }
        instance.tell_role(&mut cx);
        instance.yields(self.even.drained);
        self.groups.insert(id, instance);
        self.touched.insert(id);
    }

    /// The next output, if any. Everything that the inputs so far have caused goes into one log batch.
    pub fn poll(&mut self) -> Option<HostOutput> {
        if self.out.is_empty() {
            self.settle();
        }
        self.out.pop_front()
    }

    /// Lets every touched copy finish its work, then appends what they wrote as one batch.
    fn settle(&mut self) {
        let mut records = Vec::new();
        let mut writers = Vec::new();
        let any = !self.touched.is_empty();
        // Each writes what it gathered when it works, and whoever gathers was touched.
        self.gathering.clear();
        while let Some(id) = self.touched.pop_first() {
            let before = records.len();
            let batch = self.next_batch;
            let Some(instance) = self.groups.get_mut(&id) else {
                continue;
            };
            let mut cx = cx!(self, id);
            instance.work(&mut cx, batch, &mut records);
            if records.len() > before {
                writers.push(id);
            }
        }
        self.send_batch(records, writers);
        // Whether a seed is due only copies that were touched can have changed; the chores touch all. A request that changes nothing comes
        // by here several times, and is not to pay for a look at every group.
        if any {
            self.start_seeds();
        }
        self.tell_changes();
    }

    fn send_batch(&mut self, records: Vec<crate::io::LogRecord>, writers: Vec<GroupId>) {
        if records.is_empty() {
            return;
        }
        let batch = self.next_batch;
        self.next_batch += 1;
        self.awaiting.push_back((batch, writers));
        self.out.push_back(HostOutput::Append(LogBatch { batch, records }));
    }

    /// When [`crate::HostInput::Tick`] is due at the latest, on the monotonic clock.
    pub fn next_timeout(&self) -> Option<Millis> {
        Some(self.chores.saturating_add(CHORES))
    }

    /// A committed and applied record, if it is present at the group's present time.
    pub fn get(&self, group: GroupId, key: &Key) -> Option<&Record> {
        let instance = self.groups.get(&group)?;
        let time = instance.time(self.now);
        instance.state.raw(key).filter(|record| record.class.present_at(time))
    }

    /// Whether a group holds any record of a kind, expired or not.
    pub fn holds_kind(&self, group: GroupId, kind: Kind) -> bool {
        self.groups.get(&group).is_some_and(|instance| instance.state.kinds.contains_key(&kind))
    }

    /// Records of an owner that are present, ordered by key; of one kind, or of all.
    pub fn scan<'a>(
        &'a self,
        group: GroupId,
        owner: &str,
        kind: Option<Kind>,
    ) -> impl Iterator<Item = (&'a Key, &'a Record)> {
        let first = Key::new(owner, kind.unwrap_or_default(), b"");
        let instance = self.groups.get(&group);
        let time = instance.map_or(0, |instance| instance.time(self.now));
        let owner = first.owner.clone();
        instance
            .into_iter()
            .flat_map(move |instance| instance.state.starting_at(Bound::Included(first.clone())))
            .take_while(move |(key, _)| key.owner == owner && kind.is_none_or(|kind| key.kind == kind))
            .filter(move |(_, record)| record.class.present_at(time))
    }

    /// All present records of a group, ordered by key.
    pub fn scan_all(&self, group: GroupId) -> impl Iterator<Item = (&Key, &Record)> {
        let instance = self.groups.get(&group);
        let time = instance.map_or(0, |instance| instance.time(self.now));
        instance
            .into_iter()
            .flat_map(|instance| instance.state.iter())
            .filter(move |(_, record)| record.class.present_at(time))
    }

    /// Present records whose owner is not before `owner`, ordered by key.
    pub fn scan_from(&self, group: GroupId, owner: &str) -> impl Iterator<Item = (&Key, &Record)> {
        let first = Key::new(owner, Kind::default(), b"");
        let instance = self.groups.get(&group);
        let time = instance.map_or(0, |instance| instance.time(self.now));
        instance
            .into_iter()
            .flat_map(move |instance| instance.state.starting_at(Bound::Included(first.clone())))
            .filter(move |(_, record)| record.class.present_at(time))
    }

    /// Where an operation was applied, if the de-duplication window still knows.
    pub fn applied_op(&self, group: GroupId, op: &OpId) -> Option<Position> {
        match self.groups.get(&group)?.state.dedup.look(*op) {
            Seen::At(position) => Some(position),
            _ => None,
        }
    }

    /// Whether an operation was applied: `Some(None)` if its session has gone on so far that it can no longer be told.
    pub fn operation(&self, group: GroupId, op: &OpId) -> Option<Option<Position>> {
        match self.groups.get(&group)?.state.dedup.look(*op) {
            Seen::New => None,
            Seen::At(position) => Some(Some(position)),
            Seen::TooOld => Some(None),
        }
    }

    /// One group as this server sees it.
    pub fn group(&self, group: GroupId) -> Option<GroupStatus> {
        let instance = self.groups.get(&group)?;
        let (mut out, mut hello) = (VecDeque::new(), BTreeSet::new());
        let cx = Cx {
            peers: &self.peers,
            cfg: &self.cfg,
            now: self.now,
            partner: partner_for(self.partner, group),
            link: partner_for(self.partner, group).and(self.partners.link(group)).filter(|_| self.live_link()),
            out: &mut out,
            hello: &mut hello,
        };
        Some(instance.status(&cx))
    }

    /// All groups that have a copy here.
    pub fn groups(&self) -> Vec<GroupId> {
        self.groups.keys().copied().collect()
    }

    /// What this server's copy is.
    pub fn role(&self, group: GroupId) -> Option<Role> {
        self.groups.get(&group).map(Instance::shown_role)
    }

    /// Who serves the group, and in which epoch, as far as this copy knows.
    pub fn serving(&self, group: GroupId) -> Option<(PoolId, Epoch)> {
        self.groups.get(&group).and_then(Instance::shown_serving)
    }

    /// Whether proposals are accepted now: active, confirmed, no change of serving pool under way, and led by this server
    /// ([`Host::leads`]).
    pub fn can_commit(&self, group: GroupId) -> bool {
        self.groups.get(&group).is_some_and(|instance| instance.can_commit(self.now))
    }

    /// The server that leads the replicas of a group in this pool, as far as this copy knows: this server only while
    /// [`Host::leads`]. `None` if nobody is known to lead. Of a group that has no copy here, or none that counts, as its leader has told.
    pub fn leader(&self, group: GroupId) -> Option<ServerId> {
        match self.groups.get(&group) {
            Some(instance) if instance.is_replica() => instance.leader(self.now),
            _ => self.led.leader(group),
        }
    }

    /// Whether this server leads the group's replicas and nobody else can: a majority has heard it a moment ago by this server's clock,
    /// so that what is read here is the group's present state. As of the time last observed: a process that may have stood still says
    /// what time it is first ([`Host::observe`]).
    pub fn leads(&self, group: GroupId) -> bool {
        self.groups.get(&group).is_some_and(|instance| instance.leads_now(self.now))
    }

    /// How the group's replicas stand, as its leader knows; nothing on any other server.
    pub fn replicas(&self, group: GroupId) -> Vec<ReplicaStatus> {
        self.groups.get(&group).map(|instance| instance.replicas(self.now)).unwrap_or_default()
    }

    /// The group's present time in milliseconds.
    pub fn group_time(&self, group: GroupId) -> Millis {
        self.groups.get(&group).map_or(0, |instance| instance.time(self.now))
    }

    /// Who served the group from which entry on, oldest first.
    pub fn lineage(&self, group: GroupId) -> &[LineageItem] {
        self.groups.get(&group).map_or(&[], |instance| &instance.state.lineage)
    }

    /// Applied position of this copy.
    pub fn position(&self, group: GroupId) -> Option<Position> {
        self.groups.get(&group).map(|instance| instance.state.position)
    }

    /// Time is this much; nothing else happens. What is asked of the host is answered as of the latest time that it knows.
    pub fn observe(&mut self, now: Now) {
        self.now = Now { mono: self.now.mono.max(now.mono), wall: now.wall };
    }

    /// The pool at the other end: the partner, or the one with which the management store is followed.
    pub fn partner(&self) -> Option<PoolId> {
        self.partner.map(|(pool, _)| pool)
    }

    /// The server of the partner pool that leads the copies of a group there, as far as it has shown that; where only one is linked, that
    /// one.
    pub fn partner_leader(&self, group: GroupId) -> Option<ServerId> {
        partner_for(self.partner, group).and(self.partners.server(group))
    }

    /// Whether the partner, by any of its servers, was heard on a link a short while ago.
    pub fn live_link(&self) -> bool {
        self.partners.heard_since(self.now.mono.saturating_sub(self.cfg.limits.link_dead))
    }
}
