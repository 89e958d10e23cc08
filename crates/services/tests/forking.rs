//! What a fork tells the devices and the caller: reasons, breadth, redirections, history; and what it leaves alone.
#![allow(clippy::unwrap_used)]

use super::common;

use common::sip::{Client, client, device, last, statuses};
use common::{EAST, Fake, Task, aor, group_of, peer_flow, udp};
use pairline_group::Class;
use pairline_services::cx::TaskEvent;
use pairline_services::metrics::Counter;
use pairline_services::records::{Settings, settings_key};
use pairline_services::settings::HistoryInfo;
use pairline_sip::header::Name;
use pairline_sip::message::Message;

const BOB: &str = "sip:bob@pairline.test";

fn with_devices(params: [&str; 2]) -> Fake {
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", params[0]);
    device(&fake, "bob", "127.0.0.1:7102", params[1]);
    fake
}

/// Alice's INVITE to bob with more lines.
fn invite(fake: &Fake, lines: &[&str]) -> Task {
    let mut phone = client("alice");
    let mut all = vec!["Contact: <sip:alice@127.0.0.1:7001>"];
    all.extend(lines);
    phone.request(fake, "INVITE", BOB, "<sip:bob@pairline.test>", &all, "v=0\r\n")
}

fn sent(fake: &Fake, index: usize) -> Message {
    fake.0.borrow().sent[index].2.clone()
}

fn header(message: &Message, name: Name) -> Option<String> {
    message.header(name).map(|value| String::from_utf8(value.to_vec()).unwrap())
}

#[test]
fn who_stops_ringing_is_told_why() {
    let fake = with_devices(["", ""]);
    let mut task = invite(&fake, &[]);
    task.respond(0, 180, &[]);
    task.respond(1, 200, &[]);
    let elsewhere = "SIP;cause=200;text=\"Call completed elsewhere\"";
    assert_eq!(fake.0.borrow().reasons, [Some(elsewhere.to_owned())]);
    // Declined for all.
    let fake = with_devices(["", ""]);
    let mut task = invite(&fake, &[]);
    task.respond(0, 603, &[]);
    assert_eq!(fake.0.borrow().reasons, [Some("SIP;cause=603;text=\"Decline\"".to_owned())]);
    // The caller's own reason goes on.
    let fake = with_devices(["", ""]);
    let mut task = invite(&fake, &[]);
    task.deliver(TaskEvent::Cancelled(Some("Q.850;cause=16".into())));
    assert_eq!(fake.0.borrow().reasons, [Some("Q.850;cause=16".to_owned()), Some("Q.850;cause=16".to_owned())]);
    // Timer C knows none.
    let fake = with_devices(["", ";q=0.1"]);
    let mut task = invite(&fake, &[]);
    task.respond(0, 180, &[]);
    task.advance(185_000);
    assert_eq!(fake.0.borrow().reasons, [None]);
}

