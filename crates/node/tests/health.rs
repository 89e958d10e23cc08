//! Health of a pool in words, from what its servers say.
#![allow(clippy::unwrap_used)]

use pairline_group::placement::{self, FrontEnd};
use pairline_group::{GroupId, PoolId, ServerId};
use pairline_node::admin::health::{Heard, Sight, judge};
use pairline_node::view::CopyView;
use std::collections::BTreeMap;

const POOL: PoolId = PoolId(1);

/// A pool of `count` servers with eight groups and the management store; all is well.
fn pool(count: u32) -> Sight {
    pool_in(count, |_| None)
}

/// The same with an upgrade domain for each server.
fn pool_in(count: u32, domain: fn(u32) -> Option<u16>) -> Sight {
    let servers: Vec<(ServerId, String)> = (1..=count).map(|n| (ServerId(n), format!("fe{n}.east.test"))).collect();
    let ids: Vec<ServerId> = servers.iter().map(|(id, _)| *id).collect();
    let front_ends: Vec<FrontEnd> = ids.iter().map(|id| FrontEnd { server: *id, domain: domain(id.0) }).collect();
    let mut groups: Vec<GroupId> = (0..8).map(|index| GroupId { pool: POOL, index }).collect();
    groups.push(GroupId::CMS);
    let leaders = placement::leaders(&groups, &front_ends);
    let copies = |server: ServerId| {
        let with_copy = groups.iter().filter(|group| placement::of(**group, &front_ends).contains(&server));
        let copy = |group: &GroupId| CopyView {
            pool: group.pool.0,
            index: group.index,
            leads: leaders[group] == server,
            sequence: 1_000,
            ..CopyView::default()
        };
        Heard::Says(with_copy.map(copy).collect())
    };
    let heard = ids.iter().map(|id| (*id, copies(*id))).collect();
    Sight { pool: "east".to_owned(), partner: None, servers, front_ends, witness: None, groups: groups.clone(), heard }
}

/// The same of two servers, with a witness.
fn witnessed() -> Sight {
    let mut sight = pool(2);
    let votes = |group: &GroupId| CopyView { pool: group.pool.0, index: group.index, ..CopyView::default() };
    let all = sight.groups.iter().map(votes).collect();
    sight.servers.push((ServerId(9), "witness.east.test".to_owned()));
    sight.heard.insert(ServerId(9), Heard::Says(all));
    Sight { witness: Some(ServerId(9)), ..sight }
}

fn of(heard: &mut BTreeMap<ServerId, Heard>, server: u32) -> &mut Vec<CopyView> {
    match heard.get_mut(&ServerId(server)) {
        Some(Heard::Says(copies)) => copies,
        other => panic!("{other:?}"),
    }
}

/// That server does not answer any more, and its groups are led by the next that has them.
fn lose(sight: &mut Sight, server: u32, how: Heard) {
    let led: Vec<(u16, u16)> =
        of(&mut sight.heard, server).iter().filter(|copy| copy.leads).map(|copy| (copy.pool, copy.index)).collect();
    sight.heard.insert(ServerId(server), how);
    for group in led {
        let next = sight.heard.values_mut().find_map(|heard| match heard {
            Heard::Says(copies) => copies.iter_mut().find(|copy| (copy.pool, copy.index) == group),
            _ => None,
        });
        next.unwrap().leads = true;
    }
}

#[test]
fn three_of_three_bear_the_loss_of_any_one() {
    let view = judge(&pool(3));
    assert_eq!((view.state.as_str(), view.survives.as_str()), ("healthy", "any one of fe1, fe2, fe3 may fail now"));
    assert_eq!((view.groups, view.troubled.len(), view.next.len()), (9, 0, 0));
    assert!(view.servers.iter().all(|s| s.up && s.leads == 3 && s.copies == 9 && s.of_copies == 9 && s.behind == 0));
}

#[test]
fn a_group_that_is_led_and_was_never_opened_serves_nobody() {
    let mut sight = pool(3);
    sight.partner = Some("west".to_owned());
    for server in 1..=3 {
        of(&mut sight.heard, server).iter_mut().filter(|copy| copy.index == 5).for_each(|copy| copy.sequence = 0);
    }
    let view = judge(&sight);
    assert_eq!((view.state.as_str(), view.survives.as_str()), ("degraded", "any one of fe1, fe2, fe3 may fail now"));
    let [troubled] = &view.troubled[..] else { panic!("{:?}", view.troubled) };
    assert_eq!((troubled.group.as_str(), troubled.state.as_str(), troubled.copies), ("1/5", "not-opened", 3));
    let [next] = &view.next[..] else { panic!("{:?}", view.next) };
    assert!(next.starts_with("group 5 is not opened yet, and nobody serves the users in it"), "{next}");
    assert!(next.contains("once west says that it has nothing of it") && next.contains("assert-active east"), "{next}");
}

