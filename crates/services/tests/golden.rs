//! Stored forms, frozen: every later build must read these very bytes.
#![allow(clippy::unwrap_used)]

use pairline_group::{PoolId, ServerId};
use pairline_services::binding::{BINDING_VERSION, Binding, FlowRef};
use pairline_services::records::{
    Contact, Credential, DecodeError, Settings, binding_key, contact_key, credential_key, guest_key, settings_key,
    subscription_key,
};
use pairline_services::routes;
use pairline_services::settings::Secret;
use pairline_services::subscription::Subscription;
use pairline_sip::auth::Algorithm;
use pairline_sip::flow::{Flow, Transport};

const KEY: Secret = Secret([3; 32]);
const USER: &str = "sip:alice@pairline.test";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let text = text.trim();
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn binding() -> Binding {
    let flow = Flow {
        transport: Transport::Tcp,
        listener: 2,
        remote: "192.0.2.7:49152".parse().unwrap(),
        connection: 0x1_0000_0001,
    };
    Binding {
        id: Binding::id_for(Some(b"<urn:uuid:1>"), Some(1), b"sip:alice@192.0.2.7"),
        contact: b"sip:alice@192.0.2.7:5070;transport=tcp".as_slice().into(),
        params: b";reg-id=1;+sip.instance=\"<urn:uuid:1>\"".as_slice().into(),
        q: 700,
        call_id: b"abc@192.0.2.7".as_slice().into(),
        cseq: 4711,
        granted: 600,
        expires: 1_700_000_600_000,
        refreshed: 1_700_000_000_000,
        since: 1_699_999_000_000,
        path: vec![b"sip:edge.example;lr".as_slice().into()],
        instance: Some(b"<urn:uuid:1>".as_slice().into()),
        reg_id: Some(1),
        flow: FlowRef { pool: PoolId(1), server: ServerId(11), boot: 5, flow },
        user_agent: b"TestPhone/1".as_slice().into(),
        op: [0xab; 16],
    }
}

#[test]
fn binding_v1_is_still_read() {
    let frozen = include_str!("golden/binding_v1.hex").trim();
    let since = binding().refreshed;
    assert_eq!(Binding::decode(&unhex(frozen)).unwrap(), Binding { since, ..binding() });
}

#[test]
fn binding_v2() {
    let frozen = include_str!("golden/binding_v2.hex").trim();
    assert_eq!(hex(&binding().encode()), frozen);
    assert_eq!(Binding::decode(&unhex(frozen)).unwrap(), binding());
}

