//! Preflight rule by rule, and what the planner makes of facts drawn at random.
#![allow(clippy::unwrap_used)]

use super::common;

use common::*;
use pairline_group::io::{ExportState, ImportState, Lag, Role};
use pairline_group::{Epoch, GroupId, PoolId, Position};
use pairline_resilience::plan::StepKind;
use pairline_resilience::{Command, Observed, Rule, RunningProcedure, Verdict, plan, preflight};
use proptest::prelude::*;

fn at_home(g: GroupId) -> PoolId {
    if g.is_cms() { EAST } else { g.pool }
}

fn forced(mut command: Command) -> Command {
    match &mut command {
        Command::Failover { force, .. }
        | Command::Failback { force, .. }
        | Command::ManagementFailover { force, .. } => *force = true,
        Command::Reclaim { .. } => {}
    }
    command
}

/// The rule says `with`, and `with_force` once force is given; a refusal names reason and remedy.
fn rule(command: Command, seen: &Observed, rule: Rule, with: Verdict, with_force: Verdict) {
    for (command, want) in [(command.clone(), with), (forced(command), with_force)] {
        let found: Vec<_> = preflight(&command, seen).into_iter().filter(|f| f.rule == rule).collect();
        assert_eq!(found.len(), 1, "{rule:?}: {found:?}");
        assert_eq!(found[0].verdict, want, "{}", found[0]);
        assert!(!found[0].reason.is_empty());
        assert!(want != Verdict::Refuse || !found[0].remedy.is_empty(), "{}", found[0]);
        let planned = plan(&command, seen, "alice", 1, 0);
        assert!(want != Verdict::Refuse || planned.is_err());
    }
}

use Verdict::{Ok as Fine, Refuse, Warn};

#[test]
fn a_pair_in_order_passes() {
    for found in preflight(&failover(EAST), &observed(WEST)) {
        assert_eq!(found.verdict, Fine, "{found}");
    }
}

#[test]
fn who_and_where() {
    rule(failover(PoolId(9)), &observed(WEST), Rule::Paired, Refuse, Refuse);
    rule(failover(EAST), &observed(EAST), Rule::Place, Refuse, Refuse);
    rule(failback(EAST), &observed(EAST), Rule::Something, Refuse, Refuse);
    rule(failover(EAST), &observed_with(WEST, |_| WEST), Rule::Something, Refuse, Refuse);
}

#[test]
fn one_procedure_at_a_time() {
    let running = RunningProcedure { id: 7, what: "pool failback".to_owned(), operator: "bob".to_owned(), since: 5 };
    let mut seen = observed(WEST);
    seen.running = Some(running.clone());
    rule(failover(EAST), &seen, Rule::Running, Refuse, Refuse);
    let said = plan(&failover(EAST), &seen, "alice", 1, 0).unwrap_err().to_string();
    assert!(said.contains("ordered by bob") && said.contains("pool failback"), "{said}");
    let mut lost = observed_after_loss(EAST, at_home);
    lost.running = Some(running);
    rule(disaster(EAST), &lost, Rule::Running, Refuse, Warn);
    assert_eq!(plan(&forced(disaster(EAST)), &lost, "alice", 1, 0).unwrap().supersedes, Some(7));
}

#[test]
fn a_pool_that_serves_its_partner_is_failed_back_first() {
    rule(failover(WEST), &observed_with(EAST, |_| WEST), Rule::FailBackFirst, Refuse, Refuse);
    let said = plan(&failover(WEST), &observed_with(EAST, |_| WEST), "alice", 1, 0).unwrap_err().to_string();
    assert!(said.contains("pairline pool failback east"), "{said}");
}

