//! REGISTER, case by case (RFC 3261 §10.3, RFC 3327, RFC 5626, DESIGN §8).
#![allow(clippy::unwrap_used)]

use super::common;

use common::sip::{client, contacts, last};
use common::{EAST, Fake, Task, WEST, aor, flow, group_of, peer_flow, udp};
use pairline_group::io::Refusal;
use pairline_group::{Epoch, ServerId};
use pairline_services::cx::{Peer, Place, TaskEvent};
use pairline_services::metrics::Counter;
use pairline_services::routes;
use pairline_sip::flow::Transport;
use pairline_sip::message::Message;
use pairline_sip::uri::Uri;

const ALICE: &str = "sip:alice@pairline.test";

#[test]
fn a_binding_is_made_refreshed_and_removed() {
    let fake = Fake::new();
    let mut phone = client("alice");
    let (status, reply) = phone.register(&fake, &["Contact: <sip:alice@127.0.0.1:7001>;q=0.5;methods=\"INVITE\""]);
    assert_eq!(status, 200);
    assert_eq!(contacts(&reply), ["<sip:alice@127.0.0.1:7001>;methods=\"INVITE\";q=0.500;expires=600"]);
    let made = fake.bindings(ALICE);
    assert_eq!((made.len(), made[0].q, made[0].granted), (1, 500, 600));
    assert_eq!((made[0].flow.pool, made[0].flow.server, made[0].flow.flow), (EAST, ServerId(11), phone.flow));

    let (status, _) = phone.register(&fake, &["Contact: <sip:alice@127.0.0.1:7001>;expires=60"]);
    assert_eq!(status, 200);
    let refreshed = fake.bindings(ALICE);
    assert_eq!((refreshed.len(), refreshed[0].granted, refreshed[0].id), (1, 60, made[0].id));

    let (status, reply) = phone.register(&fake, &["Contact: <sip:alice@127.0.0.1:7001>", "Expires: 0"]);
    assert_eq!((status, contacts(&reply).len()), (200, 0));
    assert!(fake.bindings(ALICE).is_empty());
    assert_eq!(fake.count_of(Counter::RegisterNew), 1);
    assert_eq!(fake.count_of(Counter::RegisterRefresh), 1);
    assert_eq!(fake.count_of(Counter::RegisterRemove), 1);
}

#[test]
fn a_fetch_shows_all_bindings_and_writes_nothing() {
    let fake = Fake::new();
    let mut phone = client("alice");
    phone.register(&fake, &["Contact: <sip:alice@127.0.0.1:7001>, <sip:alice@127.0.0.1:7002>;expires=100"]);
    let commits = fake.0.borrow().commits.len();
    let (status, reply) = phone.register(&fake, &[]);
    assert_eq!((status, contacts(&reply).len()), (200, 2));
    assert_eq!(fake.0.borrow().commits.len(), commits);
}

#[test]
fn expiries_are_lowered_to_the_maximum_and_refused_below_the_minimum() {
    for (wish, status, granted) in [("7200", 200, "900"), ("600", 200, "600"), ("30", 200, "30"), ("29", 423, "")] {
        let fake = Fake::new();
        let contact = format!("Contact: <sip:alice@127.0.0.1:7001>;expires={wish}");
        let (got, reply) = client("alice").register(&fake, &[&contact]);
        assert_eq!(got, status, "wish {wish}");
        if status == 423 {
            assert_eq!(reply.header_named("Min-Expires").unwrap(), b"30");
            assert!(fake.bindings(ALICE).is_empty());
        } else {
            assert!(contacts(&reply)[0].ends_with(&format!(";expires={granted}")), "wish {wish}");
        }
    }
    let fake = Fake::new();
    fake.edit_view(|view| view.registrar.refuse_brief = false);
    let (status, reply) = client("alice").register(&fake, &["Contact: <sip:a@127.0.0.1:7001>;expires=5"]);
    assert_eq!(status, 200);
    assert!(contacts(&reply)[0].ends_with(";expires=5"));
}

