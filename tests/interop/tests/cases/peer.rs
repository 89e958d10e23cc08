//! Kamailio as another organisation, `peer.test`: calls and messages in both directions, found by NAPTR and SRV on both sides, and
//! trusted by the deployment's policy.

use super::baresip::address;
use pairline_interop::baresip::Baresip;
use pairline_interop::deployment::Deployment;
use pairline_interop::{kamailio, names};
use std::fs;
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

/// What the topology says of the peer (`policies.trust.peer`): known by its address, and where requests for its domain go.
pub const POLICY: &str = r#"{ name = "another organisation", network = ["127.0.4.2"], transport = ["udp", "tcp"], domain = ["peer.test"], next_hop = "sip:peer.test" }"#;

/// A baresip with the ports of a demo user and another account; its one proxy is given, its contacts are both.
fn phone(demo: &Path, ports_of: &str, account: &str) -> Baresip {
    let from = demo.join("clients").join(ports_of).join("baresip/srv");
    let folder = demo.join("clients").join(ports_of).join("baresip/peer");
    fs::create_dir_all(&folder).expect("the folder can be written");
    fs::copy(from.join("config"), folder.join("config")).expect("`up` writes it");
    fs::write(folder.join("accounts"), account).expect("the folder can be written");
    let contacts = "\"alice\" <sip:alice@pairline.test>\n\"erin\" <sip:erin@peer.test>\n";
    fs::write(folder.join("contacts"), contacts).expect("the folder can be written");
    let mut phone = Baresip::start(ports_of, &folder);
    phone.registered(SOON);
    phone
}

/// alice of ours and erin of theirs.
pub fn both_ways(deployment: &mut Deployment) {
    let root = deployment.folder().parent().expect("data lies in the group's folder").to_owned();
    let _names = names::start();
    let peer = kamailio::start_resolving("peer", &names::resolv_conf(&root));
    let demo = root.join("demo");
    let password = fs::read_to_string(demo.join("clients/alice/password")).expect("`up` writes it");
    let ours = format!(
        "<sip:alice@pairline.test>;auth_user=alice;auth_pass={};answermode=auto;regint=60;\
         outbound=\"sip:127.0.1.1:5060;transport=udp\"\n",
        password.trim()
    );
    let theirs =
        "<sip:erin@peer.test>;auth_pass=none;answermode=auto;regint=60;outbound=\"sip:127.0.4.2:5060;transport=udp\"\n";
    let (mut alice, mut erin) = (phone(&demo, "alice", &ours), phone(&demo, "dave", theirs));
    let mark = peer.mark();
    alice.call(&mut erin, "sip:erin@peer.test", SOON);
    // The first server of the list is dead: it was the second one, over the transport that the peer puts first, and it is told who
    // calls.
    peer.expect_line(mark, SOON, "INVITE from sip:alice@pairline.test by tcp, asserted <sip:alice@pairline.test>");
    alice.hang_up(&mut erin, SOON);
    erin.call(&mut alice, &address("alice"), SOON);
    alice.hang_up(&mut erin, SOON);
    erin.call(&mut alice, &address("alice"), SOON);
    erin.hang_up(&mut alice, SOON);
    alice.write(&erin, "erin", "From the one organisation.", SOON);
    erin.write(&alice, "alice", "From the other organisation.", SOON);
}