#[test]
fn the_breadth_is_divided_over_the_branches_and_given_back_when_they_end() {
    // (header of the request, breadth of each branch that is sent at once)
    let table: [(&[&str], &[&str]); 6] = [
        (&[], &["30", "30"]),
        (&["Max-Breadth: 5"], &["3", "2"]),
        (&["Max-Breadth: 2"], &["1", "1"]),
        (&["Max-Breadth: 1"], &["1"]),
        (&["Max-Breadth: 4000"], &["30", "30"]),
        (&["Max-Breadth: 99999999999"], &["30", "30"]),
    ];
    for (lines, expected) in table {
        let fake = with_devices(["", ""]);
        let mut task = invite(&fake, lines);
        let got: Vec<String> =
            fake.0.borrow().sent.iter().map(|(_, _, m)| header(m, Name::MaxBreadth).unwrap()).collect();
        assert_eq!(got, expected, "{lines:?}");
        if expected.len() == 1 {
            task.respond(0, 486, &[]);
            assert_eq!(header(&sent(&fake, 1), Name::MaxBreadth).unwrap(), "1", "one after the other");
            task.respond(1, 200, &[]);
            assert_eq!(statuses(&fake), [200]);
        }
    }
    let fake = with_devices(["", ""]);
    assert!(!invite(&fake, &["Max-Breadth: 0"]).is_running());
    assert_eq!((last(&fake).0, fake.0.borrow().sent.len()), (440, 0));
    // Another way to the same device takes the share of the one that failed.
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", ";reg-id=1;+sip.instance=\"<urn:uuid:9>\"");
    fake.0.borrow_mut().mono += 1_000;
    device(&fake, "bob", "127.0.0.1:7102", ";reg-id=2;+sip.instance=\"<urn:uuid:9>\"");
    let mut task = invite(&fake, &["Max-Breadth: 7"]);
    let branch = task.branch(0);
    task.deliver(TaskEvent::TransportError(branch));
    assert_eq!(header(&sent(&fake, 1), Name::MaxBreadth).unwrap(), "7");
    let twice =
        client("alice").bytes("INVITE", BOB, "<sip:bob@pairline.test>", &["Max-Breadth: 1", "Max-Breadth: 9"], "");
    assert!(Message::parse(twice).is_err(), "one value only");
}

/// A call to bob, whose device answers with a redirection; whether it is followed.
fn redirected(follow: bool, contacts: &[&str]) -> (Fake, Task) {
    let fake = Fake::new();
    fake.edit_view(|view| view.proxy.follow_redirects = follow);
    device(&fake, "bob", "127.0.0.1:7101", "");
    device(&fake, "dave", "127.0.0.1:7301", "");
    let mut task = client("alice").invite(&fake, "bob");
    let headers: Vec<(&str, &str)> = contacts.iter().map(|contact| ("Contact", *contact)).collect();
    task.respond(0, 302, &headers);
    (fake, task)
}

#[test]
fn a_redirection_goes_to_the_caller_unless_policy_follows_it() {
    let (fake, task) = redirected(false, &["<sip:dave@pairline.test>"]);
    assert_eq!((statuses(&fake), task.is_running()), (vec![302], false));
    let (fake, mut task) = redirected(true, &["<sip:dave@pairline.test>"]);
    assert!(statuses(&fake).is_empty());
    assert_eq!(fake.0.borrow().sent[1].1, udp("127.0.0.1:7301"));
    task.respond(1, 200, &[]);
    assert_eq!((statuses(&fake), task.is_running()), (vec![200], false));
    assert_eq!(fake.count_of(Counter::ProxyRedirected), 1);
}

#[test]
fn a_redirection_makes_this_server_send_nowhere_else_and_never_in_circles() {
    let outside = ["<sip:x@192.0.2.9>", "<sip:dave@elsewhere.example>", "<tel:+123>", "<sip:pairline.test>"];
    let (fake, task) = redirected(true, &outside);
    assert_eq!((statuses(&fake), fake.0.borrow().sent.len(), task.is_running()), (vec![302], 1, false));
    // To the user whose device sent it.
    let (fake, task) = redirected(true, &["<sip:bob@pairline.test>"]);
    assert_eq!((statuses(&fake), fake.0.borrow().sent.len(), task.is_running()), (vec![302], 1, false));
    // From one to the other and back.
    let (fake, mut task) = redirected(true, &["<sip:dave@pairline.test>"]);
    task.respond(1, 302, &[("Contact", "<sip:bob@pairline.test>")]);
    assert_eq!((statuses(&fake), fake.0.borrow().sent.len(), task.is_running()), (vec![302], 2, false));
    // To a user of the other pool, who stands in the Request-URI there.
    let (fake, _task) = redirected(true, &["<sip:carol@pairline.test>"]);
    assert_eq!(fake.0.borrow().sent[1].1, peer_flow());
    assert_eq!(sent(&fake, 1).request_uri(), b"sip:carol@pairline.test");
    // The other pool has authenticated the caller, by credentials that no device is to see.
    let fake = Fake::new();
    fake.edit_view(|view| view.proxy.follow_redirects = true);
    device(&fake, "dave", "127.0.0.1:7301", "");
    let mut task = client("carol").invite(&fake, "bob");
    assert_eq!(fake.0.borrow().sent[0].1, peer_flow());
    task.respond(0, 302, &[("Contact", "<sip:dave@pairline.test>")]);
    assert_eq!((last(&fake).0, fake.0.borrow().sent.len(), task.is_running()), (302, 1, false));
    // Who is not there leaves the redirection to the caller.
    let (fake, task) = redirected(true, &["<sip:nobody@pairline.test>"]);
    assert_eq!((statuses(&fake), task.is_running()), (vec![302], false));
}

