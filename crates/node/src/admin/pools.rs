//! Status, sync and verification of pools and their pairing.
//!
//! Owns how per-group facts are summed up for people. The facts are replication's.

use super::Passed;
use crate::command::{Actor, Command, Problem, Reply};
use crate::copies;
use crate::core::{Core, WaitResult};
use crate::cx::TaskCx;
use crate::event::Level;
use crate::view::{PoolView, PoolsView, ShippingView, VerifyView};
use pairline_group::io::{ExportState, GroupStatus, HostInput, ImportState, Lag, Role};
use pairline_group::{GroupId, PoolId, Position};
use pairline_services::join::join_all;
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;

/// How long a verification or a sync may take before it says so.
const SLOW_MS: u64 = 60_000;

/// How long another server of the pool may take to tell its part.
const PART_MS: u64 = 1_000;

/// How long the partner may take to compare one group.
const VERIFY_MS: u64 = 15_000;

/// What servers of the pool are asked at one time: this one, and the others.
type Part<'a> = Pin<Box<dyn Future<Output = Vec<Result<Reply, Problem>>> + 'a>>;

/// Both directions, as far as they can be seen: the own side's facts, and the partner's while the link is up.
pub async fn status(cx: &TaskCx, passed: Passed) -> Result<Reply, Problem> {
    let groups = match passed {
        Passed::ByServer => cx.with(|core| crate::modes::statuses(core)),
        _ => copies::of_pool(cx).await.statuses(),
    };
    let mut view = cx.with(|core| own_view(core, &groups));
    if passed != Passed::Not {
        // Who puts the parts together has to say whose each alarm is.
        let seen_by = view.seen_by.clone();
        view.alarms.iter_mut().for_each(|alarm| *alarm = format!("{seen_by}: {alarm}"));
    }
    if passed == Passed::ByServer {
        return Ok(Reply::Pools(view));
    }
    for theirs in super::ask_neighbours(cx, &Actor::Server, &Command::PoolStatus, PART_MS).await {
        if let Ok(Reply::Pools(theirs)) = theirs {
            view.alarms.extend(theirs.alarms);
        }
    }
    if passed == Passed::Not
        && let Some(Reply::Pools(theirs)) = super::ask_partner(cx, Command::PoolStatus).await
    {
        let partner = cx.with(|core| core.partner().map(|pool| core.topology.pool_name(pool)));
        merge(&mut view, theirs, &partner.unwrap_or_default());
    }
    Ok(Reply::Pools(view))
}

fn own_view(core: &Core, groups: &[GroupStatus]) -> PoolsView {
    PoolsView {
        seen_by: core.topology.server(core.config.server).map(|server| server.name.clone()).unwrap_or_default(),
        pools: core.topology.pool.iter().map(|pool| pool_view(core, pool.id, groups)).collect(),
        shipping: shipping(core, groups),
        exclusions: exclusions(),
        alarms: core.alarms.iter().map(|(_, text)| text.clone()).collect(),
    }
}

fn pool_view(core: &Core, pool: PoolId, groups: &[GroupStatus]) -> PoolView {
    let topology = &core.topology;
    let document = topology.pool(pool);
    let here = pool == core.pool;
    // Of itself a pool says only what it can do now: after a restart it serves nothing before it has heard its partner.
    let serves = |group: &&GroupStatus| {
        group.serving == pool && (!here || (group.role == Role::Active && group.confirmed && group.stopped.is_none()))
    };
    let own = groups.iter().filter(|group| group.group.pool == pool).filter(serves).count();
    let others = groups.iter().filter(|group| group.group.pool != pool && !group.group.is_cms()).filter(serves).count();
    let mut mode = core.modes.describe(pool, core.now.mono);
    if !here && core.partner() != Some(pool) {
        mode.name = "not paired".to_owned();
        mode.reason = "no heartbeats are exchanged with it".to_owned();
    }
    PoolView {
        name: topology.pool_name(pool),
        fqdn: document.map(|pool| pool.fqdn.clone()).unwrap_or_default(),
        site: document.map(|pool| pool.site.clone()).unwrap_or_default(),
        partner: topology.partner(pool).map(|partner| partner.name.clone()),
        mode: mode.name,
        mode_reason: mode.reason,
        mode_since: mode.since_ms / 1_000,
        alive: here || (core.link_to(pool).is_some() && !core.modes.away(pool)),
        serving_own: u32::try_from(own).unwrap_or(u32::MAX),
        serving_partner: u32::try_from(others).unwrap_or(u32::MAX),
        groups: document.map_or(0, |pool| u32::from(pool.routing_groups)),
        management_store: groups.iter().filter(|group| group.group.is_cms()).any(|group| serves(&group)),
        tail: if here { groups.iter().map(|group| group.tail).sum() } else { 0 },
        epoch: groups
            .iter()
            .filter(|group| group.group.pool == pool)
            .map(|group| group.epoch.number)
            .max()
            .unwrap_or(0),
    }
}

