//! Server texts: round trip, findings, overrides; and hostile texts for both parsers.
#![allow(clippy::unwrap_used)]

use pairline_topology::server_config::{ListenerOverride, LogFormat, ServerConfig, parse_server_config};
use pairline_topology::{CaptureConfig, PushConfig};
use pairline_topology::{ClientCertificates, SipConfig, demo_topology, parse, to_toml};
use proptest::prelude::*;

fn config() -> ServerConfig {
    ServerConfig {
        server: "fe1.east.pairline.test".to_owned(),
        topology: "topology.toml".into(),
        data: "data".into(),
        certificate: "server.pem".into(),
        key: "server.key".into(),
        authority: "authority.pem".into(),
        secret: "deployment.secret".into(),
        admin_token: Some("token".into()),
        log_format: LogFormat::Json,
        log_level: "debug".to_owned(),
        admin: Some("127.0.0.1:17443".parse().unwrap()),
        link: None,
        dns: None,
        listener: vec![ListenerOverride { id: "udp".to_owned(), address: "127.0.0.1:15060".parse().unwrap() }],
        sip: SipConfig::default(),
        push: Some(PushConfig {
            gateway: "https://push.example.org/wake".to_owned(),
            providers: vec!["apns".to_owned(), "fcm".to_owned()],
            wait_s: 12,
            authority: Some("push.pem".into()),
            token: None,
        }),
        watchers: vec!["sip:boss@pairline.test".to_owned()],
        capture: CaptureConfig::default(),
    }
}

#[test]
fn a_push_gateway_says_what_it_lacks() {
    let text = config().to_toml();
    for (from, to, key) in [
        ("wait_s = 12", "wait_s = 26", "push.wait_s"),
        ("[\"apns\", \"fcm\"]", "[]", "push.providers"),
        ("\"fcm\"", "\"f cm\"", "push.providers"),
        ("gateway = \"https://push.example.org/wake\"", "gatewax = \"x\"", "push.gateway"),
    ] {
        assert!(text.contains(from), "{from} in {text}");
        let found = parse_server_config("server.toml", &text.replace(from, to)).unwrap_err();
        assert!(found.iter().any(|e| e.key == key), "{to}: {found:?}");
    }
    let without = ServerConfig { push: None, watchers: Vec::new(), ..config() };
    assert_eq!(parse_server_config("server.toml", &without.to_toml()).unwrap(), without);
}

#[test]
fn a_capture_reads_back_and_says_what_is_wrong_with_it() {
    let capture = CaptureConfig {
        hep: Some("192.0.2.9:9060".parse().unwrap()),
        hep_tcp: true,
        hep_id: Some(2001),
        hep_key: Some("hep.key".into()),
        pcap: true,
        pcap_files: 3,
        pcap_file_mib: 1,
        bodies: true,
    };
    let all = ServerConfig { capture, ..config() };
    let text = all.to_toml();
    assert_eq!(parse_server_config("server.toml", &text).unwrap(), all);
    assert!(!config().to_toml().contains("[capture]"));
    let wrong = text
        .replace("\"192.0.2.9:9060\"", "\"collector:9060\"")
        .replace("\"tcp\"", "\"sctp\"")
        .replace("pcap_files = 3", "pcap_files = 1\npcap_size = 9")
        .replace("bodies = true", "bodies = \"yes\"");
    let found = parse_server_config("server.toml", &wrong).unwrap_err();
    let keys: Vec<&str> = found.iter().map(|e| e.key.as_str()).collect();
    for key in ["hep", "hep_transport", "pcap_files", "pcap_size", "bodies"] {
        assert!(keys.contains(&format!("capture.{key}").as_str()), "{key}: {found:?}");
    }
    for (lone, key) in [("hep_key = \"k\"", "capture.hep_key"), ("hep = \"0.0.0.0:9060\"", "capture.hep")] {
        let text = format!("{}\n[capture]\n{lone}\n", config().to_toml());
        let found = parse_server_config("server.toml", &text).unwrap_err();
        assert!(found.iter().any(|e| e.key == key), "{lone}: {found:?}");
    }
}

