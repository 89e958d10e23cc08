//! Admission against a model of a server that can do so much and no more: what is refused, what never is, how much is done while
//! ten times too much comes, and how soon everything is taken again.
#![allow(clippy::unwrap_used)]

use pairline_services::admission::rate::WINDOW_MS;
use pairline_services::admission::{Change, Class, Rate, Waited};
use pairline_topology::policy_overload::OverloadPolicy;
use std::collections::VecDeque;

/// Units a second that the model can do, in thousandths a microsecond.
const CAPACITY: u64 = 10_000;
/// Requests taken in one turn.
const TURN: usize = 512;
/// Microseconds that a refusal costs.
const REFUSAL_US: u64 = 2;

/// Requests a second by class, for a time.
#[derive(Clone, Copy)]
struct Offer {
    ms: u64,
    per_s: &'static [(Class, u64)],
    /// All of it times this, in per cent.
    percent: u64,
}

/// What one window saw.
#[derive(Clone, Debug, Default)]
struct Seen {
    admitted: [u64; 8],
    refused: [u64; 8],
    units: u64,
    /// Longest wait of an admitted request, in milliseconds.
    longest: u64,
}

/// A server whose turns take as long as what is admitted in them.
struct Model {
    rate: Rate,
    us: u64,
    /// Until when it has been run, and until when arrivals were drawn.
    until: u64,
    arrived: u64,
    queue: VecDeque<(u64, Class)>,
    windows: Vec<Seen>,
    changes: Vec<(u64, Change)>,
    seed: u64,
}

impl Model {
    fn new(policy: OverloadPolicy, seed: u64) -> Model {
        let (queue, windows, changes) = (VecDeque::new(), Vec::new(), Vec::new());
        Model { rate: Rate::new(policy), us: 0, until: 0, arrived: 0, queue, windows, changes, seed }
    }

    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.seed >> 33
    }

    fn run(&mut self, offers: &[Offer]) {
        for offer in offers {
            self.until += offer.ms * 1_000;
            while self.us < self.until {
                self.arrive(offer);
                self.turn();
            }
        }
    }

    /// What arrives until now, millisecond by millisecond: on average what is offered.
    fn arrive(&mut self, offer: &Offer) {
        while self.arrived + 1_000 <= self.us {
            self.arrived += 1_000;
            let mut came = Vec::new();
            for (class, per_s) in offer.per_s {
                let thousandths = per_s * offer.percent / 100 * 2;
                let draw = self.random() % (thousandths + 1);
                let count = draw / 1_000 + u64::from(self.random() % 1_000 < draw % 1_000);
                came.extend((0..count).map(|_| *class));
            }
            while !came.is_empty() {
                let at = usize::try_from(self.random()).unwrap() % came.len();
                let class: Class = came.swap_remove(at);
                // The rest is let fall before it is looked at.
                if self.random() % 1_024 < u64::from(self.rate.shares()[class as usize]) {
                    self.queue.push_back((self.arrived, class));
                }
            }
        }
    }

    fn turn(&mut self) {
        let (start, ms) = (self.us, self.us / 1_000);
        let oldest = self.queue.front().map(|(came, _)| (start - came) / 1_000);
        let change = match oldest {
            Some(most) => self.rate.waited(ms, Waited { most, ..Waited::default() }),
            None => self.rate.pass(ms),
        };
        self.changes.extend(change.map(|change| (ms, change)));
        let index = usize::try_from(ms / WINDOW_MS).unwrap();
        self.windows.resize(self.windows.len().max(index + 1), Seen::default());
        for _ in 0..self.queue.len().min(TURN) {
            let (came, class) = self.queue.pop_front().unwrap();
            let admitted = self.rate.offer(class, false, || false);
            let seen = &mut self.windows[index];
            if admitted {
                let units = u64::from(class.weight());
                self.us += units * 1_000_000 / CAPACITY;
                seen.units += units;
                seen.admitted[class as usize] += 1;
                seen.longest = seen.longest.max((self.us - came) / 1_000);
            } else {
                self.us += REFUSAL_US;
                seen.refused[class as usize] += 1;
            }
        }
        // Without work the next millisecond is awaited.
        self.us = self.us.max((start / 1_000 + 1) * 1_000);
    }

    fn between(&self, from_ms: u64, to_ms: u64) -> Seen {
        let index = |ms: u64| usize::try_from(ms / WINDOW_MS).unwrap().min(self.windows.len());
        let mut sum = Seen::default();
        for seen in &self.windows[index(from_ms)..index(to_ms)] {
            for class in 0..8 {
                sum.admitted[class] += seen.admitted[class];
                sum.refused[class] += seen.refused[class];
            }
            sum.units += seen.units;
            sum.longest = sum.longest.max(seen.longest);
        }
        sum
    }
}

