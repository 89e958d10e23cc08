//! How much is admitted: a bucket of tokens whose rate follows what this server has been seen to do, and whose last tokens are
//! kept for the higher classes.
//!
//! Owns the measurement, in windows of [`WINDOW_MS`], and the decision for one request. Time comes in; the signal of overload is
//! how long the oldest of what is taken at one time had waited (as CoDel's, a standing queue counts, not a burst): while that
//! stays above the policy's target, the rate is brought down to nine tenths of what was done meanwhile; while it is far below, the
//! rate rises again. Does not own what a request is (`class`) nor how it is refused (`super`).

use super::class::Class;
use super::sieve::{Shares, Sieve};
use pairline_group::Millis;
use pairline_topology::policy_overload::OverloadPolicy;

/// One measurement.
pub const WINDOW_MS: Millis = 100;
const WINDOW: i64 = WINDOW_MS as i64;
/// Windows with a standing queue until overload is declared: one may be a single long turn. And so many times the target, at which one
/// is enough.
const BEGIN: (u32, Millis) = (2, 3);
/// For so many times the target a queue may stand that does not go down.
const STANDING: Millis = 3;
/// A queue that goes down is no overload for so long, in milliseconds: something stood still (a disk, another program), and what came meanwhile is
/// being done.
const GOES_DOWN: Millis = 500;
/// Windows without refusal until it is over.
const END: u32 = 10;
/// Windows after the rate was lowered until it may be lowered again: what was let in before has to be done first.
const PATIENCE: u32 = 3;
/// Windows in which what could be done is forgotten, roughly.
const MEMORY: u64 = 64;
/// Windows without a queue from which on the rate rises faster, and fastest: what is refused then could be done.
const CALM: (u32, u32) = (8, 16);
/// Classes.
const CLASSES: usize = Class::ALL.len();
/// Requests inside dialogs that are taken in a window in any case, and beyond them so many times the rate.
const DIALOGS: (u64, u64) = (100, 4);
/// Most that what is never refused may owe, in bursts: for so long nothing else is taken.
const DEBT: i64 = 4;
/// Classes that have so many per cent of the rate as their own. New calls: however much registers, so many are taken. What repeats what was
/// let fall: else who was let fall once would never be served while too much comes, and a flood of requests that come once, as of somebody
/// who means harm, would keep out all clients that repeat theirs, as clients do.
const OWN: [(Class, i64); 2] = [(Class::Invite, 40), (Class::Again, 10)];
/// A call that waited for so many times the target is refused while there is overload: it would take longer than callers bear, and
/// those that came after it can still be in time.
const LATE: Millis = 2;
/// Seconds of its rate that the emergency bucket holds.
const EMERGENCY_BURST_S: i64 = 2;

/// Whether requests are being refused for want of capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Overload has begun.
    Began {
        /// How long requests had waited, in milliseconds.
        waited: Millis,
        /// Units admitted a second from now on.
        rate: u32,
    },
    /// It is over.
    Ended {
        /// How long it lasted, in milliseconds.
        lasted: Millis,
        /// Requests refused meanwhile.
        refused: u64,
    },
}

/// How long what is taken at one time had waited in the shell's queues, beyond what messages of its kind may wait. In milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waited {
    /// At most; of calls the youngest counts, since those that are late already are only refused while there is overload.
    pub most: Millis,
    /// The oldest call, which counts until overload is declared.
    pub calls: Millis,
    /// What is neither going on nor a call, which may be let fall.
    pub rest: Millis,
}

/// What came in one window.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    /// Units that were offered, by class.
    offered: [u32; CLASSES],
    /// Units that were admitted, by class.
    admitted: [u32; CLASSES],
    /// Units that were admitted of what is some classes' own, as [`OWN`].
    own: [u32; OWN.len()],
    /// Units that were refused.
    refused: u32,
    /// Requests that were admitted, and refused, by class.
    counts: [[u32; CLASSES]; 2],
    /// The shortest of the turns' waits; `None` if nothing came through a queue.
    wait: Option<Millis>,
    /// The wait of the last turn.
    latest: Millis,
    /// The shortest of the turns' waits of what can be let fall.
    rest: Option<Millis>,
}

impl Window {
    fn admitted_in_all(&self) -> u64 {
        self.admitted.iter().map(|units| u64::from(*units)).sum()
    }
}

