//! Capture: SIP messages as they enter and leave this server, for Homer, for files, and for tracing one user.
//!
//! Owns the tap on the node's thread, the thread that takes from it, what is made unreadable before anything is kept or sent, and
//! the three consumers: the mirror (HEP), the ring of capture files (pcap) and traces. Decides nothing about SIP: what is malformed
//! is captured as it came.

mod fields;
mod hep;
mod mirror;
mod pcap;
mod places;
mod redact;
mod ring;
mod start;
mod tap;
mod traces;
mod watched;
mod worker;

pub use places::Places;
pub use start::{Capture, CaptureParts, Consumers, Pending};
pub use tap::{Seen, Tap};
pub use traces::{TraceAnswer, TraceError, TraceOrder, Traced, Traces};
