//! The divergent tails of a returned pool: shown entry by entry, applied where nothing stands against it, and given up
//! where a person says so.
//!
//! Owns the commands, and the count of what is open in the groups' status, which is what the tails' files say. The rule for
//! one entry is `resilience::divergence`'s; storing tails is the shell's.

mod words;

use super::Passed;
use crate::command::{Actor, Command, Problem, Reply};
use crate::core::{Core, WaitResult};
use crate::cx::TaskCx;
use crate::event::Level;
use crate::io::{Output, StoredTail};
use crate::node::Node;
use crate::view::DivergenceView;
use pairline_group::io::{Done, HostInput, Proposal, Refusal, Role};
use pairline_group::tail::Resolution;
use pairline_group::{Entry, Epoch, GroupId, Key, Kind, LineageItem, OpId, PoolId, Position};
use pairline_resilience::divergence::{self, Applied, Lookup, Progress, Verdict};
use pairline_services::cx::{Cx, Peer};
use pairline_services::records;
use std::collections::{BTreeMap, BTreeSet};

/// How long the shell may take to read the stored tails.
const READ_MS: u64 = 10_000;

/// Marks are stored after so many entries at the latest, so that a crash finds most of them done (more for a long tail,
/// which is read and marked at most 64 times).
const MARKS: usize = 32;

/// Entries given up that are named one by one in the log; the tail's file names all.
const NAMED: usize = 200;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The list.
    List,
    /// Apply what can be applied.
    Apply,
    /// Give up what is in conflict.
    Settle,
}

impl What {
    fn command(self, pool: &str) -> Command {
        let pool = pool.to_owned();
        match self {
            What::List => Command::PoolDivergence { pool, apply: false },
            What::Apply => Command::PoolDivergence { pool, apply: true },
            What::Settle => Command::PoolDivergenceSettle { pool },
        }
    }
}

/// Lists what is open in the tails that lie here, and applies or gives up as asked.
/// Tails lie at the server that found them: the others of the pool are asked for theirs, one after the other, so that what one applied
/// is seen by the next.
pub async fn execute(cx: &TaskCx, actor: &Actor, pool: &str, what: What, passed: Passed) -> Result<Reply, Problem> {
    super::pool_named(cx, pool)?;
    let mut view = here(cx, actor, pool, what).await?;
    let alone = cx.with(|core| crate::config::planted!(core.config, TailsOfOneServer));
    if passed == Passed::ByServer || alone {
        return Ok(Reply::Divergence(view));
    }
    let command = what.command(pool);
    for server in cx.with(|core| core.servers_linked(core.pool)).into_keys() {
        let theirs = super::pass_on(cx, Peer::Server(server), actor.clone(), command.clone()).await;
        if let Ok(Reply::Divergence(theirs)) = theirs {
            view.entries.extend(theirs.entries);
        }
    }
    Ok(Reply::Divergence(view))
}

async fn here(cx: &TaskCx, actor: &Actor, pool: &str, what: What) -> Result<DivergenceView, Problem> {
    let tails = read(cx).await?;
    let mut view = DivergenceView { pool: pool.to_owned(), entries: Vec::new() };
    let mut given_up = 0;
    for tail in &tails {
        match what {
            What::Settle => given_up += settle(cx, actor, tail, given_up, &mut view),
            What::List | What::Apply => offer(cx, tail, what == What::Apply, &mut view).await,
        }
    }
    if given_up > NAMED {
        let text = format!("{} more entries were given up; the tails' files name them", given_up - NAMED);
        cx.with(|core| core.event(Level::Warn, "tail-given-up", text));
    }
    if what != What::List {
        let tails = read(cx).await?;
        cx.with(|core| tell_open(core, &tails));
    } else {
        cx.with(|core| tell_open(core, &tails));
    }
    Ok(view)
}

/// Counts of open entries that are to be read from the tails' files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recount {
    running: bool,
    again: bool,
}

/// Reads how much is open in the tails that lie here: after a start, and when one was stored.
pub fn recount(node: &mut Node) {
    {
        let core = node.core();
        let recount = &mut core.borrow_mut().recount;
        if std::mem::replace(&mut recount.running, true) {
            recount.again = true;
            return;
        }
    }
    node.spawn(|cx| async move {
        loop {
            let read = read(&cx).await;
            let again = cx.with(|core| {
                let asked = std::mem::take(&mut core.recount.again);
                if let Ok(tails) = &read {
                    tell_open(core, tails);
                }
                core.recount.running = asked || read.is_err();
                core.recount.running
            });
            if !again {
                return;
            }
        }
    });
}

