//! Failover, failback and the management store: observe, plan, start, watch, resume, abort.
//!
//! Owns the commands. Preflight, planner and runner are `resilience`'s; this file gathers what they look at and shows what
//! they say.

use super::Passed;
use crate::command::{Actor, Command, Problem, Reply};
use crate::copies;
use crate::core::{Core, WaitResult};
use crate::cx::TaskCx;
use crate::neighbours;
use crate::peer::PeerFrame;
use crate::place;
use crate::procedures;
use crate::view::{FindingView, PlanView, ProcedureView, ReportView};
use pairline_group::io::GroupStatus;
use pairline_group::{GroupId, PoolId, ServerId};
use pairline_resilience::journal::{self, Procedure, ProcedureState};
use pairline_resilience::plan::{Command as Order, Plan};
use pairline_resilience::planner::{self, Refused};
use pairline_resilience::preflight::{self, Finding, GroupSight, Observed, PoolSight, RunningProcedure, Verdict};
use pairline_resilience::report::Report;
use pairline_resilience::runner::{Event, Runner, StartError};
use pairline_services::cx::Peer;

/// How long a command waits for its procedure before it answers that it goes on.
const WATCH_MS: u64 = 2_000;

/// How long an abort waits for the end: what was asked is awaited first, up to the runner's bound.
const ABORT_WATCH_MS: u64 = 5_000;

/// The servers that execute a command of this family: in the pool that runs the procedure, the one where it runs; else the one that
/// leads the pool's copies of the management store, where the journal is at hand.
pub async fn place_of_work(cx: &TaskCx, command: &Command) -> Result<Option<Peer>, Problem> {
    let pool = match command {
        Command::ProcedureResume { id } | Command::ProcedureAbort { id, .. } if runs_here(cx, id).await => {
            cx.with(|core| core.pool)
        }
        _ => match pool_of_work(cx, command)? {
            Some(pool) => pool,
            None => return Ok(None),
        },
    };
    if pool != cx.with(|core| core.pool) || !cx.with(|core| neighbours::has_several(core)) {
        return Ok(Some(Peer::Pool(pool)));
    }
    Ok(server_of_work(cx).await.map(Peer::Server))
}

/// Whether a procedure that is not in the journal, as far as is known here, runs in this pool: it waits for its first record.
async fn runs_here(cx: &TaskCx, id: &str) -> bool {
    if find(cx, id).is_ok() || !cx.with(|core| neighbours::has_several(core)) {
        return false;
    }
    copies::of_pool(cx).await.runs.is_some_and(|(_, running)| is_named(running, id))
}

/// Whether an operator's word for a procedure, its id or how that begins, names this one.
fn is_named(procedure: u128, word: &str) -> bool {
    format!("{procedure:032x}").starts_with(&word.to_ascii_lowercase())
}

/// The other server of this pool where a procedure runs, or would; `None` where that is this one.
async fn server_of_work(cx: &TaskCx) -> Option<ServerId> {
    let running = copies::of_pool(cx).await.runs.map(|(server, _)| server);
    cx.with(|core| {
        let leads = || if core.is_led_here(GroupId::CMS) { None } else { place::asked_for(core, GroupId::CMS) };
        running.or_else(leads).filter(|server| *server != core.config.server)
    })
}

