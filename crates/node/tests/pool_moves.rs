//! Pools whose servers have copies of only some groups, through whole nodes: servers come, go, and lose their disks.
#![allow(clippy::unwrap_used)]

use super::common;

use bytes::Bytes;
use common::lists::{contact, contacts};
use common::phone::{self, Phone};
use common::pool::Pool;
use pairline_group::{GroupId, Position};
use pairline_node::command::{Command, Reply};
use pairline_node::document::Source;
use pairline_node::peer::PeerFrame;
use pairline_sip::auth::{Challenge, answer};
use pairline_sip::header::Name;
use pairline_sip::method::Method;
use pairline_topology::{Topology, stored};

const PASSWORD: &str = "a long password";
const USERS: usize = 10;

fn add_users(pool: &mut Pool) {
    for n in 0..USERS {
        let at = n % pool.fronts.len();
        pool.must(
            at,
            Command::UserAdd {
                user: format!("user{n}"),
                password: PASSWORD.to_owned(),
                display_name: Some(format!("User {n}")),
                pool: None,
            },
        );
    }
}

/// Every user is found, changed and read by its whole record through every server that is up.
fn all_served(pool: &mut Pool, number: usize) {
    let up: Vec<usize> = (0..pool.fronts.len()).filter(|at| pool.fronts[*at].node.is_some()).collect();
    for n in 0..USERS {
        pool.must(up[n % up.len()], contact(n, number));
    }
    for at in &up {
        for n in 0..USERS {
            assert_eq!(contacts(pool, *at, n), number + 1, "user{n} through {at}");
        }
        let Reply::Users { users, .. } = pool.must(*at, Command::UserList { after: None, limit: 100 }) else {
            panic!()
        };
        let names: Vec<&str> = users.iter().filter_map(|user| user.display_name.as_deref()).collect();
        assert_eq!(names.len(), USERS, "through {at}: {names:?}");
    }
}

#[test]
fn in_a_pool_of_five_every_group_is_served_through_every_server() {
    let mut pool = Pool::of(5);
    add_users(&mut pool);
    let view = pool.healthy(4);
    assert_eq!(view.servers.iter().map(|server| server.of_copies).sum::<u32>(), 7 * 3);
    assert!(view.servers.iter().any(|server| server.copies < 7), "not everything is everywhere");
    all_served(&mut pool, 0);
    pool.kill(1);
    pool.run(2_000);
    all_served(&mut pool, 1);
    pool.start(1);
    // What it follows only, the management store, nobody's health waits for.
    pool.run(1_000);
    let view = pool.healthy(0);
    assert!(view.survives.starts_with("any one of"), "{view:?}");
    all_served(&mut pool, 2);
}

#[test]
fn a_server_whose_disk_was_emptied_comes_back_while_changes_go_on() {
    for dies in [0, 2] {
        let mut pool = Pool::of(3);
        add_users(&mut pool);
        all_served(&mut pool, 0);
        pool.run(6_000);
        pool.wipe(dies);
        pool.run(1_500);
        for n in 0..USERS {
            pool.must((dies + 1) % 3, contact(n, 1));
        }
        pool.start(dies);
        for n in 0..USERS {
            pool.must((dies + 2) % 3, contact(n, 2));
        }
        let view = pool.healthy(dies);
        assert!(view.servers.iter().all(|server| server.copies == 7 && server.behind == 0), "{view:?}");
        all_served(&mut pool, 3);
        // It counts again: with one of the others it is a majority, and it has all.
        pool.kill((dies + 1) % 3);
        pool.run(2_000);
        all_served(&mut pool, 4);
    }
}

#[test]
fn two_servers_come_and_one_goes() {
    let mut pool = Pool::of(3);
    add_users(&mut pool);
    all_served(&mut pool, 0);
    let (fourth, fifth) = (pool.add(), pool.add());
    let five = pool.topology();
    pool.publish(1, &five).unwrap();
    for at in [fourth, fifth] {
        pool.start(at);
    }
    for n in 0..USERS {
        pool.must(n % 3, contact(n, 1));
    }
    assert!(pool.health(0).next.iter().any(|line| line.starts_with("copies are on their way: ")), "it is said");
    let view = pool.healthy(0);
    assert!(view.servers[3].copies > 0 && view.servers[4].copies > 0, "{view:?}");
    assert!(view.servers.iter().all(|server| server.copies == server.of_copies), "{view:?}");
    all_served(&mut pool, 2);

    // Not while copies are missing elsewhere.
    pool.kill(3);
    pool.run(1_500);
    let four = pool.without(1);
    assert_eq!(pool.publish(0, &four).unwrap_err().kind, "copies-missing");
    pool.start(3);
    pool.healthy(0);
    pool.publish(0, &four).unwrap();
    // Who is gone from the document is cut off.
    for other in [0, 2, 3, 4] {
        pool.cut(1, other);
    }
    let view = pool.healthy(0);
    assert_eq!(view.servers.len(), 4);
    pool.kill(1);
    all_served(&mut pool, 3);
    // And any one of those that are left may die.
    pool.kill(2);
    pool.run(2_000);
    all_served(&mut pool, 4);
}

