//! Commands of the admin API: who may, where they run, and which part of the node answers.
//!
//! Owns authorisation of actors and the choice of the pool that executes. Each family of commands has a file of its own.

mod divergence;
mod fencing;
pub mod groups;
pub mod health;
mod pairing;
mod pools;
mod procedure;
mod proof;
mod publishing;
mod server;
mod status;
mod users;

pub use divergence::{Recount, recount};
pub use fencing::order as fence_order;
pub use procedure::look_at;

use crate::command::{Actor, Command, Problem, Reply};
use crate::core::{Core, WaitResult};
use crate::cx::TaskCx;
use crate::peer::PeerFrame;
use bytes::Bytes;
use pairline_group::{PoolId, ServerId};
use pairline_services::cx::Peer;
use pairline_services::join::join_all;

/// How long a command that was passed on may take.
const PASS_ON_MS: u64 = 120_000;

/// How long a question that only completes an answer may take: what is known here is shown without it.
const QUESTION_MS: u64 = 2_000;

/// By whom a command was passed on to here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// By nobody: its sender asked this server.
    Not,
    /// By another pool, which passes on to any server of this one.
    ByPool,
    /// By a server of this pool, which knows who has to execute it.
    ByServer,
}

/// How often it is looked again who has to execute a command, if that has just changed.
const MOVES: u32 = 20;

/// Pause before that, in milliseconds.
const MOVE_PAUSE_MS: u64 = 100;

/// Executes one command, or passes it on to who has to: never back, never twice the same way. Who is asked for a user that is served
/// elsewhere by then says so, and whoever asked first looks again.
pub async fn execute(cx: &TaskCx, actor: Actor, command: Command, passed: Passed) -> Result<Reply, Problem> {
    if passed != Passed::Not || !reads_user(&command) {
        return execute_once(cx, actor, command, passed).await;
    }
    for _ in 1..MOVES {
        match execute_once(cx, actor.clone(), command.clone(), passed).await {
            Err(problem) if problem.is_moved() => cx.sleep(MOVE_PAUSE_MS).await,
            reply => return reply,
        }
    }
    execute_once(cx, actor, command, passed).await
}

/// Whether a command shows what is known of one user, so that a copy that is only told of it must not answer.
fn reads_user(command: &Command) -> bool {
    matches!(command, Command::ContactList { .. } | Command::SettingsGet { .. } | Command::UserWhere { .. })
}

