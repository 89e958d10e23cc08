//! Fuzz targets under libFuzzer, one binary: `FUZZ_TARGET` names the target, libFuzzer's own arguments follow.
//!
//! Owns the choice of target. What an input does is in `targets`, what it may cost in `guard`. Run by `cargo xtask fuzz`.
#![no_main]

#[path = "../../crates/sip/tests/suite/compare.rs"]
mod compare;
#[path = "../../crates/server/src/capture/fields.rs"]
mod fields;
mod guard;
mod node;
#[path = "../../crates/sip/tests/suite/reference.rs"]
mod reference;
#[path = "../../crates/server/src/capture/redact.rs"]
mod redact;
mod targets;
#[path = "../../crates/server/src/capture/watched.rs"]
mod watched;
mod websocket;

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use targets::Target;

static CHOSEN: OnceLock<&'static Target> = OnceLock::new();

fn choose() {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let found = targets::ALL.iter().find(|target| target.name == name);
    let known: Vec<&str> = targets::ALL.iter().map(|target| target.name).collect();
    let target = found.unwrap_or_else(|| panic!("FUZZ_TARGET is {name:?}; known: {}", known.join(" ")));
    assert!(CHOSEN.set(target).is_ok(), "chosen once");
}

fuzz_target!(init: choose(), |data: &[u8]| {
    let target = CHOSEN.get().expect("libFuzzer initialises first");
    guard::run(target, data);
});
