//! Real processes of a pool of two Front Ends and a witness: any one of the three may die, and the witness serves nobody.
#![allow(clippy::unwrap_used)]

use super::handset;
use super::people;
use super::processes;
use super::support;

use handset::Handset;
use pairline_node::command::{Command, Problem};
use people::{USERS, contact, contacts_at, phones_at};
use processes::Pool;
use std::time::Duration;
use support::wait_for;

/// The last of three.
const WITNESS: usize = 2;
/// How long a phone waits for one answer before it asks again.
const ONE_ANSWER: Duration = Duration::from_secs(2);

fn with_phones() -> (Pool, Vec<Handset>) {
    let pool = Pool::witnessed();
    let phones = phones_at(&pool, 2);
    (pool, phones)
}

/// A change of every user through a Front End; asked again while who leads is being chosen.
fn change(pool: &Pool, at: usize, number: u64) {
    for n in 0..USERS {
        wait_for("a change", || pool.ask(at, &contact(&format!("user{n}"), number)).ok());
    }
}

#[test]
fn a_killed_front_end_is_not_missed_and_catches_up_when_it_returns() {
    let (mut pool, mut phones) = with_phones();
    let view = pool.wait("healthy", 1);
    assert_eq!(view.pools[0].survives, "any one of fe1, fe2, witness may fail now");
    pool.kill(0);
    change(&pool, 1, 1);
    for phone in &mut phones {
        let again = || phone.register(pool.sip(1), ONE_ANSWER).filter(|status| *status == 200);
        assert_eq!(wait_for("a registration", again), 200);
    }
    let view = pool.wait("degraded", 1);
    let said = &view.pools[0].survives;
    assert_eq!(said, "no further server may fail: groups 0-31 and the management store have two of three votes");
    pool.launch(0);
    let view = pool.wait("healthy", 0);
    assert!(view.pools[0].servers.iter().all(|server| server.behind == 0 && server.copies == 33), "{view:?}");
    // Each of the two has everything: it is served when the other dies.
    pool.kill(1);
    change(&pool, 0, 2);
    for phone in &phones {
        assert_eq!(contacts_at(&pool, 0, &phone.user), 3, "{}", phone.user);
    }
}

#[test]
fn a_killed_witness_is_not_missed_and_votes_again_when_it_returns() {
    let (mut pool, phones) = with_phones();
    pool.kill(WITNESS);
    change(&pool, 0, 1);
    let view = pool.wait("degraded", 0);
    assert!(!view.pools[0].servers[WITNESS].up && view.pools[0].servers[WITNESS].witness);
    pool.launch(WITNESS);
    pool.wait("healthy", 1);
    pool.kill(0);
    change(&pool, 1, 2);
    for phone in &phones {
        assert_eq!(contacts_at(&pool, 1, &phone.user), 3, "{}", phone.user);
    }
}

#[test]
fn without_the_witness_and_one_front_end_changes_are_refused_with_the_reason() {
    let (mut pool, phones) = with_phones();
    pool.kill(WITNESS);
    pool.kill(0);
    let view = pool.wait("no-majority", 1);
    assert!(view.pools[0].next[0].starts_with("bring fe1 or witness back"), "{view:?}");
    let user = &phones[0].user;
    let refused: Problem = wait_for("a refusal", || pool.ask(1, &contact(user, 7)).err());
    assert!(!refused.detail.is_empty() && !refused.remedy.is_empty(), "{refused:?}");
    pool.launch(WITNESS);
    pool.wait("degraded", 1);
    wait_for("a change", || pool.ask(1, &contact(user, 8)).ok());
}

#[test]
fn a_witness_refuses_users_and_shows_the_pool() {
    let (pool, _phones) = with_phones();
    let problem = pool.ask(WITNESS, &Command::UserList { after: None, limit: 10 }).unwrap_err();
    assert_eq!(problem.kind, "witness");
    let told = pool.command(&["pool", "health", "east"]).wait_while(|| {});
    let text = String::from_utf8(told.stdout).unwrap();
    assert!(told.status.success(), "{text}");
    let row = text.lines().find(|line| line.starts_with("witness.east.pairline.test")).unwrap();
    assert!(row.contains("up; witness, without data") && row.contains("33/33 votes"), "{text}");
    assert!(text.contains("survives: any one of fe1, fe2, witness may fail now"), "{text}");
    let records = pool.command(&["preflight", "dns"]).wait_while(|| {});
    let records = String::from_utf8(records.stdout).unwrap();
    assert!(records.contains("fe2.east.pairline.test") && !records.contains("witness"), "{records}");
}

#[test]
fn a_pool_with_a_witness_is_restarted_server_by_server() {
    let (pool, phones) = with_phones();
    let output = pool.command(&["pool", "restart", "east"]).wait_while(|| {});
    assert!(output.status.success(), "{output:?}\n{}", pool.logs());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("witness.east.pairline.test (3 of 3): back"), "{said}");
    pool.wait("healthy", 0);
    for phone in &phones {
        assert_eq!(contacts_at(&pool, 1, &phone.user), 1, "{}", phone.user);
    }
}
