//! Lanes: datagrams wait by what they are, so that an answer or a call does not stand behind a thousand registrations.
//!
//! Owns the choice of a datagram's lane at a glance, the bounded queue of each, and how long each may wait before that counts as
//! overload. Does not own what is admitted (`pairline_services::admission`) nor how much of each lane makes a turn (`node_loop`).
//! Messages of streams have no lanes: those of one connection keep their order.

use super::inbox::Ended;
use super::sieve::Sieve;
use bytes::Bytes;
use crossbeam_channel as channel;
use pairline_services::admission::Class;
use pairline_services::admission::sieve::Shares;
use pairline_services::emergency::may_be;
use pairline_sip::flow::Flow;
use pairline_sip::glance::Glance;
use pairline_topology::policy_proxy::EmergencyRoute;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How many lanes there are.
pub const LANES: usize = Lane::ALL.len();
/// Datagrams that may wait in a lane: so many as are refused in well below a second, if it comes to that. Of calls fewer: while they stand they
/// are taken from both ends, and with two thousand those in the middle stood for more than the 500 ms after which their repetition
/// (T1 of RFC 3261) was the youngest, and let in.
const DATAGRAMS: [usize; LANES] = [1 << 14, 1 << 9, 1 << 14, 1 << 14];
/// Datagrams of the last lane that are taken at once. The node takes one such batch in a turn: it has the time that the others leave, and
/// they are looked at again a few milliseconds later.
const FEW: usize = 16;
/// Bytes of datagrams that may wait in all lanes.
const BYTES: usize = 40 * 1024 * 1024;
/// How long registrations, messages and the like may wait before that counts: well below the 500 ms after which they are repeated
/// (T1 of RFC 3261), so that whoever only waits for its turn, as in a burst or a closed loop of thousands, is served and not refused.
const PATIENCE: Duration = Duration::from_millis(200);

/// While the oldest call has waited for longer, the youngest is taken as often as the oldest: calls that can still be in time are not made
/// late by those that already are, and those are refused all the same.
const STANDING: Duration = Duration::from_millis(20);

/// Datagrams of one lane and one receive.
pub type Datagrams = Vec<(Flow, Bytes)>;

/// Datagrams of one receive, by lane.
pub type Sorted = [Datagrams; LANES];

/// What a datagram is, from what is handled first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Part of what is going on: responses, ACK, BYE, CANCEL, whatever is in a dialog; and what may be an emergency call.
    Ongoing,
    /// New calls.
    Calls,
    /// What else begins something new, and what is no SIP.
    Rest,
    /// Of the rest, what repeats what was let fall: what comes for the first time goes before it, so that it need not be repeated. When too
    /// much has come for a while, a server would else go on refusing what is new, for as long as what is old is repeated.
    Again,
}

impl Lane {
    /// All, in order; `Lane as usize` is the index.
    pub const ALL: [Lane; 4] = [Lane::Ongoing, Lane::Calls, Lane::Rest, Lane::Again];

    /// Of a datagram, and its class if it has one.
    fn of(seen: &Glance<'_>, message: &[u8], emergency: &[EmergencyRoute]) -> (Lane, Option<Class>) {
        let class = Class::of(seen, |uri| may_be(emergency, uri));
        let lane = match class {
            None if seen.method.is_empty() && !message.starts_with(b"SIP/2.0 ") => Lane::Rest,
            None | Some(Class::Emergency | Class::InDialog) => Lane::Ongoing,
            Some(Class::Invite) => Lane::Calls,
            Some(_) => Lane::Rest,
        };
        (lane, class)
    }

    /// How long what is in it may wait.
    pub fn patience(self) -> Duration {
        if self >= Lane::Rest { PATIENCE } else { Duration::ZERO }
    }

