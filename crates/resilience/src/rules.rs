//! The rules of preflight, one function each.
//!
//! Owns what is refused and why, and which refusals force may turn into warnings. Every refusal has a remedy.

use crate::plan::Command;
use crate::plan_text::{lag_text, seconds, worst};
use crate::preflight::{Finding, Observed, PoolSight, Rule, Subject, Verdict, has_stood_down};
use pairline_group::GroupId;
use pairline_group::io::{ExportState, GroupStatus, ImportState, Lag, Role};

/// One rule's inputs.
struct Case<'a> {
    command: &'a Command,
    subject: &'a Subject,
    seen: &'a Observed,
    disaster: bool,
    found: Vec<Finding>,
}

/// Applies all rules in a fixed order.
pub(crate) fn all(command: &Command, subject: &Subject, seen: &Observed) -> Vec<Finding> {
    let mut case = Case { command, subject, seen, disaster: command.is_disaster(), found: Vec::new() };
    for rule in [
        place,
        running,
        something,
        fail_back_first,
        healthy,
        reachable,
        fencing,
        management_store,
        seeded,
        copies,
        lag,
        verify,
        tail,
        capacity,
        version,
        certificate,
        clock,
        disk,
        next_hop,
        exclusions,
    ] {
        rule(&mut case);
    }
    case.found
}

impl Case<'_> {
    fn say(&mut self, rule: Rule, verdict: Verdict, reason: impl Into<String>, remedy: impl Into<String>) {
        self.found.push(Finding { rule, verdict, reason: reason.into(), remedy: remedy.into() });
    }

    fn ok(&mut self, rule: Rule, reason: impl Into<String>) {
        self.say(rule, Verdict::Ok, reason, "");
    }

    /// A refusal that nothing overrides.
    fn refuse(&mut self, rule: Rule, reason: impl Into<String>, remedy: impl Into<String>) {
        self.say(rule, Verdict::Refuse, reason, remedy);
    }

    /// A refusal that force turns into a warning. A reclaim has no force: it is the last resort and states that the
    /// partner is off, so only a partner that answers stands against it.
    fn object(&mut self, rule: Rule, reason: impl Into<String>, remedy: impl Into<String>) {
        let last_resort = matches!(self.command, Command::Reclaim { .. }) && rule != Rule::Healthy;
        if last_resort {
            self.say(rule, Verdict::Warn, reason, remedy);
        } else if self.command.is_forced() {
            self.say(rule, Verdict::Warn, reason, "accepted by --force");
        } else if matches!(self.command, Command::Reclaim { .. }) {
            self.refuse(rule, reason, remedy);
        } else {
            self.say(rule, Verdict::Refuse, reason, format!("{}, or accept it with --force", remedy.into()));
        }
    }

    fn source(&self) -> Option<&PoolSight> {
        self.seen.pool(self.subject.source)
    }

    fn target(&self) -> Option<&PoolSight> {
        self.seen.pool(self.subject.target)
    }

    fn source_name(&self) -> String {
        self.seen.name_of(self.subject.source)
    }

    fn target_name(&self) -> String {
        self.seen.name_of(self.subject.target)
    }

    fn at_source(&self, group: GroupId) -> Option<&GroupStatus> {
        self.seen.copy(group, self.subject.source)
    }

    fn at_target(&self, group: GroupId) -> Option<&GroupStatus> {
        self.seen.copy(group, self.subject.target)
    }
}

/// The first few groups of a list, for a sentence.
fn few(groups: &[GroupId]) -> String {
    let mut text: Vec<String> = groups.iter().take(3).map(ToString::to_string).collect();
    if groups.len() > 3 {
        text.push(format!("and {} more", groups.len() - 3));
    }
    text.join(", ")
}

fn place(c: &mut Case<'_>) {
    if c.seen.here != c.subject.target {
        let name = c.target_name();
        let reason = format!("the procedure runs where users will be served, at {name}");
        c.refuse(Rule::Place, reason, format!("give the command to a server of {name}"));
    }
}