/// The pool that runs a procedure: the one that will serve in the end.
fn pool_of_work(cx: &TaskCx, command: &Command) -> Result<Option<PoolId>, Problem> {
    match command {
        Command::PoolFailover { pool, .. } | Command::Preflight { pool } => {
            let affected = super::pool_named(cx, pool)?;
            cx.with(|core| core.topology.partner(affected).map(|partner| partner.id))
                .map(Some)
                .ok_or_else(|| not_paired(pool))
        }
        Command::PoolFailback { pool, .. } => Ok(Some(super::pool_named(cx, pool)?)),
        Command::ManagementFailover { .. } => Ok(cx.with(|core| {
            // A copy that stood down names who was to serve, and may never have come to it.
            let stood_down = core.host.group(GroupId::CMS).is_some_and(|copy| preflight::has_stood_down(&copy));
            let (serving, _) = core.host.serving(GroupId::CMS)?;
            let serving = if stood_down { core.pool } else { serving };
            core.topology.partner(serving).map(|partner| partner.id)
        })),
        // A reclaim is the home pool's; everything else of a procedure is where it runs. One that is not known here may be
        // known at the partner.
        Command::ProcedureResume { id } | Command::ProcedureAbort { id, reclaim: false } => {
            Ok(find(cx, id).ok().map(|found| found.plan.target).or_else(|| partner_heard(cx)))
        }
        Command::ProcedureAbort { id, reclaim: true } => {
            Ok(find(cx, id).ok().map(|found| found.plan.subject).or_else(|| partner_heard(cx)))
        }
        _ => Ok(None),
    }
}

fn partner_heard(cx: &TaskCx) -> Option<PoolId> {
    cx.with(|core| core.partner().filter(|pool| core.link_to(*pool).is_some()))
}

fn not_paired(pool: &str) -> Problem {
    let detail = format!("pool {pool} has no partner");
    Problem::new(409, "not-paired", "not paired", detail, "pair it first: `pairline pool pair`")
}

/// Executes one command of this family.
pub async fn execute(cx: &TaskCx, actor: &Actor, command: Command, passed: Passed) -> Result<Reply, Problem> {
    match command {
        Command::ProcedureList => Ok(Reply::Procedures { procedures: list(cx, passed).await }),
        Command::ProcedureShow { id } => show(cx, &id, passed).await,
        Command::ProcedureResume { id } => resume(cx, &id).await,
        Command::ProcedureAbort { id, reclaim } => abort(cx, actor, &id, reclaim).await,
        Command::Preflight { pool } => {
            let affected = super::pool_named(cx, &pool)?;
            let order = Order::Failover {
                pool: affected,
                disaster: false,
                dry_run: true,
                force: false,
                confirm_source_off: false,
                reason: "preflight".to_owned(),
            };
            let seen = observe(cx).await;
            Ok(Reply::Plan(only_findings(&preflight::preflight(&order, &seen))))
        }
        other => start(cx, actor, other).await,
    }
}

/// All procedures, newest first. How far one is, is known where it runs: the others are asked for those that run there.
async fn list(cx: &TaskCx, passed: Passed) -> Vec<ProcedureView> {
    let mut others = Vec::new();
    if passed != Passed::ByServer
        && let Some(server) = server_running(cx).await
        && let Some(Reply::Procedures { procedures }) = super::ask_server(cx, server, Command::ProcedureList).await
    {
        let running = procedures.into_iter().filter(|procedure| procedure.state == "running");
        others.extend(running);
    }
    let (mut all, partner) = cx.with(|core| {
        let all: Vec<ProcedureView> = stored(core).iter().map(|procedure| view(core, procedure)).collect();
        (all, core.partner().map(|pool| core.topology.pool_name(pool)).unwrap_or_default())
    });
    for live in others {
        all.retain(|ours| ours.id != live.id);
        all.push(live);
    }
    let theirs = match passed {
        Passed::Not => super::ask_partner(cx, Command::ProcedureList).await,
        _ => None,
    };
    if let Some(Reply::Procedures { procedures }) = theirs {
        for other in procedures {
            match all.iter_mut().find(|ours| ours.id == other.id) {
                Some(ours) if ours.runs_at == partner => *ours = other,
                Some(_) => {}
                None => all.push(other),
            }
        }
    }
    all.sort_by_key(|procedure| std::cmp::Reverse(procedure.started));
    all
}

/// The other server of this pool at which a procedure runs now.
async fn server_running(cx: &TaskCx) -> Option<ServerId> {
    if !cx.with(|core| neighbours::has_several(core)) {
        return None;
    }
    let running = copies::of_pool(cx).await.runs.map(|(server, _)| server);
    cx.with(|core| running.filter(|server| *server != core.config.server))
}

