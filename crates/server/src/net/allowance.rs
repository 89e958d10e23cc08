//! What one connection may send before a request is granted on it.
//!
//! Owns the count of one connection. Does not own that of its source (`sources`).

use super::context::Context;
use super::streams::Shared;
use std::sync::atomic::Ordering;

/// What a connection has sent so far without being granted anything.
#[derive(Debug, Default)]
pub struct Allowance {
    used: usize,
}

impl Allowance {
    /// Bytes arrived. Returns once its source may send more, so that meanwhile nothing is read; false if this connection has
    /// sent too much. Neither counts once something was granted.
    pub async fn take(&mut self, bytes: usize, shared: &Shared, context: &Context) -> bool {
        if shared.proven.load(Ordering::Relaxed) {
            return true;
        }
        self.used = self.used.saturating_add(bytes);
        let pause = context.streams.charge(shared, bytes);
        if !pause.is_zero() {
            tokio::time::sleep(pause.min(context.streams.limits().unproven_idle)).await;
        }
        self.used <= context.streams.limits().unproven_bytes
    }
}
