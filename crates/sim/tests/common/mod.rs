//! A quiet virtual world for scripted procedures: two sites, users, and operators' commands with their answers.
//!
//! Owns the helpers only; what must hold stands in the tests.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use pairline_group::io::Role;
use pairline_group::{GroupId, PoolId};
use pairline_node::command::{Command, Problem, Reply};
use pairline_node::view::ProcedureView;
use pairline_sim::options::Options;
use pairline_sim::run;
use pairline_sim::world::{Due, Pending, World};

pub const EAST: usize = 0;
pub const WEST: usize = 1;

pub type Answer = Result<Reply, Problem>;

/// Two sites in step, with users and no faults.
pub fn world() -> World {
    world_with(|_| {})
}

/// The same with another topology.
pub fn world_with(change: impl FnOnce(&mut pairline_topology::Topology)) -> World {
    let mut world = World::new(1, Options::quiet());
    // One group after the other, so that a procedure can be met in the middle.
    world.topology.policies.procedure.parallel_groups = 1;
    change(&mut world.topology);
    run::set_up(&mut world);
    world.after(1, Due::Check);
    let until = world.now + 1_000;
    world.run_until(until);
    world
}

pub fn pool_of(world: &World, site: usize) -> PoolId {
    world.servers[site].pool
}

/// Routing groups of a site's pool.
pub fn groups_of(world: &World, site: usize) -> Vec<GroupId> {
    world.topology.groups_of(world.servers[site].pool)
}

/// Groups of a list that can commit at a site.
pub fn active(world: &World, site: usize, groups: &[GroupId]) -> usize {
    let node = world.servers[site].node.as_ref();
    node.map_or(0, |node| node.inspect(|core| groups.iter().filter(|g| core.host.can_commit(**g)).count()))
}

pub fn role(world: &World, site: usize, group: GroupId) -> Role {
    world.servers[site].node.as_ref().unwrap().inspect(|core| core.host.role(group)).unwrap()
}

/// Lets time pass until something holds; panics after that many virtual milliseconds.
pub fn until(world: &mut World, limit: u64, mut holds: impl FnMut(&mut World) -> bool) {
    let end = world.now + limit;
    while !holds(world) {
        assert!(world.now < end, "did not come to pass within {limit} ms; violations {:?}", world.history.violations);
        let next = world.now + 1;
        world.run_until(next);
        assert!(world.fatal.is_none(), "{:?}", world.fatal);
    }
}

/// Gives a command without waiting for its answer; the place of the answer to come.
pub fn give(world: &mut World, site: usize, command: Command) -> usize {
    let place = world.answers.len() + world.pending.len();
    world.command(site, command.clone(), Pending::Script(command));
    place
}

/// Gives a command and waits for the answer.
pub fn ask_within(world: &mut World, site: usize, command: Command, limit: u64) -> Answer {
    let before = world.answers.len();
    world.command(site, command.clone(), Pending::Script(command.clone()));
    until(world, limit, |world| world.answers[before..].iter().any(|(asked, _)| *asked == command));
    world.answers[before..].iter().find(|(asked, _)| *asked == command).unwrap().1.clone()
}

/// The same, with the time that the longest procedure may take.
pub fn ask(world: &mut World, site: usize, command: Command) -> Answer {
    ask_within(world, site, command, 130_000)
}

/// The answers that have come to a command.
pub fn answers_to(world: &World, command: &Command) -> Vec<Answer> {
    world.answers.iter().filter(|(asked, _)| asked == command).map(|(_, answer)| answer.clone()).collect()
}

pub fn procedures(world: &mut World, site: usize) -> Vec<ProcedureView> {
    match ask(world, site, Command::ProcedureList) {
        Ok(Reply::Procedures { procedures }) => procedures,
        other => panic!("{other:?}"),
    }
}

pub fn view(answer: Answer) -> ProcedureView {
    match answer {
        Ok(Reply::Procedure(view)) => view,
        other => panic!("{other:?}"),
    }
}

pub fn failover(pool: &str) -> Command {
    Command::PoolFailover {
        pool: pool.to_owned(),
        disaster: false,
        dry_run: false,
        force: false,
        confirm: None,
        reason: Some("test".to_owned()),
    }
}

pub fn disaster(pool: &str, force: bool) -> Command {
    Command::PoolFailover {
        pool: pool.to_owned(),
        disaster: true,
        dry_run: false,
        force,
        confirm: Some("yes".to_owned()),
        reason: Some("test".to_owned()),
    }
}

pub fn failback(pool: &str) -> Command {
    Command::PoolFailback {
        pool: pool.to_owned(),
        disaster: false,
        dry_run: false,
        force: false,
        confirm: None,
        reason: Some("test".to_owned()),
    }
}

/// The home pool takes its groups back, its partner being lost.
pub fn reclaim(pool: &str) -> Command {
    Command::PoolFailback {
        pool: pool.to_owned(),
        disaster: true,
        dry_run: false,
        force: false,
        confirm: Some("yes".to_owned()),
        reason: Some("test".to_owned()),
    }
}

/// Cuts the sites off from each other, or heals the cut.
pub fn cut(world: &mut World, cut: bool) {
    let now = world.now;
    for from in 0..2 {
        world.net.set_cut(from, cut, now);
        if let Some(link) = world.net.connection.and_then(|connection| connection.ends[from]) {
            world.after(pairline_sim::net::GIVE_UP_MS, Due::GiveUp(from, link));
        }
    }
    world.after(1, Due::Arrival);
    world.after(1, Due::Reconnect);
}

/// Waits until both sites hear each other and every group is confirmed somewhere.
pub fn in_step(world: &mut World) {
    until(world, 60_000, |world| {
        world.net.connection.is_some_and(|connection| connection.ends.iter().all(Option::is_some))
    });
    let more = world.now + 8_000;
    world.run_until(more);
}

pub fn clean(world: &World) {
    assert!(world.history.violations.is_empty(), "{:?}", world.history.violations);
    assert!(world.fatal.is_none(), "{:?}", world.fatal);
}

/// A change of a user's contact list.
pub fn contact(user: &str) -> Command {
    Command::ContactPut {
        user: user.to_owned(),
        contact: "sip:somebody@pairline.test".to_owned(),
        name: "somebody".to_owned(),
        groups: Vec::new(),
        op: None,
    }
}