#[test]
fn groups_whose_pool_stood_down_for_a_promotion_that_never_came_can_be_moved() {
    let mut seen = observed(WEST);
    for copy in seen.groups.iter_mut().filter(|copy| copy.at == EAST && copy.status.serving == EAST) {
        copy.status.role = Role::Fenced;
        copy.status.serving = WEST;
        copy.status.epoch.granted_by = PoolId(u16::MAX);
    }
    rule(disaster(EAST), &seen, Rule::Something, Fine, Fine);
    assert_eq!(plan(&forced(disaster(EAST)), &seen, "alice", 1, 0).unwrap().groups().first(), Some(&GroupId::CMS));
}

#[test]
fn a_disaster_of_a_healthy_pool_needs_force() {
    rule(disaster(EAST), &observed(WEST), Rule::Healthy, Refuse, Warn);
}

#[test]
fn a_lost_source_needs_the_disaster_procedure_and_a_word_on_it() {
    let lost = observed_after_loss(EAST, at_home);
    rule(failover(EAST), &lost, Rule::Reachable, Refuse, Refuse);
    let mut unsaid = disaster(EAST);
    if let Command::Failover { confirm_source_off, .. } = &mut unsaid {
        *confirm_source_off = false;
    }
    rule(unsaid.clone(), &lost, Rule::Fencing, Refuse, Refuse);
    rule(unsaid.as_dry_run(), &lost, Rule::Fencing, Warn, Warn);
    assert!(unsaid.as_dry_run().is_dry_run() && !unsaid.is_dry_run());
    let reclaim =
        |said| Command::Reclaim { pool: EAST, dry_run: false, confirm_target_off: said, reason: "gone".to_owned() };
    let stuck = observed_after_loss(WEST, |_| WEST);
    rule(reclaim(false), &stuck, Rule::Fencing, Refuse, Refuse);
    rule(reclaim(true), &stuck, Rule::Fencing, Fine, Fine);
    let again = plan(&reclaim(true), &stuck, "alice", 1, 0).unwrap();
    assert_eq!(again.groups().first(), Some(&GroupId::CMS));
    let mut spoilt = stuck.clone();
    spoilt.pools[0].certificate_days = Some(0);
    spoilt.running =
        Some(RunningProcedure { id: 7, what: "pool failover".to_owned(), operator: "bob".to_owned(), since: 5 });
    rule(reclaim(true), &spoilt, Rule::Certificate, Warn, Warn);
    rule(reclaim(true), &spoilt, Rule::Running, Warn, Warn);
    assert_eq!(plan(&reclaim(true), &spoilt, "alice", 1, 0).unwrap().supersedes, Some(7));
    rule(reclaim(true), &observed_with(EAST, |_| WEST), Rule::Healthy, Refuse, Refuse);
    assert!(again.groups().iter().all(|g| g.is_cms() || g.pool == EAST));
}

#[test]
fn the_management_store_must_carry_the_journal() {
    let mut none = observed(WEST);
    none.groups.retain(|g| !g.status.group.is_cms());
    rule(failover(EAST), &none, Rule::ManagementStore, Refuse, Refuse);
    // West is lost with the management store, while east's own groups are to be taken back.
    let mut away = observed_with(EAST, |_| WEST);
    away.pools[1].reachable = false;
    rule(failback(EAST), &away, Rule::ManagementStore, Refuse, Refuse);
    // It stood down for a promotion that never came: nobody can write the journal.
    let mut nobody = observed_with(EAST, |g| if g.is_cms() { EAST } else { WEST });
    for copy in nobody.groups.iter_mut().filter(|copy| copy.at == EAST && copy.status.group.is_cms()) {
        copy.status.role = Role::Fenced;
        copy.status.serving = WEST;
        copy.status.epoch.granted_by = PoolId(u16::MAX);
    }
    rule(failback(EAST), &nobody, Rule::ManagementStore, Refuse, Refuse);
    let management = Command::ManagementFailover {
        to: WEST,
        disaster: true,
        dry_run: false,
        force: true,
        confirm_source_off: true,
        reason: "nobody serves it".to_owned(),
    };
    nobody.here = WEST;
    assert_eq!(plan(&management, &nobody, "alice", 1, 0).unwrap().groups(), [GroupId::CMS]);
    // Nor can a procedure be ended that has not, by the copy here, or has at the other pool, which answers.
    nobody.running =
        Some(RunningProcedure { id: 7, what: "pool failover".to_owned(), operator: "bob".to_owned(), since: 5 });
    assert_eq!(plan(&management, &nobody, "alice", 1, 0).unwrap().supersedes, Some(7));
    let mut served = nobody.clone();
    for copy in served.groups.iter_mut().filter(|copy| copy.at == EAST && copy.status.group.is_cms()) {
        copy.status.role = Role::Active;
        copy.status.serving = EAST;
        copy.status.epoch.granted_by = EAST;
    }
    rule(management, &served, Rule::Running, Refuse, Refuse);
}

