//! The capabilities that a service has: read, commit, send, answer, wait. Nothing else reaches a service.
//!
//! Owns the trait and its types. The node implements it; services only use it. A service never learns how a record is
//! replicated, only whether a user is served here (`Place`).

use pairline_group::io::{Done, Now, Proposal};
use pairline_group::{GroupId, Key, Kind, Millis, PoolId, Record, ServerId};
use pairline_sip::flow::Flow;
use pairline_sip::message::Message;
use pairline_sip::target::Rest;
use pairline_sip::uri::Aor;
use std::future::Future;
use std::rc::Rc;

use crate::binding::Binding;
use crate::settings::DeploymentView;
use bytes::Bytes;

/// One outgoing branch of a task (a client transaction that the task owns).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Branch(pub u64);

/// Where a user is served, as this server sees it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The domain is ours and has no such user.
    NoSuchUser,
    /// Active and confirmed here: full service.
    Here {
        /// The user's group.
        group: GroupId,
    },
    /// Served by other servers, and the link to them is up: send over [`Cx::peer_flow`].
    Elsewhere {
        /// The user's group; `None` if this server does not know whether there is such a user.
        group: Option<GroupId>,
        /// Who serves: another pool, or the server of this one that leads the group. Or who knows whether there is such a user.
        at: Peer,
    },
    /// Nobody who can be reached serves the user in full and this pool is in resiliency mode for it: bindings are guest bindings,
    /// what is known can be read from `group`, nothing durable can be changed.
    Resiliency {
        /// The user's group: a copy that can be read, never written.
        group: GroupId,
    },
    /// The serving pool cannot be reached and the detection interval is not over.
    Unavailable {
        /// The user's group: if a copy is here, it can be read to tell who asks. `None` if nobody can be asked now whether there is such
        /// a user.
        group: Option<GroupId>,
        /// The pool that should serve.
        pool: PoolId,
    },
}

/// Other servers of the deployment as next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// Any server of another pool.
    Pool(PoolId),
    /// This one.
    Server(ServerId),
}

/// What can happen to a waiting task.
// A response is by far the most frequent event; boxing it would cost an allocation each.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub enum TaskEvent {
    /// A response arrived on a branch.
    Response(Branch, Message),
    /// A branch ended without a final response.
    Timeout(Branch),
    /// A branch could not be sent or its flow broke.
    TransportError(Branch),
    /// The upstream sent CANCEL (already answered 200 by the transaction layer), with that Reason (RFC 3326).
    Cancelled(Option<Box<str>>),
    /// The deadline set by [`Cx::set_deadline`] passed.
    Deadline,
    /// Bindings of a watched user changed ([`Cx::watch_bindings`]).
    BindingsChanged,
}

/// How a flow can be used now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The flow is open here, or it is plain UDP that this server can send.
    Open,
    /// Owned by another server, and the link to it is up: send over the peer flow.
    ThroughPeer,
    /// Its owner is gone or the stream is closed: the binding is stranded, unless its contact is directly reachable.
    Stranded,
}

/// Why a host name gave no targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocateError {
    /// No such name, or no usable address.
    #[error("no address found for the next hop")]
    NotFound,
    /// The resolver did not answer in time.
    #[error("the resolver did not answer in time")]
    Timeout,
}