/// Figures since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Requests admitted, by class.
    pub admitted: [u64; CLASSES],
    /// Requests refused, by class.
    pub refused: [u64; CLASSES],
    /// Times that overload began.
    pub overloads: u64,
}

/// The controller of one server.
#[derive(Clone, Debug)]
pub struct Rate {
    policy: OverloadPolicy,
    /// Units a second.
    rate: u32,
    /// In thousandths of a unit; below zero after what is never refused took more than there was.
    tokens: i64,
    /// Thousandths of an emergency call.
    emergency: i64,
    /// Thousandths of a unit that are some classes' own, as [`OWN`].
    own: [i64; OWN.len()],
    filled_at: Millis,
    window_ends: Millis,
    now: Window,
    last: Window,
    /// A class that was refused in this window: none below it is admitted for the rest of it.
    refused_class: usize,
    /// Since when the queue has stood, and the longest wait in it; and when it was last looked at.
    standing: Option<(Millis, Millis)>,
    looked: Millis,
    /// Windows in a row with a standing queue, and without refusals.
    busy: u32,
    quiet: u32,
    overloaded_since: Option<Millis>,
    refused_before: u64,
    /// Units refused in the last second or so.
    backlog: u64,
    /// Units a second that were admitted while the queue stood, averaged: what this server can do.
    capacity: u64,
    /// The most units a second that were admitted in any window, forgotten slowly: what it could do lately.
    most: u64,
    /// Windows in a row without a queue while there is overload.
    calm: u32,
    window_began: Millis,
    /// Windows until the rate may be lowered again.
    patience: u32,
    /// What neighbours are asked to hold back, in thousandths.
    held_back: u64,
    figures: Figures,
    sieve: Sieve,
}

impl Rate {
    /// For a server that has just started.
    pub fn new(policy: OverloadPolicy) -> Rate {
        let rate = policy.max_rate;
        let mut new = Rate {
            policy,
            rate,
            tokens: 0,
            emergency: 0,
            own: [0; OWN.len()],
            filled_at: 0,
            window_ends: 0,
            now: Window::default(),
            last: Window::default(),
            refused_class: CLASSES,
            standing: None,
            looked: 0,
            busy: 0,
            quiet: 0,
            overloaded_since: None,
            refused_before: 0,
            backlog: 0,
            capacity: 0,
            most: 0,
            calm: 0,
            window_began: 0,
            patience: 0,
            held_back: 0,
            figures: Figures::default(),
            sieve: Sieve::default(),
        };
        new.tokens = new.burst();
        new.emergency = new.emergency_burst();
        new.own = new.own_burst();
        new
    }

    /// Takes another policy over.
    pub fn set_policy(&mut self, policy: OverloadPolicy) {
        if self.overloaded_since.is_none() {
            self.rate = policy.max_rate;
        }
        self.rate = self.rate.clamp(policy.min_rate, policy.max_rate);
        self.policy = policy;
        self.tokens = self.tokens.min(self.burst());
        self.keep_own(self.own_burst());
    }

    /// The policy.
    pub fn policy(&self) -> &OverloadPolicy {
        &self.policy
    }

    /// Most tokens that are kept, in thousandths: those of twice the target delay, since what is admitted at one time makes all else
    /// wait for as long as it takes; and half a second of the least rate.
    fn burst(&self) -> i64 {
        let short = i64::from(self.rate) * i64::from(self.policy.target_delay_ms) * 2;
        short.max(i64::from(self.policy.min_rate) * 500)
    }

    fn own_burst(&self) -> [i64; OWN.len()] {
        OWN.map(|(_, percent)| self.burst() * percent / 100)
    }

    /// Nobody has more of their own than that.
    fn keep_own(&mut self, most: [i64; OWN.len()]) {
        self.own.iter_mut().zip(most).for_each(|(tokens, most)| *tokens = (*tokens).min(most));
    }

    fn emergency_burst(&self) -> i64 {
        i64::from(self.policy.emergency_per_s) * EMERGENCY_BURST_S * 1_000
    }