#[test]
fn a_dead_server_is_taken_out_and_another_takes_its_place() {
    let mut pool = Pool::of(3);
    add_users(&mut pool);
    all_served(&mut pool, 0);
    pool.kill(2);
    pool.run(2_000);
    let fourth = pool.add();
    let replaced = pool.without(2);
    pool.publish(0, &replaced).unwrap();
    pool.start(fourth);
    let view = pool.healthy(fourth);
    assert_eq!(view.servers.len(), 3);
    all_served(&mut pool, 1);
}

#[test]
fn a_feature_level_that_a_server_does_not_know_is_not_published_by_any() {
    let mut pool = Pool::of(3);
    let mut topology = pool.topology();
    topology.policies.features.level = pairline_node::level::HIGHEST + 1;
    for at in 0..3 {
        let problem = pool.publish(at, &topology).unwrap_err();
        assert_eq!((problem.status, problem.kind.as_str()), (409, "feature-level"), "{problem:?}");
        assert!(["fe1", "fe2", "fe3"].iter().all(|name| problem.detail.contains(name)), "{problem:?}");
    }
    let text = match pool.must(0, Command::TopologyShow) {
        Reply::Text { text } => text,
        other => panic!("{other:?}"),
    };
    assert!(!text.contains("level"), "{text}");
}

#[test]
fn a_server_that_lacks_users_says_of_nobody_that_there_is_no_such_user() {
    let mut pool = phone::pool_with(&["alice"]);
    let mut alice = Phone::udp("alice", 10);
    assert_eq!(alice.register(&mut pool, 0), Some(200));
    // One with an empty disk, and one that was away when a user was added.
    for (wiped, away, user) in [(true, 2, "bob"), (false, 1, "carol")] {
        if wiped {
            pool.wipe(away)
        } else {
            pool.kill(away)
        }
        pool.run(2_000);
        let (name, password) = (user.to_owned(), phone::PASSWORD.to_owned());
        pool.must(0, Command::UserAdd { user: name, password, display_name: None, pool: None });
        pool.start(away);
        let mut news = Phone::udp(user, 11);
        let mut refused = 0;
        let registered = (0..400).any(|_| {
            pool.run(10);
            let statuses = [alice.register(&mut pool, away), news.register(&mut pool, away)];
            assert!(statuses.iter().all(|status| matches!(status, Some(200 | 480 | 500 | 503))), "{statuses:?}");
            refused += usize::from(statuses != [Some(200); 2]);
            statuses == [Some(200); 2]
        });
        assert!(registered, "{user} is served through it after {refused} refusals");
        pool.healthy(0);
    }
    // Who does not exist is told so again, by it as by the others.
    let mut nobody = Phone::udp("nobody", 12);
    let statuses: Vec<_> = (0..3).map(|at| nobody.register(&mut pool, at)).collect();
    assert_eq!(statuses, [Some(401); 3]);
}

#[test]
fn a_server_that_was_let_in_and_has_no_copy_yet_says_of_nobody_that_there_is_no_such_user() {
    let mut pool = phone::pool_with(&["alice"]);
    let mut alice = Phone::udp("alice", 10);
    let fourth = pool.add();
    let four = pool.topology();
    pool.publish(0, &four).unwrap();
    pool.start(fourth);
    let known = |pool: &Pool| {
        let of = |core: &pairline_node::core::Core| {
            (core.host.role(GroupId::CMS).is_some(), core.host.get(GroupId::CMS, &stored::topology_key()).is_some())
        };
        pool.fronts[fourth].node.as_ref().unwrap().inspect(of)
    };
    while known(&pool) == (false, false) {
        pool.run(1);
    }
    // Its number is on its disk, its copy is not; and nobody is there who could give it one.
    (0..=fourth).for_each(|at| pool.kill(at));
    pool.start(fourth);
    // Longer than it takes until what is known here has to do.
    pool.run(8_000);
    assert_eq!(known(&pool), (true, false));
    let status = alice.register(&mut pool, fourth);
    assert!(matches!(status, Some(480 | 500 | 503)), "{status:?}");
}

