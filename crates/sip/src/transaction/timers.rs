//! The timers of RFC 3261 table 4 and RFC 6026, their values, and the queue in which they wait. Two have no place here: J, since what is
//! kept of answered requests ends by itself (`kept`), and K, which is zero (`client`).

use std::collections::{BTreeMap, VecDeque};

use crate::Millis;

/// Timer values in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Round-trip estimate; first retransmission interval.
    pub t1: Millis,
    /// Longest retransmission interval of non-INVITE requests and INVITE responses.
    pub t2: Millis,
    /// Longest time that a message stays in the network.
    pub t4: Millis,
    /// How long a proxied INVITE may ring after each provisional response (above 3 minutes).
    pub timer_c: Millis,
    /// How long an INVITE client over UDP absorbs final responses (at least 32 s).
    pub timer_d: Millis,
    /// After which silence of the transaction user an INVITE is answered 100.
    pub trying: Millis,
    /// How long a ringing INVITE outlives the link to the other pool.
    pub interrupted: Millis,
}

impl Default for Timers {
    fn default() -> Timers {
        Timers { t1: 500, t2: 4_000, t4: 5_000, timer_c: 185_000, timer_d: 32_000, trying: 200, interrupted: 5_000 }
    }
}

impl Timers {
    /// 64 × T1: timers B, F, H, J, L and M.
    pub fn patience(&self) -> Millis {
        self.t1.saturating_mul(64)
    }
}

/// A timer, by its letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// INVITE client: request retransmission.
    A,
    /// INVITE client: no response at all.
    B,
    /// Proxy: no final response after a provisional one.
    C,
    /// INVITE client: absorb repeated non-2xx responses.
    D,
    /// Client: request retransmission.
    E,
    /// Client: no final response.
    F,
    /// INVITE server: response retransmission.
    G,
    /// INVITE server: no ACK.
    H,
    /// INVITE server: absorb repeated ACKs.
    I,
    /// INVITE server after 2xx: absorb repeated INVITEs (RFC 6026).
    L,
    /// INVITE client after 2xx: pass further 2xx (RFC 6026).
    M,
    /// INVITE server: 100 is due.
    Trying,
    /// INVITE client: no final response after CANCEL (RFC 3261 §9.1).
    Cancelled,
    /// INVITE client: the link to the other pool did not come back.
    Interrupted,
    /// Server: the transaction user never answered, and the client has given up long ago.
    Abandoned,
}

/// A transaction has two timers at most: one for sending again, one for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Retransmission, or the 100.
    Resend,
    /// The end of a state.
    Life,
}

impl Timer {
    /// Which of the two places the timer takes.
    pub fn place(self) -> Place {
        match self {
            Timer::A | Timer::E | Timer::G | Timer::Trying => Place::Resend,
            _ => Place::Life,
        }
    }

    /// The delay of all timers but A, E and G, whose intervals grow.
    pub(super) fn fixed_delay(self, timers: &Timers) -> Millis {
        match self {
            Timer::A | Timer::E | Timer::G => timers.t1,
            Timer::C => timers.timer_c,
            Timer::D => timers.timer_d,
            Timer::I => timers.t4,
            Timer::Trying => timers.trying,
            Timer::Interrupted => timers.interrupted,
            Timer::B | Timer::F | Timer::H | Timer::L | Timer::M | Timer::Cancelled | Timer::Abandoned => {
                timers.patience()
            }
        }
    }

    /// The interval after `last` of a retransmission timer; `settled` once a provisional response
    /// was seen.
    pub(super) fn next_interval(self, last: Millis, settled: bool, timers: &Timers) -> Millis {
        let doubled = last.saturating_mul(2);
        match self {
            Timer::E if settled => timers.t2,
            Timer::E | Timer::G => doubled.min(timers.t2),
            _ => doubled,
        }
    }
}

/// One waiting timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) when: Millis,
    pub(super) server: bool,
    pub(super) id: u64,
    pub(super) timer: Timer,
}

/// The timers of one transaction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Armed {
    resend: Option<Due>,
    life: Option<Due>,
    /// The interval of the growing timer.
    pub(super) interval: Millis,
}

