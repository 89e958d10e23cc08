//! The layer as a server: matching, answers and their repetition, CANCEL, ACK, limits, targets.

use bytes::Bytes;
use pairline_sip::transaction::Gone;
use pairline_sip::{Flow, Layer, Message, Name, Output, Received, Reply, ServerTx, Timers, Transport};

use crate::bytes_of::{parse, request};

pub fn udp(text: &str) -> Flow {
    Flow::udp(0, text.parse().unwrap())
}

pub fn tcp(text: &str, connection: u64) -> Flow {
    Flow { transport: Transport::Tcp, connection, ..udp(text) }
}

pub fn drain(layer: &mut Layer) -> Vec<Output> {
    std::iter::from_fn(|| layer.poll()).collect()
}

pub fn sent(outputs: &[Output]) -> Vec<Message> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Transmit { bytes, .. } => Some(Message::parse(bytes.clone()).unwrap()),
            _ => None,
        })
        .collect()
}

fn layer() -> Layer {
    Layer::new(Timers::default(), 100)
}

fn accept(layer: &mut Layer, now: u64, flow: Flow, text: &str) -> (ServerTx, Message) {
    match layer.receive(now, flow, parse(text)) {
        Received::Request { tx, message } => (tx, message),
        other => panic!("expected a new request, got {other:?}"),
    }
}

fn answer(layer: &mut Layer, now: u64, tx: ServerTx, message: &Message, status: u16) -> Bytes {
    let bytes = Reply::to(message, status).build();
    layer.respond(now, tx, status, bytes.clone()).expect("still open");
    bytes
}

const SOURCE: &str = "192.0.2.1:4000";

#[test]
fn a_repeated_request_gets_the_same_answer() {
    let mut layer = layer();
    let text = request("REGISTER", "");
    let (tx, message) = accept(&mut layer, 0, udp(SOURCE), &text);
    assert!(layer.request_of(tx).is_some());
    let again = layer.receive(10, udp(SOURCE), parse(&text));
    assert!(matches!(again, Received::Absorbed));
    assert!(drain(&mut layer).is_empty(), "nothing to repeat yet");
    let bytes = answer(&mut layer, 20, tx, &message, 200);
    let first = drain(&mut layer);
    // Wherever it comes from: the answer goes where the first one went.
    layer.receive(30, udp("192.0.2.77:9"), parse(&text));
    assert_eq!(drain(&mut layer), first[..1]);
    let flow = udp("192.0.2.1:5070");
    assert_eq!(first, [Output::Transmit { flow, bytes: bytes.clone() }, Output::ServerDone { tx }]);
    assert!(layer.request_of(tx).is_none(), "only the answer is kept");
    assert_eq!(layer.respond(40, tx, 500, bytes), Err(Gone));
    assert_eq!((layer.len(), layer.kept_len(), layer.next_timeout()), (0, 1, None), "and that takes no timer");
    let via = parse(&text);
    assert!(layer.knows(20 + 31_999, b"REGISTER", &via.via()));
    assert!(!layer.knows(20 + 32_000, b"REGISTER", &via.via()), "timer J");
    layer.on_time(20 + 32_000);
    assert_eq!((layer.kept_len(), layer.held_bytes()), (0, 0));
    accept(&mut layer, 20 + 32_000, udp(SOURCE), &text);
}

#[test]
fn over_tcp_the_transaction_ends_with_its_answer() {
    let mut layer = layer();
    let (tx, message) = accept(&mut layer, 0, tcp(SOURCE, 7), &request("OPTIONS", ""));
    answer(&mut layer, 1, tx, &message, 200);
    let outputs = drain(&mut layer);
    assert!(matches!(outputs[0], Output::Transmit { flow, .. } if flow == tcp(SOURCE, 7)));
    assert_eq!(outputs[1], Output::ServerDone { tx });
    assert!(layer.is_empty());
}

#[test]
fn a_failed_invite_is_repeated_until_its_ack() {
    let mut layer = layer();
    let (tx, message) = accept(&mut layer, 0, udp(SOURCE), &request("INVITE", ""));
    answer(&mut layer, 100, tx, &message, 486);
    drain(&mut layer);
    let mut repeats = Vec::new();
    while let Some(at) = layer.next_timeout().filter(|at| *at < 12_000) {
        layer.on_time(at);
        assert_eq!(sent(&drain(&mut layer))[0].status(), Some(486));
        repeats.push(at - 100);
    }
    assert_eq!(repeats, [500, 1500, 3500, 7500, 11_500], "timer G doubles up to T2");
    let ack = request("ACK", "").replace("@example.com>\n", "@example.com>;tag=any\n");
    assert!(matches!(layer.receive(12_000, udp(SOURCE), parse(&ack)), Received::Absorbed));
    assert!(matches!(layer.receive(12_001, udp(SOURCE), parse(&ack)), Received::Absorbed));
    assert_eq!(layer.next_timeout(), Some(17_000), "timer I");
    layer.on_time(17_000);
    assert_eq!(drain(&mut layer), [Output::ServerDone { tx }]);
}

