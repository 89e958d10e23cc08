//! Three server processes of one Enterprise pool: any of them serves, and any of them may die, freeze, and come back.
#![allow(clippy::unwrap_used)]

use super::handset;
use super::people;
use super::processes;
use super::support;

use handset::Handset;
use pairline_node::command::{Command, Reply};
use people::{USERS, contact, contacts_at, with_phones};
use processes::Pool;
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::time::Duration;
use support::{PATIENCE, wait_for};

/// How long a phone waits for one answer before it asks again, or another server.
const ONE_ANSWER: Duration = Duration::from_secs(2);

fn users_at(pool: &Pool, n: usize) -> BTreeSet<String> {
    match pool.ask(n, &Command::UserList { after: None, limit: 1000 }) {
        Ok(Reply::Users { users, .. }) => users.into_iter().map(|user| user.user).collect(),
        other => panic!("server {n}: {other:?}"),
    }
}

/// Every user is served again through `survivors`: registered, changed, reached by message. How soon is measured elsewhere
/// (`cargo xtask bench pool`).
fn served_again(pool: &Pool, phones: &mut [Handset], survivors: [usize; 2]) {
    for n in 0..phones.len() {
        let at = survivors[n % 2];
        let registered = wait_for("a registration", || {
            // What another server was asked is not asked again of this one: a new registration.
            phones[n].register(pool.sip(at), ONE_ANSWER).filter(|status| *status == 200)
        });
        assert_eq!(registered, 200);
        let user = phones[n].user.clone();
        wait_for("a change", || pool.ask(survivors[(n + 1) % 2], &contact(&user, 1)).ok());
    }
    for n in 0..phones.len() {
        let (to, text) = (phones[(n + 1) % USERS].user.clone(), format!("again-{n}"));
        let sent = phones[n].message(pool.sip(survivors[n % 2]), &to, &text, PATIENCE);
        assert_eq!(sent, Some(200), "a message from {n} to {to}\n{}", pool.logs());
        phones[(n + 1) % USERS].next(&text);
    }
}

#[test]
fn users_are_the_same_at_every_front_end_and_found_from_each() {
    let (pool, mut phones) = with_phones();
    let health = pool.health(1).unwrap();
    assert_eq!(health.pools[0].survives, "any one of fe1, fe2, fe3 may fail now");
    assert_eq!(health.pools[0].servers.iter().map(|s| s.leads).sum::<u32>(), 33);
    let all: BTreeSet<String> = (0..USERS).map(|n| format!("sip:user{n}@pairline.test")).collect();
    for server in 0..3 {
        wait_for("all users at each server", || (users_at(&pool, server) == all).then_some(()));
        for n in 0..USERS {
            let user = format!("user{n}");
            assert_eq!(contacts_at(&pool, server, &user), 1, "{user} at server {server}");
            let list = Command::RegistrationList { user: Some(user.clone()), after: None, limit: 10 };
            match pool.ask(server, &list) {
                Ok(Reply::Registrations { registrations, .. }) => {
                    assert_eq!(registrations.len(), 1, "{user} at server {server}: {registrations:?}");
                    assert_ne!(registrations[0].reach, "stranded", "{user} at server {server}");
                }
                other => panic!("{user} at server {server}: {other:?}"),
            }
        }
    }
    for n in 0..USERS {
        let (to, text) = (format!("user{}", (n + 5) % USERS), format!("hello-{n}"));
        let sent = phones[n].message(pool.sip(n % 3), &to, &text, PATIENCE);
        assert_eq!(sent, Some(200), "from {n} to {to}\n{}", pool.logs());
        phones[(n + 5) % USERS].next(&text);
    }
}

