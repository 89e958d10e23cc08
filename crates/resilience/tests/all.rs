//! Tests of `resilience` in one program, since a program for each would be linked one by one: the rules of procedures, preflight and heartbeats.
#![allow(clippy::unwrap_used)]

mod common;
mod divergence;
mod formats;
mod mode;
mod preflight;
mod runner;
