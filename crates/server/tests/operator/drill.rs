//! Parts of the drill that can be tested alone.

use pairline_server::drill::board::{Board, Side, What};
use pairline_server::drill::ledger::{Ledger, State, missing};
use pairline_server::drill::phones::netstring;
use pairline_server::drill::proofs;
use pairline_server::drill::report::{Report, StageLine};
use std::collections::{BTreeMap, BTreeSet};

fn op(counter: u64) -> (String, u64) {
    ("session".to_owned(), counter)
}

#[test]
fn requests_count_for_the_stage_in_which_they_began() {
    let board = Board::new(1);
    board.stage("first");
    let stage = board.begin(What::Call);
    board.stage("second");
    board.end(stage, What::Call, Err("no answer".into()));
    assert_eq!(board.counts(stage).bad.get(&What::Call), Some(&1));
    assert_eq!(board.counts(board.present()).bad.get(&What::Call), None);
    assert_eq!(board.in_flight(What::Call), 0);
}

#[test]
fn a_binding_ends_with_its_expiry_and_with_its_connection() {
    let board = Board::new(1);
    assert_eq!(board.side_of(0), None);
    board.signed_in(0, Side::West, 20);
    assert_eq!(board.side_of(0), Some(Side::West));
    board.lost(0);
    assert_eq!(board.side_of(0), None);
    board.signed_in(0, Side::East, 0);
    assert_eq!(board.side_of(0), None, "granted for no time");
}

#[test]
fn the_ledger_finds_what_is_missing() {
    let ledger = Ledger::default();
    for counter in 1..=4 {
        ledger.asked(op(counter), 0, format!("sip:c{counter}@x.test"));
    }
    ledger.answered(&op(1), State::Acknowledged(10));
    ledger.answered(&op(2), State::Acknowledged(20));
    ledger.answered(&op(3), State::Refused);
    assert_eq!(ledger.unknown().len(), 1);
    let users = BTreeSet::from([0]);
    let lists = BTreeMap::from([(0, BTreeSet::from(["sip:c1@x.test".to_owned()]))]);
    let lost = missing(&ledger.acknowledged(&users), &lists);
    assert_eq!(lost.iter().map(|change| change.op.1).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_loss_older_than_promised_fails_the_proof() {
    let ledger = Ledger::default();
    ledger.asked(op(1), 0, "sip:c@x.test".into());
    ledger.answered(&op(1), State::Acknowledged(1_000));
    let lost = ledger.acknowledged(&BTreeSet::from([0]));
    assert!(proofs::recovery_point(&lost, 5_000, Some(4_000)).holds);
    assert!(!proofs::recovery_point(&lost, 9_000, Some(4_000)).holds);
    assert!(!proofs::recovery_point(&lost, 5_000, None).holds, "unknown promises nothing");
    assert!(proofs::recovery_point(&[], 9_000, None).holds);
}

#[test]
fn a_report_holds_only_if_everything_does() {
    let mut report = Report::default();
    assert!(!report.holds(), "nothing proven is no proof");
    report.proofs.push(proofs::Proof::new("a", true, ""));
    assert!(report.holds());
    report.proofs.push(proofs::Proof::new("b", false, ""));
    assert!(!report.holds());
    let board = Board::new(0);
    report.stages.push(StageLine::new("kill", 1_250, &board.counts(0)));
    assert!(report.text().contains("FAILS") && report.text().contains("1.25 s"));
}

#[test]
fn netstrings_are_cut_whatever_the_pieces() {
    let bytes = b"5:hello,2:ab,";
    for cut in 0..7 {
        assert!(netstring(&bytes[..cut]).is_none(), "{cut}");
    }
    let (first, rest) = netstring(bytes).expect("one");
    assert_eq!(first, b"hello");
    assert_eq!(netstring(&rest).expect("another").0, b"ab");
    assert!(netstring(b"99999999999999999999:x,").is_none());
}
