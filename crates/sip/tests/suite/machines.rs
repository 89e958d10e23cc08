//! The four transaction machines, every state with every event: what is not in the table of a
//! machine must change nothing and do nothing.

use pairline_sip::transaction::Timer;
use pairline_sip::transaction::effect::Effect::{
    self, Ack, Cancel, Failed, Keep, PassUp, Resend, Send, Start, StopResend, Timeout, Trying,
};
use pairline_sip::transaction::{client, invite_client, invite_server, server};

const TIMERS: [Timer; 15] = [
    Timer::A,
    Timer::B,
    Timer::C,
    Timer::D,
    Timer::E,
    Timer::F,
    Timer::G,
    Timer::H,
    Timer::I,
    Timer::L,
    Timer::M,
    Timer::Trying,
    Timer::Cancelled,
    Timer::Interrupted,
    Timer::Abandoned,
];

/// Rows: state, event, reliable (`None` for both), next state, effects.
type Row<S, E> = (S, E, Option<bool>, S, &'static [Effect]);

fn check<S, E>(states: &[S], events: &[E], rows: &[Row<S, E>], step: impl Fn(S, E, bool) -> (S, &'static [Effect]))
where
    S: Copy + PartialEq + std::fmt::Debug,
    E: Copy + PartialEq + std::fmt::Debug,
{
    let mut hit = vec![false; rows.len()];
    for &state in states {
        for &event in events {
            for reliable in [false, true] {
                let found =
                    rows.iter().position(|row| row.0 == state && row.1 == event && row.2.is_none_or(|r| r == reliable));
                let expected = match found {
                    Some(at) => {
                        hit[at] = true;
                        (rows[at].3, rows[at].4)
                    }
                    None => (state, &[][..]),
                };
                assert_eq!(step(state, event, reliable), expected, "{state:?} + {event:?}, reliable: {reliable}");
            }
        }
    }
    assert!(hit.iter().all(|h| *h), "a row of the table was never used");
}

#[test]
fn invite_server_table() {
    use invite_server::Event::{self, Failure, Provisional, Released, Request, Success};
    use invite_server::State::{Accepted, Completed, Confirmed, Proceeding, Terminated};
    let states = [Proceeding, Accepted, Completed, Confirmed, Terminated];
    let mut events = vec![Request, Event::Ack, Provisional, Success, Failure, Released];
    events.extend(TIMERS.map(Event::Timer));
    let rows: [Row<_, _>; 17] = [
        (Proceeding, Request, None, Proceeding, &[Resend]),
        (Proceeding, Provisional, None, Proceeding, &[StopResend, Send]),
        (Proceeding, Event::Timer(Timer::Trying), None, Proceeding, &[Trying]),
        (Proceeding, Success, None, Accepted, &[StopResend, Send, Start(Timer::L)]),
        (Proceeding, Failure, Some(true), Completed, &[StopResend, Send, Start(Timer::H)]),
        (Proceeding, Failure, Some(false), Completed, &[StopResend, Send, Start(Timer::G), Start(Timer::H)]),
        (Accepted, Event::Ack, None, Accepted, &[PassUp]),
        (Accepted, Success, None, Accepted, &[Send]),
        (Accepted, Event::Timer(Timer::L), None, Terminated, &[]),
        (Accepted, Released, None, Terminated, &[Keep]),
        (Completed, Request, None, Completed, &[Resend]),
        (Completed, Event::Timer(Timer::G), None, Completed, &[Resend, Start(Timer::G)]),
        (Completed, Event::Timer(Timer::H), None, Terminated, &[]),
        (Completed, Event::Ack, Some(true), Terminated, &[]),
        (Completed, Event::Ack, Some(false), Confirmed, &[StopResend, Start(Timer::I)]),
        (Confirmed, Event::Timer(Timer::I), None, Terminated, &[]),
        (Accepted, Request, None, Accepted, &[]),
    ];
    check(&states, &events, &rows, invite_server::step);
}

#[test]
fn server_table() {
    use server::Event::{self, Final, Provisional, Request};
    use server::State::{self, Proceeding, Terminated};
    let states = [State::Trying, Proceeding, Terminated];
    let mut events = vec![Request, Provisional, Final];
    events.extend(TIMERS.map(Event::Timer));
    let abandoned = Event::Timer(Timer::Abandoned);
    let rows: [Row<_, _>; 9] = [
        (State::Trying, Provisional, None, Proceeding, &[Send]),
        (State::Trying, Final, Some(false), Terminated, &[Send, Keep]),
        (State::Trying, Final, Some(true), Terminated, &[Send]),
        (State::Trying, abandoned, None, Terminated, &[]),
        (Proceeding, Request, None, Proceeding, &[Resend]),
        (Proceeding, Provisional, None, Proceeding, &[Send]),
        (Proceeding, Final, Some(false), Terminated, &[Send, Keep]),
        (Proceeding, Final, Some(true), Terminated, &[Send]),
        (Proceeding, abandoned, None, Terminated, &[]),
    ];
    check(&states, &events, &rows, server::step);
}

#[test]
fn invite_client_table() {
    use invite_client::Event::{self, Failure, Provisional, Released, Success, TransportError};
    use invite_client::State::{self, Accepted, Calling, CancelPending, Cancelling, Completed, Proceeding, Terminated};
    let states = [Calling, CancelPending, Proceeding, Cancelling, Accepted, Completed, Terminated];
    let mut events = vec![Event::Trying, Provisional, Success, Failure, Event::Cancel, TransportError];
    events.extend([Event::Interrupted, Event::Restored, Released]);
    events.extend(TIMERS.map(Event::Timer));
    let first: &[Effect] = &[StopResend, Start(Timer::C), PassUp];
    let pending: &[Effect] = &[StopResend, Start(Timer::Cancelled), Cancel, PassUp];
    let cancels: &[Effect] = &[Start(Timer::Cancelled), Cancel];
    let mut rows: Vec<Row<State, Event>> = vec![
        (Calling, Event::Trying, None, Proceeding, first),
        (Calling, Provisional, None, Proceeding, first),
        (Calling, Event::Cancel, None, CancelPending, &[]),
        (CancelPending, Event::Trying, None, Cancelling, pending),
        (CancelPending, Provisional, None, Cancelling, pending),
        (Proceeding, Provisional, None, Proceeding, &[Start(Timer::C), PassUp]),
        (Proceeding, Event::Trying, None, Proceeding, &[PassUp]),
        (Proceeding, Event::Cancel, None, Cancelling, cancels),
        (Proceeding, Event::Timer(Timer::C), None, Cancelling, cancels),
        (Proceeding, Event::Interrupted, None, Proceeding, &[Start(Timer::Interrupted)]),
        (Proceeding, Event::Restored, None, Proceeding, &[Start(Timer::C)]),
        (Proceeding, Event::Timer(Timer::Interrupted), None, Terminated, &[Failed]),
        (Cancelling, Event::Restored, None, Cancelling, &[Cancel]),
        (Cancelling, Event::Trying, None, Cancelling, &[PassUp]),
        (Cancelling, Provisional, None, Cancelling, &[PassUp]),
        (Cancelling, Event::Timer(Timer::Cancelled), None, Terminated, &[Timeout]),
        (Accepted, Success, None, Accepted, &[PassUp]),
        (Accepted, Event::Timer(Timer::M), None, Terminated, &[]),
        (Accepted, Released, None, Terminated, &[]),
        (Completed, Failure, None, Completed, &[Ack]),
        (Completed, Event::Timer(Timer::D), None, Terminated, &[]),
    ];
    for state in [Calling, CancelPending] {
        let again: &[Effect] = &[Resend, Start(Timer::A)];
        rows.push((state, Event::Timer(Timer::A), None, state, again));
        rows.push((state, Event::Timer(Timer::B), None, Terminated, &[Timeout]));
    }
    for state in [Calling, CancelPending, Proceeding, Cancelling] {
        let accepted: &[Effect] = &[StopResend, Start(Timer::M), PassUp];
        let completed: &[Effect] = &[StopResend, Start(Timer::D), Ack, PassUp];
        rows.push((state, Success, None, Accepted, accepted));
        rows.push((state, Failure, Some(false), Completed, completed));
        rows.push((state, Failure, Some(true), Terminated, &[Ack, PassUp]));
        rows.push((state, TransportError, None, Terminated, &[Failed]));
    }
    check(&states, &events, &rows, invite_client::step);
}

#[test]
fn client_table() {
    use client::Event::{self, Final, Provisional, TransportError};
    use client::State::{self, Proceeding, Terminated};
    let states = [State::Trying, Proceeding, Terminated];
    let mut events = vec![Provisional, Final, TransportError];
    events.extend(TIMERS.map(Event::Timer));
    let mut rows: Vec<Row<State, Event>> = Vec::new();
    for state in [State::Trying, Proceeding] {
        let again: &[Effect] = &[Resend, Start(Timer::E)];
        rows.push((state, Provisional, None, Proceeding, &[PassUp]));
        rows.push((state, Final, None, Terminated, &[PassUp]));
        rows.push((state, Event::Timer(Timer::E), None, state, again));
        rows.push((state, Event::Timer(Timer::F), None, Terminated, &[Timeout]));
        rows.push((state, TransportError, None, Terminated, &[Failed]));
    }
    check(&states, &events, &rows, |state, event, _| client::step(state, event));
}