fn shipping(core: &Core, groups: &[GroupStatus]) -> Vec<ShippingView> {
    let Some(partner) = core.partner() else { return Vec::new() };
    let owed = [core.pool, partner].into_iter().flat_map(|pool| core.topology.groups_of(pool));
    let all = are_all_known(owed, groups);
    let mut rows = Vec::new();
    for (module, is_cms) in [("user-data", false), ("management-store", true)] {
        for source in [core.pool, partner] {
            let of: Vec<&GroupStatus> =
                groups.iter().filter(|group| group.group.is_cms() == is_cms && group.serving == source).collect();
            let target = if source == core.pool { partner } else { core.pool };
            let row = row(core, module, source, target, &of);
            // How far behind a group is of which nobody has told is not known: the others do not speak for it.
            rows.push(if all || is_cms { row } else { ShippingView { lag_seconds: None, ..row } });
        }
    }
    rows
}

/// Whether some server has told of each of these groups.
fn are_all_known(mut owed: impl Iterator<Item = GroupId>, groups: &[GroupStatus]) -> bool {
    let known: BTreeSet<GroupId> = groups.iter().map(|status| status.group).collect();
    owed.all(|group| known.contains(&group))
}

fn row(core: &Core, module: &str, source: PoolId, target: PoolId, groups: &[&GroupStatus]) -> ShippingView {
    let here = source == core.pool;
    let relevant: Vec<&&GroupStatus> = groups.iter().filter(|group| (group.role == Role::Active) == here).collect();
    let lag = worst_lag(relevant.iter().map(|group| group.lag));
    let export = worst_export(relevant.iter().map(|group| group.export));
    let import = if relevant.iter().any(|group| group.import == ImportState::Error) { "error" } else { "normal" };
    let verified: Vec<u64> = relevant.iter().filter_map(|group| group.verified.map(|(_, at)| at)).collect();
    let seeds: Vec<(u64, u64)> = relevant.iter().filter_map(|group| group.seed).collect();
    ShippingView {
        from: core.topology.pool_name(source),
        to: core.topology.pool_name(target),
        module: module.to_owned(),
        export: if here { export_word(export).to_owned() } else { String::new() },
        import: if here { String::new() } else { import.to_owned() },
        lag_seconds: lag.0,
        lag_is_bound: lag.1,
        behind_entries: relevant.iter().map(|group| group.behind_entries).sum(),
        behind_bytes: relevant.iter().map(|group| group.behind_bytes).sum(),
        seed: seeds.into_iter().reduce(|a, b| (a.0 + b.0, a.1 + b.1)),
        verified_groups: (u32::try_from(verified.len()).unwrap_or(0), u32::try_from(relevant.len()).unwrap_or(0)),
        verified_at: verified.into_iter().min(),
    }
}

/// Seconds of the worst lag (`None`: unknown), and whether it is a bound.
fn worst_lag(lags: impl Iterator<Item = Lag>) -> (Option<f64>, bool) {
    let mut worst: Option<u64> = Some(0);
    let mut bound = false;
    let mut any = false;
    for lag in lags {
        any = true;
        match lag {
            Lag::Unknown => worst = None,
            Lag::Exactly(ms) => worst = worst.map(|so_far| so_far.max(ms)),
            Lag::AtMost(ms) => {
                bound = true;
                worst = worst.map(|so_far| so_far.max(ms));
            }
        }
    }
    let millis = if any { worst } else { None };
    (millis.map(|ms| std::time::Duration::from_millis(ms).as_secs_f64()), bound)
}

fn worst_export(states: impl Iterator<Item = ExportState>) -> ExportState {
    let rank = |state: &ExportState| match state {
        ExportState::Error => 4,
        ExportState::NotInitialised => 3,
        ExportState::NonSteady => 2,
        ExportState::Steady => 1,
        ExportState::Final => 0,
    };
    states.max_by_key(rank).unwrap_or(ExportState::NotInitialised)
}

fn export_word(state: ExportState) -> &'static str {
    match state {
        ExportState::NotInitialised => "not-initialised",
        ExportState::Steady => "steady",
        ExportState::NonSteady => "non-steady",
        ExportState::Final => "final",
        ExportState::Error => "error",
    }
}