async fn show(cx: &TaskCx, id: &str, passed: Passed) -> Result<Reply, Problem> {
    let found = find(cx, id);
    let asked = found.as_ref().map_or_else(|_| id.to_owned(), |procedure| format!("{:032x}", procedure.plan.id));
    let elsewhere = match &found {
        Ok(procedure) => procedure.plan.target != cx.with(|core| core.pool),
        Err(_) => true,
    };
    if passed != Passed::ByServer
        && let Some(server) = server_running(cx).await
        && let Some(Reply::Procedure(shown)) =
            super::ask_server(cx, server, Command::ProcedureShow { id: asked.clone() }).await
    {
        return Ok(Reply::Procedure(shown));
    }
    if elsewhere
        && passed == Passed::Not
        && let Some(reply @ Reply::Procedure(_)) = super::ask_partner(cx, Command::ProcedureShow { id: asked }).await
    {
        return Ok(reply);
    }
    found.map(|procedure| Reply::Procedure(cx.with(|core| view(core, &procedure))))
}

fn order(cx: &TaskCx, command: &Command) -> Result<Order, Problem> {
    let text = |reason: &Option<String>| reason.clone().unwrap_or_default();
    let confirmed = |confirm: &Option<String>| confirm.as_deref() == Some("yes");
    Ok(match command {
        Command::PoolFailover { pool, disaster, dry_run, force, confirm, reason } => Order::Failover {
            pool: super::pool_named(cx, pool)?,
            disaster: *disaster,
            dry_run: *dry_run,
            force: *force,
            confirm_source_off: confirmed(confirm),
            reason: text(reason),
        },
        Command::PoolFailback { pool, disaster: true, dry_run, confirm, reason, .. } => Order::Reclaim {
            pool: super::pool_named(cx, pool)?,
            dry_run: *dry_run,
            confirm_target_off: confirmed(confirm),
            reason: text(reason),
        },
        Command::PoolFailback { pool, dry_run, force, reason, .. } => Order::Failback {
            pool: super::pool_named(cx, pool)?,
            dry_run: *dry_run,
            force: *force,
            reason: text(reason),
        },
        Command::ManagementFailover { disaster, dry_run, force, confirm, reason } => Order::ManagementFailover {
            to: cx.with(|core| core.pool),
            disaster: *disaster,
            dry_run: *dry_run,
            force: *force,
            confirm_source_off: confirmed(confirm),
            reason: text(reason),
        },
        _ => {
            return Err(Problem::new(
                400,
                "not-a-procedure",
                "not a procedure",
                "this command starts nothing",
                "see `pairline --help`",
            ));
        }
    })
}

async fn start(cx: &TaskCx, actor: &Actor, command: Command) -> Result<Reply, Problem> {
    let order = order(cx, &command)?;
    let seen = observe(cx).await;
    let operator = operator_of(actor);
    let (id, wall) = cx.with(|core| (core.rng.next_u128(), core.now.wall));
    // Whoever has not confirmed yet is told what there is to confirm.
    let unsaid = order.is_disaster() && !order.says_source_off() && !order.is_dry_run();
    let looked_at = if unsaid { order.as_dry_run() } else { order.clone() };
    let plan = match planner::plan(&looked_at, &seen, &operator, id, wall) {
        Ok(plan) => plan,
        Err(Refused(findings)) if order.is_dry_run() => return Ok(Reply::Plan(only_findings(&findings))),
        Err(Refused(findings)) => return Err(refused(&findings)),
    };
    if unsaid {
        return Err(unconfirmed(&plan));
    }
    if order.is_dry_run() {
        return Ok(Reply::Plan(plan_view(&plan)));
    }
    launch(cx, plan)?;
    watch(cx, id, WATCH_MS).await
}