#[test]
fn an_open_tail_is_named_with_the_pool_in_which_it_lies() {
    let mut seen = observed(WEST);
    spoil(&mut seen, WEST, |s| s.tail = 2);
    let said = plan(&failover(EAST), &seen, "alice", 1, 0).unwrap_err().to_string();
    assert!(said.contains("pairline pool divergence west, or"), "{said}");
}

#[test]
fn a_partner_that_is_lost_after_a_failover_leaves_a_way_that_exists() {
    let reclaim = |confirm_target_off, dry_run| Command::Reclaim {
        pool: EAST,
        dry_run,
        confirm_target_off,
        reason: "west is gone".to_owned(),
    };
    // East is served by west; west dies, and somebody wants to fail it over.
    let mut stuck = observed_after_loss(WEST, |_| WEST);
    let said = plan(&disaster(WEST), &stuck, "alice", 1, 0).unwrap_err().to_string();
    assert!(said.contains("pairline pool failback east --disaster"), "{said}");
    rule(reclaim(false, true), &stuck, Rule::Fencing, Warn, Warn);
    // East's copies had been fenced and had not followed west yet.
    for g in stuck.groups.iter_mut() {
        g.status.role = Role::Fenced;
    }
    let made = plan(&reclaim(true, false), &stuck, "alice", 1, 0).unwrap();
    assert_eq!((made.source, made.target, made.groups().len()), (WEST, EAST, usize::from(GROUPS) + 1));
}

#[test]
fn a_group_whose_target_refused_it_is_taken_back_while_both_pools_live() {
    let reclaim =
        Command::Reclaim { pool: EAST, dry_run: false, confirm_target_off: true, reason: "refused".to_owned() };
    let mut seen = observed_with(EAST, |g| if g.is_cms() { EAST } else { WEST });
    spoil(&mut seen, WEST, |s| s.stopped = Some("digest differs".into()));
    seen.running =
        Some(RunningProcedure { id: 7, what: "pool failover".to_owned(), operator: "bob".to_owned(), since: 5 });
    let made = plan(&reclaim, &seen, "alice", 1, 0).unwrap();
    assert_eq!(made.groups(), vec![group(EAST, 0)], "what west serves stays with west");
    assert_eq!(made.supersedes, Some(7), "in the place of the procedure that it stopped");
    rule(reclaim.clone(), &seen, Rule::Healthy, Fine, Fine);
    spoil(&mut seen, WEST, |s| s.stopped = None);
    rule(reclaim, &seen, Rule::Healthy, Refuse, Refuse);
}

