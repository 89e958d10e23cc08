//! The layer as a client: sending, repeating, responses, ACK, CANCEL, timeouts, failures.

use bytes::Bytes;
use pairline_sip::{ClientTx, Flow, Layer, Message, Method, Name, Output, Received, Reply, Timers, Transport};

use crate::bytes_of::{parse, request};
use crate::layer_server::{drain, sent, tcp, udp};

const REMOTE: &str = "192.0.2.2:5060";

fn start(flow: Flow, method: &str) -> (Layer, ClientTx, Message) {
    let mut layer = Layer::new(Timers::default(), 10);
    let message = parse(&request(method, ""));
    let tx = layer.request(0, flow, message.clone());
    let outputs = drain(&mut layer);
    assert_eq!(outputs, [Output::Transmit { flow, bytes: message.as_bytes().clone() }], "sent byte for byte");
    (layer, tx, message)
}

fn response(request: &Message, status: u16) -> Message {
    Message::parse(Reply::to(request, status).to_tag("r").build()).unwrap()
}

fn takes(layer: &mut Layer, now: u64, flow: Flow, message: Message) -> Option<(ClientTx, u16)> {
    match layer.receive(now, flow, message) {
        Received::Response { tx, message } => Some((tx, message.status().unwrap())),
        Received::Absorbed => None,
        other => panic!("{other:?}"),
    }
}

/// Fires timers until `until`; gives the times at which something was sent.
fn run(layer: &mut Layer, until: u64) -> (Vec<u64>, Vec<Output>) {
    let (mut times, mut all) = (Vec::new(), Vec::new());
    while let Some(at) = layer.next_timeout().filter(|at| *at <= until) {
        layer.on_time(at);
        let outputs = drain(layer);
        if !sent(&outputs).is_empty() {
            times.push(at);
        }
        all.extend(outputs);
    }
    (times, all)
}

#[test]
fn an_unanswered_invite_times_out() {
    let (mut layer, tx, _) = start(udp(REMOTE), "INVITE");
    let (times, outputs) = run(&mut layer, 100_000);
    assert_eq!(times, [500, 1500, 3500, 7500, 15_500, 31_500], "timer A doubles");
    let end = &outputs[outputs.len() - 2..];
    assert_eq!(end, [Output::Timeout { tx }, Output::ClientDone { tx }]);
    assert!(layer.is_empty());
}

#[test]
fn an_unanswered_request_times_out() {
    let (mut layer, tx, _) = start(udp(REMOTE), "OPTIONS");
    let (times, outputs) = run(&mut layer, 100_000);
    assert_eq!(
        times,
        [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500],
        "timer E doubles up to T2"
    );
    let end = &outputs[outputs.len() - 2..];
    assert_eq!(end, [Output::Timeout { tx }, Output::ClientDone { tx }]);
}

#[test]
fn over_tcp_nothing_is_repeated() {
    for method in ["INVITE", "OPTIONS"] {
        let (mut layer, tx, _) = start(tcp(REMOTE, 1), method);
        let (times, outputs) = run(&mut layer, 100_000);
        assert!(times.is_empty());
        assert_eq!(outputs, [Output::Timeout { tx }, Output::ClientDone { tx }]);
    }
}

#[test]
fn a_provisional_response_slows_a_request_down() {
    let (mut layer, tx, message) = start(udp(REMOTE), "OPTIONS");
    let trying = response(&message, 100);
    assert_eq!(takes(&mut layer, 100, udp(REMOTE), trying), Some((tx, 100)));
    let (times, _) = run(&mut layer, 12_000);
    assert_eq!(times, [500, 4500, 8500], "timer E at T2");
    let ok = response(&message, 200);
    assert_eq!(takes(&mut layer, 12_500, udp(REMOTE), ok.clone()), Some((tx, 200)));
    assert_eq!(drain(&mut layer), [Output::ClientDone { tx }]);
    assert_eq!(layer.next_timeout(), None);
    assert!(matches!(layer.receive(12_600, udp(REMOTE), ok), Received::StrayResponse { .. }), "nobody's any more");
}

#[test]
fn a_failed_invite_is_acknowledged_each_time() {
    let (mut layer, tx, message) = start(udp(REMOTE), "INVITE");
    let busy = response(&message, 486);
    assert_eq!(takes(&mut layer, 50, udp(REMOTE), busy.clone()), Some((tx, 486)));
    let ack = sent(&drain(&mut layer)).remove(0);
    assert_eq!(*ack.method(), Method::Ack);
    assert_eq!(ack.to().tag(), Some(&b"r"[..]));
    assert_eq!(ack.via().raw(), message.via().raw());
    assert_eq!(takes(&mut layer, 600, udp(REMOTE), busy), None);
    assert_eq!(sent(&drain(&mut layer)).len(), 1, "the ACK again");
    let (times, outputs) = run(&mut layer, 40_000);
    assert!(times.is_empty());
    assert_eq!(outputs, [Output::ClientDone { tx }], "timer D");
}

