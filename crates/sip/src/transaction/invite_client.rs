//! The INVITE client transaction: RFC 3261 §17.1.1 as corrected by RFC 6026 §7.2, with Timer C of
//! §16.6 and the CANCEL of §9.1, which waits for a provisional response.

use super::effect::{Effect, Effects};
use super::timers::Timer;

/// States.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No response yet.
    Calling,
    /// No response yet, and the user wants it cancelled as soon as that is allowed.
    CancelPending,
    /// A provisional response came.
    Proceeding,
    /// CANCEL was sent; the final response is awaited.
    Cancelling,
    /// A 2xx came.
    Accepted,
    /// Another final response came.
    Completed,
    /// Over.
    Terminated,
}

/// Events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// 100, which does not restart Timer C.
    Trying,
    /// 101 to 199.
    Provisional,
    /// 2xx.
    Success,
    /// 300 to 699.
    Failure,
    /// The user asks for a CANCEL.
    Cancel,
    /// The transport failed.
    TransportError,
    /// The link to the other pool is interrupted, while a device there rings.
    Interrupted,
    /// It is back.
    Restored,
    /// The user has gone: further 2xx are for whoever takes responses that belong to no transaction.
    Released,
    /// A timer fired.
    Timer(Timer),
}

/// The next state and what to do. An event that means nothing in a state changes nothing.
pub fn step(state: State, event: Event, reliable: bool) -> (State, Effects) {
    use Effect::{Cancel, Failed, PassUp, Resend, Start, StopResend, Timeout};
    match (state, event) {
        (State::Calling, Event::Trying | Event::Provisional) => {
            (State::Proceeding, &[StopResend, Start(Timer::C), PassUp])
        }
        (State::Calling, Event::Cancel) => (State::CancelPending, &[]),
        (State::CancelPending, Event::Trying | Event::Provisional) => {
            (State::Cancelling, &[StopResend, Start(Timer::Cancelled), Cancel, PassUp])
        }
        (State::Calling | State::CancelPending, Event::Timer(Timer::A)) => (state, &[Resend, Start(Timer::A)]),
        (State::Calling | State::CancelPending, Event::Timer(Timer::B)) => (State::Terminated, &[Timeout]),
        (State::Proceeding, Event::Provisional) => (state, &[Start(Timer::C), PassUp]),
        (State::Proceeding, Event::Trying) => (state, &[PassUp]),
        (State::Proceeding, Event::Cancel | Event::Timer(Timer::C)) => {
            (State::Cancelling, &[Start(Timer::Cancelled), Cancel])
        }
        (State::Proceeding, Event::Interrupted) => (state, &[Start(Timer::Interrupted)]),
        (State::Proceeding, Event::Restored) => (state, &[Start(Timer::C)]),
        (State::Proceeding, Event::Timer(Timer::Interrupted)) => (State::Terminated, &[Failed]),
        // The CANCEL may have been lost with the link; one that was not is a repetition there. Its timer runs on.
        (State::Cancelling, Event::Restored) => (state, &[Cancel]),
        (State::Cancelling, Event::Trying | Event::Provisional) => (state, &[PassUp]),
        (State::Cancelling, Event::Timer(Timer::Cancelled)) => (State::Terminated, &[Timeout]),
        (State::Calling | State::CancelPending | State::Proceeding | State::Cancelling, event) => {
            final_or_failure(state, event, reliable)
        }
        (State::Accepted, Event::Success) => (state, &[PassUp]),
        (State::Accepted, Event::Timer(Timer::M) | Event::Released) => (State::Terminated, &[]),
        (State::Completed, Event::Failure) => (state, &[Effect::Ack]),
        (State::Completed, Event::Timer(Timer::D)) => (State::Terminated, &[]),
        _ => (state, &[]),
    }
}

/// What ends the four states without a final response.
fn final_or_failure(state: State, event: Event, reliable: bool) -> (State, Effects) {
    use Effect::{Ack, Failed, PassUp, Start, StopResend};
    match event {
        Event::Success => (State::Accepted, &[StopResend, Start(Timer::M), PassUp]),
        Event::Failure if reliable => (State::Terminated, &[Ack, PassUp]),
        Event::Failure => (State::Completed, &[StopResend, Start(Timer::D), Ack, PassUp]),
        Event::TransportError => (State::Terminated, &[Failed]),
        _ => (state, &[]),
    }
}
