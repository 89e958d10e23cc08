//! Publishing a topology document: servers that come to a pool and go from it, policies, addresses.
//!
//! Owns the command, and when servers may go. What a document may say is topology's; what follows from a new one is `publish`'s.

use super::{health, pairing};
use crate::command::{Problem, Reply};
use crate::cx::TaskCx;
use crate::view::GroupHealthView;
use pairline_topology::model::Server;
use pairline_topology::publish::plan_publish;

/// Publishes a document, or only says what that would do.
pub async fn publish(cx: &TaskCx, document: &str, dry_run: bool) -> Result<Reply, Problem> {
    let new = pairline_topology::parse("the document", document).map_err(|errors| pairing::refused(&errors))?;
    let old = cx.with(|core| std::rc::Rc::clone(&core.topology));
    let plan = plan_publish(&old, &new).map_err(|errors| pairing::refused(&errors))?;
    cx.with(|core| crate::level::may_follow(core, &new))?;
    let own = cx.with(|core| core.pool);
    let gone: Vec<&Server> = old.voters_of(own).into_iter().filter(|server| new.server(server.id).is_none()).collect();
    if !gone.is_empty() {
        may_go(cx, &gone).await?;
    }
    let away =
        |server: &&Server| server.pool != own && new.server(server.id).is_none() && new.pool(server.pool).is_some();
    if let Some(server) = old.server.iter().find(away) {
        return Err(elsewhere(&old.pool_name(server.pool), &server.name));
    }
    if dry_run {
        return Ok(Reply::Text { text: plan.to_string() });
    }
    pairing::publish(cx, new).await
}

/// Only its own pool can say whether a server may go.
fn elsewhere(pool: &str, server: &str) -> Problem {
    let detail = format!("{server} would go from pool {pool}, and this server is of another one");
    Problem::new(
        409,
        "ask-its-pool",
        "its own pool has to be asked",
        detail,
        "name a server of that pool with --server",
    )
}

/// Servers may go where every group has its other copies, and none is on its way.
async fn may_go(cx: &TaskCx, gone: &[&Server]) -> Result<(), Problem> {
    let view = health::own(cx).await;
    let goes = |name: &String| {
        gone.iter().any(|server| server.name == *name || server.name.split('.').next() == Some(name.as_str()))
    };
    let fine = |group: &GroupHealthView| {
        let missing = group.missing.iter().chain(&group.behind).chain(group.stopped.iter().map(|(name, _)| name));
        matches!(group.state.as_str(), "fewer-copies" | "behind") && missing.into_iter().all(goes)
    };
    let troubled = view.troubled.iter().filter(|group| !fine(group)).count();
    if troubled == 0 {
        return Ok(());
    }
    Err(Problem::new(
        409,
        "copies-missing",
        "no server may go now",
        format!("{troubled} groups do not have all their other copies where they should be"),
        "wait until `pairline pool health` is healthy, but for what is missing at the server that goes",
    ))
}