#[test]
fn star_removes_everything_only_alone_and_with_expires_zero() {
    let fake = Fake::new();
    let mut phone = client("alice");
    phone.register(&fake, &["Contact: <sip:alice@127.0.0.1:7001>, <sip:alice@127.0.0.1:7002>"]);
    assert_eq!(phone.register(&fake, &["Contact: *"]).0, 400);
    assert_eq!(phone.register(&fake, &["Contact: *", "Expires: 60"]).0, 400);
    assert_eq!(phone.register(&fake, &["Contact: *", "Contact: <sip:x@127.0.0.1>", "Expires: 0"]).0, 400);
    assert_eq!(fake.bindings(ALICE).len(), 2);
    assert_eq!(phone.register(&fake, &["Contact: *", "Expires: 0"]).0, 200);
    assert!(fake.bindings(ALICE).is_empty());
}

/// Sends one REGISTER with a chosen CSeq, answering the challenge with that very CSeq.
fn with_cseq(fake: &Fake, phone: &mut common::sip::Client, cseq: u32, contact: &str) -> (u16, Message) {
    phone.cseq = cseq - 2;
    phone.register(fake, &[contact])
}

#[test]
fn a_repeat_is_answered_with_the_present_state() {
    let fake = Fake::new();
    let mut phone = client("alice");
    let contact = "Contact: <sip:alice@127.0.0.1:7001>";
    assert_eq!(with_cseq(&fake, &mut phone, 10, contact).0, 200);
    let commits = fake.0.borrow().commits.len();
    let (status, reply) = with_cseq(&fake, &mut phone, 10, contact);
    assert_eq!((status, contacts(&reply).len()), (200, 1));
    assert_eq!(fake.0.borrow().commits.len(), commits, "nothing is written for a repeat");
    assert_eq!(fake.count_of(Counter::RegisterRepeat), 1);
    assert_eq!(with_cseq(&fake, &mut phone, 9, contact).0, 500, "lower CSeq");
    let other = "Contact: <sip:alice@127.0.0.1:7001>;expires=77";
    assert_eq!(with_cseq(&fake, &mut phone, 10, other).0, 500, "equal CSeq, other contacts");
    assert_eq!(fake.bindings(ALICE)[0].granted, 600);
}

#[test]
fn a_repeat_over_another_flow_moves_the_binding_there() {
    let fake = Fake::new();
    let mut phone = client("alice");
    let contact = "Contact: <sip:alice@127.0.0.1:7001>";
    with_cseq(&fake, &mut phone, 10, contact);
    phone.flow = flow(Transport::Tcp, "127.0.0.1:7009", 5);
    assert_eq!(with_cseq(&fake, &mut phone, 10, contact).0, 200);
    let bindings = fake.bindings(ALICE);
    assert_eq!((bindings.len(), bindings[0].flow.flow), (1, phone.flow));
}

#[test]
fn a_new_call_id_replaces_the_binding_of_the_instance_or_contact() {
    let fake = Fake::new();
    let mut phone = client("alice");
    let instance = ";reg-id=1;+sip.instance=\"<urn:uuid:1>\"";
    phone.register(&fake, &[&format!("Contact: <sip:alice@127.0.0.1:7001>{instance}")]);
    phone.call_id = "after-restart".into();
    phone.cseq = 0;
    phone.register(&fake, &[&format!("Contact: <sip:alice@127.0.0.1:9999>{instance}")]);
    let bindings = fake.bindings(ALICE);
    assert_eq!((bindings.len(), &*bindings[0].contact), (1, &b"sip:alice@127.0.0.1:9999"[..]));
    assert_eq!((bindings[0].reg_id, bindings[0].instance.as_deref()), (Some(1), Some(&b"<urn:uuid:1>"[..])));
    // The same instance's second flow is a binding of its own.
    let second = "Contact: <sip:alice@127.0.0.1:9998>;reg-id=2;+sip.instance=\"<urn:uuid:1>\"";
    phone.call_id = "second-flow".into();
    phone.register(&fake, &[second]);
    assert_eq!(fake.bindings(ALICE).len(), 2);
    // Without an instance an equal contact is what counts, by RFC 3261 §19.1.4.
    phone.call_id = "third".into();
    phone.register(&fake, &["Contact: <SIP:alice@127.0.0.1:9999>"]);
    assert_eq!(fake.bindings(ALICE).len(), 2);
}

