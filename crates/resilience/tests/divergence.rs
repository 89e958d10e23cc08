//! The rule for divergent tails: dry run and live run agree, and each case of DESIGN §7.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::*;
use pairline_group::io::Write;
use pairline_group::{Body, ChainHash, Class, Effect, Entry, Key, Kind, OpId, Position};
use pairline_resilience::{Lookup, Progress, TailVerdict, decide, decide_all};
use std::collections::BTreeMap;

const SOFT: Kind = Kind(900);

#[derive(Default)]
struct State {
    versions: BTreeMap<Key, Position>,
    ops: BTreeMap<OpId, Position>,
}

impl Lookup for State {
    fn applied(&self, op: &OpId) -> Option<Position> {
        self.ops.get(op).copied()
    }
    fn version(&self, key: &Key) -> Option<Position> {
        self.versions.get(key).copied()
    }
    fn is_soft(&self, kind: Kind) -> bool {
        kind == SOFT
    }
}

/// Shared history, the tail's epoch, the winning epoch.
fn old(seq: u64) -> Position {
    Position { epoch: epoch(1, EAST), seq }
}
fn won(seq: u64) -> Position {
    Position { epoch: epoch(2, WEST), seq }
}
fn key(name: &str) -> Key {
    Key::new(name, Kind(200), b"")
}
fn op(counter: u64) -> OpId {
    OpId { session: 1, counter }
}
fn put(name: &str, based_on: Option<Position>) -> Effect {
    Effect::Put { key: key(name), based_on, class: Class::Durable, value: Bytes::from_static(b"\x01v") }
}
fn entry(seq: u64, body: Body) -> Entry {
    Entry { position: old(seq), prev: ChainHash::default(), time: 0, op: Some(op(seq)), step: None, body }
}
fn effects(seq: u64, effects: Vec<Effect>) -> Entry {
    entry(seq, Body::Effects(effects))
}
fn state(versions: &[(&str, Position)]) -> State {
    State { versions: versions.iter().map(|(n, p)| (key(n), *p)).collect(), ops: BTreeMap::new() }
}

#[test]
fn untouched_records_are_applied_whole() {
    let s = state(&[("a", old(3))]);
    let e = effects(11, vec![put("a", Some(old(3))), put("b", None)]);
    let TailVerdict::Apply(p) = decide(&e, &mut Progress::new(), &s).verdict else { panic!() };
    assert_eq!(p.op, Some(op(11)), "with its operation id");
    assert_eq!(p.reads, vec![(key("a"), Some(old(3))), (key("b"), None)]);
    assert_eq!(p.writes.len(), 2);
}

#[test]
fn an_operation_that_was_applied_is_skipped_and_its_twin_carries_on() {
    let mut s = state(&[("a", won(12))]);
    s.ops.insert(op(11), won(12));
    let tail = [effects(11, vec![put("a", None)]), effects(12, vec![put("a", Some(old(11)))])];
    let all = decide_all(&tail, &s);
    assert_eq!(all.items[0].verdict, TailVerdict::Skip { at: won(12) });
    let TailVerdict::Apply(p) = &all.items[1].verdict else { panic!("{:?}", all.items[1]) };
    assert_eq!(p.reads, vec![(key("a"), Some(won(12)))]);
    // The twin has been overwritten since: a conflict.
    s.versions.insert(key("a"), won(13));
    assert!(matches!(decide_all(&tail, &s).items[1].verdict, TailVerdict::Conflict(_)));
}

#[test]
fn one_changed_record_makes_the_whole_entry_a_conflict() {
    let s = state(&[("a", won(20)), ("b", old(2))]);
    let e = effects(11, vec![put("a", Some(old(3))), put("b", Some(old(2)))]);
    let TailVerdict::Conflict(list) = decide(&e, &mut Progress::new(), &s).verdict else { panic!() };
    assert_eq!(list.len(), 1);
    assert_eq!((list[0].based_on, list[0].now), (Some(old(3)), Some(won(20))));
    let gone = state(&[("b", old(2))]);
    assert!(matches!(decide(&e, &mut Progress::new(), &gone).verdict, TailVerdict::Conflict(_)));
    let delete = effects(12, vec![Effect::Delete { key: key("a"), based_on: Some(old(3)) }]);
    assert!(matches!(decide(&delete, &mut Progress::new(), &s).verdict, TailVerdict::Conflict(_)));
}