fn running(c: &mut Case<'_>) {
    let Some(running) = c.seen.running.clone() else {
        return;
    };
    let reason = format!(
        "procedure {:032x} ({}), ordered by {} at {}, has not ended",
        running.id, running.what, running.operator, running.since
    );
    let remedy = format!("await it, or pairline procedure resume|abort {:032x}", running.id);
    // In a disaster the procedure's other half may be gone for good, or nobody serves the journal in which it could be ended: then, and only
    // then, force replaces it. A reclaim is what follows a procedure that went wrong; what it may take back, the other rules say.
    let unserved = c.subject.groups.contains(&GroupId::CMS) && c.at_source(GroupId::CMS).is_some_and(has_stood_down);
    let lost = c.disaster && (unserved || c.source().is_none_or(|s| !s.reachable));
    if lost || matches!(c.command, Command::Reclaim { .. }) {
        c.object(Rule::Running, reason, remedy);
    } else {
        c.refuse(Rule::Running, reason, remedy);
    }
}

fn something(c: &mut Case<'_>) {
    if c.subject.groups.is_empty() {
        let reason = format!("{} serves nothing that would move", c.source_name());
        let of_pool = c.seen.group_ids().into_iter().filter(|g| g.pool == c.subject.pool && !g.is_cms());
        let unserved: Vec<GroupId> =
            of_pool.filter(|g| c.at_target(*g).is_some_and(|copy| c.seen.is_idle(copy))).collect();
        let (home, target) = (c.seen.name_of(c.subject.pool), c.target_name());
        match matches!(c.command, Command::Failover { .. }) && !unserved.is_empty() {
            true => {
                let reason = format!("{reason}: {target} took {} over and does not serve them", few(&unserved));
                c.refuse(Rule::Something, reason, format!("take them back: pairline pool failback {home} --disaster"));
            }
            false => c.refuse(Rule::Something, reason, "nothing is to be done: see pairline pool status"),
        }
    } else {
        c.ok(Rule::Something, format!("{} groups move", c.subject.groups.len()));
    }
}

fn fail_back_first(c: &mut Case<'_>) {
    let Command::Failover { pool, .. } = c.command else {
        return;
    };
    let serves = |g: &GroupId| c.seen.serving(*g).is_some_and(|(_, at)| at == *pool);
    let foreign: Vec<GroupId> =
        c.seen.group_ids().into_iter().filter(|g| !g.is_cms() && g.pool != *pool && serves(g)).collect();
    if !foreign.is_empty() {
        let reason = format!("{} serves groups of its partner: {}", c.source_name(), few(&foreign));
        let home = c.target_name();
        let remedy = if c.source().is_some_and(|s| s.reachable) {
            format!("first pairline pool failback {home}")
        } else {
            format!("first take them back at home: pairline pool failback {home} --disaster")
        };
        c.refuse(Rule::FailBackFirst, reason, remedy);
    }
}

fn healthy(c: &mut Case<'_>) {
    if c.disaster && c.source().is_some_and(|s| s.reachable) {
        let idle = |g: &GroupId| c.at_source(*g).is_some_and(|copy| c.seen.is_idle(copy));
        if matches!(c.command, Command::Reclaim { .. }) && c.subject.groups.iter().all(idle) {
            let name = c.source_name();
            c.ok(Rule::Healthy, format!("{name} answers, but its copies of these groups serve nobody"));
            return;
        }
        let reason = format!("{} answers; a disaster procedure would give up what it has not shipped", c.source_name());
        c.object(Rule::Healthy, reason, "use the planned procedure: it needs no --disaster and loses nothing");
    }
}

fn reachable(c: &mut Case<'_>) {
    if c.disaster {
        return;
    }
    if c.seen.link_up && c.source().is_some_and(|s| s.reachable) {
        c.ok(Rule::Reachable, format!("{} answers", c.source_name()));
    } else {
        let reason = format!("{} does not answer; a planned procedure needs it", c.source_name());
        c.refuse(Rule::Reachable, reason, "restore the link, or use --disaster if the pool is lost");
    }
}

