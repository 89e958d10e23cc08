//! Client-initiated connections at the registrar (RFC 5626 §6): who asks for them, and whether the way here keeps them.
//!
//! Owns those two questions. Does not own the key of a flow's binding (`binding`, `ask`) nor how flows are used (`proxy`).

use super::ask::Ask;
use crate::forward::peer_hops;
use crate::settings::RegistrarPolicy;
use pairline_sip::message::Message;
use pairline_sip::uri::Uri;

/// Whether a REGISTER makes or refreshes a flow, and its client knows what that means. Costs nothing where no contact has a
/// `reg-id`.
pub fn is_asked(request: &Message, ask: &Ask) -> bool {
    ask.contacts.iter().any(|contact| contact.reg_id.is_some()) && request.supported("outbound")
}

/// Whether the first proxy on the way here, which alone can keep the client's flow, does not say that it does: 439. A server
/// of ours that sent it on over the link keeps flows and is not counted.
pub fn first_hop_lacks_it(request: &Message, ask: &Ask) -> bool {
    if request.vias().count().saturating_sub(peer_hops(request)) <= 1 {
        return false;
    }
    // Each proxy puts its Path on top, so the last value is the first proxy's.
    let first_hop = ask.path.last().and_then(|path| Uri::parse(path).ok());
    !first_hop.is_some_and(|uri| uri.has_param("ob"))
}

/// Seconds within which the client of a stream must be heard (RFC 5626 §4.4); datagrams have the RFC's own rhythm.
pub fn flow_timer(policy: &RegistrarPolicy, ask: &Ask) -> Option<u32> {
    (policy.flow_timer_s > 0 && ask.flow.flow.transport.reliable()).then_some(policy.flow_timer_s)
}
