//! The end of a drill from outside: Ctrl-C and SIGTERM.
//!
//! Owns the signals. What is to be stopped and removed is the drill's.

use super::DrillError;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Both signals, listened to from the moment it is made.
pub struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// Listens.
    ///
    /// # Errors
    /// The system refuses the handlers.
    pub fn new() -> Result<Stop, DrillError> {
        let listen = |kind| signal(kind).map_err(DrillError::Signals);
        Ok(Stop { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for either and names it.
    async fn told(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }

    /// Does some work unless it is told to stop first; what was begun is then dropped where it stands.
    ///
    /// # Errors
    /// Those of the work, or [`DrillError::Interrupted`].
    pub async fn unless<T>(&mut self, work: impl Future<Output = Result<T, DrillError>>) -> Result<T, DrillError> {
        tokio::select! {
            done = work => done,
            signal = self.told() => Err(DrillError::Interrupted(signal)),
        }
    }
}