#[test]
fn with_one_lost_no_further_one_may_fail_and_it_is_said_why() {
    let mut sight = pool(3);
    lose(&mut sight, 3, Heard::NoLink);
    let view = judge(&sight);
    assert_eq!(view.state, "degraded");
    assert_eq!(
        view.survives,
        "no further server may fail: groups 0-7 and the management store have two of three copies"
    );
    assert_eq!(view.next, ["fe3: its groups go on without it; start it again, and it takes what it missed by itself"]);
    assert_eq!(view.servers[2].heard, "no link: it is down or cut off");
    let first = &view.troubled[0];
    assert_eq!((first.group.as_str(), first.state.as_str(), first.copies), ("1/0", "fewer-copies", 2));
    assert_eq!((first.of_copies, &first.missing[..]), (3, &["fe3".to_owned()][..]));
    lose(&mut sight, 2, Heard::Silent);
    sight.heard.values_mut().for_each(|heard| {
        if let Heard::Says(copies) = heard {
            copies.iter_mut().for_each(|copy| copy.leads = false);
        }
    });
    let view = judge(&sight);
    assert_eq!(view.state, "no-majority");
    assert!(
        view.survives.ends_with("groups 0-7 and the management store have one of three copies"),
        "{}",
        view.survives
    );
    assert!(
        view.next[0].starts_with("bring fe2 or fe3 back: groups 0-7 and the management store are without majority")
    );
    assert!(!view.next[1].contains("go on without it"), "{:?}", view.next);
    assert!(view.servers[1].heard.contains("does not answer"));
    assert!(view.next[1].starts_with("fe2: let its process go on, or end it and start it again"), "{:?}", view.next);
    assert!(view.troubled.iter().all(|group| group.missing == ["fe2", "fe3"]), "in order");
}

#[test]
fn with_a_witness_any_one_of_three_may_fail_and_a_second_may_not() {
    let view = judge(&witnessed());
    assert_eq!((view.state.as_str(), view.survives.as_str()), ("healthy", "any one of fe1, fe2, witness may fail now"));
    let rows: Vec<_> = view.servers.iter().map(|s| (s.witness, s.copies, s.of_copies, s.behind)).collect();
    assert_eq!(rows, [(false, 9, 9, 0), (false, 9, 9, 0), (true, 9, 9, 0)]);
    for (gone, missing) in [(9, "witness"), (2, "fe2")] {
        let mut sight = witnessed();
        if gone == 9 {
            sight.heard.insert(ServerId(9), Heard::NoLink);
        } else {
            lose(&mut sight, gone, Heard::NoLink);
            // Whoever is asked last does not lead.
            of(&mut sight.heard, 1).iter_mut().for_each(|copy| copy.leads = true);
            of(&mut sight.heard, 9).iter_mut().for_each(|copy| copy.leads = false);
        }
        let view = judge(&sight);
        let votes = "groups 0-7 and the management store have two of three votes";
        assert_eq!(view.survives, format!("no further server may fail: {votes}"));
        assert_eq!((view.state.as_str(), &view.troubled[0].missing[..]), ("degraded", &[missing.to_owned()][..]));
        assert_eq!(view.next[0].contains("on one disk only"), gone == 2, "{:?}", view.next);
    }
    let mut behind = witnessed();
    for copy in of(&mut behind.heard, 1).iter_mut().filter(|copy| copy.leads) {
        (copy.voters, copy.behind) = (vec![1, 2, 9], vec![(2, 500), (9, 0)]);
    }
    let view = judge(&behind);
    assert!(view.survives.starts_with("fe2 may fail now; not fe1 or witness: "), "{}", view.survives);
}

#[test]
fn of_five_servers_those_may_fail_whose_groups_have_three_copies() {
    let mut sight = pool(5);
    assert_eq!(judge(&sight).survives, "any one of fe1, fe2, fe3, fe4, fe5 may fail now");
    // One group of which one copy is left out: its other two servers are needed, the rest are not.
    let group = GroupId { pool: POOL, index: 4 };
    let ids: Vec<ServerId> = sight.servers.iter().map(|(id, _)| *id).collect();
    let placed = placement::of(group, &ids);
    let spare = *placed.iter().find(|id| !of(&mut sight.heard, id.0).iter().any(|c| c.index == 4 && c.leads)).unwrap();
    of(&mut sight.heard, spare.0).retain(|copy| copy.pool == 0 || copy.index != 4);
    let view = judge(&sight);
    assert_eq!(view.state, "degraded");
    let mut needed: Vec<u32> = placed.iter().filter(|id| **id != spare).map(|id| id.0).collect();
    needed.sort_unstable();
    let not = format!("not fe{} or fe{}: group 4 has two of three copies", needed[0], needed[1]);
    assert!(view.survives.ends_with(&not), "{} / {not}", view.survives);
}

