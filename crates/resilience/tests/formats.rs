//! Stored and sent forms: frozen samples, refusals, round trips; the clock estimate; rebuilding the journal.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use super::common;

use common::*;
use pairline_group::{GroupId, Position, ServerId};
use pairline_resilience::codec::CodecError;
use pairline_resilience::heartbeat::{Echo, Serves};
use pairline_resilience::journal::{self, FenceOutcome};
use pairline_resilience::plan::FencePath;
use pairline_resilience::report::SignIn;
use pairline_resilience::{ClockEstimate, Heartbeat, Mode, Plan, Procedure, ProcedureState, Recovery, Report, Runner};
use proptest::prelude::*;

fn heartbeat() -> Heartbeat {
    Heartbeat {
        pool: EAST,
        server: ServerId(1),
        number: 300,
        mode: Mode::Normal,
        mode_of_partner: Mode::Resiliency,
        serves: Serves { active: 33, unconfirmed: 0, of_partner: 0, cms: true, highest_epoch: epoch(4, WEST) },
        wall: 1_700_000_000_000,
        mono: 5_000,
        echo: Some(Echo { number: 299, wall: 1_699_999_999_000, mono: 77, arrived_wall: 1_700_000_000_100, held: 12 }),
        load_permille: 250,
        free_disk_percent: 61,
        users: 200_000,
        certificate_days: 365,
        version: "0.1.0".into(),
    }
}

fn recovery() -> Recovery {
    Recovery {
        id: 0xdef,
        pool: EAST,
        group: GroupId { pool: EAST, index: 3 },
        operator: "anna".into(),
        reason: "two disks burnt".into(),
        at: 1_700_000_000_000,
        survivor: ServerId(1),
        lost: vec![ServerId(2), ServerId(3)],
        before: Position { epoch: epoch(1, EAST), seq: 41 },
        doubtful: 2,
        at_risk: "what they acknowledged later".into(),
        after: Position { epoch: epoch(2, EAST), seq: 44 },
    }
}

/// A disaster's record, done.
fn done() -> (Procedure, World) {
    let at_home = |g: GroupId| if g.is_cms() { EAST } else { g.pool };
    let mut world = World::new(at_home, Some(EAST));
    let plan = make(&disaster(EAST), &observed_after_loss(EAST, at_home));
    let mut runner = Runner::start(plan, now(0)).unwrap();
    assert!(matches!(run(&mut runner, &mut world, None, &[]), End::Finished(_)));
    (world.record(0xabc).unwrap(), world)
}

#[test]
fn frozen_samples_are_read_and_written() {
    let (procedure, _) = done();
    golden("heartbeat.v1", &heartbeat().encode(), |b| Heartbeat::decode(b).unwrap().encode());
    golden("plan.v1", &procedure.plan.encode(), |b| Plan::decode(b).unwrap().encode());
    golden("procedure.v1", &procedure.encode(), |b| Procedure::decode(b).unwrap().encode());
    golden("recovery.v1", &recovery().encode(), |b| Recovery::decode(b).unwrap().encode());
    assert_eq!(Recovery::decode(&sample("recovery.v1")).unwrap(), recovery());
    golden("lock.v1", &journal::encode_lock(0xabc), |b| journal::encode_lock(journal::decode_lock(b).unwrap()));
    assert_eq!(Heartbeat::decode(&sample("heartbeat.v1")).unwrap(), heartbeat());
    assert_eq!(journal::decode_lock(&sample("lock.v1")).unwrap(), 0xabc);
    // What they say, apart from wording that may improve.
    let (plan, record) =
        (Plan::decode(&sample("plan.v1")).unwrap(), Procedure::decode(&sample("procedure.v1")).unwrap());
    assert_eq!((&plan.command, plan.id, &plan.steps), (&disaster(EAST), 0xabc, &procedure.plan.steps));
    assert_eq!(record.plan, plan);
    assert_eq!((record.state, record.results), (procedure.state, procedure.results));
    assert_eq!((record.fences, record.started), (procedure.fences, procedure.started));
    assert_eq!(journal::id_of(&journal::key(0xabc)), Some(0xabc));
    assert_eq!(journal::id_of(&journal::lock_key()), None);
}

