//! The process's runtime: threads, queues and clocks around one node.
//!
//! Owns the threads (node, store, checkpoint, capture, one runtime for SIP streams, one for links, HTTP and DNS, one per UDP listener), the order of
//! inputs, and the start and end of a server. Decides nothing that the node could decide.

pub mod boot;
pub mod certificates;
pub mod checkpoint;
pub mod clock;
pub mod counters;
pub mod events;
pub mod facts;
pub mod fence;
pub mod handle;
pub mod inbox;
pub mod lanes;
pub mod liveness;
pub mod node_like;
pub mod node_loop;
pub mod options;
mod pace;
pub mod ports;
pub mod push;
mod receives;
mod rhythm;
pub mod running;
pub mod server;
mod sieve;
pub mod signals;
pub mod sockets;
pub mod storage;
pub mod upkeep;
pub mod waits;

pub use events::{EventHub, Events, Next};
pub use handle::NodeHandle;
pub use node_like::{MakeNode, NodeLike};
pub use options::{OnFatal, ServerOptions, StartError};
pub use running::{RunningServer, Stopper};
pub use server::Server;
pub use signals::Ended;
