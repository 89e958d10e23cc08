//! Tests of `store` in one program, since a program for each would be linked one by one: what is written to disk and read again.
#![allow(clippy::unwrap_used)]

mod checkpoint;
mod common;
mod files;
mod golden;
mod log_crash;
mod log_faults;
mod store;
mod tails;