/// West took east's groups over in a disaster, and an older state of its disk was put back: it knows nothing of it, and east has stood down.
#[test]
fn a_group_whose_promotion_was_lost_with_a_disk_is_taken_back_while_both_pools_live() {
    let reclaim = Command::Reclaim { pool: EAST, dry_run: false, confirm_target_off: true, reason: "lost".to_owned() };
    let lost = |at: PoolId| {
        let mut seen = observed_with(at, |g| if g.is_cms() { EAST } else { WEST });
        spoil(&mut seen, WEST, |s| {
            (s.role, s.serving, s.epoch) = (Role::Backup, EAST, Epoch { number: s.epoch.number - 1, granted_by: EAST });
        });
        spoil(&mut seen, EAST, |s| s.role = Role::Fenced);
        seen
    };
    let made = plan(&reclaim, &lost(EAST), "alice", 1, 0).unwrap();
    assert_eq!(made.groups(), vec![group(EAST, 0)], "what west serves stays with west");
    rule(reclaim, &lost(EAST), Rule::Healthy, Fine, Fine);
    // Whoever tries to move it once more is told what mends it.
    let mut seen = lost(WEST);
    seen.groups.iter_mut().filter(|g| g.status.group.is_cms()).for_each(|g| g.status.serving = WEST);
    let said = preflight(&failover(EAST), &seen);
    let found = said.iter().find(|found| found.rule == Rule::Something).unwrap();
    assert_eq!(found.verdict, Refuse);
    assert!(found.remedy.contains("pairline pool failback east --disaster"), "{found}");
}

/// Options of the command line, by procedure (see the server's `args_pool`).
fn options(command: &Command) -> &'static [&'static str] {
    match command {
        Command::Failover { .. } => &["--disaster", "--dry-run", "--force", "--confirm"],
        Command::Failback { .. } => &["--disaster", "--dry-run", "--force"],
        Command::ManagementFailover { .. } => &["--disaster", "--dry-run", "--force", "--confirm"],
        Command::Reclaim { .. } => &["--disaster", "--dry-run", "--confirm"],
    }
}

/// Commands that there are; a remedy names no other.
const COMMANDS: [&str; 12] = [
    "pool failover",
    "pool failback",
    "pool status",
    "pool sync",
    "pool verify",
    "pool pair",
    "pool divergence",
    "management failover",
    "procedure list",
    "procedure resume",
    "preflight cert",
    "preflight dns",
];

proptest! {
    #[test]
    fn every_remedy_names_a_command_and_an_option_that_exist(command in any_command(), seen in any_facts()) {
        for found in preflight(&command, &seen) {
            for said in found.remedy.split("pairline ").skip(1) {
                prop_assert!(COMMANDS.iter().any(|known| said.starts_with(known)), "{}", found);
            }
            if found.remedy.contains("or accept it with --force") {
                prop_assert!(options(&command).contains(&"--force"), "{}", found);
            }
        }
    }
}

/// Changes one copy of the first group that moves.
fn spoil(seen: &mut Observed, at: PoolId, change: impl Fn(&mut pairline_group::io::GroupStatus)) {
    let copies = seen.groups.iter_mut().filter(|g| g.at == at && g.status.group == group(EAST, 0));
    copies.for_each(|g| change(&mut g.status));
}

#[test]
fn copies_that_are_not_in_order() {
    let check = |which: Rule, at: PoolId, change: &dyn Fn(&mut pairline_group::io::GroupStatus), force: Verdict| {
        let mut seen = observed(WEST);
        spoil(&mut seen, at, change);
        rule(failover(EAST), &seen, which, Refuse, force);
    };
    check(Rule::Seeded, WEST, &|s| s.position = Position::default(), Refuse);
    check(Rule::Copies, WEST, &|s| s.import = ImportState::Error, Refuse);
    check(Rule::Copies, WEST, &|s| s.stopped = Some("chain".into()), Refuse);
    check(Rule::Copies, WEST, &|s| s.role = Role::Fenced, Refuse);
    check(Rule::Copies, EAST, &|s| s.confirmed = false, Refuse);
    check(Rule::Copies, EAST, &|s| s.export = ExportState::Error, Refuse);
    check(Rule::Copies, EAST, &|s| s.export = ExportState::NotInitialised, Refuse);
    check(Rule::Lag, EAST, &|s| s.lag = Lag::Unknown, Refuse);
    check(Rule::Lag, EAST, &|s| s.lag = Lag::Exactly(2_001), Warn);
    check(Rule::Verify, WEST, &|s| s.digest = [8; 32], Refuse);
    check(Rule::Tail, EAST, &|s| s.tail = 3, Warn);
    let mut missing = observed(WEST);
    missing.groups.retain(|g| g.at != WEST || g.status.group != group(EAST, 0));
    rule(failover(EAST), &missing, Rule::Seeded, Refuse, Refuse);
    let mut unequal = observed(WEST);
    unequal.unequal.push(group(EAST, 1));
    rule(failover(EAST), &unequal, Rule::Verify, Refuse, Refuse);
    let mut lost = observed_after_loss(EAST, at_home);
    lost.unequal.push(group(EAST, 1));
    rule(disaster(EAST), &lost, Rule::Verify, Refuse, Warn);
}