/// Capacity at 100 per cent: 10,000 units a second.
const MIX: &[(Class, u64)] = &[(Class::Refresh, 4_000), (Class::Invite, 1_000), (Class::Message, 1_000)];

#[test]
fn ten_times_too_much_leaves_goodput_and_short_waits() {
    for (percent, seed) in [100, 150, 200, 500, 1_000].into_iter().zip(1..) {
        let mut model = Model::new(OverloadPolicy::default(), seed);
        model.run(&[Offer { ms: 8_000, per_s: MIX, percent }]);
        let steady = model.between(3_000, 8_000);
        let goodput = steady.units / 5;
        assert!(goodput >= CAPACITY * 85 / 100, "{percent} %: {goodput} units a second");
        assert!(steady.longest < 100, "{percent} %: an admitted request took {} ms", steady.longest);
        assert!(percent == 100 || steady.refused.iter().sum::<u64>() > 0, "{percent} %");
    }
}

#[test]
fn nothing_is_refused_below_capacity_nor_for_a_burst() {
    let mut model = Model::new(OverloadPolicy::default(), 7);
    let calm = Offer { ms: 2_000, per_s: MIX, percent: 80 };
    // As much as is done in 150 ms, in 5.
    let burst = Offer { ms: 5, per_s: MIX, percent: 3_000 };
    model.run(&[calm, burst, calm, burst, calm]);
    assert_eq!(model.between(0, 7_000).refused, [0; 8]);
    assert_eq!(model.changes, []);
}

#[test]
fn everything_is_taken_again_within_two_seconds() {
    for (after, seed) in [50, 70, 90].into_iter().zip(1..) {
        let mut model = Model::new(OverloadPolicy::default(), seed);
        let load = |ms, percent| Offer { ms, per_s: MIX, percent };
        model.run(&[load(2_000, 50), load(6_000, 1_000), load(6_000, after)]);
        assert!(matches!(model.changes[0], (2_000..2_600, Change::Began { .. })), "{:?}", model.changes);
        let recovered = model.between(10_000, 14_000);
        assert_eq!(recovered.refused, [0; 8], "to {after} %: {:?}", model.changes);
        let ended = model.changes.iter().find(|(_, change)| matches!(change, Change::Ended { .. })).unwrap();
        assert!(ended.0 < 8_000 + 3_500, "to {after} %: {ended:?}");
        assert!(model.changes.len() == 2, "{:?}", model.changes);
    }
}

#[test]
fn what_matters_more_is_refused_last() {
    // All but the last of each ask for about half of what can be done.
    let steady: &[&[(Class, u64)]] = &[
        &[(Class::Refresh, 2_000), (Class::Invite, 400), (Class::Message, 400), (Class::Other, 90_000)],
        &[(Class::InDialog, 2_000), (Class::Refresh, 2_000), (Class::Register, 40_000)],
        &[(Class::Emergency, 100), (Class::Invite, 1_000), (Class::Register, 20_000)],
    ];
    for (mix, seed) in steady.iter().zip(1..) {
        let mut model = Model::new(OverloadPolicy::default(), seed);
        model.run(&[Offer { ms: 8_000, per_s: mix, percent: 100 }]);
        let seen = model.between(2_000, 8_000);
        let last = mix.last().unwrap().0 as usize;
        for class in 0..last {
            assert_eq!(seen.refused[class], 0, "{:?} of mix {seed}: {seen:?}", Class::ALL[class]);
        }
        assert!(seen.refused[last] > 0);
    }
}

#[test]
fn nothing_lower_is_admitted_in_a_window_after_something_higher_was_refused() {
    for seed in 1..40 {
        let mut model = Model::new(OverloadPolicy { max_rate: 5_000, ..OverloadPolicy::default() }, seed);
        let mut refused = (0, 8);
        for step in 0..30_000_u64 {
            let ms = 1_000 + step / 10;
            model.rate.pass(ms);
            if refused.0 != ms / WINDOW_MS {
                refused = (ms / WINDOW_MS, 8);
            }
            let class = Class::ALL[2 + usize::try_from(model.random()).unwrap() % 6];
            if model.rate.offer(class, false, || false) {
                // A new call may still have what is calls' own.
                let own = class == Class::Invite;
                assert!(class as usize <= refused.1 || own, "{class:?} at {ms} ms, seed {seed}");
            } else {
                refused.1 = refused.1.min(class as usize);
            }
        }
        let figures = model.rate.figures();
        assert!(figures.refused.iter().sum::<u64>() > 1_000, "the bound is in force without overload, too");
        let share = |class: Class| {
            let (admitted, refused) = (figures.admitted[class as usize], figures.refused[class as usize]);
            admitted * 100 / (admitted + refused).max(1)
        };
        assert!(share(Class::Refresh) > share(Class::Invite) && share(Class::Invite) >= share(Class::Other));
    }
}

