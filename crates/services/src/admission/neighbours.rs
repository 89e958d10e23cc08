//! Overload control between neighbours (RFC 7339, loss algorithm): who is told how much to hold back, and what others have told.
//!
//! Owns what is known of each neighbour, in bounded tables. Only trusted peers are neighbours: who is one is the caller's to say,
//! and so is when a message of theirs is read or changed. Does not own the rate that a report is made of (`rate`).

use pairline_group::Millis;
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::via::Via;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Neighbours of each kind that are remembered.
const MAX: usize = 256;
/// How long a neighbour is remembered that says nothing, in milliseconds.
const FORGET_MS: Millis = 600_000;
/// How long a report holds that does not say so (RFC 7339 §4.3), in milliseconds.
const VALIDITY_MS: Millis = 500;
/// The longest that a report is believed, in milliseconds.
const MAX_VALIDITY_MS: Millis = 60_000;
/// The Via parameters by which we offer to be told (RFC 7339 §4.1, §4.2).
pub const OFFER: &str = ";oc;oc-algo=\"loss\"";

/// A neighbour: how it is reached, and its address.
type Key = (Transport, IpAddr);

fn key(flow: Flow) -> Key {
    (flow.transport, flow.remote.ip().to_canonical())
}

/// What a neighbour has said.
#[derive(Clone, Copy, Debug, Default)]
struct Report {
    /// When we last sent to it.
    asked: Millis,
    loss_percent: u8,
    until: Millis,
    seq: u64,
}

/// All neighbours.
#[derive(Clone, Debug, Default)]
pub struct Neighbours {
    /// Those that want to be told, and when they last said so.
    told: BTreeMap<Key, Millis>,
    /// Those that we send to and have offered to obey.
    asked: BTreeMap<Key, Report>,
}

impl Neighbours {
    /// A request of a trusted peer has come with that top Via.
    pub fn heard(&mut self, now: Millis, flow: Flow, via: &Via<'_>) {
        let offers = via.param("oc").is_some_and(<[u8]>::is_empty) && names_loss(via);
        if offers && room(&mut self.told, now, key(flow), |at| *at) {
            self.told.insert(key(flow), now);
        }
    }

    /// Whether an answer on that flow is to say how much is held back.
    pub fn is_told(&self, flow: Flow) -> bool {
        !self.told.is_empty() && self.told.contains_key(&key(flow))
    }

    /// A request is sent to a trusted peer with our offer in its Via.
    pub fn asks(&mut self, now: Millis, flow: Flow) {
        if room(&mut self.asked, now, key(flow), |report| report.asked) {
            self.asked.entry(key(flow)).or_default().asked = now;
        }
    }

    /// A response has come on that flow with that top Via, which is ours. What was not asked for, is older than what is known, or
    /// is no report, is nothing.
    pub fn reported(&mut self, now: Millis, flow: Flow, via: &Via<'_>) {
        let Some(report) = self.asked.get_mut(&key(flow)) else { return };
        let (Some(loss), Some(seq)) = (via.param("oc").and_then(number), via.param("oc-seq").and_then(sequence)) else {
            return;
        };
        if loss > 100 || seq <= report.seq {
            return;
        }
        let validity = via.param("oc-validity").and_then(number).unwrap_or(VALIDITY_MS);
        report.seq = seq;
        report.loss_percent = u8::try_from(loss).unwrap_or(100);
        report.until = now.saturating_add(validity.min(MAX_VALIDITY_MS));
    }

    /// Whether a new request that may be held back is not sent to that neighbour now.
    pub fn holds_back(&self, now: Millis, flow: Flow, random: u64) -> bool {
        let report = if self.asked.is_empty() { None } else { self.asked.get(&key(flow)) };
        report.is_some_and(|report| now < report.until && random % 100 < u64::from(report.loss_percent))
    }

    /// Whether anybody is to be heard at all.
    pub fn has_asked(&self) -> bool {
        !self.asked.is_empty()
    }
}

