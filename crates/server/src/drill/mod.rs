//! `pairline drill`: a whole disaster on real processes, with proofs.
//!
//! Owns simulated users, traffic, the course and the table. Uses SIP and the admin API only, as any client would.

pub mod agent;
pub mod arena;
pub mod board;
pub mod calls;
pub mod draft;
pub mod ledger;
pub mod phones;
pub mod play;
pub mod proofs;
pub mod report;
pub mod stages;
pub mod swarm;
pub mod traffic;
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
    #[error("{pool} did not come up; its last lines:\n{log}")]
    NotReady {
        /// Its pool.
        pool: &'static str,
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
    /// A server answered something that the drill does not understand.
    #[error("unexpected: {0}")]
    Unexpected(String),
}
