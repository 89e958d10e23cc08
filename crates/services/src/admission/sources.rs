//! What one source and one identity may ask for.
//!
//! Owns two bounded tables of token buckets. A source (an address, or a network of IPv6) is measured by what it sends without
//! proving who sends it. Once somebody has authenticated from there, their requests count for them alone, and each gives the
//! source back what its challenge and itself took: a thousand phones behind one address are a thousand identities, and a guesser
//! among them is none of them. Guesses at the password of one who has authenticated from there count for that one. Does not own the
//! proof (`auth`), nor what is refused for want of capacity (`rate`).

use pairline_group::Millis;
use pairline_sip::flow::Flow;
use pairline_sip::glance;
use pairline_topology::policy_overload::OverloadPolicy;
use std::net::IpAddr;

/// Sources that are remembered.
const SOURCES: usize = 1 << 14;
/// Identities that are remembered.
const IDENTITIES: usize = 1 << 16;
/// Places in which a key may be.
const WAYS: usize = 4;
/// What a request that was authenticated gives back to its source: itself and its challenge.
const GIVEN_BACK: u32 = 2;

/// One bucket.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Zero for a place that is free.
    key: u64,
    tokens: u32,
    at: Millis,
}

/// Buckets by key, in a fixed number of places. Where all places of a key are taken, the bucket that is fullest makes room: who
/// asked for the least is forgotten, and begins again with a full one.
#[derive(Clone, Debug)]
struct Buckets {
    places: Vec<Bucket>,
    size: usize,
    per_s: u32,
    burst: u32,
}

impl Buckets {
    fn new(size: usize, per_s: u32, burst: u32) -> Buckets {
        Buckets { places: Vec::new(), size, per_s, burst }
    }

    /// The bucket of a key with what it holds now, if it is known.
    fn known(&mut self, now: Millis, key: u64) -> Option<&mut Bucket> {
        let (per_s, burst) = (self.per_s, self.burst);
        let set = self.set(key);
        let bucket = set.iter_mut().find(|bucket| bucket.key == key)?;
        fill(bucket, now, per_s, burst);
        Some(bucket)
    }

    /// The same; one that is not known begins full.
    fn any(&mut self, now: Millis, key: u64) -> &mut Bucket {
        let (per_s, burst) = (self.per_s, self.burst);
        let set = self.set(key);
        let place = set.iter().position(|bucket| bucket.key == key).unwrap_or_else(|| {
            for bucket in set.iter_mut() {
                fill(bucket, now, per_s, burst);
            }
            let fullest = (0..WAYS).max_by_key(|place| (set[*place].key == 0, set[*place].tokens)).unwrap_or(0);
            set[fullest] = Bucket { key, tokens: burst, at: now };
            fullest
        });
        fill(&mut set[place], now, per_s, burst);
        &mut set[place]
    }

    fn set(&mut self, key: u64) -> &mut [Bucket] {
        if self.places.is_empty() {
            self.places = vec![Bucket::default(); self.size];
        }
        let sets = self.size / WAYS;
        // A remainder below the number of sets, which is a power of two.
        let set = usize::try_from(key >> 32).unwrap_or(0) % sets;
        &mut self.places[set * WAYS..(set + 1) * WAYS]
    }
}

fn fill(bucket: &mut Bucket, now: Millis, per_s: u32, burst: u32) {
    let passed = now.saturating_sub(bucket.at);
    let more = passed.saturating_mul(u64::from(per_s)) / 1_000;
    if more > 0 {
        let full = u64::from(bucket.tokens).saturating_add(more).min(u64::from(burst));
        bucket.tokens = u32::try_from(full).unwrap_or(burst);
        bucket.at = now;
    }
    bucket.tokens = bucket.tokens.min(burst);
}

/// Who sent a request, as keys of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    source: u64,
    /// Of whoever the credentials name, at that source.
    identity: Option<u64>,
}

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Requests of the source that nobody vouches for.
    Source,
    /// Requests of the identity.
    Identity,
}

/// Both tables.
#[derive(Clone, Debug)]
pub struct Sources {
    seed: u64,
    sources: Buckets,
    identities: Buckets,
    limited: [u64; 2],
}