/// Every unsettled tail that lies here, whichever pool's group it is of: a pool that served its partner's groups when it was
/// lost has tails of these.
async fn read(cx: &TaskCx) -> Result<Vec<StoredTail>, Problem> {
    let pools: BTreeSet<PoolId> = cx.with(|core| {
        let groups = core.host.groups().into_iter().filter(|group| !group.is_cms()).map(|group| group.pool);
        groups.chain([core.pool]).collect()
    });
    let mut all = BTreeMap::new();
    for (at, pool) in pools.into_iter().enumerate() {
        let wait = cx.start_wait(READ_MS);
        cx.with(|core| core.out.push_back(Output::ReadTails { id: wait, pool }));
        let WaitResult::Tails(tails) = cx.wait(wait).await else {
            return Err(Problem::timeout("reading the stored tails"));
        };
        // Those of the management store come with each.
        let new = tails.into_iter().filter(|tail| at == 0 || !tail.group.is_cms());
        for tail in new {
            all.entry((tail.group, tail.fork)).or_insert_with(Vec::new).push(tail);
        }
    }
    Ok(all.into_values().flatten().collect())
}

fn tell_open(core: &mut Core, tails: &[StoredTail]) {
    let mut open: BTreeMap<GroupId, u64> = core.host.groups().into_iter().map(|group| (group, 0)).collect();
    for tail in tails {
        let entries = tail.resolutions.iter().filter(|resolution| !resolution.is_settled()).count();
        if let Some(count) = open.get_mut(&tail.group) {
            *count = count.saturating_add(u64::try_from(entries).unwrap_or(u64::MAX));
        }
    }
    let now = core.now;
    for (group, entries) in open {
        core.host.handle(now, HostInput::TailOpen { group, entries });
    }
}

/// What became of the entries of one tail in this run.
struct Run<'t> {
    cx: &'t TaskCx,
    tail: &'t StoredTail,
    progress: Progress,
    marks: Vec<(Position, Resolution)>,
    /// Why no later entry of this tail is decided on.
    stopped: Option<String>,
}

/// What becomes of one entry, and why if that is not plain.
type Outcome = (Resolution, Option<String>);

async fn offer(cx: &TaskCx, tail: &StoredTail, apply: bool, view: &mut DivergenceView) {
    let stopped = cx.with(|core| not_comparable(core, tail));
    let progress = Progress::of(tail.fork, tail.entries.iter().map(AsRef::as_ref));
    let mut run = Run { cx, tail, progress, marks: Vec::new(), stopped };
    let every = MARKS.max(tail.entries.len() / 64);
    for (entry, before) in tail.entries.iter().zip(&tail.resolutions) {
        let Some((outcome, reason)) = run.one(entry, *before, apply).await else { continue };
        if apply && outcome != *before {
            run.marks.push((entry.position, outcome));
        }
        view.entries.push(words::of_entry(tail.group, entry, outcome, reason));
        if run.marks.len() >= every {
            run.store_marks();
        }
    }
    run.store_marks();
}

impl Run<'_> {
    /// What becomes of one entry; `None` if that was final before.
    async fn one(&mut self, entry: &Entry, before: Resolution, apply: bool) -> Option<Outcome> {
        if self.cx.with(|core| stands(core, self.tail, entry)) {
            return (!before.is_settled()).then_some((Resolution::Skipped(Some(entry.position)), None));
        }
        if let Some(why) = &self.stopped {
            return (!before.is_settled()).then(|| (before, Some(why.clone())));
        }
        let group = self.tail.group;
        let item = self.cx.with(|core| {
            let state = State { core, group };
            divergence::revisit(entry, before, &mut self.progress, &state)
        })?;
        let reason = words::of_item(&item, entry);
        Some(match item.verdict {
            Verdict::Skip { at } => (Resolution::Skipped(Some(at)), None),
            Verdict::Conflict(_) | Verdict::Unknown => (Resolution::Conflict, reason),
            Verdict::Nothing => (Resolution::Discarded, reason),
            Verdict::Apply(_) if !apply => {
                self.progress.assume(entry);
                (Resolution::Open, reason)
            }
            Verdict::Apply(proposal) => self.commit(entry, proposal, reason).await,
        })
    }

    async fn commit(&mut self, entry: &Entry, proposal: Proposal, reason: Option<String>) -> Outcome {
        match self.cx.commit(self.tail.group, proposal).await {
            Done::Committed(at) => {
                self.progress.committed(entry, at);
                (Resolution::Applied(Some(at)), reason)
            }
            Done::Duplicate(at) => {
                self.progress.committed(entry, at);
                (Resolution::Skipped(Some(at)), reason)
            }
            Done::NoChange(at) => {
                self.progress.committed(entry, at);
                (Resolution::Applied(None), reason)
            }
            // The serving pool knows better than the copy here.
            Done::Refused(refusal @ Refusal::Conflict(_)) => (Resolution::Conflict, Some(refusal.to_string())),
            Done::Refused(refusal) => {
                // Later entries may build on this one: they wait with it.
                self.stopped = Some(format!("an earlier entry of this tail is open: {refusal}"));
                (Resolution::Open, Some(refusal.to_string()))
            }
        }
    }

    fn store_marks(&mut self) {
        if !self.marks.is_empty() {
            let (group, fork, resolved) = (self.tail.group, self.tail.fork, std::mem::take(&mut self.marks));
            self.cx.with(|core| core.out.push_back(Output::ResolveTail { group, fork, resolved }));
        }
    }
}