#[test]
fn redirected_users_are_tried_by_q_while_other_devices_still_ring() {
    let fake = with_devices(["", ""]);
    fake.edit_view(|view| view.proxy.follow_redirects = true);
    device(&fake, "dave", "127.0.0.1:7301", "");
    device(&fake, "alice", "127.0.0.1:7401", "");
    let mut task = invite(&fake, &[]);
    task.respond(0, 180, &[]);
    task.respond(
        1,
        302,
        &[("Contact", "<sip:alice@pairline.test>;q=0.2"), ("Contact", "<sip:dave@pairline.test>;q=0.8")],
    );
    let to = |index: usize| fake.0.borrow().sent[index].1.remote.port();
    assert_eq!((fake.0.borrow().sent.len(), to(2)), (3, 7301), "the most wanted first, at once");
    task.respond(2, 486, &[]);
    task.respond(0, 486, &[]);
    assert_eq!((fake.0.borrow().sent.len(), to(3)), (4, 7401));
    task.deliver(TaskEvent::Cancelled(None));
    task.respond(3, 302, &[("Contact", "<sip:dave@pairline.test>")]);
    assert_eq!((statuses(&fake), fake.0.borrow().sent.len()), (vec![180, 487], 4), "nothing new after a CANCEL");
}

/// A GRUU means one device (RFC 5627 §5.3): the one that was called may send the caller to others, and a redirection may
/// name one.
#[test]
fn a_gruu_binds_a_redirection_only_where_it_stands_in_it() {
    const DESK: &str = ";+sip.instance=\"<urn:uuid:1>\"";
    const MOBILE: &str = ";+sip.instance=\"<urn:uuid:2>\"";
    let ports = |fake: &Fake| -> Vec<u16> { fake.0.borrow().sent.iter().map(|(_, to, _)| to.remote.port()).collect() };
    let fake = with_devices([DESK, MOBILE]);
    fake.edit_view(|view| view.proxy.follow_redirects = true);
    device(&fake, "dave", "127.0.0.1:7301", DESK);
    device(&fake, "dave", "127.0.0.1:7302", MOBILE);
    let called = "sip:bob@pairline.test;gr=urn:uuid:1";
    let contact = ["Contact: <sip:alice@127.0.0.1:7001>"];
    let mut task = client("alice").request(&fake, "INVITE", called, "<sip:bob@pairline.test>", &contact, "");
    assert_eq!(ports(&fake), [7101]);
    let headers = [
        ("Contact", "<sip:dave@pairline.test;gr=urn:uuid:2>;q=0.9"),
        ("Contact", "<sip:bob@pairline.test;gr=urn:uuid:1>;q=0.5"),
        ("Contact", "<sip:dave@pairline.test>;q=0.1"),
    ];
    task.respond(0, 302, &headers);
    assert_eq!(ports(&fake), [7101, 7302], "that device and no other");
    task.respond(1, 486, &[]);
    assert_eq!(ports(&fake)[2..], [7301], "the others of the user");
    // In the other pool it is that device, too.
    let (fake, _task) = redirected(true, &["<sip:carol@pairline.test;gr=urn:uuid:2?Subject=x>"]);
    assert_eq!(fake.0.borrow().sent[1].1, peer_flow());
    assert_eq!(sent(&fake, 1).request_uri(), b"sip:carol@pairline.test;gr=urn:uuid:2");
}

