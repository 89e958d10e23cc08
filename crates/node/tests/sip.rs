//! One node and its SIP side: what can be reached while links and modes change.
#![allow(clippy::unwrap_used)]

use super::common;

use pairline_group::io::Now;
use pairline_group::{Epoch, LinkId, PoolId, ServerId};
use pairline_node::core::Core;
use pairline_node::io::{Input, Output};
use pairline_node::peer::PeerFrame;
use pairline_node::{Node, place};
use pairline_resilience::heartbeat::{Heartbeat, Serves};
use pairline_resilience::mode::Mode;
use pairline_services::binding::{Binding, FlowRef};
use pairline_services::cx::{LocateError, Peer, Reach};
use pairline_services::settings::Listener;
use pairline_sip::flow::{Flow, Transport};
use pairline_topology::Topology;
use pairline_topology::policy::{Algorithm, AuthRule};

const WEST: PoolId = PoolId(2);
const LINK: LinkId = LinkId(1);
const WALL: u64 = 1_795_000_000_000;

/// East alone, with a clock by hand and a disk that is always in time.
struct East {
    node: Node,
    mono: u64,
    sip: Vec<(Flow, bytes::Bytes)>,
    frames: Vec<PeerFrame>,
    beats: u64,
}

impl East {
    fn start() -> East {
        East::with(pairline_topology::demo_topology())
    }