impl Armed {
    /// Whether this timer is the one that may end the transaction's state.
    pub(super) fn awaits(&self, timer: Timer) -> bool {
        self.life.is_some_and(|due| due.timer == timer)
    }

    /// Whether this is one of them, and was not stopped.
    pub(super) fn holds(&self, due: &Due) -> bool {
        [self.resend, self.life].contains(&Some(*due))
    }

    fn place(&mut self, timer: Timer) -> &mut Option<Due> {
        match timer.place() {
            Place::Resend => &mut self.resend,
            Place::Life => &mut self.life,
        }
    }
}

/// The timers of one millisecond, in the order in which they were started; those that were stopped meanwhile among them.
#[derive(Debug, Default)]
struct Slot {
    dues: VecDeque<Due>,
    /// How many of them were not stopped.
    live: usize,
}

/// All waiting timers, first first; ties in the order of their start, so that a run can be repeated. By the millisecond: under load a
/// million of them wait, nearly all of which are stopped or replaced, and a set of each would be searched eight times for each request.
/// Stopped is what its transaction does not name any more; it is read over in its time, or swept out where there is more of it than of
/// the others: a peer decides how fast transactions come and go, and not how much is kept of them.
#[derive(Debug, Default)]
pub(super) struct Queue {
    slots: BTreeMap<Millis, Slot>,
    live: usize,
    /// All that stand in the slots.
    kept: usize,
    /// The room of a slot that went, for the next one.
    spare: VecDeque<Due>,
}

/// So many stopped timers are never worth a sweep.
const LITTER: usize = 1024;

impl Queue {
    pub(super) fn start(&mut self, armed: &mut Armed, due: Due) {
        let old = armed.place(due.timer).replace(due);
        if let Some(old) = old {
            self.stopped(&old);
        }
        let spare = &mut self.spare;
        let slot = self.slots.entry(due.when).or_insert_with(|| Slot { dues: std::mem::take(spare), live: 0 });
        slot.dues.push_back(due);
        slot.live += 1;
        self.live += 1;
        self.kept += 1;
    }

    /// Whether more was stopped than waits, and much.
    pub(super) fn is_littered(&self) -> bool {
        self.kept > 2 * self.live + LITTER
    }

    /// Drops what was stopped: all but what `waits` says still does.
    pub(super) fn sweep(&mut self, waits: impl Fn(&Due) -> bool) {
        self.slots.values_mut().for_each(|slot| slot.dues.retain(&waits));
        self.kept = self.slots.values().map(|slot| slot.dues.len()).sum();
    }

    pub(super) fn stop_resend(&mut self, armed: &mut Armed) {
        if let Some(old) = armed.resend.take() {
            self.stopped(&old);
        }
    }

    pub(super) fn stop_all(&mut self, armed: &mut Armed) {
        self.stop_resend(armed);
        if let Some(old) = armed.life.take() {
            self.stopped(&old);
        }
    }

    /// A timer that waited here does not any more. With the last one of a millisecond all of that goes.
    fn stopped(&mut self, old: &Due) {
        let Some(slot) = self.slots.get_mut(&old.when) else { return };
        slot.live = slot.live.saturating_sub(1);
        self.live = self.live.saturating_sub(1);
        if slot.live == 0 {
            self.kept -= slot.dues.len();
            if let Some(Slot { mut dues, .. }) = self.slots.remove(&old.when) {
                dues.clear();
                self.spare = dues;
            }
        }
    }

    /// Whether what came out of the queue has not been stopped; the transaction is told then that it fired.
    pub(super) fn fires(&mut self, armed: &mut Armed, due: Due) -> bool {
        let place = armed.place(due.timer);
        let fires = *place == Some(due);
        if fires {
            *place = None;
            self.stopped(&due);
        }
        fires
    }

    pub(super) fn len(&self) -> usize {
        self.live
    }

    pub(super) fn next(&self) -> Option<Millis> {
        self.slots.keys().next().copied()
    }