/// History-Info of what was sent.
fn history(fake: &Fake, index: usize) -> Vec<String> {
    let message = sent(fake, index);
    message.headers(Name::HistoryInfo).map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
}

#[test]
fn history_is_written_only_where_it_is_wanted() {
    let table: [(HistoryInfo, &[&str], bool); 7] = [
        (HistoryInfo::Asked, &[], false),
        (HistoryInfo::Asked, &["Supported: 100rel, histinfo"], true),
        (HistoryInfo::Asked, &["Supported: timer"], false),
        (HistoryInfo::Off, &["Supported: histinfo"], false),
        (HistoryInfo::Always, &[], true),
        (HistoryInfo::Always, &["Privacy: id;history"], false),
        (HistoryInfo::Always, &["Privacy: header"], false),
    ];
    for (policy, lines, written) in table {
        let fake = with_devices(["", ";q=0.1"]);
        fake.edit_view(|view| view.proxy.history_info = policy);
        assert!(invite(&fake, lines).is_running());
        let expected = "<sip:bob@pairline.test>;index=1, <sip:bob@127.0.0.1:7101>;index=1.1;rc=1";
        let expected: &[&str] = if written { &[expected] } else { &[] };
        assert_eq!(history(&fake, 0), expected, "{policy:?} {lines:?}");
    }
}

#[test]
fn later_branches_tell_what_became_of_earlier_ones() {
    let fake = with_devices(["", ";q=0.1"]);
    let mut task = invite(&fake, &["Supported: histinfo"]);
    task.respond(0, 486, &[]);
    let expected = "<sip:bob@pairline.test>;index=1, <sip:bob@127.0.0.1:7101?Reason=SIP%3Bcause%3D486>;index=1.1;rc=1, \
                    <sip:bob@127.0.0.1:7102>;index=1.2;rc=1";
    assert_eq!(history(&fake, 1), [expected]);
}

#[test]
fn a_history_that_came_along_is_continued() {
    // Written up to this very target, written up to an earlier one, and nonsense.
    let table = [
        (
            "<sip:alice@x.example>;index=1, <sip:bob@pairline.test?Reason=SIP%3Bcause%3D302>;index=1.2",
            "<sip:bob@127.0.0.1:7101>;index=1.2.1;rc=1.2",
        ),
        (
            "<sip:someone@x.example>;index=1.1",
            "<sip:bob@pairline.test>;index=1.1.0.1, <sip:bob@127.0.0.1:7101>;index=1.1.0.1.1;rc=1.1.0.1",
        ),
        (
            "<sip:someone@x.example>;index=none",
            "<sip:bob@pairline.test>;index=1, <sip:bob@127.0.0.1:7101>;index=1.1;rc=1",
        ),
    ];
    for (came, added) in table {
        let fake = Fake::new();
        device(&fake, "bob", "127.0.0.1:7101", "");
        let line = format!("History-Info: {came}");
        assert!(invite(&fake, &["Supported: histinfo", &line]).is_running());
        assert_eq!(history(&fake, 0), [came, added]);
    }
    // Without a wish it stays as it is.
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", "");
    assert!(invite(&fake, &["History-Info: <sip:z@x.example>;index=1"]).is_running());
    assert_eq!(history(&fake, 0), ["<sip:z@x.example>;index=1"]);
}

#[test]
fn call_forwarding_stands_in_the_history_as_a_mapping() {
    let fake = Fake::new();
    device(&fake, "dave", "127.0.0.1:7301", "");
    let settings = Settings { forward_to: Some("sip:dave@pairline.test".into()), ..Settings::default() };
    fake.put(group_of(EAST, &aor(BOB)), settings_key(BOB), Class::Durable, settings.encode());
    assert!(invite(&fake, &["Supported: histinfo"]).is_running());
    let expected = "<sip:bob@pairline.test>;index=1, <sip:dave@pairline.test>;index=1.1;mp=1, \
                    <sip:dave@127.0.0.1:7301>;index=1.1.1;rc=1.1";
    assert_eq!(history(&fake, 0), [expected]);
}

