//! Which servers of a pool have copies of a group, and which of them should lead it.
//!
//! Owns the choice, which every server makes for itself from the same list and finds the same. Does not own who leads now, nor how
//! copies are moved when servers come and go.

use crate::ids::{GroupId, ServerId};
use std::collections::{BTreeMap, BTreeSet};

/// Copies of a group, where there are so many servers.
pub const COPIES: usize = 3;

/// A server of a pool that holds data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FrontEnd {
    /// Which.
    pub server: ServerId,
    /// Its upgrade domain: servers of one are stopped together. None: it is one by itself.
    pub domain: Option<u16>,
}

impl From<ServerId> for FrontEnd {
    fn from(server: ServerId) -> FrontEnd {
        FrontEnd { server, domain: None }
    }
}

/// The servers that have copies of a group, the best first (rendezvous hashing: a server that comes or goes moves only what has to
/// move), each in another upgrade domain, as long as there are enough. All of them, where there are no more than [`COPIES`]; none twice, in
/// whatever order they are given.
pub fn of<S: Copy + Into<FrontEnd>>(group: GroupId, servers: &[S]) -> Vec<ServerId> {
    let front_ends = servers.iter().map(|server| (*server).into());
    let mut scored: Vec<(u64, FrontEnd)> = front_ends.map(|front| (score(group, front.server), front)).collect();
    scored.sort_unstable_by(|a, b| b.cmp(a));
    scored.dedup_by_key(|(_, front)| front.server);
    let mut domains = BTreeSet::new();
    let is_first = |(_, front): &(u64, FrontEnd)| front.domain.is_none_or(|domain| domains.insert(domain));
    let (first, others): (Vec<_>, Vec<_>) = scored.into_iter().partition(is_first);
    first.into_iter().chain(others).take(COPIES).map(|(_, front)| front.server).collect()
}

/// Which server should lead each of a pool's groups: of its copies the one that has the fewest to lead, so that no server could pass one on
/// to another that has two fewer.
pub fn leaders<S: Copy + Into<FrontEnd>>(groups: &[GroupId], servers: &[S]) -> BTreeMap<GroupId, ServerId> {
    let copies: BTreeMap<GroupId, Vec<ServerId>> = groups.iter().map(|group| (*group, of(*group, servers))).collect();
    let mut leaders: BTreeMap<GroupId, ServerId> =
        copies.iter().filter_map(|(group, copies)| Some((*group, *copies.first()?))).collect();
    let mut led: BTreeMap<ServerId, usize> = servers.iter().map(|server| ((*server).into().server, 0)).collect();
    leaders.values().for_each(|leader| *led.entry(*leader).or_default() += 1);
    // Each move makes the sum of the squares smaller, so there is an end.
    while let Some((group, from, to)) = better(&copies, &leaders, &led) {
        *led.entry(from).or_default() -= 1;
        *led.entry(to).or_default() += 1;
        leaders.insert(group, to);
    }
    leaders
}

/// A group whose leader has at least two more to lead than another of its servers; both.
fn better(
    copies: &BTreeMap<GroupId, Vec<ServerId>>,
    leaders: &BTreeMap<GroupId, ServerId>,
    led: &BTreeMap<ServerId, usize>,
) -> Option<(GroupId, ServerId, ServerId)> {
    let count = |server: &ServerId| led.get(server).copied().unwrap_or(0);
    copies.iter().find_map(|(group, copies)| {
        let (from, to) = (leaders.get(group)?, copies.iter().min_by_key(|server| count(server))?);
        (count(from) > count(to) + 1).then_some((*group, *from, *to))
    })
}

