//! The rule for divergent tails: dry run and live run agree, and each case of DESIGN §7.
#![allow(clippy::unwrap_used)]

use super::common;

use bytes::Bytes;
use common::*;
use pairline_group::io::Write;
use pairline_group::tail::Resolution;
use pairline_group::{Body, ChainHash, Class, Effect, Entry, Key, Kind, OpId, Position};
use pairline_resilience::journal::{KIND_LOCK, KIND_PROCEDURE};
use pairline_resilience::{Applied, Lookup, Progress, TailVerdict, decide, decide_all, revisit};
use std::collections::BTreeMap;

const SOFT: Kind = Kind(900);

#[derive(Default)]
struct State {
    versions: BTreeMap<Key, Position>,
    ops: BTreeMap<OpId, Position>,
    /// Operations at or below this counter have left the window.
    floor: u64,
    /// How far this copy is; `None` = it has everything.
    upto: Option<u64>,
    cms: bool,
}

impl Lookup for State {
    fn applied(&self, op: &OpId) -> Applied {
        match self.ops.get(op) {
            Some(at) => Applied::At(*at),
            None if op.counter <= self.floor => Applied::Unknown,
            None => Applied::No,
        }
    }
    fn version(&self, key: &Key) -> Option<Position> {
        self.versions.get(key).copied()
    }
    fn has(&self, at: Position) -> bool {
        self.upto.is_none_or(|upto| at.seq <= upto)
    }
    fn is_soft(&self, kind: Kind) -> bool {
        kind == SOFT
    }
    fn is_cms(&self) -> bool {
        self.cms
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
    State { versions: versions.iter().map(|(n, p)| (key(n), *p)).collect(), ..State::default() }
}
fn fork() -> Position {
    won(11)
}
fn progress() -> Progress {
    Progress::of(fork(), &[effects(11, vec![])])
}

#[test]
fn untouched_records_are_applied_whole() {
    let s = state(&[("a", old(3))]);
    let e = effects(11, vec![put("a", Some(old(3))), put("b", None)]);
    let TailVerdict::Apply(p) = decide(&e, &mut progress(), &s).verdict else { panic!() };
    assert_eq!(p.op, Some(op(11)), "with its operation id");
    assert_eq!(p.reads, vec![(key("a"), Some(old(3))), (key("b"), None)]);
    assert_eq!(p.writes.len(), 2);
}

#[test]
fn an_operation_that_was_applied_is_skipped_and_its_twin_carries_on() {
    let mut s = state(&[("a", won(12))]);
    s.ops.insert(op(11), won(12));
    let tail = [effects(11, vec![put("a", None)]), effects(12, vec![put("a", Some(old(11)))])];
    let all = decide_all(fork(), &tail, &s);
    assert_eq!(all.items[0].verdict, TailVerdict::Skip { at: won(12) });
    let TailVerdict::Apply(p) = &all.items[1].verdict else { panic!("{:?}", all.items[1]) };
    assert_eq!(p.reads, vec![(key("a"), Some(won(12)))]);
    // The twin has been overwritten since: a conflict.
    s.versions.insert(key("a"), won(13));
    assert!(matches!(decide_all(fork(), &tail, &s).items[1].verdict, TailVerdict::Conflict(_)));
}

#[test]
fn one_changed_record_makes_the_whole_entry_a_conflict() {
    let s = state(&[("a", won(20)), ("b", old(2))]);
    let e = effects(11, vec![put("a", Some(old(3))), put("b", Some(old(2)))]);
    let TailVerdict::Conflict(list) = decide(&e, &mut progress(), &s).verdict else { panic!() };
    assert_eq!(list.len(), 1);
    assert_eq!((list[0].based_on, list[0].now), (Some(old(3)), Some(won(20))));
    let gone = state(&[("b", old(2))]);
    assert!(matches!(decide(&e, &mut progress(), &gone).verdict, TailVerdict::Conflict(_)));
    let delete = effects(12, vec![Effect::Delete { key: key("a"), based_on: Some(old(3)) }]);
    assert!(matches!(decide(&delete, &mut progress(), &s).verdict, TailVerdict::Conflict(_)));
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
    assert_eq!(decide_all(fork(), &tail, &s).counts(), (0, 4, 2, 0));
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
    let all = decide_all(fork(), &tail, &State::default());
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
        decide_all(fork(), &tail, &start()).items.iter().map(|i| matches!(i.verdict, TailVerdict::Apply(_))).collect();
    assert_eq!(dry, [true, true, false, true, true, false]);
    let (mut live, mut progress, mut seq) = (start(), Progress::of(fork(), &tail), 100);
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
        progress.committed(e, won(seq));
    }
    // A second application of the same tail skips everything that was applied.
    let mut again = Progress::of(fork(), &tail);
    let second: Vec<_> = tail.iter().map(|e| decide(e, &mut again, &live).verdict).collect();
    assert!(second.iter().all(|v| matches!(v, TailVerdict::Skip { .. } | TailVerdict::Conflict(_))), "{second:?}");
}

