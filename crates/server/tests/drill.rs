//! The drill of Enterprise pools in short: six server processes, one Front End lost, then a whole site, and every proof holds.
#![allow(clippy::unwrap_used)]

use super::support;

use serde_json::Value;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use support::Folder;

/// How long another drill on this machine may keep the addresses.
const TAKEN: Duration = Duration::from_secs(120);

fn drill(folder: &Folder) -> Output {
    let arguments =
        "drill --enterprise --brief --no-baresip --json --users 40 --udp 0 --rate 20 --calls 4 --messages 4";
    Command::new(env!("CARGO_BIN_EXE_pairline"))
        .arg("--data")
        .arg(folder.path().join("data"))
        .args(arguments.split(' '))
        .output()
        .unwrap()
}

#[test]
fn enterprise_pools_survive_a_front_end_and_a_site() {
    let folder = Folder::new();
    let begun = Instant::now();
    let output = loop {
        let output = drill(&folder);
        let refused = String::from_utf8_lossy(&output.stderr).contains("addresses are not free");
        if !refused || begun.elapsed() > TAKEN {
            break output;
        }
        std::thread::sleep(Duration::from_secs(1));
    };
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    let report: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let proofs = report["proofs"].as_array().unwrap();
    let failed: Vec<&Value> = proofs.iter().filter(|proof| proof["holds"] != true).collect();
    assert!(failed.is_empty() && report["ended_early"].is_null(), "{failed:#?}\n{said}");
    for claim in [
        "without the dead Front End no acknowledged change is missing",
        "established calls between clients of others go on and accept their BYE",
        "the returned pool stays fenced",
        "failback without a failed call, before, during and after it",
        "both copies of all groups are equal by digest",
    ] {
        assert!(proofs.iter().any(|proof| proof["claim"] == claim), "{claim}: {said}");
    }
    assert!(output.status.success(), "the exit code is 0 exactly when all proofs hold");
}
