//! Tests of `server` in one program, since a program for each would be linked one by one: real sockets, and real processes of the server.
#![allow(clippy::unwrap_used)]

mod capture;
mod commands;
mod digest;
mod dns_answers;
mod drill;
mod fence;
#[path = "support/handset.rs"]
mod handset;
mod keys;
mod levels;
mod links;
mod names;
mod overload;
mod pair;
#[path = "support/people.rs"]
mod people;
mod pool;
mod pool_join;
mod pool_moves;
mod pool_survivor;
mod pool_witness;
#[path = "support/processes.rs"]
mod processes;
mod push;
mod renewal;
mod secure;
mod sixth;
mod storage;
mod support;
mod transports;
mod websocket;