#[test]
fn too_many_bindings_are_refused_and_the_old_ones_stay() {
    let fake = Fake::new();
    for port in 7001..=7003 {
        let mut phone = client("alice");
        phone.call_id = format!("c{port}");
        assert_eq!(phone.register(&fake, &[&format!("Contact: <sip:alice@127.0.0.1:{port}>")]).0, 200);
    }
    let mut phone = client("alice");
    phone.call_id = "c7004".into();
    assert_eq!(phone.register(&fake, &["Contact: <sip:alice@127.0.0.1:7004>"]).0, 403);
    assert_eq!(fake.bindings(ALICE).len(), 3);
    phone.call_id = "c7003".into();
    phone.cseq = 50;
    assert_eq!(phone.register(&fake, &["Contact: <sip:alice@127.0.0.1:7003>"]).0, 200, "a refresh still goes");
}

#[test]
fn a_full_pool_takes_nobody_new_and_keeps_whom_it_has() {
    let fake = Fake::new();
    let mut phone = client("alice");
    let contact = "Contact: <sip:alice@127.0.0.1:7001>";
    assert_eq!(phone.register(&fake, &[contact]).0, 200);
    fake.0.borrow_mut().bindings_full = true;
    let (status, reply) = phone.register(&fake, &["Contact: <sip:alice@127.0.0.1:7002>"]);
    assert_eq!((status, reply.has(pairline_sip::header::Name::RetryAfter)), (500, true));
    assert_eq!(phone.register(&fake, &[contact]).0, 200, "a refresh");
    assert_eq!(phone.register(&fake, &[]).0, 200, "a question");
    assert_eq!(phone.register(&fake, &["Contact: *", "Expires: 0"]).0, 200);
    assert_eq!(fake.count_of(Counter::RegisterPoolFull), 1);
    let carol = aor("sip:carol@pairline.test");
    fake.set_place(&carol, Place::Resiliency { group: group_of(WEST, &carol) });
    assert_eq!(client("carol").register(&fake, &["Contact: <sip:carol@127.0.0.1:7001>"]).0, 500, "nor guests");
    assert!(!fake.0.borrow().guests.contains_key(carol.as_str()));
}

#[test]
fn path_is_kept_and_echoed() {
    let fake = Fake::new();
    let (status, reply) = client("alice").register(
        &fake,
        &["Path: <sip:edge.example;lr>, <sip:inner.example;lr>", "Contact: <sip:alice@10.0.0.1>", "Supported: path"],
    );
    assert_eq!(status, 200);
    assert_eq!(reply.header_named("Path").unwrap(), b"<sip:edge.example;lr>, <sip:inner.example;lr>");
    let path: Vec<Vec<u8>> = fake.bindings(ALICE)[0].path.iter().map(|p| p.to_vec()).collect();
    assert_eq!(path, [b"sip:edge.example;lr".to_vec(), b"sip:inner.example;lr".to_vec()]);
}

#[test]
fn unusable_contacts_are_refused() {
    let fake = Fake::new();
    let mut phone = client("alice");
    assert_eq!(phone.register(&fake, &["Contact: <tel:+49301234>"]).0, 400);
    let many: Vec<String> = (0..17).map(|i| format!("<sip:a@10.0.0.{i}>")).collect();
    assert_eq!(phone.register(&fake, &[&format!("Contact: {}", many.join(","))]).0, 403);
    let long = format!("Contact: <sip:{}@10.0.0.1>", "a".repeat(600));
    assert_eq!(phone.register(&fake, &[&long]).0, 400);
    assert!(fake.bindings(ALICE).is_empty());
}