#[test]
fn a_failed_invite_over_tcp_is_over_at_once() {
    let (mut layer, tx, message) = start(tcp(REMOTE, 3), "INVITE");
    let busy = response(&message, 486);
    assert_eq!(takes(&mut layer, 50, tcp(REMOTE, 3), busy), Some((tx, 486)));
    let outputs = drain(&mut layer);
    assert_eq!(*sent(&outputs)[0].method(), Method::Ack);
    assert_eq!(outputs[1], Output::ClientDone { tx });
}

/// RFC 6026: every 2xx passes until timer M, also from different callees; the ACK is not ours.
#[test]
fn all_2xx_are_reported() {
    let (mut layer, tx, message) = start(udp(REMOTE), "INVITE");
    takes(&mut layer, 10, udp(REMOTE), response(&message, 180));
    for (now, tag) in [(100, "one"), (200, "two"), (700, "one")] {
        let ok = Message::parse(Reply::to(&message, 200).to_tag(tag).build()).unwrap();
        assert_eq!(takes(&mut layer, now, udp(REMOTE), ok), Some((tx, 200)));
    }
    assert_eq!(takes(&mut layer, 800, udp(REMOTE), response(&message, 486)), None);
    assert_eq!(takes(&mut layer, 800, udp(REMOTE), response(&message, 180)), None);
    assert!(drain(&mut layer).is_empty());
    layer.on_time(32_100);
    assert_eq!(drain(&mut layer), [Output::ClientDone { tx }]);
}

#[test]
fn cancel_waits_for_a_provisional_response() {
    let (mut layer, tx, message) = start(udp(REMOTE), "INVITE");
    layer.cancel_because(10, tx, "SIP;cause=200");
    assert!(drain(&mut layer).is_empty());
    assert_eq!(takes(&mut layer, 20, udp(REMOTE), response(&message, 180)), Some((tx, 180)));
    let cancel = sent(&drain(&mut layer)).remove(0);
    assert_eq!(*cancel.method(), Method::Cancel);
    assert_eq!(cancel.header(Name::Reason), Some(&b"SIP;cause=200"[..]));
    assert_eq!(takes(&mut layer, 30, udp(REMOTE), response(&cancel, 200)), None);
    assert_eq!(takes(&mut layer, 40, udp(REMOTE), response(&message, 487)), Some((tx, 487)));
    assert_eq!(*sent(&drain(&mut layer))[0].method(), Method::Ack);
}

#[test]
fn a_cancelled_invite_without_final_response_times_out() {
    let (mut layer, tx, message) = start(udp(REMOTE), "INVITE");
    takes(&mut layer, 100, udp(REMOTE), response(&message, 180));
    layer.cancel(1000, tx);
    layer.cancel(1001, tx);
    assert_eq!(sent(&drain(&mut layer)).len(), 1, "one CANCEL however often asked");
    let (times, outputs) = run(&mut layer, 60_000);
    assert_eq!(times.first(), Some(&1500), "the CANCEL is repeated like any request");
    let news: Vec<_> = outputs.into_iter().filter(|output| !matches!(output, Output::Transmit { .. })).collect();
    assert_eq!(news, [Output::Timeout { tx }, Output::ClientDone { tx }], "nothing is said of the CANCEL's own end");
    assert!(layer.is_empty());
}

/// RFC 3261 §16.6 step 11 and §16.8.
#[test]
fn timer_c_cancels_and_is_restarted_by_ringing() {
    let (mut layer, _, message) = start(tcp(REMOTE, 2), "INVITE");
    takes(&mut layer, 0, tcp(REMOTE, 2), response(&message, 180));
    assert_eq!(layer.next_timeout(), Some(185_000));
    takes(&mut layer, 100_000, tcp(REMOTE, 2), response(&message, 183));
    assert_eq!(layer.next_timeout(), Some(285_000));
    takes(&mut layer, 200_000, tcp(REMOTE, 2), response(&message, 100));
    assert_eq!(layer.next_timeout(), Some(285_000), "100 does not count");
    layer.on_time(285_000);
    assert_eq!(*sent(&drain(&mut layer))[0].method(), Method::Cancel);
}