#[test]
fn an_invite_without_ack_ends_by_timer_h() {
    let mut layer = layer();
    let (tx, message) = accept(&mut layer, 0, tcp(SOURCE, 1), &request("INVITE", ""));
    answer(&mut layer, 0, tx, &message, 404);
    drain(&mut layer);
    assert_eq!(layer.next_timeout(), Some(32_000));
    layer.on_time(32_000);
    assert_eq!(drain(&mut layer), [Output::ServerDone { tx }]);
}

#[test]
fn a_silent_user_is_spoken_for_after_200_ms() {
    let mut layer = layer();
    let (tx, message) = accept(&mut layer, 0, udp(SOURCE), &request("INVITE", ""));
    assert_eq!(layer.next_timeout(), Some(200));
    layer.on_time(200);
    assert_eq!(sent(&drain(&mut layer))[0].status(), Some(100));
    layer.receive(500, udp(SOURCE), parse(&request("INVITE", "")));
    assert_eq!(sent(&drain(&mut layer))[0].status(), Some(100));
    answer(&mut layer, 600, tx, &message, 180);
    drain(&mut layer);
    layer.receive(700, udp(SOURCE), parse(&request("INVITE", "")));
    assert_eq!(sent(&drain(&mut layer))[0].status(), Some(180));
}

#[test]
fn a_quick_ringing_needs_no_100() {
    let mut layer = layer();
    let (tx, message) = accept(&mut layer, 0, udp(SOURCE), &request("INVITE", ""));
    answer(&mut layer, 50, tx, &message, 180);
    assert_eq!(layer.next_timeout(), None);
}

/// RFC 6026: repeated INVITEs are absorbed after a 2xx, its repetitions and its ACK pass.
#[test]
fn accepted_state() {
    let mut layer = layer();
    let (tx, message) = accept(&mut layer, 0, udp(SOURCE), &request("INVITE", ""));
    let bytes = answer(&mut layer, 10, tx, &message, 200);
    drain(&mut layer);
    layer.receive(20, udp(SOURCE), parse(&request("INVITE", "")));
    assert!(drain(&mut layer).is_empty());
    assert_eq!(layer.respond(500, tx, 200, bytes.clone()), Ok(()));
    assert_eq!(sent(&drain(&mut layer)).len(), 1);
    assert_eq!(layer.respond(500, tx, 486, bytes.clone()), Err(Gone));
    let same_branch = layer.receive(600, udp(SOURCE), parse(&request("ACK", "")));
    assert!(matches!(same_branch, Received::Ack { .. }));
    layer.on_time(32_010);
    assert_eq!(drain(&mut layer), [Output::ServerDone { tx }]);
    assert_eq!(layer.respond(32_011, tx, 200, bytes), Err(Gone));
    let own_branch = request("ACK", "").replace("z9hG4bK776", "z9hG4bK777");
    assert!(matches!(layer.receive(33_000, udp(SOURCE), parse(&own_branch)), Received::Ack { .. }));
}

#[test]
fn cancel_is_answered_and_reported_once() {
    let mut layer = layer();
    let (tx, message) = accept(&mut layer, 0, udp(SOURCE), &request("INVITE", ""));
    let cancel = request("CANCEL", "");
    match layer.receive(50, udp(SOURCE), parse(&cancel)) {
        Received::Cancel { invite, reason } => assert_eq!((invite, reason), (tx, None)),
        other => panic!("{other:?}"),
    }
    let ok = sent(&drain(&mut layer));
    assert_eq!((ok[0].status(), ok[0].cseq().1.as_str()), (Some(200), "CANCEL"));
    assert!(matches!(layer.receive(60, udp(SOURCE), parse(&cancel)), Received::Absorbed));
    assert_eq!(sent(&drain(&mut layer)).len(), 1, "the 200 again");
    answer(&mut layer, 70, tx, &message, 487);
    let terminated = sent(&drain(&mut layer));
    assert_eq!(terminated[0].to().tag(), ok[0].to().tag(), "RFC 3261 §9.2");
    let late = cancel.replace("z9hG4bK776asdhds", "z9hG4bKother");
    assert!(matches!(layer.receive(80, udp(SOURCE), parse(&late)), Received::Absorbed));
    assert_eq!(sent(&drain(&mut layer))[0].status(), Some(481));
}