/// Completes this side's view by the partner's: each pool's own word counts for what it serves.
fn merge(ours: &mut PoolsView, theirs: PoolsView, partner: &str) {
    for row in &mut ours.shipping {
        let Some(other) =
            theirs.shipping.iter().find(|o| o.from == row.from && o.to == row.to && o.module == row.module)
        else {
            continue;
        };
        if row.export.is_empty() {
            row.export.clone_from(&other.export);
            row.lag_seconds = other.lag_seconds;
            row.lag_is_bound = other.lag_is_bound;
            row.behind_entries = other.behind_entries;
            row.behind_bytes = other.behind_bytes;
            row.verified_groups = other.verified_groups;
            row.verified_at = other.verified_at;
        }
        if row.import.is_empty() {
            row.import.clone_from(&other.import);
        }
        row.seed = row.seed.or(other.seed);
    }
    for pool in &mut ours.pools {
        if let Some(other) = theirs.pools.iter().find(|other| other.name == pool.name)
            && theirs.seen_by != ours.seen_by
        {
            pool.tail = pool.tail.max(other.tail);
            if pool.name == partner {
                pool.serving_own = other.serving_own;
                pool.serving_partner = other.serving_partner;
                pool.management_store = other.management_store;
            }
        }
    }
    ours.alarms.extend(theirs.alarms);
}

/// Waits until the partner has acknowledged all that this pool had committed when the command came.
pub async fn sync(cx: &TaskCx, pool: &str) -> Result<Reply, Problem> {
    let active = copies::of_pool(cx).await.statuses().into_iter().filter(|group| group.role == Role::Active);
    let wanted: Vec<(GroupId, u64)> = active.map(|group| (group.group, group.position.seq)).collect();
    let until = cx.with(|core| core.now.mono) + SLOW_MS;
    loop {
        let now = copies::of_pool(cx).await.copies;
        // What a copy says that only follows is not what the partner has.
        let has = |(group, seq): &&(GroupId, u64)| {
            now.iter().any(|copy| {
                let status = &copy.status;
                status.group == *group
                    && copy.leads
                    && status.position.seq.saturating_sub(status.behind_entries) >= *seq
            })
        };
        let behind = wanted.iter().filter(|wanted| !has(wanted)).count();
        if behind == 0 {
            return Ok(Reply::Ok {
                message: format!("the partner of {pool} has everything that was committed before this command"),
            });
        }
        if cx.with(|core| core.now.mono) >= until {
            return Err(Problem::timeout(&format!("shipping of {behind} groups of pool {pool}")));
        }
        cx.sleep(50).await;
    }
}

/// Compares both copies of all groups of a pool: each server those that it leads.
pub async fn verify(cx: &TaskCx, pool: &str, passed: Passed) -> Result<Reply, Problem> {
    let home = super::pool_named(cx, pool)?;
    if cx.with(|core| core.partner().is_none() || core.topology.partner(home).is_none()) {
        let detail = format!("pool {pool} has no partner, so there is no other copy to compare with");
        return Err(Problem::new(409, "not-paired", "not paired", detail, "pair it first: `pairline pool pair A B`"));
    }
    if passed == Passed::ByServer {
        return Ok(Reply::Verify(verify_here(cx, home, pool).await));
    }
    let command = Command::PoolVerify { pool: pool.to_owned() };
    let theirs = super::ask_neighbours(cx, &Actor::Server, &command, VERIFY_MS + PART_MS);
    let here: Part<'_> = Box::pin(async { vec![Ok(Reply::Verify(verify_here(cx, home, pool).await))] });
    let mut view = VerifyView { pool: pool.to_owned(), ..VerifyView::default() };
    for part in join_all(vec![here, Box::pin(theirs)]).await.into_iter().flatten() {
        if let Ok(Reply::Verify(part)) = part {
            view.groups += part.groups;
            view.equal += part.equal;
            view.unequal.extend(part.unequal);
            view.skipped.extend(part.skipped);
        }
    }
    not_led(&mut view, cx.with(|core| groups_of(core, home)).len());
    Ok(Reply::Verify(view))
}

/// Groups that nobody compared.
fn not_led(view: &mut VerifyView, all: usize) {
    let all = u32::try_from(all).unwrap_or(u32::MAX);
    let missing = all.saturating_sub(view.groups);
    if missing > 0 {
        view.groups = all;
        let why = "no server of the pool that answers leads them".to_owned();
        view.skipped.push((format!("{missing} groups"), why));
    }
}

/// The groups at home in a pool, and the management store if that is its.
fn groups_of(core: &Core, home: PoolId) -> Vec<GroupId> {
    let mut groups = core.topology.groups_of(home);
    groups.extend((core.topology.deployment.management_store == home).then_some(GroupId::CMS));
    groups
}

