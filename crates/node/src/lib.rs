//! One deterministic node: the pure rooms composed into a value that eats inputs and emits outputs.
//!
//! Owns the composition, the executor for services and the translation between commands and the rooms. Has no rules of
//! replication, failover or SIP of its own; no I/O, no clock, no tokio.

pub mod command;
pub mod event;
pub mod io;
pub mod view;
