//! The demonstration's DNS over real sockets, and the resolver of next hops.
#![allow(clippy::unwrap_used)]

use super::support;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use pairline_group::{PoolId, ServerId};
use pairline_node::command::{Command, Reply};
use pairline_node::io::{Input, Output};
use pairline_node::view::{PoolView, PoolsView};
use pairline_server::dns::resolver::Outgoing;
use pairline_server::dns::server::DnsSockets;
use pairline_server::dns::{Resolver, ZoneView, client};
use pairline_server::net::peer_names::PeerNames;
use pairline_server::shell::{MakeNode, RunningServer, Server};
use pairline_sip::flow::Transport;
use pairline_sip::target::{Answers, Kind};
use pairline_topology::Transport as SipTransport;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use support::{Deployment, PATIENCE, scripted};

/// A node that says whether *east* lives.
fn watcher(east_lives: Arc<AtomicBool>) -> MakeNode {
    scripted(move |_, input| match input {
        Input::Admin { request, command: Command::PoolStatus, .. } => {
            let pool = |name: &str, alive| PoolView { name: name.to_owned(), alive, ..PoolView::default() };
            let pools = vec![pool("east", east_lives.load(Ordering::Relaxed)), pool("west", true)];
            let view = PoolsView { pools, ..PoolsView::default() };
            vec![Output::AdminReply { request, reply: Ok(Reply::Pools(view)) }]
        }
        _ => vec![],
    })
}

fn query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new();
    message.set_id(77).set_message_type(MessageType::Query).set_op_code(OpCode::Query);
    message.add_query(Query::query(Name::from_str(name).unwrap(), kind));
    message.to_vec().unwrap()
}

