//! Contact lists of users `user0`, `user1` …, as tests of pools change and read them.
//!
//! Owns the commands. Through which server, and what must be there, is the tests' to say.
#![allow(dead_code)]

use super::pool::Pool;
use pairline_node::command::{Command, Reply};

/// The n-th user gets a contact, once for each number.
pub fn contact(n: usize, number: usize) -> Command {
    let op = Some((format!("test-{n}"), u64::try_from(number).unwrap()));
    let contact = format!("sip:friend{number}@pairline.test");
    Command::ContactPut { user: format!("user{n}"), contact, name: String::new(), groups: vec![], op }
}

/// How many contacts the n-th user has, as a server says that serves them in full.
pub fn contacts(pool: &mut Pool, at: usize, n: usize) -> usize {
    match pool.must(at, Command::ContactList { user: format!("user{n}") }) {
        Reply::Contacts { contacts, read_only: false } => contacts.len(),
        other => panic!("{other:?}"),
    }
}
