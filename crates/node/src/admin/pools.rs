//! Status, sync and verification of pools and their pairing.
//!
//! Owns how per-group facts are summed up for people. The facts are replication's.

use crate::command::{Actor, Command, Problem, Reply};
use crate::core::{Core, WaitResult};
use crate::cx::TaskCx;
use crate::event::Level;
use crate::view::{PoolView, PoolsView, ShippingView, VerifyView};
use pairline_group::io::{ExportState, GroupStatus, HostInput, ImportState, Lag, Role};
use pairline_group::{GroupId, PoolId, Position};

/// How long a verification or a sync may take before it says so.
const SLOW_MS: u64 = 60_000;

/// Both directions, as far as they can be seen: the own side's facts, and the partner's while the link is up.
pub async fn status(cx: &TaskCx, passed_on: bool) -> Result<Reply, Problem> {
    let mut view = cx.with(|core| own_view(core));
    if !passed_on && let Some(Reply::Pools(theirs)) = super::ask_partner(cx, Command::PoolStatus).await {
        let partner = cx.with(|core| core.partner().map(|pool| core.topology.pool_name(pool)));
        merge(&mut view, theirs, &partner.unwrap_or_default());
    }
    Ok(Reply::Pools(view))
}

fn own_view(core: &Core) -> PoolsView {
    let groups: Vec<GroupStatus> = core.host.groups().into_iter().filter_map(|id| core.host.group(id)).collect();
    PoolsView {
        seen_by: core.topology.server(core.config.server).map(|server| server.name.clone()).unwrap_or_default(),
        pools: core.topology.pool.iter().map(|pool| pool_view(core, pool.id, &groups)).collect(),
        shipping: shipping(core, &groups),
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
    let mut rows = Vec::new();
    for (module, is_cms) in [("user-data", false), ("management-store", true)] {
        for source in [core.pool, partner] {
            let of: Vec<&GroupStatus> =
                groups.iter().filter(|group| group.group.is_cms() == is_cms && group.serving == source).collect();
            let target = if source == core.pool { partner } else { core.pool };
            rows.push(row(core, module, source, target, &of));
        }
    }
    rows
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
    let named: Vec<String> = theirs.alarms.into_iter().map(|alarm| format!("{}: {alarm}", theirs.seen_by)).collect();
    ours.alarms.extend(named);
}

/// Waits until the partner has acknowledged all that this pool had committed when the command came.
pub async fn sync(cx: &TaskCx, pool: &str) -> Result<Reply, Problem> {
    let wanted: Vec<(GroupId, u64)> = cx.with(|core| {
        let active = core.host.groups().into_iter().filter_map(|id| core.host.group(id));
        active.filter(|group| group.role == Role::Active).map(|group| (group.group, group.position.seq)).collect()
    });
    let until = cx.with(|core| core.now.mono) + SLOW_MS;
    loop {
        let behind = cx.with(|core| {
            let short = |(group, seq): &&(GroupId, u64)| {
                core.host
                    .group(*group)
                    .is_none_or(|status| status.position.seq.saturating_sub(status.behind_entries) < *seq)
            };
            wanted.iter().filter(short).count()
        });
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

/// Compares both copies of all groups of a pool.
pub async fn verify(cx: &TaskCx, pool: &str) -> Result<Reply, Problem> {
    let home = super::pool_named(cx, pool)?;
    if cx.with(|core| core.partner().is_none() || core.topology.partner(home).is_none()) {
        let detail = format!("pool {pool} has no partner, so there is no other copy to compare with");
        return Err(Problem::new(409, "not-paired", "not paired", detail, "pair it first: `pairline pool pair A B`"));
    }
    let groups: Vec<GroupId> = cx.with(|core| {
        let with_cms = core.topology.deployment.management_store == home;
        core.host.groups().into_iter().filter(|group| group.pool == home || (with_cms && group.is_cms())).collect()
    });
    let mut waits = Vec::new();
    for group in groups {
        let wait = cx.start_wait(15_000);
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
    Ok(Reply::Verify(view))
}

fn unequal(view: &mut VerifyView, group: GroupId, position: Position, ranges: Vec<u16>) {
    view.unequal.push((group.to_string(), position.to_string(), ranges));
}

/// The administrator asserts that this pool holds the current epochs.
pub async fn assert_active(cx: &TaskCx, actor: &Actor, pool: &str, reason: Option<String>) -> Result<Reply, Problem> {
    let home = super::pool_named(cx, pool)?;
    if home != cx.with(|core| core.pool) {
        return Err(Problem::unreachable(pool));
    }
    let waiting = cx.with(|core| unconfirmed(core));
    if waiting == 0 {
        return Err(Problem::new(
            409,
            "nothing-to-assert",
            "nothing to assert",
            format!("every group that pool {pool} holds as active is confirmed already"),
            "see `pairline pool status`",
        ));
    }
    let left = cx.with(|core| {
        let who = format!("{actor:?}");
        let why = reason.unwrap_or_else(|| "no reason given".to_owned());
        core.event(Level::Warn, "assert-active", format!("{who} asserts that pool {pool} is current: {why}"));
        let now = core.now;
        core.host.handle(now, HostInput::AssertActive);
        crate::modes::ownership_changed(core);
        unconfirmed(core)
    });
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

/// Groups that this pool holds as active and that nobody has confirmed since the restart.
fn unconfirmed(core: &Core) -> usize {
    let all = core.host.groups().into_iter().filter_map(|id| core.host.group(id));
    all.filter(|group| group.role == Role::Active && !group.confirmed).count()
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