#[test]
fn which_upgrade_domains_may_fail_as_a_whole_is_said_where_they_have_several_servers() {
    let whole = pool_in(6, |server| u16::try_from(server % 3).ok());
    let any = "any one of fe1, fe2, fe3, fe4, fe5, fe6 may fail now; ";
    let view = judge(&whole);
    assert_eq!(view.survives, format!("{any}all servers of any one of the upgrade domains 0, 1, 2 may fail at once"));
    // A group that lacks its copy in one domain needs both others.
    let group = whole.groups[4];
    let placed = placement::of(group, &whole.front_ends);
    let mut sight = whole.clone();
    let spare = *placed.iter().find(|id| !of(&mut sight.heard, id.0).iter().any(|c| c.index == 4 && c.leads)).unwrap();
    of(&mut sight.heard, spare.0).retain(|copy| copy.pool == 0 || copy.index != 4);
    let (may, mut not) = (spare.0 % 3, [(spare.0 + 1) % 3, (spare.0 + 2) % 3]);
    not.sort_unstable();
    let said = format!("all servers of upgrade domain {may} may fail at once, not those of {} or {}", not[0], not[1]);
    assert!(judge(&sight).survives.ends_with(&said), "{} / {said}", judge(&sight).survives);
    // A domain of one server needs no words of its own.
    let single = pool_in(4, |server| u16::try_from(server % 3).ok());
    assert!(judge(&single).survives.ends_with("; all servers of upgrade domain 1 may fail at once"), "fe1 and fe4");
    assert_eq!(judge(&pool_in(3, |n| u16::try_from(n).ok())).survives, "any one of fe1, fe2, fe3 may fail now");
    // With a whole domain away its groups have two copies each, and no other may go.
    let mut away = whole;
    lose(&mut away, 3, Heard::NoLink);
    lose(&mut away, 6, Heard::NoLink);
    assert!(judge(&away).survives.ends_with("; not all servers of an upgrade domain at once (1, 2)"));
}

#[test]
fn a_copy_that_is_behind_is_no_help_yet() {
    let mut sight = pool(3);
    of(&mut sight.heard, 2).iter_mut().take(3).for_each(|copy| copy.sequence = 10);
    let view = judge(&sight);
    assert_eq!((view.state.as_str(), view.servers[1].behind), ("degraded", 3));
    assert_eq!(view.survives, "fe2 may fail now; not fe1 or fe3: groups 0-2 have two of three copies");
    assert_eq!(view.next, ["fe2 takes over what it missed of groups 0-2, by itself"]);
    let mut told = pool(3);
    let leader = of(&mut told.heard, 1).iter_mut().find(|copy| copy.leads).unwrap();
    leader.behind = vec![(3, 4_000)];
    assert_eq!(judge(&told).servers[2].behind, 1, "its leader knows");
    leader_less(&mut told);
    assert!(judge(&told).next.iter().any(|step| step.contains("choosing who leads")), "{:?}", judge(&told).next);
}

fn leader_less(sight: &mut Sight) {
    for server in 1..=3 {
        of(&mut sight.heard, server).iter_mut().for_each(|copy| copy.leads = false);
    }
}

#[test]
fn a_stopped_copy_is_named_with_its_reason() {
    let mut sight = pool(3);
    let copy = of(&mut sight.heard, 1).iter_mut().find(|copy| !copy.leads && copy.pool != 0).unwrap();
    copy.stopped = Some("the chain is broken".to_owned());
    let index = copy.index;
    let view = judge(&sight);
    assert_eq!(view.state, "degraded");
    assert_eq!(view.next, [format!("fe1 has stopped its copy of group {index}: the chain is broken; see its log")]);
}

#[test]
fn small_pools_say_what_they_are() {
    assert_eq!(judge(&pool(1)).survives, "nothing: the pool has one server and no partner");
    let mut paired = pool(1);
    paired.partner = Some("west".to_owned());
    let view = judge(&paired);
    assert_eq!(view.state, "healthy");
    assert_eq!(view.survives, "the pool has one server; if it fails, west takes its users in resiliency mode");
    let two = judge(&pool(2));
    assert_eq!(two.survives, "no server may fail: a majority of two copies is both");
    assert_eq!(two.state, "healthy", "it is all that it can be");
}

#[test]
fn copies_that_are_not_where_they_should_be_are_on_their_way() {
    let mut sight = pool(4);
    let ids: Vec<ServerId> = sight.servers.iter().map(|(id, _)| *id).collect();
    let group = sight.groups[0];
    let placed = placement::of(group, &ids);
    let other = *ids.iter().find(|id| !placed.contains(id)).unwrap();
    let leader = placement::leaders(&sight.groups, &ids)[&group];
    let newcomer = *placed.iter().find(|id| **id != leader).unwrap();
    let voters: Vec<u32> = placed.iter().map(|id| if *id == newcomer { other.0 } else { id.0 }).collect();
    // The newcomer has a copy and does not decide yet; the one that has it still does.
    let copies = of(&mut sight.heard, leader.0);
    copies.iter_mut().find(|copy| (copy.pool, copy.index) == (1, 0)).unwrap().voters = voters;
    of(&mut sight.heard, other.0).push(CopyView { pool: 1, index: 0, sequence: 1_000, ..CopyView::default() });
    let view = judge(&sight);
    assert_eq!((view.state.as_str(), view.troubled[0].state.as_str()), ("degraded", "moving"));
    assert_eq!(
        view.next,
        ["copies are on their way: one group is not yet where they should be (group 0); they move by themselves"]
    );
    assert!(view.survives.starts_with("any one of"), "{view:?}");
}
