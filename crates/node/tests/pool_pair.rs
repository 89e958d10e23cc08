//! Two paired pools of three servers each, through whole nodes: what one server of a pool knows or does is done by, and told to, all; and
//! the procedures work with a minority of servers down on either side.
#![allow(clippy::unwrap_used)]

use super::common;

use common::pool::{POOL, Pool, WEST};
use pairline_group::GroupId;
use pairline_group::io::{ExportState, Role};
use pairline_node::command::{Command, Reply};
use pairline_node::view::{PoolsView, ProcedureView, ShippingView};

fn add(user: &str) -> Command {
    let (user, password) = (user.to_owned(), "a long password".to_owned());
    Command::UserAdd { user, password, display_name: None, pool: Some("east".to_owned()) }
}

fn put(user: &str, contact: &str) -> Command {
    Command::ContactPut {
        user: user.to_owned(),
        contact: format!("{contact}@pairline.test"),
        name: contact.to_owned(),
        groups: Vec::new(),
        op: Some((format!("{user}-{contact}"), 1)),
    }
}

fn contacts(pair: &mut Pool, at: usize, user: &str) -> Vec<String> {
    match pair.must(at, Command::ContactList { user: user.to_owned() }) {
        Reply::Contacts { contacts, .. } => contacts.into_iter().map(|contact| contact.name).collect(),
        other => panic!("{other:?}"),
    }
}

fn fail_over(disaster: bool) -> Command {
    Command::PoolFailover {
        pool: "east".to_owned(),
        disaster,
        dry_run: false,
        force: false,
        confirm: disaster.then(|| "yes".to_owned()),
        reason: None,
    }
}

fn fail_back() -> Command {
    Command::PoolFailback {
        pool: "east".to_owned(),
        disaster: false,
        dry_run: false,
        force: false,
        confirm: None,
        reason: None,
    }
}

fn status(pair: &mut Pool, at: usize) -> PoolsView {
    match pair.must(at, Command::PoolStatus) {
        Reply::Pools(view) => view,
        other => panic!("{other:?}"),
    }
}

fn procedures(pair: &mut Pool, at: usize) -> Vec<ProcedureView> {
    match pair.must(at, Command::ProcedureList) {
        Reply::Procedures { procedures } => procedures,
        other => panic!("{other:?}"),
    }
}

/// Six users, each with a contact.
fn with_users() -> Pool {
    let mut pair = Pool::paired(3);
    for n in 0..6 {
        pair.must(n % 6, add(&format!("user{n}")));
        pair.must(n % 6, put(&format!("user{n}"), "first"));
    }
    pair.run(1_000);
    pair
}

fn east_groups(pair: &Pool) -> Vec<GroupId> {
    pair.all_groups().into_iter().filter(|group| group.pool == POOL).collect()
}

#[test]
fn how_far_behind_the_partner_is_is_not_known_where_nobody_tells_of_a_group() {
    let mut pair = Pool::paired(5);
    let lag = |pair: &mut Pool, at| {
        let view = status(pair, at);
        view.shipping.into_iter().find(|row| row.module == "user-data" && row.from == "east").unwrap().lag_seconds
    };
    let group = east_groups(&pair)[0];
    let (with, without): (Vec<usize>, Vec<usize>) = (0..5).partition(|at| {
        let node = pair.fronts[*at].node.as_ref().unwrap();
        node.inspect(|core| core.host.group(group).is_some())
    });
    assert_eq!(with.len(), 3);
    assert_eq!(lag(&mut pair, without[0]), Some(0.0));
    with.into_iter().for_each(|at| pair.kill(at));
    assert_eq!(lag(&mut pair, without[0]), None);
}

