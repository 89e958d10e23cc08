//! `pairline drill`: a whole disaster on real processes, with proofs.
//!
//! Owns simulated users, traffic, the course and the table. Uses SIP and the admin API only, as any client would.

pub mod agent;
pub mod arena;
pub mod ask;
pub mod board;
pub mod calls;
pub mod cold;
pub mod cut;
pub mod draft;
pub mod front_ends;
pub mod kills;
pub mod ledger;
pub mod maintenance;
pub mod phones;
pub mod play;
pub mod proofs;
pub mod proxy;
pub mod report;
pub mod returning;
pub mod rounds;
pub mod stages;
pub mod stop;
pub mod swarm;
pub mod traffic;
pub mod watch;
pub mod wire;

pub use play::run;

use crate::client::{AccessError, CallError};
use crate::up::children::SpawnError;
use crate::up::create::CreateError;

/// Why a drill could not be played to its end.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// Addresses are not free.
    #[error("the drill's addresses are not free; nothing was touched:\n  {}", .0.join("\n  "))]
    Taken(Vec<String>),
    /// The deployment could not be created.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// A server could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// A server did not come up.
    #[error("{server} did not come up; its last lines:\n{log}")]
    NotReady {
        /// Which.
        server: String,
        /// End of the log.
        log: String,
    },
    /// The admin API cannot be asked.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The admin API refused or did not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A stage did not reach its end in time.
    #[error("stage `{stage}`: {what} not reached within {seconds} s ({seen})")]
    Deadline {
        /// Which stage.
        stage: &'static str,
        /// What was waited for.
        what: &'static str,
        /// How long.
        seconds: u64,
        /// What was seen last.
        seen: String,
    },
    /// The line between the servers could not be made.
    #[error("the line between the servers: {0}")]
    Line(std::io::Error),
    /// A server's configuration, just written, cannot be read back.
    #[error("{path}: {why}")]
    Configuration {
        /// Which file.
        path: std::path::PathBuf,
        /// First finding.
        why: String,
    },
    /// Signals cannot be listened to.
    #[error("signals: {0}")]
    Signals(std::io::Error),
    /// Somebody ended the drill.
    #[error("ended by {0}")]
    Interrupted(&'static str),
    /// A server answered something that the drill does not understand.
    #[error("unexpected: {0}")]
    Unexpected(String),
}