#[test]
fn a_failed_transport_fails_its_transactions_at_once() {
    let flow = tcp(REMOTE, 4);
    let (mut layer, tx, _) = start(flow, "INVITE");
    let other = parse(&request("INFO", "").replace("776asdhds", "other"));
    let elsewhere = layer.request(0, tcp(REMOTE, 5), other);
    let unconnected = parse(&request("INFO", "").replace("776asdhds", "third"));
    let third = layer.request(0, tcp(REMOTE, 0), unconnected);
    drain(&mut layer);
    layer.transport_failed(10, flow);
    let outputs = drain(&mut layer);
    for gone in [tx, third] {
        assert!(outputs.contains(&Output::TransportError { tx: gone }));
        assert!(outputs.contains(&Output::ClientDone { tx: gone }));
    }
    assert_eq!(outputs.len(), 4);
    assert!(layer.client_flow(elsewhere).is_some());
}

/// The link to another pool.
fn link() -> Flow {
    Flow { transport: Transport::Peer, ..tcp("0.0.0.0:2", 2) }
}

#[test]
fn what_rings_in_the_other_pool_outlives_a_short_interruption_of_the_link() {
    let (mut layer, tx, message) = start(link(), "INVITE");
    takes(&mut layer, 0, link(), response(&message, 180));
    layer.transport_failed(1_000, link());
    layer.transport_failed(3_000, link());
    assert!(drain(&mut layer).is_empty());
    layer.transport_restored(5_999, link());
    assert_eq!(layer.next_timeout(), Some(190_999), "Timer C again");
    assert_eq!(takes(&mut layer, 8_000, link(), response(&message, 200)), Some((tx, 200)));
}

#[test]
fn an_interruption_that_lasts_fails_what_rang_and_at_once_what_did_not() {
    for (status, fails_at) in [(180, 6_000), (100, 1_000)] {
        let (mut layer, tx, message) = start(link(), "INVITE");
        takes(&mut layer, 0, link(), response(&message, status));
        layer.transport_failed(1_000, link());
        // Another message that finds no link does not prolong it.
        layer.transport_failed(fails_at - 1, link());
        layer.on_time(fails_at - 1);
        assert_eq!(drain(&mut layer).is_empty(), status == 180);
        layer.on_time(fails_at);
        let rest = drain(&mut layer);
        assert_eq!(rest.contains(&Output::TransportError { tx }), status == 180);
        assert!(layer.is_empty());
    }
}

#[test]
fn a_cancel_is_sent_again_when_the_link_is_back() {
    let (mut layer, tx, message) = start(link(), "INVITE");
    takes(&mut layer, 0, link(), response(&message, 180));
    layer.cancel(500, tx);
    drain(&mut layer);
    layer.transport_failed(1_000, link());
    assert!(drain(&mut layer).iter().all(|output| !matches!(output, Output::TransportError { .. })));
    layer.transport_restored(2_000, link());
    let methods: Vec<Method> = sent(&drain(&mut layer)).iter().map(|m| m.method().clone()).collect();
    assert_eq!(methods, [Method::Cancel]);
    assert_eq!(takes(&mut layer, 2_100, link(), response(&message, 487)), Some((tx, 487)));
}

/// RFC 6026: further 2xx reach the user as long as there is one; after that they are for whoever takes stray responses.
#[test]
fn an_accepted_invite_ends_with_its_user() {
    let (mut layer, tx, message) = start(udp(REMOTE), "INVITE");
    layer.release_client(0, tx);
    assert_eq!(
        takes(&mut layer, 1, udp(REMOTE), response(&message, 180)),
        Some((tx, 180)),
        "it goes on without an answer"
    );
    let ok = response(&message, 200);
    for now in [50, 550] {
        assert_eq!(takes(&mut layer, now, udp(REMOTE), ok.clone()), Some((tx, 200)));
    }
    assert_eq!(layer.next_timeout(), Some(32_050), "timer M");
    layer.release_client(600, tx);
    assert_eq!(drain(&mut layer).last(), Some(&Output::ClientDone { tx }));
    assert!(matches!(layer.receive(700, udp(REMOTE), ok), Received::StrayResponse { .. }));
    assert_eq!((layer.len(), layer.next_timeout()), (0, None));
}

#[test]
fn a_completed_transaction_ignores_its_transport() {
    let (mut layer, _, message) = start(udp(REMOTE), "INVITE");
    takes(&mut layer, 5, udp(REMOTE), response(&message, 404));
    drain(&mut layer);
    layer.transport_failed(10, udp(REMOTE));
    assert!(drain(&mut layer).is_empty());
    assert_eq!(layer.client_len(), 1);
}

