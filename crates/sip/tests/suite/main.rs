//! Tests of the SIP crate through its public API, one binary.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

mod anomalies;
mod anomaly_cases;
mod bytes_of;
mod compare;
mod differential;
mod digest;
mod edits;
mod framing;
mod hostile;
mod layer_brief;
mod layer_client;
mod layer_server;
mod locating;
mod machines;
mod messages;
mod mutation;
mod reference;
mod replies;
mod rfc3261;
mod rfc5118;
mod stun;
mod torture;
mod torture_data;
mod uris;