async fn execute_once(cx: &TaskCx, actor: Actor, command: Command, passed: Passed) -> Result<Reply, Problem> {
    authorise(cx, &actor, &command)?;
    cx.with(|core| crate::witness::admits(core, &command))?;
    audit(cx, &actor, &command);
    let work = place_of_work(cx, &command).await?;
    let work = work.filter(|_| !cx.with(|core| crate::config::planted!(core.config, StaleLocalRead)));
    if let Some(at) = work.filter(|at| cx.with(|core| passes_on(core, *at, passed))) {
        return pass_on(cx, at, actor, command).await;
    }
    if work.is_some() && passed != Passed::Not && reads_user(&command) {
        // The copy here is not what the user is served from, and would be taken for it.
        return Err(Problem::moved());
    }
    let passed_on = passed != Passed::Not;
    match command {
        Command::UserAdd { .. }
        | Command::UserList { .. }
        | Command::UserShow { .. }
        | Command::UserRemove { .. }
        | Command::UserPassword { .. }
        | Command::UserWhere { .. }
        | Command::UserImport { .. }
        | Command::RegistrationList { .. }
        | Command::RegistrationDrop { .. }
        | Command::ContactList { .. }
        | Command::ContactPut { .. }
        | Command::ContactRemove { .. }
        | Command::SettingsGet { .. }
        | Command::SettingsPut { .. } => users::execute(cx, command).await,
        Command::PoolStatus => pools::status(cx, passed).await,
        Command::ServerDrain { seconds, .. } => server::drain(cx, seconds).await,
        Command::ServerUndrain { .. } => Ok(server::undrain(cx)),
        Command::ServerRestart { .. } => server::restart(cx),
        Command::PoolHealth { pool, part } => health::execute(cx, pool.as_deref(), part, passed_on).await,
        Command::PoolSync { pool } => pools::sync(cx, &pool).await,
        Command::PoolVerify { pool } => pools::verify(cx, &pool, passed).await,
        Command::PoolPair { a, b, accept_unsupported } => pairing::pair(cx, &a, &b, accept_unsupported).await,
        Command::PoolUnpair { a, b } => pairing::unpair(cx, &a, &b).await,
        Command::PoolAssertActive { pool, reason } => pools::assert_active(cx, &actor, &pool, reason, passed).await,
        Command::PoolDivergence { pool, apply } => {
            let what = if apply { divergence::What::Apply } else { divergence::What::List };
            divergence::execute(cx, &actor, &pool, what, passed).await
        }
        Command::PoolDivergenceSettle { pool } => {
            divergence::execute(cx, &actor, &pool, divergence::What::Settle, passed).await
        }
        Command::PoolFailover { .. }
        | Command::PoolFailback { .. }
        | Command::ManagementFailover { .. }
        | Command::ProcedureList
        | Command::ProcedureShow { .. }
        | Command::ProcedureResume { .. }
        | Command::ProcedureAbort { .. }
        | Command::Preflight { .. } => procedure::execute(cx, &actor, command, passed).await,
        Command::TopologyShow => Ok(Reply::Text { text: cx.with(|core| pairline_topology::to_toml(&core.topology)) }),
        Command::TopologyPublish { document, dry_run } => publishing::publish(cx, &document, dry_run).await,
        Command::GroupList { .. }
        | Command::GroupCopies
        | Command::GroupRecover { .. }
        | Command::GroupSurvive { .. } => groups::execute(cx, &actor, command).await,
        Command::ServerStatus => Ok(Reply::Status(cx.with(|core| status::of_server(core)))),
        Command::UserProve { authorization, method, target } => {
            proof::execute(cx, authorization.as_deref(), &method, &target).await
        }
        Command::Fence { procedure, by, groups, .. } => fencing::execute(cx, &procedure, by, &groups).await,
        Command::FenceAnswer { id, alive, fenced } => Ok(fencing::answered(cx, id, alive, fenced)),
    }
}

fn audit(cx: &TaskCx, actor: &Actor, command: &Command) {
    if !matches!(actor, Actor::User(_)) && privileged(command) {
        let text = format!("{} asked for {}", name_of(actor), label(command));
        cx.with(|core| core.event(crate::event::Level::Info, "audit", text));
    }
}

/// Whether a command goes on to these servers. What another pool has passed on goes no further than to a server of this one.
fn passes_on(core: &Core, at: Peer, passed: Passed) -> bool {
    match (core.is_near(at), at) {
        (false, _) => passed == Passed::Not,
        (true, Peer::Server(_)) => passed != Passed::ByServer,
        (true, Peer::Pool(_)) => false,
    }
}

/// Passes a command on to other servers and waits for their answer.
pub async fn pass_on(cx: &TaskCx, at: Peer, actor: Actor, command: Command) -> Result<Reply, Problem> {
    pass_on_within(cx, at, actor, command, PASS_ON_MS).await
}

/// Asks the partner, if it is heard now, for its part of an answer; `None` if it does not give it at once.
pub async fn ask_partner(cx: &TaskCx, command: Command) -> Option<Reply> {
    let partner =
        cx.with(|core| core.partner().filter(|pool| core.link_to(*pool).is_some() && !core.modes.away(*pool)))?;
    pass_on_within(cx, Peer::Pool(partner), Actor::Server, command, QUESTION_MS).await.ok()
}

/// Asks another server of this pool for its part of an answer; `None` if it does not give it at once.
pub async fn ask_server(cx: &TaskCx, server: ServerId, command: Command) -> Option<Reply> {
    pass_on_within(cx, Peer::Server(server), Actor::Server, command, QUESTION_MS).await.ok()
}

/// Asks all other servers of this pool that are heard for their parts of an answer, all at once.
pub async fn ask_neighbours(cx: &TaskCx, actor: &Actor, command: &Command, millis: u64) -> Vec<Result<Reply, Problem>> {
    let servers: Vec<ServerId> = cx.with(|core| {
        let linked = core.servers_linked(core.pool).into_keys();
        linked.filter(|server| core.way_to(Peer::Server(*server)).is_some()).collect()
    });
    let asked = servers
        .into_iter()
        .map(|server| pass_on_within(cx, Peer::Server(server), actor.clone(), command.clone(), millis))
        .collect();
    join_all(asked).await
}