#[test]
fn the_surroundings() {
    let check = |which: Rule, change: &dyn Fn(&mut Observed), with: Verdict, force: Verdict| {
        let mut seen = observed(WEST);
        change(&mut seen);
        rule(failover(EAST), &seen, which, with, force);
    };
    check(Rule::Capacity, &|s| s.pools[1].capacity_users = Some(1_999), Refuse, Warn);
    check(Rule::Capacity, &|s| s.pools[1].users = None, Warn, Warn);
    check(Rule::Capacity, &|s| s.pools[1].capacity_users = None, Warn, Warn);
    check(Rule::Version, &|s| s.pools[0].version = Some("0.2.0".to_owned()), Refuse, Warn);
    check(Rule::Version, &|s| s.pools[0].version = Some("0.1.9".to_owned()), Fine, Fine);
    check(Rule::Certificate, &|s| s.pools[0].certificate_days = Some(0), Refuse, Warn);
    check(Rule::Certificate, &|s| s.pools[0].certificate_days = Some(29), Warn, Warn);
    check(Rule::Clock, &|s| s.clock_offset_ms = Some(-1_001), Warn, Warn);
    check(Rule::Clock, &|s| s.clock_offset_ms = Some(-10_001), Refuse, Warn);
    check(Rule::Disk, &|s| s.pools[1].free_disk_percent = Some(9), Refuse, Warn);
    check(Rule::NextHop, &|s| s.pools[0].next_hops.push("edge1".to_owned()), Refuse, Warn);
    check(Rule::Exclusions, &|s| s.not_replicated.push("conference content".to_owned()), Warn, Warn);
}

#[test]
fn a_disaster_plan_states_what_may_be_lost() {
    let mut lost = observed_after_loss(EAST, at_home);
    for g in &mut lost.groups {
        g.status.lag = Lag::AtMost(1_250);
    }
    let made = make(&disaster(EAST), &lost);
    let text = made.to_string();
    assert!(text.contains("≤ 1.250 s") && text.contains("5.000 s ago"), "{text}");
    assert!(text.contains("promote cms at west") && text.contains("try to fence east"), "{text}");
    assert!(made.promotes_cms());
    for g in &mut lost.groups {
        g.status.lag = Lag::Unknown;
    }
    assert!(make(&disaster(EAST), &lost).to_string().contains("within unknown"));
    assert!(make(&failover(EAST), &observed(WEST)).expected_loss().starts_with("none"));
}

#[test]
fn the_management_store_comes_first_and_stays_on_failback() {
    let made = make(&failover(EAST), &observed(WEST));
    assert_eq!(made.groups().first(), Some(&GroupId::CMS));
    assert_eq!(made.groups().len(), usize::from(GROUPS) + 1);
    let back = make(&failback(EAST), &observed_with(EAST, |_| WEST));
    assert!(back.groups().iter().all(|g| g.pool == EAST));
    assert!(back.will_not.iter().any(|l| l.contains("management store")));
    let numbers: Vec<u32> = made.steps.iter().map(|s| s.number).collect();
    assert_eq!(numbers, (1..=u32::try_from(made.steps.len()).unwrap()).collect::<Vec<_>>());
}