    /// What is handled from now on had waited for so long. Once for all that is taken at one time.
    pub fn waited(&mut self, now: Millis, waited: Waited) -> Option<Change> {
        let change = self.pass(now);
        let Waited { most, calls, rest } = waited;
        let ms = if self.is_overloaded() { most } else { most.max(calls) };
        self.now.rest = Some(self.now.rest.map_or(rest, |least| least.min(rest)));
        self.now.wait = Some(self.now.wait.map_or(ms, |least| least.min(ms)));
        self.now.latest = ms;
        self.stands(now, ms);
        change.or_else(|| self.begins_at_once(now, ms))
    }

    /// A queue stands whose oldest has waited for longer than the target, and not only since the last look: then it was not emptied in
    /// between.
    fn stands(&mut self, now: Millis, ms: Millis) {
        let since_before = now.saturating_sub(ms) <= std::mem::replace(&mut self.looked, now);
        let (since, longest) = self.standing.filter(|_| since_before).unwrap_or((now, ms));
        self.standing = (ms > Millis::from(self.policy.target_delay_ms)).then(|| (since, longest.max(ms)));
    }

    /// Whether the queue that stands goes down, by the wait in it now.
    fn goes_down(&self, now: Millis, ms: Millis) -> bool {
        let (since, longest) = self.standing.unwrap_or((now, 0));
        ms * 8 < longest * 7 && now.saturating_sub(since) < GOES_DOWN
    }

    /// Overload that is plain before its window is over: a load that jumps to a multiple of what can be done makes all wait for longer than
    /// callers bear in less than a window.
    fn begins_at_once(&mut self, now: Millis, waited: Millis) -> Option<Change> {
        let stood = now.saturating_sub(self.standing?.0);
        let may = Millis::from(self.policy.target_delay_ms) * STANDING;
        if self.is_overloaded() || !self.policy.enabled || stood < may || self.goes_down(now, waited) {
            return None;
        }
        let change = self.close(now);
        self.window_ends = now + WINDOW_MS;
        Some(change.unwrap_or_else(|| self.begin(now, waited)))
    }

    /// Time passes.
    pub fn pass(&mut self, now: Millis) -> Option<Change> {
        if now > self.filled_at {
            let ms = i64::try_from(now - self.filled_at).unwrap_or(i64::MAX).min(60_000);
            self.filled_at = now;
            self.tokens = (self.tokens + i64::from(self.rate) * ms).min(self.burst());
            let emergency = self.emergency + i64::from(self.policy.emergency_per_s) * ms;
            self.emergency = emergency.min(self.emergency_burst());
            let rate = i64::from(self.rate);
            self.own.iter_mut().zip(OWN).for_each(|(tokens, (_, percent))| *tokens += rate * ms * percent / 100);
            self.keep_own(self.own_burst());
        }
        if now < self.window_ends {
            return None;
        }
        let long = now.saturating_sub(self.window_ends) / WINDOW_MS;
        let mut change = self.close(now);
        // Windows in which nothing was asked of the server are quiet ones.
        for _ in 0..long.min(u64::from(END)) {
            change = self.close(now).or(change);
        }
        self.window_ends = now + WINDOW_MS;
        change
    }

    /// Ends a window: draws the conclusions.
    fn close(&mut self, now: Millis) -> Option<Change> {
        let before = std::mem::replace(&mut self.last, std::mem::take(&mut self.now));
        self.refused_class = CLASSES;
        let units = |class: Class| {
            self.sieve.scaled(class as usize, self.last.counts[1][class as usize]) * u64::from(class.weight())
        };
        let scaled: u64 = Class::ALL.into_iter().map(units).sum();
        self.backlog = self.backlog - self.backlog / 10 + scaled.max(u64::from(self.last.refused));
        let [admitted, refused] = &self.last.counts;
        let rate = u64::from(self.rate) * WINDOW_MS / 1_000;
        let stands = self.last.rest.unwrap_or(0) > Millis::from(self.policy.target_delay_ms);
        let rate = u32::try_from(rate).unwrap_or(u32::MAX);
        self.sieve.close((self.is_overloaded(), stands), rate, admitted, refused);
        let wait = self.last.wait.unwrap_or(0);
        let target = Millis::from(self.policy.target_delay_ms);
        self.busy = if wait > target { self.busy + 1 } else { 0 };
        self.measure(now, wait * 2 > target);
        self.ask_to_hold_back();
        let Some(since) = self.overloaded_since else {
            let begins = (self.busy >= BEGIN.0 || wait > target * BEGIN.1) && !self.goes_down(now, self.last.latest);
            return (begins && self.policy.enabled).then(|| self.begin(now, wait));
        };
        self.patience = self.patience.saturating_sub(1);
        let latest = self.last.latest;
        self.calm = if wait * 2 > target { 0 } else { self.calm + 1 };
        if latest > target {
            // A queue that is going down already only needs time.
            if latest >= before.latest && self.patience == 0 {
                self.slower();
            }
        } else if latest * 2 <= target {
            self.faster();
        }
        self.rate = self.rate.clamp(self.policy.min_rate, self.policy.max_rate);
        self.quiet = if self.last.refused == 0 && self.busy == 0 { self.quiet + 1 } else { 0 };
        if self.quiet < END {
            return None;
        }
        self.overloaded_since = None;
        self.rate = self.policy.max_rate;
        self.backlog = 0;
        let refused = self.refused_in_all() - self.refused_before;
        Some(Change::Ended { lasted: now.saturating_sub(since), refused })
    }