#[test]
fn a_conflict_is_tried_once_more() {
    let fake = Fake::new();
    let key = pairline_services::records::settings_key(ALICE);
    fake.0.borrow_mut().refusals.push_back(Refusal::Conflict(key.clone()));
    assert_eq!(client("alice").register(&fake, &["Contact: <sip:a@127.0.0.1:7001>"]).0, 200);
    let fake = Fake::new();
    fake.0.borrow_mut().refusals.extend([Refusal::Conflict(key.clone()), Refusal::Conflict(key)]);
    let (status, reply) = client("alice").register(&fake, &["Contact: <sip:a@127.0.0.1:7001>"]);
    assert_eq!(status, 500);
    assert!(reply.header_named("Retry-After").is_some());
}

#[test]
fn while_the_group_moves_the_registrar_looks_again() {
    let fake = Fake::new();
    fake.0.borrow_mut().refusals.push_back(Refusal::NotActive(Epoch::default(), WEST));
    let mut phone = client("alice");
    let extra = ["Contact: <sip:a@127.0.0.1:7001>"];
    let mut task = phone.request(&fake, "REGISTER", "sip:pairline.test", "<sip:alice@pairline.test>", &extra, "");
    assert!(task.is_running());
    fake.set_place(&aor(ALICE), Place::Elsewhere { group: Some(group_of(EAST, &aor(ALICE))), at: Peer::Pool(WEST) });
    task.advance(500);
    let (_, hop, sent) = fake.0.borrow().sent[0].clone();
    assert_eq!(hop, peer_flow());
    assert!(sent.has(pairline_sip::header::Name::Authorization), "credentials stay in");
    task.respond(0, 200, &[("Contact", "<sip:a@127.0.0.1:7001>;expires=20")]);
    assert_eq!(last(&fake).0, 200);
    assert!(!task.is_running());
}

#[test]
fn a_second_look_does_not_ask_for_the_password_again() {
    for refusal in [
        Refusal::NotActive(Epoch::default(), WEST),
        Refusal::Unconfirmed,
        Refusal::NotLeader(None),
        Refusal::OutcomeUnknown,
    ] {
        let fake = Fake::new();
        fake.0.borrow_mut().refusals.push_back(refusal);
        let mut phone = client("alice");
        let extra = ["Contact: <sip:a@127.0.0.1:7001>"];
        let mut task = phone.request(&fake, "REGISTER", "sip:pairline.test", "<sip:alice@pairline.test>", &extra, "");
        task.advance(500);
        assert_eq!((last(&fake).0, task.is_running()), (200, false));
        assert_eq!(fake.count_of(Counter::AuthStale), 0);
    }
}

#[test]
fn a_user_of_the_other_pool_is_registered_there_with_path() {
    let fake = Fake::new();
    let mut phone = client("carol");
    let contact = "Contact: <sip:carol@127.0.0.1:7001>";
    let mut task = phone.request(&fake, "REGISTER", "sip:pairline.test", "<sip:carol@pairline.test>", &[contact], "");
    let (_, hop, sent) = fake.0.borrow().sent[0].clone();
    assert_eq!(hop.transport, Transport::Peer);
    let path = sent.paths().next().unwrap();
    let user = Uri::parse(path.uri).unwrap().user.unwrap().to_vec();
    let token = routes::read_flow_token(&common::view().sealing_key, &user).unwrap();
    assert_eq!((token.pool, token.flow), (EAST, phone.flow));
    task.respond(0, 401, &[("WWW-Authenticate", "Digest realm=\"x\", nonce=\"y\"")]);
    assert_eq!(last(&fake).0, 401, "the serving pool's challenge goes back");
    assert_eq!(last(&fake).1.vias().count(), 1);

    // What the serving pool makes of such a REGISTER: the flow in the binding is the other pool's.
    let west = Fake::new();
    west.edit_view(|view| view.own.pool = WEST);
    west.set_place(
        &aor("sip:carol@pairline.test"),
        Place::Here { group: group_of(WEST, &aor("sip:carol@pairline.test")) },
    );
    let path = format!("Path: {}", String::from_utf8(path.raw().to_vec()).unwrap());
    phone.flow = peer_flow();
    let (status, reply) = phone.register(&west, &[contact, &path]);
    assert_eq!(status, 200);
    assert!(reply.header_named("Path").is_some());
    let binding = &west.bindings("sip:carol@pairline.test")[0];
    assert_eq!((binding.flow.pool, binding.flow.flow, binding.path.len()), (EAST, udp("127.0.0.1:7001"), 0));
}

