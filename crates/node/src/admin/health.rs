//! Health of a pool's servers and copies: who is up, who leads what, which groups have a majority, what may fail now.
//!
//! Owns the asking: the answering server asks the others of its pool for their parts, all at once. What follows from the parts is
//! [`judge`]'s; the facts are replication's.

mod judge;

pub use judge::{Heard, Sight, judge};

use crate::command::{Actor, Command, Problem, Reply};
use crate::core::{Core, WaitResult};
use crate::cx::TaskCx;
use crate::io::Output;
use crate::peer::PeerFrame;
use crate::view::{CopyView, HealthView, PoolHealthView};
use bytes::Bytes;
use pairline_group::{GroupId, LinkId, PoolId, ServerId};
use std::collections::BTreeMap;

/// How long another server of the pool may take to tell its part; a frozen one takes longer and counts as not up.
const PART_MS: u64 = 1_000;
/// How long another pool may take: it asks its servers first.
const POOL_MS: u64 = 2_500;

/// Health of one pool, or of all; `part`: only what this server has, for a neighbour that puts the parts together.
pub async fn execute(cx: &TaskCx, pool: Option<&str>, part: bool, passed_on: bool) -> Result<Reply, Problem> {
    if part {
        return Ok(Reply::HealthPart { copies: cx.with(|core| copies(core)) });
    }
    let wanted: Vec<PoolId> = match pool {
        Some(name) => vec![super::pool_named(cx, name)?],
        None => cx.with(|core| core.topology.pool.iter().map(|pool| pool.id).collect()),
    };
    let mut pools = Vec::new();
    for pool in wanted {
        match cx.with(|core| core.pool == pool) {
            true => pools.push(own(cx).await),
            false if passed_on => {}
            false => pools.push(other(cx, pool).await),
        }
    }
    let seen_by = cx.with(|core| core.topology.server(core.config.server).map(|s| s.name.clone()).unwrap_or_default());
    Ok(Reply::Health(HealthView { seen_by, pools }))
}

/// The copies of this server and what it knows of them.
fn copies(core: &Core) -> Vec<CopyView> {
    let all = core.host.groups().into_iter().filter_map(|id| core.host.group(id));
    all.map(|status| {
        let replicas = core.host.replicas(status.group);
        let leads = core.host.leads(status.group);
        let voters = replicas.iter().filter(|replica| leads && replica.voter).map(|replica| replica.server.0).collect();
        CopyView {
            pool: status.group.pool.0,
            index: status.group.index,
            leads,
            sequence: status.position.seq,
            behind: replicas.iter().map(|replica| (replica.server.0, replica.behind)).collect(),
            voters,
            stopped: status.stopped.map(String::from),
        }
    })
    .collect()
}

/// The own pool, from what its servers say.
pub async fn own(cx: &TaskCx) -> PoolHealthView {
    let command = Command::PoolHealth { pool: None, part: true };
    let (me, others) = cx.with(|core| {
        let links: BTreeMap<ServerId, LinkId> = core.links.iter().map(|(id, link)| (link.server, *id)).collect();
        let servers = core.topology.voters_of(core.pool).into_iter().map(|server| server.id);
        let me = core.config.server;
        (me, servers.filter(|id| *id != me).map(|id| (id, links.get(&id).copied())).collect::<Vec<_>>())
    });
    let asked: Vec<(ServerId, Option<u64>)> =
        others.into_iter().map(|(id, link)| (id, link.and_then(|link| ask(cx, link, &command, PART_MS)))).collect();
    let mut heard = BTreeMap::from([(me, Heard::Says(cx.with(|core| copies(core))))]);
    for (server, wait) in asked {
        let answer = match wait {
            None => Heard::NoLink,
            Some(wait) => match cx.wait(wait).await {
                WaitResult::Reply(reply) => match *reply {
                    Ok(Reply::HealthPart { copies }) => Heard::Says(copies),
                    _ => Heard::Silent,
                },
                _ => Heard::Silent,
            },
        };
        heard.insert(server, answer);
    }
    cx.with(|core| judge(&sight(core, heard)))
}

fn sight(core: &Core, heard: BTreeMap<ServerId, Heard>) -> Sight {
    let mut groups = core.topology.groups_of(core.pool);
    groups.extend((core.topology.deployment.management_store == core.pool).then_some(GroupId::CMS));
    Sight {
        pool: core.topology.pool_name(core.pool),
        partner: core.partner().map(|pool| core.topology.pool_name(pool)),
        servers: core.topology.voters_of(core.pool).iter().map(|server| (server.id, server.name.clone())).collect(),
        front_ends: core.topology.front_ends(core.pool),
        witness: core.topology.witness_of(core.pool).map(|server| server.id),
        groups,
        heard,
    }
}

/// Another pool, as one of its servers says; unknown if none does.
async fn other(cx: &TaskCx, pool: PoolId) -> PoolHealthView {
    let (name, link) = cx.with(|core| (core.topology.pool_name(pool), core.link_to(pool)));
    let command = Command::PoolHealth { pool: Some(name.clone()), part: false };
    let wait = link.and_then(|link| ask(cx, link, &command, POOL_MS));
    if let Some(wait) = wait
        && let WaitResult::Reply(reply) = cx.wait(wait).await
        && let Ok(Reply::Health(view)) = *reply
        && let Some(theirs) = view.pools.into_iter().find(|view| view.pool == name)
    {
        return theirs;
    }
    let why = if link.is_some() { "does not answer" } else { "has no link to here" };
    PoolHealthView {
        survives: format!("unknown: pool {name} {why}"),
        next: vec![format!("ask a server of pool {name} itself, with --server")],
        state: "unknown".to_owned(),
        pool: name,
        ..PoolHealthView::default()
    }
}

/// Sends a command on a link; the number of the wait for its answer.
fn ask(cx: &TaskCx, link: LinkId, command: &Command, millis: u64) -> Option<u64> {
    let command = Bytes::from(serde_json::to_vec(command).ok()?);
    let call = cx.start_wait(millis);
    let frame = PeerFrame::Command { call, actor: Actor::Server, command }.encode();
    cx.with(|core| core.out.push_back(Output::PeerFrame { link, frame }));
    Some(call)
}
