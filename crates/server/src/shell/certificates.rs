//! The watch over certificates and authorities on disk: looks now and then, and when it is asked to.
//!
//! Owns when it looks and what is said. Does not own what is taken (`tls::reload`).

use super::clock::wall_seconds;
use super::events::EventHub;
use crate::tls::reload::{Reloader, Taken};
use pairline_node::event::Level;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Looks for ever: what has changed at each interval, everything when asked. The first look comes after one interval: the
/// server has just read what is there.
pub async fn follow(mut reloader: Reloader, every: Duration, asked: Arc<Notify>, events: EventHub) {
    let mut times = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    times.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let all = tokio::select! {
            _ = times.tick() => false,
            () = asked.notified() => true,
        };
        for reloaded in reloader.look(all, wall_seconds()) {
            let file = reloaded.file.display();
            match reloaded.outcome {
                Ok(Taken::Certificate(days)) => {
                    let text = format!("the certificate in {file} is shown from now on; it expires in {days} days");
                    events.emit(Level::Info, "certificate-reloaded", text);
                }
                Ok(Taken::Authorities(count)) => {
                    let text = format!(
                        "the authorities in {file} are believed from now on, {count} with the deployment's own"
                    );
                    events.emit(Level::Info, "authorities-reloaded", text);
                }
                Err(why) if reloaded.authorities => {
                    let text =
                        format!("the authorities in {file} are not taken, those before are still believed: {why}");
                    events.emit(Level::Warn, "authorities-not-taken", text);
                }
                Err(why) => {
                    let text = format!("the certificate in {file} is not taken, the one before is still shown: {why}");
                    events.emit(Level::Warn, "certificate-not-taken", text);
                }
            }
        }
    }
}
