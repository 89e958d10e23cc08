//! Tests of `services` in one program, since a program for each would be linked one by one: the rules of registrar, proxy and data, without a node.
#![allow(clippy::unwrap_used)]

mod access;
mod admission;
mod algorithms;
mod attacks;
mod auth;
mod certificates;
mod commands;
mod common;
mod dialog;
mod emergency;
mod failover;
mod forking;
mod golden;
mod gruu;
mod identity;
mod methods;
mod outbound;
mod proxy;
mod push;
mod regevent;
mod registrar;
mod sips;
mod sweep;
mod telling_apart;
mod torture;
