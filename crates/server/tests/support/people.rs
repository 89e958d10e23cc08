//! Users of a pool of real processes, with their telephones and contact lists.
//!
//! Owns what the tests of pools do with them. The processes are `processes`', the telephone is `handset`'s.
#![allow(dead_code)]

use crate::handset::Handset;
use crate::processes::Pool;
use crate::support::{PATIENCE, wait_for};
use pairline_node::command::{Command, Reply};
use std::time::Duration;

const ONE_ANSWER: Duration = Duration::from_secs(2);

/// Everybody's.
pub const PASSWORD: &str = "correct horse";
/// Users in a test: enough for groups with each leader.
pub const USERS: usize = 12;

pub fn add(pool: &Pool, at: usize, user: &str) {
    let command = Command::UserAdd {
        user: user.to_owned(),
        password: PASSWORD.to_owned(),
        display_name: None,
        pool: Some("east".to_owned()),
    };
    if let Err(problem) = pool.ask(at, &command) {
        panic!("{user} through server {at}: {problem:?}\n{}", pool.logs());
    }
}

pub fn contact(user: &str, number: u64) -> Command {
    Command::ContactPut {
        user: user.to_owned(),
        contact: format!("sip:friend{number}@pairline.test"),
        name: format!("Friend {number}"),
        groups: vec![],
        op: Some((format!("test-{user}"), number)),
    }
}

pub fn contacts_at(pool: &Pool, n: usize, user: &str) -> usize {
    match pool.ask(n, &Command::ContactList { user: user.to_owned() }) {
        Ok(Reply::Contacts { contacts, read_only: false }) => contacts.len(),
        other => panic!("contacts of {user} at server {n}: {other:?}\n{}", pool.logs()),
    }
}

/// One change of each user, through servers in turn; asked again where one is just gone.
pub fn change(pool: &Pool, through: &[usize], number: u64) {
    for n in 0..USERS {
        let mut tries = through.iter().cycle().skip(n).copied();
        wait_for("a change", || pool.ask(tries.next().unwrap(), &contact(&format!("user{n}"), number)).ok());
    }
}

/// Every user is registered, reached by message and read whole through each of these servers.
pub fn all_served(pool: &Pool, phones: &mut [Handset], through: &[usize], contacts: usize) {
    for n in 0..USERS {
        let at = pool.sip(through[n % through.len()]);
        let status = wait_for("a registration", || phones[n].register(at, ONE_ANSWER).filter(|status| *status == 200));
        assert_eq!(status, 200);
    }
    for n in 0..USERS {
        let (to, text) = ((n + 1) % USERS, format!("hello-{contacts}-{n}"));
        let user = phones[to].user.clone();
        let sent = phones[n].message(pool.sip(through[n % through.len()]), &user, &text, PATIENCE);
        assert_eq!(sent, Some(200), "a message from {n} to {to}\n{}", pool.logs());
        phones[to].next(&text);
        for at in through {
            assert_eq!(contacts_at(pool, *at, &user), contacts, "{user} at server {at}");
        }
    }
}

/// A pool of three with users that are registered at its servers in turn; each has one contact.
pub fn with_phones() -> (Pool, Vec<Handset>) {
    let pool = Pool::start(3);
    let phones = phones_at(&pool, 3);
    (pool, phones)
}

/// Users of a pool with so many Front Ends, registered at these in turn; each has one contact.
pub fn phones_at(pool: &Pool, front_ends: usize) -> Vec<Handset> {
    let mut phones = Vec::new();
    for n in 0..USERS {
        let user = format!("user{n}");
        add(pool, n % front_ends, &user);
        let mut phone = Handset::new(&user, PASSWORD);
        let at = pool.sip((n + 1) % front_ends);
        assert_eq!(phone.register(at, PATIENCE), Some(200), "{user}\n{}", pool.logs());
        pool.ask((n + 2) % front_ends, &contact(&user, 0)).unwrap();
        phones.push(phone);
    }
    phones
}
