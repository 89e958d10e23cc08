//! Policies of the proxy: their text, their rules, their stored form beside version 1's.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use pairline_topology::policy_proxy::{EmergencyRoute, HistoryInfo, Network, Redirects, TrustedPeer};
use pairline_topology::stored::{StoredError, decode_topology, encode_topology};
use pairline_topology::{Topology, Transport, demo_topology, parse, to_toml, validate};
use std::net::IpAddr;

/// The demonstration with a gateway, a partner organisation and an emergency desk.
fn with_peers() -> Topology {
    let mut t = demo_topology();
    t.policies.limits.transactions_per_server = 200_000;
    t.policies.procedure.min_free_disk_percent = 10;
    t.policies.authentication.rule.truncate(4);
    t.server.iter_mut().for_each(|server| server.listener.truncate(2));
    t.policies.proxy.redirects = Redirects::Follow;
    t.policies.proxy.history_info = HistoryInfo::Always;
    t.policies.trust.peer = vec![
        TrustedPeer {
            name: "gateway".to_owned(),
            certificate: None,
            network: vec!["192.0.2.0/25".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            transport: vec![Transport::Tcp],
            domain: Vec::new(),
            next_hop: None,
        },
        TrustedPeer {
            name: "sister".to_owned(),
            certificate: Some("sip.sister.example".to_owned()),
            network: Vec::new(),
            transport: vec![Transport::Tcp, Transport::Tls],
            domain: vec!["sister.example".to_owned()],
            next_hop: Some("sip:sip.sister.example;transport=tls".to_owned()),
        },
    ];
    let route = |pattern: &str, to: &str| EmergencyRoute { pattern: pattern.to_owned(), to: to.to_owned() };
    t.policies.emergency.unauthenticated = false;
    t.policies.emergency.route =
        vec![route("urn:service:sos.fire", "sip:dave@pairline.test"), route("112", "sip:192.0.2.7:5060")];
    t
}

/// The demonstration's text without the policies that this file is about.
fn demo_text() -> String {
    let ours = ["[policies.proxy]", "[policies.trust]", "[policies.emergency]"];
    let mut inside = false;
    let mut text = String::new();
    for line in to_toml(&demo_topology()).lines() {
        if line.starts_with('[') {
            inside = ours.contains(&line);
        }
        if !inside {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[test]
fn the_text_reads_back_and_defaults_hold_without_it() {
    let t = with_peers();
    validate(&t).unwrap();
    assert_eq!(parse("t.toml", &to_toml(&t)).unwrap(), t);
    let plain = parse("t.toml", &demo_text()).unwrap().policies;
    assert_eq!((plain.proxy.redirects, plain.proxy.max_breadth), (Redirects::Pass, 60));
    assert!(plain.trust.peer.is_empty() && plain.emergency.unauthenticated);
    let short = "[[policies.trust.peer]]\nname = \"gw\"\nnetwork = [\"10.0.0.1\"]\n";
    let read = parse("t.toml", &format!("{}\n{short}", demo_text())).unwrap();
    assert_eq!(read.policies.trust.peer[0].transport, [Transport::Tcp, Transport::Tls], "never datagrams by default");
}

#[test]
fn what_cannot_work_is_refused_with_place_and_remedy() {
    let refuse = |change: fn(&mut Topology), key: &str| {
        let mut t = with_peers();
        change(&mut t);
        let found = validate(&t).unwrap_err();
        assert!(found.iter().any(|e| e.key == key && !e.remedy.is_empty()), "{key} in {found:?}");
    };
    refuse(|t| t.policies.trust.peer[0].network.clear(), "policies.trust.peer[0].network");
    refuse(|t| t.policies.trust.peer[1].name = "gateway".into(), "policies.trust.peer[1].name");
    refuse(|t| t.policies.trust.peer[0].transport = vec![Transport::Wss], "policies.trust.peer[0].transport");
    refuse(|t| t.policies.trust.peer[1].domain[0] = "pairline.test".into(), "policies.trust.peer[1].domain[0]");
    refuse(|t| t.policies.trust.peer[1].next_hop = None, "policies.trust.peer[1].next_hop");
    refuse(|t| t.policies.trust.peer[1].next_hop = Some("tel:1".into()), "policies.trust.peer[1].next_hop");
    refuse(
        |t| t.policies.emergency.route[0].pattern = "urn:service:counseling".into(),
        "policies.emergency.route[0].pattern",
    );
    refuse(|t| t.policies.emergency.route[1].pattern = "help".into(), "policies.emergency.route[1].pattern");
    refuse(
        |t| t.policies.emergency.route[1].pattern = "URN:service:sos.FIRE".into(),
        "policies.emergency.route[1].pattern",
    );
    refuse(|t| t.policies.emergency.route[1].to = "desk".into(), "policies.emergency.route[1].to");
    let text = "[policies.proxy]\nredirects = \"maybe\"\nmax_breadth = 0\n[[policies.trust.peer]]\nname = \"a\"\nnetwork = [\"10.0.0.0/33\"]\ntransport = [\"sctp\"]\n";
    let found = parse("t.toml", &format!("{}\n{text}", demo_text())).unwrap_err();
    let keys: Vec<&str> = found.iter().map(|e| e.key.as_str()).collect();
    for key in [
        "policies.proxy.redirects",
        "policies.proxy.max_breadth",
        "policies.trust.peer[0].network[0]",
        "policies.trust.peer[0].transport[0]",
    ] {
        assert!(keys.contains(&key), "{key} in {keys:?}");
    }
}

#[test]
fn networks_contain_what_their_prefix_says() {
    let table = [
        ("192.0.2.0/25", "192.0.2.127", true),
        ("192.0.2.0/25", "192.0.2.128", false),
        ("192.0.2.7", "192.0.2.7", true),
        ("192.0.2.7", "192.0.2.6", false),
        ("0.0.0.0/0", "203.0.113.9", true),
        ("0.0.0.0/0", "2001:db8::1", false),
        ("192.0.2.7", "::ffff:192.0.2.7", true),
        ("2001:db8::/33", "2001:db8:7fff::1", true),
        ("2001:db8::/33", "2001:db8:8000::1", false),
        ("2001:db8::1/128", "2001:db8::1", true),
    ];
    for (network, ip, inside) in table {
        let network: Network = network.parse().unwrap();
        assert_eq!(network.contains(ip.parse::<IpAddr>().unwrap()), inside, "{network} {ip}");
    }
    for bad in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "example.org", "10.0.0.0/-1"] {
        assert!(bad.parse::<Network>().is_err(), "{bad}");
    }
}

#[test]
fn a_document_is_stored_as_version_1_until_it_says_something_new() {
    assert_eq!(encode_topology(&demo_topology())[0], 1);
    let t = with_peers();
    let value = encode_topology(&t);
    assert_eq!(value[0], 2);
    assert_eq!(decode_topology(&value).unwrap(), t);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/topology.v2");
    if !path.exists() {
        std::fs::write(&path, &value).unwrap();
        panic!("wrote the first sample topology.v2: check and commit it");
    }
    // A text is read for ever; how it is written may change with the writer.
    assert_eq!(decode_topology(&std::fs::read(path).unwrap()).unwrap(), t);
}

#[test]
fn a_text_that_says_more_than_this_build_knows_is_refused_untouched() {
    let mut value = encode_topology(&with_peers()).to_vec();
    value.extend_from_slice(b"\n[policies.teleport]\nrange = 5\n");
    let Err(StoredError::Text(found)) = decode_topology(&value) else { panic!("it was taken") };
    assert_eq!(found[0].key, "policies.teleport");
    assert_eq!(decode_topology(&[2, 0xff]), Err(StoredError::Text(Vec::new())));
    assert_eq!(decode_topology(&[3]), Err(StoredError::Newer(3)));
}
