//! Pairing and unpairing running pools: a new topology, checked, planned, committed in the management store.
//!
//! Owns the command. The rules of pairing are topology's; what a server does with a new topology is `publish`'s.

use crate::command::{Problem, Reply};
use crate::core::Core;
use crate::cx::TaskCx;
use pairline_group::GroupId;
use pairline_group::io::{Done, GroupStatus, Proposal, Write, WriteClass};
use pairline_services::cx::Cx;
use pairline_topology::model::Pairing;
use pairline_topology::publish::plan_publish;
use pairline_topology::{ConfigError, Topology, stored};

/// Pairs two pools.
pub async fn pair(cx: &TaskCx, a: &str, b: &str, accept_unsupported: Option<String>) -> Result<Reply, Problem> {
    let (a, b) = (super::pool_named(cx, a)?, super::pool_named(cx, b)?);
    let new = cx.with(|core| {
        let mut new = (*core.topology).clone();
        new.pairing.push(Pairing { a, b, accept_unsupported });
        new
    });
    publish(cx, new).await
}

/// Ends a pairing.
pub async fn unpair(cx: &TaskCx, a: &str, b: &str) -> Result<Reply, Problem> {
    let (first, second) = (super::pool_named(cx, a)?, super::pool_named(cx, b)?);
    let new = cx.with(|core| {
        let mut new = (*core.topology).clone();
        let before = new.pairing.len();
        new.pairing.retain(|pairing| pairing.other(first) != Some(second));
        (new.pairing.len() != before).then_some(new)
    });
    if new.is_some() {
        let groups = crate::copies::of_pool(cx).await.statuses();
        cx.with(|core| may_unpair(core, &groups))?;
    }
    match new {
        Some(new) => publish(cx, new).await,
        None => Err(Problem::new(
            404,
            "not-paired",
            "not paired",
            format!("{a} and {b} are not paired"),
            "see `pairline pool status`",
        )),
    }
}

/// A pairing ends when both sides can learn of it and neither holds anything that only the pairing can bring home.
fn may_unpair(core: &Core, all: &[GroupStatus]) -> Result<(), Problem> {
    let moved = all.iter().filter(|group| !group.group.is_cms() && group.serving != group.group.pool).count();
    let tails: u64 = all.iter().map(|group| group.tail).sum();
    let refused = |kind: &str, detail: String, remedy: &str| {
        Err(Problem::new(409, kind, "the pairing cannot end now", detail, remedy))
    };
    if moved > 0 {
        let detail = format!("{moved} groups are served by the pool that is not their home");
        return refused("failed-over", detail, "fail back first (`pairline pool failback`), then unpair");
    }
    if tails > 0 {
        let detail = format!("{tails} entries of a divergent tail are not dealt with");
        return refused("tail-open", detail, "see `pairline pool divergence`, then unpair");
    }
    if core.procedures.busy() {
        return refused("procedure-running", "a procedure runs".to_owned(), "see `pairline procedure list`");
    }
    if core.partner().is_some_and(|partner| core.link_to(partner).is_none() || core.modes.away(partner)) {
        let remedy = "restore the link first: a pool that does not learn of it would go on as a partner";
        return refused("pool-unreachable", "the other pool does not answer".to_owned(), remedy);
    }
    Ok(())
}

/// Commits a new topology document.
pub async fn publish(cx: &TaskCx, new: Topology) -> Result<Reply, Problem> {
    let old = cx.with(|core| std::rc::Rc::clone(&core.topology));
    let plan = plan_publish(&old, &new).map_err(|errors| refused(&errors))?;
    let key = stored::topology_key();
    let based_on = cx.with(|core| core.host.get(GroupId::CMS, &key).map(|record| record.version));
    let value = stored::encode_topology(&plan.document);
    let proposal = Proposal {
        reads: vec![(key.clone(), based_on)],
        writes: vec![Write::Put { key, class: WriteClass::Durable, value }],
        ..Proposal::default()
    };
    match cx.commit(GroupId::CMS, proposal).await {
        Done::Refused(refusal) => Err(Problem::refused(&refusal)),
        Done::Committed(_) | Done::Duplicate(_) | Done::NoChange(_) => Ok(Reply::Text { text: plan.to_string() }),
    }
}

/// A document that breaks rules.
pub fn refused(errors: &[ConfigError]) -> Problem {
    let detail: Vec<String> = errors.iter().map(ToString::to_string).collect();
    Problem::new(
        409,
        "topology-refused",
        "the topology would not be valid",
        detail.join("; "),
        "mend what is named, or record why an unsupported pairing is accepted with --accept-unsupported",
    )
}