    fn begin(&mut self, now: Millis, waited: Millis) -> Change {
        self.overloaded_since = Some(now);
        // What stood still for a moment (a disk, another program) is no slower for that: it begins with what it could do before.
        self.capacity = self.capacity.max(self.most);
        self.calm = 0;
        self.figures.overloads += 1;
        self.refused_before = self.refused_in_all();
        self.quiet = 0;
        self.slower();
        self.rate = self.rate.clamp(self.policy.min_rate, self.policy.max_rate);
        // What waits already is more than enough.
        self.tokens = self.tokens.min(0);
        self.keep_own([0; OWN.len()]);
        Change::Began { waited, rate: self.rate }
    }

    /// What was done in the window that has ended, if there was always something to do.
    fn measure(&mut self, now: Millis, standing: bool) {
        let ms = now.saturating_sub(self.window_began).max(1);
        self.window_began = now;
        // What is let in at once in a window that ended early is no rate.
        let done = self.last.admitted_in_all() * 1_000 / ms.max(WINDOW_MS / 2);
        self.most = done.max(self.most - self.most / MEMORY);
        if standing {
            self.capacity = if self.capacity == 0 { done } else { (self.capacity * 3 + done) / 4 };
        }
    }

    /// Nine tenths of what is admitted now, or of what can be done; not below seven tenths of that.
    fn slower(&mut self) {
        // What was admitted while much was refused says little of what can be done.
        let capacity = self.capacity.max(self.most * 3 / 4);
        let base = u64::from(self.rate).min(capacity) * 9 / 10;
        self.rate = u32::try_from(base.max(capacity * 7 / 10)).unwrap_or(self.rate);
        self.patience = PATIENCE;
    }

    /// More: an eighth while that is well below what could be done lately, a little below it, and ever so little beyond, at first.
    fn faster(&mut self) {
        let part = match (u64::from(self.rate) * 100 / self.capacity.max(1), self.calm) {
            (0..90, _) => 8,
            (_, calm) if calm >= CALM.1 => 12,
            (90..100, _) => 33,
            (_, calm) if calm >= CALM.0 => 33,
            _ => 66,
        };
        self.rate = self.rate.saturating_add(self.rate / part + 1);
    }

    fn refused_in_all(&self) -> u64 {
        self.figures.refused.iter().sum()
    }

    /// Whether a request is admitted; time must have [passed](Self::pass). `full` says that there is no room for it whatever its
    /// rate, `known` whether it only repeats what was admitted before, which is asked of what would be refused.
    pub fn offer(&mut self, class: Class, full: bool, known: impl FnOnce() -> bool) -> bool {
        let admitted = !full && self.weigh(class);
        if !admitted && known() {
            return true;
        }
        let (units, index) = (class.weight(), class as usize);
        if admitted {
            self.tokens = (self.tokens - i64::from(units) * 1_000).max(-self.burst() * DEBT);
            self.now.admitted[index] = self.now.admitted[index].saturating_add(units);
            self.figures.admitted[index] += 1;
            self.now.counts[0][index] += 1;
        } else {
            self.now.refused = self.now.refused.saturating_add(units);
            self.figures.refused[index] += 1;
            self.now.counts[1][index] += 1;
            self.refused_class = self.refused_class.min(index);
        }
        admitted
    }