    /// Bytes that wait in all lanes together beyond which it takes nothing more: the others keep room.
    fn most_bytes(self) -> usize {
        match self {
            Lane::Ongoing => BYTES,
            Lane::Calls => BYTES / 4 * 3,
            Lane::Rest => BYTES / 2,
            Lane::Again => BYTES / 4,
        }
    }
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It goes on to the node.
    In(Lane),
    /// The node has no time even to refuse it: it is let fall.
    Out,
    /// Nobody waits for it: it only acknowledges a refusal.
    Nowhere,
}

/// A batch and when it came.
type Batch = (Instant, Datagrams);

/// What waits.
#[derive(Default)]
struct Load {
    /// Datagrams, by lane.
    datagrams: [AtomicUsize; LANES],
    /// Bytes of all lanes.
    bytes: AtomicUsize,
}

/// The sending side.
#[derive(Clone)]
pub struct LanesIn {
    lanes: [channel::Sender<Batch>; LANES],
    load: Arc<Load>,
    sieve: Sieve,
}

/// The receiving side.
pub struct LanesOut {
    lanes: [channel::Receiver<Batch>; LANES],
    /// The first batches of each lane, once they were looked at.
    first: [VecDeque<Batch>; LANES],
    /// Whether it is the turn of the youngest call.
    youngest: bool,
    load: Arc<Load>,
    sieve: Sieve,
}

/// Empty lanes.
pub fn lanes() -> (LanesIn, LanesOut) {
    // A batch has at least one datagram, so there is a place for each that is let in.
    let pairs = DATAGRAMS.map(channel::bounded);
    let (load, sieve) = (Arc::new(Load::default()), Sieve::default());
    let lanes = pairs.each_ref().map(|(sender, _)| sender.clone());
    let sending = LanesIn { lanes, load: Arc::clone(&load), sieve: sieve.clone() };
    (
        sending,
        LanesOut {
            lanes: pairs.map(|(_, receiver)| receiver),
            first: Default::default(),
            youngest: false,
            load,
            sieve,
        },
    )
}

impl LanesIn {
    /// What becomes of a datagram; `again` says whether it repeats one that was let fall, and is asked of what may be.
    pub fn place(&self, message: &[u8], emergency: &[EmergencyRoute], again: impl FnOnce() -> bool) -> Place {
        let seen = Glance::of(message);
        if seen.acknowledges_refusal(message) {
            return Place::Nowhere;
        }
        let (lane, class) = Lane::of(&seen, message, emergency);
        let (lane, class) = match class.is_some_and(Class::may_fall) && again() {
            true => (Lane::Again, Some(Class::Again)),
            false => (lane, class),
        };
        match class.is_none_or(|class| self.sieve.lets_through(class)) {
            true => Place::In(lane),
            false => Place::Out,
        }
    }

    /// Puts datagrams into their lanes; gives back those for which there was no room. Never waits.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn put(&self, sorted: Sorted) -> Result<Sorted, Ended> {
        let (now, mut left) = (Instant::now(), Sorted::default());
        for (lane, mut part) in Lane::ALL.into_iter().zip(sorted) {
            let most = if lane == Lane::Again { FEW } else { usize::MAX };
            while !part.is_empty() {
                let rest = part.split_off(part.len().min(most));
                left[lane as usize].extend(self.put_into(lane, now, part)?);
                part = rest;
            }
        }
        Ok(left)
    }

    fn put_into(&self, lane: Lane, now: Instant, part: Datagrams) -> Result<Datagrams, Ended> {
        let (datagrams, bytes) = (part.len(), bytes_of(&part));
        let waiting = &self.load.datagrams[lane as usize];
        let full = waiting.load(Ordering::Relaxed) + datagrams > DATAGRAMS[lane as usize]
            || self.load.bytes.load(Ordering::Relaxed) + bytes > lane.most_bytes();
        if full {
            return Ok(part);
        }
        waiting.fetch_add(datagrams, Ordering::Relaxed);
        self.load.bytes.fetch_add(bytes, Ordering::Relaxed);
        match self.lanes[lane as usize].try_send((now, part)) {
            Ok(()) => Ok(Vec::new()),
            Err(channel::TrySendError::Full((_, part))) => {
                self.load.took(lane, datagrams, bytes);
                Ok(part)
            }
            Err(channel::TrySendError::Disconnected(_)) => Err(Ended),
        }
    }
}

