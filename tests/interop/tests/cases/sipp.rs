//! SIPp as phones: registrations, messages and calls over UDP, TCP and TLS, within a pool and across.

use super::capture::{told, trace};
use super::{east, tls, west};
use pairline_interop::deployment::Deployment;
use pairline_interop::sipp::{Sipp, finish};
use pairline_interop::socat::Tunnel;
use pairline_interop::wait::until;
use std::net::SocketAddr;
use std::time::Duration;

fn register<'a>(
    pairline: &Deployment,
    user: &'a str,
    server: SocketAddr,
    port: u16,
    contact: &str,
    expires: u32,
) -> Sipp<'a> {
    let mut sipp = Sipp::new("register", server, port);
    sipp.keys = vec![("user", user.to_owned()), ("contact", contact.to_owned()), ("expires", expires.to_string())];
    sipp.user = Some((user, pairline.password(user)));
    sipp
}

/// A registration shows in the administrator's list and is gone after its removal by the phone.
pub fn register_udp(pairline: &mut Deployment) {
    let contact = "sip:alice@127.0.0.1:17001";
    register(pairline, "alice", east(), 17_000, contact, 300).run(pairline.folder());
    let listed = pairline.must(&["registration", "list", "alice"]).out;
    assert!(listed.contains("127.0.0.1:17001"), "{listed}");
    register(pairline, "alice", east(), 17_000, contact, 0).run(pairline.folder());
    let listed = pairline.must(&["registration", "list", "alice"]).out;
    assert!(!listed.contains("127.0.0.1:17001"), "{listed}");
}

/// The same over a connection; an administrator can drop it.
pub fn register_tcp(pairline: &mut Deployment) {
    let contact = "sip:carol@127.0.0.1:17011;transport=tcp";
    let mut sipp = register(pairline, "carol", west(), 17_010, contact, 300);
    sipp.transport = "t1";
    sipp.run(pairline.folder());
    assert!(pairline.must(&["registration", "list", "carol"]).out.contains("127.0.0.1:17011"));
    pairline.must(&["registration", "drop", "carol"]);
    assert!(!pairline.must(&["registration", "list", "carol"]).out.contains("127.0.0.1:17011"));
}

/// Neither a wrong password nor an unknown user is accepted.
pub fn wrong_password(pairline: &mut Deployment) {
    for user in ["bob", "nobody"] {
        let mut sipp = Sipp::new("wrong_password", east(), 17_020);
        sipp.keys = vec![("user", user.to_owned()), ("contact", format!("sip:{user}@127.0.0.1:17021"))];
        sipp.user = Some((user, "not the password".to_owned()));
        sipp.run(pairline.folder());
    }
    assert!(!pairline.must(&["registration", "list", "bob"]).out.contains("17021"));
}

/// Both sides of one kind of traffic: the called side registers and listens, then the caller runs.
fn pair(
    pairline: &Deployment,
    kind: &str,
    called: (&str, SocketAddr),
    caller: (&str, SocketAddr),
    transport: &str,
    port: u16,
) {
    let contact = format!("sip:{}@127.0.0.1:{}", called.0, port + 1);
    register(pairline, called.0, called.1, port, &contact, 300).run(pairline.folder());
    let (uas, uac) = (format!("{kind}_uas"), format!("{kind}_uac"));
    let mut listening = Sipp::new(&uas, called.1, port + 1);
    listening.calls = 20;
    let mut listening = listening.start(pairline.folder());
    let mut calling = Sipp::new(&uac, caller.1, port + 2);
    calling.calls = 20;
    calling.transport = transport;
    calling.keys = vec![("user", caller.0.to_owned()), ("other", called.0.to_owned())];
    calling.user = Some((caller.0, pairline.password(caller.0)));
    calling.run(pairline.folder());
    finish(&mut listening);
    register(pairline, called.0, called.1, port, &contact, 0).run(pairline.folder());
}

/// Twenty messages from alice to bob.
pub fn message_udp(pairline: &mut Deployment) {
    pair(pairline, "message", ("bob", east()), ("alice", east()), "u1", 17_100);
}

/// Twenty messages from carol of the other pool to bob, sent over a connection.
pub fn message_tcp(pairline: &mut Deployment) {
    pair(pairline, "message", ("bob", east()), ("carol", west()), "t1", 17_110);
}

/// Twenty calls with a re-INVITE from alice to bob.
pub fn call_udp(pairline: &mut Deployment) {
    pair(pairline, "call", ("bob", east()), ("alice", east()), "u1", 17_120);
}

/// Twenty calls with a re-INVITE from bob to carol of the other pool, made over a connection.
pub fn call_tcp(pairline: &mut Deployment) {
    pair(pairline, "call", ("carol", west()), ("bob", east()), "t1", 17_130);
}

/// Twenty calls with a re-INVITE to a phone that registered by datagram with a contact that names TCP: it is connected to.
pub fn call_contact_tcp(pairline: &mut Deployment) {
    let (port, contact) = (17_160, "sip:bob@127.0.0.1:17161;transport=tcp");
    register(pairline, "bob", east(), port, contact, 300).run(pairline.folder());
    let mut listening = Sipp::new("call_uas", east(), port + 1);
    listening.calls = 20;
    listening.transport = "t1";
    let mut listening = listening.start(pairline.folder());
    let mut calling = Sipp::new("call_uac", east(), port + 2);
    calling.calls = 20;
    calling.keys = vec![("user", "alice".to_owned()), ("other", "bob".to_owned())];
    calling.user = Some(("alice", pairline.password("alice")));
    calling.run(pairline.folder());
    finish(&mut listening);
    register(pairline, "bob", east(), port, contact, 0).run(pairline.folder());
}