/// Alice calls bob's one device; the Route that leads back through here.
fn dialog() -> (Fake, Task, String) {
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", "");
    let task = invite(&fake, &["Supported: 100rel, timer, 199", "Session-Expires: 90;refresher=uac", "Min-SE: 90"]);
    let route = sent(&fake, 0).record_routes().next().unwrap().raw().to_vec();
    (fake, task, format!("Route: {}", String::from_utf8(route).unwrap()))
}

/// One answer of the device, and the same as the caller gets it: only the top Via may differ.
fn untouched(fake: &Fake, task: &mut Task, status: u16, headers: &[(&str, &str)]) {
    let before = fake.0.borrow().responses.len();
    task.respond(0, status, headers);
    let (got, reply) = fake.0.borrow().responses[before].clone();
    assert_eq!(got, status);
    for (name, value) in headers {
        assert_eq!(reply.header_named(name), Some(value.as_bytes()), "{name} of the {status}");
    }
    assert_eq!(reply.vias().count(), 1);
}

#[test]
fn reliable_provisional_answers_and_session_timers_pass_untouched() {
    let (fake, mut task, _) = dialog();
    let request = sent(&fake, 0);
    assert_eq!(header(&request, Name::SessionExpires).unwrap(), "90;refresher=uac");
    assert_eq!(header(&request, Name::MinSe).unwrap(), "90");
    assert_eq!(header(&request, Name::Supported).unwrap(), "100rel, timer, 199");
    untouched(&fake, &mut task, 183, &[("RSeq", "7"), ("Require", "100rel")]);
    untouched(&fake, &mut task, 199, &[("Require", "199"), ("Reason", "SIP;cause=486")]);
    untouched(&fake, &mut task, 200, &[("Session-Expires", "90;refresher=uac"), ("Require", "timer")]);
    let (fake, mut task, _) = dialog();
    untouched(&fake, &mut task, 422, &[("Min-SE", "1800")]);
    let (fake, mut task, _) = dialog();
    untouched(&fake, &mut task, 486, &[("Reason", "Q.850;cause=17"), ("Retry-After", "9")]);
}

#[test]
fn prack_and_update_pass_inside_an_early_dialog_byte_for_byte() {
    let (fake, mut task, route) = dialog();
    task.respond(0, 183, &[("RSeq", "7"), ("Require", "100rel")]);
    let phone = Client { cseq: 9, call_id: "call-alice".into(), ..client("alice") };
    let to = "<sip:bob@pairline.test>;tag=device0";
    for (method, lines) in [("PRACK", "RAck: 7 2 INVITE"), ("UPDATE", "Session-Expires: 1800;refresher=uas")] {
        let request = phone.message(method, "sip:bob@127.0.0.1:7101", to, &[&route, lines], "v=0\r\n");
        let mut inner = Task::start(&fake, request.clone(), phone.flow);
        let index = fake.0.borrow().sent.len() - 1;
        let out = sent(&fake, index);
        assert_eq!((out.method().as_str(), out.request_uri()), (method, &b"sip:bob@127.0.0.1:7101"[..]));
        let kept = |m: &Message| -> Vec<Vec<u8>> {
            let edited = [Name::Via, Name::Route, Name::MaxForwards];
            m.headers_raw().filter(|(n, ..)| !edited.contains(n)).map(|(_, n, v)| [n, b":", v].concat()).collect()
        };
        assert_eq!(kept(&out), kept(&request), "{method}");
        assert_eq!(out.body(), request.body());
        inner.respond(index, 200, &[]);
        assert_eq!(last(&fake).0, 200);
    }
}