fn score(group: GroupId, server: ServerId) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&group.pool.0.to_le_bytes());
    hasher.update(&group.index.to_le_bytes());
    hasher.update(&server.0.to_le_bytes());
    let mut first = [0_u8; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    //! The same everywhere, spread evenly, and moved little.

    use super::*;
    use crate::ids::PoolId;

    fn groups(count: u16) -> Vec<GroupId> {
        (0..count).map(|index| GroupId { pool: PoolId(1), index }).collect()
    }

    fn servers(count: u32) -> Vec<ServerId> {
        (1..=count).map(ServerId).collect()
    }

    #[test]
    fn a_group_has_three_copies_or_as_many_as_there_are_servers() {
        for (count, copies) in [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (16, 3)] {
            for group in groups(8) {
                let mut placed = of(group, &servers(count));
                assert_eq!(placed.len(), copies);
                let mut turned = servers(count);
                turned.reverse();
                turned.extend(servers(count));
                assert_eq!(of(group, &turned), placed, "the order of the list, or a name twice, makes no difference");
                placed.sort();
                placed.dedup();
                assert_eq!(placed.len(), copies, "none twice");
            }
        }
    }

    #[test]
    fn leaders_are_spread_evenly() {
        for (count, number) in [(2, 32), (3, 32), (5, 32), (3, 64), (16, 64), (16, 128)] {
            let mut led: BTreeMap<ServerId, usize> = BTreeMap::new();
            for (group, leader) in leaders(&groups(number), &servers(count)) {
                assert!(of(group, &servers(count)).contains(&leader));
                *led.entry(leader).or_default() += 1;
            }
            let even = f64::from(number) / f64::from(count);
            for server in servers(count) {
                let led = led.get(&server).copied().unwrap_or(0) as f64;
                assert!(
                    (led - even).abs() <= (even * 0.2).max(1.0),
                    "{count} servers, {number} groups: {led} of {even}"
                );
            }
        }
    }

    #[test]
    fn a_new_server_takes_its_share_and_nothing_else_moves() {
        let (before, after) = (servers(5), servers(6));
        let mut moved = 0;
        for group in groups(600) {
            let (old, new) = (of(group, &before), of(group, &after));
            let gone = old.iter().filter(|server| !new.contains(server)).count();
            assert!(gone <= 1 && (gone == 0 || new.contains(&ServerId(6))));
            moved += gone;
        }
        assert!((240..360).contains(&moved), "a sixth of 1,800 copies: {moved}");
    }

    fn in_domains(count: u32, domains: u32) -> Vec<FrontEnd> {
        let domain = |server: ServerId| Some(u16::try_from(server.0 % domains).expect("small"));
        servers(count).into_iter().map(|server| FrontEnd { server, domain: domain(server) }).collect()
    }

    #[test]
    fn no_upgrade_domain_has_two_copies_of_a_group_as_long_as_there_are_three() {
        for (count, domains) in [(4, 3), (6, 3), (16, 4), (16, 16)] {
            for group in groups(200) {
                let placed = of(group, &in_domains(count, domains));
                let in_use: BTreeSet<u32> = placed.iter().map(|server| server.0 % domains).collect();
                assert_eq!((placed.len(), in_use.len()), (3, 3), "{count} servers in {domains}");
            }
        }
        // Of two domains one has to have two; still there are three copies, on as many servers.
        let placed: BTreeSet<ServerId> = of(groups(1)[0], &in_domains(4, 2)).into_iter().collect();
        assert_eq!(placed.len(), 3);
        let alone: Vec<FrontEnd> =
            servers(5).into_iter().map(|server| FrontEnd { server, domain: Some(9 + server.0 as u16) }).collect();
        assert!(groups(100).iter().all(|group| of(*group, &alone) == of(*group, &servers(5))), "one each is as none");
    }

    #[test]
    fn a_server_that_comes_to_a_domain_moves_one_copy_of_a_group_at_most() {
        let (before, after) = (in_domains(8, 4), in_domains(9, 4));
        let moved = groups(600).into_iter().map(|group| {
            let (old, new) = (of(group, &before), of(group, &after));
            let gone = old.iter().filter(|server| !new.contains(server)).count();
            assert!(gone <= 1 && (gone == 0 || new.contains(&ServerId(9))));
            gone
        });
        let moved: usize = moved.sum();
        assert!((150..280).contains(&moved), "of 1,800 copies about a ninth: {moved}");
    }

    #[test]
    fn the_choice_stays_as_it_was_in_earlier_builds() {
        let placed: Vec<Vec<u32>> = groups(4)
            .into_iter()
            .map(|group| of(group, &servers(5)).into_iter().map(|server| server.0).collect())
            .collect();
        assert_eq!(placed, [[5, 1, 4], [4, 3, 2], [5, 4, 1], [1, 4, 2]]);
    }
}
