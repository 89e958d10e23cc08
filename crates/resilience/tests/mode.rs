//! The mode machine: the whole table of states and events, and the intervals.
#![allow(clippy::unwrap_used)]

use pairline_group::PoolId;
use pairline_resilience::{Mode, ModeEvent, ModeMachine, ModeReason, OperatorEvent, Ownership, View};
use pairline_topology::policy::ResiliencePolicy;

const POLICY: ResiliencePolicy =
    ResiliencePolicy { voice_failover: true, heartbeat_ms: 100, detection_ms: 2_000, failback_ms: 3_000 };
const HOME: Ownership = Ownership { home: 32, unconfirmed: 0, partner: 0 };
const MIXED: Ownership = Ownership { home: 20, unconfirmed: 0, partner: 12 };
const AWAY: Ownership = Ownership { home: 0, unconfirmed: 0, partner: 32 };
const UNCONFIRMED: Ownership = Ownership { home: 0, unconfirmed: 32, partner: 0 };
const NOTHING: Ownership = Ownership { home: 0, unconfirmed: 0, partner: 0 };

fn machine(view: View) -> ModeMachine {
    ModeMachine::new(PoolId(1), view, &POLICY, 0)
}

/// Hears a heartbeat every 100 ms from `from` to `to`.
fn hear(machine: &mut ModeMachine, from: u64, to: u64) -> Vec<(u64, Mode)> {
    let mut changes = Vec::new();
    for at in (from..=to).step_by(100) {
        changes.extend(machine.handle(at, ModeEvent::Heartbeat).map(|c| (at, c.to)));
    }
    changes
}

fn operator(machine: &mut ModeMachine, at: u64, event: OperatorEvent) -> Option<Mode> {
    machine.handle(at, ModeEvent::Operator(event)).map(|c| c.to)
}

/// Brings a machine into a state, at time 10,000, with heartbeats heard or missing as the state wants it.
fn in_state(view: View, mode: Mode) -> Option<ModeMachine> {
    let mut m = machine(view);
    let owns = |m: &mut ModeMachine, at, o| m.handle(at, ModeEvent::Ownership(o));
    match (view, mode) {
        (View::Own, Mode::Starting) => {
            m = ModeMachine::new(PoolId(1), view, &POLICY, 9_900);
            owns(&mut m, 9_900, UNCONFIRMED);
        }
        (View::Own, Mode::Resiliency) => {
            owns(&mut m, 0, UNCONFIRMED);
            m.handle(10_000, ModeEvent::Tick);
        }
        (View::Partner, Mode::Starting) => return None,
        (View::Partner, Mode::Resiliency) => {
            owns(&mut m, 0, HOME);
            m.handle(10_000, ModeEvent::Tick);
        }
        _ => {
            owns(&mut m, 0, HOME);
            hear(&mut m, 0, 10_000);
            match mode {
                Mode::FailingOver => {
                    operator(&mut m, 10_000, OperatorEvent::FailoverStarted);
                }
                Mode::FailedOver => {
                    owns(&mut m, 10_000, AWAY);
                }
                Mode::FailingBack => {
                    owns(&mut m, 10_000, AWAY);
                    operator(&mut m, 10_000, OperatorEvent::FailbackStarted);
                }
                _ => {}
            }
        }
    }
    assert_eq!(m.mode(), mode, "{view:?}");
    Some(m)
}

