//! The server transaction of all methods but INVITE: RFC 3261 §17.2.2.
//!
//! Its state `Completed` is none here: what the transaction would do in it, repeat its answer until Timer J, is done by what is kept
//! of it when it is over (`kept`).

use super::effect::{Effect, Effects};
use super::timers::Timer;

/// States.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing was answered.
    Trying,
    /// A provisional response was sent.
    Proceeding,
    /// Over: the final response was sent.
    Terminated,
}

/// Events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The request again.
    Request,
    /// The user sends 1xx.
    Provisional,
    /// The user sends 200 to 699.
    Final,
    /// A timer fired.
    Timer(Timer),
}

/// The next state and what to do. An event that means nothing in a state changes nothing.
pub fn step(state: State, event: Event, reliable: bool) -> (State, Effects) {
    use Effect::{Keep, Resend, Send};
    match (state, event) {
        (State::Proceeding, Event::Request) => (state, &[Resend]),
        (State::Trying | State::Proceeding, Event::Provisional) => (State::Proceeding, &[Send]),
        (State::Trying | State::Proceeding, Event::Final) if reliable => (State::Terminated, &[Send]),
        (State::Trying | State::Proceeding, Event::Final) => (State::Terminated, &[Send, Keep]),
        (State::Trying | State::Proceeding, Event::Timer(Timer::Abandoned)) => (State::Terminated, &[]),
        _ => (state, &[]),
    }
}
