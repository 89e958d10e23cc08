//! Requests and samples over HTTPS, beside the SIP traffic: changes through a server's API at a fixed rate, and what its metrics
//! say meanwhile.
//!
//! Owns a small blocking client, the pace of requests, and the reading of Prometheus' text format. Knows no server's API: paths,
//! bodies and names of metrics are the caller's.

pub mod args;
pub mod connection;
pub mod metrics;
pub mod pattern;
pub mod reading;
pub mod requests;
pub mod samples;
pub mod way;