    /// Takes out the next of what is due, stopped or not.
    pub(super) fn pop_due(&mut self, now: Millis) -> Option<Due> {
        loop {
            let mut first = self.slots.first_entry()?;
            if *first.key() > now {
                return None;
            }
            match first.get_mut().dues.pop_front() {
                Some(due) => {
                    self.kept -= 1;
                    return Some(due);
                }
                None => first.remove(),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Armed, Due, Queue, Timer};
    use crate::Millis;

    fn due(when: Millis, id: u64, timer: Timer) -> Due {
        Due { when, server: false, id, timer }
    }

    /// What fires until then, of transactions whose timers are these.
    fn fired(queue: &mut Queue, armed: &mut [Armed], now: Millis) -> Vec<(u64, Timer)> {
        let mut all = Vec::new();
        while let Some(due) = queue.pop_due(now) {
            let at = usize::try_from(due.id).unwrap();
            if queue.fires(&mut armed[at], due) {
                all.push((due.id, due.timer));
            }
        }
        all
    }

    #[test]
    fn what_is_stopped_or_replaced_does_not_fire_and_the_rest_fires_once_in_its_order() {
        let (mut queue, mut armed) = (Queue::default(), [Armed::default(); 3]);
        for (id, timer) in [(2, Timer::F), (0, Timer::F), (1, Timer::F), (2, Timer::E), (1, Timer::E)] {
            queue.start(&mut armed[usize::try_from(id).unwrap()], due(10, id, timer));
        }
        queue.start(&mut armed[0], due(7, 0, Timer::M));
        queue.stop_resend(&mut armed[2]);
        assert_eq!((queue.len(), queue.next()), (4, Some(7)));
        assert_eq!(fired(&mut queue, &mut armed, 6), []);
        assert_eq!(fired(&mut queue, &mut armed, 10), [(0, Timer::M), (2, Timer::F), (1, Timer::F), (1, Timer::E)]);
        assert_eq!((queue.len(), queue.next()), (0, None), "nothing is left of what was stopped");
    }

    #[test]
    fn a_millisecond_whose_timers_were_all_stopped_wakes_nobody() {
        let (mut queue, mut armed) = (Queue::default(), [Armed::default(); 1]);
        queue.start(&mut armed[0], due(5, 0, Timer::A));
        queue.start(&mut armed[0], due(5, 0, Timer::B));
        queue.stop_all(&mut armed[0]);
        assert_eq!((queue.len(), queue.next()), (0, None));
        // Stopped and started again in the same millisecond: once.
        for _ in 0..3 {
            queue.start(&mut armed[0], due(9, 0, Timer::A));
        }
        assert_eq!(fired(&mut queue, &mut armed, 9), [(0, Timer::A)]);
        assert_eq!((queue.len(), queue.next()), (0, None));
    }

    #[test]
    fn what_was_stopped_does_not_pile_up() {
        let (mut queue, mut armed) = (Queue::default(), [Armed::default(); 2]);
        queue.start(&mut armed[1], due(32_000, 1, Timer::F));
        for _ in 0..10_000 {
            // One waits on in each millisecond, so that none of them goes by itself.
            queue.start(&mut armed[0], due(32_000, 0, Timer::F));
            queue.stop_all(&mut armed[0]);
            if queue.is_littered() {
                queue.sweep(|due| armed[usize::try_from(due.id).unwrap()].holds(due));
            }
            assert!(queue.kept <= 2 * queue.live + super::LITTER);
        }
        assert_eq!(fired(&mut queue, &mut armed, 32_000), [(1, Timer::F)]);
        assert_eq!((queue.len(), queue.kept), (0, 0));
    }

    #[test]
    fn every_field_of_the_queue_is_counted_down_again() {
        let (mut queue, mut armed) = (Queue::default(), [Armed::default(); 1]);
        for when in 1..100 {
            queue.start(&mut armed[0], due(when, 0, Timer::F));
            queue.start(&mut armed[0], due(when + 50, 0, Timer::E));
        }
        queue.stop_all(&mut armed[0]);
        assert_eq!((queue.live, queue.kept, queue.slots.len()), (0, 0, 0));
    }
}
