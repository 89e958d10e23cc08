//! Brief server transactions: requests that are answered once and soon, and not kept.

use bytes::Bytes;
use pairline_sip::transaction::{Brief, BriefTx};
use pairline_sip::{Flow, Layer, Message, Output, Received, Reply, Timers};

use crate::bytes_of::{parse, request};
use crate::layer_server::{drain, sent, tcp, udp};

const SOURCE: &str = "192.0.2.1:4000";
/// Nobody waits any more for an answer that did not come.
const OVER: u64 = 34_000;

fn layer() -> Layer {
    Layer::new(Timers::default(), 2)
}

fn from(text: &str) -> Message {
    let mut message = parse(text);
    message.set_source(SOURCE.parse().unwrap());
    message
}

fn new(layer: &mut Layer, now: u64, message: &Message) -> BriefTx {
    match layer.receive_brief(now, message) {
        Brief::New(tx) => tx,
        other => panic!("expected a new request, got {other:?}"),
    }
}

fn ok(message: &Message) -> Bytes {
    Reply::to(message, 200).build()
}

fn goes(flow: Flow, message: &Message) -> Flow {
    Layer::answer_flow(flow, message)
}

#[test]
fn a_repetition_is_absorbed_until_the_answer_and_is_new_after_it() {
    let mut layer = layer();
    let message = from(&request("REGISTER", ""));
    for flow in [goes(udp(SOURCE), &message), tcp(SOURCE, 7)] {
        let tx = new(&mut layer, 0, &message);
        assert_eq!(layer.receive_brief(10, &message), Brief::Absorbed);
        assert!(drain(&mut layer).is_empty(), "nothing to say yet");
        let bytes = ok(&message);
        layer.answer_brief(tx, flow, bytes.clone());
        let first = drain(&mut layer);
        assert_eq!(sent(&first)[0].as_bytes(), &bytes);
        assert!(matches!(first[..], [Output::Transmit { flow: at, .. }] if at == flow));
        assert_eq!((layer.held_bytes(), layer.brief_len(), layer.next_timeout()), (0, 0, None), "nothing is kept");
    }
    let tx = new(&mut layer, 20, &message);
    assert_eq!(ok(&message), ok(&from(&request("REGISTER", ""))), "whoever answers again says the same");
    layer.drop_brief(tx);
}

#[test]
fn one_that_is_dropped_goes_to_the_other_path_or_is_new_again() {
    let mut layer = layer();
    let message = from(&request("REGISTER", ""));
    let tx = new(&mut layer, 0, &message);
    layer.drop_brief(tx);
    let Received::Request { .. } = layer.receive(0, udp(SOURCE), message.clone()) else { panic!("not taken over") };
    // Now it is the other path's, and a repetition is found there.
    assert_eq!(layer.receive_brief(5, &message), Brief::Absorbed);
}

#[test]
fn they_count_against_the_limit_and_leave_room_again() {
    let mut layer = layer();
    let messages: Vec<Message> = (0..9)
        .map(|n| from(&request("REGISTER", "").replace("branch=z9hG4bK", &format!("branch=z9hG4bK{n}x"))))
        .collect();
    let taken = messages.iter().take_while(|message| layer.receive_brief(0, message) != Brief::Full).count();
    assert_eq!(taken, 8, "four for each of the two that are allowed");
    assert_eq!(layer.receive_brief(1, &messages[0]), Brief::Absorbed, "a repetition is no new one");
    layer.on_time(OVER);
    new(&mut layer, OVER, &messages[8]);
}
