//! Two of a pool's three servers are lost for good: its groups go on with the copies that are left, by command, and the pool is whole again once
//! the servers are back with empty disks.
#![allow(clippy::unwrap_used)]

use super::common;

use common::pool::Pool;
use pairline_group::GroupId;
use pairline_node::command::{Command, Problem, Reply};
use pairline_node::view::{GroupRecoveryView, GroupView};

fn add(user: &str) -> Command {
    let (user, password) = (user.to_owned(), "secret-password".to_owned());
    Command::UserAdd { user, password, display_name: None, pool: Some("east".to_owned()) }
}

fn order(groups: &[&str], all: bool, confirm: bool) -> Command {
    Command::GroupRecover {
        pool: "east".to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        all,
        confirm: confirm.then(|| "yes".to_owned()),
        reason: Some("two disks burnt".to_owned()),
    }
}

fn recover(pool: &mut Pool, at: usize, command: Command) -> GroupRecoveryView {
    match pool.must(at, command) {
        Reply::GroupRecovery(view) => view,
        other => panic!("{other:?}"),
    }
}

fn refused(pool: &mut Pool, at: usize, command: Command) -> Problem {
    pool.ask(at, command).expect_err("it is refused")
}

fn groups(pool: &mut Pool, at: usize, group: Option<&str>) -> Vec<GroupView> {
    match pool.must(at, Command::GroupList { pool: "east".to_owned(), group: group.map(str::to_owned) }) {
        Reply::Groups(view) => view.groups,
        other => panic!("{other:?}"),
    }
}

/// Servers 1 and 2 of a pool of three are lost.
fn lost(mut pool: Pool, wiped: bool) -> Pool {
    pool.must(0, add("anna"));
    pool.run(1_000);
    for at in [1, 2] {
        if wiped { pool.wipe(at) } else { pool.kill(at) }
    }
    pool.run(5_000);
    pool
}

#[test]
fn a_plan_changes_nothing_and_a_confirmed_order_brings_the_users_back() {
    let mut pool = lost(Pool::of(3), true);
    assert!(pool.ask(0, add("berta")).is_err(), "no majority");
    let next = pool.health(0).next.join("\n");
    assert!(next.contains("`pairline group recover east --all-without-majority`"), "{next}");
    let before = groups(&mut pool, 0, None);
    assert!(before.len() == 7 && before.iter().all(|group| group.state == "no-majority"), "{before:#?}");

    let plan = recover(&mut pool, 0, order(&[], true, false));
    assert!(!plan.done && plan.groups.len() == 7);
    for group in &plan.groups {
        assert!(group.survivor.as_deref().is_some_and(|name| name.starts_with("fe1.")), "{group:?}");
        assert!(group.lost.len() == 2 && group.at_risk.starts_with("whatever fe2."), "{group:?}");
    }
    pool.run(5_000);
    assert_eq!(
        groups(&mut pool, 0, None).iter().filter(|group| group.state == "led").count(),
        0,
        "nothing was changed"
    );

    let done = recover(&mut pool, 0, order(&[], true, true));
    assert!(done.done && done.groups.iter().all(|group| group.goes_on), "{done:#?}");
    pool.must(0, add("berta"));
    let Reply::Users { users, .. } = pool.must(0, Command::UserList { after: None, limit: 100 }) else {
        panic!("no users")
    };
    assert_eq!(users.len(), 2);

    // It is written down, and said again.
    let shown = groups(&mut pool, 0, Some("3")).remove(0);
    let recovery = shown.recoveries.first().expect("a record");
    assert_eq!(
        (recovery.operator.as_str(), recovery.reason.as_str(), recovery.lost.len()),
        ("anna", "two disks burnt", 2)
    );
    assert!(recovery.at_risk.starts_with("whatever fe2.") && recovery.before != recovery.after && shown.survived == 1);

    for at in [1, 2] {
        pool.start(at);
    }
    pool.healthy(0);
    assert!(pool.all_groups().into_iter().all(|group| pool.leaders(group).len() == 1));
    pool.kill(0);
    pool.until("the other two go on", |pool| pool.all_groups().into_iter().all(|group| pool.leaders(group).len() == 1));
    pool.must(1, add("carla"));
    let shown = groups(&mut pool, 1, Some("cms")).remove(0);
    assert!(shown.state == "led" && shown.recoveries.len() == 1 && shown.survived == 1, "{shown:#?}");
}

#[test]
fn it_is_refused_where_a_majority_is_there_or_another_copy_may_be() {
    let mut pool = Pool::of(3);
    assert_eq!(refused(&mut pool, 0, order(&[], true, true)).kind, "nothing-to-recover");
    let problem = refused(&mut pool, 0, order(&["3"], false, true));
    assert!(problem.kind == "cannot-recover" && problem.detail.contains("leads it with a majority"), "{problem:?}");
    assert_eq!(refused(&mut pool, 0, order(&["77"], false, false)).kind, "no-such-group");
    assert_eq!(refused(&mut pool, 0, order(&[], false, false)).kind, "no-group-named");
    // One is gone, and one stands still.
    pool.kill(2);
    pool.freeze(1);
    pool.run(5_000);
    let problem = refused(&mut pool, 0, order(&[], true, true));
    assert!(problem.kind == "cannot-recover" && problem.detail.contains("does not answer"), "{problem:?}");
    pool.thaw(1);
    pool.until("two of three lead", |pool| pool.leaders(GroupId::CMS).len() == 1);
    assert_eq!(refused(&mut pool, 0, order(&[], true, true)).kind, "nothing-to-recover");
    // The order to a single copy is the servers' own.
    let command = Command::GroupSurvive {
        group: "1/3".to_owned(),
        order: "7".to_owned(),
        operator: "anna".to_owned(),
        plan: String::new(),
        partner: None,
    };
    assert_eq!(refused(&mut pool, 0, command).kind, "forbidden");
}

