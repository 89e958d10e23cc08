//! Clients of the virtual world: users who change their contact lists, and retry what they got no answer for.
//!
//! Owns the workload. Every change adds one contact with a name of its own, under an operation id of its own.

use crate::history::{Answer, Change};
use crate::world::{Due, Pending, World};
use pairline_node::command::{Command, Problem};

/// Users per pool.
pub const USERS: usize = 5;

/// Whether the client cannot know if its change was made.
pub fn unknown(problem: &Problem) -> bool {
    matches!(
        problem.kind.as_str(),
        "outcome-unknown" | "disk-full" | "timeout" | "pool-unreachable" | "partner-answer-unreadable"
    )
}

/// Adds the users of the run, half of them at each pool.
pub fn set_up(world: &mut World) {
    for site in 0..2 {
        for number in 0..USERS {
            let user = format!("u{site}{number}");
            world.users.push(user.clone());
            let pool = world.topology.pool.get(site).map(|pool| pool.name.clone());
            let command =
                Command::UserAdd { user, password: crate::phones::PASSWORD.to_owned(), display_name: None, pool };
            world.command(0, command, Pending::SetUp);
        }
    }
}

/// One client makes a change, or repeats one that was not answered, at a site that runs.
pub fn change(world: &mut World) {
    let site = usize::try_from(world.rng.below(2)).unwrap_or(0);
    if world.servers[site].runs() {
        let open: Vec<usize> = if world.rng.chance(25) { unanswered(world) } else { Vec::new() };
        match world.rng.pick(&open).copied() {
            Some(number) => {
                world.met("a change was repeated");
                send(world, site, number);
            }
            None if world.rng.chance(if world.healing { 60 } else { 12 }) => repeat(world, site),
            None if !world.healing => new_change(world, site),
            None => {}
        }
    }
    let pause = world.options.change_every_ms;
    let wait = world.rng.between(pause / 2 + 1, pause * 2);
    world.after(wait, Due::Client);
}

fn unanswered(world: &World) -> Vec<usize> {
    let busy: Vec<usize> = world
        .pending
        .values()
        .filter_map(|(_, what)| match what {
            Pending::Change(number) => Some(*number),
            Pending::Repeat | Pending::Operator(_) | Pending::Script(_) | Pending::Fence(_) | Pending::SetUp => None,
        })
        .collect();
    let recent = world.history.changes.len().saturating_sub(60);
    let open = world.history.changes.iter().enumerate().skip(recent);
    open.filter(|(number, change)| change.answer == Answer::Unknown && !busy.contains(number))
        .map(|(number, _)| number)
        .collect()
}

fn new_change(world: &mut World, site: usize) {
    let users = world.users.clone();
    let Some(user) = world.rng.pick(&users).cloned() else { return };
    let counter = world.fresh_op();
    let contact = format!("sip:c{counter}@pairline.test");
    let op = (format!("session-{user}"), counter);
    world.history.changes.push(Change { user, contact, op, answer: Answer::Unknown });
    let number = world.history.changes.len() - 1;
    send(world, site, number);
}

/// A client does not know that its change was acknowledged, and sends it again.
fn repeat(world: &mut World, site: usize) {
    let recent = world.history.changes.len().saturating_sub(200);
    let done: Vec<usize> = (recent..world.history.changes.len())
        .filter(|number| world.history.changes[*number].answer == Answer::Acknowledged)
        .collect();
    let Some(number) = world.rng.pick(&done).copied() else { return };
    world.met("an acknowledged change was repeated");
    let command = put(world, number);
    world.command(site, command, Pending::Repeat);
}

fn send(world: &mut World, site: usize, number: usize) {
    let command = put(world, number);
    world.command(site, command, Pending::Change(number));
}

fn put(world: &World, number: usize) -> Command {
    let change = world.history.changes[number].clone();
    Command::ContactPut {
        user: change.user,
        contact: change.contact,
        name: format!("contact {number}"),
        groups: vec!["all".to_owned()],
        op: Some(change.op),
    }
}

/// The record that a change puts.
pub fn record(change: &Change) -> Option<pairline_group::Key> {
    let user = format!("sip:{}@pairline.test", change.user);
    let user = pairline_sip::uri::Uri::parse(user.as_bytes()).ok()?.aor()?;
    Some(pairline_services::records::contact_key(user.as_str(), &change.contact))
}

/// The operation id under which a change stands in the log.
pub fn operation(change: &Change) -> Option<pairline_group::OpId> {
    let user = format!("sip:{}@pairline.test", change.user);
    let user = pairline_sip::uri::Uri::parse(user.as_bytes()).ok()?.aor()?;
    Some(pairline_services::contacts::op_id(&user, &change.op.0, change.op.1))
}