/// Both sides over connections: the called side registers over one, and is reached over that one. With tunnels both are TLS.
fn pair_on_connections(
    pairline: &Deployment,
    kind: &str,
    [called, caller]: [&str; 2],
    port: u16,
    tunnels: Option<&[Tunnel; 2]>,
) {
    let transport = if tunnels.is_some() { "tls" } else { "tcp" };
    let contact = format!("sip:{called}@127.0.0.1:{port};transport={transport}");
    let mut staying = register(pairline, called, east(), port, &contact, 300);
    let uas = format!("{kind}_uas");
    staying.scenario = "register_and_stay";
    staying.transport = "t1";
    staying.others = Some(&uas);
    let uac = format!("{kind}_uac");
    let mut calling = Sipp::new(&uac, east(), port + 1);
    calling.calls = 20;
    calling.transport = "t1";
    calling.keys = vec![("user", caller.to_owned()), ("other", called.to_owned())];
    calling.user = Some((caller, pairline.password(caller)));
    if let Some([to_called, to_caller]) = tunnels {
        staying.over_tls(to_called);
        calling.over_tls(to_caller);
    }
    let mut stayed = staying.start(pairline.folder());
    until(Duration::from_secs(10), "the called side is registered", || {
        pairline.must(&["registration", "list", called]).out.contains(&contact).then_some(())
    });
    let place = pairline.must(&["user", "where", called]).out;
    let flow = format!("{} 127.", transport.to_uppercase());
    assert!(place.contains(&flow) && place.contains("reachable"), "{place}");
    let counts = calling.run(pairline.folder());
    assert_eq!(counts.of("Retransmissions"), 0, "{counts:?}");
    finish(&mut stayed);
    let counts = staying.counted(pairline.folder());
    // Whatever belongs to no call of its own begins its second scenario.
    assert_eq!((counts.of("AutoAnswered"), counts.of("FailedCall")), (20, 0), "{counts:?}");
    pairline.must(&["registration", "drop", called]);
}

/// Twenty messages from alice to bob; both sides use connections.
pub fn message_tcp_both(pairline: &mut Deployment) {
    pair_on_connections(pairline, "message", ["bob", "alice"], 17_140, None);
}

/// Twenty calls with a re-INVITE from alice to bob; both sides use connections.
pub fn call_tcp_both(pairline: &mut Deployment) {
    pair_on_connections(pairline, "call", ["bob", "alice"], 17_150, None);
}

/// What both servers saw of a user meanwhile: all of it over TLS, and each of those words that many times.
fn seen_over_tls(pairline: &Deployment, user: &str, words: &[(&str, usize)], work: impl FnOnce()) {
    let mut tracing = trace(pairline, &[user, "--seconds", "120"]);
    work();
    let lines = told(&mut tracing);
    let messages: Vec<&String> = lines.iter().filter(|line| line.contains("--") && line.contains('|')).collect();
    for (word, count) in words {
        let found = messages.iter().filter(|line| line.contains(word)).count();
        assert_eq!(found, *count, "{word}:\n{}", lines.join("\n"));
    }
    let others: Vec<_> = messages.iter().filter(|line| !line.ends_with("TLS")).collect();
    assert!(others.is_empty(), "not over TLS: {others:?}");
}

/// A registration through the challenge and its removal, each on a TLS connection of its own.
pub fn register_tls(pairline: &mut Deployment) {
    let contact = "sip:carol@127.0.0.1:17171;transport=tls";
    let words = [("REGISTER--", 4), ("401 Unauthorized", 2), ("200 OK (REGISTER)", 2)];
    seen_over_tls(pairline, "carol", &words, || {
        for (port, expires) in [(17_170, 300), (17_171, 0)] {
            let tunnel = Tunnel::to(pairline, tls(west()));
            let mut sipp = register(pairline, "carol", west(), port, contact, expires);
            sipp.over_tls(&tunnel);
            let counts = sipp.run(pairline.folder());
            assert_eq!(counts.of("Retransmissions"), 0, "{counts:?}");
            tunnel.was_tls();
            let listed = pairline.must(&["registration", "list", "carol"]).out;
            assert_eq!(listed.contains(contact), expires > 0, "{listed}");
        }
    });
}

/// One kind of traffic from alice to bob, each on a TLS connection of its own.
fn pair_over_tls(pairline: &Deployment, kind: &str, port: u16, words: &[(&str, usize)]) {
    let tunnels = [(); 2].map(|()| Tunnel::to(pairline, tls(east())));
    seen_over_tls(pairline, "alice", words, || {
        pair_on_connections(pairline, kind, ["bob", "alice"], port, Some(&tunnels));
    });
    tunnels.iter().for_each(Tunnel::was_tls);
}

/// Twenty messages from alice to bob: each challenged, sent again, delivered, answered on both connections.
pub fn message_tls(pairline: &mut Deployment) {
    let words = [("MESSAGE--", 60), ("407 Proxy", 20), ("200 OK (MESSAGE)", 40)];
    pair_over_tls(pairline, "message", 17_180, &words);
}

/// Twenty calls with a re-INVITE from alice to bob: each challenged, then three transactions through the proxy.
pub fn call_tls(pairline: &mut Deployment) {
    let words = [("INVITE SDP--", 100), ("407 Proxy", 20), ("180 Ringing", 40), ("BYE--", 40), ("200 OK (BYE)", 40)];
    pair_over_tls(pairline, "call", 17_190, &words);
}
