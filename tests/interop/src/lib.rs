//! What the interop tests share: starting Pairline and the real programs, and waiting for what they do.
//!
//! Owns processes, folders and bounded waits. Depends on nothing of Pairline but its binary, its command line and its data
//! folder: what an operator has.

pub mod baresip;
pub mod browser;
pub mod deployment;
pub mod digest;
pub mod kamailio;
pub mod linphone;
pub mod names;
pub mod openssl;
pub mod phone;
pub mod program;
pub mod raw;
pub mod sipp;
pub mod sipvicious;
pub mod socat;
pub mod suite;
pub mod tmpfs;
pub mod wait;
pub mod web;
