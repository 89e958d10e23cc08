//! Kamailio as the outbound proxy in front of Pairline: Path, Record-Route and, over connections, kept flows (RFC 5626).

use super::baresip::{address, phone};
use pairline_interop::baresip::Baresip;
use pairline_interop::deployment::Deployment;
use pairline_interop::kamailio;
use std::fs;
use std::time::Duration;

/// Time for something that needs no repetition.
const SOON: Duration = Duration::from_secs(15);

/// Takes back what earlier cases registered: their phones had the same port, so a call would reach one phone twice, by the proxy
/// and past it.
fn alone(pairline: &Deployment) {
    for user in ["alice", "bob"] {
        pairline.must(&["registration", "drop", user]);
    }
}

/// Starts alice's baresip with one outbound proxy, Kamailio, and waits until it is registered.
fn behind(pairline: &Deployment, variant: &str, transport: &str) -> Baresip {
    let (from, folder) = (pairline.baresip_folder("alice", variant), pairline.baresip_folder("alice", "kamailio"));
    fs::create_dir_all(&folder).expect("the folder can be written");
    for file in ["accounts", "config", "contacts"] {
        let text = fs::read_to_string(from.join(file)).expect("`up` writes it");
        // One proxy, and that one: the second of the ready-made configuration is the other pool.
        let text = text.split(";outbound2=").next().unwrap_or_default().to_owned();
        let text = text.replace("127.0.1.1:5060", "127.0.3.1:5060").replace("transport=tcp", "transport=tcp;lr");
        fs::write(folder.join(file), text.replace("transport=udp", "transport=udp;lr")).expect("it can be written");
    }
    let mut alice = Baresip::start("alice", &folder);
    alice.registered(SOON);
    let listed = pairline.must(&["registration", "list", "alice"]).out;
    assert!(listed.contains("127.0.3.1:5060"), "over {transport} it is reached through the proxy: {listed}");
    alice
}

/// Calls in both directions, ended by either side, and a message each way.
fn all(alice: &mut Baresip, bob: &mut Baresip) {
    alice.call(bob, &address("bob"), SOON);
    alice.hang_up(bob, SOON);
    bob.call(alice, &address("alice"), SOON);
    alice.hang_up(bob, SOON);
    bob.call(alice, &address("alice"), SOON);
    bob.hang_up(alice, SOON);
    alice.write(bob, "bob", "Through a proxy.", SOON);
    bob.write(alice, "alice", "Back through it.", SOON);
}

/// By datagrams: the server finds the client by its Path.
pub fn datagrams(pairline: &mut Deployment) {
    alone(pairline);
    let _kamailio = kamailio::start("outbound");
    let (mut alice, mut bob) = (behind(pairline, "address", "UDP"), phone(pairline, "bob", "address"));
    all(&mut alice, &mut bob);
}

/// Over a connection that only the proxy has: its flow token in the Path leads back to it.
pub fn flows(pairline: &mut Deployment) {
    alone(pairline);
    let _kamailio = kamailio::start("outbound");
    let (mut alice, mut bob) = (behind(pairline, "outbound", "TCP"), phone(pairline, "bob", "address"));
    all(&mut alice, &mut bob);
}