#[test]
fn bad_bytes_are_refused() {
    let good = heartbeat().encode();
    assert_eq!(Heartbeat::decode(&[]), Err(CodecError::Empty));
    assert_eq!(Heartbeat::decode(&[2, 0]), Err(CodecError::Newer(2)));
    let mut long = good.to_vec();
    long.push(0);
    assert_eq!(Heartbeat::decode(&long), Err(CodecError::Trailing(1)));
    assert!(matches!(Heartbeat::decode(&vec![1; 5_000]), Err(CodecError::TooLong(5_000, 4_096))));
    for cut in 1..good.len() {
        assert!(matches!(Heartbeat::decode(&good[..cut]), Err(CodecError::Malformed(_))), "cut at {cut}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let with_version: Vec<u8> = std::iter::once(1).chain(bytes).collect();
        let _ = Heartbeat::decode(&with_version);
        let _ = Plan::decode(&with_version);
        let _ = Procedure::decode(&with_version);
        let _ = journal::decode_lock(&with_version);
    }

    /// The estimate is never off by more than half of the round trip.
    #[test]
    fn the_clock_estimate_keeps_its_bound(
        offset in -100_000_i64..100_000,
        trips in prop::collection::vec((0..400_u64, 0..400_u64, 0..1_000_u64), 1..20),
    ) {
        let mut estimate = ClockEstimate::new();
        let base = 1_700_000_000_000_u64;
        let theirs = |wall: u64| wall.saturating_add_signed(offset);
        let mut time = 10_000;
        for (out, back, held) in trips {
            let (sent, arrived) = (time, time + out);
            let (answered, heard) = (arrived + held, arrived + held + back);
            let ours = Heartbeat { wall: base + sent, mono: sent, echo: None, ..heartbeat() };
            let echo = ours.echo(theirs(base + arrived), held);
            let answer = Heartbeat { wall: theirs(base + answered), mono: 1, echo: Some(echo), ..heartbeat() };
            estimate.heard(&answer, heard, base + heard);
            time = heard + 50;
        }
        let error = (estimate.offset().unwrap() - offset).unsigned_abs();
        prop_assert!(error <= estimate.round_trip().unwrap() / 2 + 1, "off by {error}");
    }
}

#[test]
fn impossible_echoes_are_not_counted() {
    let mut estimate = ClockEstimate::new();
    estimate.heard(&Heartbeat { echo: None, ..heartbeat() }, 100, 100);
    estimate.heard(&heartbeat(), 10, 100);
    estimate.heard(&heartbeat(), 80, 100);
    assert_eq!(estimate.offset(), None);
}

#[test]
fn the_journal_is_rebuilt_from_the_groups() {
    let (finished, world) = done();
    let (_, promotion) = world.entries.iter().find(|(g, _)| g.is_cms()).unwrap();
    let first = journal::from_promotion(promotion).unwrap();
    assert_eq!(first.plan, finished.plan);
    assert_eq!(first.state, ProcedureState::Running);
    let silent = [(FencePath::Link, FenceOutcome::NoAnswer), (FencePath::Admin, FenceOutcome::NoAnswer)];
    assert_eq!(first.fences, silent, "the fencing attempts are in the management store's own entry");
    let rebuilt = journal::rebuild(first, world.entries.iter().map(|(g, e)| (*g, e)));
    assert_eq!(rebuilt.moved(), finished.moved());
    for step in rebuilt.plan.steps.iter().filter(|s| s.group().is_some()) {
        let (a, b) = (rebuilt.result(step.number).unwrap(), finished.result(step.number).unwrap());
        assert_eq!((a.epoch, a.recovery_point), (b.epoch, b.recovery_point));
    }
    // Entries of another procedure say nothing about this one.
    let mut other = make(&failover(EAST), &observed(WEST));
    other.id = 1;
    let other = journal::rebuild(Procedure::new(other, 0), world.entries.iter().map(|(g, e)| (*g, e)));
    assert!(other.moved().is_empty());
}

#[test]
fn the_report_tells_the_story() {
    let (procedure, _) = done();
    let sign_in = SignIn { users: 412, first: Some(40), half: Some(900), p95: Some(2_000), p99: None };
    let report = Report::of(&procedure).with_sign_in(sign_in).with_tails(vec![("1/0".to_owned(), 3)]);
    let text = report.to_string();
    for part in [
        "the site burns",
        "alice",
        "east, west",
        "stage Fence",
        "signed in 95 %",
        "2.000 s",
        "412 users",
        "1/0: 3 entries",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(text.contains("no path to east confirmed"), "{text}");
    let mut answered = procedure.clone();
    answered.fences = vec![(FencePath::Link, FenceOutcome::NoAnswer), (FencePath::Admin, FenceOutcome::Refused)];
    let text = Report::of(&answered).to_string();
    assert!(text.contains("east answered by its admin API and did not stop"), "{text}");
    answered.fences[0].1 = FenceOutcome::Fenced;
    let text = Report::of(&answered).to_string();
    assert!(!text.contains("did not stop") && !text.contains("see that it is off"), "{text}");
    assert!(report.actual.contains("5 of 5 groups promoted, 5 at a known position"), "{}", report.actual);
    let json = report.to_json();
    assert!(json.contains("\"procedure\": \"00000000000000000000000000000abc\""), "{json}");
    assert!(json.contains("\"complete\": true") && json.contains("\"half\": 900"), "{json}");
}

fn path(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap()
}

/// The frozen sample reads and writes back to the same bytes. A missing one is written and fails the test, so that it is
/// looked at and committed.
fn golden(name: &str, first: &[u8], through: impl Fn(&[u8]) -> bytes::Bytes) {
    if !path(name).exists() {
        std::fs::write(path(name), first).unwrap();
        panic!("wrote the first sample {name}: check and commit it");
    }
    assert_eq!(through(&sample(name)), sample(name), "{name}");
}