#[test]
fn the_reason_of_a_cancel_is_told() {
    let mut layer = layer();
    accept(&mut layer, 0, udp(SOURCE), &request("INVITE", ""));
    let lines = "Reason: SIP;cause=200;text=\"Call completed elsewhere\"\nReason: Q.850;cause=26\n";
    match layer.receive(50, udp(SOURCE), parse(&request("CANCEL", lines))) {
        Received::Cancel { reason, .. } => {
            let both = "SIP;cause=200;text=\"Call completed elsewhere\", Q.850;cause=26";
            assert_eq!(reason.as_deref(), Some(both));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn cancel_after_the_final_response_has_no_effect() {
    let mut layer = layer();
    let (tx, message) = accept(&mut layer, 0, udp(SOURCE), &request("INVITE", ""));
    answer(&mut layer, 10, tx, &message, 200);
    drain(&mut layer);
    assert!(matches!(layer.receive(50, udp(SOURCE), parse(&request("CANCEL", ""))), Received::Absorbed));
    assert_eq!(sent(&drain(&mut layer))[0].status(), Some(200));
}

/// RFC 6026: nothing is left of an accepted INVITE but to absorb it, once nobody gives further 2xx.
#[test]
fn an_accepted_invite_is_absorbed_after_its_user_has_gone() {
    let mut layer = layer();
    let text = request("INVITE", "");
    let (tx, message) = accept(&mut layer, 0, udp(SOURCE), &text);
    layer.release_server(1, tx);
    let bytes = answer(&mut layer, 10, tx, &message, 200);
    layer.release_server(20, tx);
    assert_eq!(drain(&mut layer).last(), Some(&Output::ServerDone { tx }));
    assert_eq!((layer.len(), layer.kept_len(), layer.next_timeout()), (0, 1, None));
    assert_eq!(layer.respond(30, tx, 200, bytes), Err(Gone));
    assert!(matches!(layer.receive(500, udp(SOURCE), parse(&text)), Received::Absorbed));
    assert!(drain(&mut layer).is_empty(), "a 2xx is repeated by who gave it");
    assert!(matches!(layer.receive(600, udp(SOURCE), parse(&request("ACK", ""))), Received::Ack { .. }));
    assert!(matches!(layer.receive(700, udp(SOURCE), parse(&request("CANCEL", ""))), Received::Absorbed));
    assert_eq!(sent(&drain(&mut layer))[0].status(), Some(200), "it comes too late, and is answered");
    assert!(matches!(layer.receive(40_000, udp(SOURCE), parse(&text)), Received::Request { .. }));
}

/// Whatever was answered lately, there is room for who comes now.
#[test]
fn what_was_answered_takes_no_room_and_the_oldest_is_forgotten() {
    let mut layer = Layer::new(Timers::default(), 10);
    let text = |n: u64| request("MESSAGE", "").replace("776asdhds", &format!("k{n}"));
    for n in 0..35 {
        let (tx, message) = accept(&mut layer, n, udp(SOURCE), &text(n));
        answer(&mut layer, n, tx, &message, 200);
        assert!(!layer.is_full() && !layer.is_nearly_full());
    }
    drain(&mut layer);
    assert_eq!((layer.kept_len(), layer.len()), (10, 0));
    for n in 25..35 {
        assert!(matches!(layer.receive(40, udp(SOURCE), parse(&text(n))), Received::Absorbed), "{n}");
        assert_eq!(sent(&drain(&mut layer))[0].via().branch(), parse(&text(n)).via().branch(), "its own answer");
    }
    assert!(matches!(layer.receive(40, udp(SOURCE), parse(&text(24))), Received::Request { .. }));
}

#[test]
fn the_limit_is_answered_500_and_its_ack_ends_here() {
    let mut layer = Layer::new(Timers::default(), 1);
    accept(&mut layer, 0, udp(SOURCE), &request("INVITE", ""));
    let second = request("INVITE", "").replace("776asdhds", "second");
    assert!(layer.is_full());
    assert!(matches!(layer.receive(1, udp(SOURCE), parse(&second)), Received::Refused));
    let refusal = &sent(&drain(&mut layer))[0];
    assert_eq!(refusal.status(), Some(500));
    assert!(refusal.header(Name::RetryAfter).is_some());
    assert_eq!(layer.len(), 1);
    let ack = Reply::ack_for(&parse(&second), refusal);
    let ack = layer.receive(2, udp(SOURCE), Message::parse(ack).unwrap());
    assert!(matches!(ack, Received::Absorbed), "not to be forwarded");
    assert!(matches!(layer.receive(3, udp(SOURCE), parse(&request("CANCEL", ""))), Received::Cancel { .. }));
}

/// Nothing else gets the room that emergency calls have beside the others', and they get no more than that.
#[test]
fn what_is_urgent_has_room_of_its_own_and_no_more() {
    let mut layer = Layer::new(Timers::default(), 16);
    let invite = |branch: &str| parse(&request("INVITE", "").replace("776asdhds", branch));
    for n in 0..16 {
        assert!(matches!(layer.receive(0, udp(SOURCE), invite(&format!("n{n}"))), Received::Request { .. }));
    }
    assert!(layer.is_full());
    for n in 0..2 {
        assert!(matches!(layer.receive(1, udp(SOURCE), invite("late")), Received::Refused));
        assert!(matches!(layer.receive_urgent(1, udp(SOURCE), invite(&format!("sos{n}"))), Received::Request { .. }));
    }
    assert!(matches!(layer.receive_urgent(1, udp(SOURCE), invite("sos0")), Received::Absorbed), "a repetition");
    assert!(matches!(layer.receive_urgent(1, udp(SOURCE), invite("sos2")), Received::Refused));
    assert_eq!(layer.len(), 18);
}

#[test]
fn transactions_differ_by_branch_sent_by_and_method() {
    let mut layer = layer();
    let text = request("INFO", "");
    accept(&mut layer, 0, udp(SOURCE), &text);
    accept(&mut layer, 0, udp(SOURCE), &text.replace("776asdhds", "777"));
    accept(&mut layer, 0, udp(SOURCE), &text.replace("5070", "5071"));
    accept(&mut layer, 0, udp(SOURCE), &text.replace("INFO", "MESSAGE"));
    let same = text.replace("client.example", "CLIENT.example");
    assert!(matches!(layer.receive(1, udp(SOURCE), parse(&same)), Received::Absorbed));
    assert_eq!(layer.server_len(), 4);
}

/// RFC 3261 §17.2.3, last part: a peer without the magic cookie.
#[test]
fn old_peers_are_matched_by_the_message() {
    let mut layer = layer();
    let invite = request("INVITE", "").replace(";branch=z9hG4bK776asdhds", "");
    let (tx, message) = accept(&mut layer, 0, udp(SOURCE), &invite);
    assert!(matches!(layer.receive(1, udp(SOURCE), parse(&invite)), Received::Absorbed));
    answer(&mut layer, 2, tx, &message, 486);
    let ack = invite.replace("INVITE", "ACK").replace("@example.com>\n", "@example.com>;tag=77\n");
    assert!(matches!(layer.receive(3, udp(SOURCE), parse(&ack)), Received::Absorbed));
    layer.on_time(5003);
    assert!(drain(&mut layer).contains(&Output::ServerDone { tx }));
    let bare = request("INVITE", "").replace("z9hG4bK776asdhds", "z9hG4bK");
    accept(&mut layer, 0, udp(SOURCE), &bare);
    accept(&mut layer, 0, udp(SOURCE), &bare.replace("a84b4c76e66710", "other-call"));
}

#[test]
fn answers_go_where_rfc_3581_says() {
    let mut layer = layer();
    let cases = [
        ("rport;branch=z9hG4bK1", SOURCE),
        ("branch=z9hG4bK2", "192.0.2.1:5070"),
        ("maddr=203.0.113.9;branch=z9hG4bK3", "192.0.2.1:5070"),
        ("received=203.0.113.9;branch=z9hG4bK4", "192.0.2.1:5070"),
    ];
    for (params, target) in cases {
        let text = request("OPTIONS", "").replace("branch=z9hG4bK776asdhds", params);
        let (tx, message) = accept(&mut layer, 0, udp(SOURCE), &text);
        assert_eq!(layer.server_flow(tx), Some(udp(target)), "{params}");
        let bytes = answer(&mut layer, 0, tx, &message, 200);
        let reply = Message::parse(bytes).unwrap();
        assert_eq!(reply.via().received(), "192.0.2.1".parse().ok());
    }
    let portless = request("OPTIONS", "").replace(".net:5070;", ".net;");
    let (tx, _) = accept(&mut layer, 0, udp(SOURCE), &portless);
    assert_eq!(layer.server_flow(tx), Some(udp("192.0.2.1:5060")));
}

#[test]
fn answers_survive_their_connection() {
    let mut layer = layer();
    let flow = tcp(SOURCE, 9);
    let (tx, message) = accept(&mut layer, 0, flow, &request("INVITE", ""));
    layer.transport_failed(10, tcp(SOURCE, 8));
    assert_eq!(layer.server_flow(tx), Some(flow), "another connection");
    layer.transport_failed(10, flow);
    assert_eq!(layer.server_flow(tx), Some(tcp("192.0.2.1:5070", 0)));
    answer(&mut layer, 20, tx, &message, 486);
    layer.transport_failed(30, tcp("192.0.2.1:5070", 0));
    layer.on_time(40_000);
    drain(&mut layer);
    assert!(layer.is_empty());
}

#[test]
fn a_request_that_nobody_answers_does_not_stay() {
    let mut layer = layer();
    let (tx, message) = accept(&mut layer, 0, udp(SOURCE), &request("INFO", ""));
    layer.on_time(32_000);
    assert_eq!(drain(&mut layer), [Output::ServerDone { tx }]);
    let bytes = Reply::to(&message, 200).build();
    assert_eq!(layer.respond(32_001, tx, 200, bytes), Err(Gone));
}

#[test]
fn ids_are_not_mistaken_for_older_ones() {
    let mut layer = layer();
    let (first, message) = accept(&mut layer, 0, tcp(SOURCE, 1), &request("INFO", ""));
    answer(&mut layer, 0, first, &message, 200);
    let (second, _) = accept(&mut layer, 0, tcp(SOURCE, 1), &request("INFO", ""));
    assert_ne!(first, second);
    let bytes = Reply::to(&message, 200).build();
    assert_eq!(layer.respond(0, first, 200, bytes), Err(Gone));
    assert!(layer.request_of(second).is_some());
}

#[test]
fn answers_to_the_other_pool_survive_its_link() {
    let link = Flow { transport: Transport::Peer, ..tcp("0.0.0.0:2", 2) };
    let mut layer = layer();
    let (tx, message) = accept(&mut layer, 0, link, &request("INVITE", ""));
    answer(&mut layer, 10, tx, &message, 180);
    drain(&mut layer);
    layer.transport_failed(20, link);
    // Lost with the link, and nobody would repeat it.
    let busy = answer(&mut layer, 30, tx, &message, 486);
    assert_eq!(drain(&mut layer), [Output::Transmit { flow: link, bytes: busy.clone() }]);
    layer.transport_failed(30, link);
    layer.transport_restored(100, link);
    assert_eq!(drain(&mut layer), [Output::Transmit { flow: link, bytes: busy }]);
}

#[test]
fn an_answer_to_a_stranger_is_sent_once_and_nothing_is_kept() {
    for method in ["INVITE", "REGISTER"] {
        let mut layer = layer();
        let text = request(method, "");
        let (tx, message) = accept(&mut layer, 0, udp(SOURCE), &text);
        let bytes = Reply::to(&message, 401).build();
        layer.respond_once(tx, bytes).unwrap();
        assert_eq!(sent(&drain(&mut layer)).len(), 1);
        assert!(layer.is_empty() && layer.held_bytes() == 0);
        assert_eq!(layer.next_timeout(), None, "never repeated to a source that may be forged");
        assert_eq!(layer.respond(1, tx, 200, Bytes::new()), Err(Gone));
        // The request again is a new one.
        accept(&mut layer, 500, udp(SOURCE), &text);
    }
}

#[test]
fn large_messages_leave_room_for_fewer_transactions() {
    let mut layer = Layer::new(Timers::default(), 10);
    let padding = format!("Subject: {}\n", "x".repeat(12_000));
    let text = |n: u64| request("REGISTER", &padding).replace("776asdhds", &format!("b{n}"));
    let mut open = Vec::new();
    let refused = (0..10).find(|n| match layer.receive(0, udp(SOURCE), parse(&text(*n))) {
        Received::Request { tx, message } => {
            open.push((tx, message));
            false
        }
        _ => true,
    });
    assert_eq!(refused, Some(4), "ten times 4 KiB hold four of 12 KiB");
    for (tx, message) in open {
        answer(&mut layer, 1, tx, &message, 200);
    }
    assert!(layer.held_bytes() < 4_000, "the answers are small: {}", layer.held_bytes());
    accept(&mut layer, 2, udp(SOURCE), &text(20));
    layer.on_time(100_000);
    layer.on_time(200_000);
    assert_eq!((layer.held_bytes(), layer.server_len(), layer.kept_len()), (0, 0, 0));
}