    fn weigh(&mut self, class: Class) -> bool {
        let (units, index) = (class.weight(), class as usize);
        self.now.offered[index] = self.now.offered[index].saturating_add(units);
        match class {
            Class::Emergency => {
                let within = self.emergency >= 1_000;
                self.emergency -= if within { 1_000 } else { 0 };
                within || self.tokens > 0
            }
            Class::InDialog => {
                let most = DIALOGS.0 + u64::from(self.rate) * DIALOGS.1 * WINDOW_MS / 1_000;
                u64::from(self.now.admitted[index]) < most
            }
            _ if self.takes_own(class) => true,
            _ => index <= self.refused_class && self.tokens >= self.floor(index) + i64::from(units) * 1_000,
        }
    }

    /// Takes a request's units of what is its class's own, if there is as much.
    fn takes_own(&mut self, class: Class) -> bool {
        let Some(at) = OWN.iter().position(|(own, _)| *own == class) else { return false };
        let units = class.weight();
        let takes = self.own[at] >= i64::from(units) * 1_000;
        if takes {
            self.own[at] -= i64::from(units) * 1_000;
            self.now.own[at] = self.now.own[at].saturating_add(units);
        }
        takes
    }

    /// Whether a call that waited for so long is refused for that alone.
    pub fn is_too_late(&self, waited: Millis) -> bool {
        self.is_overloaded() && waited > Millis::from(self.policy.target_delay_ms) * LATE
    }

    /// Down to how many tokens a class may go: it leaves to those above it what these are expected to bring within the target
    /// delay, and takes back what went lately to those below it, which happened to stand before it in the queue: not what is their own.
    fn floor(&self, index: usize) -> i64 {
        let sum = |units: &[u32]| units.iter().map(|units| i64::from(*units)).sum::<i64>();
        let above = sum(&self.last.offered[..index]).max(sum(&self.now.offered[..index]));
        let expected = above * i64::from(self.policy.target_delay_ms) * 1_000 / WINDOW;
        let mut below = sum(&self.last.admitted[index + 1..]) + sum(&self.now.admitted[index + 1..]);
        for (at, (class, _)) in OWN.into_iter().enumerate() {
            if index < class as usize {
                below -= i64::from(self.last.own[at]) + i64::from(self.now.own[at]);
            }
        }
        expected.min(self.burst() * 9 / 10) - below * 1_000
    }

    /// Seconds after which who is refused may come again, by a random number: spread evenly from half to one and a half times
    /// what this server needs for all that it refused lately.
    pub fn retry_after(&self, random: u64) -> u64 {
        let most = u64::from(self.policy.retry_after_max_s);
        // So that what is most does not cut the spread.
        let base = (1 + self.backlog / u64::from(self.rate.max(1))).clamp(2, (most * 2 / 3).max(2));
        (base.div_ceil(2) + random % (base + 1)).min(most)
    }

    /// How much of each class is to be looked at at all.
    pub fn shares(&self) -> Shares {
        self.sieve.shares()
    }

    /// Whether overload has been declared.
    pub fn is_overloaded(&self) -> bool {
        self.overloaded_since.is_some()
    }

    /// Units admitted a second; the policy's most while there is no overload.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// How long requests waited in the last window that is over, in milliseconds.
    pub fn wait(&self) -> Millis {
        self.last.wait.unwrap_or(0)
    }

    /// What neighbours hold back does not come, so what is refused of the rest is added; it is let go of slowly while nothing has to
    /// be refused.
    fn ask_to_hold_back(&mut self) {
        let all = self.last.admitted_in_all() + u64::from(self.last.refused);
        if self.overloaded_since.is_none() {
            self.held_back /= 2;
        } else if self.last.refused > 0 {
            self.held_back += (1_000 - self.held_back) * u64::from(self.last.refused) / all.max(1);
        } else {
            self.held_back -= self.held_back.div_ceil(20);
        }
    }

    /// The part of what is new that a neighbour is asked to hold back, in per cent (RFC 7339).
    pub fn loss_percent(&self) -> u8 {
        u8::try_from(self.held_back / 10).unwrap_or(100).min(100)
    }

    /// Figures since the start.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }
}
