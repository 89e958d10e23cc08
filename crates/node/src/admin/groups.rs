//! Single groups: how their copies stand, and going on with the one that is left of them.
//!
//! Owns the commands, the asking, and the record of what was done. Which copy is left, and what that may lose, is [`judge`]'s; the step itself is
//! replication's, at the server that has the copy. Nothing of it needs the management store: its own group may be the one that is lost.

pub mod judge;
mod words;

use crate::command::{Actor, Command, Problem, Reply};
use crate::core::{Core, TicketOwner, WaitResult};
use crate::cx::TaskCx;
use crate::event::Level;
use crate::view::{GroupCopy, GroupRecoverView, GroupRecoveryView};
use bytes::Bytes;
use judge::{Heard, Left, Sight, Verdict};
use pairline_group::io::{Done, HostInput, Proposal, Survive, Write, WriteClass};
use pairline_group::{GroupId, PoolId, Position, ServerId, StepRef, Ticket};
use pairline_resilience::Recovery;
use pairline_services::cx::{Cx, Peer};
use pairline_services::join::join_all;
use std::collections::BTreeMap;

/// How long another server of the pool may take to tell its copies, in milliseconds.
const ANSWER_MS: u64 = 1_000;
/// How long a copy may take to go on alone, in milliseconds: a checkpoint of it has to reach the disk, behind all that is queued there.
const SURVIVE_MS: u64 = 60_000;

/// Executes one command of this family, but for the order to a single copy.
pub async fn execute(cx: &TaskCx, actor: &Actor, command: Command) -> Result<Reply, Problem> {
    match command {
        Command::GroupCopies => Ok(Reply::GroupCopies { copies: cx.with(|core| copies(core)) }),
        Command::GroupList { pool, group } => {
            let home = super::pool_named(cx, &pool)?;
            let sight = look(cx).await;
            let all = known(cx, home, &sight);
            let shown = match group {
                Some(name) => vec![named(home, &all, &name)?],
                None => all,
            };
            Ok(Reply::Groups(cx.with(|core| words::groups(core, &sight, &shown))))
        }
        Command::GroupRecover { pool, groups, all, confirm, reason } => {
            let home = super::pool_named(cx, &pool)?;
            let order = Order { pool, home, named: groups, all, reason: reason.unwrap_or_default() };
            recover(cx, actor, order, confirm.as_deref() == Some("yes")).await
        }
        Command::GroupSurvive { group, order, operator, plan, partner } => {
            survive(cx, &group, &order, (operator, plan), partner).await
        }
        _ => Err(Problem::forbidden()),
    }
}

/// What an administrator wants recovered.
struct Order {
    pool: String,
    home: PoolId,
    named: Vec<String>,
    all: bool,
    reason: String,
}

/// The copies of this server.
fn copies(core: &Core) -> Vec<GroupCopy> {
    let all = crate::modes::statuses(core).into_iter();
    all.map(|status| GroupCopy {
        leads: core.is_led_here(status.group),
        standing: core.host.standing(status.group),
        status,
    })
    .collect()
}

/// Asks every server of the pool for its copies, and the partner for its.
async fn look(cx: &TaskCx) -> Sight {
    let (own, servers, partner) = cx.with(|core| {
        let servers = core.topology.servers_of(core.pool).into_iter().map(|server| (server.id, server.name.clone()));
        (core.config.server, servers.collect::<Vec<(ServerId, String)>>(), core.partner())
    });
    let others = servers.iter().map(|(id, _)| *id).filter(|id| *id != own);
    let asked = others.map(|server| async move {
        let command = Command::GroupCopies;
        (server, super::pass_on_within(cx, Peer::Server(server), Actor::Server, command, ANSWER_MS).await)
    });
    let mut heard: BTreeMap<ServerId, Heard> = BTreeMap::from([(own, Heard::Says(cx.with(|core| copies(core))))]);
    for (server, answer) in join_all(asked.collect()).await {
        let linked = cx.with(|core| core.link_to_server(server).is_some());
        let one = match answer {
            Ok(Reply::GroupCopies { copies }) => Heard::Says(copies),
            _ if linked => Heard::Silent,
            _ => Heard::Away,
        };
        heard.insert(server, one);
    }
    let theirs = match partner {
        Some(pool) => super::look_at(cx, Peer::Pool(pool)).await,
        None => None,
    };
    cx.with(|core| Sight {
        pool: core.topology.pool_name(core.pool),
        servers,
        heard,
        partner: partner.map(|pool| (core.topology.pool_name(pool), theirs)),
    })
}

/// The groups that have copies in this pool, or should.
fn known(cx: &TaskCx, home: PoolId, sight: &Sight) -> Vec<GroupId> {
    let mut all = sight.groups();
    all.extend(cx.with(|core| core.topology.groups_of(home)));
    all.into_iter().collect()
}

