//! After healing everything must work: registrations and messages through every server, and calls that stood before.
//!
//! Owns what is tried then and how it has to end.

use super::phones::{self, Inside, What};
use super::world::World;
use super::{calls, clients};

/// How long a probe may take.
const PATIENCE_MS: u64 = 10_000;

/// What was tried, and how it ended.
#[derive(Clone, Debug)]
pub struct Probe {
    what: String,
    status: Option<u16>,
}

/// A request of a probe has ended.
pub fn ended(world: &mut World, probe: usize, status: u16) {
    if let Some(probe) = world.clients.probes.get_mut(probe) {
        probe.status.get_or_insert(status);
    }
}

fn begin(world: &mut World, what: String) -> usize {
    world.clients.probes.push(Probe { what, status: None });
    world.clients.probes.len() - 1
}

fn wait(world: &mut World) {
    let end = world.now + PATIENCE_MS;
    while world.now < end && world.clients.probes.iter().any(|probe| probe.status.is_none()) {
        let next = world.now + 50;
        world.run_until(next);
        if !world.history.violations.is_empty() {
            return;
        }
    }
    if let Some(failed) = world.clients.probes.iter().find(|probe| probe.status != Some(200)) {
        let what = match failed.status {
            Some(status) => format!("after healing {} got {status}", failed.what),
            None => format!("after healing {} got no answer", failed.what),
        };
        world.history.violate(1, what);
    }
    world.clients.probes.clear();
}

/// Tries everything.
pub fn run(world: &mut World) {
    let phones = world.phones.all.len();
    for number in 0..phones {
        phones::register(world, number);
    }
    let until = world.now + 4_000;
    world.run_until(until);
    for at in world.members() {
        for number in 0..phones {
            register_and_read(world, at, number);
        }
    }
    wait(world);
    if !world.history.violations.is_empty() {
        return;
    }
    for at in world.members() {
        for number in 0..phones {
            let message = world.phones.fresh();
            let to = (number + at + 1) % phones;
            if to == number {
                continue;
            }
            let probe = begin(world, format!("a message of u{number} to u{to} through server {at}"));
            phones::ask(world, number, What::Message(message, to), Some(at), Some(probe));
        }
    }
    wait(world);
    through_calls(world);
}

fn register_and_read(world: &mut World, at: usize, number: usize) {
    if !world.phones.all[number].stream {
        let now = world.now;
        let which = world.phones.all[number].bindings.sent(now, 60_000);
        let probe = begin(world, format!("a registration of u{number} through server {at}"));
        phones::ask(world, number, What::Register(which, 60), Some(at), Some(probe));
        // One after the other, as a phone does it.
        let until = world.now + 200;
        world.run_until(until);
    }
    clients::read(world, at, number);
}

fn through_calls(world: &mut World) {
    for inside in [Inside::Again, Inside::Bye] {
        for number in calls::standing(world) {
            let Some(call) = world.phones.calls.get(&number) else { continue };
            let by_caller = number % 2 == 0;
            let (id, caller, callee, other) =
                (call.id.clone(), call.caller, call.callee, world.neighbour(call.server(by_caller)));
            let phone = if by_caller { caller } else { callee };
            let probe = begin(world, format!("{inside:?} of {id} by u{phone} through server {other}"));
            phones::ask(world, phone, What::Inside(number, by_caller, inside), Some(other), Some(probe));
        }
        wait(world);
        if !world.history.violations.is_empty() {
            return;
        }
    }
}
