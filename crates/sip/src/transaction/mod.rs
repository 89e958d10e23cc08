//! The transaction layer of RFC 3261 §17 with the corrections of RFC 6026, without I/O: messages
//! and time go in, messages to send and news for the transaction user come out.
//!
//! The four machines are pure tables (`invite_server`, `server`, `invite_client`, `client`);
//! [`Layer`] owns the transactions, their keys, timers and retained responses. It does not decide
//! what to answer, where to forward, or what a dialog is.

mod brief;
pub mod client;
mod clients;
pub mod effect;
pub mod invite_client;
pub mod invite_server;
mod kept;
mod key;
mod layer;
pub mod server;
mod servers;
mod slab;
pub mod timers;

pub use brief::{Brief, BriefTx};
pub use layer::{BYTES_EACH, ClientTx, Gone, Layer, Output, Received, ServerTx};
pub(crate) use servers::way_back;
pub use timers::{Timer, Timers};
