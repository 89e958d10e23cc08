//! Entries of a divergent tail in words.
//!
//! Owns how an entry and the reason for its outcome are shown. Decides nothing.

use crate::view::TailEntryView;
use pairline_group::tail::{self, Resolution};
use pairline_group::{Body, Class, Effect, Entry, GroupId};
use pairline_resilience::divergence::{Item, Verdict};
use pairline_resilience::journal::{KIND_LOCK, KIND_PROCEDURE};
use pairline_services::records;

/// One entry as it is shown.
pub fn of_entry(group: GroupId, entry: &Entry, outcome: Resolution, reason: Option<String>) -> TailEntryView {
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
        outcome: outcome.as_str().to_owned(),
        reason,
    }
}

/// Why an entry is decided on as it is, where that is not plain.
pub fn of_item(item: &Item, entry: &Entry) -> Option<String> {
    let mut said = Vec::new();
    if tail::is_made(entry) {
        said.push("made from the copy's state: the entries themselves were no longer kept".to_owned());
    }
    if !item.past.is_empty() {
        said.push("what was under way at the lost pool is not brought back".to_owned());
    }
    match &item.verdict {
        Verdict::Conflict(conflicts) => {
            let changed = |at: Option<_>| at.map_or_else(|| "absent".to_owned(), |at| format!("at {at}"));
            said.extend(conflicts.iter().take(3).map(|conflict| {
                let (key, based_on) = (&conflict.key, changed(conflict.based_on));
                format!("a record of {} was {based_on} and is {} now", key.owner, changed(conflict.now))
            }));
            if conflicts.is_empty() {
                said.push("was in conflict when it was offered".to_owned());
            }
        }
        Verdict::Unknown => {
            said.push("its client has gone on so far that whether it was applied cannot be told".to_owned());
        }
        Verdict::Skip { .. } | Verdict::Apply(_) | Verdict::Nothing => {}
    }
    (!said.is_empty()).then(|| said.join("; "))
}

fn durable(effect: &Effect) -> bool {
    match effect {
        Effect::Put { class, .. } => *class == Class::Durable,
        Effect::Delete { key, .. } => !records::is_soft(key.kind),
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
        records::SUBSCRIPTION => "subscription",
        KIND_PROCEDURE => "procedure",
        KIND_LOCK => "procedure lock",
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
