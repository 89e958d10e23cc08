//! The runner in a small world: every procedure to its end, a crash at every action, abort, retries, limits.
#![allow(clippy::unwrap_used)]

use super::common;

use common::*;
use pairline_group::io::Done;
use pairline_group::{GroupId, PoolId};
use pairline_resilience::journal::{encode_lock, lock_key};
use pairline_resilience::runner::{JournalRefusal, StartError, StopReason};
use pairline_resilience::{Action, Command, Event, OperatorEvent, Plan, ProcedureState, Runner};
use pairline_topology::directory::{OwnershipHint, ownership_key};

/// Name, plan, world before.
fn procedures() -> Vec<(&'static str, Plan, World)> {
    let at_home = |g: GroupId| if g.is_cms() { EAST } else { g.pool };
    let cms_west = |g: GroupId| if g.is_cms() { WEST } else { g.pool };
    let away = |_: GroupId| WEST;
    let management = |disaster| Command::ManagementFailover {
        to: WEST,
        disaster,
        dry_run: false,
        force: false,
        confirm_source_off: disaster,
        reason: "move".to_owned(),
    };
    let reclaim =
        Command::Reclaim { pool: EAST, dry_run: false, confirm_target_off: true, reason: "west is gone".to_owned() };
    vec![
        ("planned", make(&failover(EAST), &observed(WEST)), World::new(at_home, None)),
        ("planned, cms there", make(&failover(EAST), &observed_with(WEST, cms_west)), World::new(cms_west, None)),
        ("disaster", make(&disaster(EAST), &observed_after_loss(EAST, at_home)), World::new(at_home, Some(EAST))),
        (
            "disaster, cms there",
            make(&disaster(EAST), &observed_after_loss(EAST, cms_west)),
            World::new(cms_west, Some(EAST)),
        ),
        ("failback", make(&failback(EAST), &observed_with(EAST, away)), World::new(away, None)),
        ("management", make(&management(false), &observed(WEST)), World::new(at_home, None)),
        (
            "management, disaster",
            make(&management(true), &observed_after_loss(EAST, at_home)),
            World::new(at_home, Some(EAST)),
        ),
        ("reclaim", make(&reclaim, &observed_after_loss(WEST, away)), World::new(away, Some(WEST))),
    ]
}

/// What must hold at the end of any run of a plan, however often it crashed.
fn check_end(name: &str, plan: &Plan, before: &World, after: &World) {
    let groups = plan.groups();
    for (g, (epoch, serving)) in &after.serving {
        let (old, served_by) = before.serving[g];
        let (rise, want) = if groups.contains(g) { (1, plan.target) } else { (0, served_by) };
        assert_eq!((epoch.number, *serving), (old.number + rise, want), "{name}: {g}");
    }
    assert_eq!(after.effects.len(), groups.len(), "{name}: each group moved once");
    let record = after.record(plan.id).unwrap();
    assert_eq!(record.state, ProcedureState::Done, "{name}");
    for step in &plan.steps {
        assert!(record.result(step.number).is_some(), "{name}: step {} has a result", step.number);
    }
    assert!(!after.journal.contains_key(&lock_key()), "{name}: the lock is free");
    for g in groups {
        let hint = OwnershipHint::decode(&after.journal[&ownership_key(g)]).unwrap();
        assert_eq!((hint.serving, hint.epoch), (plan.target, after.serving[&g].0), "{name}: hint of {g}");
        if plan.command.is_disaster() {
            let step = plan.steps.iter().find(|s| s.group() == Some(g)).unwrap();
            let point = record.result(step.number).unwrap().recovery_point;
            assert_eq!(point.map(|p| p.seq), Some(10), "{name}: recovery point of {g}");
        }
    }
}

#[test]
fn every_procedure_ends_with_everything_moved_once() {
    for (name, plan, before) in procedures() {
        let mut world = before.clone();
        let mut runner = Runner::start(plan.clone(), now(0)).unwrap();
        let end = run(&mut runner, &mut world, None, &[]);
        let End::Finished(report) = end else { panic!("{name}: {end:?}") };
        assert!(report.complete && report.groups.iter().all(|g| g.moved), "{name}: {report}");
        assert!(runner.is_over() && runner.next_timeout().is_none() && runner.poll().is_none());
        check_end(name, &plan, &before, &world);
    }
}

