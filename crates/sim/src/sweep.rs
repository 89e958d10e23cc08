//! The crash sweep: a procedure is run once undisturbed to count its inputs, then again with a crash at each of them.
//!
//! Owns the scripts (planned failover and failback, disaster failover, management store) and the points of the crashes.

use crate::checks;
use crate::clients;
use crate::options::{CrashAt, Options};
use crate::run::{self, Outcome};
use crate::world::{Due, Pending, World};
use pairline_node::command::{Command, Reply};

/// A script of one procedure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// `pool failover east`, both sites alive.
    Planned,
    /// The failover, and then `pool failback east`.
    Failback,
    /// East is dead; `pool failover east --disaster` at west, then east comes back.
    Disaster,
    /// `management failover`.
    Management,
}

impl Script {
    /// All of them.
    pub const ALL: [Script; 4] = [Script::Planned, Script::Failback, Script::Disaster, Script::Management];
}

/// Longest procedure, in inputs of one server.
const MAX_POINTS: u64 = 3_000;

/// Points of a script: how many inputs each site had while the procedure ran.
pub fn points(script: Script) -> [u64; 2] {
    let mut world = prepared(script);
    play(&mut world, script);
    world.inputs.map(|inputs| inputs.min(MAX_POINTS))
}

/// Runs a script with a crash at a point, resumes what stopped, heals, checks.
pub fn crash(script: Script, at: CrashAt) -> Outcome {
    let mut world = prepared(script);
    world.options.crash_at = Some(at);
    play(&mut world, script);
    world.options.crash_at = None;
    run::heal(&mut world);
    let id = at.nth * 4 + at.site as u64;
    run::finish(id, world)
}

fn prepared(script: Script) -> World {
    let mut world = World::new(1, Options::quiet());
    run::set_up(&mut world);
    world.after(1, Due::Client);
    world.after(1, Due::Check);
    world.after(1, Due::Phone);
    let until = world.now + 3_000;
    world.run_until(until);
    if script == Script::Failback {
        order(&mut world, 1, failover(false));
    }
    if script == Script::Disaster {
        world.stop(0, true);
        let until = world.now + 6_000;
        world.run_until(until);
    }
    world.inputs = [0, 0];
    world
}

fn failover(disaster: bool) -> Command {
    Command::PoolFailover {
        pool: "east".to_owned(),
        disaster,
        dry_run: false,
        force: false,
        confirm: disaster.then(|| "yes".to_owned()),
        reason: Some("sweep".to_owned()),
    }
}

fn play(world: &mut World, script: Script) {
    match script {
        Script::Planned => order(world, 1, failover(false)),
        Script::Failback => {
            let command = Command::PoolFailback {
                pool: "east".to_owned(),
                disaster: false,
                dry_run: false,
                force: false,
                confirm: None,
                reason: Some("sweep".to_owned()),
            };
            order(world, 0, command);
        }
        Script::Disaster => {
            order(world, 1, failover(true));
            world.after(100, Due::Mend(crate::faults::Mend::Start(0)));
            let until = world.now + 8_000;
            world.run_until(until);
        }
        Script::Management => {
            let command = Command::ManagementFailover {
                disaster: false,
                dry_run: false,
                force: false,
                confirm: None,
                reason: Some("sweep".to_owned()),
            };
            order(world, 1, command);
        }
    }
}

/// Gives a command and lets it run; whatever stopped is resumed by the operators of the healing phase.
fn order(world: &mut World, site: usize, command: Command) {
    world.command(site, command.clone(), Pending::Operator(command));
    let until = world.now + 4_000;
    world.run_until(until);
}

/// A clean script must do what it says: who serves the groups of east in the end.
pub fn undisturbed(script: Script) -> Result<(), String> {
    let mut world = prepared(script);
    play(&mut world, script);
    let refused =
        world.answers.iter().find_map(|(command, reply)| reply.as_ref().err().map(|p| format!("{command:?}: {p}")));
    if let Some(refused) = refused {
        return Err(refused);
    }
    let stopped = world.answers.iter().find_map(|(_, reply)| match reply {
        Ok(Reply::Procedure(view)) if view.state == "stopped" => Some(view.stopped.clone().unwrap_or_default()),
        _ => None,
    });
    if let Some(why) = stopped {
        return Err(format!("the procedure stopped: {why}"));
    }
    let home_serves = world.servers[0].node.as_ref().is_some_and(|node| {
        node.inspect(|core| core.topology.groups_of(core.pool).into_iter().all(|group| core.host.can_commit(group)))
    });
    let wanted = matches!(script, Script::Failback | Script::Management);
    if home_serves != wanted {
        return Err(format!("after {script:?} the home pool serves: {home_serves}, wanted {wanted}"));
    }
    run::heal(&mut world);
    checks::converged(&mut world);
    checks::acknowledged(&mut world);
    match world.history.violations.first() {
        Some(violation) => Err(format!("{violation:?}")),
        None if clients::USERS == 0 => Err("no users".to_owned()),
        None => Ok(()),
    }
}
