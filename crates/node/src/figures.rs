//! What a node measures of itself beyond counters: how long commits take, how many bindings there are, and what is under way.
//!
//! Owns those figures. Does not own how they are shown (`admin::status`, the server's `/metrics`).

use crate::core::Core;
use pairline_group::io::Role;
use pairline_group::{Effect, GroupId, Millis};
use pairline_services::binding::Binding;
use pairline_services::cx::Reach;
use pairline_services::records;

/// Upper bounds of the buckets of commit latency, in milliseconds; whatever is longer counts in the sum of all only.
pub const LATENCY_BOUNDS_MS: [Millis; 12] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000];

/// Commit latencies since the start: a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// Sum in milliseconds.
    pub sum_ms: u64,
    /// How many.
    pub count: u64,
    buckets: [u64; LATENCY_BOUNDS_MS.len()],
}

impl Latencies {
    /// Notes one.
    pub fn note(&mut self, millis: Millis) {
        self.sum_ms = self.sum_ms.saturating_add(millis);
        self.count += 1;
        if let Some(at) = LATENCY_BOUNDS_MS.iter().position(|bound| millis <= *bound) {
            self.buckets[at] += 1;
        }
    }

    /// Each bound in milliseconds with the number of commits that took at most so long.
    pub fn cumulative(&self) -> impl Iterator<Item = (Millis, u64)> + '_ {
        let running = self.buckets.iter().scan(0_u64, |sum, bucket| {
            *sum += bucket;
            Some(*sum)
        });
        LATENCY_BOUNDS_MS.into_iter().zip(running)
    }
}

/// What is under way: all of it is as before a while after nothing more has come. What does not, is a leak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnderWay {
    /// Tasks that answer a request.
    pub requests: u64,
    /// All other tasks: commands, and what runs by itself.
    pub others: u64,
    /// Transactions that are answered in one step, until they are.
    pub brief: u64,
    /// Answered transactions, of which is kept how a repetition is answered.
    pub kept: u64,
    /// Bytes that server transactions keep, those that are answered among them.
    pub kept_bytes: u64,
    /// Timers of transactions.
    pub transaction_timers: u64,
    /// Timers of tasks' waits, and tasks' deadlines.
    pub task_timers: u64,
    /// Answers of the shell and of other pools that tasks wait for.
    pub waits: u64,
    /// Requests that were decided in one step and whose change is on its way to the disk.
    pub pending: u64,
    /// Nonces whose uses are remembered.
    pub nonces: u64,
}

impl UnderWay {
    /// What is under way now.
    pub fn of(core: &Core) -> UnderWay {
        // Counts of memory that is there are far below 2^64.
        let number = |count: usize| count as u64;
        UnderWay {
            requests: number(core.server_txs.len()),
            others: number(core.live.saturating_sub(core.server_txs.len())),
            brief: number(core.layer.brief_len()),
            kept: number(core.layer.kept_len()),
            kept_bytes: number(core.layer.held_bytes()),
            transaction_timers: number(core.layer.timer_len()),
            task_timers: number(core.timers.len() + core.deadlines.len()),
            waits: number(core.waits.len() + core.forwarded.len()),
            pending: number(core.quicks.len()),
            nonces: number(core.nonces.len()),
        }
    }
}

/// Bindings in the groups that this server serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    /// Of users who are served here.
    pub home: u64,
    /// Of guests: users of the partner while it cannot be reached.
    pub guest: u64,
    /// Of both, those whose flow is gone: a record without a phone behind it.
    pub stranded: u64,
}

/// Between two steps of the walk, in milliseconds.
const STEP_MS: Millis = 20;

/// Records that one step looks at, to the end of an owner's.
const STEP_RECORDS: usize = 2_000;

/// Between the end of one walk and the start of the next, in milliseconds.
const REST_MS: Millis = 1_000;
/// And so many times as long as the walk took, if that is more: who has many users has more to do than to count them.
const REST_TIMES: Millis = 4;

/// Counts bindings by walking through the records again and again, a little at a time, since nothing else knows when one
/// expired and no scrape may hold the node up. A walk takes one second for each 100,000 records.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// Result of the last complete walk; `None` before the first is complete.
    pub last: Option<Bindings>,
    counting: Bindings,
    /// Bindings that were made, less those that were removed, since the last complete walk began, and since this one did.
    made: [u64; 2],
    /// Groups still to be walked, and the owner in the last of them from whom to go on.
    left: Vec<GroupId>,
    /// Users to whom there are subscriptions, found by this step.
    subscribed: Vec<String>,
    from: String,
    due: Millis,
    /// When the present walk began.
    began: Millis,
}