#[test]
fn a_crash_at_any_action_then_resume_is_the_uninterrupted_result() {
    for (name, plan, before) in procedures() {
        let mut crashes = 0;
        for at in 0..200 {
            for how in [Crash::Before, Crash::After] {
                let mut world = before.clone();
                let mut runner = Runner::start(plan.clone(), now(0)).unwrap();
                let crashed = matches!(run(&mut runner, &mut world, Some((at, how)), &[]), End::Crashed);
                if !crashed {
                    continue;
                }
                crashes += 1;
                if world.record(plan.id).is_some_and(|r| r.state.is_over()) {
                    check_end(name, &plan, &before, &world);
                    continue;
                }
                world.time += 500;
                let mut resumed = world.recover(&plan);
                let end = run(&mut resumed, &mut world, None, &[]);
                assert!(matches!(end, End::Finished(_)), "{name}, crash {how:?} {at}: {end:?}");
                check_end(&format!("{name}, crash {how:?} {at}"), &plan, &before, &world);
            }
        }
        assert!(crashes >= 2 * plan.steps.len(), "{name}: {crashes} crash points");
    }
}

#[test]
fn two_crashes_in_a_row_change_nothing_either() {
    for (name, plan, before) in procedures() {
        for first in 0..40 {
            for second in 0..20 {
                let mut world = before.clone();
                let mut runner = Runner::start(plan.clone(), now(0)).unwrap();
                run(&mut runner, &mut world, Some((first, Crash::After)), &[]);
                for crash in [Some((second, Crash::After)), None] {
                    if world.record(plan.id).is_some_and(|r| r.state.is_over()) {
                        break;
                    }
                    let mut resumed = world.recover(&plan);
                    run(&mut resumed, &mut world, crash, &[]);
                }
                check_end(&format!("{name}, crashes {first} and {second}"), &plan, &before, &world);
            }
        }
    }
}

/// Number of the first action after so many groups have moved.
fn action_after(plan: &Plan, before: &World, effects: usize) -> usize {
    let reached = |at: &usize| {
        let mut probe = before.clone();
        let mut runner = Runner::start(plan.clone(), now(0)).unwrap();
        run(&mut runner, &mut probe, Some((*at, Crash::After)), &[]);
        probe.effects.len() >= effects
    };
    (0..200).find(reached).unwrap() + 1
}

#[test]
fn abort_before_the_first_handover_changes_nothing() {
    let (_, plan, before) = procedures().remove(0);
    let abort = Event::AbortRequested { operator: "bob".to_owned() };
    for at in 0..3 {
        let mut world = before.clone();
        let mut runner = Runner::start(plan.clone(), now(0)).unwrap();
        let end = run(&mut runner, &mut world, None, &[(at, abort.clone())]);
        let End::Finished(report) = end else { panic!("{end:?}") };
        assert!(report.state.contains("aborted by bob"), "{}", report.state);
        assert!(world.effects.is_empty() && !world.journal.contains_key(&lock_key()));
    }
}

/// Answers each try of the first record with what `answer` says of it, aborts after `abort_at` tries; how often it was tried, and how the
/// run ended.
fn abort_without_a_journal(abort_at: u32, answer: impl Fn(u32) -> Option<JournalRefusal>) -> (u32, Action) {
    let (_, plan, _) = procedures().remove(0);
    let mut runner = Runner::start(plan, now(0)).unwrap();
    let (mut time, mut tries) = (0, 0);
    loop {
        match runner.poll() {
            Some(Action::WriteJournal { ticket, .. }) => {
                tries += 1;
                if tries == abort_at {
                    assert_eq!(runner.ending(), None);
                    runner.handle(now(time), Event::AbortRequested { operator: "bob".to_owned() });
                    let ending = runner.ending().unwrap();
                    assert!(ending.starts_with("bob ordered its end") && ending.contains("record"), "{ending}");
                }
                if let Some(refusal) = answer(tries) {
                    runner.handle(now(time), Event::JournalWritten { ticket, result: Err(refusal) });
                }
            }
            Some(end @ (Action::Finish(_) | Action::Stop { .. })) => return (tries, end),
            Some(_) => {}
            None => {
                time = runner.next_timeout().unwrap();
                runner.handle(now(time), Event::Tick);
            }
        }
    }
}

