//! Operators of two pools of several servers: they ask any server of either pool, move groups while servers are lost, and look at the
//! status.
//!
//! Owns when and where they act. The commands are those of the family of single servers, in `crate::operators`.

use super::checks;
use crate::operators as common;
use crate::pool::clients::Pending;
use crate::pool::disks;
use crate::pool::faults::Mend;
use crate::pool::world::{Due, World};
use pairline_node::command::{Command, Problem, Reply};

/// One operator acts.
pub fn act(world: &mut World) {
    let pool = usize::try_from(world.rng.below(2)).unwrap_or(0);
    let lost = [0, 1].into_iter().find(|pool| is_lost(world, *pool));
    let at = match lost {
        Some(lost) if world.rng.chance(80) => any_of(world, 1 - lost),
        _ => any_of(world, pool),
    };
    let command = match world.healing {
        true => common::mending(&mut world.rng),
        false if world.rng.chance(20) => Command::PoolStatus,
        false => {
            let affected = lost.filter(|_| world.rng.chance(80)).unwrap_or(pool);
            let trouble = lost.is_some() || are_apart(world);
            let disaster = world.options.disaster && world.rng.chance(if trouble { 75 } else { 12 });
            let name = world.topology.pool[affected].name.clone();
            common::command(&mut world.rng, name, disaster)
        }
    };
    let starts = matches!(
        command,
        Command::PoolFailover { .. } | Command::PoolFailback { .. } | Command::ManagementFailover { .. }
    );
    give(world, at, command.clone());
    if world.rng.chance(10) && !world.healing {
        let other = world.any_server();
        give(world, other, command);
    }
    if starts && !world.healing && world.rng.chance(30) {
        let wait = world.rng.between(5, 1_500);
        world.after(wait, Due::Mend(Mend::LoseRunner));
    }
    let mean = if world.healing { 2_000 } else { world.options.operator_every_ms };
    let wait = world.rng.between(mean / 2 + 1, mean * 2);
    world.after(wait, Due::Operator);
}

fn give(world: &mut World, at: usize, command: Command) {
    let now = world.now;
    world.command(at, command.clone(), Pending::Operator(command, now));
}

fn any_of(world: &mut World, pool: usize) -> usize {
    let servers = world.pool(pool);
    world.rng.pick(&servers).copied().unwrap_or(0)
}

/// Whether a majority of a pool does not run.
fn is_lost(world: &World, pool: usize) -> bool {
    let servers = world.pool(pool);
    servers.iter().filter(|at| world.servers[**at].runs()).count() * 2 <= servers.len()
}

/// Whether no server of the one pool hears one of the other.
fn are_apart(world: &World) -> bool {
    let (east, west) = (world.pool(0), world.pool(1));
    !east.iter().any(|a| west.iter().any(|b| world.mesh.whole(*a, *b)))
}

/// The server at which a procedure runs now is lost, or stands still.
pub fn lose_runner(world: &mut World) {
    let busy = |at: &usize| {
        let node = world.servers[*at].node.as_ref().filter(|_| world.servers[*at].runs());
        node.is_some_and(|node| node.inspect(|core| core.procedures.busy()))
    };
    let Some(at) = (0..world.size()).find(busy).filter(|at| !disks::spares(world, world.side[*at])) else { return };
    world.met("the server of a procedure was lost");
    if world.rng.chance(60) {
        crate::pool::faults::crash(world, at);
    } else {
        let lasts = world.rng.between(1_000, 12_000);
        crate::pool::faults::freeze_for(world, at, lasts);
    }
}

/// An answer came.
pub fn answered(world: &mut World, at: usize, command: &Command, asked: u64, reply: &Result<Reply, Problem>) {
    if let Some(next) = common::next(&mut world.rng, world.healing, reply) {
        world.met("a procedure was resumed or aborted");
        give(world, at, next);
    }
    common::shows(command, reply).into_iter().for_each(|what| world.met(what));
    if let Some(what) = common::unequal(reply) {
        world.history.violate(3, what);
    }
    if let Ok(reply) = reply {
        checks::told(world, at, reply, asked);
    }
}