#[test]
fn every_group_ships_from_whoever_leads_and_any_server_tells_the_whole() {
    let mut pair = with_users();
    for at in 0..6 {
        let view = status(&mut pair, at);
        let served = |row: &&ShippingView| row.module == "user-data" || row.from == "east";
        for row in view.shipping.iter().filter(served) {
            assert_eq!(
                (row.export.as_str(), row.import.as_str(), row.lag_seconds),
                ("steady", "normal", Some(0.0)),
                "{at}: {row:?}"
            );
        }
        let east = view.pools.iter().find(|pool| pool.name == "east").unwrap();
        assert_eq!((east.serving_own, east.alive), (6, true), "{at}: {east:?}");
    }
    for at in [1, 5] {
        for pool in ["east", "west"] {
            let Reply::Verify(view) = pair.must(at, Command::PoolVerify { pool: pool.to_owned() }) else { panic!() };
            assert_eq!((view.equal, &view.unequal, &view.skipped), (view.groups, &Vec::new(), &Vec::new()), "{at}");
            assert_eq!(view.groups, if pool == "east" { 7 } else { 6 });
        }
    }
    pair.must(2, Command::PoolSync { pool: "east".to_owned() });
    pair.must(4, Command::PoolSync { pool: "east".to_owned() });
}

#[test]
fn a_planned_move_and_the_way_back_with_a_server_of_each_pool_down() {
    let mut pair = with_users();
    pair.kill(2);
    pair.kill(3);
    pair.run(3_000);
    let east = east_groups(&pair);
    pair.must(0, fail_over(false));
    pair.until("west serves east's groups", |pair| pair.serves(WEST, &east));
    assert_eq!(procedures(&mut pair, 1)[0].state, "done");
    assert_eq!(contacts(&mut pair, 0, "user1"), ["first"]);
    pair.must(1, put("user1", "second"));
    pair.start(2);
    pair.start(3);
    pair.run(3_000);
    assert_eq!(contacts(&mut pair, 3, "user1"), ["first", "second"]);
    pair.must(5, fail_back());
    pair.until("east serves its groups again", |pair| pair.serves(POOL, &east));
    assert_eq!(contacts(&mut pair, 2, "user1"), ["first", "second"]);
    assert!(procedures(&mut pair, 4).iter().all(|procedure| procedure.state == "done"));
}

#[test]
fn the_loss_of_a_whole_pool_is_survived_with_one_server_of_the_other_down_and_it_comes_back_as_backup() {
    let mut pair = with_users();
    pair.kill(5);
    (0..3).for_each(|at| pair.kill(at));
    pair.run(35_000);
    let all = pair.all_groups();
    pair.must(4, fail_over(true));
    pair.until("west serves all", |pair| pair.serves(WEST, &all));
    for n in 0..6 {
        assert_eq!(contacts(&mut pair, 3, &format!("user{n}")), ["first"]);
        pair.must(4, put(&format!("user{n}"), "second"));
    }
    (0..3).for_each(|at| pair.start(at));
    pair.start(5);
    pair.until("east is the backup of all its groups", |pair| {
        let east = east_groups(pair);
        east.iter().all(|group| pair.led(*group).iter().any(|(at, status)| *at < 3 && status.role == Role::Backup))
    });
    pair.run(3_000);
    pair.must(1, fail_back());
    let east = east_groups(&pair);
    pair.until("east serves its groups again", |pair| pair.serves(POOL, &east));
    assert_eq!(contacts(&mut pair, 1, "user4"), ["first", "second"]);
}

#[test]
fn a_pool_that_is_cut_off_stands_down_by_its_admin_api_and_what_it_had_is_a_tail() {
    let mut pair = with_users();
    pair.part();
    pair.must(0, put("user2", "unshipped"));
    pair.run(35_000);
    let all = pair.all_groups();
    pair.must(5, fail_over(true));
    pair.until("west serves all", |pair| pair.serves(WEST, &all));
    let refused = pair.ask(1, put("user2", "too late"));
    assert!(refused.is_err(), "{refused:?}");
    pair.join();
    pair.run(8_000);
    let tail: u64 = status(&mut pair, 2).pools.iter().map(|pool| pool.tail).sum();
    assert!(tail > 0, "{:?}", status(&mut pair, 2));
    let apply = Command::PoolDivergence { pool: "east".to_owned(), apply: true };
    let Reply::Divergence(view) = pair.must(1, apply) else { panic!() };
    assert!(!view.entries.is_empty());
    pair.run(1_000);
    assert_eq!(contacts(&mut pair, 4, "user2"), ["first", "unshipped"]);
}

