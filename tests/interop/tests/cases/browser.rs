//! SIP.js and JsSIP over WSS in headless Chromium: register, message, and calls with the browser's own offers.

use pairline_interop::browser::talk;
use pairline_interop::deployment::Deployment;

/// alice with SIP.js and bob with JsSIP, both at home on east.
pub fn within(pairline: &mut Deployment) {
    let east = "wss://127.0.1.1:8443";
    talk(pairline, "127.0.1.1", [("sip.js", "alice", east), ("jssip", "bob", east)]);
}

/// carol of west with SIP.js, alice with JsSIP; each library at the other pool.
pub fn across(pairline: &mut Deployment) {
    let phones = [("sip.js", "carol", "wss://127.0.2.1:8443"), ("jssip", "alice", "wss://127.0.1.1:8443")];
    talk(pairline, "127.0.1.1", phones);
}
