//! Policy of overload: what a server admits, when it refuses, what one source and one identity may ask for.
//!
//! Owns types, defaults and bounds. Does not own the decision (services' `admission`).

use crate::reader::{Findings, Section};
use serde::{Deserialize, Serialize};

/// Overload. Rates are in units a second: a REGISTER is one unit, a message two, a call four.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverloadPolicy {
    /// Whether requests are refused at all when they wait too long. Off: only the hard limits hold.
    pub enabled: bool,
    /// How long requests may wait in the server's queue before it counts as overloaded, in milliseconds; 5 to 1000.
    pub target_delay_ms: u32,
    /// Units a second that are admitted in any case; 10 to 1000000.
    pub min_rate: u32,
    /// Units a second that are never exceeded; 10 to 10000000.
    pub max_rate: u32,
    /// Emergency calls a second that nothing refuses; 1 to 10000. More are taken while there is room.
    pub emergency_per_s: u32,
    /// Longest Retry-After, in seconds; 2 to 3600.
    pub retry_after_max_s: u32,
    /// By how much a granted expiry is spread, in per cent, so that clients do not come back together; 0 to 50.
    pub expiry_spread_percent: u32,
    /// Requests a second that one source may send without authenticating; 0 for no limit, to 1000000. Requests that are
    /// authenticated do not count, and each of them allows one more that is not: its challenge.
    pub source_per_s: u32,
    /// Of these, how many at once; 1 to 1000000.
    pub source_burst: u32,
    /// Requests a second of one identity from one source from which it has authenticated, with the right password or a wrong
    /// one; 0 for no limit, to 1000000.
    pub identity_per_s: u32,
    /// Of these, how many at once; 1 to 1000000.
    pub identity_burst: u32,
    /// Whether trusted peers are told how much to hold back, and obeyed (RFC 7339).
    pub neighbours: bool,
}

impl Default for OverloadPolicy {
    fn default() -> Self {
        OverloadPolicy {
            enabled: true,
            target_delay_ms: 20,
            min_rate: 200,
            max_rate: 1_000_000,
            emergency_per_s: 200,
            retry_after_max_s: 30,
            expiry_spread_percent: 10,
            source_per_s: 2_000,
            source_burst: 20_000,
            identity_per_s: 500,
            identity_burst: 2_000,
            neighbours: true,
        }
    }
}

/// Reads `[policies.overload]`.
pub(crate) fn overload(mut s: Section<'_>, f: &mut Findings) -> OverloadPolicy {
    let d = OverloadPolicy::default();
    let policy = OverloadPolicy {
        enabled: s.flag(f, "enabled", d.enabled),
        target_delay_ms: s.number(f, "target_delay_ms", d.target_delay_ms, 5, 1_000),
        min_rate: s.number(f, "min_rate", d.min_rate, 10, 1_000_000),
        max_rate: s.number(f, "max_rate", d.max_rate, 10, 10_000_000),
        emergency_per_s: s.number(f, "emergency_per_s", d.emergency_per_s, 1, 10_000),
        retry_after_max_s: s.number(f, "retry_after_max_s", d.retry_after_max_s, 2, 3_600),
        expiry_spread_percent: s.number(f, "expiry_spread_percent", d.expiry_spread_percent, 0, 50),
        source_per_s: s.number(f, "source_per_s", d.source_per_s, 0, 1_000_000),
        source_burst: s.number(f, "source_burst", d.source_burst, 1, 1_000_000),
        identity_per_s: s.number(f, "identity_per_s", d.identity_per_s, 0, 1_000_000),
        identity_burst: s.number(f, "identity_burst", d.identity_burst, 1, 1_000_000),
        neighbours: s.flag(f, "neighbours", d.neighbours),
    };
    s.done(f);
    policy
}

/// Rules between its values.
pub(crate) fn check(f: &mut Findings, policy: &OverloadPolicy) {
    if policy.min_rate > policy.max_rate {
        let have = format!("min_rate {} is above max_rate {}", policy.min_rate, policy.max_rate);
        f.add("policies.overload", have, "order them rising");
    }
}
