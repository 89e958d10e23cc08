//! Parts of the drill that can be tested alone.

use pairline_node::view::StatusView;
use pairline_server::drill::board::{At, Board, Counts, Side, What};
use pairline_server::drill::kills::Dice;
use pairline_server::drill::ledger::{Ledger, State, missing};
use pairline_server::drill::phones::netstring;
use pairline_server::drill::proofs;
use pairline_server::drill::proxy::{Line, Relay};
use pairline_server::drill::report::{Report, StageLine};
use pairline_server::drill::watch::{Facts, Look};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const EAST: At = At { side: Side::East, server: 1 };
const WEST: At = At { side: Side::West, server: 2 };

fn op(counter: u64) -> (String, u64) {
    ("session".to_owned(), counter)
}

#[test]
fn requests_count_for_the_stage_in_which_they_began() {
    let board = Board::new(1);
    board.stage("first");
    let ticket = board.begin(What::Call, &[0]);
    board.stage("second");
    board.end(ticket, What::Call, Err("no answer".into()));
    assert_eq!(board.counts(ticket.stage).bad.get(&What::Call), Some(&1));
    assert_eq!(board.counts(board.present()).bad.get(&What::Call), None);
    assert_eq!(board.in_flight(What::Call), 0);
}

#[test]
fn what_fails_for_a_client_that_does_not_know_yet_is_counted_apart() {
    let board = Board::new(2);
    board.stage("a server dies");
    board.signed_in(0, EAST, 20);
    board.unaware(&[0]);
    let (apart, other) = (board.begin(What::Call, &[1, 0]), board.begin(What::Call, &[1]));
    assert_eq!(board.counts(1).open, 1);
    board.end(apart, What::Call, Err("no answer".into()));
    board.end(other, What::Call, Err("BYE: 481".into()));
    let counts = board.counts(1);
    assert_eq!((counts.of(What::Call), counts.apart.get(&What::Call), counts.open), ((0, 2), Some(&1), 0));
    assert_eq!((counts.last_bad.len(), counts.dropped()), (1, 1));
    board.signed_in(0, WEST, 20);
    assert_eq!(board.at(0), Some(WEST));
    assert!(!board.statuses()[0].unaware);
}

#[test]
fn a_binding_ends_with_its_expiry_and_with_its_connection() {
    let board = Board::new(1);
    assert_eq!(board.side_of(0), None);
    board.signed_in(0, WEST, 20);
    assert_eq!(board.side_of(0), Some(Side::West));
    board.lost(0);
    assert_eq!(board.side_of(0), None);
    board.signed_in(0, EAST, 0);
    assert_eq!(board.side_of(0), None, "granted for no time");
}

#[test]
fn after_a_mark_only_the_named_side_counts() {
    let board = Board::new(1);
    board.mark(Side::West);
    board.signed_in(0, EAST, 20);
    assert_eq!(board.statuses()[0].first_after_mark, None, "an answer of the dead pool that was still on its way");
    board.signed_in(0, WEST, 20);
    assert!(board.statuses()[0].first_after_mark.is_some());
}

#[test]
fn counts_of_stages_add_up() {
    let counts = |calls| Counts { bad: BTreeMap::from([(What::Call, calls)]), ..Counts::default() };
    let mut all = counts(1);
    all.add(&counts(2));
    assert_eq!(all.bad.get(&What::Call), Some(&3));
}

#[test]
fn one_seed_draws_the_same() {
    let draws = |seed| {
        let mut dice = Dice::new(seed);
        (0..20).map(|_| dice.below(1_500)).collect::<Vec<_>>()
    };
    assert_eq!(draws(7), draws(7));
    assert_ne!(draws(7), draws(8));
    assert!(draws(7).iter().all(|drawn| *drawn < 1_500));
}

fn status(role: &str, epoch: f64, links: f64) -> StatusView {
    let group = ("group".to_owned(), "1/0".to_owned());
    let role = ("role".to_owned(), role.to_owned());
    let samples = vec![
        ("pairline_group_role".to_owned(), vec![group.clone(), role], 1.0),
        ("pairline_group_epoch".to_owned(), vec![group], epoch),
        ("pairline_links_up".to_owned(), Vec::new(), links),
    ];
    StatusView { samples, ..StatusView::default() }
}

/// Whether each rule of the watch holds, after these looks: (side, role, epoch, links, asked at).
fn watched(looks: &[(Side, &str, f64, f64, u64)], restart: Option<(usize, Side)>) -> Vec<bool> {
    let mut facts = Facts::default();
    for (number, (side, role, epoch, links, at)) in looks.iter().enumerate() {
        if restart == Some((number, *side)) {
            facts.starts(*side, at - 1);
        }
        facts.take(*side, &Look::of(&status(role, *epoch, *links), *at, at + 1));
    }
    facts.proofs().iter().map(|proof| proof.holds).collect()
}

#[test]
fn the_watch_accuses_two_active_copies_and_nobody_else() {
    let (east, west) = (Side::East, Side::West);
    let moved = [(east, "active", 1.0, 1.0, 0), (west, "active", 2.0, 1.0, 20), (east, "fenced", 2.0, 1.0, 40)];
    assert_eq!(watched(&moved, None), [true, true, true]);
    let twice = [(east, "active", 2.0, 1.0, 0), (west, "active", 2.0, 1.0, 20)];
    assert_eq!(watched(&twice, None), [false, true, true]);
    let unconfirmed = [(east, "active", 2.0, 1.0, 0), (west, "unconfirmed", 2.0, 1.0, 20)];
    assert_eq!(watched(&unconfirmed, None), [true, true, true]);
    assert!(!watched(&[(east, "active", 1.0, 1.0, 0)], None)[0], "one server alone shows nothing");
}

