//! A node to which more comes than it can do, or more from one source than it may: what it answers, and what it never refuses.
#![allow(clippy::unwrap_used)]

use super::common;

use pairline_group::io::Now;
use pairline_group::{LinkId, ServerId};
use pairline_node::Node;
use pairline_node::event::Event;
use pairline_node::io::{Input, Output};
use pairline_services::admission::{Class, Waited};
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::{Message, Reply};
use pairline_topology::policy_proxy::{EmergencyRoute, TrustedPeer};
use pairline_topology::{Topology, demo_topology};
use std::collections::BTreeMap;

const WALL: u64 = 1_795_000_000_000;

struct Server {
    node: Node,
    mono: u64,
    sent: Vec<(Flow, Message)>,
    events: Vec<Event>,
    serial: u32,
}

impl Server {
    fn with(change: impl FnOnce(&mut Topology)) -> Server {
        let mut topology = demo_topology();
        let route = EmergencyRoute { pattern: "112".to_owned(), to: "sip:192.0.2.112:5060".to_owned() };
        topology.policies.emergency.route.push(route);
        change(&mut topology);
        let node = Node::start_up(common::config(topology), Now { mono: 0, wall: WALL }, Vec::new()).unwrap();
        let mut server = Server { node, mono: 0, sent: Vec::new(), events: Vec::new(), serial: 0 };
        server.drain();
        server.pass(1_000);
        server
    }

    /// Overloaded: requests have waited for long in each of a few turns, and there is no token left for what is new.
    fn overloaded() -> Server {
        let mut server = Server::with(|topology| topology.policies.overload.min_rate = 10);
        for _ in 0..40 {
            server.give(Input::Waited(Waited { most: 90, ..Waited::default() }));
            server.pass(20);
        }
        assert!(server.events.iter().any(|event| event.name == "overload-began"), "{:?}", server.events);
        server.use_up();
        server
    }

    /// Lets the highest class that may be refused take all tokens, so that until time passes there are none for any.
    fn use_up(&mut self) {
        let credentials = "Authorization: Digest username=\"x\"\r\n";
        while self.answers("REGISTER", "sip:pairline.test", credentials, udp(9)) != [500] {}
        self.sent.clear();
    }

    fn give(&mut self, input: Input) {
        self.node.handle(Now { mono: self.mono, wall: WALL + self.mono }, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.node.poll() {
            let now = Now { mono: self.mono, wall: WALL + self.mono };
            match output {
                Output::Append(batch) => self.node.handle(now, Input::Synced { batch: batch.batch }),
                Output::Sip { flow, message } => self.sent.push((flow, Message::parse(message).unwrap())),
                Output::Event(event) => self.events.push(event),
                _ => {}
            }
        }
    }

    fn pass(&mut self, millis: u64) {
        let until = self.mono + millis;
        while self.mono < until {
            self.mono += 20;
            self.give(Input::Tick);
        }
    }

    fn request(&mut self, method: &str, uri: &str, more: &str) -> String {
        self.serial += 1;
        let n = self.serial;
        let to = if more.contains("To:") { "" } else { "To: <sip:bob@pairline.test>\r\n" };
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9:5070;rport;branch=z9hG4bK{n}\r\nMax-Forwards: 70\r\n\
             From: <sip:a@pairline.test>;tag=1\r\n{to}Call-ID: c{n}\r\nCSeq: 1 {method}\r\n{more}Content-Length: 0\r\n\r\n"
        )
    }

    /// The statuses that a request is answered with at once.
    fn answers(&mut self, method: &str, uri: &str, more: &str, flow: Flow) -> Vec<u16> {
        let before = self.sent.len();
        let message = self.request(method, uri, more).into();
        self.give(Input::Sip { flow, message });
        self.sent[before..].iter().filter_map(|(_, message)| message.status()).collect()
    }

    /// Tasks and transactions.
    fn kept(&self) -> (usize, usize) {
        (self.node.live_tasks(), self.node.inspect(|core| core.layer.len()))
    }

    fn refused(&self, class: Class) -> u64 {
        self.node.inspect(|core| core.admission.rate().figures().refused[class as usize])
    }
}

fn udp(host: u8) -> Flow {
    Flow::udp(1, format!("192.0.2.{host}:5060").parse().unwrap())
}

#[test]
fn what_is_new_is_refused_with_a_500_and_a_time_that_differs() {
    let mut server = Server::overloaded();
    let mut seconds = BTreeMap::new();
    let before = server.kept();
    for n in 0..100_u8 {
        for (method, uri) in [
            ("INVITE", "sip:bob@pairline.test"),
            ("MESSAGE", "sip:bob@pairline.test"),
            ("SUBSCRIBE", "sip:bob@pairline.test"),
            ("OPTIONS", "sip:pairline.test"),
            ("REGISTER", "sip:pairline.test"),
        ] {
            assert_eq!(server.answers(method, uri, "", udp(n)), [500], "{method}");
        }
        let (flow, last) = server.sent.last().unwrap();
        assert_eq!(*flow, udp(n));
        let value = last.header_named("Retry-After").unwrap();
        *seconds.entry(String::from_utf8_lossy(value).into_owned()).or_insert(0) += 1;
    }
    assert!(seconds.len() >= 3, "{seconds:?}");
    assert_eq!(server.kept(), before, "a refusal keeps nothing");
    assert_eq!(server.refused(Class::Invite), 100);
}

