//! Pools of two servers and a witness, through whole nodes: any one of the three may fail, and the witness holds and serves nothing.
#![allow(clippy::unwrap_used)]

use super::common;

use common::lists::{contact, contacts};
use common::pool::{POOL, Pool, WEST};
use pairline_group::ServerId;
use pairline_node::command::{Command, Reply};
use pairline_topology::{ServerRole, Topology};

/// The last of three.
const WITNESS: usize = 2;
const USERS: usize = 8;

fn add_users(pool: &mut Pool) {
    for n in 0..USERS {
        let (user, password) = (format!("user{n}"), "a long password".to_owned());
        pool.must(n % 2, Command::UserAdd { user, password, display_name: None, pool: Some("east".to_owned()) });
    }
}

/// A change of every user, through the Front Ends that are up.
fn change(pool: &mut Pool, number: usize) {
    let up: Vec<usize> = (0..2).filter(|at| pool.fronts[*at].node.is_some()).collect();
    for n in 0..USERS {
        pool.must(up[n % up.len()], contact(n, number));
    }
}

/// Nothing of any group is at the witness, and it leads none.
fn assert_bare(pool: &Pool, at: usize) {
    let groups = pool.all_groups();
    let node = pool.fronts[at].node.as_ref().unwrap();
    for group in groups {
        let records = node.inspect(|core| core.host.scan_all(group).count());
        let leads = node.inspect(|core| core.host.leads(group));
        assert_eq!((records, leads), (0, false), "{group}");
    }
}

#[test]
fn any_one_of_the_three_may_fail() {
    let mut pool = Pool::witnessed();
    add_users(&mut pool);
    assert_eq!(pool.healthy(0).survives, "any one of fe1, fe2, witness may fail now");
    for (number, gone) in [1, WITNESS, 0].into_iter().enumerate() {
        pool.kill(gone);
        pool.run(1_000);
        change(&mut pool, number);
        let left = usize::from(gone == 0);
        let view = pool.health(left);
        assert_eq!(view.state, "degraded", "without {gone}: {view:?}");
        assert!(view.survives.contains("have two of three votes"), "{}", view.survives);
        pool.start(gone);
        pool.healthy(left);
        for at in 0..2 {
            for n in 0..USERS {
                assert_eq!(contacts(&mut pool, at, n), number + 1, "user{n} at {at}");
            }
        }
        assert_bare(&pool, WITNESS);
    }
}

#[test]
fn without_the_witness_and_one_front_end_changes_are_refused_and_it_is_said_why() {
    let mut pool = Pool::witnessed();
    add_users(&mut pool);
    pool.kill(WITNESS);
    pool.kill(1);
    pool.run(6_000);
    let problem = pool.ask(0, contact(0, 0)).unwrap_err();
    assert!(!problem.remedy.is_empty(), "{problem:?}");
    let view = pool.health(0);
    assert_eq!(view.state, "no-majority");
    assert!(view.next[0].starts_with("bring fe2 or witness back"), "{:?}", view.next);
    pool.start(WITNESS);
    pool.run(3_000);
    change(&mut pool, 0);
}

#[test]
fn a_witness_holds_nothing_and_says_who_serves() {
    let mut pool = Pool::witnessed();
    add_users(&mut pool);
    assert_bare(&pool, WITNESS);
    for command in [contact(0, 0), Command::UserList { after: None, limit: 10 }, Command::PoolStatus] {
        let problem = pool.ask(WITNESS, command).unwrap_err();
        assert_eq!(problem.kind, "witness");
        assert!(problem.remedy.contains("fe1.east.pairline.test or fe2.east.pairline.test"), "{problem:?}");
    }
    let view = pool.health(WITNESS);
    assert_eq!((view.state.as_str(), view.servers[WITNESS].witness), ("healthy", true));
    let Reply::Status(status) = pool.must(WITNESS, Command::ServerStatus) else { panic!() };
    assert!(status.healthy);
}