impl Sources {
    /// Empty; with a secret seed, so that nobody can choose keys that push out others.
    pub fn new(policy: &OverloadPolicy, seed: u64) -> Sources {
        Sources {
            seed,
            sources: Buckets::new(SOURCES, policy.source_per_s, policy.source_burst),
            identities: Buckets::new(IDENTITIES, policy.identity_per_s, policy.identity_burst),
            limited: [0; 2],
        }
    }

    /// Takes other limits over.
    pub fn set_policy(&mut self, policy: &OverloadPolicy) {
        (self.sources.per_s, self.sources.burst) = (policy.source_per_s, policy.source_burst);
        (self.identities.per_s, self.identities.burst) = (policy.identity_per_s, policy.identity_burst);
    }

    /// The keys of a request's sender.
    pub fn sender(&self, flow: Flow, credentials: Option<&[u8]>) -> Sender {
        let source = match flow.remote.ip().to_canonical() {
            IpAddr::V4(ip) => mix(self.seed, &ip.octets()),
            // The network of which every host may choose its address.
            IpAddr::V6(ip) => mix(self.seed, &ip.octets()[..8]),
        };
        let identity = credentials.and_then(glance::username).map(|name| mix(source, name));
        Sender { source, identity }
    }

    /// Counts a request that begins something new; which limit it exceeds, if any.
    pub fn take(&mut self, now: Millis, sender: Sender) -> Result<(), Limit> {
        let proven = match sender.identity {
            Some(identity) if self.identities.per_s > 0 => self.identities.known(now, identity).map(|b| b.tokens),
            _ => None,
        };
        if let Some(tokens) = proven {
            // Taken from when it turns out to be theirs, or wrong.
            if tokens == 0 {
                self.limited[1] += 1;
                return Err(Limit::Identity);
            }
            return Ok(());
        }
        if self.sources.per_s == 0 {
            return Ok(());
        }
        let bucket = self.sources.any(now, sender.source);
        if bucket.tokens == 0 {
            self.limited[0] += 1;
            return Err(Limit::Source);
        }
        bucket.tokens -= 1;
        Ok(())
    }

    /// What was taken for a request is given back: it was refused for another reason.
    pub fn give_back(&mut self, now: Millis, sender: Sender) {
        if self.sources.per_s > 0
            && let Some(bucket) = self.sources.known(now, sender.source)
        {
            bucket.tokens = bucket.tokens.saturating_add(1);
        }
    }

    /// The credentials of a request were right or wrong.
    pub fn weighed(&mut self, now: Millis, sender: Sender, right: bool) {
        if right { self.authenticated(now, sender) } else { self.failed(now, sender) }
    }

    fn authenticated(&mut self, now: Millis, sender: Sender) {
        if self.sources.per_s > 0 {
            let burst = self.sources.burst;
            if let Some(bucket) = self.sources.known(now, sender.source) {
                bucket.tokens = bucket.tokens.saturating_add(GIVEN_BACK).min(burst);
            }
        }
        if let Some(identity) = sender.identity.filter(|_| self.identities.per_s > 0) {
            let bucket = self.identities.any(now, identity);
            bucket.tokens = bucket.tokens.saturating_sub(1);
        }
    }

    /// Wrong credentials in the name of one who has authenticated from there count for that one, not for the source.
    fn failed(&mut self, now: Millis, sender: Sender) {
        if let Some(identity) = sender.identity.filter(|_| self.identities.per_s > 0)
            && let Some(bucket) = self.identities.known(now, identity)
        {
            bucket.tokens = bucket.tokens.saturating_sub(1);
        }
    }

    /// Requests over the limit of their source, and of their identity.
    pub fn limited(&self) -> [u64; 2] {
        self.limited
    }
}

