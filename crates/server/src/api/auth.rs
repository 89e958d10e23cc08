//! Who asks, and whether that may use a route: deny by default.
//!
//! Owns the decision and the audit's words. Does not own tokens (`token`).

use super::problem::{forbidden, unauthorised};
use super::routes::Access;
use super::token::{Holder, Tokens};
use axum::http::{HeaderMap, header};
use pairline_node::command::{Actor, Command, Problem};

/// The facts that decide.
pub struct Asked<'a> {
    /// What the route demands.
    pub access: Access,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// Whether the peer is this machine.
    pub local: bool,
    /// The user that the path names, if any.
    pub subject: Option<&'a str>,
    /// Wall-clock seconds.
    pub wall_seconds: u64,
}

/// A user who was authenticated by other means than a token, if the route and the user in its path are within reach.
pub fn authorise_user(asked: &Asked<'_>, user: String) -> Result<Actor, Problem> {
    let own = asked.access == Access::Owner && asked.subject.is_some_and(|who| same_user(who, &user));
    if own { Ok(Actor::User(user)) } else { Err(forbidden()) }
}

/// Who asks, if that is allowed; by bearer token.
pub fn authorise(tokens: &Tokens, asked: &Asked<'_>) -> Result<Actor, Problem> {
    let holder = bearer(asked.headers).and_then(|token| tokens.check(token, asked.wall_seconds));
    let open = match asked.access {
        Access::Open => true,
        Access::Local => asked.local,
        Access::Administrator | Access::Owner => false,
    };
    match (holder, asked.access) {
        (Some(Holder::Administrator), _) => Ok(Actor::Administrator("administrator".into())),
        (Some(Holder::User(user)), Access::Owner) => authorise_user(asked, user),
        (_, _) if open => Ok(Actor::User(String::new())),
        (Some(Holder::User(_)), _) => Err(forbidden()),
        (None, _) => Err(unauthorised()),
    }
}

/// The token of `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Whether two writings mean one user: scheme and, where one lacks it, domain do not count. The node checks again with the
/// canonical address; this only refuses early.
fn same_user(a: &str, b: &str) -> bool {
    let (a, b) = (split(a), split(b));
    a.0 == b.0 && (a.1 == b.1 || a.1.is_none() || b.1.is_none())
}

fn split(user: &str) -> (&str, Option<String>) {
    let user = user.strip_prefix("sip:").unwrap_or(user);
    match user.split_once('@') {
        Some((name, domain)) => (name, Some(domain.to_ascii_lowercase())),
        None => (user, None),
    }
}

/// Name and subject of a command for the audit; `None` for those that only read. No password can be in it.
pub fn audit_words(command: &Command) -> Option<(&'static str, String)> {
    let words = match command {
        Command::UserAdd { user, .. } => ("user-add", user.clone()),
        Command::UserRemove { user } => ("user-remove", user.clone()),
        Command::UserPassword { user, .. } => ("user-password", user.clone()),
        Command::UserImport { rows } => ("user-import", format!("{} rows", rows.len())),
        Command::RegistrationDrop { user, .. } => ("registration-drop", user.clone()),
        Command::ContactPut { user, .. } => ("contact-put", user.clone()),
        Command::ContactRemove { user, .. } => ("contact-remove", user.clone()),
        Command::SettingsPut { user, .. } => ("settings-put", user.clone()),
        Command::ServerDrain { server, seconds } => ("server-drain", format!("{server} deadline={seconds}s")),
        Command::ServerUndrain { server } => ("server-undrain", server.clone()),
        Command::ServerRestart { server } => ("server-restart", server.clone()),
        Command::PoolSync { pool } => ("pool-sync", pool.clone()),
        Command::PoolVerify { pool } => ("pool-verify", pool.clone()),
        Command::TopologyPublish { dry_run, .. } => ("topology-publish", format!("dry_run={dry_run}")),
        Command::PoolPair { a, b, .. } => ("pool-pair", format!("{a} {b}")),
        Command::PoolUnpair { a, b } => ("pool-unpair", format!("{a} {b}")),
        Command::PoolFailover { pool, disaster, dry_run, force, .. } => {
            ("pool-failover", format!("{pool} disaster={disaster} dry_run={dry_run} force={force}"))
        }
        Command::PoolFailback { pool, disaster, dry_run, force, .. } => {
            ("pool-failback", format!("{pool} disaster={disaster} dry_run={dry_run} force={force}"))
        }
        Command::PoolAssertActive { pool, .. } => ("pool-assert-active", pool.clone()),
        Command::GroupRecover { pool, groups, all, confirm, reason } => (
            "group-recover",
            format!(
                "{pool} groups={} all={all} confirm={} reason={}",
                groups.join(","),
                confirm.as_deref().unwrap_or("no"),
                reason.as_deref().unwrap_or("-")
            ),
        ),
        Command::GroupSurvive { group, order, .. } => ("group-survive", format!("{group} order={order}")),
        Command::PoolDivergence { pool, apply: true } => ("pool-divergence-apply", pool.clone()),
        Command::PoolDivergenceSettle { pool } => ("pool-divergence-settle", pool.clone()),
        Command::ManagementFailover { disaster, dry_run, force, .. } => {
            ("management-failover", format!("disaster={disaster} dry_run={dry_run} force={force}"))
        }
        Command::ProcedureResume { id } => ("procedure-resume", id.clone()),
        Command::ProcedureAbort { id, reclaim } => ("procedure-abort", format!("{id} reclaim={reclaim}")),
        Command::Fence { procedure, by, groups, .. } => {
            ("fence", format!("procedure={procedure} by={by} groups={}", groups.len()))
        }
        Command::FenceAnswer { .. } => ("fence-answer", String::new()),
        Command::UserList { .. }
        | Command::UserShow { .. }
        | Command::UserWhere { .. }
        | Command::UserProve { .. }
        | Command::RegistrationList { .. }
        | Command::ContactList { .. }
        | Command::SettingsGet { .. }
        | Command::PoolStatus
        | Command::PoolHealth { .. }
        | Command::GroupList { .. }
        | Command::GroupCopies
        | Command::PoolDivergence { apply: false, .. }
        | Command::ProcedureList
        | Command::ProcedureShow { .. }
        | Command::Preflight { .. }
        | Command::TopologyShow
        | Command::ServerStatus => return None,
    };
    Some(words)
}