/// The capabilities. One value per task; cheap to clone.
///
/// Rules: dropping the task at any await is safe; after an await the epoch may have changed, and then `commit` refuses by itself
/// (`Refusal::Moved`/`NotActive`). Reads that hit memory finish in the first poll.
pub trait Cx: Clone {
    /// Whether a fault is planted.
    #[cfg(feature = "planted")]
    fn is_planted(&self, _what: pairline_group::planted::Planted) -> bool {
        false
    }
    /// Both clocks at the start of this poll.
    fn now(&self) -> Now;
    /// Random bits, from the node's seeded generator.
    fn random(&self) -> u64;
    /// The deployment as topology says: domains, own names and addresses, policies, keys.
    fn view(&self) -> Rc<DeploymentView>;
    /// Where a user of our domains is served.
    fn place(&self, user: &Aor) -> Place;
    /// The same, but waits for a short while (at most 3 s) where the servers of this pool are just choosing which of them serves the
    /// user's group.
    fn placed(&self, user: &Aor) -> impl Future<Output = Place>;
    /// The user who stands in for a name that nobody has, chosen among all users by a keyed hash of the name, with where that
    /// user is served; `None` where there are no users, and for the name of a user. For that something is looked up that is
    /// not there, so that [`Cx::place`] and this together take the same work for a name that is a user's and one that is not.
    fn stand_in(&self, user: &Aor) -> Option<(Aor, Place)>;
    /// Reads one committed record of the group, where it decides something: at the server of this pool that leads the group, if this
    /// pool serves it, else in the copy here.
    fn read(&self, group: GroupId, key: &Key) -> impl Future<Output = Option<Record>>;
    /// Looks at a record in the copy here, which may be older, or not there at all: for what is only said, never for what is granted.
    fn glance(&self, group: GroupId, key: &Key) -> Option<Record>;
    /// Reads all records of an owner (of one kind, if given), in key order, as [`Cx::read`] does.
    fn read_all(&self, group: GroupId, owner: &str, kind: Option<Kind>) -> impl Future<Output = Vec<(Key, Record)>>;
    /// Proposes a change; resolves after it is committed or refused.
    fn commit(&self, group: GroupId, proposal: Proposal) -> impl Future<Output = Done>;
    /// Guest bindings of a user that are visible here (own pool's, and the partner's while the link is up).
    fn guests(&self, user: &Aor) -> Vec<Binding>;
    /// Whether this pool may hold a binding more than it does now (policy `bindings_per_pool`).
    fn room_for_bindings(&self) -> bool;
    /// Replaces one guest binding (or removes it, with `lives` 0); false if the pool can hold no more or cannot write.
    fn put_guest(&self, user: &Aor, binding: Binding, lives_ms: u64) -> impl Future<Output = bool>;
    /// Answers the task's server transaction (provisional or final). A second final answer is ignored, except 2xx to INVITE.
    fn respond(&self, status: u16, reply: Bytes);
    /// Gives a final answer and keeps nothing of it: for challenges, which strangers with forged sources ask for.
    fn respond_once(&self, status: u16, reply: Bytes);
    /// Sends a request as a client transaction owned by this task; its events come through [`Cx::event`].
    fn forward(&self, flow: Flow, request: Bytes) -> Branch;
    /// Sends CANCEL for a branch, once it may be sent, with that value of Reason (RFC 3326).
    fn cancel(&self, branch: Branch, reason: Option<&str>);
    /// Sends bytes outside any transaction (ACK to 2xx, stray responses).
    fn send_stateless(&self, flow: Flow, message: Bytes);
    /// Next event of this task.
    fn event(&self) -> impl Future<Output = TaskEvent>;
    /// Sets (or clears) the task's one deadline, in monotonic milliseconds.
    fn set_deadline(&self, at_mono: Option<u64>);
    /// From now on [`TaskEvent::BindingsChanged`] comes when a binding or guest binding of this user is written here.
    fn watch_bindings(&self, user: &Aor);
    /// Whether and how the flow of a binding can be used.
    fn reach(&self, binding: &Binding) -> Reach;
    /// The flow to other servers, while the link is up and they are heard.
    fn peer_flow(&self, at: Peer) -> Option<Flow>;
    /// SIP domains that the other end of a flow has proven to be by a certificate (RFC 5922), and users (`user@domain`); none
    /// for most.
    fn proven_names(&self, flow: Flow) -> Rc<[String]>;
    /// RFC 3263 location of a host name (addresses are answered at once).
    fn locate(&self, uri: &[u8]) -> impl Future<Output = Result<Vec<Flow>, LocateError>>;
    /// Lets a target rest for so many milliseconds: after it did not answer, or because it asked for it.
    fn rest(&self, target: Flow, why: Rest, ms: Millis);
    /// Why a target rests, if it does.
    fn rests(&self, target: Flow) -> Option<Rest>;
    /// Accepts (nonce, nc) once: false if it was used before (replay window of this server).
    fn nonce_count(&self, nonce_id: u128, nc: u32) -> bool;
    /// Looks at or changes which HA1s were opened lately; never across an await.
    fn with_opened<R>(&self, f: impl FnOnce(&mut crate::auth::Opened) -> R) -> R;
    /// Looks at or changes what subscribers were told; never across an await.
    fn watching<R>(&self, f: impl FnOnce(&mut crate::watching::Table) -> R) -> R;
    /// Asks the push gateway to wake a client; whether it does shows in the client's REGISTER, or never. The same client is
    /// asked for once in a few seconds.
    fn wake(&self, wake: crate::push::Wake);
    /// Counts an event for metrics (name of a fixed set, see `crate::metrics`).
    fn count(&self, what: crate::metrics::Counter);
}