#[test]
fn abort_before_the_first_record_ends_at_once_where_surely_nothing_is_written() {
    let (tries, end) = abort_without_a_journal(3, |_| Some(JournalRefusal::NotWritten));
    let Action::Finish(report) = end else { panic!("{end:?}") };
    assert!(report.state.contains("aborted by bob"), "{}", report.state);
    assert_eq!(tries, 3, "the try that was under way is awaited, no other follows");
}

#[test]
fn abort_before_the_first_record_waits_while_a_try_may_have_been_written() {
    let not_sure = |of: u32| move |at: u32| if at == of { JournalRefusal::Later } else { JournalRefusal::NotWritten };
    for unsure in [1, 2, 3] {
        let (tries, end) = abort_without_a_journal(3, move |at| Some(not_sure(unsure)(at)));
        assert!(matches!(end, Action::Stop { reason: StopReason::Journal, .. }), "{end:?}");
        assert!(tries > 10, "{tries}");
    }
    // A try without an answer is one that may have been written.
    let (_, end) = abort_without_a_journal(3, |at| (at != 2).then_some(JournalRefusal::NotWritten));
    assert!(matches!(end, Action::Stop { reason: StopReason::Journal, .. }), "{end:?}");
}

#[test]
fn abort_in_the_middle_leaves_each_group_with_one_owner_and_says_what_to_do() {
    let (_, plan, before) = procedures().remove(0);
    let abort = Event::AbortRequested { operator: "bob".to_owned() };
    let mut partly = 0;
    for at in 3..60 {
        let mut world = before.clone();
        let mut runner = Runner::start(plan.clone(), now(0)).unwrap();
        let End::Finished(report) = run(&mut runner, &mut world, None, &[(at, abort.clone())]) else { panic!() };
        let moved = world.effects.len();
        assert_eq!(world.record(plan.id).unwrap().moved().len(), moved, "abort at {at}");
        assert!(!world.journal.contains_key(&lock_key()));
        if !report.complete && moved > 0 {
            partly += 1;
            assert!(report.advice.iter().any(|a| a.contains("pool failback east")), "{:?}", report.advice);
        }
    }
    assert!(partly > 0, "some abort came in the middle");
}

#[test]
fn an_aborted_failback_is_not_advised_to_be_failed_back_only() {
    let away = |_: GroupId| WEST;
    let plan = make(&failback(EAST), &observed_with(EAST, away));
    let before = World::new(away, None);
    let mut world = before.clone();
    let at = action_after(&plan, &before, 1);
    let mut runner = Runner::start(plan, now(0)).unwrap();
    let abort = Event::AbortRequested { operator: "bob".to_owned() };
    let End::Finished(report) = run(&mut runner, &mut world, None, &[(at, abort)]) else { panic!() };
    let advice = report.advice.join("; ");
    assert!(advice.contains("at home") && advice.contains("still at west"), "{advice}");
    assert!(advice.contains("pool failover east") && !advice.contains("hand them back"), "{advice}");
}

#[test]
fn refusals_that_pass_are_retried_and_counted() {
    let (name, plan, before) = procedures().remove(0);
    let mut world = before.clone();
    world.busy = 7;
    let mut runner = Runner::start(plan.clone(), now(0)).unwrap();
    let End::Finished(report) = run(&mut runner, &mut world, None, &[]) else { panic!() };
    assert_eq!(report.retries, 7);
    check_end(name, &plan, &before, &world);
}

#[test]
fn no_more_groups_are_in_flight_than_bounded() {
    let (_, plan, mut world) = procedures().remove(0);
    let mut runner = Runner::start(plan.clone(), now(0)).unwrap();
    let (mut asked, mut most) = (Vec::new(), 0_usize);
    // Answers are held back until nothing more is asked.
    for round in 0..200 {
        let mut held = Vec::new();
        while let Some(action) = runner.poll() {
            if let Action::RequestHandover { group, .. } = &action {
                asked.push(*group);
            }
            if let Action::AwaitActive { group, .. } = &action {
                asked.retain(|g| g != group);
            }
            held.extend(world.perform(&action));
        }
        most = most.max(asked.len());
        held.into_iter().for_each(|e| runner.handle(now(round), e));
        runner.handle(now(round), Event::Tick);
    }
    assert!(runner.is_over());
    assert_eq!(most, 2);
}