/// The same with a bound of its own in milliseconds.
pub async fn pass_on_within(
    cx: &TaskCx,
    at: Peer,
    actor: Actor,
    command: Command,
    millis: u64,
) -> Result<Reply, Problem> {
    let name = cx.with(|core| name_at(core, at));
    let command = Bytes::from(serde_json::to_vec(&command).map_err(|_| Problem::bad_peer_answer())?);
    let Some((link, to)) = cx.with(|core| core.link_at(at)) else {
        return Err(Problem::unreachable(&name));
    };
    let wait = cx.start_peer_wait(to.server, millis);
    let frame = PeerFrame::Command { call: wait, actor, command };
    cx.with(|core| core.send_on(link, &frame));
    match cx.wait(wait).await {
        WaitResult::Reply(reply) => *reply,
        _ if cx.with(|core| core.link_at(at).is_none()) => Err(Problem::link_lost(&name)),
        _ => Err(Problem::timeout(&format!("the command at {name}"))),
    }
}

/// Other servers in words.
fn name_at(core: &Core, at: Peer) -> String {
    match at {
        Peer::Pool(pool) => format!("pool {}", core.topology.pool_name(pool)),
        Peer::Server(server) => core
            .topology
            .server(server)
            .map_or_else(|| format!("server {}", server.0), |s| format!("server {}", s.name)),
    }
}

/// The pool of that name, or a problem that lists those there are.
pub fn pool_named(cx: &TaskCx, name: &str) -> Result<PoolId, Problem> {
    cx.with(|core| {
        core.topology.pool_named(name).map(|pool| pool.id).ok_or_else(|| {
            let known: Vec<&str> = core.topology.pool.iter().map(|pool| pool.name.as_str()).collect();
            Problem::no_such_pool(name, &known.join(", "))
        })
    })
}

fn authorise(cx: &TaskCx, actor: &Actor, command: &Command) -> Result<(), Problem> {
    if matches!(command, Command::Fence { .. }) {
        return if cx.with(|core| fencing::may(core, actor, command)) { Ok(()) } else { Err(Problem::forbidden()) };
    }
    if matches!(command, Command::GroupSurvive { .. }) && *actor != Actor::Server {
        // Whoever gives it has looked at all copies before.
        return Err(Problem::forbidden());
    }
    let Actor::User(me) = actor else { return Ok(()) };
    let whose = match command {
        Command::ContactList { user }
        | Command::ContactPut { user, .. }
        | Command::ContactRemove { user, .. }
        | Command::SettingsGet { user }
        | Command::SettingsPut { user, .. } => user,
        _ => return Err(Problem::forbidden()),
    };
    let same = cx.with(|core| match (users::aor(core, me), users::aor(core, whose)) {
        (Ok(me), Ok(whose)) => me == whose,
        _ => false,
    });
    if same { Ok(()) } else { Err(Problem::forbidden()) }
}

/// The servers that must execute a command; `None` where any may.
async fn place_of_work(cx: &TaskCx, command: &Command) -> Result<Option<Peer>, Problem> {
    match command {
        Command::UserPassword { user, .. }
        | Command::UserRemove { user }
        | Command::RegistrationDrop { user, .. }
        | Command::ContactList { user }
        | Command::ContactPut { user, .. }
        | Command::ContactRemove { user, .. }
        | Command::SettingsGet { user }
        | Command::SettingsPut { user, .. }
        | Command::UserWhere { user } => Ok(users::serving(cx, user).await),
        Command::UserProve { authorization, .. } => Ok(proof::place_of_work(cx, authorization.as_deref()).await),
        Command::ServerDrain { server, .. } | Command::ServerUndrain { server } | Command::ServerRestart { server } => {
            server::place_of_work(cx, server)
        }
        Command::PoolSync { pool }
        | Command::PoolDivergence { pool, .. }
        | Command::PoolDivergenceSettle { pool }
        | Command::GroupList { pool, .. }
        | Command::GroupRecover { pool, .. }
        | Command::PoolAssertActive { pool, .. } => Ok(Some(Peer::Pool(pool_named(cx, pool)?))),
        Command::PoolFailover { .. }
        | Command::PoolFailback { .. }
        | Command::ManagementFailover { .. }
        | Command::ProcedureResume { .. }
        | Command::ProcedureAbort { .. }
        | Command::Preflight { .. } => procedure::place_of_work(cx, command).await,
        _ => Ok(None),
    }
}

