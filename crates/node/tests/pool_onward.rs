//! A REGISTER that meets a server which does not lead its user's group: it is handed to the one that does in one step, and what that
//! stores and answers is what the longer way stores and answers.
#![allow(clippy::unwrap_used)]

use super::common;

use bytes::Bytes;
use common::phone::{Phone, drain, follower, leader, pool_with};
use common::pool::Pool;
use pairline_group::{Key, Record};
use pairline_node::io::Input;
use pairline_node::peer::PeerFrame;
use pairline_services::binding::Binding;
use pairline_services::records::BINDING;
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::method::Method;

/// The stored bindings of a user at whoever leads.
fn bindings(pool: &Pool, user: &str) -> Vec<Binding> {
    let (at, group) = (leader(pool, user), pool.group_of(user));
    pool.fronts[at].node.as_ref().unwrap().inspect(|core| {
        let aor = format!("sip:{user}@pairline.test");
        let records: Vec<(Key, Record)> =
            core.host.scan(group, &aor, Some(BINDING)).map(|(key, record)| (key.clone(), record.clone())).collect();
        records.iter().map(|(_, record)| Binding::from_record(record).unwrap()).collect()
    })
}

fn under_way(pool: &Pool, at: usize) -> usize {
    pool.fronts[at].node.as_ref().unwrap().under_way()
}

fn tasks(pool: &Pool, at: usize) -> usize {
    pool.fronts[at].node.as_ref().unwrap().live_tasks()
}

/// Frames of this kind that came to a server since the last look.
fn handed_over(pool: &mut Pool) -> usize {
    let seen = std::mem::take(&mut pool.seen);
    seen.iter().filter(|frame| matches!(PeerFrame::decode(frame), Ok(PeerFrame::Register { .. }))).count()
}

/// The request with the answer to the challenge that it meets at a server.
fn answered_challenge(pool: &mut Pool, phone: &mut Phone, at: usize) -> Bytes {
    let user = phone.user;
    let first = phone.request(&Method::Register, user, &[("Expires", "600")]);
    let challenged = phone.answer(pool, at, first);
    assert_eq!(challenged.status(), Some(401));
    phone.answer_with(&challenged, &Method::Register, user, &[("Expires", "600")])
}

/// With a Require that everybody knows, a REGISTER is none of those that are decided in one step.
const LONG_WAY: (&str, &str) = ("Require", "path");

#[test]
fn what_is_handed_over_is_stored_and_answered_as_by_the_longer_way() {
    let mut pool = pool_with(&["bob"]);
    let at = follower(&pool, "bob");
    let mut phones = [Phone::udp("bob", 9), Phone::udp("bob", 10), Phone::tcp("bob", 11), Phone::tcp("bob", 12)];
    let mut answers = Vec::new();
    for (n, phone) in phones.iter_mut().enumerate() {
        let long = n % 2 == 1;
        let mut lines = vec![("Expires", "600")];
        lines.extend(long.then_some(LONG_WAY));
        pool.seen.clear();
        answers.push(phone.ask(&mut pool, at, &Method::Register, "bob", &lines));
        assert_eq!(handed_over(&mut pool), usize::from(!long), "phone {n}");
    }
    let stored = bindings(&pool, "bob");
    assert_eq!(stored.len(), 4);
    for (n, (phone, answer)) in phones.iter().zip(&answers).enumerate() {
        assert_eq!(answer.status(), Some(200));
        let uri = format!("sip:bob@{}", phone.flow.remote);
        let own = stored.iter().find(|binding| *binding.contact == *uri.as_bytes()).unwrap();
        assert_eq!((own.flow.flow, own.flow.server.0), (phone.flow, u32::try_from(at).unwrap() + 1), "phone {n}");
        assert!(own.path.is_empty(), "the pool's own way in is none");
        let said = answer.contacts().find(|contact| contact.uri == uri.as_bytes()).unwrap();
        assert_eq!(said.expires(), Some(own.granted), "the 200 says what is stored");
        assert_eq!(answer.contacts().count(), n + 1, "and all that there is");
        assert_eq!(answer.vias().count(), 1);
        assert_eq!((answer.via().param("rport").is_some(), answer.cseq().0), (true, phone.cseq));
    }
    // Of two phones on the same transport everything else is equal too.
    for pair in [[9, 10], [11, 12]] {
        let of = |host: u8| {
            stored.iter().find(|b| b.flow.flow.remote.ip().to_string() == format!("192.0.2.{host}")).unwrap()
        };
        let (one, other) = (of(pair[0]), of(pair[1]));
        let rest = |b: &Binding| {
            (b.q, b.params.clone(), b.instance.clone(), b.reg_id, b.user_agent.clone(), b.flow.boot, b.flow.pool)
        };
        assert_eq!(rest(one), rest(other));
    }
    assert_eq!((under_way(&pool, 0), under_way(&pool, 1), under_way(&pool, 2)), (0, 0, 0));
}

