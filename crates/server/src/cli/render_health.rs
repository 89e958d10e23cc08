//! Health of pools in words: `pairline pool health`.
//!
//! Owns the layout and the exit code. What follows from what, the node has said.

use super::table::table;
use pairline_node::view::{GroupHealthView, HealthView, PoolHealthView};
use std::collections::BTreeMap;

/// The whole answer.
pub fn health(view: &HealthView) -> String {
    let pools: Vec<String> = view.pools.iter().map(pool).collect();
    format!("as seen by {}\n\n{}", view.seen_by, pools.join("\n"))
}

fn pool(view: &PoolHealthView) -> String {
    let mut text = format!("{}: {}\n", view.pool, state(&view.state));
    if !view.servers.is_empty() {
        let rows: Vec<Vec<String>> = view
            .servers
            .iter()
            .map(|s| {
                let copies = format!("{}/{}", s.copies, s.of_copies);
                let behind = if s.behind == 0 { "-".to_owned() } else { s.behind.to_string() };
                if s.witness {
                    let heard = format!("{}; witness, without data", s.heard);
                    return vec![s.server.clone(), heard, "-".to_owned(), format!("{copies} votes"), behind];
                }
                vec![s.server.clone(), s.heard.clone(), s.leads.to_string(), copies, behind]
            })
            .collect();
        text.push_str(&format!("\n{}", table(&["SERVER", "STATE", "LEADS", "COPIES", "BEHIND"], &rows)));
    }
    if !view.troubled.is_empty() {
        text.push_str(&format!("\n{}", troubled(&view.troubled)));
    }
    text.push_str(&format!("\nsurvives: {}\n", view.survives));
    for step in &view.next {
        text.push_str(&format!("next: {step}\n"));
    }
    text
}

fn state(state: &str) -> &str {
    match state {
        "healthy" => "healthy: every group has a leader and all its copies",
        "degraded" => {
            "DEGRADED: every group has a majority, some have fewer copies than they should, or are not opened yet"
        }
        "no-majority" => "NO MAJORITY: some groups cannot be changed",
        "unknown" => "UNKNOWN: no server of it answers",
        other => other,
    }
}

/// One row for all groups that are in the same trouble.
fn troubled(groups: &[GroupHealthView]) -> String {
    let mut alike: BTreeMap<Vec<String>, Vec<&GroupHealthView>> = BTreeMap::new();
    for g in groups {
        let names = |of: &[String]| if of.is_empty() { "-".to_owned() } else { of.join(", ") };
        let copies = format!("{} of {}", g.copies, g.of_copies);
        let what = vec![g.state.replace('-', " "), copies, names(&g.missing), names(&g.behind)];
        alike.entry(what).or_default().push(g);
    }
    let rows: Vec<Vec<String>> = alike
        .into_iter()
        .map(|(what, of)| {
            let mut leaders: Vec<&str> = of.iter().map(|g| g.leader.as_deref().unwrap_or("nobody")).collect();
            leaders.sort_unstable();
            leaders.dedup();
            let mut row = vec![names_of(&of), leaders.join(", ")];
            row.splice(1..1, what);
            row
        })
        .collect();
    table(&["GROUPS", "STATE", "COPIES", "MISSING", "BEHIND", "LED BY"], &rows)
}

/// Names of groups, runs of numbers shortened: `1/0-13, 1/20, management store`.
fn names_of(groups: &[&GroupHealthView]) -> String {
    let mut runs: Vec<(String, Option<(u32, u32)>)> = Vec::new();
    for name in groups.iter().map(|g| g.group.as_str()) {
        let numbered = name.split_once('/').and_then(|(pool, n)| Some((pool, n.parse::<u32>().ok()?)));
        match (numbered, runs.last_mut()) {
            (Some((pool, n)), Some((last, Some((_, to))))) if last.as_str() == pool && *to + 1 == n => *to = n,
            (Some((pool, n)), _) => runs.push((pool.to_owned(), Some((n, n)))),
            (None, _) => runs.push((name.to_owned(), None)),
        }
    }
    let word = |(name, run): &(String, Option<(u32, u32)>)| match run {
        None => name.clone(),
        Some((from, to)) if from == to => format!("{name}/{from}"),
        Some((from, to)) => format!("{name}/{from}-{to}"),
    };
    runs.iter().map(word).collect::<Vec<_>>().join(", ")
}

/// The exit code: 0 healthy, 1 degraded, 2 where some group has no majority or nobody of a pool answers.
pub fn exit_code(view: &HealthView) -> u8 {
    let code = |pool: &PoolHealthView| match pool.state.as_str() {
        "healthy" => 0,
        "degraded" => 1,
        _ => 2,
    };
    view.pools.iter().map(code).max().unwrap_or(2)
}