#[test]
fn when_the_serving_pool_is_away_the_client_is_told_to_come_back() {
    let fake = Fake::new();
    let carol = aor("sip:carol@pairline.test");
    for (place, link) in [
        (Place::Unavailable { group: Some(group_of(WEST, &carol)), pool: WEST }, true),
        (Place::Elsewhere { group: Some(group_of(WEST, &carol)), at: Peer::Pool(WEST) }, false),
    ] {
        fake.set_place(&carol, place);
        fake.0.borrow_mut().peer_up = link;
        let (status, reply) = client("carol").register(&fake, &["Contact: <sip:carol@127.0.0.1:7001>"]);
        assert_eq!(status, 500);
        assert!(reply.header_named("Retry-After").is_some());
    }
    fake.0.borrow_mut().peer_up = true;
    let mut phone = client("carol");
    let mut task = phone.request(&fake, "REGISTER", "sip:pairline.test", "<sip:carol@pairline.test>", &[], "");
    let branch = task.branch(0);
    task.deliver(TaskEvent::Timeout(branch));
    assert_eq!(last(&fake).0, 500);
}

#[test]
fn guests_are_made_in_resiliency_mode_only_for_a_short_time() {
    let fake = Fake::new();
    let carol = aor("sip:carol@pairline.test");
    fake.set_place(&carol, Place::Resiliency { group: group_of(WEST, &carol) });
    let mut phone = client("carol");
    let (status, reply) = phone.register(&fake, &["Contact: <sip:carol@127.0.0.1:7001>;expires=3600"]);
    assert_eq!(status, 200);
    assert!(contacts(&reply)[0].ends_with(";expires=120"));
    let warning = String::from_utf8(reply.header_named("Warning").unwrap().to_vec()).unwrap();
    assert!(warning.starts_with("399 fe1.east.pairline.test \"limited mode"));
    assert!(fake.0.borrow().commits.is_empty(), "the home group is not written");
    assert_eq!(fake.0.borrow().guests[carol.as_str()].len(), 1);
    let (status, reply) = phone.register(&fake, &["Contact: <sip:carol@127.0.0.1:7001>;expires=0"]);
    assert_eq!((status, contacts(&reply).len()), (200, 0));
    assert!(fake.0.borrow().guests[carol.as_str()].is_empty());
    fake.0.borrow_mut().guests_full = true;
    assert_eq!(phone.register(&fake, &["Contact: <sip:carol@127.0.0.1:7001>"]).0, 500);
    phone.password = "wrong";
    assert_eq!(phone.register(&fake, &["Contact: <sip:carol@127.0.0.1:7001>"]).0, 401);
}

#[test]
fn third_party_registration_is_refused() {
    let fake = Fake::new();
    // Bob's credentials for alice's bindings.
    let mut phone = client("bob");
    let to = "<sip:alice@pairline.test>";
    let task = phone.request(&fake, "REGISTER", "sip:pairline.test", to, &["Contact: <sip:bob@127.0.0.1:7001>"], "");
    assert!(!task.is_running());
    assert_eq!(last(&fake).0, 403);
    // Alice's credentials, but From somebody else.
    let mut phone = client("alice");
    phone.from = Some("sip:bob@pairline.test");
    assert_eq!(phone.register(&fake, &["Contact: <sip:bob@127.0.0.1:7001>"]).0, 403);
    assert!(fake.bindings(ALICE).is_empty());
}

#[test]
fn own_addresses_stand_for_the_default_domain() {
    let fake = Fake::new();
    let mut phone = client("alice");
    phone.from = Some("sip:alice@127.0.1.1");
    let to = "<sip:alice@127.0.1.1>";
    let task = phone.request(&fake, "REGISTER", "sip:127.0.1.1", to, &["Contact: <sip:alice@127.0.0.1:7001>"], "");
    assert!(!task.is_running());
    assert_eq!((last(&fake).0, fake.bindings(ALICE).len()), (200, 1));
    let foreign =
        Task::start(&fake, client("alice").message("REGISTER", "sip:other.example", to, &[], ""), udp("127.0.0.1:1"));
    assert!(!foreign.is_running());
    assert_eq!(last(&fake).0, 403);
}