#[test]
fn a_moment_of_standstill_is_not_taken_for_a_small_capacity() {
    let mut rate = Rate::new(OverloadPolicy::default());
    let mut turn = |ms, waited, refreshes: u32| {
        let change = rate.waited(ms, Waited { most: waited, ..Waited::default() });
        (0..refreshes).for_each(|_| assert!(change.is_some() || rate.offer(Class::Refresh, false, || false)));
        change
    };
    for ms in (10..2_000).step_by(10) {
        assert_eq!(turn(ms, 0, 100), None);
    }
    let change = (2_000..3_000).step_by(50).find_map(|ms| turn(ms, 150, 50));
    assert!(matches!(change, Some(Change::Began { rate: 8_000..=10_000, .. })), "{change:?}");
}

/// Milliseconds until overload is declared while the oldest call and the rest have waited for so long, from a look to the next.
fn declared(looks: impl Iterator<Item = (u64, Waited)>) -> Option<u64> {
    let mut rate = Rate::new(OverloadPolicy::default());
    looks.into_iter().find_map(|(ms, waited)| {
        (0..50).for_each(|_| assert!(rate.offer(Class::Refresh, false, || false)));
        matches!(rate.waited(ms, waited), Some(Change::Began { .. })).then_some(ms)
    })
}

#[test]
fn a_load_that_jumps_is_overload_before_what_stands_is_late() {
    // From 1 s on more calls come than can be taken: the oldest stands ever longer, the youngest has just come.
    let calls = |ms: u64| Waited { most: 1, calls: ms.saturating_sub(1_000), rest: 0 };
    let at = declared((0..2_000).step_by(5).map(|ms| (ms, calls(ms)))).unwrap();
    assert!((1_080..1_100).contains(&at), "{at}");
    // The same of what is going on.
    let most = |ms: u64| Waited { most: ms.saturating_sub(1_000), ..Waited::default() };
    assert_eq!(declared((0..2_000).step_by(5).map(|ms| (ms, most(ms)))), Some(at));
}

#[test]
fn what_waited_once_and_was_done_soon_is_no_overload() {
    // All waited for a moment's standstill; it is done within 50 ms.
    let pause = |ms: u64| Waited { calls: if (1_000..1_050).contains(&ms) { 200 } else { 2 }, ..Waited::default() };
    assert_eq!(declared((0..3_000).step_by(5).map(|ms| (ms, pause(ms)))), None);
    // What came in 150 ms is done at twice the speed at which it comes: the oldest has waited less from look to look.
    let drains = |ms: u64| Waited { calls: (150 + 500_u64).saturating_sub(ms / 2).min(150), ..Waited::default() };
    assert_eq!(declared((1_000..3_000).step_by(5).map(|ms| (ms, drains(ms)))), None);
    // But a queue that goes down and never is done does count.
    let stays = |ms: u64| Waited { calls: drains(ms).calls.max(40), ..Waited::default() };
    assert!(
        declared((1_000..3_000).step_by(5).map(|ms| (ms, stays(ms)))).is_some_and(|ms| (1_500..1_600).contains(&ms))
    );
    // Long turns, each of which takes all that there is.
    let turns = |ms: u64| (ms, Waited { calls: if ms.is_multiple_of(120) { 29 } else { 15 }, ..Waited::default() });
    assert_eq!(declared((0..3_000).step_by(30).map(turns)), None);
}

#[test]
fn what_repeats_what_was_let_fall_has_what_is_left() {
    let mut rate = Rate::new(OverloadPolicy { max_rate: 1_000, ..OverloadPolicy::default() });
    let (mut fresh, mut again) = (0, 0);
    for ms in (0..2_000).step_by(10) {
        rate.pass(ms);
        // Half of the rate comes for the first time; ten times as much is repeated, and comes after it.
        fresh += (0..5).filter(|_| rate.offer(Class::Refresh, false, || false)).count();
        again += (0..25).filter(|_| rate.offer(Class::Again, false, || false)).count();
    }
    assert_eq!(fresh, 1_000, "all of it");
    assert!((400..750).contains(&again), "two units each, of the thousand that are left, and the first burst: {again}");
}

