//! What a node is started with.
//!
//! Owns the type; the shell fills it from files, the simulator from a seed.

use crate::executor::Order;
use pairline_group::ServerId;
use pairline_services::push::PushPolicy;
use pairline_services::settings::Secret;
use pairline_sip::auth::NonceKeys;
use pairline_sip::uri::Aor;
use pairline_topology::Topology;

/// Start values of one node.
#[derive(Clone)]
pub struct NodeConfig {
    /// The topology as the server's files say; a newer one in the management store's copy wins.
    pub topology: Topology,
    /// Which server of it this is.
    pub server: ServerId,
    /// Start number of this process: rises at each start, kept by the shell.
    pub boot: u64,
    /// Seed of all randomness.
    pub seed: [u8; 32],
    /// Deployment-wide secrets.
    pub secrets: Secrets,
    /// What only the server's own text says of SIP.
    pub sip: SipConfig,
    /// Order of ready tasks.
    pub order: Order,
    /// Replication limits.
    pub limits: pairline_group::Limits,
    /// Version of this build, for heartbeats and preflight.
    pub version: String,
    /// Keep applied entries for `Node::take_watched` (the simulator's checkers).
    pub watch: bool,
    /// A planted bug (tests of the simulator's checkers).
    #[cfg(feature = "planted")]
    pub planted: Option<pairline_group::planted::Planted>,
}

/// SIP settings of one server's own text; the same in each, or its users see a difference.
#[derive(Clone, Debug, Default)]
pub struct SipConfig {
    /// Waking of sleeping clients.
    pub push: PushPolicy,
    /// Who may watch the registrations of others.
    pub watchers: Vec<Aor>,
}

/// Secrets of the deployment, equal on all its servers.
#[derive(Clone)]
pub struct Secrets {
    /// Seals stored credentials and marks routes.
    pub sealing_key: Secret,
    /// Keys of digest nonces.
    pub nonce_keys: NonceKeys,
}

/// Whether a fault is planted in a node of this configuration; `false` at compile time in a normal build.
macro_rules! planted {
    ($config:expr, $what:ident) => {{
        #[cfg(feature = "planted")]
        {
            $config.planted == Some(pairline_group::planted::Planted::$what)
        }
        #[cfg(not(feature = "planted"))]
        {
            let _ = &$config;
            false
        }
    }};
}
pub(crate) use planted;
