//! The divergent tail of a returned pool: shown entry by entry, and applied where nothing stands against it.
//!
//! Owns the command. The rule for one entry is `resilience::divergence`'s; storing tails is the shell's.

use crate::command::{Problem, Reply};
use crate::core::{Core, WaitResult};
use crate::cx::TaskCx;
use crate::io::{Output, StoredTail};
use crate::view::{DivergenceView, TailEntryView};
use pairline_group::io::{Done, HostInput};
use pairline_group::{Body, Class, Effect, Entry, GroupId, Key, Kind, OpId, Position};
use pairline_resilience::divergence::{self, Lookup, Progress, Verdict};
use pairline_services::cx::Cx;
use pairline_services::records;

/// Lists the open entries of a pool's tails, and applies what can be applied if asked to.
pub async fn execute(cx: &TaskCx, pool: &str, apply: bool) -> Result<Reply, Problem> {
    let home = super::pool_named(cx, pool)?;
    let wait = cx.start_wait(10_000);
    cx.with(|core| core.out.push_back(Output::ReadTails { id: wait, pool: home }));
    let WaitResult::Tails(tails) = cx.wait(wait).await else {
        return Err(Problem::timeout("reading the stored tails"));
    };
    let mut view = DivergenceView { pool: pool.to_owned(), entries: Vec::new() };
    for tail in tails {
        one_tail(cx, &tail, apply, &mut view).await;
    }
    Ok(Reply::Divergence(view))
}

async fn one_tail(cx: &TaskCx, tail: &StoredTail, apply: bool, view: &mut DivergenceView) {
    let mut progress = Progress::new();
    let mut resolved: Vec<(Position, Box<str>)> = Vec::new();
    for entry in &tail.entries {
        let item = cx.with(|core| divergence::decide(entry, &mut progress, &State { core, group: tail.group }));
        let outcome = match item.verdict {
            Verdict::Skip { .. } => "skipped",
            Verdict::Conflict(_) => "conflict",
            Verdict::Nothing => "discarded",
            Verdict::Apply(_) if !apply => "open",
            Verdict::Apply(proposal) => match cx.commit(tail.group, proposal).await {
                Done::Committed(at) | Done::Duplicate(at) | Done::NoChange(at) => {
                    progress.committed(entry.position, at);
                    "applied"
                }
                Done::Refused(_) => "open",
            },
        };
        if apply && outcome != "open" {
            resolved.push((entry.position, outcome.into()));
        }
        view.entries.push(entry_view(tail.group, entry, outcome));
    }
    let settled = resolved.len() == tail.entries.len() && resolved.iter().all(|(_, outcome)| &**outcome != "conflict");
    if !resolved.is_empty() {
        cx.with(|core| {
            if settled {
                let now = core.now;
                core.host.handle(now, HostInput::TailResolved { group: tail.group });
            }
            core.out.push_back(Output::ResolveTail { group: tail.group, fork: tail.fork, resolved });
        });
    }
}

struct State<'a> {
    core: &'a Core,
    group: GroupId,
}

impl Lookup for State<'_> {
    fn applied(&self, op: &OpId) -> Option<Position> {
        self.core.host.applied_op(self.group, op)
    }

    fn version(&self, key: &Key) -> Option<Position> {
        self.core.host.get(self.group, key).map(|record| record.version)
    }

    fn is_soft(&self, kind: Kind) -> bool {
        kind == records::BINDING || kind == records::GUEST
    }
}

fn entry_view(group: GroupId, entry: &Entry, outcome: &str) -> TailEntryView {
    let effects: &[Effect] = match &entry.body {
        Body::Effects(effects) => effects,
        _ => &[],
    };
    TailEntryView {
        group: group.to_string(),
        position: entry.position.to_string(),
        time: entry.time,
        op: entry.op.map(|op| format!("{:032x}:{}", op.session, op.counter)),
        durable: effects.iter().any(durable),
        records: effects.iter().map(describe).collect(),
        outcome: outcome.to_owned(),
    }
}

fn durable(effect: &Effect) -> bool {
    match effect {
        Effect::Put { class, .. } => *class == Class::Durable,
        Effect::Delete { key, .. } => key.kind != records::BINDING && key.kind != records::GUEST,
    }
}

fn describe(effect: &Effect) -> String {
    let key = effect.key();
    let what = match key.kind {
        records::CREDENTIAL => "credential",
        records::SETTINGS => "settings",
        records::CONTACT => "contact",
        records::BINDING => "binding",
        records::GUEST => "guest binding",
        _ => "record",
    };
    let item = match key.kind {
        records::CONTACT => String::from_utf8_lossy(&key.item).into_owned(),
        _ => String::new(),
    };
    let verb = match effect {
        Effect::Put { .. } => "put",
        Effect::Delete { .. } => "delete",
    };
    format!("{verb} {what} of {} {item}", key.owner).trim_end().to_owned()
}