fn ask(server: SocketAddr, name: &str, kind: RecordType) -> Message {
    let socket = UdpSocket::bind((support::address(), 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(server).unwrap();
    socket.send(&query(name, kind)).unwrap();
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).unwrap();
    let reply = Message::from_vec(&buffer[..length]).unwrap();
    assert_eq!((reply.id(), reply.message_type()), (77, MessageType::Response));
    reply
}

fn ask_tcp(server: SocketAddr, name: &str, kind: RecordType) -> Message {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let query = query(name, kind);
    stream.write_all(&u16::try_from(query.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(&query).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply).unwrap();
    Message::from_vec(&reply).unwrap()
}

/// (priority, target) in the order in which a client tries them.
fn targets(reply: &Message) -> Vec<(u16, String)> {
    let mut all: Vec<(u16, String)> = reply
        .answers()
        .iter()
        .map(|r| {
            assert_eq!(r.ttl(), 2);
            match r.data() {
                RData::SRV(s) => (s.priority(), s.target().to_ascii()),
                other => panic!("not SRV: {other}"),
            }
        })
        .collect();
    all.sort();
    all
}

fn dns(server: &RunningServer) -> SocketAddr {
    server.address("dns").unwrap()
}

#[test]
fn either_pool_answers_for_both_before_and_after_one_is_down() {
    let deployment = Deployment::new();
    let east_lives = Arc::new(AtomicBool::new(true));
    let east = Server::start_with(deployment.options("east"), watcher(east_lives.clone())).unwrap();
    let west = Server::start_with(deployment.options("west"), watcher(east_lives.clone())).unwrap();
    let both = |a: u16, b: u16| {
        let mut all = vec![(a, "fe1.east.pairline.test.".to_owned()), (b, "fe1.west.pairline.test.".to_owned())];
        all.sort();
        all
    };
    for server in [&east, &west] {
        assert_eq!(targets(&ask(dns(server), "_sip._udp.pairline.test.", RecordType::SRV)), both(10, 10));
        assert_eq!(targets(&ask(dns(server), "_sip._udp.east.pairline.test.", RecordType::SRV)), both(10, 20));
        assert_eq!(targets(&ask(dns(server), "_SIP._tcp.West.pairline.test.", RecordType::SRV)), both(20, 10));
    }
    east_lives.store(false, Ordering::Relaxed);
    drop(east);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = targets(&ask(dns(&west), "_sip._udp.pairline.test.", RecordType::SRV));
        if now == both(110, 10) {
            break;
        }
        assert!(Instant::now() < deadline, "east's targets do not drop behind: {now:?}");
    }
    assert_eq!(targets(&ask(dns(&west), "_sip._udp.east.pairline.test.", RecordType::SRV)), both(110, 20));
    assert_eq!(targets(&ask(dns(&west), "_sip._tcp.west.pairline.test.", RecordType::SRV)), both(120, 10));
    let reply = ask(dns(&west), "pairline.test.", RecordType::A);
    let west_ip = west.address("udp").unwrap().ip().to_string();
    let ips: Vec<String> = reply.answers().iter().map(|r| r.data().to_string()).collect();
    assert_eq!(ips, [west_ip], "an address of a domain is one of a pool that lives");
}

#[test]
fn naptr_addresses_and_what_is_not_there() {
    let deployment = Deployment::new();
    let server = Server::start_with(deployment.options("east"), watcher(Arc::new(AtomicBool::new(true)))).unwrap();
    let at = dns(&server);
    let naptr = ask(at, "pairline.test.", RecordType::NAPTR);
    assert!(naptr.authoritative());
    let services: Vec<String> = naptr
        .answers()
        .iter()
        .map(|r| match r.data() {
            RData::NAPTR(n) => {
                format!(
                    "{} {} {} {}",
                    n.order(),
                    n.preference(),
                    String::from_utf8_lossy(n.services()),
                    n.replacement()
                )
            }
            other => panic!("not NAPTR: {other}"),
        })
        .collect();
    let expected = [
        "10 10 SIP+D2U _sip._udp.pairline.test.",
        "10 20 SIP+D2T _sip._tcp.pairline.test.",
        "10 30 SIPS+D2T _sips._tcp.pairline.test.",
        "10 40 SIPS+D2W _sips._ws.pairline.test.",
        "10 50 SIP+D2W _sip._ws.pairline.test.",
    ];
    assert_eq!(services, expected);
    let srv = ask_tcp(at, "_sip._tcp.pairline.test.", RecordType::SRV);
    assert_eq!(srv.additionals().len(), 2, "addresses of both targets come along");
    let host = ask(at, "fe1.west.pairline.test.", RecordType::A);
    let west = deployment.topology.server[1].listener[0].address.ip().to_string();
    assert_eq!(host.answers()[0].data().to_string(), west);
    let none = ask(at, "fe1.west.pairline.test.", RecordType::AAAA);
    assert_eq!((none.response_code(), none.answers().len()), (ResponseCode::NoError, 0));
    assert_eq!(none.name_servers()[0].record_type(), RecordType::SOA);
    assert_eq!(ask(at, "_tcp.pairline.test.", RecordType::SRV).response_code(), ResponseCode::NoError);
    assert_eq!(ask(at, "nobody.pairline.test.", RecordType::A).response_code(), ResponseCode::NXDomain);
    assert_eq!(ask(at, "_sip._tcp.fe1.west.pairline.test.", RecordType::SRV).response_code(), ResponseCode::NXDomain);
    let foreign = ask(at, "example.org.", RecordType::A);
    assert_eq!((foreign.response_code(), foreign.authoritative()), (ResponseCode::Refused, false));
}

/// A server that listens on IPv6 too, on every transport.
#[test]
fn every_transport_and_family_that_is_listened_on_stands_in_the_zone() {
    let mut topology = Deployment::new().topology;
    let six: std::net::IpAddr = "2001:db8::5".parse().unwrap();
    let server = &mut topology.server[0];
    for mut listener in server.listener.clone() {
        listener.id += "-six";
        listener.address = SocketAddr::new(six, listener.address.port());
        server.listener.push(listener);
    }
    let ports: Vec<u16> = server.listener.iter().map(|listener| listener.address.port()).collect();
    let zone = ZoneView::new(Arc::new(topology)).now();
    let of = |name: &str, kind| -> Vec<String> {
        zone.find(name, kind).answers.iter().map(|record| record.data().to_string()).collect()
    };
    assert_eq!(of("pairline.test", RecordType::NAPTR).len(), 5);
    for (n, label) in ["_sip._udp", "_sip._tcp", "_sips._tcp", "_sips._ws", "_sip._ws"].into_iter().enumerate() {
        let found = of(&format!("{label}.east.pairline.test"), RecordType::SRV);
        assert_eq!(
            found[0],
            format!("10 50 {} fe1.east.pairline.test.", ports[n]),
            "{label}: one name for both families"
        );
    }
    assert_eq!(of("fe1.east.pairline.test", RecordType::AAAA), ["2001:db8::5"]);
    assert_eq!(of("east.pairline.test", RecordType::AAAA), ["2001:db8::5"]);
    let additional = zone.find("_sips._tcp.pairline.test", RecordType::SRV).additional;
    assert!(additional.iter().any(|record| record.record_type() == RecordType::AAAA));
}

/// The DNS of a server whose `dns` address is of IPv6.
#[tokio::test]
async fn the_zone_is_served_over_ipv6() {
    let topology = Deployment::new().topology;
    let address = topology.server[0].listener[0].address.ip();
    let sockets = DnsSockets::bind("[::1]:0".parse().unwrap()).expect("the loopback of IPv6");
    let at = sockets.local_address().unwrap();
    sockets.serve(ZoneView::new(Arc::new(topology)), Arc::default(), &tokio::runtime::Handle::current()).unwrap();
    let found = client::ask(&[at], "fe1.east.pairline.test", Kind::A).await;
    assert_eq!(found, Ok((Answers::Addresses(vec![address]), 2)));
}

#[test]
fn garbage_gets_no_answer_and_does_no_harm() {
    let deployment = Deployment::new();
    let server = Server::start_with(deployment.options("east"), watcher(Arc::new(AtomicBool::new(true)))).unwrap();
    let socket = UdpSocket::bind((support::address(), 0)).unwrap();
    socket.connect(dns(&server)).unwrap();
    for garbage in [&b""[..], b"x", &[0xff; 600], &query("pairline.test.", RecordType::A)[..20]] {
        socket.send(garbage).unwrap();
    }
    assert_eq!(ask(dns(&server), "pairline.test.", RecordType::SOA).answers().len(), 1);
    let samples = server.handle().shell_samples();
    let malformed = samples.iter().find(|(n, _)| *n == "pairline_dns_malformed_total").unwrap().1;
    assert_eq!(malformed, 4);
}

#[test]
fn every_front_end_stands_alike_under_the_pools_name_and_a_silent_one_behind() {
    let places = (1..=3).map(|n| [127, 0, 1, n].into()).collect();
    let topology = pairline_topology::demo::enterprise(&[(pairline_topology::demo::EAST, "east", places)], 5060);
    let zone = ZoneView::new(Arc::new(topology));
    let find = |name: &str, kind| {
        let answers = zone.now().find(name, kind).answers;
        answers.iter().map(|record| record.data().to_string()).collect::<Vec<_>>()
    };
    let srv = |priority: [u16; 3]| {
        let line = |n: usize| format!("{} 50 5060 fe{n}.east.pairline.test.", priority[n - 1]);
        (1..=3).map(line).collect::<Vec<_>>()
    };
    for name in ["pairline.test", "east.pairline.test"] {
        assert_eq!(find(&format!("_sip._udp.{name}"), RecordType::SRV), srv([10, 10, 10]));
        assert_eq!(find(name, RecordType::A), ["127.0.1.1", "127.0.1.2", "127.0.1.3"]);
        assert_eq!(find(name, RecordType::NAPTR).len(), 5, "one a transport");
    }
    zone.set_silent(BTreeSet::from([ServerId(1)]));
    let mut behind = srv([110, 10, 10]);
    behind.rotate_left(1);
    assert_eq!(find("_sip._udp.east.pairline.test", RecordType::SRV), behind);
    assert_eq!(find("east.pairline.test", RecordType::A), ["127.0.1.2", "127.0.1.3"]);
    zone.set_silent((1..=3).map(ServerId).collect());
    assert_eq!(find("east.pairline.test", RecordType::A).len(), 3, "whoever hears nobody still names all");
}

fn resolver(zone: &ZoneView, servers: Vec<SocketAddr>) -> Resolver {
    let outgoing = vec![
        Outgoing { listener: 1, transport: Transport::Udp, v4: true },
        Outgoing { listener: 2, transport: Transport::Tcp, v4: true },
    ];
    Resolver::new(zone.clone(), servers, outgoing, PeerNames::default())
}

#[tokio::test]
async fn next_hops_of_our_own_names_follow_which_pools_live() {
    let deployment = Deployment::new();
    let zone = ZoneView::new(Arc::new(deployment.topology.clone()));
    let resolver = resolver(&zone, vec![]);
    let address = |n: usize| deployment.topology.server[n].listener[0].address;
    let flows = resolver.locate(b"sip:east.pairline.test").await.unwrap();
    assert_eq!((flows[0].transport, flows[0].listener, flows[0].connection), (Transport::Udp, 1, 0));
    let udp = flows.iter().filter(|f| f.transport == Transport::Udp);
    assert_eq!(udp.map(|f| f.remote).collect::<Vec<_>>(), [address(0), address(1)]);
    zone.set_dead(BTreeSet::from([PoolId(1)]));
    let flows = resolver.locate(b"sip:east.pairline.test;transport=tcp").await.unwrap();
    assert!(flows.iter().all(|f| f.transport == Transport::Tcp && f.listener == 2));
    assert_eq!(flows.iter().map(|f| f.remote).collect::<Vec<_>>(), [address(1), address(0)]);
    let literal = resolver.locate(b"sip:198.51.100.7:5070").await.unwrap();
    assert_eq!(literal[0].remote, "198.51.100.7:5070".parse().unwrap());
    assert_eq!(resolver.locate(b"not a uri").await, Ok(vec![]));
    assert_eq!(resolver.locate(b"sip:nobody.pairline.test").await, Ok(vec![]));
}

#[tokio::test]
async fn foreign_names_are_asked_of_the_resolvers_and_silence_is_told() {
    let deployment = Deployment::new();
    let server = Server::start_with(deployment.options("east"), watcher(Arc::new(AtomicBool::new(true)))).unwrap();
    let at = dns(&server);
    // A zone that does not know the names: they are asked of the server over the network.
    let mut elsewhere = deployment.topology.clone();
    elsewhere.deployment.domains = vec!["elsewhere.test".to_owned()];
    elsewhere.pool.clear();
    elsewhere.server.clear();
    let zone = ZoneView::new(Arc::new(elsewhere));
    let flows = resolver(&zone, vec![at]).locate(b"sip:pairline.test").await.unwrap();
    let mut remotes: Vec<SocketAddr> = flows.iter().map(|f| f.remote).collect();
    remotes.sort();
    remotes.dedup();
    let mut expected: Vec<SocketAddr> = deployment.topology.server.iter().map(|s| s.listener[0].address).collect();
    expected.sort();
    assert_eq!(remotes, expected);
    let (answers, ttl) = client::ask(&[at], "fe1.east.pairline.test", Kind::A).await.unwrap();
    assert_eq!((answers, ttl), (Answers::Addresses(vec![expected[0].ip()]), 2));
    let silent = UdpSocket::bind((support::address(), 0)).unwrap();
    let quiet = resolver(&zone, vec![silent.local_addr().unwrap()]);
    assert!(quiet.locate(b"sip:pairline.test").await.is_err(), "no answer is not \"no such name\"");
}

#[test]
fn resolvers_of_the_system_are_read() {
    let folder = support::Folder::new();
    let path = folder.path().join("resolv.conf");
    std::fs::write(&path, "# comment\nsearch x\nnameserver 192.0.2.1\nnameserver bad\nnameserver 2001:db8::1\n")
        .unwrap();
    let expected: Vec<SocketAddr> = vec!["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()];
    assert_eq!(client::system_resolvers(&path), expected);
    assert!(client::system_resolvers(&folder.path().join("none")).is_empty());
}

/// The deployment of `up --listen`: both servers also listen on one address of the network, with different ports.
fn with_network(deployment: &Deployment, address: std::net::IpAddr) -> pairline_topology::Topology {
    let mut topology = deployment.topology.clone();
    pairline_server::up::listen_too(&mut topology, address).unwrap();
    topology
}

/// Whatever SRV says of a name and a port, and A says of that name, some listener of the pools asked for has it.
#[test]
fn every_srv_target_and_port_is_somebodys_listener() {
    let deployment = Deployment::new();
    let topology = with_network(&deployment, support::address());
    let zone = ZoneView::new(Arc::new(topology.clone())).now();
    let services =
        [(SipTransport::Udp, "_sip._udp"), (SipTransport::Tcp, "_sip._tcp"), (SipTransport::Tls, "_sips._tcp")];
    for (transport, label) in services {
        for (base, pools) in [("pairline.test", vec![1, 2]), ("east.pairline.test", vec![1, 2])] {
            let found = zone.find(&format!("{label}.{base}"), RecordType::SRV);
            let mut reached = BTreeSet::new();
            for record in &found.answers {
                let RData::SRV(srv) = record.data() else { panic!("not SRV: {record}") };
                let target = srv.target().to_ascii();
                let addresses = zone.find(&target, RecordType::A).answers;
                assert_eq!(addresses.len(), 1, "{target}");
                let RData::A(ip) = addresses[0].data() else { panic!("not A") };
                assert!(found.additional.contains(&addresses[0]), "{target} comes along");
                reached.insert(SocketAddr::new(ip.0.into(), srv.port()));
            }
            let listeners: BTreeSet<SocketAddr> = topology
                .server
                .iter()
                .filter(|server| pools.contains(&server.pool.0))
                .flat_map(|server| server.listener.iter().filter(|l| l.transport == transport))
                .map(|listener| listener.address)
                .collect();
            assert_eq!(listeners.len(), 4);
            assert_eq!(reached, listeners, "{label}.{base}");
        }
    }
    let own = zone.find("east.pairline.test", RecordType::A).answers;
    assert_eq!(own.len(), 1, "without SRV there is no port, so no address with another pool's port 5060: {own:?}");
}

/// What `preflight dns` tells to create is what the embedded DNS answers, record by record.
#[test]
fn preflight_and_the_embedded_dns_say_the_same() {
    let deployment = Deployment::new();
    let topology = with_network(&deployment, support::address());
    let zone = ZoneView::new(Arc::new(topology.clone())).now();
    let told = pairline_server::preflight::records(&topology);
    let names: BTreeSet<(String, String)> = told.iter().map(|r| (r.name.clone(), r.kind.clone())).collect();
    assert!(names.len() >= 10, "{names:?}");
    for (name, kind) in names {
        let found = zone.find(&name, RecordType::from_str(&kind).unwrap());
        let answered: BTreeSet<String> = found.answers.iter().map(|r| r.data().to_string()).collect();
        let printed: BTreeSet<String> =
            told.iter().filter(|r| r.name == name && r.kind == kind).map(|r| r.data.clone()).collect();
        assert_eq!(answered, printed, "{kind} {name}");
    }
}

fn udp_socket(address: SocketAddr, shared: bool) -> std::io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    socket.set_reuse_address(shared)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A multicast DNS daemon (avahi, systemd-resolved) holds its port on all addresses and shares it: we live beside it, whoever
/// came first. A program that does not share it is named as the reason.
#[test]
fn the_port_of_multicast_dns_is_shared_with_its_daemon() {
    let mut deployment = Deployment::new();
    let daemon = udp_socket("0.0.0.0:0".parse().unwrap(), true).unwrap();
    let port = daemon.local_addr().unwrap().as_socket().unwrap().port();
    let everywhere: SocketAddr = ([0, 0, 0, 0], port).into();
    for server in &mut deployment.topology.server {
        server.dns = server.dns.map(|dns| SocketAddr::new(dns.ip(), port));
    }
    let dns_of = |n: usize| deployment.topology.server[n].dns.unwrap();
    let find = |what: SocketAddr| {
        pairline_server::up::ports::taken(&deployment.topology).into_iter().find(|t| t.address == what)
    };
    assert_eq!(find(dns_of(0)), None, "a daemon that shares is no obstacle");
    let server = Server::start_with(deployment.options("east"), watcher(Arc::new(AtomicBool::new(true)))).unwrap();
    assert_eq!(ask(dns(&server), "pairline.test.", RecordType::SOA).answers().len(), 1, "ours comes to us");
    drop(daemon);
    drop(udp_socket(everywhere, true).expect("a daemon that comes later finds its port free to share"));
    let taken = find(dns_of(0)).expect("two of ours do not share one address");
    assert!(taken.why.contains("in use by another program"), "{taken}");
    drop(server);
    let selfish = udp_socket(everywhere, false).unwrap();
    let taken = find(dns_of(1)).expect("taken");
    assert!(taken.why.contains("does not share it") && taken.why.contains("multicast DNS"), "{taken}");
    let refused = Server::start_with(deployment.options("west"), watcher(Arc::new(AtomicBool::new(true))));
    let Err(error) = refused else { panic!("it cannot start") };
    assert!(error.to_string().contains("does not share it"), "{error}");
    drop(selfish);
}