fn privileged(command: &Command) -> bool {
    !matches!(
        command,
        Command::UserList { .. }
            | Command::UserShow { .. }
            | Command::UserWhere { .. }
            | Command::UserProve { .. }
            | Command::UserImport { .. }
            | Command::RegistrationList { .. }
            | Command::ContactList { .. }
            | Command::ContactPut { .. }
            | Command::ContactRemove { .. }
            | Command::SettingsGet { .. }
            | Command::PoolStatus
            | Command::PoolHealth { .. }
            | Command::GroupList { .. }
            | Command::GroupCopies
            | Command::ProcedureList
            | Command::ProcedureShow { .. }
            | Command::Preflight { .. }
            | Command::TopologyShow
            | Command::TopologyPublish { dry_run: true, .. }
            | Command::ServerStatus
            | Command::FenceAnswer { .. }
    )
}

fn name_of(actor: &Actor) -> &str {
    match actor {
        Actor::Administrator(name) | Actor::User(name) => name,
        Actor::Server => "the partner's server",
    }
}

/// A command in words, without secrets.
fn label(command: &Command) -> String {
    match command {
        Command::UserAdd { user, .. } => format!("user add {user}"),
        Command::UserRemove { user } => format!("user remove {user}"),
        Command::UserPassword { user, .. } => format!("user password {user}"),
        Command::RegistrationDrop { user, .. } => format!("registration drop {user}"),
        Command::SettingsPut { user, .. } => format!("settings set {user}"),
        Command::ServerDrain { server, seconds } => format!("server drain {server} (deadline: {seconds} s)"),
        Command::ServerUndrain { server } => format!("server undrain {server}"),
        Command::ServerRestart { server } => format!("restart of server {server}"),
        Command::PoolSync { pool } => format!("pool sync {pool}"),
        Command::PoolVerify { pool } => format!("pool verify {pool}"),
        Command::TopologyPublish { .. } => "topology publish".to_owned(),
        Command::PoolPair { a, b, .. } => format!("pool pair {a} {b}"),
        Command::PoolUnpair { a, b } => format!("pool unpair {a} {b}"),
        Command::PoolFailover { pool, disaster, dry_run, .. } => {
            format!("pool failover {pool} (disaster: {disaster}, dry run: {dry_run})")
        }
        Command::PoolFailback { pool, disaster, dry_run, .. } => {
            format!("pool failback {pool} (disaster: {disaster}, dry run: {dry_run})")
        }
        Command::PoolAssertActive { pool, .. } => format!("pool assert-active {pool}"),
        Command::GroupRecover { pool, groups, all, confirm, reason } => {
            let which = if *all { "all without majority".to_owned() } else { groups.join(", ") };
            let (confirmed, why) = (confirm.as_deref() == Some("yes"), reason.as_deref().unwrap_or("no reason given"));
            format!("group recover {pool} {which} (confirmed: {confirmed}): {why}")
        }
        Command::GroupSurvive { group, order, .. } => {
            format!("group {group} to go on with the copy here (order {order})")
        }
        Command::PoolDivergence { pool, apply } => format!("pool divergence {pool} (apply: {apply})"),
        Command::PoolDivergenceSettle { pool } => format!("pool divergence {pool} (settle)"),
        Command::ManagementFailover { disaster, .. } => format!("management failover (disaster: {disaster})"),
        Command::Fence { procedure, by, groups, .. } => {
            format!("standing down of {} groups (procedure {procedure} of pool {by})", groups.len())
        }
        Command::ProcedureResume { id } => format!("procedure resume {id}"),
        Command::ProcedureAbort { id, .. } => format!("procedure abort {id}"),
        _ => "a change".to_owned(),
    }
}