#[test]
fn a_second_procedure_finds_the_lock() {
    let (_, plan, mut world) = procedures().remove(0);
    world.journal.insert(lock_key(), encode_lock(99));
    let mut runner = Runner::start(plan, now(0)).unwrap();
    let end = run(&mut runner, &mut world, None, &[]);
    assert!(matches!(end, End::Stopped(_, StopReason::Locked)), "{end:?}");
    assert!(world.effects.is_empty());
}

/// Lets a runner go on until so many groups have moved; what it wanted then is lost with its link.
fn until_moved(runner: &mut Runner, world: &mut World, effects: usize) {
    while world.effects.len() < effects {
        let Some(action) = runner.poll() else {
            world.time = runner.next_timeout().unwrap().max(world.time) + 1;
            runner.handle(now(world.time), Event::Tick);
            continue;
        };
        let events = world.perform(&action);
        events.into_iter().for_each(|e| runner.handle(now(world.time), e));
    }
}

#[test]
fn of_two_commands_at_different_targets_one_wins_and_the_other_cannot_be_resumed_over_it() {
    // East's users go to west, and at the same time somebody brings west's users, who are at east, home to west's partner:
    // both plans were made before either wrote a record.
    let (_, plan, before) = procedures().remove(0);
    let mut other = make(&failover(WEST), &observed(EAST));
    other.id = 0xdef;
    let mut world = before.clone();
    let mut winner = Runner::start(plan.clone(), now(0)).unwrap();
    let mut loser = Runner::start(other.clone(), now(0)).unwrap();
    until_moved(&mut winner, &mut world, 1);
    let End::Stopped(report, StopReason::Locked) = run(&mut loser, &mut world, None, &[]) else { panic!() };
    assert!(!loser.is_journalled() && world.record(other.id).is_none(), "it left nothing");
    assert!(!report.advice.iter().any(|a| a.contains("resume")), "{:?}", report.advice);
    let again = Runner::resume(loser.procedure().clone(), world.holder(), now(world.time));
    assert_eq!(again.unwrap_err(), StartError::NotHeld(plan.id));
    // Even a copy of the journal that does not know the lock yet gives it no way past the winner's.
    let mut blind = Runner::resume(loser.procedure().clone(), None, now(world.time)).unwrap();
    let end = run(&mut blind, &mut world, None, &[]);
    assert!(matches!(end, End::Stopped(_, StopReason::Locked)), "{end:?}");
    assert_eq!((world.holder(), world.effects.len()), (Some(plan.id), 1));
    assert!(matches!(run(&mut winner, &mut world, None, &[]), End::Finished(_)));
    check_end("winner", &plan, &before, &world);
}

#[test]
fn a_runner_that_was_replaced_while_cut_off_writes_nothing_and_asks_for_nothing() {
    for told in [false, true] {
        let (_, plan, before) = procedures().remove(0);
        let mut world = before.clone();
        let mut runner = Runner::start(plan.clone(), now(0)).unwrap();
        until_moved(&mut runner, &mut world, 2);
        runner.handle(now(world.time), Event::LinkDown);
        while runner.poll().is_some() {}
        // Meanwhile another procedure took its place.
        let mut record = world.record(plan.id).unwrap();
        record.state = ProcedureState::Superseded { by: 5 };
        world.journal.insert(pairline_resilience::journal::key(plan.id), record.encode());
        world.journal.insert(lock_key(), encode_lock(5));
        let journal = world.journal.clone();
        world.time += 10_000;
        runner.handle(now(world.time), Event::LinkUp);
        if told {
            runner.handle(now(world.time), Event::LockLost);
            assert!(runner.is_over());
        } else {
            // It does not know: what it asks for is refused at the source, what it writes by the lock.
            runner.handle(now(world.time), Event::AbortRequested { operator: "bob".to_owned() });
            world.time += 10_000;
            runner.handle(now(world.time), Event::Tick);
        }
        let end = run(&mut runner, &mut world, None, &[]);
        assert!(matches!(end, End::Stopped(_, StopReason::Replaced)), "{end:?}");
        assert!(world.journal == journal && world.effects.len() == 2 && !runner.is_journalled());
        assert_eq!(Runner::resume(record, world.holder(), now(world.time)).unwrap_err(), StartError::Over);
    }
}

