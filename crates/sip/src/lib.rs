//! SIP without I/O: messages as spans over the received bytes, span edits, replies, stream
//! framing, the RFC 3261/6026 transaction machines, digest authentication and RFC 3263 target
//! choice.
//!
//! Bytes, time and randomness come in as arguments; bytes and decisions go out. This crate owns
//! no socket, no clock, no thread and no service logic, and knows nothing of users or pools.
#![forbid(unsafe_code)]

pub mod auth;
pub mod edit;
pub mod error;
pub mod flow;
pub mod framing;
pub mod glance;
pub mod hashed;
pub mod header;
pub mod kind;
mod lines;
pub mod message;
pub mod method;
pub mod name_addr;
pub mod params;
mod parse;
pub mod reply;
pub mod request;
mod scan;
pub mod status;
pub mod stun;
pub mod target;
pub mod transaction;
pub mod uri;
pub mod values;
pub mod via;
mod write;

pub use edit::Edit;
pub use error::{ParseError, ParseErrorKind};
pub use flow::{Flow, Transport};
pub use framing::{Frame, FramingError, StreamFramer};
pub use header::Name;
pub use message::{Contacts, Message};
pub use method::Method;
pub use name_addr::NameAddr;
pub use params::{Param, Params};
pub use reply::Reply;
pub use request::RequestBuilder;
pub use target::{Answers, Locator, Question, Step, Target};
pub use transaction::{ClientTx, Gone, Layer, Output, Received, ServerTx, Timers};
pub use uri::{Aor, Host, Scheme, Uri, UriError};
pub use via::Via;

/// Milliseconds, of whatever clock the caller feeds in; monotonic unless a function says wall time.
pub type Millis = u64;
