//! Two Linphones with the configurations that `up` writes, over every transport that it speaks.

use super::baresip::address;
use pairline_interop::deployment::{DOMAIN, Deployment};
use pairline_interop::linphone::Linphone;
use pairline_interop::names;
use std::fs;
use std::time::Duration;

/// Time for something that needs no repetition.
const SOON: Duration = Duration::from_secs(15);

/// Starts the Linphone of a demo user over a transport and waits until it is registered.
fn phone(pairline: &Deployment, user: &str, transport: &str) -> Linphone {
    let folder = pairline.folder().join("clients").join(user).join("linphone");
    let rc = fs::read_to_string(folder.join("address/linphonerc")).expect("`up` writes one");
    let resolv_conf = (transport == "tls").then(|| names::resolv_conf(&folder));
    let rc = match transport {
        "tls" => over_tls(pairline, &rc),
        other => rc.replace(";transport=udp", &format!(";transport={other}")),
    };
    let mut phone = Linphone::start(user, &folder.join(transport), &rc, resolv_conf.as_deref());
    phone.registered(SOON);
    phone
}

/// The same configuration over TLS, with the domain for an address: found by SRV, and who is there must prove that name by a
/// certificate of the deployment's authority.
fn over_tls(pairline: &Deployment, rc: &str) -> String {
    let authority = pairline.authority();
    let address = rc.lines().find_map(|line| line.strip_prefix("reg_proxy=<sip:")?.split(';').next());
    rc.replace(address.expect("the configuration names a proxy"), DOMAIN)
        .replace(";transport=udp", ";transport=tls")
        .replace("sip_tls_port=0\n", "sip_tls_port=-1\nverify_server_certs=1\nverify_server_cn=1\n")
        .replacen("[sip]\n", &format!("[sip]\nroot_ca={}\n", authority.display()), 1)
}

/// Calls in both directions, ended by either side, and messages in both directions.
fn all(one: (&mut Linphone, &str), other: (&mut Linphone, &str)) {
    one.0.call(other.0, &address(other.1), SOON);
    one.0.hang_up(other.0, SOON);
    other.0.call(one.0, &address(one.1), SOON);
    one.0.hang_up(other.0, SOON);
    one.0.write(other.0, &address(other.1), "Are you there?", SOON);
    other.0.write(one.0, &address(one.1), "Yes, here.", SOON);
}

/// alice and bob, both at home on east, by datagrams. They authenticate with SHA-256.
pub fn udp(pairline: &mut Deployment) {
    let (mut alice, mut bob) = (phone(pairline, "alice", "udp"), phone(pairline, "bob", "udp"));
    all((&mut alice, "alice"), (&mut bob, "bob"));
}

/// alice on east and carol on west, over connections.
pub fn tcp(pairline: &mut Deployment) {
    let (mut alice, mut carol) = (phone(pairline, "alice", "tcp"), phone(pairline, "carol", "tcp"));
    all((&mut alice, "alice"), (&mut carol, "carol"));
}

/// bob on east and dave on west, over TLS, each at whichever server SRV has led to.
pub fn tls(pairline: &mut Deployment) {
    let _names = names::start();
    let (mut bob, mut dave) = (phone(pairline, "bob", "tls"), phone(pairline, "dave", "tls"));
    let flow = pairline.must(&["registration", "list", "bob"]).out;
    assert!(flow.contains("TLS 127.0.0.1:"), "{flow}");
    all((&mut bob, "bob"), (&mut dave, "dave"));
}