#[test]
fn a_server_text_reads_back() {
    let text = config().to_toml();
    assert_eq!(parse_server_config("server.toml", &text).unwrap(), config());
    assert!(!text.contains("[sip]"), "{text}");
    let sip = SipConfig {
        certificate: Some("sip.pem".into()),
        key: Some("sip.key".into()),
        authorities: Some("/etc/ssl/certs/ca-certificates.crt".into()),
        client_certificates: ClientCertificates::Required,
        origins: vec!["https://phone.example.org".to_owned(), "http://[::1]:8080".to_owned()],
        flow_grace_s: 0,
    };
    let all = ServerConfig { sip, ..config() };
    assert_eq!(parse_server_config("server.toml", &all.to_toml()).unwrap(), all);
}

#[test]
fn a_sip_table_that_cannot_work_is_said_with_its_keys() {
    let table = "[sip]\ncertificate = \"a.pem\"\nclient_certificates = \"maybe\"\nflow_grace_s = 3601\n\
                 origins = [\"phone.example.org\", \"https://\", \"https://a/b\", \"https://fine.example\"]";
    let found = parse_server_config("server.toml", &format!("{}\n{table}", config().to_toml())).unwrap_err();
    let keys: Vec<&str> = found.iter().map(|e| e.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "sip.client_certificates",
            "sip.flow_grace_s",
            "sip.key",
            "sip.origins[0]",
            "sip.origins[1]",
            "sip.origins[2]"
        ],
        "{found:?}"
    );
}

#[test]
fn overrides_hold_for_this_machine_only() {
    let server = config().effective(&demo_topology()).unwrap();
    assert_eq!(server.admin.port(), 17443);
    assert_eq!(server.listener[0].address.port(), 15060);
    assert_eq!(server.listener[1].address.port(), 5060);
    assert_eq!(server.link.port(), 7444);
    let mut wrong = config();
    wrong.listener[0].id = "sctp".to_owned();
    assert!(wrong.effective(&demo_topology()).unwrap_err()[0].problem.contains("sctp"));
    wrong.server = "fe9".to_owned();
    assert!(wrong.effective(&demo_topology()).unwrap_err()[0].remedy.contains("fe1.east"));
}

#[test]
fn everything_missing_is_said_at_once() {
    let found = parse_server_config("server.toml", "[log]\nformat = \"xml\"\nspeed = 1").unwrap_err();
    let keys: Vec<&str> = found.iter().map(|e| e.key.as_str()).collect();
    let wanted = [
        "server",
        "topology",
        "data",
        "tls.certificate",
        "tls.key",
        "tls.authority",
        "secret",
        "log.format",
        "log.speed",
    ];
    for key in wanted {
        assert!(keys.contains(&key), "{key} in {keys:?}");
    }
    assert_eq!(keys.len(), wanted.len());
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = parse("t", &text);
        let _ = parse_server_config("t", &text);
    }

    #[test]
    fn no_cut_or_changed_document_panics(at in 0_usize..6000, with in "[\\[\\]\"=a-z0-9\n.-]{0,6}") {
        let mut text = to_toml(&demo_topology());
        let at = at.min(text.len());
        text.insert_str(at, &with);
        if let Err(found) = parse("t", &text) {
            prop_assert!(!found.is_empty());
        }
    }

    #[test]
    fn numbers_read_back(detection in 750_u32..86_400_000, groups in 1_u16..1024, hold in 5_u32..=10) {
        let mut t = demo_topology();
        t.policies.resilience.detection_ms = detection.max(1_000);
        t.pool[0].routing_groups = groups;
        t.policies.registration.stranded_hold_s = hold;
        prop_assert_eq!(parse("t", &to_toml(&t)).unwrap(), t);
    }
}
