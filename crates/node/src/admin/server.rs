//! Servers' life: drained before they are stopped, taken back, started anew.
//!
//! Owns the commands that a server executes about itself. What a drained server passes on, and when, is replication's.

use crate::command::{Problem, Reply};
use crate::core::Core;
use crate::cx::TaskCx;
use crate::event::Level;
use crate::io::Output;
use pairline_group::ServerId;
use pairline_group::io::HostInput;
use pairline_services::admission::Doors;
use pairline_services::cx::Peer;

/// How often it is looked how far a drain is, in milliseconds.
const LOOK_MS: u64 = 50;

/// The servers that execute a command about a server: that one, by way of its pool.
pub fn place_of_work(cx: &TaskCx, name: &str) -> Result<Option<Peer>, Problem> {
    cx.with(|core| {
        let Some(server) = core.topology.server_named(name) else {
            let known: Vec<&str> = core.topology.server.iter().map(|server| server.name.as_str()).collect();
            return Err(Problem::new(
                404,
                "no-such-server",
                "no such server",
                format!("the topology has no server named {name}"),
                format!("use one of: {}", known.join(", ")),
            ));
        };
        Ok(match server.id {
            id if id == core.config.server => None,
            id if server.pool == core.pool => Some(Peer::Server(id)),
            _ => Some(Peer::Pool(server.pool)),
        })
    })
}

/// Passes on every group that this server leads and waits until no call is being set up through it; if that is not so in time, all is
/// as it was before.
pub async fn drain(cx: &TaskCx, seconds: u64) -> Result<Reply, Problem> {
    cx.with(may_drain)?;
    cx.with(|core| set_drained(core, true));
    let until = cx.with(|core| core.now.mono) + seconds.saturating_mul(1_000);
    loop {
        let (led, calls) = cx.with(|core| (core.host.drained().1, calls_begun(core)));
        if led == 0 && calls == 0 {
            break;
        }
        if led == 0 {
            // Others set new calls up; or there would always be one under way here.
            cx.with(|core| core.doors = Doors::NoDialogs);
        }
        if cx.with(|core| core.now.mono) >= until {
            cx.with(|core| set_drained(core, false));
            return Err(not_in_time(led, calls, seconds));
        }
        cx.sleep(LOOK_MS).await;
    }
    cx.with(|core| core.doors = Doors::NoDialogs);
    let (name, streams) = cx.with(|core| (own_name(core), core.streams.len()));
    let message = format!(
        "{name} leads no group, sets up no call and takes no new one: it may be stopped; {streams} connections of clients will come back to other servers. \
         `pairline server undrain {name}` takes that back"
    );
    Ok(Reply::Ok { message })
}

/// Takes a drain back.
pub fn undrain(cx: &TaskCx) -> Reply {
    cx.with(|core| set_drained(core, false));
    let name = cx.with(|core| own_name(core));
    Reply::Ok { message: format!("{name} is not drained: groups that it should lead come back in a few seconds") }
}

/// Ends this process in order and starts it again, from the program that is installed now.
pub fn restart(cx: &TaskCx) -> Result<Reply, Problem> {
    cx.with(|core| {
        let led = core.host.drained().1;
        if led > 0 {
            return Err(Problem::new(
                409,
                "not-drained",
                "the server is not drained",
                format!("{} leads {led} groups that another server could lead", own_name(core)),
                "drain it first: `pairline server drain`; `pairline pool restart` does both for every server of a pool",
            ));
        }
        core.event(Level::Info, "restart", "this server ends in order and starts again".to_owned());
        core.out.push_back(Output::Restart);
        Ok(Reply::Ok { message: format!("{} starts again", own_name(core)) })
    })
}

fn set_drained(core: &mut Core, on: bool) {
    let now = core.now;
    if core.doors != Doors::Shut {
        core.doors = Doors::Open;
    }
    core.host.handle(now, HostInput::Drain { on });
    let text = if on { "this server passes on what it leads" } else { "this server leads groups again" };
    core.event(Level::Info, "drain", text.to_owned());
}

fn own_name(core: &Core) -> String {
    core.topology.server(core.config.server).map(|server| server.name.clone()).unwrap_or_default()
}

/// Every group that has a copy here must have a majority without it.
fn may_drain(core: &mut Core) -> Result<(), Problem> {
    let heard = |server: &ServerId| *server != core.config.server && core.way_to(Peer::Server(*server)).is_some();
    let servers = core.topology.front_ends(core.pool);
    let witness = core.topology.witness_of(core.pool).map(|server| server.id);
    let mut missing: Vec<ServerId> = Vec::new();
    for group in core.host.groups() {
        let mut copies = pairline_group::placement::of(group, &servers);
        copies.extend(witness);
        let others = copies.iter().filter(|server| heard(server)).count();
        if others < copies.len() / 2 + 1 {
            missing.extend(copies.iter().filter(|server| **server != core.config.server && !heard(server)));
        }
    }
    if (servers.len() > 2 || witness.is_some()) && missing.is_empty() {
        return Ok(());
    }
    missing.sort_unstable();
    missing.dedup();
    let names: Vec<String> =
        missing.iter().filter_map(|id| core.topology.server(*id)).map(|server| server.name.clone()).collect();
    let (why, remedy) = match names.is_empty() {
        true => (
            format!("a pool of {} cannot do without one of its servers", servers.len()),
            "if users may be without service for a moment, stop the server as it is".to_owned(),
        ),
        false => (
            format!("without it groups would have no majority: {} does not answer", names.join(", ")),
            "bring that server back first; see `pairline pool health`".to_owned(),
        ),
    };
    Err(Problem::new(409, "cannot-drain", "the server cannot be drained now", why, remedy))
}

/// Calls that are being set up through this server: INVITEs without a final answer.
fn calls_begun(core: &Core) -> usize {
    core.states.iter().flatten().filter(|state| state.asked.is_some_and(crate::traffic::Asked::is_invite)).count()
}

fn not_in_time(led: usize, calls: usize, seconds: u64) -> Problem {
    Problem::new(
        504,
        "not-drained",
        "the server could not be drained in time",
        format!("after {seconds} s it led {led} groups and set up {calls} calls; nothing has changed"),
        "look at `pairline pool health`, or give it more time with --deadline",
    )
}