#[test]
fn every_state_and_event() {
    use Mode::{FailedOver, FailingBack, FailingOver, Normal, Resiliency, Starting};
    use OperatorEvent::{AssertedActive, FailbackStarted, FailoverStarted, ProcedureEnded};
    let op = ModeEvent::Operator;
    let own = ModeEvent::Ownership;
    let events = [
        ModeEvent::Heartbeat,
        ModeEvent::Tick,
        ModeEvent::LinkUp,
        ModeEvent::LinkDown,
        own(HOME),
        own(MIXED),
        own(AWAY),
        own(UNCONFIRMED),
        own(NOTHING),
        op(FailoverStarted),
        op(FailbackStarted),
        op(ProcedureEnded),
        op(AssertedActive),
    ];
    // One row per state, one column per event, in the order above.
    #[rustfmt::skip]
    let partner = [
        (Normal,      [Normal, Normal, Normal, Normal, Normal, FailingOver, FailedOver, Normal, Normal, FailingOver, Normal, Normal, Normal]),
        (Resiliency,  [Resiliency, Resiliency, Resiliency, Resiliency, Resiliency, FailingOver, FailedOver, Resiliency, Resiliency, FailingOver, Resiliency, Resiliency, Resiliency]),
        (FailingOver, [FailingOver, FailingOver, FailingOver, FailingOver, FailingOver, FailingOver, FailedOver, FailingOver, FailingOver, FailingOver, Normal, Normal, FailingOver]),
        (FailedOver,  [FailedOver, FailedOver, FailedOver, FailedOver, Normal, FailingBack, FailedOver, Normal, Normal, FailedOver, FailingBack, FailedOver, FailedOver]),
        (FailingBack, [FailingBack, FailingBack, FailingBack, FailingBack, Normal, FailingBack, FailingBack, Normal, Normal, FailedOver, FailingBack, FailedOver, FailingBack]),
    ];
    #[rustfmt::skip]
    let own_view = [
        (Starting,    [Starting, Starting, Starting, Starting, Normal, FailingOver, FailedOver, Starting, Starting, FailingOver, Starting, Starting, Normal]),
        (Normal,      [Normal, Normal, Normal, Normal, Normal, FailingOver, FailedOver, Resiliency, Resiliency, FailingOver, Normal, Normal, Normal]),
        (Resiliency,  [Resiliency, Resiliency, Resiliency, Resiliency, Normal, FailingOver, FailedOver, Resiliency, Resiliency, FailingOver, Resiliency, Resiliency, Normal]),
        (FailingOver, [FailingOver, FailingOver, FailingOver, FailingOver, FailingOver, FailingOver, FailedOver, FailingOver, FailingOver, FailingOver, Normal, Normal, FailingOver]),
        (FailedOver,  [FailedOver, FailedOver, FailedOver, FailedOver, Normal, FailingBack, FailedOver, Resiliency, Resiliency, FailedOver, FailingBack, FailedOver, FailedOver]),
        (FailingBack, [FailingBack, FailingBack, FailingBack, FailingBack, Normal, FailingBack, FailingBack, Resiliency, Resiliency, FailedOver, FailingBack, FailedOver, FailingBack]),
    ];
    for (view, table) in [(View::Partner, partner.to_vec()), (View::Own, own_view.to_vec())] {
        for (state, row) in table {
            for (event, want) in events.iter().zip(row) {
                let mut m = in_state(view, state).unwrap();
                let change = m.handle(10_000, *event);
                assert_eq!(m.mode(), want, "{view:?}: {state:?} + {event:?}");
                assert_eq!(change.map(|c| (c.from, c.to)), (state != want).then_some((state, want)));
            }
        }
    }
    assert!(in_state(View::Partner, Starting).is_none(), "a partner is never seen as starting");
}

#[test]
fn silence_for_the_detection_interval_and_no_less() {
    let mut m = machine(View::Partner);
    m.handle(0, ModeEvent::Ownership(HOME));
    assert_eq!(hear(&mut m, 0, 5_000), vec![]);
    assert_eq!(m.next_timeout(), Some(7_000));
    assert_eq!(m.handle(6_999, ModeEvent::Tick), None);
    let change = m.handle(7_000, ModeEvent::Tick).unwrap();
    assert_eq!((change.from, change.to, change.reason), (Mode::Normal, Mode::Resiliency, ModeReason::NotHeard(2_000)));
    assert!(m.is_away());
}

#[test]
fn home_again_only_after_the_failback_interval_without_a_break() {
    let mut m = machine(View::Partner);
    m.handle(2_000, ModeEvent::Tick);
    assert_eq!(m.mode(), Mode::Resiliency);
    assert_eq!(m.next_timeout(), None);
    assert_eq!(hear(&mut m, 3_000, 5_900), vec![], "not yet three seconds");
    // Three missed heartbeats begin it anew.
    assert_eq!(hear(&mut m, 6_300, 9_200), vec![]);
    assert_eq!(m.next_timeout(), Some(9_300));
    let change = m.handle(9_300, ModeEvent::Heartbeat).unwrap();
    assert_eq!((change.to, change.reason), (Mode::Normal, ModeReason::HeardAgain(3_000)));
    let mut flapping = machine(View::Partner);
    flapping.handle(2_000, ModeEvent::Tick);
    for round in 0..20 {
        let at = 3_000 + round * 2_900;
        assert_eq!(hear(&mut flapping, at, at + 2_000), vec![], "flapping never counts as back");
        flapping.handle(at + 2_000, ModeEvent::LinkDown);
    }
}

