//! What a machine wants done when it takes a step. The layer does it; the machines only say it.

use super::timers::Timer;

/// One effect of a step, done in the order in which a step lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Give the received message to the transaction user.
    PassUp,
    /// Send the response that the transaction user handed in.
    Send,
    /// Keep what the same request again is answered with, or that it is to be absorbed, when the transaction is over.
    Keep,
    /// Send again what was sent last: the response of a server, the request of a client.
    Resend,
    /// Send 100 (Trying), since the transaction user was silent for 200 ms.
    Trying,
    /// Send the ACK to a non-2xx final response.
    Ack,
    /// Send a CANCEL in a transaction of its own.
    Cancel,
    /// Start a timer; it replaces the one in its place (see [`Timer::place`]).
    Start(Timer),
    /// Stop the retransmission timer.
    StopResend,
    /// Tell the transaction user that no final response came in time.
    Timeout,
    /// Tell the transaction user that the transport failed.
    Failed,
}

/// The effects of a step.
pub type Effects = &'static [Effect];