/// The copy at which the tail lies hears of a commit later than the answer says that it is there.
#[test]
fn a_copy_that_is_behind_makes_no_conflict() {
    let tail = [
        effects(11, vec![put("a", Some(old(3))), put("gone", Some(old(4)))]),
        effects(12, vec![put("a", Some(old(11))), Effect::Delete { key: key("gone"), based_on: Some(old(11)) }]),
        effects(13, vec![put("a", Some(old(12))), put("gone", None)]),
    ];
    let mut behind = State { upto: Some(20), ..state(&[("a", old(3)), ("gone", old(4))]) };
    let mut progress = Progress::of(fork(), &tail);
    for (n, e) in (21..).zip(&tail) {
        let TailVerdict::Apply(p) = decide(e, &mut progress, &behind).verdict else { panic!("{:?}", e.position) };
        let before = (n > 21).then(|| won(n - 1));
        assert_eq!(p.reads[0], (key("a"), before.or(Some(old(3)))), "the version at the serving pool");
        assert_eq!(p.reads[1].1, [Some(old(4)), before, None][n as usize - 21]);
        progress.committed(e, won(n));
    }
    // Once it has caught up, what the copy says counts again: somebody has changed the record since.
    behind.upto = None;
    behind.versions.insert(key("a"), won(40));
    let next = effects(14, vec![put("a", Some(old(13)))]);
    assert!(matches!(decide(&next, &mut progress, &behind).verdict, TailVerdict::Conflict(_)));
}

/// A second run over a tail of which the first applied a part.
#[test]
fn a_second_run_goes_on_where_the_first_ended() {
    let tail = [
        effects(11, vec![put("a", Some(old(3)))]),
        effects(12, vec![put("a", Some(old(11)))]),
        effects(13, vec![put("x", Some(old(5)))]),
        effects(14, vec![put("y", Some(old(6)))]),
    ];
    let mut s = state(&[("a", won(30)), ("x", won(7)), ("y", old(6))]);
    let run = |s: &State, marks: [Resolution; 4]| {
        let mut progress = Progress::of(fork(), &tail);
        let revisited = tail.iter().zip(marks).map(|(e, mark)| revisit(e, mark, &mut progress, s).map(|i| i.verdict));
        revisited.collect::<Vec<_>>()
    };
    let applied = Resolution::Applied(Some(won(30)));
    let all = run(&s, [applied, Resolution::Open, Resolution::Conflict, Resolution::Open]);
    assert_eq!(all[0], None, "not again");
    let Some(TailVerdict::Apply(p)) = &all[1] else { panic!("{:?}", all[1]) };
    assert_eq!(p.reads, vec![(key("a"), Some(won(30)))]);
    assert!(matches!(all[2], Some(TailVerdict::Conflict(_))));
    // Without the position in the mark the de-duplication still knows it, as long as it does.
    assert!(matches!(
        run(&s, [Resolution::Applied(None), Resolution::Open, Resolution::GivenUp, Resolution::Open])[1],
        Some(TailVerdict::Conflict(_))
    ));
    s.ops.insert(op(11), won(30));
    let all = run(&s, [Resolution::Skipped(None), Resolution::Open, Resolution::GivenUp, Resolution::Conflict]);
    assert!(matches!(all[1], Some(TailVerdict::Apply(_))));
    assert_eq!(all[2], None);
    assert!(matches!(all[3], Some(TailVerdict::Conflict(_))), "what was left to a person is not applied by itself");
    s.ops.insert(op(14), won(31));
    assert_eq!(
        run(&s, [applied, Resolution::Open, Resolution::GivenUp, Resolution::Conflict])[3],
        Some(TailVerdict::Skip { at: won(31) }),
        "but it may have been applied meanwhile"
    );
}