#[test]
fn two_flows_of_one_client_with_the_same_contact_stay_apart() {
    let fake = Fake::new();
    for reg_id in [1, 2] {
        let mut phone = client("alice");
        phone.call_id = format!("flow{reg_id}");
        let contact = format!("Contact: <sip:alice@127.0.0.1:7001>;reg-id={reg_id};+sip.instance=\"<urn:uuid:1>\"");
        assert_eq!(phone.register(&fake, &[&contact]).0, 200);
    }
    assert_eq!(fake.bindings(ALICE).len(), 2);
}

#[test]
fn required_extensions_must_be_known() {
    let fake = Fake::new();
    let contact = "Contact: <sip:alice@127.0.0.1:7001>";
    assert_eq!(client("alice").register(&fake, &[contact, "Require: path"]).0, 200);
    let (status, reply) = client("alice").register(&fake, &[contact, "Require: path, gruu, 100rel, magic"]);
    assert_eq!(status, 420);
    assert_eq!(reply.header(pairline_sip::header::Name::Unsupported).unwrap(), b"100rel, magic");
}

/// Carol signs in here as a guest, at these ports.
fn guest_carol(ports: &[u16]) -> Fake {
    let fake = Fake::new();
    let carol = aor("sip:carol@pairline.test");
    fake.set_place(&carol, Place::Resiliency { group: group_of(WEST, &carol) });
    for port in ports {
        let mut phone = client("carol");
        phone.call_id = format!("c{port}");
        assert_eq!(phone.register(&fake, &[&format!("Contact: <sip:carol@127.0.0.1:{port}>")]).0, 200);
    }
    fake
}

#[test]
fn at_home_a_register_of_the_same_contact_ends_its_guest_binding() {
    let carol = aor("sip:carol@pairline.test");
    for (line, left) in [
        ("Contact: <sip:carol@127.0.0.1:7001>", 1),
        ("Contact: <sip:carol@127.0.0.1:7001>;expires=0", 1),
        ("Contact: *", 0),
    ] {
        let fake = guest_carol(&[7001, 7002]);
        // The outage is over and the user's home is served: for this test, here.
        fake.edit_view(|view| view.own.pool = WEST);
        fake.set_place(&carol, Place::Here { group: group_of(WEST, &carol) });
        let mut phone = client("carol");
        phone.call_id = "home".into();
        phone.register(&fake, &["Contact: <sip:carol@127.0.0.1:7009>"]);
        assert_eq!(fake.0.borrow().guests[carol.as_str()].len(), 2, "another contact ends none");
        let extra = if line.ends_with('*') { vec![line, "Expires: 0"] } else { vec![line] };
        let (status, reply) = phone.register(&fake, &extra);
        assert_eq!(status, 200);
        assert!(contacts(&reply).iter().all(|c| !c.contains("7002")), "never merged into the home group");
        assert_eq!(fake.0.borrow().guests[carol.as_str()].len(), left, "{line}");
    }
}

#[test]
fn a_promoted_pool_commits_guests_as_ordinary_bindings() {
    let carol = aor("sip:carol@pairline.test");
    let fake = guest_carol(&[7001, 7002]);
    fake.set_place(&carol, Place::Here { group: group_of(WEST, &carol) });
    fake.0.borrow_mut().mono += 20_000;
    let (status, reply) = client("carol").register(&fake, &[]);
    assert_eq!((status, contacts(&reply).len()), (200, 2), "a fetch shows them");
    assert!(contacts(&reply)[0].ends_with(";expires=100"), "as long as they had been granted");
    assert_eq!(fake.bindings(carol.as_str()).len(), 2);
    assert!(fake.0.borrow().guests[carol.as_str()].is_empty());

    // A refresh takes its own guest over and keeps the other, in one commit; the very REGISTER again is a repeat.
    for (cseq, count) in [(50, Counter::RegisterRefresh), (3, Counter::RegisterRepeat)] {
        let fake = guest_carol(&[7001, 7002]);
        fake.set_place(&carol, Place::Here { group: group_of(WEST, &carol) });
        let mut phone = client("carol");
        phone.call_id = "c7001".into();
        let (before, commits) = (fake.count_of(count), fake.0.borrow().commits.len());
        assert_eq!(with_cseq(&fake, &mut phone, cseq, "Contact: <sip:carol@127.0.0.1:7001>").0, 200);
        assert_eq!(fake.count_of(count), before + 1);
        assert_eq!((fake.bindings(carol.as_str()).len(), fake.0.borrow().commits.len() - commits), (2, 1));
        assert!(fake.0.borrow().guests[carol.as_str()].is_empty());
    }
}