#[test]
fn a_server_with_an_empty_disk_is_told_of_the_document_by_its_neighbours() {
    let mut pool = Pool::of(3);
    let three = pool.topology();
    let fourth = pool.add();
    let four = pool.topology();
    pool.publish(0, &four).unwrap();
    pool.start(fourth);
    pool.healthy(fourth);
    let leader = pool.leaders(GroupId::CMS)[0];
    let at = (0..3).find(|at| *at != leader).unwrap();
    pool.wipe(at);
    pool.run(1_000);
    // Who could give it a copy of the management store is not there, as if this server did not know of it.
    pool.freeze(leader);
    pool.start_with(at, &three);
    pool.run(100);
    let known = |pool: &Pool| {
        let of = |core: &pairline_node::core::Core| {
            (core.topology.server.len(), core.host.get(GroupId::CMS, &stored::topology_key()).is_some())
        };
        pool.fronts[at].node.as_ref().unwrap().inspect(of)
    };
    assert_eq!(known(&pool), (4, false));
    pool.thaw(leader);
    pool.healthy(at);
    assert_eq!(known(&pool), (4, true));
}

#[test]
fn a_server_that_was_away_while_another_came_is_told_so_by_any_neighbour() {
    let mut pool = Pool::of(3);
    let leader = pool.leaders(GroupId::CMS)[0];
    let [away, other]: [usize; 2] = (0..3).filter(|at| *at != leader).collect::<Vec<_>>().try_into().unwrap();
    pool.cut(away, leader);
    pool.cut(away, other);
    let fourth = pool.add();
    let four = pool.topology();
    pool.publish(leader, &four).unwrap();
    let known = |pool: &Pool| {
        let of = |core: &pairline_node::core::Core| (core.topology.server.len(), core.document);
        pool.fronts[away].node.as_ref().unwrap().inspect(of)
    };
    let (servers, before) = known(&pool);
    assert!(servers == 3 && matches!(before, Source::Stored(_)), "{servers}, {before:?}");
    // Who leads the store stays out of its reach: as if that were the server that came.
    pool.connect(away, other);
    pool.run(100);
    let (servers, told) = known(&pool);
    assert!(servers == 4 && matches!(told, Source::Told(_)), "{servers}, {told:?}");
    pool.connect(away, leader);
    pool.start(fourth);
    pool.healthy(away);
    let (servers, after) = known(&pool);
    assert!(servers == 4 && matches!(after, Source::Stored(_)) && after != before, "{servers}, {after:?}");
}

#[test]
fn a_bound_of_transactions_that_is_published_is_in_force_at_every_server() {
    let mut pool = Pool::of(3);
    pool.healthy(0);
    let mut topology = pool.topology();
    topology.policies.limits.transactions_per_server = 123;
    pool.publish(0, &topology).unwrap();
    pool.run(1_000);
    let most = |at: usize| pool.fronts[at].node.as_ref().unwrap().inspect(|core| core.layer.max_transactions());
    assert_eq!([0, 1, 2].map(most), [123; 3]);
}

#[test]
fn what_a_neighbour_tells_counts_until_the_copy_here_has_come_as_far() {
    let mut pool = phone::pool_with(&["alice"]);
    let leader = pool.leaders(GroupId::CMS)[0];
    let at = (0..3).find(|at| *at != leader).unwrap();
    let known = |pool: &Pool| {
        let of = |core: &pairline_node::core::Core| {
            (core.topology.revision, core.document, core.host.position(GroupId::CMS).unwrap())
        };
        pool.fronts[at].node.as_ref().unwrap().inspect(of)
    };
    let (revision, before, here) = known(&pool);
    let tell = |pool: &mut Pool, value, at_seq| {
        let said = PeerFrame::Document { value, at: Position { seq: at_seq, ..here } }.encode();
        pool.frame(leader, at, said);
    };
    let lost = stored::encode_topology(&Topology { revision: revision + 5, ..pool.topology() });
    // What this copy has come to itself it knows better, and what cannot be read is no document.
    tell(&mut pool, lost.clone(), here.seq);
    tell(&mut pool, Bytes::from_static(b"\xff?"), here.seq + 1);
    assert_eq!(known(&pool), (revision, before, here));
    // It was published in an epoch that did not last: the store comes as far without it.
    tell(&mut pool, lost, here.seq + 2);
    let (told, source, _) = known(&pool);
    assert_eq!((told, source), (revision + 5, Source::Told(Position { seq: here.seq + 2, ..here })));
    for user in ["bob", "carol", "dave"] {
        let (user, password) = (user.to_owned(), PASSWORD.to_owned());
        pool.must(leader, Command::UserAdd { user, password, display_name: None, pool: None });
    }
    pool.run(1_000);
    let (last, source, there) = known(&pool);
    assert!(there.seq >= here.seq + 2);
    assert_eq!((last, source), (revision, before));
}

