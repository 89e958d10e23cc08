//! Orders to stand down: the partner's disaster procedure asks this pool to stop serving before it promotes its copies.
//!
//! Owns the order's form, its proof and its execution here. It comes over the link, whose other end is known, or by the
//! admin API, where the deployment's secret proves it. That a group is really fenced is replication's matter.

use crate::command::{Actor, Command, Problem, Reply};
use crate::core::{Core, TicketOwner, WaitResult};
use crate::cx::TaskCx;
use crate::orders::{self, Order};
use pairline_group::io::{Done, GroupStatus};
use pairline_group::{Epoch, GroupId, PoolId};
use pairline_services::join::join_all;

/// Most groups of one order: every group that a pair can have.
const MOST_GROUPS: usize = 4_096;

/// One group of an order, with the epoch up to which it is meant: an order that comes late, after the group has come home,
/// names an older one and is refused.
fn word(group: GroupId, epoch: Epoch) -> String {
    format!("{}/{}@{}.{}", group.pool.0, group.index, epoch.number, epoch.granted_by.0)
}

fn read(word: &str) -> Option<(GroupId, Epoch)> {
    let (group, epoch) = word.split_once('@')?;
    let (pool, index) = group.split_once('/')?;
    let (number, granted_by) = epoch.split_once('.')?;
    let group = GroupId { pool: PoolId(pool.parse().ok()?), index: index.parse().ok()? };
    Some((group, Epoch { number: number.parse().ok()?, granted_by: PoolId(granted_by.parse().ok()?) }))
}

/// The order of a procedure that runs here: its groups, with their epochs as they are known in this pool.
pub fn order(core: &Core, procedure: u128, groups: &[GroupId], known: &[GroupStatus]) -> Command {
    let wanted = known.iter().filter(|status| groups.contains(&status.group));
    let words = wanted.map(|status| word(status.group, status.epoch));
    let (procedure, by, groups) = (format!("{procedure:032x}"), core.pool.0, words.collect::<Vec<String>>());
    let proof = proof(core, &procedure, by, &groups);
    Command::Fence { procedure, by, groups, proof }
}

/// What only a server of the deployment can know. An order is harmless when it is replayed: it names the epochs.
fn proof(core: &Core, procedure: &str, by: u16, groups: &[String]) -> String {
    let key = blake3::derive_key("pairline 2026 order to stand down v1", &core.config.secrets.sealing_key.0);
    let mut hasher = blake3::Hasher::new_keyed(&key);
    for part in [procedure, &by.to_string()].into_iter().chain(groups.iter().map(String::as_str)) {
        hasher.update(part.as_bytes());
        hasher.update(b"\n");
    }
    hasher.finalize().to_hex().to_string()
}

/// Whether an order may be carried out: it comes over the link, or proves that it is of this deployment.
pub fn may(core: &Core, actor: &Actor, command: &Command) -> bool {
    let Command::Fence { procedure, by, groups, proof: shown } = command else { return false };
    // Hashes compare in constant time; an unreadable one is no proof.
    let proven =
        || blake3::Hash::from_hex(proof(core, procedure, *by, groups)).ok() == blake3::Hash::from_hex(shown).ok();
    *actor == Actor::Server || proven()
}

/// Carries out an order; the answer comes when every group's fence is on disk.
pub async fn execute(cx: &TaskCx, procedure: &str, by: u16, groups: &[String]) -> Result<Reply, Problem> {
    let known: Option<Vec<(GroupId, Epoch)>> = groups.iter().map(|text| read(text)).collect();
    let known = known.filter(|all| !all.is_empty() && all.len() <= MOST_GROUPS).ok_or_else(unreadable)?;
    let known: Vec<(GroupId, Epoch)> = match cx.with(|core| crate::config::planted!(core.config, FenceAtAskedOnly)) {
        true => known.into_iter().filter(|(group, _)| cx.with(|core| core.is_led_here(*group))).collect(),
        false => known,
    };
    let by = PoolId(by);
    let name = cx.with(|core| core.topology.pool_name(by));
    let refused = match cx.with(|core| crate::neighbours::has_several(core)) {
        true => at_leaders(cx, by, &known).await,
        false => here(cx, by, &known).await,
    };
    let stood = known.len() - refused.len();
    cx.with(|core| {
        core.alarm(
            "stood-down",
            format!("{stood} groups stopped serving here by order of procedure {procedure} at {name}"),
        );
        crate::modes::mark_changed(core);
    });
    match refused.first() {
        None => Ok(Reply::Ok { message: format!("{stood} groups have stopped serving") }),
        Some(first) => Err(Problem::new(
            409,
            "not-fenced",
            "some groups go on",
            format!("{stood} groups have stopped serving, {} have not: {first}", refused.len()),
            "switch the pool off before its groups are promoted elsewhere",
        )),
    }
}

/// All at once: the fences of one server's groups reach the disk together.
async fn here(cx: &TaskCx, by: PoolId, known: &[(GroupId, Epoch)]) -> Vec<String> {
    let order = |(group, epoch): &(GroupId, Epoch)| {
        cx.with(|core| {
            let wait = core.fresh();
            orders::here(core, TicketOwner::Task(cx.task(), wait), *group, Order::Fence { epoch: *epoch, by });
            wait
        })
    };
    let waits: Vec<u64> = known.iter().map(order).collect();
    let mut refused = Vec::new();
    for (wait, (group, _)) in waits.into_iter().zip(known) {
        if let WaitResult::Done(Done::Refused(refusal)) = cx.wait(wait).await {
            refused.push(format!("{group}: {refusal}"));
        }
    }
    refused
}

/// Each by whoever leads the group. A group without a leader cannot be fenced, and may have one again.
async fn at_leaders(cx: &TaskCx, by: PoolId, known: &[(GroupId, Epoch)]) -> Vec<String> {
    let each = known.iter().map(|(group, epoch)| {
        let order = Order::Fence { epoch: *epoch, by };
        async move { (*group, orders::at_leader(cx, *group, order).await) }
    });
    let ended = join_all(each.collect()).await;
    let refused = |(group, done)| match done {
        Done::Refused(refusal) => Some(format!("{group}: {refusal}")),
        _ => None,
    };
    ended.into_iter().filter_map(refused).collect()
}

/// What a server's admin API answered to an order is told to the procedure that gave it.
pub fn answered(cx: &TaskCx, id: u64, alive: bool, fenced: bool) -> Reply {
    cx.with(|core| crate::procedures::fence_answer(core, id, alive, fenced));
    Reply::Ok { message: "noted".to_owned() }
}

fn unreadable() -> Problem {
    Problem::new(
        400,
        "order-unreadable",
        "the order cannot be read",
        "an order names groups as pool/index@epoch.granted-by",
        "orders are given by procedures, see `pairline pool failover --disaster`",
    )
}
