//! Operators of the virtual world: they fail over and back, twice and at the wrong time, and resume what stopped.
//!
//! Owns the commands that are drawn. Whether the node may refuse them is not judged here; what they leave behind is.

use crate::world::{Due, Pending, World};
use pairline_node::command::{Command, Problem, Reply};

/// One operator acts.
pub fn act(world: &mut World) {
    let site = usize::try_from(world.rng.below(2)).unwrap_or(0);
    if world.servers[site].runs() {
        let command = match world.healing {
            true if parted(world) => Command::PoolPair { a: "east".into(), b: "west".into(), accept_unsupported: None },
            true if world.rng.chance(25) => moved(world),
            true if world.rng.chance(40) => tail(world, true),
            true => Command::ProcedureList,
            false if world.options.parting && world.rng.chance(20) => parting(world),
            false => drawn(world),
        };
        world.command(site, command.clone(), Pending::Operator(command.clone()));
        if world.rng.chance(10) && !world.healing {
            world.met("a command was given twice");
            let other = if world.servers[1 - site].runs() && world.rng.chance(50) { 1 - site } else { site };
            world.command(other, command.clone(), Pending::Operator(command));
        }
    }
    let mean = if world.healing { 2_000 } else { world.options.operator_every_ms };
    let wait = world.rng.between(mean / 2 + 1, mean * 2);
    world.after(wait, Due::Operator);
}

fn parted(world: &World) -> bool {
    world
        .servers
        .iter()
        .any(|server| server.node.as_ref().is_some_and(|node| node.inspect(|core| core.partner().is_none())))
}

/// The pairing ends, or begins again.
fn parting(world: &mut World) -> Command {
    let (a, b) = ("east".to_owned(), "west".to_owned());
    if parted(world) { Command::PoolPair { a, b, accept_unsupported: None } } else { Command::PoolUnpair { a, b } }
}

fn tail(world: &mut World, apply: bool) -> Command {
    let pool = if world.rng.chance(50) { "east" } else { "west" }.to_owned();
    Command::PoolDivergence { pool, apply }
}

/// Planned moves of a healed pair: what a re-base left behind must serve as well as what it came from.
fn moved(world: &mut World) -> Command {
    let pool = if world.rng.chance(50) { "east" } else { "west" }.to_owned();
    let reason = Some("sim".to_owned());
    if world.rng.chance(50) {
        failback(pool, reason)
    } else {
        Command::PoolFailover { pool, disaster: false, dry_run: false, force: false, confirm: None, reason }
    }
}

fn failback(pool: String, reason: Option<String>) -> Command {
    Command::PoolFailback { pool, disaster: false, dry_run: false, force: false, confirm: None, reason }
}

fn drawn(world: &mut World) -> Command {
    let pool = if world.rng.chance(50) { "east" } else { "west" }.to_owned();
    let one_down = world.servers.iter().any(|server| !server.runs()) || !world.net.whole();
    let disaster = world.options.disaster && world.rng.chance(if one_down { 80 } else { 15 });
    let confirm = disaster.then(|| "yes".to_owned());
    match world.rng.below(10) {
        0..=3 => Command::PoolFailover {
            pool,
            disaster,
            dry_run: false,
            force: disaster,
            confirm,
            reason: Some("sim".to_owned()),
        },
        4..=5 => failback(pool, Some("sim".to_owned())),
        6 => Command::ManagementFailover {
            disaster,
            dry_run: false,
            force: false,
            confirm,
            reason: Some("sim".to_owned()),
        },
        7 => Command::ProcedureList,
        8 => Command::PoolDivergence { pool, apply: world.rng.chance(50) },
        _ => Command::PoolVerify { pool },
    }
}

/// An answer came: a list of procedures leads to a resume, now and then to an abort.
pub fn answered(world: &mut World, site: usize, command: &Command, reply: &Result<Reply, Problem>) {
    match (command, reply) {
        (Command::ProcedureList, Ok(Reply::Procedures { procedures })) => {
            let open = procedures.iter().find(|procedure| procedure.state == "stopped" || procedure.state == "running");
            if let Some(procedure) = open {
                let id = procedure.id.clone();
                let abort = !world.healing && world.rng.chance(20);
                world.met("a procedure was resumed or aborted");
                let next = if abort {
                    Command::ProcedureAbort { id, reclaim: false }
                } else {
                    Command::ProcedureResume { id }
                };
                world.command(site, next.clone(), Pending::Operator(next));
            }
        }
        (Command::PoolFailover { disaster: true, .. }, Ok(_)) => world.met("a disaster failover was started"),
        (Command::PoolFailover { .. }, Ok(_)) => world.met("a planned failover was started"),
        (Command::PoolFailback { .. }, Ok(_)) => world.met("a failback was started"),
        (Command::ManagementFailover { .. }, Ok(_)) => world.met("the management store was moved"),
        (Command::PoolDivergence { apply: true, .. }, Ok(Reply::Divergence(view))) if !view.entries.is_empty() => {
            world.met("a divergent tail was applied");
        }
        (Command::PoolUnpair { .. }, Ok(_)) => world.met("the pools parted"),
        (Command::PoolPair { .. }, Ok(_)) => world.met("the pools were paired again"),
        (Command::PoolVerify { .. }, Ok(Reply::Verify(view))) => {
            if view.equal > 0 {
                world.met("copies were proven equal");
            }
            if !view.unequal.is_empty() {
                let what = format!("verification found different copies: {:?}", view.unequal);
                world.history.violate(3, what);
            }
        }
        (_, Err(problem)) if problem.status == 409 => world.met("a command was refused by preflight"),
        _ => {}
    }
}