#[test]
fn emergency_calls_and_what_is_going_on_are_never_refused() {
    let mut server = Server::overloaded();
    let dialog = "To: <sip:bob@pairline.test>;tag=2\r\n";
    for n in 0..20 {
        for (method, uri, more) in [
            ("INVITE", "urn:service:sos", ""),
            ("INVITE", "sip:112@pairline.test", ""),
            ("BYE", "sip:bob@pairline.test", dialog),
            ("INVITE", "sip:bob@pairline.test", dialog),
            ("CANCEL", "sip:bob@pairline.test", ""),
        ] {
            let statuses = server.answers(method, uri, more, udp(n));
            assert!(!statuses.is_empty() && !statuses.contains(&500), "{method} {uri}: {statuses:?}");
        }
    }
    assert_eq!((server.refused(Class::Emergency), server.refused(Class::InDialog)), (0, 0));
}

#[test]
fn an_ack_is_not_answered_and_a_repetition_is_not_refused() {
    let mut server = Server::with(|topology| topology.policies.overload.min_rate = 10);
    let invite = server.request("INVITE", "urn:service:sos", "");
    let flow = udp(7);
    let options = server.request("FANCY", "sip:pairline.test", "");
    server.give(Input::Sip { flow, message: options.clone().into() });
    let first: Vec<_> = server.sent.drain(..).filter_map(|(_, m)| m.status()).collect();
    assert_eq!(first, [501]);
    let mut server = {
        for _ in 0..40 {
            server.give(Input::Waited(Waited { most: 90, ..Waited::default() }));
            server.pass(20);
        }
        server.use_up();
        server
    };
    server.give(Input::Sip { flow, message: options.into() });
    let again: Vec<_> = server.sent.drain(..).filter_map(|(_, m)| m.status()).collect();
    assert_eq!(again, [501], "the answer is repeated");

    let refused = invite.replace("urn:service:sos", "sip:bob@pairline.test");
    server.give(Input::Sip { flow, message: refused.clone().into() });
    let (_, reply) = server.sent.pop().unwrap();
    assert_eq!(reply.status(), Some(500));
    let ack = Reply::ack_for(&Message::parse(refused.into()).unwrap(), &reply);
    server.sent.clear();
    let before = server.kept();
    server.give(Input::Sip { flow, message: ack });
    assert!(server.sent.is_empty());
    assert_eq!(server.kept(), before);
}

#[test]
fn what_repeats_what_was_let_fall_is_weighed_last_but_not_if_it_may_not_fall() {
    let mut server = Server::overloaded();
    server.give(Input::Age { ms: 5, again: true });
    let (message, call) = (Class::Message, Class::Invite);
    let before = (server.refused(message), server.refused(call));
    assert_eq!(server.answers("MESSAGE", "sip:bob@pairline.test", "", udp(1)), [500]);
    assert_eq!(server.answers("INVITE", "sip:bob@pairline.test", "", udp(1)), [500]);
    assert_eq!((server.refused(message), server.refused(call)), (before.0, before.1 + 1));
    assert_eq!(server.refused(Class::Again), 1);
    server.give(Input::Waited(Waited::default()));
    assert_eq!(server.answers("MESSAGE", "sip:bob@pairline.test", "", udp(1)), [500]);
    assert_eq!(
        (server.refused(message), server.refused(Class::Again)),
        (before.0 + 1, 1),
        "it comes for the first time"
    );
}

#[test]
fn only_where_another_server_of_the_pool_stands_ready_the_answer_is_503() {
    let mut server = Server::overloaded();
    server.give(Input::LinkUp { link: LinkId(1), pool: pairline_group::PoolId(2), server: ServerId(2) });
    assert_eq!(
        server.answers("OPTIONS", "sip:pairline.test", "", udp(1)),
        [500],
        "the partner is not to be tipped over"
    );
    let own = server.node.inspect(|core| core.pool);
    server.give(Input::LinkUp { link: LinkId(2), pool: own, server: ServerId(9) });
    assert_eq!(server.answers("OPTIONS", "sip:pairline.test", "", udp(1)), [503]);
    server.give(Input::LinkDown { link: LinkId(2) });
    assert_eq!(server.answers("OPTIONS", "sip:pairline.test", "", udp(1)), [500]);
}

#[test]
fn it_ends_by_itself_and_says_so() {
    let mut server = Server::overloaded();
    server.pass(2_000);
    let names: Vec<_> =
        server.events.iter().map(|event| event.name).filter(|name| name.starts_with("overload")).collect();
    assert_eq!(names, ["overload-began", "overload-ended"]);
    assert_eq!(server.answers("OPTIONS", "sip:pairline.test", "", udp(1)), [200]);
}

