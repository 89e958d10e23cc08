//! Pools that come to be paired, part, and ask each other after a start.

use super::common;

use bytes::Bytes;
use common::{Disk, EAST, GROUP, WEST, World, committed, config, put, refusal};
use pairline_group::codec::{SeedChunk, SeedOffer, encode_entry};
use pairline_group::frame::{self, Frame};
use pairline_group::io::{Alarm, Lag, Proposal, Refusal, Role};
use pairline_group::{Body, ChainHash, Class, Effect, Entry, GroupId, HostInput, Key, Kind, Position, Record};
use std::sync::Arc;

fn cms_put(world: &mut World, at: usize, name: &str) {
    let ticket = world.ticket();
    let proposal = Proposal { writes: vec![put(name, "x")], ..Proposal::default() };
    world.input(at, HostInput::Propose { ticket, group: GroupId::CMS, proposal });
    world.settle();
    committed(world.servers[at].done.get(&ticket).expect("an answer"));
}

fn apart(world: &mut World) {
    for at in [EAST, WEST] {
        let other = world.servers[1 - at].cfg.pool;
        world.input(at, HostInput::Pair { partner: Some((other, 0)), with_cms: true });
    }
    world.settle();
}

/// A pair whose west has got a part of its first seed.
fn half_seeded() -> World {
    let mut east = config(1);
    east.limits.history_entries = 4;
    east.limits.seed_chunk = 2_048;
    let mut world = World::apart(east, config(2));
    for n in 0..300 {
        committed(&world.commit(EAST, vec![put(&format!("user{n}"), "value")]));
    }
    world.run(100);
    world.pair();
    world.connect();
    let mut looks = 0;
    while world.status(WEST).seed.is_none_or(|(got, _)| got < 50) {
        world.step_frames(1);
        looks += 1;
        assert!(looks < 5_000, "no seed: {:?}", world.status(WEST));
    }
    world
}

#[test]
fn a_new_pair_is_confirmed_by_the_empty_copy_of_its_partner() {
    let mut world = World::paired();
    assert!(world.host(EAST).can_commit(GROUP) && world.host(EAST).can_commit(GroupId::CMS));
    committed(&world.commit(EAST, vec![put("a", "1")]));
    world.assert_equal();
}

#[test]
fn a_wiped_disk_serves_nothing_before_its_partner_has_spoken() {
    let mut world = World::paired();
    committed(&world.commit(EAST, vec![put("a", "1")]));
    cms_put(&mut world, EAST, "topology");
    world.settle();
    world.crash(EAST, 0);
    world.servers[EAST].disk = Disk::default();
    world.restart(EAST);
    world.run(10_000);
    assert!(!world.host(EAST).can_commit(GROUP) && !world.host(EAST).can_commit(GroupId::CMS));
    assert!(matches!(refusal(&world.commit(EAST, vec![put("b", "2")])), Refusal::Unconfirmed));
    world.connect();
    world.run(3_000);
    assert!(world.host(EAST).can_commit(GROUP) && world.host(EAST).can_commit(GroupId::CMS));
    assert_eq!(world.value(EAST, "a").as_deref(), Some("1"));
    assert!(world.host(EAST).get(GroupId::CMS, &common::key("topology")).is_some());
    assert!(!world.servers[EAST].alarms.iter().any(|alarm| matches!(alarm, Alarm::ChainBroken { .. })));
    world.assert_equal();
}

#[test]
fn pools_that_part_drop_each_others_copies_and_still_share_the_management_store() {
    let mut world = World::paired();
    committed(&world.commit(EAST, vec![put("a", "1")]));
    world.settle();
    apart(&mut world);
    assert_eq!(world.servers[WEST].forgotten, vec![GROUP]);
    assert_eq!(world.host(WEST).role(GROUP), None);
    assert_eq!(world.host(EAST).role(GROUP), Some(Role::Active));
    cms_put(&mut world, EAST, "published");
    world.run(500);
    assert!(world.host(WEST).get(GroupId::CMS, &common::key("published")).is_some(), "the follower does not follow");
    for n in 0..50 {
        committed(&world.commit(EAST, vec![put(&format!("u{n}"), "x")]));
    }
    world.run(1_000);
    assert_eq!(world.status(EAST).lag, Lag::Unknown, "nobody is behind where nobody follows");
    world.pair();
    world.run(3_000);
    assert_eq!(world.value(WEST, "u49").as_deref(), Some("x"));
    world.assert_equal();
}