#[test]
fn one_group_and_its_server_asked_through_another() {
    // Five servers: some groups have lost two of their copies, others none or one.
    let mut pool = Pool::of(5);
    pool.must(0, add("anna"));
    pool.run(2_000);
    for at in [1, 2] {
        pool.wipe(at);
    }
    pool.run(5_000);
    let all = groups(&mut pool, 0, None);
    let without: Vec<&GroupView> = all.iter().filter(|group| group.state == "no-majority").collect();
    assert!(!without.is_empty() && without.len() < all.len(), "{all:#?}");
    let plan = recover(&mut pool, 0, order(&[], true, false));
    assert_eq!(plan.groups.len(), without.len());
    let elsewhere = plan.groups.iter().find(|group| !group.survivor.as_deref().unwrap().starts_with("fe1."));
    let name = elsewhere.or(plan.groups.first()).unwrap().group.clone();
    let done = recover(&mut pool, 0, order(&[&name], false, true));
    assert!(done.groups.len() == 1 && done.groups[0].goes_on, "{done:#?}");
    let done = recover(&mut pool, 0, order(&[], true, true));
    assert!(done.groups.len() == without.len() - 1 && done.groups.iter().all(|group| group.goes_on), "{done:#?}");
    for at in [1, 2] {
        pool.start(at);
    }
    pool.healthy(0);
    pool.must(1, add("berta"));
}

#[test]
fn old_disks_that_come_back_are_void() {
    let mut pool = lost(Pool::of(3), false);
    let done = recover(&mut pool, 0, order(&[], true, true));
    assert!(done.groups.iter().all(|group| group.goes_on));
    pool.must(0, add("berta"));
    for at in [1, 2] {
        pool.start(at);
    }
    pool.run(200);
    assert!(pool.all_groups().into_iter().all(|group| pool.leaders(group) == [0]), "at once");
    for at in [1, 2] {
        let alarms = pool.fronts[at].node.as_ref().unwrap().inspect(|core| core.alarms.clone());
        assert!(alarms.iter().any(|(_, text)| text.contains("is void and taken anew")), "{alarms:?}");
    }
    pool.healthy(0);
    pool.kill(0);
    pool.until("the other two go on", |pool| pool.leaders(GroupId::CMS).len() == 1);
    let Reply::Users { users, .. } = pool.must(1, Command::UserList { after: None, limit: 100 }) else {
        panic!("no users")
    };
    assert_eq!(users.len(), 2);
}

#[test]
fn a_crash_before_it_is_on_disk_is_made_up_for_by_the_same_command() {
    let mut pool = lost(Pool::of(3), true);
    pool.begin(0, order(&[], true, true));
    pool.kill(0);
    pool.start(0);
    pool.run(5_000);
    let done = recover(&mut pool, 0, order(&[], true, true));
    assert!(done.groups.iter().all(|group| group.goes_on), "{done:#?}");
    pool.must(0, add("berta"));
}

#[test]
fn the_partner_s_word_is_heard_and_its_surplus_kept() {
    let mut pool = Pool::paired(3);
    pool.must(0, add("anna"));
    pool.run(2_000);
    // Server 0 hears nothing of what the others do, and then they burn.
    let group = pool.group_of("berta");
    for at in [1, 2] {
        pool.cut(0, at);
    }
    pool.run(5_000);
    pool.must(1, add("berta"));
    pool.run(2_000);
    for at in [1, 2] {
        pool.wipe(at);
    }
    pool.run(5_000);
    let plan = recover(&mut pool, 0, order(&[], true, false));
    assert_eq!(plan.groups.len(), 13, "its own, the partner's, and the management store");
    let one = plan.groups.iter().find(|one| one.group == group.to_string()).unwrap();
    assert!(one.better.as_deref().is_some_and(|text| text.contains("pool failover east --disaster")), "{one:#?}");
    let backup = plan.groups.iter().find(|one| one.group == "2/0").unwrap();
    assert!(backup.at_risk.starts_with("nothing: west serves it"), "{backup:#?}");
    let done = recover(&mut pool, 0, order(&[], true, true));
    assert!(done.groups.iter().all(|group| group.goes_on), "{done:#?}");
    pool.run(10_000);
    // What west had beyond is kept there, entry by entry, and can be offered again.
    let list = |apply| Command::PoolDivergence { pool: "west".to_owned(), apply };
    let Reply::Divergence(kept) = pool.must(3, list(false)) else { panic!("no tail") };
    let berta = kept.entries.iter().find(|entry| entry.group == group.to_string() && entry.durable);
    assert!(berta.is_some_and(|entry| entry.outcome == "open"), "{kept:#?}");
    for at in [1, 2] {
        pool.start(at);
    }
    pool.healthy(0);
    let Reply::Verify(view) = pool.must(0, Command::PoolVerify { pool: "east".to_owned() }) else { panic!("no view") };
    assert!(view.unequal.is_empty() && view.equal == view.groups, "{view:?}");
    pool.must(3, list(true));
    let Reply::Users { users, .. } = pool.must(1, Command::UserList { after: None, limit: 100 }) else {
        panic!("no users")
    };
    assert_eq!(users.len(), 2, "and it is in service again");
}
