//! The stream of events: to the log, and to whoever subscribed.
//!
//! Owns their distribution, bounded: a slow subscriber misses events and is told how many. Does not own their content.

use pairline_node::event::{Event, Level};
use std::sync::Arc;
use tokio::sync::broadcast;

/// Events kept for a subscriber that is behind.
const KEPT: usize = 1024;

/// Where events go in.
#[derive(Clone, Debug)]
pub struct EventHub {
    sender: broadcast::Sender<Arc<Event>>,
}

/// Where one subscriber takes them out.
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Arc<Event>>,
}

/// What a subscriber gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// An event.
    Event(Arc<Event>),
    /// This many were missed because the subscriber was too slow.
    Missed(u64),
}

impl Default for EventHub {
    fn default() -> EventHub {
        EventHub { sender: broadcast::channel(KEPT).0 }
    }
}

impl EventHub {
    /// Publishes an event and logs it.
    pub fn publish(&self, event: Event) {
        match event.level {
            Level::Debug => tracing::debug!(target: "pairline", event = event.name, "{}", event.text),
            Level::Info => tracing::info!(target: "pairline", event = event.name, "{}", event.text),
            Level::Warn => tracing::warn!(target: "pairline", event = event.name, "{}", event.text),
            Level::Error => tracing::error!(target: "pairline", event = event.name, "{}", event.text),
        }
        // An error only says that nobody listens.
        let _ = self.sender.send(Arc::new(event));
    }

    /// An event of the shell itself.
    pub fn emit(&self, level: Level, name: &'static str, text: impl Into<String>) {
        self.publish(Event { level, name, text: text.into() });
    }

    /// A new subscription, from now on.
    pub fn subscribe(&self) -> Events {
        Events { receiver: self.sender.subscribe() }
    }
}

impl Events {
    /// Waits for the next event; `None` once the server has ended. Safe to drop at the await.
    pub async fn next(&mut self) -> Option<Next> {
        match self.receiver.recv().await {
            Ok(event) => Some(Next::Event(event)),
            Err(broadcast::error::RecvError::Lagged(n)) => Some(Next::Missed(n)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
