//! Connections by the address that they come from, and the limits on them: how many, and how much may arrive on those that
//! have been granted nothing yet.
//!
//! Owns the counts per source. Does not own the connections (`streams`).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Sources that are remembered; beyond it none is added, so that who comes from everywhere fills no memory.
const MAX: usize = 262_144;

/// What one source may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceLimits {
    /// Connections.
    pub all: usize,
    /// Connections that have been granted nothing.
    pub unproven: usize,
    /// Bytes that may arrive on those at one time,
    pub burst: u64,
    /// and how many more each second.
    pub rate: u64,
}

/// One source.
#[derive(Default)]
struct Source {
    all: usize,
    unproven: usize,
    /// Bytes above what the rate has allowed, at that instant.
    debt: u64,
    at: Option<Instant>,
}

impl Source {
    fn drain(&mut self, now: Instant, rate: u64) {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let allowed = passed.as_millis().saturating_mul(u128::from(rate)) / 1_000;
        self.debt = self.debt.saturating_sub(u64::try_from(allowed).unwrap_or(u64::MAX));
        self.at = Some(now);
    }
}

/// All sources that have connections, or had so many bytes lately that they are not forgotten yet.
#[derive(Default)]
pub struct Sources(BTreeMap<IpAddr, Source>);

/// What counts as one source: an address, or the network of IPv6 addresses that every host may choose among.
fn source_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(u128::from(ip) >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Sources {
    /// Counts one more, unproven, unless a limit is reached; false then.
    pub fn take(&mut self, ip: IpAddr, limits: &SourceLimits, now: Instant) -> bool {
        let ip = source_of(ip);
        if self.0.len() >= MAX && !self.0.contains_key(&ip) {
            self.forget(limits, now);
            if self.0.len() >= MAX {
                return false;
            }
        }
        let source = self.0.entry(ip).or_default();
        if source.all >= limits.all || source.unproven >= limits.unproven {
            return false;
        }
        source.all += 1;
        source.unproven += 1;
        true
    }

    fn forget(&mut self, limits: &SourceLimits, now: Instant) {
        self.0.retain(|_, source| {
            source.drain(now, limits.rate);
            source.all > 0 || source.debt > 0
        });
    }

    /// Bytes arrived on a connection that has been granted nothing: how long nothing more is read from it.
    pub fn charge(&mut self, ip: IpAddr, bytes: u64, limits: &SourceLimits, now: Instant) -> Duration {
        let Some(source) = self.0.get_mut(&source_of(ip)) else { return Duration::ZERO };
        source.drain(now, limits.rate);
        source.debt = source.debt.saturating_add(bytes);
        let over = source.debt.saturating_sub(limits.burst);
        Duration::from_millis(over.saturating_mul(1_000) / limits.rate.max(1))
    }

    /// One of them has been granted something.
    pub fn prove(&mut self, ip: IpAddr) {
        if let Some(source) = self.0.get_mut(&source_of(ip)) {
            source.unproven = source.unproven.saturating_sub(1);
        }
    }

    /// One has ended.
    pub fn give_back(&mut self, ip: IpAddr, proven: bool, limits: &SourceLimits, now: Instant) {
        let ip = source_of(ip);
        let Some(source) = self.0.get_mut(&ip) else { return };
        source.all = source.all.saturating_sub(1);
        if !proven {
            source.unproven = source.unproven.saturating_sub(1);
        }
        source.drain(now, limits.rate);
        // What is owed is remembered, or a new connection would be a new allowance.
        if source.all == 0 && source.debt == 0 {
            self.0.remove(&ip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SourceLimits = SourceLimits { all: 3, unproven: 2, burst: 1_000, rate: 100 };

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("valid")
    }

    #[test]
    fn each_source_has_its_own_limits_and_a_network_of_ipv6_is_one() {
        let (mut sources, now) = (Sources::default(), Instant::now());
        for (one, two, three) in [
            ("192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1"),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::", "2001:db8:0:1::9"),
        ] {
            assert!(sources.take(ip(one), &LIMITS, now) && sources.take(ip(two), &LIMITS, now));
            assert!(!sources.take(ip(three), &LIMITS, now), "two unproven");
            sources.prove(ip(one));
            assert!(sources.take(ip(three), &LIMITS, now));
            sources.prove(ip(two));
            assert!(!sources.take(ip(three), &LIMITS, now), "three in all");
            sources.give_back(ip(one), true, &LIMITS, now);
            assert!(sources.take(ip(three), &LIMITS, now));
        }
        assert!(sources.take(ip("192.0.2.2"), &LIMITS, now) && sources.take(ip("2001:db8:0:2::1"), &LIMITS, now));
    }

    #[test]
    fn bytes_beyond_the_burst_wait_for_the_rate_also_on_the_next_connection() {
        let (mut sources, now) = (Sources::default(), Instant::now());
        let (me, other) = (ip("192.0.2.1"), ip("192.0.2.2"));
        assert!(sources.take(me, &LIMITS, now) && sources.take(other, &LIMITS, now));
        assert_eq!(sources.charge(me, 1_000, &LIMITS, now), Duration::ZERO);
        assert_eq!(sources.charge(me, 50, &LIMITS, now), Duration::from_millis(500));
        sources.give_back(me, false, &LIMITS, now);
        assert!(sources.take(me, &LIMITS, now));
        assert_eq!(sources.charge(me, 50, &LIMITS, now), Duration::from_secs(1));
        assert_eq!(sources.charge(other, 50, &LIMITS, now), Duration::ZERO);
        let later = now + Duration::from_secs(11);
        assert_eq!(sources.charge(me, 1_000, &LIMITS, later), Duration::ZERO);
        sources.give_back(me, false, &LIMITS, later + Duration::from_secs(60));
        sources.forget(&LIMITS, later + Duration::from_secs(60));
        assert_eq!(sources.0.len(), 1, "what owes nothing and has no connection is forgotten");
    }
}