/// Starts the runner of a plan, in the place of the procedure that it replaces, if it replaces one.
fn launch(cx: &TaskCx, plan: Plan) -> Result<(), Problem> {
    let failed = |error: StartError| cannot_start(&error.to_string());
    cx.with(|core| {
        let Some(old) = plan.supersedes else {
            not_busy(core, None)?;
            procedures::begin(core, Runner::start(plan, core.now).map_err(failed)?);
            return Ok(());
        };
        not_busy(core, Some(old))?;
        let record = stored(core).into_iter().find(|procedure| procedure.plan.id == old);
        let record =
            record.ok_or_else(|| cannot_start("the record of the procedure to be replaced is not known here"))?;
        let lock = procedures::lock_holder(core);
        let runner = Runner::start_replacing(plan, record, lock, core.now).map_err(failed)?;
        procedures::begin(core, runner);
        Ok(())
    })
}

/// Who gave an order, for journals and logs.
pub fn operator_of(actor: &Actor) -> String {
    match actor {
        Actor::Administrator(name) | Actor::User(name) => name.clone(),
        Actor::Server => "the partner's server".to_owned(),
    }
}

fn unconfirmed(plan: &Plan) -> Problem {
    let view = plan_view(plan);
    Problem::new(
        428,
        "confirmation-needed",
        "a disaster procedure must be confirmed",
        view.expected_loss,
        "look at the plan with --dry-run; then repeat with `--confirm` once you know that the source is off, or accept what it \
         may go on to commit as its divergent tail",
    )
}

fn cannot_start(why: &str) -> Problem {
    Problem::new(409, "cannot-start", "the procedure cannot start", why, "see `pairline procedure list`")
}

/// A run that ended before its first record: it had no effect and is nothing to be resumed.
fn not_carried_out(core: &Core, procedure: &Procedure) -> Problem {
    let why = core.procedures.stopped.get(&procedure.plan.id).cloned().unwrap_or_default();
    let holder = procedures::lock_holder(core).filter(|id| *id != procedure.plan.id);
    let who = holder.map(|id| format!(" ({id:032x})")).unwrap_or_default();
    Problem::new(
        409,
        "procedure-running",
        "the procedure was not carried out",
        format!("{}: {why}{who}", procedure.plan.command.name()),
        "see `pairline procedure list`: what is not listed there had no effect",
    )
}

/// One procedure at a time; but for the one that is about to be replaced.
fn not_busy(core: &Core, replaced: Option<u128>) -> Result<(), Problem> {
    let running = core.procedures.runner.as_ref().filter(|runner| !runner.is_over()).map(Runner::procedure);
    match running {
        Some(procedure) if Some(procedure.plan.id) != replaced => Err(Problem::new(
            409,
            "procedure-running",
            "another procedure runs",
            format!("{} runs here now", procedure.plan.command.name()),
            "wait for its end; see `pairline procedure list`",
        )),
        _ => Ok(()),
    }
}

/// Waits until the runner is over, or long enough; then shows the procedure.
async fn watch(cx: &TaskCx, id: u128, millis: u64) -> Result<Reply, Problem> {
    let until = cx.with(|core| core.now.mono) + millis;
    while cx.with(|core| core.procedures.busy() && core.now.mono < until) {
        cx.sleep(10).await;
    }
    cx.with(|core| {
        let runner = core.procedures.runner.as_ref().filter(|runner| runner.procedure().plan.id == id);
        if let Some(procedure) =
            runner.filter(|runner| runner.is_over() && !runner.is_journalled()).map(Runner::procedure)
        {
            if core.procedures.stopped.contains_key(&id) {
                return Err(not_carried_out(core, procedure));
            }
            if matches!(procedure.state, ProcedureState::Aborted { .. }) {
                // Before its first record: it stands in no journal.
                return Ok(Reply::Procedure(view(core, procedure)));
            }
        }
        let found = stored(core).into_iter().find(|procedure| procedure.plan.id == id);
        found.map(|procedure| Reply::Procedure(view(core, &procedure))).ok_or_else(|| no_such(&format!("{id:032x}")))
    })
}

/// Goes on with a procedure, if nothing else runs here or holds the lock.
fn go_on(cx: &TaskCx, found: Procedure) -> Result<(), Problem> {
    cx.with(|core| {
        not_busy(core, None)?;
        let lock = procedures::lock_holder(core);
        let runner = Runner::resume(found, lock, core.now).map_err(|error| cannot_start(&error.to_string()))?;
        procedures::begin(core, runner);
        Ok(())
    })
}

