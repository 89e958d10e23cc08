//! The client of the admin API: what the command line, `up` and the drill use, and nothing else.
//!
//! Owns endpoints, the trust in the deployment's authority, the choice of server and what is said when none answers.
//! Does not own what commands mean.

mod access;
mod call;
mod connection;
mod traces;

pub use access::{Access, AccessError, Endpoint, endpoints_of, read_topology};
pub use call::{CallError, Prefer, Session, order};
pub use connection::{Connection, ConnectionError};
pub use traces::{Timed, TraceClient, wall_us};
