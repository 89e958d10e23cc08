//! A whole node fed with datagrams: parser, transactions, dispatch, registrar, proxy, authentication.
//!
//! Owns one node of the demonstration's topology with a disk that is always in time, and two users. Started anew after so
//! many inputs, since what an input does may depend on those before it.

use bytes::Bytes;
use pairline_group::io::Now;
use pairline_group::{Limits, ServerId};
use pairline_node::executor::Order;
use pairline_node::io::{Input, Output};
use pairline_node::{Node, NodeConfig, Secrets};
use pairline_services::settings::Secret;
use pairline_sip::auth::NonceKeys;
use pairline_sip::{Flow, Message};
use std::cell::RefCell;

const WALL: u64 = 1_795_000_000_000;
/// Inputs for one node.
const LIFE: u32 = 2_000;
/// A request makes at most so many messages of this node's own within its own call.
const MOST_SENT: usize = 40;

struct Alone {
    node: Node,
    mono: u64,
    given: u32,
}

thread_local! {
    static NODE: RefCell<Option<Alone>> = const { RefCell::new(None) };
}

fn start() -> Alone {
    let mut topology = pairline_topology::demo_topology();
    for pool in &mut topology.pool {
        pool.routing_groups = 2;
    }
    let config = NodeConfig {
        topology,
        server: ServerId(1),
        boot: 1,
        seed: [5; 32],
        secrets: Secrets { sealing_key: Secret([7; 32]), nonce_keys: NonceKeys { current: [9; 32], previous: None } },
        order: Order::Fifo,
        limits: Limits::default(),
        version: "0.1.0".to_owned(),
        watch: false,
    };
    let node = Node::start_up(config, Now { mono: 0, wall: WALL }, Vec::new()).expect("an empty node starts");
    let mut alone = Alone { node, mono: 0, given: 0 };
    alone.drain();
    for _ in 0..200 {
        alone.give(Input::Tick);
    }
    alone
}

impl Alone {
    fn give(&mut self, input: Input) -> Vec<Bytes> {
        self.mono += 20;
        self.node.handle(Now { mono: self.mono, wall: WALL + self.mono }, input);
        self.drain()
    }

    fn drain(&mut self) -> Vec<Bytes> {
        let mut sent = Vec::new();
        while let Some(output) = self.node.poll() {
            let now = Now { mono: self.mono, wall: WALL + self.mono };
            match output {
                Output::Append(batch) => self.node.handle(now, Input::Synced { batch: batch.batch }),
                Output::Sip { message, .. } => sent.push(message),
                _ => {}
            }
        }
        sent
    }
}

/// One datagram to the node. All that it sends has to parse, and answers to strangers stay small.
pub fn datagrams(data: &[u8]) {
    NODE.with_borrow_mut(|slot| {
        let worn = slot.as_ref().is_none_or(|alone| alone.given >= LIFE);
        if worn {
            // Not this input's memory.
            allocation_counter::opt_out(|| *slot = Some(start()));
        }
        let alone = slot.as_mut().expect("just started");
        alone.given += 1;
        let flow = Flow::udp(0, "192.0.2.1:5060".parse().expect("an address"));
        let sent = alone.give(Input::Sip { flow, message: Bytes::copy_from_slice(data) });
        assert!(sent.len() <= MOST_SENT, "{} messages", sent.len());
        for bytes in sent {
            let message = Message::parse(bytes.clone());
            assert!(message.is_ok(), "what is sent parses: {}", bytes.escape_ascii());
            assert!(bytes.len() <= data.len() * 2 + 1024, "{} bytes for {}", bytes.len(), data.len());
        }
    });
}