#[test]
fn what_builds_on_a_conflict_is_a_conflict() {
    let s = state(&[("a", won(20))]);
    let tail = [
        effects(11, vec![put("a", Some(old(3)))]),
        effects(12, vec![put("a", Some(old(11)))]),
        effects(13, vec![put("c", None)]),
        effects(14, vec![put("c", Some(old(13)))]),
        effects(15, vec![Effect::Delete { key: key("c"), based_on: Some(old(14)) }]),
        effects(16, vec![put("c", None)]),
    ];
    assert_eq!(decide_all(&tail, &s).counts(), (0, 4, 2, 0));
}

#[test]
fn soft_effects_are_listed_and_discarded() {
    let soft = Key::new("u", SOFT, b"1");
    let binding =
        Effect::Put { key: soft.clone(), based_on: None, class: Class::Soft { expires: 9 }, value: Bytes::new() };
    let gone = Effect::Delete { key: soft.clone(), based_on: Some(old(1)) };
    let tail = [
        effects(11, vec![binding.clone()]),
        effects(12, vec![gone, put("a", None)]),
        entry(13, Body::Expire(vec![soft.clone()])),
        entry(14, Body::Open { pool: EAST }),
    ];
    let all = decide_all(&tail, &State::default());
    assert_eq!(all.counts(), (0, 1, 0, 3));
    assert_eq!(all.items[0].soft, vec![soft.clone()]);
    assert_eq!(all.items[2].soft, vec![soft.clone()]);
    let TailVerdict::Apply(p) = &all.items[1].verdict else { panic!() };
    assert!(p.writes.iter().all(|w| matches!(w, Write::Put { key: k, .. } if *k == key("a"))));
}

/// A live run commits what is decided one by one; it must decide as the dry run did.
#[test]
fn a_live_run_decides_as_the_dry_run_did() {
    let tail = [
        effects(11, vec![put("a", Some(old(3)))]),
        effects(12, vec![put("a", Some(old(11))), put("b", None)]),
        effects(13, vec![put("x", Some(old(5)))]),
        effects(14, vec![Effect::Delete { key: key("b"), based_on: Some(old(12)) }]),
        effects(15, vec![put("b", None)]),
        effects(16, vec![put("x", Some(old(13)))]),
    ];
    let start = || state(&[("a", old(3)), ("x", won(7))]);
    let dry: Vec<bool> =
        decide_all(&tail, &start()).items.iter().map(|i| matches!(i.verdict, TailVerdict::Apply(_))).collect();
    assert_eq!(dry, [true, true, false, true, true, false]);
    let (mut live, mut progress, mut seq) = (start(), Progress::new(), 100);
    for (e, expected) in tail.iter().zip(dry) {
        let item = decide(e, &mut progress, &live);
        let TailVerdict::Apply(p) = item.verdict else {
            assert!(!expected, "{:?}", item.position);
            continue;
        };
        assert!(expected);
        seq += 1;
        for (k, version) in &p.reads {
            assert_eq!(live.version(k), *version, "the proposal's reads hold");
        }
        for write in &p.writes {
            match write {
                Write::Put { key, .. } => live.versions.insert(key.clone(), won(seq)),
                Write::Delete { key } => live.versions.remove(key),
            };
        }
        live.ops.insert(p.op.unwrap(), won(seq));
        progress.committed(e.position, won(seq));
    }
    // A second application of the same tail skips everything that was applied.
    let mut again = Progress::new();
    let second: Vec<_> = tail.iter().map(|e| decide(e, &mut again, &live).verdict).collect();
    assert!(second.iter().all(|v| matches!(v, TailVerdict::Skip { .. } | TailVerdict::Conflict(_))), "{second:?}");
}