#[test]
fn subscription_v1() {
    let subscription = Subscription {
        id: Subscription::id_for(b"abc@192.0.2.7", b"local", b"remote"),
        package: b"reg".as_slice().into(),
        event_id: Some(b"7".as_slice().into()),
        subscriber: USER.into(),
        call_id: b"abc@192.0.2.7".as_slice().into(),
        local_tag: b"local".as_slice().into(),
        remote_tag: b"remote".as_slice().into(),
        local_uri: USER.as_bytes().into(),
        remote_uri: USER.as_bytes().into(),
        target: b"sip:alice@192.0.2.7:5070".as_slice().into(),
        routes: vec![b"sip:edge.example;lr".as_slice().into()],
        remote_cseq: 4711,
        reserved: 64,
        expires: 1_700_000_600_000,
        flow: binding().flow,
    };
    let frozen = include_str!("golden/subscription_v1.hex").trim();
    assert_eq!(hex(&subscription.encode()), frozen);
    assert_eq!(Subscription::decode(&unhex(frozen)).unwrap(), subscription);
    let value = subscription.encode();
    let mut newer = value.to_vec();
    newer[0] += 1;
    assert!(matches!(Subscription::decode(&newer), Err(DecodeError::Version(2))));
    for cut in 0..value.len() {
        assert!(Subscription::decode(&value[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn settings_v1() {
    let settings =
        Settings { display_name: Some("Alice".into()), forward_to: Some("sip:bob@pairline.test".into()), note: None };
    let frozen = include_str!("golden/settings_v1.hex").trim();
    assert_eq!(hex(&settings.encode()), frozen);
    assert_eq!(Settings::decode(&unhex(frozen)).unwrap(), settings);
}

#[test]
fn contact_v1() {
    let contact = Contact { name: "Bob".into(), groups: vec!["Friends".into(), "Work".into()] };
    let frozen = include_str!("golden/contact_v1.hex").trim();
    assert_eq!(hex(&contact.encode()), frozen);
    assert_eq!(Contact::decode(&unhex(frozen)).unwrap(), contact);
}

#[test]
fn credential_v1() {
    let algorithms = [Algorithm::Sha256, Algorithm::Md5, Algorithm::Sha512_256];
    let credential = Credential::from_password(&algorithms, "alice", "pairline.test", "secret");
    let frozen = include_str!("golden/credential_v1.hex").trim();
    assert_eq!(hex(&credential.seal(&KEY, USER, 42)), frozen);
    let sealed = unhex(frozen);
    assert_eq!(Credential::open(&KEY, USER, &sealed).unwrap(), credential);
    assert!(matches!(Credential::open(&Secret([4; 32]), USER, &sealed), Err(DecodeError::Seal)));
    assert!(matches!(Credential::open(&KEY, "sip:bob@pairline.test", &sealed), Err(DecodeError::Seal)));
    let mut changed = sealed;
    *changed.last_mut().unwrap() ^= 1;
    assert!(matches!(Credential::open(&KEY, USER, &changed), Err(DecodeError::Seal)));
    assert_ne!(credential.seal(&KEY, USER, 42), credential.seal(&KEY, USER, 43));
    assert!(!format!("{credential:?} {KEY:?}").contains("03"));
}

#[test]
fn flow_token_v1() {
    let frozen = include_str!("golden/flow_token_v1.txt").trim();
    let flow = binding().flow;
    assert_eq!(routes::flow_token(&KEY, &flow), frozen);
    assert_eq!(routes::read_flow_token(&KEY, frozen.as_bytes()), Some(flow));
    assert_eq!(routes::read_flow_token(&Secret([4; 32]), frozen.as_bytes()), None);
    for at in 3..frozen.len() {
        let mut forged = frozen.as_bytes().to_vec();
        forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
        assert_eq!(routes::read_flow_token(&KEY, &forged), None, "changed at {at}");
    }
    for cut in 0..frozen.len() {
        assert_eq!(routes::read_flow_token(&KEY, &frozen.as_bytes()[..cut]), None);
    }
    let mark = include_str!("golden/dialog_mark_v1.txt").trim();
    assert_eq!(routes::dialog_mark(&KEY, b"abc@192.0.2.7", b""), mark);
}

#[test]
fn keys_are_frozen() {
    let id = [0xcd; 16];
    let keys = [
        (credential_key(USER), 200, String::new()),
        (settings_key(USER), 201, String::new()),
        (contact_key(USER, "sip:bob@pairline.test"), 202, hex(b"sip:bob@pairline.test")),
        (binding_key(USER, &id), 203, "cd".repeat(16)),
        (guest_key(USER, PoolId(258), &id), 204, format!("0102{}", "cd".repeat(16))),
        (subscription_key(USER, &id), 205, "cd".repeat(16)),
    ];
    for (key, kind, item) in keys {
        assert_eq!((&*key.owner, key.kind.0, hex(&key.item)), (USER, kind, item));
    }
}

#[test]
fn newer_and_damaged_values_are_refused_untouched() {
    let value = binding().encode();
    let mut newer = value.to_vec();
    newer[0] = BINDING_VERSION + 1;
    assert!(matches!(Binding::decode(&newer), Err(DecodeError::Version(v)) if v == BINDING_VERSION + 1));
    assert!(matches!(Binding::decode(&[]), Err(DecodeError::Empty)));
    for cut in 1..value.len() {
        assert!(Binding::decode(&value[..cut]).is_err(), "cut at {cut}");
    }
}