#[test]
fn a_pool_without_a_partner_serves_from_its_own_disk_after_a_restart() {
    let mut world = World::paired();
    committed(&world.commit(EAST, vec![put("a", "1")]));
    apart(&mut world);
    world.crash(EAST, 0);
    world.servers[EAST].cfg.others = pairline_group::Others::Followers;
    world.restart(EAST);
    let other = world.servers[WEST].cfg.pool;
    world.input(EAST, HostInput::Pair { partner: Some((other, 0)), with_cms: true });
    world.settle();
    assert!(world.host(EAST).can_commit(GROUP) && world.host(EAST).can_commit(GroupId::CMS));
    assert_eq!(world.value(EAST, "a").as_deref(), Some("1"));
}

#[test]
fn the_lag_counts_time_in_which_the_host_heard_nothing() {
    let mut world = World::paired();
    committed(&world.commit(EAST, vec![put("a", "1")]));
    world.run(1_000);
    world.cut();
    world.run(5_000);
    world.now += 12_000;
    let now = world.clock(WEST);
    world.servers[WEST].host.as_mut().expect("up").observe(now);
    assert!(matches!(world.status(WEST).lag, Lag::AtMost(lag) if lag >= 17_000), "{:?}", world.status(WEST).lag);
}

#[test]
fn a_canary_of_another_branch_says_nothing_of_the_lag() {
    let mut world = World::paired();
    committed(&world.commit(EAST, vec![put("a", "1")]));
    let old = world.servers[EAST].disk.clone();
    for n in 0..10 {
        committed(&world.commit(EAST, vec![put("a", &n.to_string())]));
    }
    world.settle();
    world.crash(EAST, 0);
    world.servers[EAST].disk = old;
    world.restart(EAST);
    world.input(EAST, HostInput::AssertActive);
    world.settle();
    committed(&world.commit(EAST, vec![put("a", "other")]));
    world.connect();
    world.run(5_000);
    assert_eq!(world.status(WEST).lag, Lag::Unknown);
}

#[test]
fn an_answer_to_a_question_of_another_process_says_nothing_of_the_lag() {
    let mut world = World::paired();
    world.run(1_000);
    world.cut();
    world.connect();
    world.delay = true;
    world.run(4_000);
    let before = world.status(WEST).lag;
    world.forge(WEST, Frame::Canary { echo: 1 << 60, wall: world.clock(EAST).wall, groups: Vec::new() });
    assert_eq!(world.status(WEST).lag, before);
}

#[test]
fn a_seed_swapped_in_while_a_checkpoint_is_written_survives_a_crash() {
    let mut world = half_seeded();
    world.servers[WEST].hold_checkpoints = true;
    world.input(WEST, HostInput::Checkpoint { id: 1 });
    world.run(1_000);
    assert_eq!(world.servers[WEST].held, vec![1], "the checkpoint was taken in the middle of the seed");
    let there = world.status(WEST).position;
    assert!(there.seq >= 300);
    world.input(WEST, HostInput::CheckpointDone { id: 1 });
    world.settle();
    world.crash(WEST, 0);
    world.restart(WEST);
    assert_eq!(world.status(WEST).position, there, "the backup moved backwards");
    world.connect();
    committed(&world.commit(EAST, vec![put("later", "1")]));
    world.run(1_000);
    world.assert_equal();
}

#[test]
fn entries_behind_a_seed_that_failed_do_not_stop_the_group() {
    let mut world = World::paired();
    committed(&world.commit(EAST, vec![put("a", "1")]));
    world.settle();
    let (link, here) = (world.link.expect("a link"), world.status(WEST).position);
    let position = Position { seq: here.seq + 5, ..here };
    let chain = ChainHash([3; 32]);
    let offer = SeedOffer {
        seed: 5,
        position,
        chain,
        time: 1,
        lineage: world.host(WEST).lineage(GROUP).to_vec(),
        ranges: vec![[0; 32]; 256],
        dedup: Default::default(),
        steps: Default::default(),
        records: 0,
    };
    let entry = Entry {
        position: Position { seq: position.seq + 1, ..position },
        prev: chain,
        time: 2,
        op: None,
        step: None,
        body: Body::Effects(Vec::new()),
    };
    for frame in [
        Frame::SeedOffer { group: GROUP, offer: Arc::new(offer) },
        Frame::SeedEnd { group: GROUP, seed: 5, position, digest: [9; 32] },
        Frame::Entries { group: GROUP, entries: vec![encode_entry(&entry)] },
    ] {
        world.input(WEST, HostInput::Frame { link, frame });
    }
    world.run(5_000);
    assert_eq!(world.status(WEST).stopped, None);
    committed(&world.commit(EAST, vec![put("b", "2")]));
    world.run(5_000);
    assert_eq!(world.value(WEST, "b").as_deref(), Some("2"));
    world.assert_equal();
}