async fn resume(cx: &TaskCx, id: &str) -> Result<Reply, Problem> {
    let found = find(cx, id)?;
    let number = found.plan.id;
    if cx.with(|core| {
        core.procedures.busy() && core.procedures.runner.as_ref().is_some_and(|r| r.procedure().plan.id == number)
    }) {
        return watch(cx, number, WATCH_MS).await;
    }
    go_on(cx, found)?;
    watch(cx, number, WATCH_MS).await
}

async fn abort(cx: &TaskCx, actor: &Actor, id: &str, reclaim: bool) -> Result<Reply, Problem> {
    let found = find(cx, id)?;
    let number = found.plan.id;
    if reclaim {
        let order = Order::Reclaim {
            pool: found.plan.subject,
            dry_run: false,
            confirm_target_off: true,
            reason: format!("abort of {id}"),
        };
        let seen = observe(cx).await;
        let (fresh, wall) = cx.with(|core| (core.rng.next_u128(), core.now.wall));
        let plan = planner::plan(&order, &seen, &operator_of(actor), fresh, wall).map_err(|Refused(f)| refused(&f))?;
        launch(cx, plan)?;
        return watch(cx, fresh, WATCH_MS).await;
    }
    let here = cx.with(|core| {
        core.procedures.busy() && core.procedures.runner.as_ref().is_some_and(|r| r.procedure().plan.id == number)
    });
    if !here {
        go_on(cx, found)?;
    }
    let operator = operator_of(actor);
    cx.with(|core| procedures::tell(core, Event::AbortRequested { operator }));
    watch(cx, number, ABORT_WATCH_MS).await
}

/// All procedures in the local copy of the journal, and those that crashed before their first record, from what they left
/// in the groups; the running one as it stands in memory.
fn stored(core: &Core) -> Vec<Procedure> {
    let records = core.host.scan(GroupId::CMS, journal::OWNER, Some(journal::KIND_PROCEDURE));
    let mut all: Vec<Procedure> = records.filter_map(|(_, record)| Procedure::decode(&record.value).ok()).collect();
    for rebuilt in crate::traces::procedures(core) {
        if all.iter().all(|procedure| procedure.plan.id != rebuilt.plan.id) {
            all.push(rebuilt);
        }
    }
    // A run that never took the lock left nothing, and one that was replaced is what the journal says of it.
    let shown = core.procedures.runner.as_ref().filter(|runner| runner.is_journalled() || !runner.is_over());
    if let Some(runner) = shown {
        let live = runner.procedure();
        all.retain(|procedure| procedure.plan.id != live.plan.id);
        all.push(live.clone());
    }
    all
}

fn find(cx: &TaskCx, id: &str) -> Result<Procedure, Problem> {
    let mut found: Vec<Procedure> =
        cx.with(|core| stored(core)).into_iter().filter(|procedure| is_named(procedure.plan.id, id)).collect();
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        _ => Err(no_such(id)),
    }
}

fn no_such(id: &str) -> Problem {
    let detail = format!("no procedure, or more than one, begins with {id}");
    Problem::new(404, "no-such-procedure", "no such procedure", detail, "see `pairline procedure list`")
}

/// Asks other servers for the statuses of their copies.
pub async fn look_at(cx: &TaskCx, at: Peer) -> Option<Vec<GroupStatus>> {
    let (link, to) = cx.with(|core| core.link_at(at))?;
    let wait = cx.start_peer_wait(to.server, 2_000);
    cx.with(|core| core.send_on(link, &PeerFrame::Look { call: wait }));
    match cx.wait(wait).await {
        WaitResult::Statuses(statuses) => Some(statuses),
        _ => None,
    }
}

