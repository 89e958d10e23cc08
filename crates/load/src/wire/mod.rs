//! Writing and reading SIP messages, as little as a load generator needs.
//!
//! Owns requests, replies and the scan of what comes back. Knows no state.

pub mod build;
pub mod scan;