impl Census {
    /// Bindings that the groups served here hold at most: those of the last walk and what was made since it began. Expired ones
    /// count until the next walk.
    pub fn at_most(&self) -> u64 {
        let walked = self.last.unwrap_or(self.counting);
        walked.home.saturating_add(walked.guest).saturating_add(self.made[0])
    }
}

/// A binding of a group was written or removed here.
pub fn binding_changed(core: &mut Core, group: GroupId, effect: &Effect) {
    let change: fn(u64) -> u64 = match effect {
        Effect::Put { based_on: None, .. } => |made| made + 1,
        Effect::Put { .. } => return,
        Effect::Delete { .. } => |made| made.saturating_sub(1),
    };
    if core.host.role(group) == Some(Role::Active) {
        core.census.made = core.census.made.map(change);
    }
}

/// Takes a step if one is due.
pub fn tick(core: &mut Core) {
    let now = core.now.mono;
    if now < core.census.due {
        return;
    }
    let mut census = std::mem::take(&mut core.census);
    census.due = now + STEP_MS;
    if census.left.is_empty() {
        census.left = core.host.groups().into_iter().filter(|g| core.host.role(*g) == Some(Role::Active)).collect();
        census.counting = local_guests(core);
        census.made[1] = 0;
        census.began = now;
    }
    step(core, &mut census);
    for user in census.subscribed.drain(..) {
        crate::subscribers::found(core, &user);
    }
    if census.left.is_empty() {
        census.last = Some(census.counting);
        census.made[0] = census.made[1];
        census.due = now + REST_MS.max((now - census.began).saturating_mul(REST_TIMES));
    }
    core.census = census;
}

/// A group has another leader, or another standing: whose subscriptions are to be seen to from here is found by a walk, and soon.
pub fn role_changed(core: &mut Core) {
    let soon = core.now.mono + REST_MS;
    core.census.due = core.census.due.min(soon);
}

fn step(core: &Core, census: &mut Census) {
    let mut looked = 0;
    while let Some(group) = census.left.last().copied() {
        let mut stopped = None;
        let start = census.from.clone();
        for (key, record) in core.host.scan_from(group, &start) {
            if looked >= STEP_RECORDS && *key.owner != *census.from {
                stopped = Some(key.owner.to_string());
                break;
            }
            looked += 1;
            if *key.owner != *census.from {
                census.from.clear();
                census.from.push_str(&key.owner);
            }
            match key.kind {
                records::BINDING => census.counting.home += 1,
                records::GUEST => census.counting.guest += 1,
                records::SUBSCRIPTION if core.host.can_commit(group) => {
                    census.subscribed.push(key.owner.to_string());
                    continue;
                }
                _ => continue,
            }
            let flow = Binding::flow_of(&record.value);
            let stranded = flow.is_ok_and(|flow| crate::place::reach_by(core, &flow) == Reach::Stranded);
            census.counting.stranded += u64::from(stranded);
        }
        match stopped {
            Some(owner) => {
                census.from = owner;
                return;
            }
            None => {
                census.left.pop();
                census.from.clear();
            }
        }
    }
}

/// Guests that are kept in memory only.
fn local_guests(core: &Core) -> Bindings {
    let alive = core.local_guests.values().filter(|guest| guest.until > core.now.mono);
    alive.fold(Bindings::default(), |mut sum, guest| {
        sum.guest += 1;
        sum.stranded += u64::from(crate::place::reach(core, &guest.binding) == Reach::Stranded);
        sum
    })
}

#[cfg(test)]
mod tests {
    use super::Latencies;

    #[test]
    fn buckets_are_cumulative_and_the_longest_counts_in_none() {
        let mut latencies = Latencies::default();
        for millis in [0, 1, 2, 3, 5_000, 5_001] {
            latencies.note(millis);
        }
        let buckets: Vec<_> = latencies.cumulative().collect();
        assert_eq!(buckets[..4], [(1, 2), (2, 3), (5, 4), (10, 4)]);
        assert_eq!(buckets[11], (5_000, 5));
        assert_eq!((latencies.sum_ms, latencies.count), (10_007, 6));
    }
}