#[test]
fn the_watch_accuses_whoever_goes_on_though_it_could_have_heard() {
    let (east, west) = (Side::East, Side::West);
    let cut = [(west, "active", 2.0, 0.0, 0), (east, "active", 1.0, 0.0, 9_000)];
    assert_eq!(watched(&cut, None), [true, true, true], "without a link it cannot hear");
    let late = [(west, "active", 2.0, 1.0, 0), (east, "active", 1.0, 1.0, 10), (east, "active", 1.0, 1.0, 1_500)];
    assert_eq!(watched(&late, None), [true, false, true]);
    let soon = [(west, "active", 2.0, 1.0, 0), (east, "active", 1.0, 1.0, 10), (east, "active", 1.0, 1.0, 900)];
    assert_eq!(watched(&soon, None), [true, true, true]);
    let restarted = [(west, "active", 2.0, 0.0, 0), (east, "active", 1.0, 0.0, 50)];
    assert_eq!(watched(&restarted, Some((1, east))), [true, true, false]);
}

/// Address of a server on the same side of the line as the one behind it.
const INSIDE: &str = "127.0.0.9";

fn line() -> (Line, SocketAddr, TcpListener) {
    let behind = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listen = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
    let relay = Relay { listen, behind: behind.local_addr().expect("bound") };
    let inside = BTreeSet::from([INSIDE.parse().expect("an address")]);
    (Line::start(&[relay], inside).expect("a line"), listen, behind)
}

fn connect(listen: SocketAddr, behind: &TcpListener) -> (TcpStream, TcpStream) {
    let front = TcpStream::connect(listen).expect("the line listens");
    let back = behind.accept().expect("the line connects").0;
    for stream in [&front, &back] {
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a limit");
    }
    (front, back)
}

#[test]
fn a_held_line_keeps_everything_until_it_is_healed() {
    let (line, listen, behind) = line();
    let (mut front, mut back) = connect(listen, &behind);
    let mut read = [0; 5];
    front.write_all(b"first").expect("open");
    back.read_exact(&mut read).expect("passes");
    line.hold();
    front.write_all(b"other").expect("the line takes it");
    back.set_nonblocking(true).expect("a socket");
    assert_eq!(back.read(&mut read).map_err(|error| error.kind()), Err(std::io::ErrorKind::WouldBlock));
    back.set_nonblocking(false).expect("a socket");
    line.heal();
    back.read_exact(&mut read).expect("passes again");
    assert_eq!(&read, b"other");
}

#[test]
fn what_servers_of_one_pool_say_to_each_other_passes_whatever_the_line_does() {
    let (line, listen, behind) = line();
    line.cut();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::new(INSIDE.parse().expect("an address"), 0).into()).expect("a loopback address");
    socket.connect(&listen.into()).expect("the line listens");
    let (mut front, mut back) = (TcpStream::from(socket), behind.accept().expect("the line connects").0);
    line.hold();
    front.write_all(b"inner").expect("open");
    let mut read = [0; 5];
    back.set_read_timeout(Some(Duration::from_secs(10))).expect("a limit");
    back.read_exact(&mut read).expect("passes");
    assert_eq!(&read, b"inner");
}

#[test]
fn what_a_line_loses_never_arrives() {
    let (line, listen, behind) = line();
    let (mut front, mut back) = connect(listen, &behind);
    line.hold();
    front.write_all(b"lost").expect("the line takes it");
    line.lose();
    let mut rest = Vec::new();
    // An end of the stream or a reset; never the bytes.
    let _ = back.read_to_end(&mut rest);
    assert!(rest.is_empty(), "{rest:?}");
    let (mut front, mut back) = connect(listen, &behind);
    back.write_all(b"new").expect("a new connection passes");
    let mut read = [0; 3];
    front.read_exact(&mut read).expect("passes");
}

#[test]
fn a_cut_line_ends_connections_and_takes_no_new_ones() {
    let (line, listen, behind) = line();
    let (mut front, _back) = connect(listen, &behind);
    line.cut();
    assert!(matches!(front.read(&mut [0; 1]), Ok(0) | Err(_)), "it ends");
    let mut refused = TcpStream::connect(listen).expect("the line still listens");
    refused.set_read_timeout(Some(Duration::from_secs(10))).expect("a limit");
    assert!(!matches!(refused.read(&mut [0; 1]), Ok(1..)), "and leads nowhere");
    line.heal();
    connect(listen, &behind);
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
    assert!(!proofs::recovery_point(&lost, 5_000, Some(3_900)).holds, "there is no tolerance");
    assert!(!proofs::recovery_point(&lost, 9_000, Some(4_000)).holds);
    assert!(!proofs::recovery_point(&lost, 5_000, None).holds, "unknown promises nothing");
    assert!(proofs::recovery_point(&[], 9_000, Some(0)).holds);
    assert!(!proofs::recovery_point(&[], 9_000, None).holds, "a point must be reported, even if nothing is lost");
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
