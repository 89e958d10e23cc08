//! Health of pools in words: `pairline pool health`.
//!
//! Owns the layout and the exit code. What follows from what, the node has said.

use super::table::table;
use pairline_node::view::{GroupHealthView, HealthView, PoolHealthView};

/// Groups that are shown one by one; the words below them name all.
const SHOWN: usize = 12;

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
        "degraded" => "DEGRADED: every group has a majority, some have fewer copies than they should",
        "no-majority" => "NO MAJORITY: some groups cannot be changed",
        "unknown" => "UNKNOWN: no server of it answers",
        other => other,
    }
}

fn troubled(groups: &[GroupHealthView]) -> String {
    let rows: Vec<Vec<String>> = groups
        .iter()
        .take(SHOWN)
        .map(|g| {
            let leader = g.leader.clone().unwrap_or_else(|| "nobody".to_owned());
            let names = |of: &[String]| if of.is_empty() { "-".to_owned() } else { of.join(", ") };
            let copies = format!("{} of {}", g.copies, g.of_copies);
            vec![g.group.clone(), g.state.replace('-', " "), leader, copies, names(&g.missing), names(&g.behind)]
        })
        .collect();
    let mut text = table(&["GROUP", "STATE", "LED BY", "COPIES", "MISSING", "BEHIND"], &rows);
    if groups.len() > SHOWN {
        text.push_str(&format!("and {} more (--json shows all)\n", groups.len() - SHOWN));
    }
    text
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