fn fencing(c: &mut Case<'_>) {
    if !c.disaster {
        return;
    }
    let name = c.source_name();
    if c.command.says_source_off() {
        c.ok(Rule::Fencing, format!("the administrator states that {name} is off"));
        return;
    }
    let reason = format!("{name} may still run and serve in its old epoch; what it commits then is divergent tail");
    let remedy = format!("make sure that {name} is off and state it with --confirm");
    if c.command.is_dry_run() {
        // The plan is shown to whoever has to decide; the word is asked for when it is to be carried out.
        c.say(Rule::Fencing, Verdict::Warn, reason, format!("before the real run, {remedy}"));
    } else {
        // Force accepts findings; only a person's word stands for what cannot be found out.
        c.refuse(Rule::Fencing, reason, remedy);
    }
}

fn management_store(c: &mut Case<'_>) {
    let moves = c.subject.groups.contains(&GroupId::CMS);
    match c.seen.serving(GroupId::CMS) {
        None => {
            let remedy =
                "give the command to a server of a pool that keeps a copy: pairline management failover --disaster";
            c.refuse(Rule::ManagementStore, "no copy of the management store is known here", remedy);
        }
        Some((epoch, at)) if moves => {
            let reason = format!("the management store is at {} (epoch {epoch}) and moves first", c.seen.name_of(at));
            c.ok(Rule::ManagementStore, reason);
        }
        Some((_, at)) if c.seen.copy(GroupId::CMS, at).is_some_and(has_stood_down) => {
            let reason = format!("nobody serves the management store: {} stood down by order", c.seen.name_of(at));
            c.refuse(Rule::ManagementStore, reason, "first pairline management failover --disaster");
        }
        Some((_, at)) if at == c.subject.target || c.seen.pool(at).is_some_and(|p| p.reachable) => {
            c.ok(Rule::ManagementStore, format!("the management store is at {}", c.seen.name_of(at)));
        }
        Some((_, at)) => {
            let reason = format!("the management store is at {}, which does not answer", c.seen.name_of(at));
            c.refuse(Rule::ManagementStore, reason, "first pairline management failover --disaster");
        }
    }
}

fn seeded(c: &mut Case<'_>) {
    let never = |g: &GroupId| c.at_target(*g).is_none_or(|s| s.position.seq == 0);
    let missing: Vec<GroupId> = c.subject.groups.iter().copied().filter(never).collect();
    if missing.is_empty() {
        c.ok(Rule::Seeded, format!("{} has a copy of every group", c.target_name()));
    } else {
        let reason = format!("{} was never seeded with {}", c.target_name(), few(&missing));
        c.refuse(Rule::Seeded, reason, "await steady: pairline pool status --wait steady");
    }
}

/// What is wrong with the copies of one group, if anything.
fn copy_problem(c: &Case<'_>, group: GroupId) -> Option<String> {
    let target = c.at_target(group)?;
    if let Some(why) = &target.stopped {
        return Some(format!("{group} is stopped at the target: {why}"));
    }
    let reclaim = matches!(c.command, Command::Reclaim { .. });
    match target.role {
        Role::Backup => {}
        Role::Fenced if reclaim => {}
        Role::Fenced => {
            return Some(format!("{group} is fenced at the target and not re-based yet"));
        }
        Role::Active => return Some(format!("{group} is active at the target by its own log")),
    }
    if target.import == ImportState::Error {
        return Some(format!("{group} cannot be imported at the target"));
    }
    if c.disaster {
        return None;
    }
    let Some(source) = c.at_source(group) else {
        return Some(format!("the state of {group} at the source is not known"));
    };
    if let Some(why) = &source.stopped {
        return Some(format!("{group} is stopped at the source: {why}"));
    }
    if source.role != Role::Active || !source.confirmed {
        return Some(format!("{group} is not active and confirmed at the source"));
    }
    match source.export {
        ExportState::NotInitialised | ExportState::Error => {
            Some(format!("{group} is not shipped from the source ({:?})", source.export))
        }
        ExportState::Steady | ExportState::NonSteady | ExportState::Final => None,
    }
}

fn copies(c: &mut Case<'_>) {
    let problems: Vec<String> = c.subject.groups.iter().filter_map(|g| copy_problem(c, *g)).collect();
    match problems.first() {
        None => c.ok(Rule::Copies, "every copy is in order"),
        Some(first) => {
            let more = if problems.len() > 1 { format!(" (and {} more)", problems.len() - 1) } else { String::new() };
            c.refuse(
                Rule::Copies,
                format!("{first}{more}"),
                "see pairline pool status; repair with pairline pool sync",
            );
        }
    }
}