#[test]
fn a_target_that_refuses_stops_the_procedure_and_resume_goes_on() {
    let (name, plan, before) = procedures().remove(0);
    let mut world = before.clone();
    let mut runner = Runner::start(plan.clone(), now(0)).unwrap();
    // The handover of `cms` is written; its target refuses while it is awaited.
    let refuse = Event::HandoverRefused { group: GroupId::CMS, reason: "digest differs".to_owned() };
    let at = action_after(&plan, &before, 1);
    let end = run(&mut runner, &mut world, None, &[(at, refuse)]);
    let End::Stopped(report, StopReason::Refused { group, .. }) = end else { panic!("{end:?}") };
    assert_eq!(group, GroupId::CMS);
    assert!(report.advice.iter().any(|a| a.contains("procedure resume")), "{:?}", report.advice);
    assert!(world.journal.contains_key(&lock_key()), "a stopped procedure keeps the lock");
    let mut resumed = world.recover(&plan);
    assert!(matches!(run(&mut resumed, &mut world, None, &[]), End::Finished(_)));
    check_end(name, &plan, &before, &world);
}

#[test]
fn a_link_that_stays_down_stops_a_planned_procedure_without_asking_on() {
    let (_, plan, before) = procedures().remove(0);
    let mut world = before.clone();
    let mut runner = Runner::start(plan.clone(), now(0)).unwrap();
    let at = action_after(&plan, &before, 2);
    let end = run(&mut runner, &mut world, None, &[(at, Event::LinkDown)]);
    let End::Stopped(report, reason) = end else { panic!("{end:?}") };
    assert_eq!(reason, StopReason::Link);
    assert!(!report.complete && world.time >= plan.bounds.link);
    let mut resumed = world.recover(&plan);
    assert!(matches!(run(&mut resumed, &mut world, None, &[]), End::Finished(_)));
}

#[test]
fn a_lag_that_does_not_fall_stops_before_anything_moves() {
    let (_, plan, _) = procedures().remove(0);
    let mut runner = Runner::start(plan.clone(), now(0)).unwrap();
    let mut time = 0;
    let mut stopped = None;
    while stopped.is_none() {
        while let Some(action) = runner.poll() {
            match action {
                Action::WriteJournal { ticket, .. } => {
                    runner.handle(now(time), Event::JournalWritten { ticket, result: Ok(()) });
                }
                Action::RequestHandover { .. } => panic!("moved in spite of the lag"),
                Action::Stop { reason, .. } => stopped = Some(reason),
                _ => {}
            }
        }
        time += 50;
        runner.handle(now(time), Event::Tick);
    }
    assert_eq!(stopped, Some(StopReason::Lag(GroupId::CMS)));
    assert!(time >= 60_000);
}

#[test]
fn an_unwritable_journal_stops_without_an_effect() {
    let (_, plan, _) = procedures().remove(0);
    let mut runner = Runner::start(plan, now(0)).unwrap();
    let (mut time, mut tries) = (0, 0);
    let reason = loop {
        match runner.poll() {
            Some(Action::WriteJournal { ticket, .. }) => {
                tries += 1;
                let result = Err(JournalRefusal::Later);
                runner.handle(now(time), Event::JournalWritten { ticket, result });
            }
            Some(Action::Stop { reason, .. }) => break reason,
            Some(Action::SetMode { event, .. }) => assert_eq!(event, OperatorEvent::ProcedureEnded),
            Some(other) => panic!("{other:?} without a journal"),
            None => {
                time = runner.next_timeout().unwrap();
                runner.handle(now(time), Event::Tick);
            }
        }
    };
    assert_eq!(reason, StopReason::Journal);
    assert!(tries > 10, "{tries}");
}

