//! Tests of `node` in one program, since a program for each would be linked one by one: the node as a value: requests, commands and frames in, answers out, with a clock that the test turns.
#![allow(clippy::unwrap_used)]

mod allocations;
#[path = "../../sip/tests/suite/anomaly_cases.rs"]
mod anomaly_cases;
mod common;
mod cost;
mod divergence;
mod health;
mod hostile;
mod overload;
mod pool;
mod pool_leaving;
mod pool_moves;
mod pool_onward;
mod pool_overload;
mod pool_pair;
mod pool_pair_sip;
mod pool_survivor;
mod pool_witness;
mod registrar;
mod sip;