/// The group of that name: its number in the pool, `home/number`, or `cms`.
fn named(home: PoolId, all: &[GroupId], name: &str) -> Result<GroupId, Problem> {
    let number = |text: &str| text.parse::<u16>().ok();
    let group = match name.split_once('/') {
        _ if matches!(name, "cms" | "management-store") => Some(GroupId::CMS),
        Some((pool, index)) => {
            number(pool).zip(number(index)).map(|(pool, index)| GroupId { pool: PoolId(pool), index })
        }
        None => number(name).map(|index| GroupId { pool: home, index }),
    };
    group.filter(|group| all.contains(group)).ok_or_else(|| {
        let detail = format!("no group {name} has copies in this pool");
        let remedy = "name it by its number, by home pool and number (`1/3`), or `cms`; see `pairline group list`";
        Problem::new(404, "no-such-group", "no such group", detail, remedy)
    })
}

async fn recover(cx: &TaskCx, actor: &Actor, order: Order, confirmed: bool) -> Result<Reply, Problem> {
    let sight = look(cx).await;
    let judged = chosen(cx, &order, &sight)?;
    let lefts: Vec<(GroupId, &Left)> = judged.iter().filter_map(|(group, one)| Some((*group, left(one)?))).collect();
    let mut groups: Vec<GroupRecoverView> =
        judged.iter().map(|(group, verdict)| words::planned(&sight, *group, verdict)).collect();
    if !confirmed || lefts.is_empty() {
        if confirmed {
            return Err(cannot(&sight, &judged));
        }
        let next = words::before(&sight, &lefts);
        return Ok(Reply::GroupRecovery(GroupRecoveryView { pool: order.pool, done: false, groups, next }));
    }
    let id = cx.with(|core| core.rng.next_u128());
    for (group, left) in &lefts {
        let text = format!("{group}: {}", judge::at_risk(&sight, left));
        cx.with(|core| core.event(Level::Warn, "group-recovery", format!("{} accepts: {text}", super::name_of(actor))));
    }
    let ended = carry_out(cx, actor, &order, id, &sight, &lefts).await;
    for (group, outcome) in ended {
        let name = group.to_string();
        let Some(view) = groups.iter_mut().find(|view| view.group == name) else { continue };
        view.goes_on = outcome.is_ok();
        view.outcome = Some(outcome.unwrap_or_else(|problem| format!("{}; {}", problem.detail, problem.remedy)));
    }
    let next = words::after(&sight, &lefts, &groups);
    Ok(Reply::GroupRecovery(GroupRecoveryView { pool: order.pool, done: true, groups, next }))
}

fn left(verdict: &Verdict) -> Option<&Left> {
    match verdict {
        Verdict::Left(left) => Some(left),
        _ => None,
    }
}

/// The groups that an order is about, judged. One that was named and has a majority, or cannot be recovered, refuses the whole.
fn chosen(cx: &TaskCx, order: &Order, sight: &Sight) -> Result<Vec<(GroupId, Verdict)>, Problem> {
    let all = known(cx, order.home, sight);
    let judged = |group: GroupId| (group, judge::judge(sight, group));
    if order.all {
        let well = |verdict: &Verdict| matches!(verdict, Verdict::Led(_) | Verdict::Majority);
        let lost: Vec<(GroupId, Verdict)> = all.into_iter().map(judged).filter(|(_, one)| !well(one)).collect();
        return if lost.is_empty() { Err(nothing(&order.pool)) } else { Ok(lost) };
    }
    let mut wanted = Vec::new();
    for name in &order.named {
        let group = named(order.home, &all, name)?;
        if !wanted.contains(&group) {
            wanted.push(group);
        }
    }
    if wanted.is_empty() {
        let detail = "no group is named";
        let remedy = "name groups, or give --all-without-majority; see `pairline group list`";
        return Err(Problem::new(400, "no-group-named", "which groups?", detail, remedy));
    }
    let judged: Vec<(GroupId, Verdict)> = wanted.into_iter().map(judged).collect();
    if judged.iter().all(|(_, verdict)| left(verdict).is_some()) { Ok(judged) } else { Err(cannot(sight, &judged)) }
}

fn nothing(pool: &str) -> Problem {
    let detail = format!("every group that has copies in pool {pool} has a majority of them");
    Problem::new(409, "nothing-to-recover", "nothing to recover", detail, "see `pairline pool health`")
}

fn cannot(sight: &Sight, judged: &[(GroupId, Verdict)]) -> Problem {
    let (mut whys, mut remedies) = (Vec::new(), Vec::new());
    for (group, verdict) in judged {
        let Some((why, remedy)) = words::refusal(sight, verdict) else { continue };
        whys.push(format!("{group}: {why}"));
        if !remedies.contains(&remedy) {
            remedies.push(remedy);
        }
    }
    let title = "a group cannot be recovered now, and none was";
    Problem::new(409, "cannot-recover", title, whys.join("; "), remedies.join("; "))
}

