//! The door between the admin API and the node.
//!
//! Owns the trait only. The shell's handle implements it; tests implement it with a table.

use crate::capture::{TraceAnswer, TraceError, TraceOrder};
use pairline_node::command::{Actor, Command, Problem, Reply};
use std::future::Future;
use std::pin::Pin;

/// An answer that is on its way.
pub type CommandFuture = Pin<Box<dyn Future<Output = Result<Reply, Problem>> + Send>>;

/// Whoever executes commands.
pub trait CommandPort: Send + Sync {
    /// Hands one command in; the answer comes when its effect is committed or refused.
    fn command(&self, actor: Actor, command: Command) -> CommandFuture;

    /// Carries an order about a trace out, on this server and at once.
    ///
    /// # Errors
    /// [`TraceError`].
    fn trace(&self, order: &TraceOrder) -> Result<TraceAnswer, TraceError>;
}