#[test]
fn a_flood_of_what_comes_once_does_not_keep_out_who_repeats() {
    let mut rate = Rate::new(OverloadPolicy { max_rate: 1_000, ..OverloadPolicy::default() });
    let (mut flood, mut again) = (0, 0);
    for ms in (0..4_000).step_by(10) {
        rate.pass(ms);
        // Ten times the rate, each of it new; and a few who were let fall, after all that.
        flood += (0..100).filter(|_| rate.offer(Class::Refresh, false, || false)).count();
        again += (0..2).filter(|_| rate.offer(Class::Again, false, || false)).count();
    }
    assert!((180..260).contains(&again), "a tenth of the rate, two units each: {again}");
    assert!((3_300..4_100).contains(&flood), "the rest: {flood}");
}

#[test]
fn calls_keep_their_share_when_refreshes_alone_are_too_much() {
    let avalanche: &[(Class, u64)] = &[(Class::Refresh, 30_000), (Class::Invite, 600), (Class::Message, 4_000)];
    let mut model = Model::new(OverloadPolicy::default(), 5);
    model.run(&[Offer { ms: 8_000, per_s: avalanche, percent: 100 }]);
    let seen = model.between(3_000, 8_000);
    let of = |class: Class| (seen.admitted[class as usize], seen.refused[class as usize]);
    let (calls, refused) = of(Class::Invite);
    assert!(refused * 20 < calls, "{seen:?}");
    assert!(of(Class::Refresh).0 > 5 * CAPACITY / 2, "the refreshes have the rest: {seen:?}");
    assert!(seen.units >= 5 * CAPACITY * 85 / 100, "{seen:?}");
}

#[test]
fn a_call_that_is_late_already_is_refused_only_while_there_is_overload() {
    let mut model = Model::new(OverloadPolicy::default(), 5);
    assert!(!model.rate.is_too_late(10_000));
    model.run(&[Offer { ms: 3_000, per_s: MIX, percent: 300 }]);
    assert!(model.rate.is_overloaded());
    assert_eq!([40, 41].map(|ms| model.rate.is_too_late(ms)), [false, true]);
}

#[test]
fn emergency_calls_and_dialogs_are_bounded_too() {
    let policy = OverloadPolicy { max_rate: 100, min_rate: 100, emergency_per_s: 10, ..OverloadPolicy::default() };
    let mut rate = Rate::new(policy);
    rate.pass(10);
    let admitted = |rate: &mut Rate, class| (0..10_000).filter(|_| rate.offer(class, false, || false)).count();
    assert_eq!(admitted(&mut rate, Class::Other), 50, "half a second of the least rate");
    let dialogs = admitted(&mut rate, Class::InDialog);
    assert_eq!(dialogs, 100 + 4 * 100 / 10, "a hundred a window, and four times the rate");
    assert_eq!(admitted(&mut rate, Class::Emergency), 20, "two seconds of theirs, even so");
    assert!(rate.offer(Class::Other, false, || true), "a repetition is not refused");
    assert!(!rate.offer(Class::Refresh, true, || false), "no room");
}

#[test]
fn who_is_refused_comes_back_at_different_times() {
    let mut model = Model::new(OverloadPolicy::default(), 3);
    model.run(&[Offer { ms: 3_000, per_s: MIX, percent: 500 }]);
    let mut counts = [0_u32; 64];
    for n in 0..1_000_u64 {
        let seconds = model.rate.retry_after(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20);
        counts[usize::try_from(seconds).unwrap()] += 1;
    }
    let spread: Vec<usize> = (0..64).filter(|s| counts[*s] > 0).collect();
    assert!(spread.len() >= 4 && spread[0] >= 1 && *spread.last().unwrap() <= 30, "{spread:?}");
    assert!(counts.iter().all(|count| *count < 400), "{counts:?}");
}

#[test]
fn switched_off_it_refuses_nothing() {
    let mut model = Model::new(OverloadPolicy { enabled: false, ..OverloadPolicy::default() }, 3);
    model.run(&[Offer { ms: 3_000, per_s: MIX, percent: 150 }]);
    assert_eq!(model.between(0, 10_000).refused, [0; 8]);
}