/// The management store first, since what is done is recorded there; then all others at once.
async fn carry_out(
    cx: &TaskCx,
    actor: &Actor,
    order: &Order,
    id: u128,
    sight: &Sight,
    lefts: &[(GroupId, &Left)],
) -> Vec<(GroupId, Result<String, Problem>)> {
    let operator = super::procedure::operator_of(actor);
    let part_of = |store: bool| lefts.iter().copied().filter(move |(group, _)| group.is_cms() == store);
    let mut ended = Vec::new();
    for store in [true, false] {
        let operator = &operator;
        let each = part_of(store)
            .map(|(group, left)| async move { (group, one(cx, order, (id, operator), sight, (group, left)).await) });
        ended.extend(join_all(each.collect()).await);
    }
    ended
}

/// Has one copy go on, and writes down that it did.
async fn one(
    cx: &TaskCx,
    order: &Order,
    (id, operator): (u128, &str),
    sight: &Sight,
    (group, left): (GroupId, &Left),
) -> Result<String, Problem> {
    let at_risk = judge::at_risk(sight, left);
    let name = format!("{}/{}", group.pool.0, group.index);
    let (plan, partner) =
        (format!("recovered; at risk: {at_risk}"), left.partner.as_ref().map(|p| (p.position, p.digest)));
    let command = Command::GroupSurvive {
        group: name.clone(),
        order: format!("{id:032x}"),
        operator: operator.to_owned(),
        plan: plan.clone(),
        partner,
    };
    let here = cx.with(|core| core.config.server == left.survivor);
    let reply = match here {
        true => survive(cx, &name, &format!("{id:032x}"), (operator.to_owned(), plan), partner).await?,
        false => {
            super::pass_on_within(cx, Peer::Server(left.survivor), Actor::Server, command, SURVIVE_MS + ANSWER_MS)
                .await?
        }
    };
    let Reply::GroupSurvived { at } = reply else { return Err(Problem::bad_peer_answer()) };
    let text = format!("group {group} goes on at {} from {at}", sight.name(left.survivor));
    cx.with(|core| core.event(Level::Warn, "group-recovered", text.clone()));
    let record = Recovery {
        id,
        pool: cx.with(|core| core.pool),
        group,
        operator: operator.to_owned(),
        reason: order.reason.clone(),
        at: cx.with(|core| core.now.wall),
        survivor: left.survivor,
        lost: left.lost.clone(),
        before: left.standing.position,
        doubtful: left.standing.doubtful,
        at_risk,
        after: at,
    };
    Ok(if recorded(cx, &record).await { text } else { format!("{text}; the record of it could not be written") })
}

/// Writes a record into the management store, wherever that is served; whether it could.
async fn recorded(cx: &TaskCx, record: &Recovery) -> bool {
    let (key, value) = (record.key(), record.encode());
    let writes = vec![Write::Put { key, class: WriteClass::Durable, value }];
    let done = cx.commit(GroupId::CMS, Proposal { writes, ..Proposal::default() }).await;
    let fine = !matches!(done, Done::Refused(_));
    if !fine {
        let text = format!("the recovery of group {} could not be recorded: {done:?}", record.group);
        cx.with(|core| core.event(Level::Error, "recovery-unrecorded", text));
    }
    fine
}

/// The copy here goes on alone.
async fn survive(
    cx: &TaskCx,
    group: &str,
    order: &str,
    (operator, plan): (String, String),
    partner: Option<(Position, [u8; 32])>,
) -> Result<Reply, Problem> {
    let unreadable =
        || Problem::new(400, "order-unreadable", "the order cannot be read", group, "see `pairline group recover`");
    let (pool, index) = group.split_once('/').ok_or_else(unreadable)?;
    let (pool, index) = pool.parse().ok().zip(index.parse().ok()).ok_or_else(unreadable)?;
    let procedure = u128::from_str_radix(order, 16).map_err(|_| unreadable())?;
    let group = GroupId { pool: PoolId(pool), index };
    let wait = cx.start_wait(SURVIVE_MS);
    cx.with(|core| {
        let text = format!("{operator} has the copy of group {group} here go on alone: {plan}");
        core.event(Level::Warn, "audit", text);
        let ticket = Ticket(core.fresh());
        core.tickets.insert(ticket, TicketOwner::Task(cx.task(), wait));
        let order = Survive {
            step: StepRef { procedure, step: 1 },
            operator: operator.into(),
            plan: Bytes::from(plan.into_bytes()),
            partner,
        };
        let now = core.now;
        core.host.handle(now, HostInput::Survive { ticket, group, order });
        // Nothing has happened before it is on disk.
        crate::checkpoints::soon(core);
    });
    match cx.wait(wait).await {
        WaitResult::Done(Done::Committed(at)) => Ok(Reply::GroupSurvived { at }),
        WaitResult::Done(Done::Refused(refusal)) => Err(Problem::refused(&refusal)),
        _ => Err(Problem::timeout("the recovery of a group")),
    }
}