async fn observe(cx: &TaskCx) -> Observed {
    let partner = cx.with(|core| core.partner().filter(|pool| core.link_to(*pool).is_some()));
    let theirs = match partner {
        Some(pool) => look_at(cx, Peer::Pool(pool)).await.map(|statuses| (pool, statuses)),
        None => None,
    };
    let ours = copies::of_pool(cx).await.copies;
    cx.with(|core| {
        crate::population::refresh(core, true);
        let unequal = ours.iter().filter(|copy| copy.unequal).map(|copy| copy.status.group).collect();
        let mut groups: Vec<GroupSight> =
            ours.into_iter().map(|copy| GroupSight { at: core.pool, status: copy.status }).collect();
        let heard = theirs.is_some();
        if let Some((at, statuses)) = theirs {
            groups.extend(statuses.into_iter().map(|status| GroupSight { at, status }));
        }
        Observed {
            here: core.pool,
            link_up: core.partner().is_some_and(|pool| core.link_to(pool).is_some()) && heard,
            silent_for: core.modes.last_heard().map(|at| core.now.mono.saturating_sub(at)),
            pools: core.topology.pool.iter().map(|pool| sight(core, pool.id, heard)).collect(),
            groups,
            clock_offset_ms: core.modes.clock_offset(),
            running: running(core),
            unequal,
            bounds: core.topology.policies.procedure.clone(),
            not_replicated: super::pools::exclusions(),
        }
    })
}

fn sight(core: &Core, pool: PoolId, heard: bool) -> PoolSight {
    let own = pool == core.pool;
    // A pool of several servers is as well off as the worst of them.
    let beats = core.modes.heartbeats(pool);
    let beat = beats.first();
    let document = core.topology.pool(pool);
    let facts = &core.facts;
    let free = facts.disk_free.saturating_mul(100).checked_div(facts.disk_total).and_then(|p| u8::try_from(p).ok());
    PoolSight {
        pool,
        name: core.topology.pool_name(pool),
        partner: core.topology.partner(pool).map(|partner| partner.id),
        reachable: own || (heard && core.link_to(pool).is_some() && !core.modes.away(pool)),
        mode: beat.filter(|_| !own).map_or_else(|| core.modes.mode(pool), |beat| beat.mode),
        version: if own { Some(core.config.version.clone()) } else { beat.map(|b| b.version.to_string()) },
        certificate_days: if own {
            u16::try_from(facts.certificate_days.max(0)).ok()
        } else {
            beats.iter().map(|beat| beat.certificate_days).min()
        },
        free_disk_percent: if own { free } else { beats.iter().map(|beat| beat.free_disk_percent).min() },
        users: core.modes.population.of(pool),
        capacity_users: document
            .map(|pool| pool.capacity_users.unwrap_or(core.topology.policies.limits.users_per_pool)),
        next_hops: Vec::new(),
    }
}

fn running(core: &Core) -> Option<RunningProcedure> {
    let procedure = stored(core).into_iter().find(|procedure| !procedure.state.is_over())?;
    Some(RunningProcedure {
        id: procedure.plan.id,
        what: procedure.plan.command.name().to_owned(),
        operator: procedure.plan.operator.clone(),
        since: procedure.started,
    })
}

fn refused(findings: &[Finding]) -> Problem {
    let no: Vec<&Finding> = findings.iter().filter(|finding| finding.verdict == Verdict::Refuse).collect();
    let detail: Vec<String> = no.iter().map(|finding| finding.reason.clone()).collect();
    let remedy: Vec<String> = no.iter().map(|finding| finding.remedy.clone()).collect();
    Problem::new(409, "preflight-refused", "preflight refuses", detail.join("; "), remedy.join("; "))
}

fn finding_view(finding: &Finding) -> FindingView {
    let verdict = match finding.verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Refuse => "refuse",
    };
    FindingView {
        rule: format!("{:?}", finding.rule),
        verdict: verdict.to_owned(),
        reason: finding.reason.clone(),
        remedy: finding.remedy.clone(),
    }
}

fn only_findings(findings: &[Finding]) -> PlanView {
    PlanView {
        allowed: findings.iter().all(|finding| finding.verdict != Verdict::Refuse),
        findings: findings.iter().map(finding_view).collect(),
        ..PlanView::default()
    }
}

