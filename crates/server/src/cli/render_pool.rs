//! Replies in words: pools, lag, plans, procedures, verification, divergent tails.
//!
//! Owns the wording. Computes nothing that the node did not say.

use super::table::{bytes, millis, seconds, table, utc};
use pairline_node::view::{
    DivergenceView, FindingView, PlanView, PoolsView, ProcedureView, ReportView, ShippingView, VerifyView,
};

/// Status of all pools.
pub fn pools(view: &PoolsView) -> String {
    let rows: Vec<Vec<String>> = view
        .pools
        .iter()
        .map(|p| {
            let serves = match p.serving_partner {
                0 => format!("{}/{}", p.serving_own, p.groups),
                partner => format!("{}/{} + {partner} of its partner", p.serving_own, p.groups),
            };
            let heard = if p.alive { "yes" } else { "no" };
            let store = if p.management_store { "serves" } else { "-" };
            let tail = if p.tail == 0 { "-".to_owned() } else { format!("{} entries", p.tail) };
            let mode = format!("{} for {}", p.mode, seconds(p.mode_since));
            let partner = p.partner.clone().unwrap_or_else(|| "unpaired".into());
            vec![
                p.name.clone(),
                p.site.clone(),
                partner,
                mode,
                heard.into(),
                serves,
                p.epoch.to_string(),
                store.into(),
                tail,
            ]
        })
        .collect();
    let header = ["POOL", "SITE", "PARTNER", "MODE", "HEARD", "SERVES GROUPS", "EPOCH", "MANAGEMENT STORE", "TAIL"];
    let mut text = format!("as seen by {}\n\n{}", view.seen_by, table(&header, &rows));
    for pool in view.pools.iter().filter(|pool| !pool.mode_reason.is_empty()) {
        text.push_str(&format!("{}: {}\n", pool.name, pool.mode_reason));
    }
    text.push('\n');
    text.push_str(&shipping(&view.shipping));
    for alarm in &view.alarms {
        text.push_str(&format!("ALARM: {alarm}\n"));
    }
    if !view.exclusions.is_empty() {
        text.push_str(&format!("not replicated: {}\n", view.exclusions.join("; ")));
    }
    text
}

fn shipping(shipping: &[ShippingView]) -> String {
    if shipping.is_empty() {
        return "nothing is shipped: no pool is paired\n".into();
    }
    let rows: Vec<Vec<String>> = shipping
        .iter()
        .map(|s| {
            vec![
                format!("{} -> {}", s.from, s.to),
                s.module.clone(),
                s.export.clone(),
                s.import.clone(),
                lag(s),
                lost_now(s),
                s.seed.map_or_else(|| "-".into(), |(done, all)| format!("{done} of {all}")),
                verified(s),
            ]
        })
        .collect();
    table(&["DIRECTION", "MODULE", "EXPORT", "IMPORT", "LAG", "WOULD BE LOST NOW", "SEED", "LAST PROVEN EQUAL"], &rows)
}

/// A lag as a person reads it; unknown is never shown as a number.
pub fn lag(s: &ShippingView) -> String {
    match s.lag_seconds {
        None => "unknown".into(),
        Some(value) if s.lag_is_bound => format!("≤ {value:.3} s"),
        Some(value) => format!("{value:.3} s"),
    }
}

fn lost_now(s: &ShippingView) -> String {
    match (s.lag_seconds, s.behind_entries) {
        (None, 0) => "unknown".into(),
        (_, 0) => "nothing".into(),
        (_, entries) => format!("{entries} entries, {}", bytes(s.behind_bytes)),
    }
}

fn verified(s: &ShippingView) -> String {
    let (equal, of) = s.verified_groups;
    match s.verified_at {
        Some(at) => format!("{equal}/{of} groups, {}", utc(at)),
        None if of == 0 => "-".into(),
        None => format!("{equal}/{of} groups"),
    }
}

/// Whether every direction keeps up. Rows without groups (nothing is served on that side) do not count, but one row must.
pub fn steady(view: &PoolsView) -> bool {
    let counted: Vec<&ShippingView> =
        view.shipping.iter().filter(|s| s.verified_groups.1 > 0 || word(&s.export) == "error").collect();
    !counted.is_empty()
        && counted.iter().all(|s| {
            let export = word(&s.export);
            (export == "steady" || export == "final") && word(&s.import) == "normal" && s.seed.is_none()
        })
}

fn word(state: &str) -> String {
    state.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase()).collect()
}

