//! A SIP load generator that measures any SIP server by the same means.
//!
//! Owns the traffic (registrations, messages, calls, and their mix with a journal of what was acknowledged), its pace (closed
//! and open loop), the figures (latency, statuses, the server's processor time per operation and memory), and the report. Uses
//! `sip` for digest answers only: it writes and reads messages with a small code of its own, so that a fault of the
//! server's parser is not repeated here. A second command sends requests over HTTPS and samples metrics (`https`). Knows nothing
//! of Pairline's pools, groups or API.

pub mod args;
pub mod control;
pub mod digest;
pub mod engine;
pub mod hist;
pub mod https;
pub mod journal;
pub mod pace;
pub mod port;
pub mod process;
pub mod report;
pub mod run;
pub mod users;
pub mod wire;
