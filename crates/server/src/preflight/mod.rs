//! `pairline preflight`: what must be true before it is needed, with the exact records and names to create.
//!
//! Owns the lists and the looks from outside. Whether a pool could be failed over is the node's to say.

mod cert;
mod clients;
mod dns;
mod dns_query;

pub use cert::cert;
pub use clients::clients;
pub use dns::{Record, dns, records};

use crate::client::{Access, CallError, Prefer, Session};
use pairline_node::command::{Command, Reply};
use pairline_topology::Topology;

/// Why a preflight could not look.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// The deployment does not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The published topology cannot be read by this build.
    #[error("the published topology cannot be read: {0}")]
    Topology(String),
}

/// The published topology, from whichever server answers.
pub(crate) async fn published(access: &Access) -> Result<Topology, PreflightError> {
    let mut session = Session::new(access.clone());
    match session.call(&Command::TopologyShow, &Prefer::Any).await? {
        Reply::Text { text } => pairline_topology::parse("the published topology", &text).map_err(|findings| {
            PreflightError::Topology(findings.first().map(ToString::to_string).unwrap_or_default())
        }),
        other => Err(PreflightError::Topology(format!("the server answered {other:?}"))),
    }
}