    fn with(topology: Topology) -> East {
        let node = Node::start_up(common::config(topology), Now { mono: 0, wall: WALL }, Vec::new()).unwrap();
        let mut east = East { node, mono: 0, sip: Vec::new(), frames: Vec::new(), beats: 0 };
        east.drain();
        east
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
                Output::Sip { flow, message } => self.sip.push((flow, message)),
                Output::PeerFrame { frame, .. } => self.frames.push(PeerFrame::decode(&frame).unwrap()),
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

    fn link_up(&mut self) {
        self.give(Input::LinkUp { link: LINK, pool: WEST, server: ServerId(2) });
    }

    fn heartbeat(&mut self) {
        self.beats += 1;
        let heartbeat = Heartbeat {
            pool: WEST,
            server: ServerId(2),
            number: self.beats,
            mode: Mode::Normal,
            mode_of_partner: Mode::Normal,
            serves: Serves { highest_epoch: Epoch::default(), ..Serves::default() },
            wall: WALL + self.mono,
            mono: self.mono,
            echo: None,
            load_permille: 0,
            free_disk_percent: 50,
            users: 0,
            certificate_days: 100,
            version: "0.1.0".into(),
        };
        let frame = PeerFrame::Heartbeat(heartbeat.encode()).encode();
        self.give(Input::PeerFrame { link: LINK, frame });
    }

    fn look<R>(&self, f: impl FnOnce(&Core) -> R) -> R {
        self.node.inspect(f)
    }

    /// How a flow of a server of west can be used.
    fn reach(&self, transport: Transport) -> Reach {
        let flow = Flow { transport, listener: 1, remote: "192.0.2.7:5060".parse().unwrap(), connection: 3 };
        self.look(|core| place::reach(core, &binding(WEST, flow)))
    }
}

fn binding(pool: PoolId, flow: Flow) -> Binding {
    Binding {
        id: [1; 16],
        contact: (*b"sip:bob@192.0.2.7").into(),
        params: Box::default(),
        q: 1000,
        call_id: (*b"c").into(),
        cseq: 1,
        granted: 20,
        expires: WALL * 2,
        refreshed: WALL,
        since: WALL,
        path: Vec::new(),
        instance: None,
        reg_id: None,
        flow: FlowRef { pool, server: ServerId(u32::from(pool.0)), boot: 1, flow },
        user_agent: Box::default(),
        op: [0; 16],
    }
}

#[test]
fn a_partner_that_is_not_heard_is_no_way_even_while_its_link_stands() {
    let mut east = East::start();
    assert_eq!((east.reach(Transport::Udp), east.reach(Transport::Tcp)), (Reach::Open, Reach::Stranded));
    east.link_up();
    east.heartbeat();
    assert!(east.look(|core| core.peer_flow(Peer::Pool(WEST))).is_some());
    assert_eq!((east.reach(Transport::Udp), east.reach(Transport::Tcp)), (Reach::ThroughPeer, Reach::ThroughPeer));
    // Frozen: the connection stays, the heartbeats do not.
    east.pass(2_500);
    assert!(east.look(|core| core.link_to(WEST)).is_some());
    assert_eq!(east.look(|core| core.peer_flow(Peer::Pool(WEST))), None);
    assert_eq!((east.reach(Transport::Udp), east.reach(Transport::Tcp)), (Reach::Open, Reach::Stranded));
    // It thaws: reachable at once, though its users only go home after the failback interval.
    east.heartbeat();
    assert_eq!(east.reach(Transport::Tcp), Reach::ThroughPeer);
}

#[test]
fn a_rule_for_a_listener_that_this_server_lacks_is_no_rule_for_all() {
    let mut topology = pairline_topology::demo_topology();
    let rule =
        |listener: &str| AuthRule { listener: Some(listener.to_owned()), user_agent: None, algorithm: Algorithm::Md5 };
    topology.policies.authentication.rule = vec![rule("lobby"), rule("tcp")];
    topology.server[1].listener[0].id = "lobby".to_owned();
    let east = East::with(topology);
    let rules: Vec<_> = east.look(|core| core.view.auth_rules.iter().map(|r| (r.listener, r.algorithm)).collect());
    assert_eq!(rules, [(Some(2), pairline_sip::auth::Algorithm::Md5), (None, pairline_sip::auth::Algorithm::Sha256)]);
}

#[test]
fn a_refusal_of_what_cannot_be_parsed_goes_back_as_any_answer_does() {
    let mut east = East::start();
    let text = "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKx;rport\r\nFrom: <sip:a@b>;tag=1\r\n\
                To: <sip:x>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\r\n";
    let flow = Flow::udp(1, "192.0.2.9:4321".parse().unwrap());
    east.give(Input::Sip { flow, message: text.into() });
    let reply = pairline_sip::Message::parse(east.sip[0].1.clone()).unwrap();
    assert_eq!((reply.status(), reply.via().rport()), (Some(400), Some(4321)));
    assert_eq!(reply.via().received(), Some("192.0.2.9".parse().unwrap()));
}

#[test]
fn a_sips_uri_is_never_followed_without_tls() {
    let east = East::start();
    let mut view = east.look(|core| (*core.view).clone());
    let secure = Listener { id: 9, transport: Transport::Tls, ..view.listeners[0].clone() };
    view.listeners.push(secure);
    for (uri, expected) in [
        ("sips:a@192.0.2.1", Some(Transport::Tls)),
        ("sips:a@192.0.2.1;transport=tcp", Some(Transport::Tls)),
        ("sips:a@192.0.2.1;transport=udp", None),
        ("sip:a@192.0.2.1", Some(Transport::Udp)),
        ("sip:a@192.0.2.1;transport=tcp", Some(Transport::Tcp)),
        ("sip:a@192.0.2.1;transport=sctp", None),
        ("sip:a@192.0.2.1;transport=ws", None),
        ("nonsense", None),
    ] {
        let found = place::literal_target(&view, uri.as_bytes()).expect("no name to ask for");
        assert_eq!(found.ok().map(|flows| flows[0].transport), expected, "{uri}");
    }
    assert_eq!(place::literal_target(&view, b"sip:a@example.com"), None);
    view.listeners.retain(|listener| listener.transport != Transport::Tls);
    let found = place::literal_target(&view, b"sips:a@192.0.2.1");
    assert_eq!(found, Some(Err(LocateError::NotFound)), "nothing to send by");
}

#[test]
fn the_policys_bounds_are_in_force() {
    let mut topology = pairline_topology::demo_topology();
    topology.policies.limits.transactions_per_server = 2;
    let mut east = East::with(topology);
    assert!(east.look(|core| core.view.registrar.refuse_brief), "an expiry below the minimum is refused");
    let flow = Flow::udp(1, "192.0.2.9:4321".parse().unwrap());
    for n in 0..3 {
        let text = format!(
            "INVITE sip:pairline.test SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9:4321;branch=z9hG4bK{n}\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:x>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nMax-Forwards: 9\r\nProxy-Require: x\r\n\r\n"
        );
        east.give(Input::Sip { flow, message: text.into() });
    }
    let statuses: Vec<Option<u16>> =
        east.sip.iter().map(|(_, bytes)| pairline_sip::Message::parse(bytes.clone()).unwrap().status()).collect();
    assert_eq!(statuses, [Some(420), Some(420), Some(500)], "each waits for its ACK");
}

/// Emergency calls are never refused for what others have taken (DESIGN §8): by name, and by a number of the table.
#[test]
fn an_emergency_call_finds_room_where_all_is_taken() {
    let mut topology = pairline_topology::demo_topology();
    topology.policies.limits.transactions_per_server = 8;
    let row = |pattern: &str| pairline_topology::policy_proxy::EmergencyRoute {
        pattern: pattern.into(),
        to: "sip:desk@pairline.test".into(),
    };
    topology.policies.emergency.route = vec![row("urn:service:sos"), row("112")];
    let mut east = East::with(topology);
    let mut ask = |requires: &str, uri: &str, number: usize| {
        let text = format!(
            "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{number};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:a@pairline.test>;tag=1\r\nTo: <{uri}>\r\nCall-ID: c{number}\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:a@192.0.2.1>\r\n{requires}Content-Length: 0\r\n\r\n"
        );
        let flow = Flow::udp(1, "192.0.2.1:5060".parse().unwrap());
        east.give(Input::Sip { flow, message: text.into() });
        let (_, answer) = east.sip.pop().unwrap();
        String::from_utf8_lossy(&answer[8..11]).into_owned()
    };
    for number in 0..8 {
        assert_eq!(ask("Proxy-Require: x\r\n", "sip:pairline.test", number), "420", "it waits for its ACK");
    }
    assert_eq!(ask("", "sip:pairline.test", 8), "500", "all is taken, and nobody else of the pool could take it");
    // There is no such desk, which is more than the others are told.
    let urgent = ask("", "urn:service:sos.fire", 9);
    assert_eq!(urgent, "404", "an emergency call is looked at");
    assert_eq!(ask("", "sip:112@pairline.test", 10), "500", "the room of its own is taken, too");
}