/// Outcome of a verification.
pub fn verify(view: &VerifyView) -> String {
    let mut text = format!("{}: {} of {} groups proven equal\n", view.pool, view.equal, view.groups);
    for (group, position, ranges) in &view.unequal {
        text.push_str(&format!("  UNEQUAL group {group} at {position}, ranges {ranges:?}\n"));
    }
    for (group, why) in &view.skipped {
        text.push_str(&format!("  not compared: group {group}: {why}\n"));
    }
    text
}

/// Whether a verification proves equality of all groups.
pub fn verified_all(view: &VerifyView) -> bool {
    view.groups > 0 && view.equal == view.groups
}

/// A plan and its findings.
pub fn plan(view: &PlanView) -> String {
    // A plan's text has its findings in it; without a plan they stand alone.
    let mut text = if view.plan.is_empty() { findings(&view.findings) } else { format!("{}\n", view.plan.trim_end()) };
    let remedies =
        view.findings.iter().filter(|f| f.verdict == "refuse" && !view.plan.is_empty() && !f.remedy.is_empty());
    for f in remedies {
        text.push_str(&format!("  to do about {}: {}\n", f.rule, f.remedy));
    }
    if !view.expected_loss.is_empty() {
        text.push_str(&format!("\nwhat would be lost: {}\n", view.expected_loss));
    }
    text.push_str(if view.allowed { "\nallowed\n" } else { "\nNOT allowed: see the findings marked refuse\n" });
    text
}

fn findings(findings: &[FindingView]) -> String {
    let mut text = String::new();
    for f in findings {
        text.push_str(&format!("  {:<6}  {}: {}\n", f.verdict, f.rule, f.reason));
        if f.verdict != "ok" && !f.remedy.is_empty() {
            text.push_str(&format!("          {}\n", f.remedy));
        }
    }
    text
}

/// One procedure.
pub fn procedure(view: &ProcedureView) -> String {
    let (done, all) = view.steps;
    let mut text = format!(
        "procedure {} ({} of {}): {}, step {done} of {all}\n  started {} by {}\n",
        view.id,
        view.kind,
        view.pool,
        view.state,
        utc(view.started),
        view.operator
    );
    if let Some(stopped) = &view.stopped {
        let word = if view.state == "stopped" { "STOPPED" } else { "note" };
        text.push_str(&format!("  {word}: {stopped}\n"));
    }
    match &view.report {
        Some(report) => text.push_str(&report_text(report)),
        None if !view.plan.is_empty() => text.push_str(&format!("\n{}\n", view.plan.trim_end())),
        None => {}
    }
    text
}

fn report_text(report: &ReportView) -> String {
    let mut text = format!("\n{}\n", report.text.trim_end());
    if report.text.trim().is_empty() {
        let rows: Vec<Vec<String>> = report.stages.iter().map(|(stage, ms)| vec![stage.clone(), millis(*ms)]).collect();
        text.push_str(&table(&["STAGE", "TIME"], &rows));
    }
    text
}

/// Procedures, newest first.
pub fn procedures(procedures: &[ProcedureView]) -> String {
    if procedures.is_empty() {
        return "no procedures\n".into();
    }
    let rows: Vec<Vec<String>> = procedures
        .iter()
        .map(|p| {
            let steps = format!("{}/{}", p.steps.0, p.steps.1);
            vec![
                p.id.clone(),
                p.kind.clone(),
                p.pool.clone(),
                p.state.clone(),
                steps,
                utc(p.started),
                p.operator.clone(),
            ]
        })
        .collect();
    table(&["ID", "KIND", "POOL", "STATE", "STEPS", "STARTED", "BY"], &rows)
}

/// A divergent tail.
pub fn divergence(view: &DivergenceView) -> String {
    if view.entries.is_empty() {
        return format!("{}: no divergent tail\n", view.pool);
    }
    let rows: Vec<Vec<String>> = view
        .entries
        .iter()
        .map(|e| {
            let class = if e.durable { "durable" } else { "soft" };
            let mut what = e.records.join("; ");
            if let Some(reason) = &e.reason {
                what = format!("{what} ({reason})");
            }
            let op = e.op.clone().unwrap_or_else(|| "-".into());
            vec![e.group.clone(), e.position.clone(), utc(e.time), class.into(), e.outcome.clone(), op, what]
        })
        .collect();
    let count = |outcome: &str| view.entries.iter().filter(|e| e.outcome == outcome).count();
    format!(
        "{}{}: {} entries: {} open, {} applied, {} skipped, {} in conflict, {} discarded, {} given up\n",
        table(&["GROUP", "POSITION", "TIME", "CLASS", "OUTCOME", "OPERATION", "RECORDS"], &rows),
        view.pool,
        view.entries.len(),
        count("open"),
        count("applied"),
        count("skipped"),
        count("conflict"),
        count("discarded"),
        count("given-up")
    )
}