/// Makes room for a key; false if there is none.
fn room<V>(table: &mut BTreeMap<Key, V>, now: Millis, key: Key, at: impl Fn(&V) -> Millis) -> bool {
    if table.len() >= MAX && !table.contains_key(&key) {
        table.retain(|_, value| now.saturating_sub(at(value)) < FORGET_MS);
    }
    table.len() < MAX || table.contains_key(&key)
}

/// Whether the algorithms that a neighbour can do contain ours; without a list it is the default (RFC 7339 §4.2).
fn names_loss(via: &Via<'_>) -> bool {
    let list = via.param("oc-algo");
    list.is_none_or(|list| list.split(|b| *b == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(b"loss")))
}

fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok().filter(|text| text.len() <= 10)?.parse().ok()
}

/// `seconds.fraction` as a number that rises with it: six digits of the fraction count.
fn sequence(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.len() > 12 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let fraction = format!("{:0<6}", fraction.get(..6).unwrap_or(fraction));
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(fraction.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> Flow {
        Flow { transport: Transport::Tls, listener: 1, remote: "192.0.2.1:5061".parse().expect("valid"), connection: 3 }
    }

    fn via(more: &str) -> Vec<u8> {
        format!("SIP/2.0/TLS 192.0.2.9;branch=z9hG4bKx{more}").into_bytes()
    }

    fn held(neighbours: &Neighbours, now: Millis) -> usize {
        (0..1_000).filter(|n| neighbours.holds_back(now, flow(), *n)).count()
    }

    #[test]
    fn a_report_holds_for_its_time_and_older_ones_do_not_replace_it() {
        let mut all = Neighbours::default();
        let say =
            |all: &mut Neighbours, now, more: &str| all.reported(now, flow(), &Via::parse(&via(more)).expect("valid"));
        say(&mut all, 0, ";oc=50;oc-seq=1.0");
        assert_eq!(held(&all, 0), 0, "nobody asked it");
        all.asks(0, flow());
        say(&mut all, 100, ";oc=40;oc-algo=\"loss\";oc-validity=200;oc-seq=1282321615.782");
        assert_eq!((held(&all, 100), held(&all, 299), held(&all, 300)), (400, 400, 0));
        say(&mut all, 100, ";oc=90;oc-validity=200;oc-seq=1282321615.781");
        assert_eq!(held(&all, 100), 400, "older");
        say(&mut all, 100, ";oc=90;oc-seq=1282321616");
        assert_eq!((held(&all, 599), held(&all, 600)), (900, 0), "half a second without a word");
        for nothing in [
            ";oc;oc-seq=9999999999.1",
            ";oc=101;oc-seq=9999999999.1",
            ";oc=20",
            ";oc=x;oc-seq=9999999999.1",
            ";oc=1;oc-seq=1.-1",
        ] {
            say(&mut all, 500, nothing);
            assert_eq!(held(&all, 500), 900, "{nothing}");
        }
        say(&mut all, 500, ";oc=0;oc-validity=0;oc-seq=1282321617.0");
        assert_eq!(held(&all, 500), 0);
    }

    #[test]
    fn only_who_offers_the_loss_algorithm_is_told_and_the_tables_are_bounded() {
        let mut all = Neighbours::default();
        let hear = |all: &mut Neighbours, flow, more: &str| all.heard(0, flow, &Via::parse(&via(more)).expect("valid"));
        for not in ["", ";oc=5", ";oc;oc-algo=\"rate\""] {
            hear(&mut all, flow(), not);
            assert!(!all.is_told(flow()), "{not}");
        }
        hear(&mut all, flow(), ";oc;oc-algo=\"rate,loss\"");
        assert!(all.is_told(Flow { connection: 9, ..flow() }));
        for n in 0..1_000_u32 {
            let remote = std::net::SocketAddr::new(IpAddr::V4((n << 8).into()), 5060);
            hear(&mut all, Flow { remote, ..flow() }, ";oc");
        }
        assert_eq!(all.told.len(), MAX);
        all.heard(
            FORGET_MS,
            Flow { remote: "198.51.100.1:1".parse().expect("valid"), ..flow() },
            &Via::parse(&via(";oc")).expect("valid"),
        );
        assert_eq!(all.told.len(), 1);
    }
}
