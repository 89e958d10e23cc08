//! Operators of the virtual world: they fail over and back, twice and at the wrong time, and resume what stopped.
//!
//! Owns the commands that are drawn, for every kind of pair. Whether the node may refuse them is not judged here; what they leave
//! behind is.

use crate::rng::Rng;
use crate::world::{Due, Pending, World};
use pairline_node::command::{Command, Problem, Reply};

/// One operator acts.
pub fn act(world: &mut World) {
    let site = usize::try_from(world.rng.below(2)).unwrap_or(0);
    if world.servers[site].runs() {
        let command = match world.healing {
            true if parted(world) => Command::PoolPair { a: "east".into(), b: "west".into(), accept_unsupported: None },
            true => mending(&mut world.rng),
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

/// An order to stand down may be carried out when the server that gave it is lost before anything of the procedure was written, or comes back on
/// an older disk. An administrator sees groups that nobody serves, and gives the command again.
pub fn nothing_is_stranded(world: &mut World) {
    for round in 0..6 {
        let Some((site, group)) = crate::checks::stranded(world) else { return };
        let (disaster, dry_run, force) = (true, false, true);
        let (confirm, reason) = (Some("yes".to_owned()), Some("nobody serves".to_owned()));
        let pool = if site == 0 { "east" } else { "west" }.to_owned();
        let (at, command) = match round % 3 {
            0 if group.is_cms() => {
                (1 - site, Command::ManagementFailover { disaster, dry_run, force, confirm, reason })
            }
            2 => (site, Command::PoolFailback { pool, disaster, dry_run, force, confirm, reason }),
            _ => (1 - site, Command::PoolFailover { pool, disaster, dry_run, force, confirm, reason }),
        };
        world.command(at, command.clone(), Pending::Operator(command));
        let next = world.now + 5_000;
        world.run_until(next);
    }
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

/// What is done once all faults are over: what stopped is resumed, tails are applied, groups are moved once more.
pub fn mending(rng: &mut Rng) -> Command {
    if rng.chance(25) {
        moved(rng)
    } else if rng.chance(40) {
        Command::PoolDivergence { pool: either(rng), apply: true }
    } else {
        Command::ProcedureList
    }
}

fn either(rng: &mut Rng) -> String {
    if rng.chance(50) { "east" } else { "west" }.to_owned()
}

/// Planned moves of a healed pair: what a re-base left behind must serve as well as what it came from.
fn moved(rng: &mut Rng) -> Command {
    let pool = either(rng);
    let reason = Some("sim".to_owned());
    if rng.chance(50) {
        failback(pool, reason)
    } else {
        Command::PoolFailover { pool, disaster: false, dry_run: false, force: false, confirm: None, reason }
    }
}

fn failback(pool: String, reason: Option<String>) -> Command {
    Command::PoolFailback { pool, disaster: false, dry_run: false, force: false, confirm: None, reason }
}

fn drawn(world: &mut World) -> Command {
    let pool = either(&mut world.rng);
    let one_down = world.servers.iter().any(|server| !server.runs()) || !world.net.whole();
    let disaster = world.options.disaster && world.rng.chance(if one_down { 80 } else { 15 });
    command(&mut world.rng, pool, disaster)
}

/// A command about a pool.
pub fn command(rng: &mut Rng, pool: String, disaster: bool) -> Command {
    let confirm = disaster.then(|| "yes".to_owned());
    match rng.below(10) {
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
        8 => Command::PoolDivergence { pool, apply: rng.chance(50) },
        _ => Command::PoolVerify { pool },
    }
}

/// What follows from a list of procedures: what is open is resumed, now and then aborted.
pub fn next(rng: &mut Rng, healing: bool, reply: &Result<Reply, Problem>) -> Option<Command> {
    let Ok(Reply::Procedures { procedures }) = reply else { return None };
    let open = procedures.iter().find(|procedure| procedure.state == "stopped" || procedure.state == "running")?;
    let id = open.id.clone();
    let abort = !healing && rng.chance(20);
    Some(if abort { Command::ProcedureAbort { id, reclaim: false } } else { Command::ProcedureResume { id } })
}

/// What an answer shows: the condition that it meets.
pub fn shows(command: &Command, reply: &Result<Reply, Problem>) -> Option<&'static str> {
    Some(match (command, reply) {
        (Command::PoolFailover { disaster: true, .. }, Ok(_)) => "a disaster failover was started",
        (Command::PoolFailover { .. }, Ok(_)) => "a planned failover was started",
        (Command::PoolFailback { .. }, Ok(_)) => "a failback was started",
        (Command::ManagementFailover { .. }, Ok(_)) => "the management store was moved",
        (Command::PoolDivergence { apply: true, .. }, Ok(Reply::Divergence(view))) if !view.entries.is_empty() => {
            "a divergent tail was applied"
        }
        (Command::PoolUnpair { .. }, Ok(_)) => "the pools parted",
        (Command::PoolPair { .. }, Ok(_)) => "the pools were paired again",
        (Command::PoolVerify { .. }, Ok(Reply::Verify(view))) if view.equal > 0 => "copies were proven equal",
        (_, Err(problem)) if problem.status == 409 => "a command was refused by preflight",
        _ => return None,
    })
}

/// Different copies at one position, if a verification found some.
pub fn unequal(reply: &Result<Reply, Problem>) -> Option<String> {
    let Ok(Reply::Verify(view)) = reply else { return None };
    (!view.unequal.is_empty()).then(|| format!("verification found different copies: {:?}", view.unequal))
}

/// An answer came: a list of procedures leads to a resume, now and then to an abort.
pub fn answered(world: &mut World, site: usize, command: &Command, reply: &Result<Reply, Problem>) {
    if let Some(next) = next(&mut world.rng, world.healing, reply) {
        world.met("a procedure was resumed or aborted");
        world.command(site, next.clone(), Pending::Operator(next));
    }
    shows(command, reply).into_iter().for_each(|what| world.met(what));
    if let Some(what) = unequal(reply) {
        world.history.violate(3, what);
    }
}