#[test]
fn a_server_that_was_taken_out_and_comes_back_on_its_old_disk_is_one_of_the_pool_again() {
    let mut pool = Pool::of(4);
    add_users(&mut pool);
    all_served(&mut pool, 0);
    let (four, three) = (pool.topology(), pool.without(3));
    pool.publish(0, &three).unwrap();
    pool.run(1_000);
    pool.kill(3);
    pool.healthy(0);
    for n in 0..USERS {
        pool.must(n % 3, contact(n, 1));
    }
    pool.publish(1, &four).unwrap();
    pool.run(1_000);
    pool.keep_document(0);
    pool.start(3);
    let view = pool.healthy(3);
    assert!(view.servers.iter().all(|server| server.up && server.copies == server.of_copies), "{view:?}");
    all_served(&mut pool, 2);
    // It counts: any other may die.
    pool.kill(0);
    pool.run(2_000);
    all_served(&mut pool, 3);
}

#[test]
fn a_server_that_was_down_applies_no_older_document_than_the_one_it_is_started_with() {
    let mut pool = Pool::of(3);
    add_users(&mut pool);
    pool.kill(2);
    pool.run(2_000);
    let fourth = pool.add();
    let four = pool.topology();
    pool.publish(0, &four).unwrap();
    pool.run(1_000);
    pool.keep_document(0);
    let known = |pool: &Pool| pool.fronts[2].node.as_ref().unwrap().inspect(|core| core.topology.server.len());
    pool.start(2);
    assert_eq!(known(&pool), 4, "its disk has a document of three: it would not be linked with the fourth");
    pool.start(fourth);
    pool.healthy(2);
    assert_eq!(known(&pool), 4);
    all_served(&mut pool, 0);
}

/// A REGISTER with the right password that answers a challenge met before, with this count of its nonce.
fn register_with(phone: &mut Phone, challenge: &[u8], count: u32) -> Bytes {
    let challenge = Challenge::parse(challenge).unwrap();
    let value = answer(&challenge, phone.user, phone::PASSWORD, "REGISTER", "sip:pairline.test", "cn", count);
    let user = phone.user;
    phone.request(&Method::Register, user, &[("Expires", "600"), ("Authorization", &value)])
}

#[test]
fn a_server_that_cannot_read_a_password_does_not_say_that_it_is_wrong() {
    let mut pool = phone::pool_with(&["alice", "bob"]);
    let mut phones = [Phone::udp("alice", 10), Phone::udp("bob", 11)];
    let challenged = phones.each_mut().map(|phone| {
        let first = phone.request(&Method::Register, phone.user, &[("Expires", "600")]);
        phone.answer(&mut pool, 0, first).header(Name::WwwAuthenticate).unwrap().to_vec()
    });
    pool.wipe(2);
    pool.run(2_000);
    // The others stand still: they are linked, and nobody says who leads, or who there is.
    (0..2).for_each(|at| pool.freeze(at));
    pool.start(2);
    for (phone, challenge) in phones.iter_mut().zip(&challenged) {
        let message = register_with(phone, challenge, 1);
        let refused = phone.answer(&mut pool, 2, message);
        assert_eq!(refused.status(), Some(500), "not 401, which a telephone takes for a wrong password");
        assert!(refused.header(Name::RetryAfter).is_some());
    }
    (0..2).for_each(|at| pool.thaw(at));
    pool.healthy(2);
    for (phone, challenge) in phones.iter_mut().zip(&challenged) {
        let message = register_with(phone, challenge, 2);
        assert_eq!(phone.answer(&mut pool, 2, message).status(), Some(200));
    }
}