fn any_command() -> impl Strategy<Value = Command> {
    let any = (0..4_u8, 1..3_u16, any::<bool>(), any::<bool>(), any::<bool>());
    any.prop_map(|(which, pool, disaster, force, confirm)| {
        let (pool, dry_run, reason) = (PoolId(pool), false, "r".to_owned());
        match which {
            0 => Command::Failover { pool, disaster, dry_run, force, confirm_source_off: confirm, reason },
            1 => Command::Failback { pool, dry_run, force, reason },
            2 => {
                let confirm_source_off = confirm;
                Command::ManagementFailover { to: pool, disaster, dry_run, force, confirm_source_off, reason }
            }
            _ => Command::Reclaim { pool, dry_run, confirm_target_off: confirm, reason },
        }
    })
}

prop_compose! {
    /// Any mixture of owners, epochs, positions, roles and missing copies.
    fn any_facts()(
        here in 1..3_u16,
        up in any::<bool>(),
        reachable in any::<[bool; 2]>(),
        copies in prop::collection::vec((any::<bool>(), 1..4_u64, any::<bool>(), 0..3_u8, 0..4_u64, any::<bool>()), 18),
    ) -> Observed {
        let mut seen = observed(PoolId(here));
        seen.link_up = up;
        for (p, r) in seen.pools.iter_mut().zip(reachable) {
            p.reachable = r || p.pool == PoolId(here);
        }
        let mut n = 0;
        seen.groups.retain_mut(|g| {
            let (east, number, by_east, role, seq, keep) = copies[n];
            n += 1;
            let s = &mut g.status;
            s.serving = if east { EAST } else { WEST };
            s.epoch = epoch(number, if by_east { EAST } else { WEST });
            s.role = [Role::Active, Role::Backup, Role::Fenced][usize::from(role)];
            s.confirmed = true;
            s.export = ExportState::Steady;
            s.position.seq = seq;
            keep || number > 1
        });
        seen
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]
    #[test]
    fn no_plan_makes_two_actives(command in any_command(), seen in any_facts()) {
        let Ok(made) = plan(&command, &seen, "alice", 1, 0) else { return Ok(()) };
        let mut moved = Vec::new();
        prop_assert_eq!(seen.here, made.target);
        prop_assert_ne!(made.source, made.target);
        let fence = made.steps.iter().position(|s| matches!(s.kind, StepKind::Fence { .. }));
        for (at, step) in made.steps.iter().enumerate() {
            let Some(g) = step.group() else { continue };
            prop_assert!(!moved.contains(&g), "{} moves twice", g);
            moved.push(g);
            let (_, serving) = seen.serving(g).unwrap();
            prop_assert_eq!(serving, made.source, "{} is served elsewhere", g);
            match step.kind {
                StepKind::Handover { from, to, .. } => {
                    prop_assert!(!command.is_disaster());
                    prop_assert_eq!((from, to), (made.source, made.target));
                    prop_assert!(seen.copy(g, from).is_some_and(|s| s.role == Role::Active));
                    prop_assert!(seen.copy(g, to).is_some_and(|s| s.role == Role::Backup));
                }
                StepKind::Promote { to, .. } => {
                    prop_assert!(command.is_disaster());
                    prop_assert_eq!(to, made.target);
                    prop_assert!(fence.is_some_and(|f| f < at), "fenced before {} is promoted", g);
                    prop_assert!(command.says_source_off() || command.is_dry_run(), "force is no confirmation");
                    prop_assert!(seen.copy(g, to).is_some_and(|s| s.role != Role::Active));
                }
                _ => {}
            }
        }
        prop_assert!(!moved.is_empty());
        if let Some(at) = moved.iter().position(|g| g.is_cms()) {
            prop_assert_eq!(at, 0, "the management store first");
        }
    }
}