fn mix(seed: u64, bytes: &[u8]) -> u64 {
    let mut hash = seed ^ 0x9e37_79b9_7f4a_7c15;
    for chunk in bytes.chunks(8) {
        let mut word = [0_u8; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 32;
    }
    // Zero is a free place.
    hash | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> Sources {
        let policy = OverloadPolicy {
            source_per_s: 10,
            source_burst: 20,
            identity_per_s: 5,
            identity_burst: 8,
            ..OverloadPolicy::default()
        };
        Sources::new(&policy, 42)
    }

    fn from(sources: &Sources, ip: &str, user: Option<&str>) -> Sender {
        let flow = Flow::udp(1, format!("{ip}:5060").parse().expect("valid"));
        let credentials = user.map(|user| format!("Digest realm=\"x\", username=\"{user}\", nc=1"));
        sources.sender(flow, credentials.as_deref().map(str::as_bytes))
    }

    #[test]
    fn a_source_that_proves_nothing_is_limited_and_others_are_not() {
        let mut all = sources();
        let (one, two) = (from(&all, "192.0.2.1", None), from(&all, "192.0.2.2", Some("guess")));
        let taken = (0..100).filter(|_| all.take(0, one).is_ok()).count();
        assert_eq!(taken, 20);
        assert_eq!(all.take(99, one), Err(Limit::Source));
        assert!(all.take(0, two).is_ok());
        assert_eq!((0..100).filter(|_| all.take(1_000, one).is_ok()).count(), 10);
        assert_eq!(all.limited()[1], 0);
        let nets = ["[2001:db8::1]", "[2001:db8::2]", "[2001:db8:0:1::1]"].map(|ip| from(&all, ip, None));
        assert!(nets[0] == nets[1] && nets[1] != nets[2]);
    }

    #[test]
    fn a_thousand_phones_behind_one_address_are_not_punished_even_beside_a_guesser() {
        let mut all = sources();
        let nat = "198.51.100.1";
        for round in 0..20_u64 {
            for phone in 0..1_000 {
                let now = round * 60_000 + phone;
                let name = format!("phone{phone}");
                let (bare, known) = (from(&all, nat, None), from(&all, nat, Some(&name)));
                // Refreshes do not depend on what the guesser has left over.
                if round == 0 {
                    assert!(all.take(now, bare).is_ok(), "{round} {phone}");
                }
                assert!(all.take(now, known).is_ok(), "{round} {phone}");
                all.authenticated(now, known);
            }
            let guesses = (0..1_000).filter(|n| {
                let guess = from(&all, nat, Some(&format!("guess{n}")));
                all.take(round * 60_000 + 1_000, guess).is_ok()
            });
            assert!(guesses.count() <= 20);
        }
    }

    #[test]
    fn an_identity_has_a_limit_of_its_own_at_its_source_only() {
        let mut all = sources();
        let (here, there) = (from(&all, "192.0.2.1", Some("bob")), from(&all, "192.0.2.2", Some("bob")));
        let mut done = 0;
        for _ in 0..100 {
            if all.take(0, here).is_ok() {
                all.authenticated(0, here);
                done += 1;
            }
        }
        assert_eq!(done, 8);
        assert_eq!((all.take(0, here), all.take(0, there)), (Err(Limit::Identity), Ok(())));
        assert!(all.take(200, here).is_ok(), "a fifth of a second is one more");
    }

    #[test]
    fn guesses_at_the_password_of_one_who_is_known_there_are_limited_and_elsewhere_count_for_the_source() {
        let mut all = sources();
        let (phone, elsewhere) = (from(&all, "192.0.2.1", Some("bob")), from(&all, "192.0.2.2", Some("bob")));
        all.authenticated(0, phone);
        let guesses = |all: &mut Sources, now, sender| {
            let taken = (0..100).filter(|_| {
                let taken = all.take(now, sender).is_ok();
                if taken {
                    all.failed(now, sender);
                }
                taken
            });
            taken.count()
        };
        assert_eq!((guesses(&mut all, 0, phone), guesses(&mut all, 0, elsewhere)), (7, 20));
        assert_eq!(all.limited(), [80, 93]);
        assert_eq!(guesses(&mut all, 1_000, phone), 5);
        assert!(all.take(2_000, phone).is_ok(), "bob himself, a second later");
    }

    #[test]
    fn the_tables_do_not_grow_and_forget_who_asked_for_least() {
        let mut all = sources();
        let busy = from(&all, "192.0.2.1", None);
        while all.take(0, busy).is_ok() {}
        for n in 0..1_000_000_u32 {
            let flow = Flow::udp(1, std::net::SocketAddr::new(IpAddr::V4(n.into()), 1));
            let sender = all.sender(flow, None);
            assert!(sender == busy || all.take(0, sender).is_ok());
        }
        assert_eq!(all.sources.places.len(), SOURCES);
        assert_eq!(all.take(0, busy), Err(Limit::Source), "others asked for less");
    }
}
