//! A whole node fed with messages: parser, transactions, dispatcher, registrar, proxy, authentication.
//!
//! Owns one pair of nodes (the node's own tests') with a user. Started anew after so many inputs, since what an input does may
//! depend on those before it.

#[path = "../../crates/node/tests/common/mod.rs"]
mod common;

use bytes::Bytes;
use common::{Pair, EAST};
use pairline_node::command::Command;
use pairline_node::io::Input;
use pairline_sip::{Flow, Message, Transport};
use std::cell::RefCell;

/// Inputs for one pair.
const LIFE: u32 = 5_000;
/// A request makes at most so many messages of this node's own within its own call.
const MOST_SENT: usize = 40;

/// And has at most so many events: nobody fills the log with messages.
const MOST_TOLD: usize = 8;

thread_local! {
    static NODES: RefCell<Option<(Pair, u32)>> = const { RefCell::new(None) };
}

fn start() -> Pair {
    let mut pair = Pair::steady();
    let password = "a long enough password".to_owned();
    let pool = Some("east".to_owned());
    pair.must(EAST, Command::UserAdd { user: "alice".to_owned(), password, display_name: None, pool });
    // The tables of sources and identities have a fixed size, and are there from the first request on.
    let first = "OPTIONS sip:pairline.test SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKfirst\r\nFrom: <sip:alice@pairline.test>;tag=1\r\n\
                 To: <sip:pairline.test>\r\nCall-ID: first\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n\
                 Authorization: Digest username=\"alice\", realm=\"pairline.test\", nonce=\"n\", uri=\"sip:pairline.test\", response=\"0\"\r\n\r\n";
    let flow = Flow::udp(0, "192.0.2.1:5060".parse().expect("an address"));
    pair.give(EAST, Input::Sip { flow, message: Bytes::from_static(first.as_bytes()) });
    pair
}

/// One message to the node, by UDP or, every fourth length, by TCP. All that it sends has to parse, but for the refusal of what
/// does not parse itself, and answers to strangers stay small.
pub fn datagrams(data: &[u8]) {
    NODES.with_borrow_mut(|slot| {
        let worn = slot.as_ref().is_none_or(|(_, given)| *given >= LIFE);
        if worn {
            // Not this input's memory.
            allocation_counter::opt_out(|| *slot = Some((start(), 0)));
        }
        let (pair, given) = slot.as_mut().expect("just started");
        *given += 1;
        if *given % 16 == 0 {
            pair.run(100);
        }
        let udp = Flow::udp(0, "192.0.2.1:5060".parse().expect("an address"));
        let flow = if data.len() % 4 == 3 { Flow { transport: Transport::Tcp, connection: 5, ..udp } } else { udp };
        let good = Message::parse(Bytes::copy_from_slice(data)).is_ok();
        pair.sites[EAST].sip.clear();
        // Kept by the nodes' tests, not by the node.
        pair.sites.iter_mut().for_each(|site| site.events.clear());
        pair.give(EAST, Input::Sip { flow, message: Bytes::copy_from_slice(data) });
        let sent = std::mem::take(&mut pair.sites[EAST].sip);
        let told = pair.sites[EAST].events.len();
        assert!(told <= MOST_TOLD, "{told} events for one message");
        assert!(sent.len() <= MOST_SENT, "{} messages", sent.len());
        for (_, bytes) in sent {
            let parses = Message::parse(bytes.clone()).is_ok();
            assert!(parses || !good, "what is sent parses: {}", bytes.escape_ascii());
            assert!(bytes.len() <= data.len() * 2 + 1024, "{} bytes for {}", bytes.len(), data.len());
        }
    });
}
