//! How this pool's copies stand, from what its servers know: of each group what the one says that leads it.
//!
//! Owns the asking and the putting together. Each server knows all of what it leads and only some of what it follows; how far the
//! partner is, for one, is the leader's affair.

use crate::core::{Core, WaitResult};
use crate::cx::TaskCx;
use crate::node::Node;
use crate::peer::PeerFrame;
use pairline_group::io::{GroupStatus, Lag, Role};
use pairline_group::{GroupId, LinkId, ServerId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How long another server may take to tell its copies, in milliseconds; one that is slower is left out.
const ANSWER_MS: u64 = 1_000;

/// How long a server whose connection is open may say nothing before it is taken not to go on with what it was at, in milliseconds.
const STANDS_STILL_MS: u64 = 3_000;

/// One server's copy of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Copy {
    /// How it stands.
    pub status: GroupStatus,
    /// Whether the server leads the group.
    pub leads: bool,
    /// Whether the last comparison with the partner's copy, made by this server, found a difference.
    pub unequal: bool,
}

/// What a pool's servers say together.
#[derive(Clone, Debug, Default)]
pub struct Together {
    /// All copies, one a group.
    pub copies: Vec<Copy>,
    /// The procedure that runs in this pool, and the server that runs it.
    pub runs: Option<(ServerId, u128)>,
    /// A server has not answered that may do so in a moment.
    pub doubtful: bool,
}

impl Together {
    /// How the copies stand.
    pub fn statuses(self) -> Vec<GroupStatus> {
        self.copies.into_iter().map(|copy| copy.status).collect()
    }
}

/// The procedure that runs at this server.
pub fn runs(core: &Core) -> Option<u128> {
    core.procedures.runner.as_ref().filter(|runner| !runner.is_over()).map(|runner| runner.procedure().plan.id)
}

/// The copies of this server.
pub fn own(core: &Core) -> Vec<Copy> {
    let all = crate::modes::statuses(core);
    all.into_iter()
        .map(|status| Copy {
            leads: core.is_led_here(status.group),
            unequal: core.unequal.contains(&status.group),
            status,
        })
        .collect()
}

/// All copies of this pool, one a group: the leading server's, where one leads that answers; entries of divergent tails are added up over
/// all servers, since each has those that it found.
pub async fn of_pool(cx: &TaskCx) -> Together {
    let (others, silent): (Vec<_>, Vec<_>) = cx.with(|core| {
        let linked = core.servers_linked(core.pool).into_iter();
        linked.partition(|(_, link)| core.links.get(link).is_some_and(|link| !link.silent))
    });
    let mut unheard: Vec<LinkId> = silent.into_iter().map(|(_, link)| link).collect();
    let mut calls = Vec::new();
    for (server, link) in others {
        let call = cx.start_peer_wait(server, ANSWER_MS);
        cx.with(|core| core.send_on(link, &PeerFrame::Copies { call }));
        calls.push((server, link, call));
    }
    let (mut all, mut running) = cx.with(|core| (own(core), runs(core).map(|id| (core.config.server, id))));
    for (server, link, call) in calls {
        if let WaitResult::Copies(copies, runs) = cx.wait(call).await {
            all.extend(copies);
            running = running.or(runs.map(|id| (server, id)));
        } else {
            unheard.push(link);
        }
    }
    let (believed, doubtful) = cx.with(|core| {
        let since = |link: &LinkId| Some(core.now.mono.saturating_sub(core.links.get(link)?.heard));
        let doubtful = unheard.iter().filter_map(since).any(|ms| ms < STANDS_STILL_MS);
        (crate::config::planted!(core.config, FollowerBelieved), doubtful)
    });
    if believed {
        all.retain(|copy| !copy.leads);
    }
    Together { copies: merged(all), runs: running, doubtful }
}

/// One copy a group.
fn merged(all: Vec<Copy>) -> Vec<Copy> {
    let mut groups: BTreeMap<GroupId, Vec<Copy>> = BTreeMap::new();
    for copy in all {
        groups.entry(copy.status.group).or_default().push(copy);
    }
    groups.into_values().filter_map(best).collect()
}