#[test]
fn dry_runs_and_ended_procedures_do_not_start() {
    let mut command = failover(EAST);
    if let Command::Failover { dry_run, .. } = &mut command {
        *dry_run = true;
    }
    let plan = make(&command, &observed(WEST));
    assert_eq!(Runner::start(plan, now(0)).unwrap_err(), StartError::DryRun);
    let (_, plan, mut world) = procedures().remove(0);
    run(&mut Runner::start(plan.clone(), now(0)).unwrap(), &mut world, None, &[]);
    assert_eq!(Runner::resume(world.record(plan.id).unwrap(), None, now(0)).unwrap_err(), StartError::Over);
}

#[test]
fn a_disaster_may_replace_the_procedure_that_it_cut_short() {
    // A planned failover is cut short by the loss of its source, after some groups have moved.
    let at_home = |g: GroupId| if g.is_cms() { EAST } else { g.pool };
    let planned = make(&failover(EAST), &observed(WEST));
    let mut world = World::new(at_home, None);
    let before = world.clone();
    let mut runner = Runner::start(planned.clone(), now(0)).unwrap();
    for at in 0.. {
        world = before.clone();
        runner = Runner::start(planned.clone(), now(0)).unwrap();
        run(&mut runner, &mut world, Some((at, Crash::After)), &[]);
        if world.effects.len() == 3 {
            break;
        }
    }
    world.lost = Some(EAST);
    let old = world.record(planned.id).unwrap();
    let owner = world.serving.clone();
    let mut seen = observed_after_loss(EAST, |g| owner[&g].1);
    seen.running = Some(pairline_resilience::RunningProcedure {
        id: old.plan.id,
        what: old.plan.command.name().to_owned(),
        operator: "alice".to_owned(),
        since: old.started,
    });
    let refused = pairline_resilience::plan(&disaster(EAST), &seen, "bob", 5, now(0).wall).unwrap_err();
    assert!(refused.to_string().contains("ordered by alice"), "{refused}");
    let reason = "lost while moving".to_owned();
    let forced =
        Command::Failover { pool: EAST, disaster: true, dry_run: false, force: true, confirm_source_off: true, reason };
    let plan = pairline_resilience::plan(&forced, &seen, "bob", 5, now(0).wall).unwrap();
    assert_eq!(plan.groups().len(), usize::from(GROUPS) + 1 - 3, "what has moved is left alone");
    assert_eq!(Runner::start(plan.clone(), now(0)).unwrap_err(), StartError::NotReplaced);
    let mut second = Runner::start_replacing(plan, old, world.holder(), now(world.time)).unwrap();
    let end = run(&mut second, &mut world, None, &[]);
    assert!(matches!(end, End::Finished(_)), "{end:?}");
    assert!(world.serving.values().all(|(_, pool)| *pool == WEST));
    assert_eq!(world.record(planned.id).unwrap().state, ProcedureState::Superseded { by: 5 });
    assert!(!runner.is_over(), "the first one never ended by itself");
}

#[test]
fn unanswered_requests_are_asked_again_with_the_same_step() {
    let (_, plan, mut world) = procedures().remove(1);
    let mut runner = Runner::start(plan.clone(), now(0)).unwrap();
    let (mut time, mut steps) = (0, Vec::new());
    while steps.len() < 6 {
        while let Some(action) = runner.poll() {
            match &action {
                Action::RequestHandover { ticket, step, .. } => {
                    steps.push((step.step, *ticket));
                    runner.handle(now(time), Event::Unreachable { ticket: *ticket });
                }
                other => {
                    let events = world.perform(other);
                    events.into_iter().for_each(|e| runner.handle(now(time), e));
                }
            }
        }
        time = runner.next_timeout().unwrap().max(time + 1);
        runner.handle(now(time), Event::Tick);
    }
    let (first, again) = (steps[0], steps.iter().skip(1).find(|s| s.0 == steps[0].0).unwrap());
    assert!(again.1 > first.1, "a new ticket for the same step");
    // An answer to an old ticket is nobody's.
    let position = pairline_group::Position::default();
    runner.handle(now(time), Event::Answered { ticket: first.1, done: Done::Committed(position) });
    assert_eq!(runner.procedure().moved(), Vec::<GroupId>::new());
    let _: PoolId = plan.target;
}
