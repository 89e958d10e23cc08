//! The arithmetic of a round, on journals of a few lines.

use super::*;
use serde_json::json;

const A: &str = "127.0.0.1:1";
const B: &str = "127.0.0.1:2";

fn window() -> Window {
    Window { hit: 10_000, repaired: 20_000, victim: A.parse().unwrap() }
}

fn line(op: &str, user: &str, server: &str, status: u16, at: u64, took: u64) -> Line {
    let (server, to) = (server.parse().unwrap(), (op != "register").then(|| "u2".to_owned()));
    let (step, granted) = ((status != 200).then(|| op.to_owned()), Some(600));
    let (op, user) = (op.to_owned(), user.to_owned());
    let (why, up, made, reinvite, refused, silent) = (None, None, None, None, 0, 0);
    Line { op, user, to, server, status, at, took, step, why, up, made, reinvite, granted, refused, silent }
}

fn call(server: &str, up: Option<u64>, at: u64, (reinvite, status): (u16, u16)) -> Line {
    let took = up.map_or(100, |up| at - up + 50);
    let made = up.is_some().then(|| A.parse().unwrap());
    Line { up, made, reinvite: up.is_some().then_some(reinvite), ..line("call", "u1", server, status, at, took) }
}

fn groups() -> BTreeMap<String, String> {
    [("u1", "g1"), ("u2", "g2"), ("u3", "g3")].map(|(user, group)| (user.to_owned(), group.to_owned())).into()
}

#[test]
fn lines_of_the_generator_are_read_and_one_cut_off_is_left_out() {
    let text = format!(
        "{}\n{}\n{{\"v\":1,\"op\":\"reg",
        r#"{"v":1,"t":1,"op":"register","user":"u1","server":"127.0.0.1:1","cseq":1,"status":200,"at":5,"took":2,"granted":600}"#,
        r#"{"v":1,"t":1,"op":"call","user":"u1","server":"127.0.0.1:1","cseq":3,"status":0,"at":5,"took":2,"to":"u2","step":"bye","up":4,"made":"127.0.0.1:2","reinvite":200}"#
    );
    let lines: Vec<Line> = read(&text);
    assert_eq!(lines.len(), 2);
    assert_eq!((lines[0].granted, lines[0].sent()), (Some(600), 3));
    assert_eq!((lines[1].reinvite, lines[1].made), (Some(200), Some(B.parse().unwrap())));
}

#[test]
fn only_requests_that_were_sent_after_the_fault_say_that_a_group_is_served() {
    let lines = [
        // Sent before it, answered after it.
        line("register", "u1", B, 200, 10_005, 10),
        line("register", "u1", B, 503, 10_200, 10),
        line("register", "u1", B, 200, 10_900, 10),
        line("register", "u1", B, 200, 10_500, 300),
        line("message", "u1", B, 200, 10_300, 10),
        call(B, Some(10_100), 18_000, (200, 200)),
    ];
    let served = served(&lines, &groups(), &window());
    assert_eq!(served["g1"], Served { register: Some(500), from: Some(100), to: None });
    assert_eq!(served["g2"], Served { register: None, from: None, to: Some(100) });
    assert_eq!(served["g1"].dialog(), None);
    assert_eq!(served["g3"], Served::default(), "a group without any success is not forgotten");
}

#[test]
fn failures_are_those_of_servers_that_were_well() {
    let lines = [
        line("register", "u1", A, 0, 13_000, 2_000),
        line("register", "u1", B, 503, 11_000, 100),
        line("message", "u1", B, 0, 12_500, 2_000),
        line("message", "u1", B, 0, 9_000, 100),
        call(B, Some(12_000), 20_000, (0, 0)),
    ];
    let failures = failures(&lines, &window());
    assert_eq!(failures.kinds, BTreeMap::from([("register 503".to_owned(), 1), ("message 0".to_owned(), 1)]));
    assert_eq!(failures.last, 900);
}

#[test]
fn calls_are_kept_if_both_requests_are_accepted() {
    let lines = [
        call(B, Some(9_000), 17_000, (200, 200)),
        call(A, Some(9_000), 17_000, (200, 200)),
        call(B, Some(9_000), 17_000, (481, 200)),
        call(B, Some(9_000), 17_000, (200, 0)),
        // Over before the fault, established after it, and never established.
        call(B, Some(1_000), 9_000, (200, 200)),
        call(B, Some(11_000), 19_000, (200, 200)),
        call(A, None, 12_000, (0, 0)),
        call(B, None, 13_000, (0, 480)),
    ];
    let calls = calls(&lines, &window());
    assert_eq!((calls.established, calls.made_there, calls.kept, calls.kept_elsewhere), (4, 4, 2, 1));
    assert_eq!((calls.new, calls.failed_there, calls.failed_elsewhere), (3, 1, 1));
    assert_eq!(calls.broken.len(), 2);
    assert!(calls.broken[0].contains("made through 127.0.0.1:1 1000 ms before the fault, re-INVITE 481, BYE 200"));
}

#[test]
fn rates_are_those_of_successes_within_the_time() {
    let lines = [
        line("register", "u1", B, 200, 1_000, 10),
        line("register", "u1", B, 200, 2_999, 10),
        line("register", "u1", B, 503, 1_500, 10),
        call(B, Some(1_500), 9_500, (200, 200)),
    ];
    let changes: Vec<Change> = read(
        "{\"n\":1,\"user\":\"u1\",\"status\":200,\"at\":1200}\n{\"n\":2,\"user\":\"u1\",\"status\":0,\"at\":1300}",
    );
    let rates = rates(&lines, &changes, 1_000, 3_000);
    assert_eq!((rates["register"], rates["call"], rates["change"], rates["message"]), (1.0, 0.5, 0.5, 0.0));
}