/// What a group's copies come to.
fn best(copies: Vec<Copy>) -> Option<Copy> {
    let tail = copies.iter().fold(0_u64, |sum, copy| sum.saturating_add(copy.status.tail));
    let rank = |copy: &&Copy| (copy.leads, copy.status.epoch, copy.status.position);
    let mut best = copies.iter().max_by_key(rank)?.clone();
    best.status.tail = tail;
    if best.status.lag == Lag::Unknown {
        // It leads since a moment ago, or follows and has not heard all. Of a copy of the partner's group: what one that led before it had, it
        // has too. Of one that is shipped: what any says is no less than is missing.
        let (role, epoch, here) = (best.status.role, best.status.epoch, best.status.position);
        let same = copies.iter().filter(|copy| (copy.status.role, copy.status.epoch) == (role, epoch));
        let counts = same.filter(|copy| role == Role::Active || copy.status.position <= here);
        let bounds = counts.filter_map(|copy| match copy.status.lag {
            Lag::Exactly(ms) | Lag::AtMost(ms) => Some(ms),
            Lag::Unknown => None,
        });
        best.status.lag = bounds.min().map_or(Lag::Unknown, Lag::AtMost);
    }
    Some(best)
}

/// Another pool asks how this one's copies stand.
pub fn looked_at(node: &mut Node, link: LinkId, call: u64) {
    let shared = node.core();
    if !crate::neighbours::has_several(&shared.borrow()) {
        let mut core = shared.borrow_mut();
        let statuses = crate::modes::statuses(&core);
        return core.send_on(link, &PeerFrame::Looked { call, statuses });
    }
    node.spawn(move |cx| async move {
        let statuses = of_pool(&cx).await.statuses();
        cx.with(|core| core.answer_on(link, &PeerFrame::Looked { call, statuses }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use pairline_group::io::{ExportState, ImportState};
    use pairline_group::{Epoch, PoolId, Position};

    fn copy(index: u16, seq: u64, leads: bool, tail: u64) -> Copy {
        let epoch = Epoch { number: 1, granted_by: PoolId(1) };
        let status = GroupStatus {
            group: GroupId { pool: PoolId(1), index },
            role: Role::Active,
            confirmed: true,
            serving: PoolId(1),
            epoch,
            position: Position { epoch, seq },
            digest: [0; 32],
            records: 0,
            bytes: 0,
            export: ExportState::Steady,
            import: ImportState::Normal,
            lag: Lag::Exactly(0),
            behind_entries: 0,
            behind_bytes: 0,
            seed: None,
            verified: None,
            tail,
            stopped: None,
            leader: None,
        };
        Copy { status, leads, unequal: false }
    }

    #[test]
    fn who_leads_is_believed_else_who_has_most_and_tails_add_up() {
        let all = vec![copy(0, 9, false, 2), copy(1, 5, false, 0), copy(0, 7, true, 1), copy(1, 6, false, 0)];
        let found: Vec<(u16, u64, bool, u64)> = merged(all)
            .into_iter()
            .map(|c| (c.status.group.index, c.status.position.seq, c.leads, c.status.tail))
            .collect();
        assert_eq!(found, [(0, 7, true, 3), (1, 6, false, 0)]);
    }

    #[test]
    fn what_one_knew_of_the_lag_that_led_before_is_not_lost() {
        let backup = |seq, leads, lag| {
            let mut copy = copy(0, seq, leads, 0);
            (copy.status.role, copy.status.lag) = (Role::Backup, lag);
            copy
        };
        let lag = |copies: Vec<Copy>| merged(copies).remove(0).status.lag;
        let now = backup(7, true, Lag::Unknown);
        let before = |seq| backup(seq, false, Lag::AtMost(4_000));
        assert_eq!(lag(vec![before(7), now.clone(), backup(7, false, Lag::Unknown)]), Lag::AtMost(4_000));
        assert_eq!(lag(vec![before(8), now]), Lag::Unknown, "it had more than is known to be here");
        assert_eq!(lag(vec![before(7), backup(7, true, Lag::AtMost(90))]), Lag::AtMost(90));
    }
}
