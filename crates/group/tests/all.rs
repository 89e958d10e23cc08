//! Tests of `group` in one program, since a program for each would be linked one by one: replication: real hosts, driven by inputs, with disks and links that lose and delay.
#![allow(clippy::unwrap_used)]

mod chaos;
#[path = "common/chaos.rs"]
mod chaos_rig;
mod commit;
mod common;
mod crash_sweep;
mod failover;
mod gathered;
mod golden;
mod model;
mod pairing;
mod pairs;
mod pairs_chaos;
mod planted;
mod pool;
mod pool_chaos;
mod pool_even;
mod pool_leader;
mod pool_moves;
mod pool_moves_chaos;
#[path = "common/pool.rs"]
mod pool_rig;
mod pool_survivor;
mod pool_survivor_chaos;
mod pool_witness;
mod pool_witness_chaos;
mod recover;
mod ship;
