//! The `pairline` server as a library: the shell around the pure node, and what an operator touches.
//!
//! Owns sockets, TLS, DNS, threads, links, the admin API and the command line. Has no rules of protocol or failover.

pub mod api;
pub mod capture;
pub mod cli;
pub mod client;
pub mod dns;
pub mod drill;
pub mod join;
pub mod link;
pub mod logging;
pub mod net;
pub mod preflight;
pub mod secrets;
pub mod shell;
pub mod tls;
pub mod up;