fn answer(user: &str, expires_in: &[u64]) -> (String, f64, Value) {
    let list: Vec<Value> = expires_in.iter().map(|seconds| json!({"expires_in": seconds})).collect();
    (user.to_owned(), 100_000.0, json!({"registrations": list}))
}

#[test]
fn a_binding_must_end_when_the_last_acknowledged_refresh_says() {
    let lines = [
        line("register", "u1", B, 200, 50_000, 100),
        line("register", "u1", B, 200, 90_000, 100),
        line("register", "u2", B, 200, 90_000, 100),
        line("register", "u2", B, 0, 99_000, 2_000),
        line("register", "u3", B, 200, 90_000, 100),
    ];
    let expected = bindings(&lines);
    let kept = [answer("u1", &[589]), answer("u2", &[12]), answer("u3", &[3, 590])];
    assert_eq!(lost_bindings(&expected, &kept), Lost { looked_for: 3, ..Lost::default() });
    // The one before the last, none though in doubt, and no answer at all.
    let lost = lost_bindings(&expected, &[answer("u1", &[550]), answer("u2", &[])]);
    assert_eq!((lost.looked_for, lost.count), (3, 3));
    assert!(lost.named[0].starts_with("u1: its binding ends -"), "{:?}", lost.named);
}

#[test]
fn a_200_that_does_not_say_the_binding_is_told_and_leaves_only_its_end_open() {
    let lines = [Line { granted: None, ..line("register", "u1", B, 200, 50_000, 100) }];
    let unsaid = unsaid(&lines, &window());
    assert_eq!(unsaid, ["200 to a REGISTER of u1 by 127.0.0.1:2 without its binding, 40000 ms after the fault"]);
    assert_eq!(lost_bindings(&bindings(&lines), &[answer("u1", &[500])]).count, 0);
    assert_eq!(lost_bindings(&bindings(&lines), &[answer("u1", &[])]).count, 1);
}

#[test]
fn a_guest_needs_some_binding_that_lasts_as_long_as_was_said() {
    let lines = [Line { granted: Some(20), ..line("register", "u1", B, 200, 90_000, 100) }];
    assert_eq!(guests(&lines), BTreeMap::from([(B.parse().unwrap(), 1)]));
    assert_eq!(lost_bindings(&bindings(&lines), &[answer("u1", &[500])]).count, 0);
    assert_eq!(lost_bindings(&bindings(&lines), &[answer("u1", &[2])]).count, 1);
    assert_eq!(lost_bindings(&bindings(&lines), &[answer("u1", &[])]).count, 1);
}

#[test]
fn each_acknowledged_change_must_be_there() {
    let text = "{\"n\":1,\"user\":\"u1\",\"status\":200,\"at\":1}\n{\"n\":2,\"user\":\"u1\",\"status\":200,\"at\":2}\n\
                {\"n\":3,\"user\":\"u2\",\"status\":0,\"at\":3}";
    let list = json!({"contacts": [{"contact": contact(4, "1")}, {"contact": contact(3, "2")}]});
    let lost = lost_changes(4, &read(text), &[("u1".to_owned(), 0.0, list)]);
    assert_eq!((lost.looked_for, lost.count), (2, 1));
    assert!(lost.named[0].starts_with("sip:c4-2@pairline.test of u1"), "{:?}", lost.named);
}

#[test]
fn requests_that_went_on_to_another_server_are_told_from_those_that_none_accepted() {
    let refused = Line { refused: 1, ..line("message", "u1", B, 200, 10_500, 100) };
    let silent = Line { silent: 1, ..call(B, Some(12_100), 18_100, (200, 200)) };
    let lines = [
        refused,
        silent,
        line("message", "u2", A, 503, 10_600, 5),
        line("message", "u2", A, 200, 9_600, 5),
        // Made before the beginning, ended after it; and one that was made later and broke.
        call(A, Some(9_000), 17_000, (200, 200)),
        call(A, Some(19_000), 27_000, (200, 0)),
    ];
    let through = through(&lines, &window());
    let message = New { sent: 2, refused_first: 1, silent_first: 0, failed: 1, slowest: 100 };
    assert_eq!(through.new["message"], message);
    assert_eq!((through.new["call"].silent_first, through.new["call"].failed), (1, 0));
    assert_eq!((through.established, through.kept, through.broken.len()), (3, 2, 1));
    assert_eq!(through.failures, BTreeMap::from([("message 503  at 127.0.0.1:1".to_owned(), 1)]));
}

#[test]
fn how_long_requests_took_counts_from_when_they_were_first_sent() {
    let registers = (1..=100).map(|took| line("register", "u1", B, 200, 15_000 + took, took));
    let others = [
        line("register", "u1", B, 503, 15_000, 900),
        line("register", "u1", B, 200, 9_999, 700),
        call(B, Some(15_000), 18_000, (200, 200)),
    ];
    let lines: Vec<Line> = registers.chain(others).collect();
    let took = took(&lines, &window());
    assert_eq!(
        took["register"],
        Took { count: 100, half: 50, p99: 99, most: 100 },
        "accepted ones that were sent within it"
    );
    assert_eq!(took["call"], Took { count: 1, half: 50, p99: 50, most: 50 }, "until it was established");
}