fn plan_view(plan: &Plan) -> PlanView {
    let points: Vec<String> = plan.recovery.iter().map(|r| format!("{} at {}", r.group, r.position)).collect();
    let expected_loss = if plan.command.is_disaster() {
        let silent = plan.silent_for.map_or_else(
            || "never heard".to_owned(),
            |ms| format!("last heard {}.{} s ago", ms / 1_000, ms % 1_000 / 100),
        );
        format!(
            "recovery point: {} ({} {silent}); what it committed later is unknown here",
            points.join(", "),
            plan.name_of(plan.source)
        )
    } else {
        "nothing: a planned move hands over every committed entry, or does not happen".to_owned()
    };
    PlanView { expected_loss, plan: plan.to_string(), ..only_findings(&plan.findings) }
}

/// Whether another server of this pool runs a procedure, or takes it over in a moment.
fn goes_on(core: &Core, id: u128) -> bool {
    let stopped_here = core.procedures.stopped.contains_key(&id);
    neighbours::has_several(core) && core.procedures.is_recent(id) && !stopped_here
}

fn runs_elsewhere(core: &Core, plan: &Plan) -> String {
    let at = core.topology.pool_name(plan.target);
    format!("it runs at {at}; this is the last that is known of it here")
}

fn view(core: &Core, procedure: &Procedure) -> ProcedureView {
    let plan = &procedure.plan;
    let live = core.procedures.runner.as_ref().filter(|r| r.procedure().plan.id == plan.id && !r.is_over());
    let (state, stopped) = match &procedure.state {
        ProcedureState::Running if live.is_some() => ("running", live.and_then(Runner::ending)),
        // Another server of this pool runs it, or goes on with it in a moment.
        ProcedureState::Running if goes_on(core, plan.id) => ("running", None),
        // Only where it runs can be said that it does not.
        ProcedureState::Running if plan.target != core.pool => ("running", Some(runs_elsewhere(core, plan))),
        ProcedureState::Running => ("stopped", Some("it was interrupted; resume or abort it".to_owned())),
        ProcedureState::Done => ("done", None),
        ProcedureState::Aborted { .. } => ("aborted", None),
        ProcedureState::Stopped { reason } => ("stopped", Some(reason.clone())),
        ProcedureState::Superseded { .. } => ("superseded", None),
    };
    let over = procedure.state.is_over() || state == "stopped";
    let tails = crate::modes::statuses(core)
        .into_iter()
        .filter(|g| g.tail > 0)
        .map(|g| (g.group.to_string(), g.tail))
        .collect();
    ProcedureView {
        id: format!("{:032x}", plan.id),
        kind: plan.command.name().to_owned(),
        pool: plan.name_of(plan.subject),
        state: state.to_owned(),
        steps: (u32::try_from(procedure.results.len()).unwrap_or(0), u32::try_from(plan.steps.len()).unwrap_or(0)),
        operator: plan.operator.clone(),
        started: procedure.started,
        stopped,
        runs_at: core.topology.pool_name(plan.target),
        plan: plan.to_string(),
        report: over.then(|| {
            report_view(
                Report::of(procedure).with_tails(tails).with_sign_in(core.procedures.sign_ins.figures(plan.id)),
                procedure,
            )
        }),
    }
}

fn report_view(report: Report, procedure: &Procedure) -> ReportView {
    let promised: Vec<u64> = procedure
        .plan
        .recovery
        .iter()
        .filter_map(|r| match r.lag {
            pairline_group::io::Lag::Unknown => None,
            pairline_group::io::Lag::Exactly(ms) | pairline_group::io::Lag::AtMost(ms) => Some(ms),
        })
        .collect();
    let known = promised.len() == procedure.plan.recovery.len();
    ReportView {
        text: report.to_string(),
        stages: report.stages.iter().map(|(stage, took)| (format!("{stage:?}"), *took)).collect(),
        recovery_points: report
            .groups
            .iter()
            .map(|line| {
                (line.group.clone(), line.promised.clone().unwrap_or_default(), line.actual.clone().unwrap_or_default())
            })
            .collect(),
        promised_lag_ms: promised.into_iter().max().filter(|_| known),
    }
}