#[test]
fn a_front_end_is_drained_and_the_other_leads_everything() {
    let mut pool = Pool::witnessed();
    pool.healthy(0);
    pool.must(0, common::phone::drain(0));
    assert!(pool.all_groups().iter().all(|group| pool.leaders(*group) == [1]));
    pool.kill(WITNESS);
    pool.run(2_000);
    pool.must(0, Command::ServerUndrain { server: "fe1.east.pairline.test".into() });
    let problem = pool.ask(0, common::phone::drain(0)).unwrap_err();
    assert!(problem.detail.contains("witness.east.pairline.test does not answer"), "{problem:?}");
}

fn revision(pool: &Pool, at: usize) -> u64 {
    pool.fronts[at].node.as_ref().unwrap().inspect(|core| core.topology.revision)
}

#[test]
fn the_front_ends_tell_their_witness_of_a_new_document() {
    let mut pool = Pool::witnessed();
    let mut document = pool.topology();
    for at in 0..2 {
        document.policies.registration.max_contacts = 7 + u16::try_from(at).unwrap();
        pool.publish(at, &document).unwrap();
        pool.run(1_000);
        assert_eq!(revision(&pool, WITNESS), revision(&pool, at));
    }
    // One that was away hears of it when it is there again, though its own text is older.
    pool.kill(WITNESS);
    document.policies.registration.max_contacts = 20;
    pool.publish(0, &document).unwrap();
    pool.start(WITNESS);
    pool.run(1_000);
    assert_eq!(revision(&pool, WITNESS), revision(&pool, 0));
}

#[test]
fn a_pool_of_two_gets_a_witness_and_later_a_third_front_end_in_its_place() {
    let mut pool = Pool::of(2);
    add_users(&mut pool);
    let witness = pool.add();
    pool.change(|topology| {
        let server = &mut topology.server[witness];
        (server.role, server.dns) = (ServerRole::Witness, None);
        server.name = "witness.east.pairline.test".to_owned();
        server.listener.clear();
    });
    pool.publish(0, &pool.topology()).unwrap();
    pool.start(witness);
    assert_eq!(pool.healthy(0).survives, "any one of fe1, fe2, witness may fail now");
    assert_bare(&pool, witness);
    pool.kill(1);
    pool.run(1_000);
    change(&mut pool, 0);
    pool.start(1);
    pool.healthy(0);

    let third = pool.add();
    let grown: Topology = pool.without(witness);
    assert_eq!(grown.server[2].id, ServerId(4));
    pool.publish(0, &grown).unwrap();
    pool.start_with(third, &grown);
    let view = pool.healthy(0);
    assert_eq!((view.servers.len(), view.survives.as_str()), (3, "any one of fe1, fe2, fe4 may fail now"));
    pool.until("the witness lets go of everything", |pool| {
        pool.fronts[witness].node.as_ref().unwrap().inspect(|core| core.host.groups().is_empty())
    });
    pool.kill(witness);
    change(&mut pool, 1);
    for n in 0..USERS {
        assert_eq!(contacts(&mut pool, third, n), 2, "user{n}");
    }
}

#[test]
fn in_a_pair_each_pool_bears_the_loss_of_one_and_goes_on_shipping() {
    let mut pair = Pool::paired_with_witnesses();
    add_users(&mut pair);
    pair.kill(1);
    pair.kill(2);
    pair.run(2_000);
    for n in 0..USERS {
        pair.must(0, contact(n, 0));
    }
    pair.run(3_000);
    for group in pair.all_groups() {
        let led = pair.led(group);
        let places: Vec<usize> = led.iter().map(|(at, _)| *at).collect();
        assert_eq!(places, [0, 3], "{group}");
        assert_eq!(led[0].1.position, led[1].1.position, "{group}: the backup has everything");
    }
    for witness in [4, 5] {
        assert_bare(&pair, witness);
    }
    // East's site is lost, and west takes its users with one Front End and its witness.
    [0, 4].into_iter().for_each(|at| pair.kill(at));
    pair.run(4_000);
    let command = Command::PoolFailover {
        pool: "east".to_owned(),
        disaster: true,
        dry_run: false,
        force: false,
        confirm: Some("yes".to_owned()),
        reason: None,
    };
    pair.must(3, command);
    let east = pair.topology().groups_of(POOL);
    assert!(pair.serves(WEST, &east));
    for n in 0..USERS {
        pair.must(3, contact(n, 1));
        assert_eq!(contacts(&mut pair, 3, n), 2);
    }
}
