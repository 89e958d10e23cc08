//! Who is told of changed registrations, and when: from what replication applies to the service that tells.
//!
//! Owns the trigger. What is told, and to whom, is the services' (`events`).

use crate::core::Core;
use crate::node::Node;
use pairline_group::{GroupId, Key};
use pairline_services::{events, records};
use pairline_sip::uri::Aor;

/// A record of a user was written (`put`), removed or has expired. Costs one question while nobody subscribes to anything.
pub fn changed(core: &mut Core, group: GroupId, key: &Key, put: bool) {
    if key.kind == records::SUBSCRIPTION && put {
        if core.host.can_commit(group) {
            core.watching.watch(&key.owner);
        }
    } else if matches!(key.kind, records::BINDING | records::SUBSCRIPTION) && !core.watching.is_empty() {
        tell(core, &key.owner);
    }
}

/// A subscription to a user was found among the records: if nobody knew of it here, this server was started or took the user
/// over, and goes on with the dialog by telling everything.
pub fn found(core: &mut Core, user: &str) {
    if core.watching.watch(user) {
        tell(core, user);
    }
}

fn tell(core: &mut Core, user: &str) {
    if core.watching.change(user) {
        core.to_tell.push_back(user.to_owned());
    }
}

/// Starts the telling of one user's subscribers; true if there was one.
pub fn pump(node: &mut Node) -> bool {
    let next = node.core().borrow_mut().to_tell.pop_front();
    let Some(user) = next.as_deref().and_then(Aor::parse) else { return next.is_some() };
    node.spawn(move |cx| events::changed(cx, user));
    true
}
