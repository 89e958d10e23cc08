//! An administrator who does what a refusal says is to be done first, and then gives the command again.
//!
//! Owns the reading of remedies. A remedy that leads nowhere shows where the commands were needed: what they were to mend stays as it is.

use super::ask;
use crate::pool::world::World;
use pairline_node::command::{Command, Problem, Reply};

/// How many commands are given for one, at most.
const COMMANDS: usize = 10;

/// How many remedies may stand before the command itself.
const DEEP: usize = 4;

/// Gives a command, and those before it that its refusals name.
pub fn insist(world: &mut World, at: usize, command: Command) {
    let mut due = vec![(at, command)];
    for _ in 0..COMMANDS {
        let Some((at, command)) = due.last().cloned() else { return };
        let reply = ask(world, at, command);
        world.note("insists", &format!("{reply:?}"));
        match reply.as_ref().and_then(|reply| first(world, reply)).filter(|_| due.len() <= DEEP) {
            Some(before) => {
                if matches!(before.1, Command::PoolDivergence { .. })
                    && let Some((_, refused)) = due.last_mut()
                {
                    // What is then still open is in conflict, and is accepted.
                    accept(refused);
                }
                due.push(before);
            }
            None => _ = due.pop(),
        }
    }
}

/// Has a command accept what can be accepted.
fn accept(command: &mut Command) {
    match command {
        Command::PoolFailover { force, .. }
        | Command::PoolFailback { force, .. }
        | Command::ManagementFailover { force, .. } => *force = true,
        _ => {}
    }
}

/// What is to be done before what was refused, and at which server.
fn first(world: &mut World, reply: &Result<Reply, Problem>) -> Option<(usize, Command)> {
    let Err(problem) = reply else { return None };
    let remedy = problem.remedy.as_str();
    if let Some(id) = after(remedy, "procedure resume|abort ") {
        let command = match world.rng.chance(50) {
            true => Command::ProcedureResume { id },
            false => Command::ProcedureAbort { id, reclaim: false },
        };
        return Some((world.any_server(), command));
    }
    if let Some(pool) = after(remedy, "pool divergence ") {
        return Some((world.any_server(), Command::PoolDivergence { pool, apply: true }));
    }
    if let Some(pool) = after(remedy, "pool failback ") {
        let (disaster, dry_run, force, confirm, reason) = (false, false, false, None, None);
        return Some((world.any_server(), Command::PoolFailback { pool, disaster, dry_run, force, confirm, reason }));
    }
    if remedy.contains("management failover --disaster") {
        let (disaster, dry_run, force) = (true, false, true);
        let (confirm, reason) = (Some("yes".to_owned()), Some("as the remedy says".to_owned()));
        return Some((world.any_server(), Command::ManagementFailover { disaster, dry_run, force, confirm, reason }));
    }
    None
}

/// The word that follows these in a text.
fn after(text: &str, words: &str) -> Option<String> {
    let rest = text.split(words).nth(1)?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(rest.len());
    Some(rest[..end].to_owned()).filter(|word| !word.is_empty())
}