#[test]
fn wrong_passwords_and_used_nonces_are_challenged_as_ever_and_a_repetition_is_answered_alike() {
    let mut pool = pool_with(&["bob"]);
    let at = follower(&pool, "bob");
    let mut phone = Phone::udp("bob", 9);
    let request = answered_challenge(&mut pool, &mut phone, at);
    let wrong = {
        let text = String::from_utf8(request.to_vec()).unwrap();
        let (before, after) = text.split_once("response=\"").unwrap();
        let (_, rest) = after.split_once('"').unwrap();
        Bytes::from(format!("{before}response=\"0123456789abcdef\"{rest}").replace("z9hG4bK", "z9hG4bKw"))
    };
    pool.seen.clear();
    let refused = phone.answer(&mut pool, at, wrong);
    assert_eq!((refused.status(), handed_over(&mut pool)), (Some(401), 1));
    let first = phone.answer(&mut pool, at, request.clone());
    assert_eq!(first.status(), Some(200));
    let again = phone.answer(&mut pool, at, request.clone());
    assert_eq!(again.status(), Some(200), "the answer was lost: the same again");
    assert_eq!(bindings(&pool, "bob").len(), 1);
    // The same credentials in another request.
    let used =
        String::from_utf8(request.to_vec()).unwrap().replace("z9hG4bK", "z9hG4bKu").replace("CSeq: 2 ", "CSeq: 7 ");
    let used = phone.answer(&mut pool, at, Bytes::from(used));
    assert_eq!(used.status(), Some(401));
    let value = String::from_utf8(used.header(Name::WwwAuthenticate).unwrap().to_vec()).unwrap();
    assert!(value.contains("stale=true"), "{value}");
}

#[test]
fn a_leader_that_dies_in_between_is_no_loss_and_leaves_nothing_behind() {
    let mut pool = pool_with(&["bob"]);
    let (dead, at) = (leader(&pool, "bob"), follower(&pool, "bob"));
    let mut phone = Phone::udp("bob", 9);
    let request = answered_challenge(&mut pool, &mut phone, at);
    pool.freeze(dead);
    let before = pool.fronts[at].sip.len();
    pool.seen.clear();
    pool.give(at, Input::Sip { flow: phone.flow, message: request.clone() });
    assert_eq!((handed_over(&mut pool), under_way(&pool, at)), (1, 1));
    // Its repetitions are the same.
    pool.give(at, Input::Sip { flow: phone.flow, message: request });
    assert_eq!((handed_over(&mut pool), under_way(&pool, at)), (0, 1));
    pool.kill(dead);
    let ok = |m: &Message| m.status() == Some(200);
    pool.until("an answer from who leads next", |pool| phone.got(pool, at, before).iter().any(ok));
    assert_eq!(bindings(&pool, "bob").len(), 1);
    assert_eq!(under_way(&pool, at), 0);
}

#[test]
fn a_neighbour_that_does_not_answer_is_not_waited_for() {
    let mut pool = pool_with(&["bob"]);
    let (still, at) = (leader(&pool, "bob"), follower(&pool, "bob"));
    let mut phone = Phone::udp("bob", 9);
    let request = answered_challenge(&mut pool, &mut phone, at);
    pool.freeze(still);
    pool.give(at, Input::Sip { flow: phone.flow, message: request });
    assert_eq!(under_way(&pool, at), 1);
    pool.until("it is answered, or forgotten", |pool| under_way(pool, at) == 0);
    pool.thaw(still);
    pool.run(3_000);
    assert_eq!(bindings(&pool, "bob").len(), 1, "once, whoever leads now");
}

#[test]
fn a_server_that_has_just_passed_its_groups_on_says_so_and_the_request_finds_who_leads_now() {
    let mut pool = pool_with(&["bob"]);
    let (before, at) = (leader(&pool, "bob"), follower(&pool, "bob"));
    let mut phone = Phone::udp("bob", 9);
    let request = answered_challenge(&mut pool, &mut phone, at);
    pool.must(at, drain(before));
    assert_ne!(leader(&pool, "bob"), before);
    // As if it had been sent when that server still led.
    let client = pairline_services::registrar::quick::Origin::here(
        &pool.fronts[at].node.as_ref().unwrap().inspect(|core| core.view.clone()),
        phone.flow,
    );
    let frame = PeerFrame::Register {
        call: 77,
        client: client.client.to_bytes().into(),
        algorithm: "SHA-256".to_owned(),
        message: request.clone(),
    };
    pool.seen.clear();
    pool.frame(at, before, frame.encode());
    let none = PeerFrame::Registered { call: 77, response: None }.encode();
    assert!(pool.seen.contains(&none), "not decided there");
    assert!(bindings(&pool, "bob").is_empty());
    let answer = phone.answer(&mut pool, at, request);
    assert_eq!(answer.status(), Some(200));
    assert_eq!(bindings(&pool, "bob").len(), 1);
}

#[test]
fn nobody_is_registered_on_a_flow_that_is_not_the_senders_own() {
    let mut pool = pool_with(&["bob"]);
    let (lead, at) = (leader(&pool, "bob"), follower(&pool, "bob"));
    let third = 3 - lead - at;
    let mut phone = Phone::udp("bob", 9);
    let request = answered_challenge(&mut pool, &mut phone, at);
    let view = pool.fronts[third].node.as_ref().unwrap().inspect(|core| core.view.clone());
    let others = pairline_services::registrar::quick::Origin::here(&view, phone.flow).client;
    for client in [Bytes::from(others.to_bytes()), Bytes::from_static(b"\xff\xff")] {
        let frame = PeerFrame::Register { call: 5, client, algorithm: "SHA-256".to_owned(), message: request.clone() };
        pool.seen.clear();
        pool.frame(at, lead, frame.encode());
        assert!(pool.seen.contains(&PeerFrame::Registered { call: 5, response: None }.encode()));
    }
    assert!(bindings(&pool, "bob").is_empty());
    // An answer that nobody waits for, or from whoever was not asked, changes nothing.
    pool.frame(lead, at, PeerFrame::Registered { call: 5, response: Some(request) }.encode());
    assert_eq!(tasks(&pool, at), tasks(&pool, third));
}
