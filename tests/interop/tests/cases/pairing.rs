//! Pairing and unpairing pools that run and have data, and the place of the management store.

use super::kept::{contacts, equal, put, steady};
use pairline_interop::deployment::Deployment;
use pairline_interop::wait::until;
use serde_json::Value;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);

/// The way that the management store is shipped, as `(from, to)`, if its standby has a copy of it.
fn standby(pairline: &Deployment) -> Option<(String, String)> {
    let status = pairline.status();
    let rows = status["shipping"].as_array()?;
    let row = rows.iter().find(|row| {
        row["module"] == "management-store"
            && row["export"] == "steady"
            && row["import"] == "normal"
            && row["seed"] == Value::Null
            && row["verified_groups"][1] == 1
    })?;
    Some((row["from"].as_str()?.to_owned(), row["to"].as_str()?.to_owned()))
}

fn way(from: &str, to: &str) -> Option<(String, String)> {
    Some((from.to_owned(), to.to_owned()))
}

/// Which pool serves the management store, by what both servers say.
fn store_at(pairline: &Deployment, pool: &str) {
    for server in ["east", "west"] {
        until(SOON, "both servers know where the management store is", || {
            let here = pairline.pool_at(server, pool)["management_store"] == true;
            let other = if pool == "east" { "west" } else { "east" };
            (here && pairline.pool_at(server, other)["management_store"] == false).then_some(())
        });
    }
}

/// Unpairs, changes on both sides, pairs again: everything is there, both copies are equal, the management store has its standby.
fn round(pairline: &Deployment, mark: &str, asked: &str) {
    let before = [contacts(pairline, "alice"), contacts(pairline, "carol")];
    pairline.must(&["pool", "unpair", "east", "west"]);
    until(SOON, "both servers know that they are unpaired", || {
        let alone =
            |server| ["east", "west"].iter().all(|pool| pairline.pool_at(server, pool)["partner"] == Value::Null);
        (alone("east") && alone("west")).then_some(())
    });
    assert_eq!(pairline.status()["shipping"], Value::Array(Vec::new()), "unpaired, and something is shipped");
    let failover = pairline.cli(&["pool", "failover", "east"]);
    assert!(!failover.success && failover.err.contains("pool pair"), "{}", failover.all());
    for (user, server) in [("alice", "east"), ("carol", "west")] {
        let server = Deployment::admin(server);
        let contact = format!("sip:{mark}@pairline.test");
        pairline.must(&["--server", server, "contact", "put", user, &contact, "--name", mark]);
    }
    pairline.must(&["--server", Deployment::admin(asked), "pool", "pair", "east", "west"]);
    equal(pairline);
    for (user, before) in ["alice", "carol"].iter().zip(before) {
        let now = contacts(pairline, user);
        assert!(
            now.contains(&format!("sip:{mark}@pairline.test")),
            "what {user} was given while unpaired is lost: {now}"
        );
        for address in before.lines().skip(2).filter_map(|line| line.split_whitespace().next()) {
            assert!(now.contains(address), "{address} of {user} is lost: {now}");
        }
    }
}

/// Pools with data are unpaired and paired again.
pub fn again(pairline: &mut Deployment) {
    steady(pairline);
    put(pairline, "alice", "pairedbefore");
    put(pairline, "carol", "pairedbefore");
    round(pairline, "whileunpaired", "east");
    until(SOON, "the management store's standby is at west", || {
        (standby(pairline) == way("east", "west")).then_some(())
    });
    store_at(pairline, "east");
}

/// The management store moves to its standby and back; users can be added at either place.
pub fn management(pairline: &mut Deployment) {
    steady(pairline);
    let dry = pairline.must(&["management", "failover", "--dry-run"]).out;
    assert!(dry.contains("hand cms over from east to west") && dry.contains("allowed"), "{dry}");
    store_at(pairline, "east");
    for (from, to) in [("east", "west"), ("west", "east")] {
        pairline.must(&["management", "failover", "--reason", "interop"]);
        store_at(pairline, to);
        let wanted = way(to, from);
        until(SOON, "the management store has its standby where it was", || {
            (standby(pairline) == wanted).then_some(())
        });
        let user = format!("addedat{to}");
        for pool in ["east", "west"] {
            let user = format!("{user}{pool}");
            pairline.must(&["user", "add", &user, "--pool", pool, "--password", "chosen-by-nobody"]);
            // The answering server shows users from its own copy, which follows by some milliseconds.
            let shown = until(SOON, "an added user is shown", || {
                let said = pairline.cli(&["user", "show", &user]);
                said.success.then_some(said.out)
            });
            assert!(shown.contains(pool), "{shown}");
        }
        for pool in ["east", "west"] {
            assert_eq!(pairline.pool_at(pool, "east")["serving_own"], 32, "users' groups stay where they are");
        }
        equal(pairline);
    }
}

/// The same as [`again`] with the management store at west, asked at the server that does not serve it.
pub fn again_from_afar(pairline: &mut Deployment) {
    steady(pairline);
    pairline.must(&["management", "failover", "--reason", "interop"]);
    store_at(pairline, "west");
    round(pairline, "fromafar", "east");
    pairline.must(&["management", "failover", "--reason", "interop"]);
    store_at(pairline, "east");
    equal(pairline);
}

/// A verification without a partner says so at once. The pools stay unpaired.
pub fn verify_alone(pairline: &mut Deployment) {
    steady(pairline);
    pairline.must(&["pool", "unpair", "east", "west"]);
    let asked = Instant::now();
    let said = pairline.cli(&["pool", "verify", "east"]);
    let took = asked.elapsed();
    assert!(!said.success, "{}", said.all());
    assert!(said.all().contains("not paired") || said.all().contains("no partner"), "{}", said.all());
    assert!(took < Duration::from_secs(5), "answered after {} s", took.as_secs());
}
