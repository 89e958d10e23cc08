//! What a request may look at that is decided in one step, without a task: the same as [`crate::cx::Cx`] offers, but nothing
//! that waits.
//!
//! Owns the trait. A decision made over it is plain code over memory; what it wants written it hands back.

use crate::auth::Opened;
use crate::cx::Place;
use crate::metrics::Counter;
use crate::settings::DeploymentView;
use pairline_group::io::Now;
use pairline_group::{GroupId, Key, Kind, Record};
use pairline_sip::uri::Aor;
use std::rc::Rc;

/// The present state, as one request sees it.
pub trait Sight {
    /// Both clocks.
    fn now(&self) -> Now;
    /// Random bits.
    fn random(&mut self) -> u64;
    /// The deployment.
    fn view(&self) -> Rc<DeploymentView>;
    /// Where a user of our domains is served.
    fn place(&self, user: &Aor) -> Place;
    /// The user who stands in for a name, as [`crate::cx::Cx::stand_in`].
    fn stand_in(&self, user: &Aor) -> Option<(Aor, Place)>;
    /// One committed record of a local copy.
    fn record(&self, group: GroupId, key: &Key) -> Option<&Record>;
    /// The records of one kind of an owner in a local copy, in key order.
    fn records(&self, group: GroupId, owner: &str, kind: Kind) -> impl Iterator<Item = (&Key, &Record)>;
    /// Whether there may be guest bindings of a user.
    fn may_have_guests(&self, user: &Aor) -> bool;
    /// Whether the pool has room for one more binding.
    fn room_for_bindings(&self) -> bool;
    /// Accepts (nonce, nc) once.
    fn nonce_count(&mut self, nonce_id: u128, nc: u32) -> bool;
    /// HA1s that were opened lately.
    fn opened(&mut self) -> &mut Opened;
    /// Counts an event.
    fn count(&mut self, what: Counter);
}