fn lag(c: &mut Case<'_>) {
    let groups = c.subject.groups.iter();
    if c.disaster {
        let lag = worst(groups.filter_map(|g| c.at_target(*g)).map(|s| s.lag)).unwrap_or(Lag::Unknown);
        let reason = format!("recovery point: {} behind the source's last report", lag_text(lag));
        c.say(Rule::Lag, Verdict::Warn, reason, "what is later stays at the source as divergent tail");
        return;
    }
    let lag = worst(groups.filter_map(|g| c.at_source(*g)).map(|s| s.lag)).unwrap_or(Lag::Unknown);
    let bound = u64::from(c.seen.bounds.lag_bound_ms);
    match lag {
        Lag::Exactly(ms) | Lag::AtMost(ms) if ms <= bound => c.ok(Rule::Lag, format!("lag {}", lag_text(lag))),
        Lag::Unknown => c.refuse(Rule::Lag, "the lag is unknown", "await steady: pairline pool status --wait steady"),
        _ => {
            let reason = format!("lag {} exceeds the bound of {}", lag_text(lag), seconds(bound));
            c.object(Rule::Lag, reason, "await steady: pairline pool status --wait steady");
        }
    }
}

fn verify(c: &mut Case<'_>) {
    let differs = |g: &GroupId| {
        let at_one_position = match (c.at_source(*g), c.at_target(*g)) {
            (Some(a), Some(b)) => a.position == b.position && a.digest != b.digest,
            _ => false,
        };
        at_one_position || c.seen.unequal.contains(g)
    };
    let unequal: Vec<GroupId> = c.subject.groups.iter().copied().filter(differs).collect();
    if unequal.is_empty() {
        c.ok(Rule::Verify, "no difference between the copies is known");
        return;
    }
    let reason = format!("the copies differ in {}", few(&unequal));
    if c.disaster {
        c.object(Rule::Verify, reason, "seed them anew with pairline pool sync while the source lives");
    } else {
        c.refuse(Rule::Verify, reason, "seed them anew with pairline pool sync, then pairline pool verify");
    }
}

fn tail(c: &mut Case<'_>) {
    let open = |at: Option<&GroupStatus>| at.is_some_and(|s| s.tail > 0);
    let of = |g: &GroupId| (open(c.at_source(*g)), open(c.at_target(*g)));
    let all = c.subject.groups.iter().map(|g| (*g, of(g)));
    let found: Vec<(GroupId, (bool, bool))> = all.filter(|(_, (source, target))| *source || *target).collect();
    if found.is_empty() {
        return;
    }
    let groups: Vec<GroupId> = found.iter().map(|(group, _)| *group).collect();
    // A tail lies in the pool that committed it.
    let source = found.iter().any(|(_, (source, _))| *source).then(|| c.source_name());
    let target = found.iter().any(|(_, (_, target))| *target).then(|| c.target_name());
    let lists = source.into_iter().chain(target).map(|pool| format!("pairline pool divergence {pool}"));
    let reason = format!("a divergent tail is open in {}", few(&groups));
    c.object(Rule::Tail, reason, format!("decide on it with {}", lists.collect::<Vec<_>>().join(" and ")));
}

fn capacity(c: &mut Case<'_>) {
    if matches!(c.command, Command::ManagementFailover { .. }) {
        return;
    }
    let Some(target) = c.target() else { return };
    let coming = match c.command {
        Command::Failover { .. } => c.source().map_or(Some(0), |s| s.users),
        _ => Some(0),
    };
    match (target.capacity_users, target.users, coming) {
        (Some(room), Some(own), Some(coming)) if own.saturating_add(coming) > room => {
            let reason = format!("{} can serve {room} users, {own} and {coming} would be there", target.name);
            c.object(
                Rule::Capacity,
                reason,
                "enlarge it, and publish it (capacity_users, or users_per_pool for all pools)",
            );
        }
        (Some(room), Some(own), Some(coming)) => {
            c.ok(Rule::Capacity, format!("{} of {room} users", own.saturating_add(coming)));
        }
        (None, Some(own), Some(coming)) => {
            let reason = format!("{own} users, and {coming} would come; {} names no limit", target.name);
            c.say(Rule::Capacity, Verdict::Warn, reason, "set what it can serve (capacity_users)");
        }
        _ => c.say(Rule::Capacity, Verdict::Warn, "the number of users or the capacity is not known", ""),
    }
}