/// One server is lost in some way, the pool goes on, and the server returns.
fn lost_and_found(lose: fn(&mut Pool, usize), find: fn(&mut Pool, usize), lost: usize) {
    let (mut pool, mut phones) = with_phones();
    let survivors = [(lost + 1) % 3, (lost + 2) % 3];
    lose(&mut pool, lost);
    served_again(&pool, &mut phones, survivors);
    let view = pool.wait("degraded", survivors[0]);
    assert!(view.pools[0].survives.starts_with("no further server may fail"), "{view:?}");
    assert!(!view.pools[0].servers[lost].up);
    find(&mut pool, lost);
    let view = pool.wait("healthy", lost);
    assert!(view.pools[0].servers.iter().all(|server| server.behind == 0 && server.copies == 33), "{view:?}");
    for phone in &phones {
        assert_eq!(contacts_at(&pool, lost, &phone.user), 2, "{} at the one that returned", phone.user);
    }
}

#[test]
fn a_killed_front_end_is_not_missed_and_catches_up_when_it_returns() {
    lost_and_found(Pool::kill, Pool::launch, 0);
}

#[test]
fn a_frozen_front_end_is_not_missed_and_catches_up_when_it_thaws() {
    lost_and_found(|pool, n| pool.signal(n, Signal::STOP), |pool, n| pool.signal(n, Signal::CONT), 2);
}

#[test]
fn a_call_ends_through_another_front_end_when_its_own_has_died() {
    let (mut pool, mut phones) = with_phones();
    let call = phones[0].call(pool.sip(1), "user4");
    phones[4].next("INVITE ");
    pool.kill(1);
    let ended = phones[0].bye(pool.sip(2), &call, PATIENCE);
    assert_eq!(ended, Some(200), "{}", pool.logs());
    phones[4].next("BYE ");
}

#[test]
fn without_a_majority_nothing_is_changed_and_it_is_said_what_is_missing() {
    let (mut pool, phones) = with_phones();
    pool.kill(1);
    pool.kill(2);
    let view = pool.wait("no-majority", 0);
    assert!(view.pools[0].next[0].starts_with("bring fe2 or fe3 back"), "{view:?}");
    let user = &phones[0].user;
    wait_for("a refusal", || pool.ask(0, &contact(user, 7)).err());
    pool.launch(1);
    pool.wait("degraded", 0);
    wait_for("a change", || pool.ask(0, &contact(user, 8)).ok());
}

#[test]
fn a_pool_is_restarted_server_by_server_while_its_users_go_on() {
    let (pool, mut phones) = with_phones();
    let call = phones[0].call(pool.sip(1), "user4");
    phones[4].next("INVITE ");
    let before: Vec<u64> = (0..3).map(|n| starts(&pool, n).unwrap()).collect();
    let restart = pool.command(&["pool", "restart", "east"]);
    let mut changes = 1;
    let output = restart.wait_while(|| {
        // Lists have their limit, and a fast machine makes many changes in the seconds that this takes.
        if changes >= 200 * USERS as u64 {
            return std::thread::yield_now();
        }
        // Through whichever server answers: one of them is away now and then.
        let user = phones[changes as usize % USERS].user.clone();
        wait_for("a change", || (0..3).find_map(|n| pool.ask(n, &contact(&user, 100 + changes)).ok()));
        changes += 1;
    });
    assert!(output.status.success(), "{output:?}\n{}", pool.logs());
    let said = String::from_utf8(output.stdout).unwrap();
    for (n, number) in before.iter().enumerate() {
        assert!(said.contains(&format!("fe{}.east.pairline.test ({} of 3): back", n + 1, n + 1)), "{said}");
        assert_eq!(starts(&pool, n), Some(number + 1), "each was started anew once");
    }
    let kept: usize = phones.iter().map(|phone| contacts_at(&pool, 0, &phone.user)).sum();
    assert_eq!(kept, USERS + changes as usize - 1, "every change that was acknowledged is there");
    assert_eq!(phones[0].bye(pool.sip(2), &call, PATIENCE), Some(200), "{}", pool.logs());
    phones[4].next("BYE ");
}

fn starts(pool: &Pool, n: usize) -> Option<u64> {
    match pool.ask(n, &Command::ServerStatus) {
        Ok(Reply::Status(status)) => Some(status.start),
        _ => None,
    }
}
