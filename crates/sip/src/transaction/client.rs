//! The client transaction of all methods but INVITE and ACK: RFC 3261 §17.1.2.
//!
//! Its state `Completed` is none here, and Timer K is zero on every transport: repetitions of the final response, which it would
//! absorb, belong to no transaction then, and whoever uses the layer drops responses of these methods that belong to none.

use super::effect::{Effect, Effects};
use super::timers::Timer;

/// States.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No response yet.
    Trying,
    /// A provisional response came.
    Proceeding,
    /// Over.
    Terminated,
}

/// Events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// 1xx.
    Provisional,
    /// 200 to 699.
    Final,
    /// The transport failed.
    TransportError,
    /// A timer fired.
    Timer(Timer),
}

/// The next state and what to do. An event that means nothing in a state changes nothing.
pub fn step(state: State, event: Event) -> (State, Effects) {
    use Effect::{Failed, PassUp, Resend, Start, Timeout};
    match (state, event) {
        (State::Trying | State::Proceeding, Event::Provisional) => (State::Proceeding, &[PassUp]),
        (State::Trying | State::Proceeding, Event::Final) => (State::Terminated, &[PassUp]),
        (State::Trying | State::Proceeding, Event::Timer(Timer::E)) => (state, &[Resend, Start(Timer::E)]),
        (State::Trying | State::Proceeding, Event::Timer(Timer::F)) => (State::Terminated, &[Timeout]),
        (State::Trying | State::Proceeding, Event::TransportError) => (State::Terminated, &[Failed]),
        _ => (state, &[]),
    }
}