async fn verify_here(cx: &TaskCx, home: PoolId, pool: &str) -> VerifyView {
    let several = cx.with(|core| crate::neighbours::has_several(core));
    let groups: Vec<GroupId> = cx.with(|core| {
        let here = groups_of(core, home).into_iter().filter(|group| core.host.role(*group).is_some());
        here.filter(|group| !several || core.is_led_here(*group)).collect()
    });
    let mut waits = Vec::new();
    for group in groups {
        let wait = cx.start_wait(VERIFY_MS);
        cx.with(|core| {
            core.verifying.entry(group).or_default().push((cx.task(), wait));
            let now = core.now;
            core.host.handle(now, HostInput::Verify { group });
        });
        waits.push((group, wait));
    }
    let mut view = VerifyView { pool: pool.to_owned(), ..VerifyView::default() };
    for (group, wait) in waits {
        view.groups += 1;
        match cx.wait(wait).await {
            WaitResult::Verified(_, true, _) => view.equal += 1,
            WaitResult::Verified(position, false, ranges) => unequal(&mut view, group, position, ranges),
            _ => view.skipped.push((group.to_string(), "the partner did not answer in time".to_owned())),
        }
    }
    view
}

fn unequal(view: &mut VerifyView, group: GroupId, position: Position, ranges: Vec<u16>) {
    view.unequal.push((group.to_string(), position.to_string(), ranges));
}

/// The administrator asserts that this pool holds the current epochs.
pub async fn assert_active(
    cx: &TaskCx,
    actor: &Actor,
    pool: &str,
    reason: Option<String>,
    passed: Passed,
) -> Result<Reply, Problem> {
    let home = super::pool_named(cx, pool)?;
    if home != cx.with(|core| core.pool) {
        return Err(Problem::unreachable(pool));
    }
    let waiting = copies::of_pool(cx).await.copies.iter().filter(|copy| is_unconfirmed(&copy.status)).count();
    let why = reason.clone().unwrap_or_else(|| "no reason given".to_owned());
    if passed == Passed::ByServer {
        cx.with(|core| assert_here(core, actor, pool, &why));
        return Ok(Reply::Ok { message: "asserted".to_owned() });
    }
    if waiting == 0 {
        return Err(Problem::new(
            409,
            "nothing-to-assert",
            "nothing to assert",
            format!("every group that pool {pool} holds as active is confirmed already"),
            "see `pairline pool status`",
        ));
    }
    cx.with(|core| assert_here(core, actor, pool, &why));
    let command = Command::PoolAssertActive { pool: pool.to_owned(), reason };
    super::ask_neighbours(cx, actor, &command, PART_MS).await;
    let left = copies::of_pool(cx).await.copies.iter().filter(|copy| is_unconfirmed(&copy.status)).count();
    asserted(pool, waiting, left)
}

fn assert_here(core: &mut Core, actor: &Actor, pool: &str, why: &str) {
    core.event(Level::Warn, "assert-active", format!("{actor:?} asserts that pool {pool} is current: {why}"));
    let now = core.now;
    core.host.handle(now, HostInput::AssertActive);
    crate::modes::ownership_changed(core);
}

fn asserted(pool: &str, waiting: usize, left: usize) -> Result<Reply, Problem> {
    let asserted = waiting.saturating_sub(left);
    let behind = format!("{left} groups stay as they are: the partner is known to have more of them than this disk");
    if asserted == 0 {
        return Err(Problem::new(
            409,
            "partner-has-more",
            "the partner has more",
            behind,
            "let the link come up: they catch up by themselves; if the partner is lost, `pairline pool failback --disaster`",
        ));
    }
    let rest = if left == 0 { String::new() } else { format!("; {behind}") };
    Ok(Reply::Ok {
        message: format!(
            "{asserted} groups of pool {pool} are active again by assertion{rest}; if the partner was promoted meanwhile, what is \
             written from now on becomes a divergent tail"
        ),
    })
}

/// Whether this pool holds a group as active that nobody has confirmed since the restart.
fn is_unconfirmed(status: &GroupStatus) -> bool {
    status.role == Role::Active && !status.confirmed
}

/// What is not replicated, in words: shown by status, in plans and in reports.
pub fn exclusions() -> Vec<String> {
    [
        "open connections of clients and transactions under way (clients connect again, calls keep their sound)",
        "digest nonce counts (a nonce of the other server is answered with stale=true)",
        "logs, events and metrics of each server",
    ]
    .map(str::to_owned)
    .to_vec()
}