#[test]
fn a_source_that_authenticates_nothing_is_limited_alone() {
    let mut server = Server::with(|topology| {
        topology.policies.overload.source_per_s = 1;
        topology.policies.overload.source_burst = 5;
    });
    let statuses: Vec<u16> = (0..8).flat_map(|_| server.answers("OPTIONS", "sip:pairline.test", "", udp(1))).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 500, 500, 500]);
    assert_eq!(server.answers("OPTIONS", "sip:pairline.test", "", udp(2)), [200]);
    let stream = Flow { transport: Transport::Tcp, connection: 4, ..udp(1) };
    assert_eq!(server.answers("OPTIONS", "sip:pairline.test", "", stream), [500], "the same source");
    assert_eq!(server.node.inspect(|core| core.admission.sources().limited()), [4, 0]);
    server.pass(1_000);
    assert_eq!(server.answers("OPTIONS", "sip:pairline.test", "", udp(1)), [200]);
}

fn peer(network: &str) -> TrustedPeer {
    TrustedPeer {
        name: "gateway".to_owned(),
        certificate: None,
        network: vec![network.parse().unwrap()],
        transport: vec![pairline_topology::Transport::Udp],
        domain: Vec::new(),
        next_hop: None,
    }
}

/// The parameter of the top Via of the last message that was sent.
fn via_param(server: &Server, name: &str) -> Option<String> {
    let (_, message) = server.sent.last().unwrap();
    message.via().param(name).map(|value| String::from_utf8_lossy(value).into_owned())
}

/// RFC 7339 §4: who offers to be told is told, and only if it is trusted.
#[test]
fn a_trusted_neighbour_that_asks_is_told_how_much_to_hold_back() {
    for (neighbours, network, host, told) in
        [(true, "192.0.2.0/24", 5, true), (false, "192.0.2.0/24", 5, false), (true, "198.51.100.0/24", 5, false)]
    {
        let mut server = Server::with(|topology| {
            topology.policies.overload.min_rate = 10;
            topology.policies.overload.neighbours = neighbours;
            topology.policies.trust.peer = vec![peer(network)];
        });
        let offer = |text: String| text.replace(";rport;", ";oc;oc-algo=\"loss\";rport;");
        let text = offer(server.request("OPTIONS", "sip:pairline.test", ""));
        server.give(Input::Sip { flow: udp(host), message: text.into() });
        assert_eq!(via_param(&server, "oc").as_deref(), Some(if told { "0" } else { "" }), "{network}");
        assert_eq!(via_param(&server, "oc-validity").is_some(), told);
        if !told {
            continue;
        }
        let first = via_param(&server, "oc-seq").unwrap();
        for _ in 0..40 {
            server.give(Input::Waited(Waited { most: 90, ..Waited::default() }));
            for _ in 0..5 {
                server.answers("OPTIONS", "sip:pairline.test", "", udp(99));
            }
            server.pass(20);
        }
        let text = offer(server.request("OPTIONS", "sip:pairline.test", ""));
        server.give(Input::Sip { flow: udp(host), message: text.into() });
        let loss: u8 = via_param(&server, "oc").unwrap().parse().unwrap();
        assert!(loss > 50, "{loss}");
        assert!(via_param(&server, "oc-seq").unwrap() > first);
        server.answers("OPTIONS", "sip:pairline.test", "", udp(7));
        assert_eq!(via_param(&server, "oc"), None, "a peer that does not offer is not told");
    }
}

/// RFC 7339 §5.3: the offer stands in the Via of what goes to a place that is trusted, and an emergency call is never held back.
#[test]
fn a_neighbour_is_offered_to_be_obeyed_and_emergency_calls_are_sent_all_the_same() {
    let mut server = Server::with(|_| {});
    for n in 0..3 {
        let sent = server.sent.len();
        let text = server.request("INVITE", "urn:service:sos", "").replace("z9hG4bK", "z9hG4bKe");
        let urn = text.replace("urn:service:sos", "sip:112@pairline.test");
        server.give(Input::Sip { flow: udp(7), message: urn.into() });
        let out = server.sent[sent..].iter().rfind(|(_, message)| message.is_request());
        let (flow, invite) = out.unwrap_or_else(|| panic!("call {n} was not sent: {:?}", server.sent));
        assert_eq!(flow.remote.to_string(), "192.0.2.112:5060");
        assert_eq!(invite.via().param("oc"), Some(&b""[..]));
        assert_eq!(invite.via().param("oc-algo"), Some(&b"loss"[..]));
        let busy = Reply::to(invite, 486).build();
        let report = format!(";oc=100;oc-validity=60000;oc-seq=17.{n};branch=");
        let told = String::from_utf8_lossy(&busy).replacen(";oc", "", 1).replacen(";branch=", &report, 1);
        let flow = *flow;
        server.give(Input::Sip { flow, message: told.into() });
        server.pass(20);
    }
    let held = server.node.inspect(|core| core.admission.neighbours().holds_back(core.now.mono, udp(112), 99));
    assert!(held, "the report is known");
}