fn version(c: &mut Case<'_>) {
    let line = |p: Option<&PoolSight>| p.and_then(|p| p.version.clone());
    let short = |v: &str| v.split('.').take(2).collect::<Vec<_>>().join(".");
    match (line(c.source()), line(c.target())) {
        (Some(a), Some(b)) if short(&a) == short(&b) => c.ok(Rule::Version, format!("both run {}", short(&a))),
        (Some(a), Some(b)) => {
            let reason = format!("{} runs {a}, {} runs {b}", c.source_name(), c.target_name());
            c.object(Rule::Version, reason, "bring both to one release");
        }
        _ if c.disaster => {}
        _ => c.say(Rule::Version, Verdict::Warn, "the release of a pool is not known", ""),
    }
}

fn certificate(c: &mut Case<'_>) {
    let sides = if c.disaster { vec![c.target()] } else { vec![c.target(), c.source()] };
    let days = sides.into_iter().flatten().filter_map(|p| p.certificate_days).min();
    match days {
        None => c.say(Rule::Certificate, Verdict::Warn, "the expiry of certificates is not known", ""),
        Some(0) => c.object(Rule::Certificate, "a certificate has expired", "renew it (pairline preflight cert)"),
        Some(days) if u32::from(days) < c.seen.bounds.certificate_warn_days => {
            let remedy = "renew it (pairline preflight cert)";
            c.say(Rule::Certificate, Verdict::Warn, format!("a certificate expires in {days} days"), remedy);
        }
        Some(days) => c.ok(Rule::Certificate, format!("valid for {days} days")),
    }
}

fn clock(c: &mut Case<'_>) {
    if c.disaster {
        return;
    }
    let warn = u64::from(c.seen.bounds.clock_warn_ms);
    match c.seen.clock_offset_ms.map(i64::unsigned_abs) {
        None => c.say(Rule::Clock, Verdict::Warn, "the offset of the clocks is not known", ""),
        Some(ms) if ms > warn.saturating_mul(10) => {
            c.object(Rule::Clock, format!("the clocks differ by {}", seconds(ms)), "set the clocks (NTP)");
        }
        Some(ms) if ms > warn => {
            let reason = format!("the clocks differ by {}", seconds(ms));
            c.say(Rule::Clock, Verdict::Warn, reason, "set the clocks (NTP)");
        }
        Some(ms) => c.ok(Rule::Clock, format!("the clocks differ by {}", seconds(ms))),
    }
}

fn disk(c: &mut Case<'_>) {
    let least = c.seen.bounds.min_free_disk_percent;
    match c.target().and_then(|p| p.free_disk_percent) {
        None => c.say(Rule::Disk, Verdict::Warn, "the free disk of the target is not known", ""),
        Some(free) if free < least => {
            let reason = format!("{} has {free} % free disk, less than {least} %", c.target_name());
            c.object(Rule::Disk, reason, "make room");
        }
        Some(free) => c.ok(Rule::Disk, format!("{free} % free")),
    }
}

fn next_hop(c: &mut Case<'_>) {
    if !matches!(c.command, Command::Failover { .. }) {
        return;
    }
    let hops = c.source().map(|s| s.next_hops.join(", ")).unwrap_or_default();
    if !hops.is_empty() {
        let reason = format!("{hops} send everything to {}", c.source_name());
        c.object(Rule::NextHop, reason, format!("point them at {}", c.target_name()));
    }
}

fn exclusions(c: &mut Case<'_>) {
    let list = c.seen.not_replicated.join(", ");
    if list.is_empty() {
        c.ok(Rule::Exclusions, "everything a user has is replicated");
    } else {
        c.say(Rule::Exclusions, Verdict::Warn, format!("not replicated: {list}"), "");
    }
}