#[test]
fn a_late_tick_still_sees_the_silence_before_the_heartbeat() {
    let mut m = machine(View::Partner);
    m.handle(0, ModeEvent::Heartbeat);
    let change = m.handle(10_000, ModeEvent::Heartbeat).unwrap();
    assert_eq!((change.to, change.reason), (Mode::Resiliency, ModeReason::NotHeard(10_000)));
}

#[test]
fn without_voice_failover_silence_changes_nothing() {
    let mut m = ModeMachine::new(PoolId(1), View::Partner, &ResiliencePolicy { voice_failover: false, ..POLICY }, 0);
    assert_eq!(m.handle(60_000, ModeEvent::Tick), None);
    assert!(m.is_away());
    m.set_policy(&POLICY);
    assert_eq!(m.handle(60_001, ModeEvent::Tick).unwrap().to, Mode::Resiliency);
}

#[test]
fn a_restarted_pool_waits_then_serves_in_resiliency_mode() {
    let mut m = machine(View::Own);
    m.handle(0, ModeEvent::Ownership(UNCONFIRMED));
    assert_eq!(m.next_timeout(), Some(2_000));
    let change = m.handle(2_000, ModeEvent::Tick).unwrap();
    assert_eq!(
        (change.from, change.to, change.reason),
        (Mode::Starting, Mode::Resiliency, ModeReason::NoConfirmation(2_000))
    );
    let change = m.handle(9_000, ModeEvent::Ownership(HOME)).unwrap();
    assert_eq!((change.to, change.reason), (Mode::Normal, ModeReason::Confirmed));
    let mut asserted = machine(View::Own);
    let change = asserted.handle(10, ModeEvent::Operator(OperatorEvent::AssertedActive)).unwrap();
    assert_eq!((change.to, change.reason), (Mode::Normal, ModeReason::Asserted));
}

#[test]
fn a_whole_failover_and_back() {
    let mut m = machine(View::Partner);
    m.handle(0, ModeEvent::Ownership(HOME));
    m.handle(2_000, ModeEvent::Tick);
    assert_eq!(operator(&mut m, 2_100, OperatorEvent::FailoverStarted), Some(Mode::FailingOver));
    assert_eq!(m.handle(2_200, ModeEvent::Ownership(MIXED)), None);
    assert_eq!(m.handle(2_300, ModeEvent::Ownership(AWAY)).unwrap().to, Mode::FailedOver);
    assert_eq!(operator(&mut m, 2_400, OperatorEvent::ProcedureEnded), None);
    assert_eq!(hear(&mut m, 3_000, 9_000), vec![], "a returned pool stays failed over until it is failed back");
    assert_eq!(operator(&mut m, 9_100, OperatorEvent::FailbackStarted), Some(Mode::FailingBack));
    assert_eq!(m.handle(9_150, ModeEvent::Ownership(MIXED)), None);
    hear(&mut m, 9_200, 9_200);
    assert_eq!(m.handle(9_250, ModeEvent::Ownership(HOME)).unwrap().to, Mode::Normal);
}

#[test]
fn a_procedure_that_stops_midway_is_shown_by_its_groups() {
    let mut m = machine(View::Partner);
    m.handle(0, ModeEvent::Ownership(AWAY));
    assert_eq!(m.mode(), Mode::FailedOver);
    assert_eq!(m.handle(1, ModeEvent::Ownership(MIXED)).unwrap().to, Mode::FailingBack);
    m.handle(2, ModeEvent::Ownership(HOME));
    let change = m.handle(3, ModeEvent::Ownership(MIXED)).unwrap();
    assert_eq!((change.to, change.reason), (Mode::FailingOver, ModeReason::GroupsMoved(MIXED)));
}