#[test]
fn the_usual_register_is_decided_in_one_step_and_so_is_its_challenge() {
    let fake = Fake::new();
    let mut phone = client("alice");
    let contact = "Contact: <sip:alice@127.0.0.1:7001>;+sip.instance=\"<urn:uuid:1>\"";
    let (status, _) = phone.register(&fake, &[contact]);
    assert_eq!(status, 200);
    let foreseen = |extra: &[&str]| {
        let lines = [&[contact], extra].concat();
        let request = phone.message("REGISTER", "sip:pairline.test", "<sip:alice@pairline.test>", &lines, "");
        common::glance::foresee(&fake, &request, phone.flow).unwrap().is_taken()
    };
    assert!(foreseen(&[]), "its challenge");
    for unusual in ["Route: <sip:x@127.0.0.9;lr>", "Path: <sip:127.0.0.9;lr>", "Require: outbound", "Proxy-Require: x"]
    {
        assert!(!foreseen(&[unusual]), "{unusual}");
    }
    // Each REGISTER of these tests is compared with its task; this one is to be taken, not only right.
    phone.cseq += 1;
    let request = phone.message("REGISTER", "sip:pairline.test", "<sip:alice@pairline.test>", &[contact], "");
    Task::start(&fake, request, phone.flow);
    let challenge = last(&fake).1.header_named("WWW-Authenticate").unwrap().to_vec();
    phone.cseq += 1;
    let line = phone.authorization(&challenge, "Authorization", "REGISTER", "sip:pairline.test", 1);
    let request = phone.message("REGISTER", "sip:pairline.test", "<sip:alice@pairline.test>", &[contact, &line], "");
    let foreseen = common::glance::foresee(&fake, &request, phone.flow).unwrap();
    assert!(foreseen.is_commit());
    Task::start(&fake, request, phone.flow);
    assert_eq!(last(&fake).0, 200);
}

#[test]
fn expiries_are_spread_but_never_longer_than_asked_for() {
    let granted = |wish: &str, n: u32| -> u64 {
        let fake = Fake::new();
        fake.edit_view(|view| view.registrar.spread_percent = 10);
        let contact = format!("Contact: <sip:alice@127.0.0.1:{}>{wish}", 7000 + n);
        let (status, reply) = client("alice").register(&fake, &[&contact]);
        assert_eq!(status, 200);
        let shown = contacts(&reply)[0].rsplit('=').next().unwrap().parse().unwrap();
        assert_eq!(u64::from(fake.bindings(ALICE)[0].granted), shown, "what is kept is what is said");
        shown
    };
    // Asked for, lowered to the most, left to the deployment, the shortest that policy allows.
    for (wish, low, high) in
        [(";expires=600", 540, 600), (";expires=7200", 810, 900), ("", 540, 660), (";expires=30", 30, 30)]
    {
        let all: Vec<u64> = (0..200).map(|n| granted(wish, n)).collect();
        assert!(all.iter().all(|seconds| (low..=high).contains(seconds)), "{wish}: {all:?}");
        let (least, most) = (all.iter().min().unwrap(), all.iter().max().unwrap());
        let width = high - low;
        assert!((most - least) * 10 >= width * 9, "{wish}: {least} to {most}");
        let below = all.iter().filter(|seconds| **seconds < low + width / 2).count();
        assert!(width == 0 || (60..140).contains(&below), "{wish}: {below} of 200 in the lower half");
    }
}