/// The server at which a procedure runs now.
fn runs_at(pair: &Pool) -> Option<usize> {
    let busy = |at: &usize| {
        let node = pair.fronts[*at].node.as_ref().filter(|_| !pair.fronts[*at].frozen);
        node.is_some_and(|node| node.inspect(|core| core.procedures.busy()))
    };
    (0..pair.fronts.len()).find(busy)
}

#[test]
fn a_procedure_goes_on_when_the_server_dies_that_runs_it() {
    for freezes in [false, true] {
        let mut pair = with_users();
        (0..3).for_each(|at| pair.kill(at));
        pair.run(35_000);
        let all = pair.all_groups();
        pair.disk_ms = 60;
        pair.begin(4, fail_over(true));
        pair.until("it runs", |pair| runs_at(pair).is_some() && pair.stored(3, "running"));
        let ran = runs_at(&pair).unwrap();
        match freezes {
            true => pair.freeze(ran),
            false => pair.kill(ran),
        }
        pair.until("west serves all", |pair| pair.serves(WEST, &all));
        let asked = if ran == 3 { 4 } else { 3 };
        pair.until("it is done", |pair| procedures(pair, asked)[0].state == "done");
        assert_eq!(contacts(&mut pair, asked, "user3"), ["first"]);
        if freezes {
            pair.thaw(ran);
            pair.run(2_000);
            assert_eq!(procedures(&mut pair, ran)[0].state, "done");
        }
    }
}

/// West takes over from a dead east; the server that was asked and runs it stands still after its first record. With the number of the
/// request at that server.
fn stands_still_in_a_failover() -> (Pool, usize, u64) {
    let mut pair = with_users();
    (0..3).for_each(|at| pair.kill(at));
    pair.run(35_000);
    pair.disk_ms = 60;
    let ran = pair.led(GroupId::CMS)[0].0;
    let request = pair.begin(ran, fail_over(true));
    pair.until("it runs", |pair| pair.stored(ran, "running"));
    assert_eq!(runs_at(&pair), Some(ran));
    pair.freeze(ran);
    (pair, ran, request)
}

#[test]
fn a_procedure_is_not_taken_from_a_server_that_stands_still_for_a_moment() {
    let (mut pair, ran, request) = stands_still_in_a_failover();
    pair.run(2_000);
    assert_eq!(runs_at(&pair), None, "nobody goes on with it yet");
    pair.thaw(ran);
    let all = pair.all_groups();
    pair.until("west serves all", |pair| pair.serves(WEST, &all));
    pair.until("it is done", |pair| procedures(pair, ran)[0].state == "done");
    for at in 3..6 {
        assert!(!pair.fronts[at].told.contains(&"procedure-taken-over"), "{at}: {:?}", pair.fronts[at].told);
    }
    pair.until("it is answered", |pair| pair.fronts[ran].replies.contains_key(&request));
    let reply = pair.fronts[ran].replies.remove(&request);
    assert!(matches!(reply, Some(Ok(Reply::Procedure(_)))), "{reply:?}");
}

