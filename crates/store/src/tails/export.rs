//! A tail as lines of JSON, for a person or a script.
//!
//! Owns that text only: one line for the tail, then one per entry. Values are lower-case hexadecimal.

use super::Tail;
use pairline_group::entry::{Body, Effect, Entry};
use pairline_group::record::{Class, Key};
use pairline_group::tail::is_made;
use serde_json::{Value, json};
use std::fmt::Write;

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

fn key(key: &Key) -> Value {
    json!({ "owner": key.owner.as_ref(), "kind": key.kind.0, "item": hex(&key.item) })
}

fn effect(effect: &Effect) -> Value {
    match effect {
        Effect::Put { key: of, based_on, class, value } => json!({
            "put": key(of),
            "based_on": based_on.map(|position| position.to_string()),
            "class": match class { Class::Durable => "durable", Class::Soft { .. } => "soft" },
            "expires": match class { Class::Durable => None, Class::Soft { expires } => Some(expires) },
            "value": hex(value),
        }),
        Effect::Delete { key: of, based_on } => {
            json!({ "delete": key(of), "based_on": based_on.map(|position| position.to_string()) })
        }
    }
}

fn body(body: &Body) -> Value {
    match body {
        Body::Open { pool } => json!({ "open": pool.0 }),
        Body::Effects(effects) => {
            json!({ "effects": effects.iter().map(effect).collect::<Vec<_>>() })
        }
        Body::Expire(keys) => json!({ "expire": keys.iter().map(key).collect::<Vec<_>>() }),
        Body::Handover(handover) => json!({
            "handover": { "to": handover.to.0, "epoch": handover.epoch.to_string(), "digest": hex(&handover.digest) },
        }),
        Body::Promote(promote) => json!({
            "promote": {
                "epoch": promote.epoch.to_string(),
                "recovery_point": promote.recovery_point.to_string(),
                "soft_extension": promote.soft_extension,
                "operator": promote.operator.as_ref(),
                "plan": hex(&promote.plan),
            },
        }),
    }
}

fn entry(entry: &Entry) -> Value {
    json!({
        "position": entry.position.to_string(),
        "time": entry.time,
        "operation": entry.op.map(|op| format!("{:032x}.{}", op.session, op.counter)),
        "step": entry.step.map(|step| format!("{:032x}.{}", step.procedure, step.step)),
        "body": body(&entry.body),
    })
}

/// The whole tail as text.
pub(super) fn lines(tail: &Tail) -> String {
    let head = json!({
        "group": tail.id.group.to_string(),
        "fork": tail.id.fork.to_string(),
        "entries": tail.entries.len(),
        "digest": hex(&tail.digest),
    });
    let mut out = format!("{head}\n");
    for (one, resolution) in tail.entries.iter().zip(&tail.resolutions) {
        let mut line = entry(one);
        if let Some(line) = line.as_object_mut() {
            line.insert("resolution".to_owned(), Value::from(resolution.as_str()));
            if let Some(at) = resolution.at() {
                line.insert("at".to_owned(), Value::from(at.to_string()));
            }
            if is_made(one) {
                line.insert("made_from_state".to_owned(), Value::from(true));
            }
        }
        out.push_str(&line.to_string());
        out.push('\n');
    }
    out
}
