//! Events: one readable line each, for the structured log and for the stream that `up` prints.
//!
//! Owns their shape. Contains no secrets, by construction: fields are chosen by the node.

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For tracing a fault.
    Debug,
    /// Ordinary life.
    Info,
    /// Somebody should look.
    Warn,
    /// Service is or will be limited.
    Error,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// How much it matters.
    pub level: Level,
    /// Stable name (`mode-changed`, `registered`, `handover`, …).
    pub name: &'static str,
    /// One readable line, without name and level.
    pub text: String,
}
