//! SIP.js and JsSIP over WSS in headless Chromium: register, message, and calls with the browser's own offers.

use pairline_interop::browser::talk;
use pairline_interop::deployment::Deployment;

/// alice with SIP.js and bob with JsSIP, both at home on east.
pub fn within(pairline: &mut Deployment) {
    let east = "wss://east.pairline.test:8443";
    talk(pairline, [("sip.js", "alice", east), ("jssip", "bob", east)]);
}

/// carol of west with SIP.js, alice with JsSIP; each library at the other pool.
pub fn across(pairline: &mut Deployment) {
    let (east, west) = ("wss://east.pairline.test:8443", "wss://west.pairline.test:8443");
    talk(pairline, [("sip.js", "carol", west), ("jssip", "alice", east)]);
}