#[test]
fn what_cannot_be_stored_is_refused_at_the_door() {
    let long = Key::new(&"u".repeat(600), Kind(7), b"");
    let at = Position::default();
    let record = Record { version: at, class: Class::Durable, value: Bytes::from_static(b"x") };
    let chunk = |records| Frame::SeedChunk { group: GROUP, chunk: Arc::new(SeedChunk { seed: 1, number: 0, records }) };
    assert!(frame::decode(&frame::encode(&chunk(vec![(long.clone(), record.clone())]))).is_err());
    let heavy = Record { value: Bytes::from(vec![0; 5 << 20]), ..record };
    let twice = vec![(common::key("a"), heavy.clone()), (common::key("b"), heavy.clone())];
    assert!(frame::decode(&frame::encode(&chunk(twice))).is_err());
    assert!(frame::decode(&frame::encode(&chunk(vec![(common::key("a"), heavy)]))).is_ok());

    let mut world = World::paired();
    let (last, prev) = world.acks[WEST].expect("an acknowledgement");
    let effect = Effect::Put { key: long, based_on: None, class: Class::Durable, value: Bytes::from_static(b"x") };
    let entry = Entry {
        position: Position { seq: last.seq + 1, ..last },
        prev,
        time: world.clock(EAST).wall,
        op: None,
        step: None,
        body: Body::Effects(vec![effect]),
    };
    let before = world.status(WEST).position;
    world.forge(WEST, Frame::Entries { group: GROUP, entries: vec![encode_entry(&entry)] });
    assert_eq!(world.status(WEST).position, before);
}

#[test]
fn a_seed_that_its_source_does_not_go_on_with_is_given_up() {
    let mut world = half_seeded();
    world.crash(EAST, 0);
    // Its log still has every entry, so it needs no seed after the restart.
    world.servers[EAST].cfg.limits.history_entries = 4_000;
    world.run(1_000);
    world.restart(EAST);
    world.input(EAST, HostInput::AssertActive);
    world.connect();
    world.run(10_000);
    assert_eq!(world.status(WEST).seed, None);
    world.assert_equal();
}

#[test]
fn a_wiped_disk_takes_over_a_group_that_holds_nothing_but_its_opening() {
    let mut world = World::paired();
    world.crash(EAST, 0);
    world.servers[EAST].disk = Disk::default();
    world.run(1_000);
    for _ in 0..2 {
        // Once more before it has met its partner: the opening stays provisional.
        world.restart(EAST);
        world.run(1_000);
        world.crash(EAST, 0);
    }
    world.restart(EAST);
    world.connect();
    world.run(5_000);
    assert!(world.host(EAST).can_commit(GROUP));
    world.assert_equal();
    world.crash(EAST, 0);
    world.restart(EAST);
    world.connect();
    world.run(2_000);
    committed(&world.commit(EAST, vec![put("a", "1")]));
    world.run(500);
    world.assert_equal();
}

#[test]
fn pools_that_are_paired_again_ask_each_other_who_serves() {
    let mut world = World::paired();
    committed(&world.commit(EAST, vec![put("a", "1")]));
    world.settle();
    world.cut();
    let other = world.servers[WEST].cfg.pool;
    // East has parted on a branch that west never heard of, and west was promoted.
    world.input(EAST, HostInput::Pair { partner: Some((other, 0)), with_cms: true });
    world.settle();
    committed(&world.promote(WEST, 7));
    world.connect();
    world.run(1_000);
    world.input(EAST, HostInput::Pair { partner: Some((other, 1)), with_cms: true });
    world.run(3_000);
    assert_ne!(world.host(EAST).role(GROUP), Some(Role::Active), "two pools serve one group");
    world.assert_equal();
}