#[test]
fn who_asked_is_told_that_another_server_goes_on_with_it() {
    let (mut pair, ran, request) = stands_still_in_a_failover();
    pair.until("another goes on with it", |pair| runs_at(pair).is_some());
    // It still knows nothing of that, and what it wants next is refused by whoever leads now.
    pair.thaw(ran);
    pair.until("it is answered", |pair| pair.fronts[ran].replies.contains_key(&request));
    match pair.fronts[ran].replies.remove(&request) {
        Some(Ok(Reply::Procedure(view))) => assert!(["running", "done"].contains(&view.state.as_str()), "{view:?}"),
        other => panic!("it was carried out, elsewhere: {other:?}"),
    }
    let all = pair.all_groups();
    pair.until("west serves all", |pair| pair.serves(WEST, &all));
    pair.until("it is done", |pair| procedures(pair, ran)[0].state == "done");
    let told = &pair.fronts[ran].told;
    assert!(told.contains(&"procedure-replaced") && !told.contains(&"procedure-stopped"), "{told:?}");
}

#[test]
fn a_procedure_that_waits_for_its_first_record_is_aborted_at_any_server_and_leaves_nothing() {
    let mut pair = Pool::paired(5);
    pair.must(1, add("user0"));
    pair.run(1_000);
    // The management store of east loses its majority; west is there, and is said to be off.
    let copies =
        (0..5).filter(|at| pair.fronts[*at].node.as_ref().unwrap().inspect(|c| c.host.role(GroupId::CMS).is_some()));
    let lost: Vec<usize> = copies.take(2).collect();
    lost.iter().for_each(|at| pair.kill(*at));
    pair.run(5_000);
    let alive: Vec<usize> = (0..5).filter(|at| !lost.contains(at)).collect();
    let (disaster, dry_run, force, confirm) = (true, false, true, Some("yes".to_owned()));
    pair.begin(
        alive[0],
        Command::PoolFailover { pool: "west".to_owned(), disaster, dry_run, force, confirm, reason: None },
    );
    pair.until("it waits for its first record", |pair| runs_at(pair).is_some());
    let ran = runs_at(&pair).unwrap();
    for asked in alive.iter().copied().filter(|at| *at != ran).chain([5]) {
        assert_eq!(procedures(&mut pair, asked).len(), 1, "listed at {asked}");
    }
    let id = procedures(&mut pair, ran)[0].id.clone();
    let other = alive.iter().copied().find(|at| *at != ran).unwrap();
    match pair.must(other, Command::ProcedureAbort { id, reclaim: false }) {
        Reply::Procedure(view) => assert_eq!(view.state, "aborted", "{view:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(runs_at(&pair), None);
    assert!(procedures(&mut pair, ran).is_empty() && procedures(&mut pair, 5).is_empty());
    lost.iter().for_each(|at| pair.start(*at));
    pair.until("the management store is led", |pair| pair.serves(POOL, &[GroupId::CMS]));
    pair.run(5_000);
    assert!(procedures(&mut pair, other).is_empty(), "nothing of it is found later");
    pair.must(other, fail_over(false));
    let all = pair.all_groups();
    pair.until("west serves all", |pair| pair.serves(WEST, &all));
}

#[test]
fn a_leader_that_stood_still_does_not_take_what_the_next_one_wrote_for_another_history() {
    let mut pair = with_users();
    let group = pair.group_of("user1");
    let old = pair.leaders(group)[0];
    pair.freeze(old);
    let others: Vec<usize> = (0..6).filter(|at| *at != old).collect();
    others.iter().for_each(|other| pair.cut(old, *other));
    pair.until("another leads", |pair| pair.leaders(group).iter().any(|at| *at != old));
    pair.must(others[0], put("user1", "second"));
    pair.run(1_000);
    pair.thaw(old);
    // The partner is heard first, and has more than the copy of the one that led.
    (3..6).for_each(|west| pair.connect(old, west));
    others.iter().filter(|other| **other < 3).for_each(|east| pair.connect(old, *east));
    pair.run(3_000);
    for at in 0..3 {
        let export = pair.fronts[at].node.as_ref().unwrap().inspect(|core| core.host.group(group).unwrap().export);
        assert_ne!(export, ExportState::Error, "server {at}");
    }
    assert_eq!(contacts(&mut pair, old, "user1"), ["first", "second"]);
}