impl Load {
    fn took(&self, lane: Lane, datagrams: usize, bytes: usize) {
        self.datagrams[lane as usize].fetch_sub(datagrams, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl LanesOut {
    /// Batches that wait; without those of the last lane, which have time.
    pub fn waiting(&self) -> usize {
        let queued: usize = self.lanes[..Lane::Again as usize].iter().map(channel::Receiver::len).sum();
        queued + self.first[..Lane::Again as usize].iter().map(VecDeque::len).sum::<usize>()
    }

    /// From now on these shares of each class are let through.
    pub fn set_shares(&self, shares: &Shares) {
        self.sieve.set(shares);
    }

    /// When the oldest of a lane came.
    pub fn oldest(&mut self, lane: Lane) -> Option<Instant> {
        let index = lane as usize;
        if self.first[index].is_empty() {
            self.first[index].extend(self.lanes[index].try_recv());
        }
        self.first[index].front().map(|(came, _)| *came)
    }

    /// When the youngest of a lane came.
    pub fn youngest(&mut self, lane: Lane) -> Option<Instant> {
        let first = &mut self.first[lane as usize];
        first.extend(self.lanes[lane as usize].try_iter());
        first.back().map(|(came, _)| *came)
    }

    /// The next batch of a lane, and when it came. Calls are not taken in their order while they stand.
    pub fn take(&mut self, lane: Lane, now: Instant) -> Option<Batch> {
        let stands = now.saturating_duration_since(self.oldest(lane)?) > STANDING;
        let first = &mut self.first[lane as usize];
        let (came, batch) = if lane == Lane::Calls && stands {
            first.extend(self.lanes[lane as usize].try_iter());
            self.youngest = !self.youngest;
            if self.youngest { first.pop_back() } else { first.pop_front() }
        } else {
            first.pop_front()
        }?;
        self.load.took(lane, batch.len(), bytes_of(&batch));
        Some((came, batch))
    }
}

fn bytes_of(batch: &Datagrams) -> usize {
    batch.iter().map(|(_, message)| message.len()).sum()
}

#[cfg(test)]
mod tests {
    //! What is going on goes before calls, calls before the rest, and each lane is bounded for itself.

    use super::*;
    use pairline_services::admission::sieve::WHOLE;

    fn datagram(text: &str) -> (Flow, Bytes) {
        let flow = Flow::udp(0, "192.0.2.1:5060".parse().unwrap());
        (flow, Bytes::from(text.replace('|', "\r\n")))
    }

    fn put(lanes: &LanesIn, texts: &[&str]) -> Result<[usize; LANES], Ended> {
        lanes.put(sorted(lanes, texts)).map(|left| left.map(|part| part.len()))
    }

    fn sorted(lanes: &LanesIn, texts: &[&str]) -> Sorted {
        let mut sorted = Sorted::default();
        for text in texts {
            let (flow, message) = datagram(text);
            let Place::In(lane) = lanes.place(&message, &[], || false) else { panic!("{text}") };
            sorted[lane as usize].push((flow, message));
        }
        sorted
    }

    #[test]
    fn a_datagram_has_the_lane_of_what_it_is() {
        let table = [EmergencyRoute { pattern: "112".to_owned(), to: "sip:psap@x".to_owned() }];
        for (text, lane) in [
            ("SIP/2.0 180 Ringing|To: <sip:b@x>;tag=1||", Lane::Ongoing),
            ("ACK sip:b@x SIP/2.0|To: <sip:b@x>;tag=1||", Lane::Ongoing),
            ("BYE sip:b@x SIP/2.0|To: <sip:b@x>;tag=1||", Lane::Ongoing),
            ("CANCEL sip:b@x SIP/2.0|To: <sip:b@x>||", Lane::Ongoing),
            ("INVITE sip:b@x SIP/2.0|To: <sip:b@x>;tag=1||", Lane::Ongoing),
            ("INVITE urn:service:sos SIP/2.0|To: <sip:b@x>||", Lane::Ongoing),
            ("INVITE sip:112@x SIP/2.0|To: <sip:b@x>||", Lane::Ongoing),
            ("INVITE sip:113@x SIP/2.0|To: <sip:b@x>||", Lane::Calls),
            ("INVITE sip:b@x SIP/2.0|To: <sip:b@x>||", Lane::Calls),
            ("REGISTER sip:x SIP/2.0|To: <sip:b@x>||", Lane::Rest),
            ("MESSAGE sip:b@x SIP/2.0|To: <sip:b@x>||", Lane::Rest),
            ("OPTIONS sip:x SIP/2.0|To: <sip:b@x>||", Lane::Rest),
            ("what is no SIP at all||", Lane::Rest),
            ("SIP/2.1 nor this||", Lane::Rest),
        ] {
            assert_eq!(lanes().0.place(&datagram(text).1, &table, || false), Place::In(lane), "{text}");
        }
    }

    #[test]
    fn each_lane_keeps_its_order_and_is_taken_alone() {
        let (sending, mut lanes) = lanes();
        let texts =
            ["REGISTER sip:1 SIP/2.0||", "INVITE sip:2 SIP/2.0||", "REGISTER sip:3 SIP/2.0||", "SIP/2.0 200 OK||"];
        assert_eq!(put(&sending, &texts), Ok([0; LANES]));
        assert_eq!(lanes.waiting(), 3);
        assert!(lanes.oldest(Lane::Calls).is_some() && lanes.waiting() == 3);
        let (_, rest) = lanes.take(Lane::Rest, Instant::now()).unwrap();
        assert_eq!((&rest[0].1[..14], &rest[1].1[..14]), (&b"REGISTER sip:1"[..], &b"REGISTER sip:3"[..]));
        assert!(lanes.take(Lane::Rest, Instant::now()).is_none() && lanes.oldest(Lane::Rest).is_none());
        assert!(
            lanes.take(Lane::Ongoing, Instant::now()).is_some() && lanes.take(Lane::Calls, Instant::now()).is_some()
        );
        assert_eq!((lanes.waiting(), lanes.load.bytes.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn a_full_lane_drops_its_own_and_leaves_room_for_what_matters_more() {
        let (sending, mut lanes) = lanes();
        let large = format!("REGISTER sip:x SIP/2.0|{}||", "x".repeat(60_000));
        let mut dropped = 0;
        for _ in 0..1_000 {
            dropped += put(&sending, &[&large]).unwrap()[2];
        }
        assert!(dropped > 600 && lanes.load.bytes.load(Ordering::Relaxed) <= BYTES / 2, "{dropped}");
        for _ in 0..DATAGRAMS[0] / 2 {
            assert_eq!(put(&sending, &["SIP/2.0 200 OK||", "BYE sip:b@x SIP/2.0||"]), Ok([0; LANES]));
        }
        assert_eq!(put(&sending, &["SIP/2.0 200 OK||"]), Ok([1, 0, 0, 0]), "bounded, too");
        assert_eq!(put(&sending, &["INVITE sip:b@x SIP/2.0||"]), Ok([0; LANES]));
        while lanes.take(Lane::Rest, Instant::now()).is_some() {}
        assert_eq!(put(&sending, &[&large]), Ok([0; LANES]));
        drop(lanes);
        assert_eq!(put(&sending, &[&large]), Err(Ended));
    }

    #[test]
    fn calls_that_can_still_be_in_time_do_not_stand_behind_those_that_cannot() {
        let (sending, mut lanes) = lanes();
        for number in 1..=5 {
            let call = format!("INVITE sip:{number} SIP/2.0||");
            put(&sending, &[&call]).unwrap();
        }
        let mut next = |now| lanes.take(Lane::Calls, now).map(|(_, batch)| batch[0].1[11] - b'0');
        let now = Instant::now();
        assert_eq!(next(now), Some(1), "in their order");
        let later = now + STANDING * 2;
        assert_eq!([(); 5].map(|()| next(later)), [Some(5), Some(2), Some(4), Some(3), None]);
        assert_eq!(lanes.load.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_acknowledgement_of_a_refusal_goes_no_further() {
        let invite = datagram(
            "INVITE sip:b@x SIP/2.0|Via: SIP/2.0/UDP a;branch=z9hG4bK1|From: <sip:a@x>;tag=1|To: <sip:b@x>|Call-ID: 1|CSeq: 1 INVITE||",
        );
        let (_, refusal) = pairline_sip::glance::refusal(&invite.1, invite.0, 500, "Busy", b"").unwrap();
        let refusal = String::from_utf8_lossy(&refusal).into_owned();
        let to = refusal.lines().find(|line| line.starts_with("To: ")).unwrap();
        let ack = |to: &str, branch: &str| {
            let text = format!(
                "ACK sip:b@x SIP/2.0|Via: SIP/2.0/UDP a;branch={branch}|From: <sip:a@x>;tag=1|{to}|Call-ID: 1|CSeq: 1 ACK||"
            );
            lanes().0.place(&datagram(&text).1, &[], || false)
        };
        assert_eq!(ack(to, "z9hG4bK1"), Place::Nowhere);
        assert_eq!(ack(to, "z9hG4bK2"), Place::In(Lane::Ongoing), "of one that another server made");
        assert_eq!(ack("To: <sip:b@x>;tag=1", "z9hG4bK1"), Place::In(Lane::Ongoing));
    }

    #[test]
    fn what_repeats_what_was_let_fall_comes_last_if_it_may_fall_at_all() {
        let (sending, mut lanes) = lanes();
        let place = |text: &str| sending.place(&datagram(text).1, &[], || true);
        for text in ["MESSAGE sip:b@x SIP/2.0|To: <sip:b@x>||", "REGISTER sip:x SIP/2.0|To: <sip:b@x>||"] {
            assert_eq!(place(text), Place::In(Lane::Again), "{text}");
        }
        assert_eq!(place("INVITE sip:b@x SIP/2.0|To: <sip:b@x>||"), Place::In(Lane::Calls));
        assert_eq!(place("BYE sip:b@x SIP/2.0|To: <sip:b@x>;tag=1||"), Place::In(Lane::Ongoing));
        let many = vec![datagram("MESSAGE sip:b@x SIP/2.0||"); FEW * 2 + 1];
        let mut sorted = Sorted::default();
        sorted[Lane::Again as usize] = many;
        assert!(sending.put(sorted).unwrap().iter().all(Vec::is_empty));
        let mut next = || lanes.take(Lane::Again, Instant::now()).map(|(_, batch)| batch.len());
        assert_eq!([next(), next(), next(), next()], [Some(FEW), Some(FEW), Some(1), None], "a few at once");
        let mut shares = [WHOLE; Class::ALL.len()];
        shares[Class::Again as usize] = 0;
        lanes.set_shares(&shares);
        assert_eq!(place("MESSAGE sip:b@x SIP/2.0|To: <sip:b@x>||"), Place::Out);
        assert!(lanes.oldest(Lane::Again).is_none());
    }

    #[test]
    fn what_the_node_has_no_time_to_refuse_is_let_fall() {
        let (sending, lanes) = lanes();
        let mut shares = [WHOLE; Class::ALL.len()];
        shares[Class::Message as usize] = WHOLE / 2;
        lanes.set_shares(&shares);
        let message = datagram("MESSAGE sip:b@x SIP/2.0|To: <sip:b@x>||").1;
        assert_eq!((0..100).filter(|_| sending.place(&message, &[], || false) == Place::Out).count(), 50);
        for text in ["SIP/2.0 200 OK||", "BYE sip:b@x SIP/2.0|To: <sip:b@x>;tag=1||", "INVITE sip:b@x SIP/2.0||"] {
            assert!((0..100).all(|_| sending.place(&datagram(text).1, &[], || false) != Place::Out), "{text}");
        }
    }
}