/// Whether an entry of a tail stands in the history that goes on: this pool was promoted once more before it had taken over what the fork had
/// begun, with all that is in the tail, and it is the fork that has become a tail elsewhere.
fn stands(core: &Core, tail: &StoredTail, entry: &Entry) -> bool {
    // A fenced copy has its tail in itself, whatever becomes of it.
    let serves = matches!(core.host.role(tail.group), Some(Role::Active | Role::Backup));
    serves && is_on(core.host.lineage(tail.group), tail.fork.epoch, entry.position)
}

/// Whether a history went on past a fork without it, and a position is on it.
fn is_on(lineage: &[LineageItem], fork: Epoch, at: Position) -> bool {
    let past = lineage.last().is_some_and(|item| item.epoch > fork) && lineage.iter().all(|item| item.epoch != fork);
    let own = lineage.iter().position(|item| item.epoch == at.epoch && item.first <= at.seq);
    let ends = own.and_then(|own| lineage.get(own + 1)).map(|next| next.first);
    past && own.is_some() && ends.is_none_or(|next| at.seq < next)
}

/// Why the tail cannot be compared with the copy here: before the re-base the copy still has the tail in itself.
fn not_comparable(core: &Core, tail: &StoredTail) -> Option<String> {
    let rebased = core.host.lineage(tail.group).iter().any(|item| item.epoch == tail.fork.epoch);
    match core.host.role(tail.group) {
        None => Some("this pool has no copy of the group any more".to_owned()),
        Some(Role::Active | Role::Backup) if rebased => None,
        Some(_) => Some("the copy here has not become the backup of what the partner has made since".to_owned()),
    }
}

/// Gives up what is in conflict, and says so; returns how many entries that were.
fn settle(cx: &TaskCx, actor: &Actor, tail: &StoredTail, before: usize, view: &mut DivergenceView) -> usize {
    let by = super::name_of(actor);
    let mut marks = Vec::new();
    for (entry, resolution) in tail.entries.iter().zip(&tail.resolutions) {
        match resolution {
            Resolution::Conflict => {
                let shown = words::of_entry(tail.group, entry, Resolution::GivenUp, None);
                if before + marks.len() < NAMED {
                    let op = shown.op.as_deref().unwrap_or("-");
                    let what = shown.records.join("; ");
                    let text =
                        format!("group {}: {by} gave up {} (operation {op}): {what}", tail.group, entry.position);
                    cx.with(|core| core.event(Level::Warn, "tail-given-up", text));
                }
                marks.push((entry.position, Resolution::GivenUp));
                view.entries.push(shown);
            }
            Resolution::Open => {
                let reason = "not offered yet: use --apply first".to_owned();
                view.entries.push(words::of_entry(tail.group, entry, Resolution::Open, Some(reason)));
            }
            _ => {}
        }
    }
    let count = marks.len();
    if count > 0 {
        let (group, fork) = (tail.group, tail.fork);
        cx.with(|core| core.out.push_back(Output::ResolveTail { group, fork, resolved: marks }));
    }
    count
}

struct State<'a> {
    core: &'a Core,
    group: GroupId,
}

impl Lookup for State<'_> {
    fn applied(&self, op: &OpId) -> Applied {
        match self.core.host.operation(self.group, op) {
            None => Applied::No,
            Some(Some(at)) => Applied::At(at),
            Some(None) => Applied::Unknown,
        }
    }

    fn version(&self, key: &Key) -> Option<Position> {
        self.core.host.get(self.group, key).map(|record| record.version)
    }

    fn has(&self, at: Position) -> bool {
        self.core.host.position(self.group).is_some_and(|position| position >= at)
    }

    fn is_soft(&self, kind: Kind) -> bool {
        records::is_soft(kind)
    }

    fn is_cms(&self) -> bool {
        self.group.is_cms()
    }
}

#[cfg(test)]
mod tests {
    //! A tail that stands in the history that goes on is none.

    use super::*;

    #[test]
    fn what_a_pool_was_promoted_again_with_stands_and_what_it_gave_up_does_not() {
        let epoch = |number, pool| Epoch { number, granted_by: PoolId(pool) };
        let item = |number, pool, first| LineageItem { epoch: epoch(number, pool), first, pool: PoolId(pool) };
        let at = |seq| Position { epoch: epoch(1, 2), seq };
        // The other pool was promoted in epoch 3 after entry 46; this one in epoch 4 with entries 47 and 48.
        let again = [item(1, 2, 1), item(4, 2, 49)];
        let on = |lineage: &[LineageItem], seq| is_on(lineage, epoch(3, 1), at(seq));
        assert_eq!([47, 48, 49].map(|seq| on(&again, seq)), [true, true, false]);
        // Not yet decided; and re-based to the other pool's history, with or without a promotion after it.
        for lineage in
            [&[item(1, 2, 1)][..], &[item(1, 2, 1), item(3, 1, 47)], &[item(1, 2, 1), item(3, 1, 47), item(4, 2, 60)]]
        {
            assert!(!on(lineage, 47), "{lineage:?}");
        }
    }
}
