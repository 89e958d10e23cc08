//! Random proposals against a plain map: what is committed is what the map holds, on the source, after a restart, and on the
//! backup.

use super::common;

use bytes::Bytes;
use common::{EAST, GROUP, WEST, World, config, key};
use pairline_group::io::{Done, Proposal, Refusal, Write, WriteClass};
use pairline_group::{HostInput, Millis, Position, Record};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Op {
    Put { name: u8, value: u8, lives: Option<u16>, guarded: bool, stale: bool },
    Delete { name: u8 },
    Wait { steps: u8 },
    Checkpoint,
    Restart,
    Sync { on: bool },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let one = prop_oneof![
        8 => (0..12_u8, any::<u8>(), proptest::option::of(50..3000_u16), any::<bool>(), any::<bool>())
            .prop_map(|(name, value, lives, guarded, stale)| Op::Put { name, value, lives, guarded, stale }),
        3 => (0..12_u8).prop_map(|name| Op::Delete { name }),
        2 => (1..20_u8).prop_map(|steps| Op::Wait { steps }),
        1 => Just(Op::Checkpoint),
        1 => Just(Op::Restart),
        1 => any::<bool>().prop_map(|on| Op::Sync { on }),
    ];
    proptest::collection::vec(one, 1..60)
}

type Model = BTreeMap<String, (Bytes, Option<Millis>)>;

fn alive(model: &Model, time: Millis) -> BTreeMap<String, Bytes> {
    model
        .iter()
        .filter(|(_, (_, expires))| expires.is_none_or(|at| time < at))
        .map(|(name, (value, _))| (name.clone(), value.clone()))
        .collect()
}

fn held(world: &World, at: usize) -> BTreeMap<String, Bytes> {
    let all = world.host(at).scan_all(GROUP);
    all.map(|(key, record): (_, &Record)| (key.owner.to_string(), record.value.clone())).collect()
}

fn propose(world: &mut World, model: &mut Model, op: &Op) {
    let (name, write, guard) = match op {
        Op::Put { name, value, lives, guarded, stale } => {
            let name = format!("n{name}");
            let class = lives.map_or(WriteClass::Durable, |lives| WriteClass::Soft { lives: u64::from(lives) });
            let write = Write::Put { key: key(&name), class, value: Bytes::copy_from_slice(&[*value]) };
            (name, write, guarded.then_some(*stale))
        }
        Op::Delete { name } => {
            let name = format!("n{name}");
            let write = Write::Delete { key: key(&name) };
            (name, write, None)
        }
        _ => return,
    };
    let mut proposal = Proposal { writes: vec![write.clone()], ..Proposal::default() };
    let version = world.host(EAST).get(GROUP, &key(&name)).map(|record| record.version);
    if let Some(stale) = guard {
        let wrong = Position { seq: 999_999, ..Position::default() };
        proposal.reads.push((key(&name), if stale { Some(wrong) } else { version }));
    }
    match (world.answer(EAST, proposal), guard) {
        (Done::Refused(Refusal::Conflict(_)), Some(true)) => {}
        (Done::Committed(_), None | Some(false)) => {
            let time = world.host(EAST).group_time(GROUP);
            match write {
                Write::Put { class: WriteClass::Soft { lives }, value, .. } => {
                    model.insert(name, (value, Some(time + lives)));
                }
                Write::Put { value, .. } => {
                    model.insert(name, (value, None));
                }
                Write::Delete { .. } => {
                    model.remove(&name);
                }
            }
        }
        (Done::NoChange(_), None) => assert!(version.is_none()),
        (other, _) => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_group_is_a_map_with_expiries(ops in ops()) {
        let mut world = World::apart(config(1), config(2));
        world.pair();
        world.connect();
        world.run(300);
        let mut model = Model::new();
        for (n, op) in (1_u64..).zip(&ops) {
            match op {
                Op::Put { .. } | Op::Delete { .. } => propose(&mut world, &mut model, op),
                Op::Wait { steps } => world.run(50 * u64::from(*steps)),
                Op::Checkpoint => world.checkpoint(EAST, n),
                Op::Restart => {
                    world.crash(EAST, 0);
                    world.restart(EAST);
                    world.connect();
                    world.run(300);
                }
                Op::Sync { on } => {
                    world.servers[WEST].auto_sync = *on;
                    world.sync(WEST);
                }
            }
            world.input(EAST, HostInput::Tick);
            let time = world.host(EAST).group_time(GROUP);
            prop_assert_eq!(held(&world, EAST), alive(&model, time));
        }
        world.servers[WEST].auto_sync = true;
        world.sync(WEST);
        world.run(3000);
        world.assert_equal();
        let time = world.host(EAST).group_time(GROUP);
        prop_assert_eq!(held(&world, EAST), alive(&model, time));
        prop_assert!(world.servers.iter().all(|server| server.alarms.is_empty()));
    }

    #[test]
    fn no_bytes_make_decoding_fail_badly(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = pairline_group::frame::decode(&bytes);
        let mut ours = vec![1_u8];
        ours.extend_from_slice(&bytes);
        if let Ok(frame) = pairline_group::frame::decode(&ours) {
            let again = pairline_group::frame::decode(&pairline_group::frame::encode(&frame));
            prop_assert_eq!(again, Ok(frame));
        }
        let _ = pairline_group::codec::decode_entry(&ours);
    }

    #[test]
    fn no_frame_from_the_partner_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), tag in 0..16_u8) {
        let mut world = World::paired();
        let mut ours = vec![1_u8, tag];
        ours.extend_from_slice(&bytes);
        if let (Ok(frame), Some(link)) = (pairline_group::frame::decode(&ours), world.link) {
            world.input(WEST, HostInput::Frame { link, frame: frame.clone() });
            world.input(EAST, HostInput::Frame { link, frame });
            world.run(200);
        }
        prop_assert!(world.host(EAST).group(GROUP).is_some());
    }
}
