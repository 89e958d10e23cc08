//! The INVITE server transaction: RFC 3261 §17.2.1 as corrected by RFC 6026 §7.1.

use super::effect::{Effect, Effects};
use super::timers::Timer;

/// States. A 2xx leads to `Accepted`, so that its retransmissions and ACKs reach the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No final response yet.
    Proceeding,
    /// A 2xx was sent.
    Accepted,
    /// Another final response was sent.
    Completed,
    /// Its ACK came.
    Confirmed,
    /// Over.
    Terminated,
}

/// Events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The INVITE again.
    Request,
    /// An ACK that matches.
    Ack,
    /// The user sends 1xx.
    Provisional,
    /// The user sends 2xx.
    Success,
    /// The user sends 300 to 699.
    Failure,
    /// The user has gone: no further 2xx comes from it.
    Released,
    /// A timer fired.
    Timer(Timer),
}

/// The next state and what to do. An event that means nothing in a state changes nothing.
pub fn step(state: State, event: Event, reliable: bool) -> (State, Effects) {
    use Effect::{Keep, PassUp, Resend, Send, Start, StopResend, Trying};
    match (state, event) {
        (State::Proceeding, Event::Request) => (state, &[Resend]),
        (State::Proceeding, Event::Provisional) => (state, &[StopResend, Send]),
        (State::Proceeding, Event::Timer(Timer::Trying)) => (state, &[Trying]),
        (State::Proceeding, Event::Success) => (State::Accepted, &[StopResend, Send, Start(Timer::L)]),
        (State::Proceeding, Event::Failure) if reliable => (State::Completed, &[StopResend, Send, Start(Timer::H)]),
        (State::Proceeding, Event::Failure) => {
            (State::Completed, &[StopResend, Send, Start(Timer::G), Start(Timer::H)])
        }
        (State::Accepted, Event::Ack) => (state, &[PassUp]),
        (State::Accepted, Event::Success) => (state, &[Send]),
        (State::Accepted, Event::Timer(Timer::L)) => (State::Terminated, &[]),
        // Nothing is left of it but to absorb repetitions.
        (State::Accepted, Event::Released) => (State::Terminated, &[Keep]),
        (State::Completed, Event::Request) => (state, &[Resend]),
        (State::Completed, Event::Timer(Timer::G)) => (state, &[Resend, Start(Timer::G)]),
        (State::Completed, Event::Timer(Timer::H)) => (State::Terminated, &[]),
        (State::Completed, Event::Ack) if reliable => (State::Terminated, &[]),
        (State::Completed, Event::Ack) => (State::Confirmed, &[StopResend, Start(Timer::I)]),
        (State::Confirmed, Event::Timer(Timer::I)) => (State::Terminated, &[]),
        _ => (state, &[]),
    }
}
