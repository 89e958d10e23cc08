//! Health and metrics of one server.
//!
//! Owns the names of metrics. Every number is counted elsewhere.

use crate::core::Core;
use crate::figures::UnderWay;
use crate::view::{Sample, StatusView};
use pairline_group::io::{GroupStatus, Lag, Role};
use pairline_services::admission::Class;

fn sample(samples: &mut Vec<Sample>, name: &str, labels: &[(&str, &str)], value: f64) {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    samples.push((name.to_owned(), labels, value));
}

/// A count as a metric value; exact up to 2^53.
fn number(count: u64) -> f64 {
    let high = u32::try_from(count >> 32).unwrap_or(u32::MAX);
    let low = u32::try_from(count & 0xFFFF_FFFF).unwrap_or(u32::MAX);
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

/// What the server says of itself.
pub fn of_server(core: &Core) -> StatusView {
    let groups: Vec<GroupStatus> = core.host.groups().into_iter().filter_map(|id| core.host.group(id)).collect();
    let mut samples = Vec::new();
    for group in &crate::modes::statuses(core) {
        of_group(core, &mut samples, group);
    }
    for pool in &core.topology.pool {
        let mode = core.modes.describe(pool.id, core.now.mono);
        sample(&mut samples, "pairline_pool_mode", &[("pool", &pool.name), ("mode", &mode.name)], 1.0);
    }
    for (name, count) in core.counters.all() {
        sample(&mut samples, &format!("pairline_{name}_total"), &[], number(count));
    }
    of_figures(&mut samples, core);
    of_traffic(&mut samples, core);
    of_admission(&mut samples, core);
    of_what_is_under_way(&mut samples, core);
    sample(&mut samples, "pairline_links_up", &[], number(core.links.len() as u64));
    sample(&mut samples, "pairline_streams_open", &[], number(core.streams.len() as u64));
    sample(&mut samples, "pairline_commits_in_flight", &[], number(core.tickets.len() as u64));
    sample(&mut samples, "pairline_disk_free_bytes", &[], number(core.facts.disk_free));
    sample(&mut samples, "pairline_log_bytes", &[], number(core.facts.log_bytes));
    let server = core.topology.server(core.config.server);
    let witness = crate::witness::is_here(core);
    StatusView {
        server: server.map(|server| server.name.clone()).unwrap_or_default(),
        pool: core.topology.pool_name(core.pool),
        healthy: (!groups.is_empty() || core.host.awaited() == 0)
            && groups.iter().all(|group| match group.role {
                Role::Active => group.confirmed && group.stopped.is_none(),
                Role::Backup | Role::Fenced => !witness || group.stopped.is_none(),
            }),
        start: core.config.boot,
        drained: core.host.drained().0,
        samples,
    }
}

/// Transactions, tasks, timers and waits: what comes to its end by itself.
fn of_what_is_under_way(samples: &mut Vec<Sample>, core: &Core) {
    let now = UnderWay::of(core);
    sample(samples, "pairline_sip_transactions", &[], number(core.layer.len() as u64));
    sample(samples, "pairline_sip_transactions_brief", &[], number(now.brief));
    sample(samples, "pairline_sip_transactions_kept", &[], number(now.kept));
    sample(samples, "pairline_sip_transactions_kept_bytes", &[], number(now.kept_bytes));
    for (of, count) in [("request", now.requests), ("other", now.others)] {
        sample(samples, "pairline_tasks", &[("of", of)], number(count));
    }
    for (of, count) in [("transaction", now.transaction_timers), ("task", now.task_timers)] {
        sample(samples, "pairline_timers", &[("of", of)], number(count));
    }
    sample(samples, "pairline_waits", &[], number(now.waits));
    sample(samples, "pairline_requests_pending", &[], number(now.pending));
    sample(samples, "pairline_nonces", &[], number(now.nonces));
}

/// Commit latency as a histogram, and bindings once they have been counted.
fn of_figures(samples: &mut Vec<Sample>, core: &Core) {
    let latency = &core.commit_latency;
    for (bound, commits) in latency.cumulative() {
        let bound = (number(bound) / 1_000.0).to_string();
        sample(samples, "pairline_commit_latency_seconds_bucket", &[("le", &bound)], number(commits));
    }
    sample(samples, "pairline_commit_latency_seconds_bucket", &[("le", "+Inf")], number(latency.count));
    sample(samples, "pairline_commit_latency_seconds_sum", &[], number(latency.sum_ms) / 1_000.0);
    sample(samples, "pairline_commit_latency_seconds_count", &[], number(latency.count));
    if let Some(bindings) = core.census.last {
        sample(samples, "pairline_registrations", &[("kind", "home")], number(bindings.home));
        sample(samples, "pairline_registrations", &[("kind", "guest")], number(bindings.guest));
        sample(samples, "pairline_registrations_stranded", &[], number(bindings.stranded));
    }
}

/// SIP messages by what they are, and the times to final answers.
fn of_traffic(samples: &mut Vec<Sample>, core: &Core) {
    for count in core.traffic.counts() {
        let value = if count.name.ends_with("_sum") { number(count.count) / 1_000.0 } else { number(count.count) };
        let labels: Vec<(&str, &str)> = count.labels.iter().map(|(key, word)| (*key, word.as_str())).collect();
        sample(samples, count.name, &labels, value);
    }
}

/// What was let in and what was refused, by class, and how much may come.
fn of_admission(samples: &mut Vec<Sample>, core: &Core) {
    let rate = core.admission.rate();
    let figures = rate.figures();
    for class in Class::ALL {
        let label = &[("class", class.name())];
        sample(samples, "pairline_admission_admitted_total", label, number(figures.admitted[class as usize]));
        sample(samples, "pairline_admission_refused_total", label, number(figures.refused[class as usize]));
    }
    let [source, identity] = core.admission.sources().limited();
    for (kind, count) in [("source", source), ("identity", identity)] {
        sample(samples, "pairline_admission_limited_total", &[("by", kind)], number(count));
    }
    sample(samples, "pairline_admission_units_per_second", &[], f64::from(rate.rate()));
    sample(samples, "pairline_admission_wait_seconds", &[], number(rate.wait()) / 1_000.0);
    sample(samples, "pairline_overloaded", &[], f64::from(u8::from(rate.is_overloaded())));
    sample(samples, "pairline_overloads_total", &[], number(figures.overloads));
}

fn of_group(core: &Core, samples: &mut Vec<Sample>, group: &GroupStatus) {
    let id = group.group.to_string();
    let labels: &[(&str, &str)] = &[("group", &id)];
    sample(samples, "pairline_group_position", labels, number(group.position.seq));
    // Epochs compare by number, then by who granted them; both pools may have granted one number.
    let granted_by = core.topology.pool_name(group.epoch.granted_by);
    let epoch: &[(&str, &str)] = &[("group", &id), ("granted_by", &granted_by)];
    sample(samples, "pairline_group_epoch", epoch, number(group.epoch.number));
    sample(samples, "pairline_group_records", labels, number(group.records));
    sample(samples, "pairline_group_bytes", labels, number(group.bytes));
    sample(samples, "pairline_group_behind_entries", labels, number(group.behind_entries));
    sample(samples, "pairline_group_tail_entries", labels, number(group.tail));
    let role = match group.role {
        Role::Active if group.confirmed => "active",
        Role::Active => "unconfirmed",
        Role::Backup => "backup",
        Role::Fenced => "fenced",
    };
    sample(samples, "pairline_group_role", &[("group", &id), ("role", role)], 1.0);
    match group.lag {
        Lag::Unknown => {}
        Lag::Exactly(ms) => {
            sample(samples, "pairline_group_lag_seconds", &[("group", &id), ("bound", "exact")], number(ms) / 1_000.0)
        }
        Lag::AtMost(ms) => {
            sample(samples, "pairline_group_lag_seconds", &[("group", &id), ("bound", "at-most")], number(ms) / 1_000.0)
        }
    }
}