#[test]
fn responses_match_by_branch_and_method() {
    let (mut layer, _, message) = start(udp(REMOTE), "INVITE");
    let text = String::from_utf8(response(&message, 200).as_bytes().to_vec()).unwrap();
    for changed in [text.replace("776asdhds", "776asdhdz"), text.replace("314159 INVITE", "314159 BYE")] {
        let stray = Message::parse(Bytes::from(changed)).unwrap();
        assert!(matches!(layer.receive(5, udp(REMOTE), stray), Received::StrayResponse { .. }));
    }
}

/// The outputs of a run depend on its inputs alone, not on the seed of the key table.
#[test]
fn runs_can_be_repeated() {
    let trace = |seed: u64| {
        let mut layer = Layer::with_seed(Timers::default(), 1000, seed);
        let mut trace = Vec::new();
        for n in 0..200u64 {
            let text = request(if n % 3 == 0 { "INVITE" } else { "INFO" }, "").replace("776asdhds", &format!("b{n}"));
            if n % 2 == 0 {
                layer.request(n, udp(REMOTE), parse(&text));
            } else {
                layer.receive(n, udp(REMOTE), parse(&text));
            }
            layer.on_time(n * 37);
            trace.extend(drain(&mut layer));
        }
        layer.on_time(1_000_000);
        trace.extend(drain(&mut layer));
        trace
    };
    assert_eq!(trace(1), trace(0xdead_beef));
}

/// A request that was made from a parsed one is sent, matched and ended like one that is handed over in parts.
#[test]
fn a_request_in_bytes_is_as_one_in_parts() {
    for method in ["INVITE", "INFO"] {
        let mut layer = Layer::new(Timers::default(), 10);
        let message = parse(&request(method, ""));
        let tx = layer.request_made(0, udp(REMOTE), message.as_bytes().clone()).unwrap();
        let (mut parts, in_parts, _) = start(udp(REMOTE), method);
        assert_eq!(sent(&drain(&mut layer)).len(), 1);
        assert_eq!(layer.next_timeout(), parts.next_timeout());
        let busy = response(&message, 486);
        assert_eq!(takes(&mut layer, 50, udp(REMOTE), busy.clone()), Some((tx, 486)));
        assert_eq!(takes(&mut parts, 50, udp(REMOTE), busy), Some((in_parts, 486)));
        let (ours, theirs) = (drain(&mut layer), drain(&mut parts));
        assert_eq!(sent(&ours).len(), usize::from(method == "INVITE"), "an ACK");
        assert_eq!(ours, theirs);
        assert_eq!(run(&mut layer, 40_000), run(&mut parts, 40_000));
    }
}

#[test]
fn what_opens_no_transaction_in_bytes_opens_none() {
    let mut layer = Layer::new(Timers::default(), 10);
    let made = |layer: &mut Layer, bytes: &[u8]| layer.request_made(0, udp(REMOTE), Bytes::copy_from_slice(bytes));
    let answer = response(&parse(&request("INFO", "")), 200);
    assert!(made(&mut layer, request("ACK", "").as_bytes()).is_none());
    assert!(made(&mut layer, answer.as_bytes()).is_none());
    assert!(made(&mut layer, b"INFO sip:a@b SIP/2.0\r\nFrom: <sip:a@b>\r\n\r\n").is_none(), "no Via");
    assert!(made(&mut layer, b"\r\n").is_none());
    assert!(drain(&mut layer).is_empty());
    assert_eq!(layer.next_timeout(), None);
}

/// What comes and goes on connections leaves stopped timers behind, which are swept out; who waits meanwhile is not.
#[test]
fn many_short_transactions_leave_a_waiting_one_its_timers() {
    let (mut layer, tx, _) = start(udp(REMOTE), "INFO");
    for n in 0..3_000 {
        let short = parse(&request("INFO", "").replace("776asdhds", &format!("s{n}")));
        let over = layer.request(0, tcp(REMOTE, 3), short.clone());
        assert_eq!(takes(&mut layer, 0, tcp(REMOTE, 3), response(&short, 200)), Some((over, 200)));
        layer.on_time(0);
        drain(&mut layer);
    }
    assert_eq!(layer.timer_len(), 2, "timers E and F of the one that waits");
    let (times, outputs) = run(&mut layer, 40_000);
    assert_eq!(times.first(), Some(&500));
    assert!(outputs.contains(&Output::Timeout { tx }));
    assert_eq!((layer.timer_len(), layer.next_timeout()), (0, None));
}
