//! What a host is told at its creation: who it is and its limits.
//!
//! Owns defaults and bounds. Decides nothing.

use crate::ids::{Millis, PoolId, ServerId};
use crate::placement::FrontEnd;

/// Which other pools there are to ask how copies stand, after a start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Others {
    /// None: this pool's own disk decides.
    #[default]
    None,
    /// Another pool follows the management store; the routing groups are this pool's alone.
    Followers,
    /// The pool is paired: its partner has copies of everything.
    Partner,
}

/// Who the host is.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// The pool that the server belongs to (not 0).
    pub pool: PoolId,
    /// The server.
    pub server: ServerId,
    /// All servers of the pool that hold data, in any order: each group has copies on three of them ([`crate::placement`]).
    pub servers: Vec<FrontEnd>,
    /// The server of the pool that votes in all groups and holds no data; not among `servers`. It may be this one. Meant for pools of two.
    pub witness: Option<ServerId>,
    /// Rises each time that what is on the server's disk is not to be believed any more: 1 unless somebody says so. That a disk was emptied
    /// the others find out, and have its server come in under a higher one.
    pub incarnation: u64,
    /// Whether the pool may be there already: in one of several servers this one creates groups that its disk does not have only once all
    /// others have said that they have nothing of them either. Otherwise it knows that the pool is new.
    pub joins: bool,
    /// Seed of the consensus timeouts.
    pub seed: u64,
    /// Routing groups of this pool (1 to 4096; fixed when the pool is created).
    pub groups: u16,
    /// Whether this server creates the `cms` group, active here, on its first start.
    pub cms_home: bool,
    /// Whom to ask after a start.
    pub others: Others,
    /// Bounds.
    pub limits: Limits,
    /// The fault that a test planted.
    #[cfg(feature = "planted")]
    pub planted: Option<crate::planted::Planted>,
}

impl HostConfig {
    /// A configuration with the default number of groups (32) and default limits.
    pub fn new(pool: PoolId, server: ServerId) -> HostConfig {
        HostConfig {
            pool,
            server,
            servers: vec![server.into()],
            witness: None,
            incarnation: 1,
            joins: false,
            seed: 0,
            groups: 32,
            cms_home: false,
            others: Others::None,
            limits: Limits::default(),
            #[cfg(feature = "planted")]
            planted: None,
        }
    }

    /// Whether this server may be one of those with which its pool began.
    pub(crate) fn founds(&self) -> bool {
        self.servers.len() < 2 || (!self.joins && self.incarnation <= 1)
    }

    /// Whether this server is the pool's witness.
    pub(crate) fn is_witness(&self) -> bool {
        self.witness == Some(self.server)
    }

    /// Whether this is a server of the pool that holds data.
    pub(crate) fn has(&self, server: ServerId) -> bool {
        self.servers.iter().any(|front| front.server == server)
    }

    /// The other servers of the pool, the witness too.
    pub(crate) fn other_servers(&self) -> impl Iterator<Item = ServerId> {
        self.servers.iter().map(|front| front.server).chain(self.witness).filter(|server| *server != self.server)
    }

    /// Whether a group that this disk does not have may be opened without asking anybody: nobody else can have it.
    pub(crate) fn knows_alone(&self, group: crate::ids::GroupId) -> bool {
        match self.others {
            Others::None => true,
            Others::Followers => !group.is_cms(),
            Others::Partner => false,
        }
    }

    /// Whether this fault is planted.
    #[cfg(feature = "planted")]
    pub(crate) fn planted(&self, what: crate::planted::Planted) -> bool {
        self.planted == Some(what)
    }
}

/// Whether a fault is planted; `false` at compile time in a normal build.
macro_rules! planted {
    ($cfg:expr, $what:ident) => {{
        #[cfg(feature = "planted")]
        {
            $cfg.planted($crate::planted::Planted::$what)
        }
        #[cfg(not(feature = "planted"))]
        {
            let _ = &$cfg;
            false
        }
    }};
}
pub(crate) use planted;

/// Bounds of the host. All are per group unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries proposed and not yet applied.
    pub inflight_entries: usize,
    /// Bytes proposed and not yet applied.
    pub inflight_bytes: u64,
    /// Entries kept for a partner that has not acknowledged them.
    pub retain_entries: usize,
    /// Bytes kept for a partner that has not acknowledged them.
    pub retain_bytes: u64,
    /// Entries kept after the partner acknowledged them, so that an older disk of it can catch up by entries.
    pub history_entries: usize,
    /// Bytes kept after the partner acknowledged them.
    pub history_bytes: u64,
    /// Sessions in the de-duplication table; the one unused for longest goes first.
    pub dedup_sessions: usize,
    /// Counters remembered per session.
    pub dedup_window: usize,
    /// Items of the log that stay in memory for servers of the pool that are behind.
    pub replica_items: u64,
    /// Group time after which an unused session is forgotten.
    pub dedup_expiry: Millis,
    /// Bytes of entries that may be shipped and unacknowledged.
    pub ship_window: u64,
    /// Bytes of one shipped frame of entries, about.
    pub ship_batch: usize,
    /// Bytes of records in one chunk of a seed, about.
    pub seed_chunk: usize,
    /// Chunks that may be sent and not yet stored.
    pub seed_window: u64,
    /// Seeds that run at once (per host).
    pub seeds: usize,
    /// Keys in one `Expire` entry.
    pub expire_batch: usize,
    /// Changed records after which a checkpoint takes no further group; those behind have their turn in the next (per host).
    pub checkpoint_records: usize,
    /// Writes in one proposal.
    pub writes: usize,
    /// Bytes of one proposal.
    pub proposal_bytes: usize,
    /// Interval of the questions about the partner's positions (per host).
    pub ping: Millis,
    /// Silence after which the link no longer counts as live (per host).
    pub link_dead: Millis,
    /// Most that a promotion adds to the expiry of soft records.
    pub soft_extension: Millis,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            inflight_entries: 4096,
            inflight_bytes: 16 << 20,
            retain_entries: 200_000,
            retain_bytes: 32 << 20,
            history_entries: 512,
            history_bytes: 256 << 10,
            dedup_sessions: 16_384,
            dedup_window: 32,
            replica_items: 4096,
            dedup_expiry: 7 * 24 * 3600 * 1000,
            ship_window: 4 << 20,
            ship_batch: 256 << 10,
            seed_chunk: 256 << 10,
            seed_window: 8,
            seeds: 4,
            expire_batch: 512,
            checkpoint_records: 256,
            writes: 4096,
            proposal_bytes: 4 << 20,
            ping: 100,
            link_dead: 3000,
            soft_extension: 600_000,
        }
    }
}