#[test]
fn an_operation_that_left_the_window_is_for_a_person() {
    let s = State { floor: 11, ..state(&[("a", old(3))]) };
    let tail = [effects(11, vec![put("a", Some(old(3)))]), effects(12, vec![put("b", None)])];
    let all = decide_all(fork(), &tail, &s);
    assert_eq!(all.items[0].verdict, TailVerdict::Unknown);
    assert_eq!(all.counts(), (0, 1, 1, 0));
    let soft = Effect::Delete { key: Key::new("u", SOFT, b""), based_on: None };
    assert_eq!(decide(&effects(11, vec![soft]), &mut progress(), &s).verdict, TailVerdict::Nothing);
}

#[test]
fn an_entry_without_an_operation_is_applied_once() {
    let mut e = effects(11, vec![put("a", None)]);
    e.op = None;
    let mut s = State::default();
    let TailVerdict::Apply(p) = decide(&e, &mut progress(), &s).verdict else { panic!() };
    s.ops.insert(p.op.unwrap(), won(20));
    s.versions.insert(key("a"), won(20));
    assert_eq!(decide(&e, &mut progress(), &s).verdict, TailVerdict::Skip { at: won(20) });
}

#[test]
fn what_was_under_way_at_the_lost_pool_is_not_brought_back() {
    let lock = Effect::Put {
        key: Key::new("procedures", KIND_LOCK, b""),
        based_on: None,
        class: Class::Durable,
        value: Bytes::new(),
    };
    let journal = Effect::Delete { key: Key::new("procedures", KIND_PROCEDURE, b"1"), based_on: Some(old(2)) };
    let tail = [effects(11, vec![lock.clone(), journal]), effects(12, vec![lock, put("a", None)])];
    let cms = State { cms: true, ..State::default() };
    let all = decide_all(fork(), &tail, &cms);
    assert_eq!(all.counts(), (0, 1, 0, 1));
    assert_eq!((all.items[0].past.len(), all.items[1].past.len()), (2, 1));
    let TailVerdict::Apply(p) = &all.items[1].verdict else { panic!() };
    assert_eq!(p.writes.len(), 1, "the rest of the entry is applied");
    assert_eq!(decide_all(fork(), &tail, &State::default()).counts().1, 1, "kinds of other groups are their own");
}

/// The front of a tail that was no longer kept: entries made from the state stand for it.
#[test]
fn a_front_that_was_lost_is_applied_where_the_record_is_as_it_was() {
    let made = |seq, names: &[&str]| Entry {
        prev: ChainHash([0xFF; 32]),
        op: None,
        ..effects(seq, names.iter().map(|name| put(name, None)).collect())
    };
    let tail = [
        made(11, &["new"]),
        made(12, &["changed", "kept"]),
        made(14, &["theirs"]),
        // Kept: they build on 12 and 13, of which only a part, or nothing, still stands.
        effects(15, vec![put("of-12", Some(old(12)))]),
        effects(16, vec![put("of-13", Some(old(13)))]),
        effects(17, vec![put("recreated", None)]),
        effects(18, vec![put("of-13", Some(old(16)))]),
        effects(19, vec![put("newer", Some(old(13)))]),
    ];
    let mut s = state(&[("changed", old(3)), ("kept", old(4)), ("theirs", won(12)), ("of-12", old(2))]);
    for (name, at) in [("of-13", old(5)), ("recreated", old(6)), ("newer", won(13))] {
        s.versions.insert(key(name), at);
    }
    let all = decide_all(fork(), &tail, &s);
    let applied: Vec<u64> =
        all.items.iter().filter(|i| matches!(i.verdict, TailVerdict::Apply(_))).map(|i| i.position.seq).collect();
    assert_eq!(applied, [11, 12, 15, 16, 17, 18]);
    assert_eq!(all.counts(), (0, 6, 2, 0));
    // The same where each is really applied.
    let mut live = Progress::of(fork(), &tail);
    for (n, e) in (50..).zip(&tail) {
        if let TailVerdict::Apply(p) = decide(e, &mut live, &s).verdict {
            for (k, version) in &p.reads {
                assert_eq!(s.version(k), *version, "{:?}", e.position);
                s.versions.insert(k.clone(), won(n));
            }
            live.committed(e, won(n));
        } else {
            assert!([14, 19].contains(&e.position.seq), "{:?}", e.position);
        }
    }
    // With nothing lost the same entries are conflicts.
    let whole = [effects(11, vec![put("recreated", None)]), effects(12, vec![put("of-13", Some(old(13)))])];
    let s = state(&[("recreated", old(6)), ("of-13", old(5))]);
    assert_eq!(decide_all(fork(), &whole, &s).counts(), (0, 0, 2, 0));
}
