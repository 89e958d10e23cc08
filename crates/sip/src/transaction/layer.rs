//! [`Layer`]: the transactions of one server shard, their keys, timers and outputs. What a server
//! or client transaction does in detail is in `servers` and `clients`.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::brief::Briefs;
use super::clients::ClientSlot;
use super::kept::Kept;
use super::key::{Class, Key, Keys};
use super::servers::ServerSlot;
use super::slab::Slab;
use super::timers::{Queue, Timers};
use crate::Millis;
use crate::flow::Flow;
use crate::hashed::Hashed;
use crate::message::Message;
use crate::method::Method;

/// Bytes that a server transaction may keep, on average of all that are allowed: large messages leave room for fewer.
pub const BYTES_EACH: usize = 4096;

/// A server transaction. Ids are not used again within the life of a layer's slot generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerTx(pub(super) u64);

/// A client transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientTx(pub(super) u64);

/// The transaction is over, or its final response was given already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the transaction is over")]
pub struct Gone;

/// What a received message means.
#[derive(Debug)]
pub enum Received {
    /// A new request; its transaction waits for [`Layer::respond`].
    Request {
        /// The transaction.
        tx: ServerTx,
        /// The request, with its source noted.
        message: Message,
    },
    /// An ACK to a 2xx, or one that matches nothing: to be forwarded without a transaction.
    Ack {
        /// The ACK.
        message: Message,
    },
    /// An INVITE that has no final response is to be cancelled. The CANCEL itself has been
    /// answered; the INVITE still waits for its response (487).
    Cancel {
        /// The INVITE's transaction.
        invite: ServerTx,
        /// The values of the CANCEL's Reason (RFC 3326), if they are text.
        reason: Option<Box<str>>,
    },
    /// A response for a client transaction. Its end may be among the outputs already.
    Response {
        /// The transaction.
        tx: ClientTx,
        /// The response.
        message: Message,
    },
    /// A response that belongs to no client transaction.
    StrayResponse {
        /// The response.
        message: Message,
    },
    /// A repetition or an ACK that the layer has dealt with.
    Absorbed,
    /// The limit is reached; the request has been answered 500 without a transaction.
    Refused,
}

/// What the layer wants done, or reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send these bytes on this flow.
    Transmit {
        /// Where to.
        flow: Flow,
        /// A whole message.
        bytes: Bytes,
    },
    /// No final response came in time: to be treated as 408.
    Timeout {
        /// The transaction; `ClientDone` follows.
        tx: ClientTx,
    },
    /// The transport failed: to be treated as 503.
    TransportError {
        /// The transaction; `ClientDone` follows.
        tx: ClientTx,
    },
    /// A server transaction is over; its id is void.
    ServerDone {
        /// The transaction.
        tx: ServerTx,
    },
    /// A client transaction is over; its id is void.
    ClientDone {
        /// The transaction.
        tx: ClientTx,
    },
}

/// All transactions of one shard. Calls give outputs, which the caller drains with
/// [`poll`](Self::poll) after each call. Time is monotonic and must not go backwards.
#[derive(Debug)]
pub struct Layer {
    pub(super) timers: Timers,
    pub(super) max: usize,
    /// Bytes of requests and responses that server transactions keep.
    pub(super) held: usize,
    pub(super) servers: Slab<ServerSlot>,
    pub(super) clients: Slab<ClientSlot>,
    pub(super) briefs: Briefs,
    /// Of transactions that are over.
    pub(super) kept: Kept,
    pub(super) keys: Keys,
    pub(super) server_keys: Hashed<u64>,
    pub(super) client_keys: Hashed<u64>,
    pub(super) queue: Queue,
    /// Transactions by the flow that they send on: client ones, and server ones on connections.
    pub(super) by_flow: BTreeSet<(Flow, bool, u64)>,
    pub(super) outputs: VecDeque<Output>,
}

/// No more than fits beside the room for urgent requests.
fn bounded(max_transactions: usize) -> usize {
    max_transactions.min(1 << 30)
}

impl Layer {
    /// A layer that holds at most `max_transactions` server transactions; client transactions
    /// come from our own requests and are bounded by what the server transactions fork. Where strangers choose branches use
    /// [`with_seed`](Self::with_seed).
    pub fn new(timers: Timers, max_transactions: usize) -> Layer {
        Self::with_seed(timers, max_transactions, 0)
    }

    /// As [`new`](Self::new) with a secret seed for the key table, so that nobody can choose
    /// branches that collide. The seed does not change behaviour.
    pub fn with_seed(timers: Timers, max_transactions: usize, seed: u64) -> Layer {
        Layer {
            timers,
            max: bounded(max_transactions),
            held: 0,
            servers: Slab::new(),
            clients: Slab::new(),
            briefs: Briefs::default(),
            kept: Kept::default(),
            keys: Keys::new(seed),
            server_keys: Hashed::default(),
            client_keys: Hashed::default(),
            queue: Queue::default(),
            by_flow: BTreeSet::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Holds at most so many server transactions from now on. Those that there are stay, however many.
    pub fn set_max_transactions(&mut self, max_transactions: usize) {
        self.max = bounded(max_transactions);
    }

    /// How many server transactions it holds at most.
    pub fn max_transactions(&self) -> usize {
        self.max
    }

    /// Takes a message that came on `flow`.
    pub fn receive(&mut self, now: Millis, flow: Flow, message: Message) -> Received {
        self.receive_within(now, flow, message, self.max)
    }

    /// Takes a message that must not be refused because others have taken all the room: it has an eighth of the room beside,
    /// which nothing else is given. For emergency calls.
    pub fn receive_urgent(&mut self, now: Millis, flow: Flow, message: Message) -> Received {
        self.receive_within(now, flow, message, self.max + self.max.div_ceil(8))
    }

    fn receive_within(&mut self, now: Millis, flow: Flow, mut message: Message, max: usize) -> Received {
        if !message.is_request() {
            return self.receive_response(now, message);
        }
        message.set_source(flow.remote);
        match message.method() {
            Method::Ack => self.receive_ack(now, message),
            Method::Cancel => self.receive_cancel(now, flow, message),
            _ => self.receive_request(now, flow, message, max),
        }
    }

    fn receive_request(&mut self, now: Millis, flow: Flow, message: Message, max: usize) -> Received {
        let key = self.keys.server(&message, Class::Own);
        if self.repeats(now, key) {
            return Received::Absorbed;
        }
        if self.holds(max) {
            self.refuse(flow, &message);
            return Received::Refused;
        }
        let tx = self.open_server(now, key, flow, &message, false);
        Received::Request { tx, message }
    }

    /// Whether that is a request again that is under way or was answered; what there is to say to it is said.
    pub(super) fn repeats(&mut self, now: Millis, key: Key) -> bool {
        if let Some(&id) = self.server_keys.get(&key) {
            self.repeat_request(now, id);
            return true;
        }
        let kept = self.kept.find(key, now);
        if let Some((flow, Some(answer))) = &kept {
            self.transmit(*flow, answer.clone());
        }
        kept.is_some()
    }

    /// Whether a new request would be refused for want of room: transactions, or bytes that they keep.
    pub fn is_full(&self) -> bool {
        self.holds(self.max)
    }

    fn holds(&self, max: usize) -> bool {
        self.servers.len() + self.briefs.weight() >= max || self.held >= max.saturating_mul(BYTES_EACH)
    }

    /// Whether little room is left: fifteen sixteenths of the transactions, or of the bytes, are taken.
    pub fn is_nearly_full(&self) -> bool {
        let most = self.max - self.max / 16;
        self.servers.len() + self.briefs.weight() >= most || self.held >= most.saturating_mul(BYTES_EACH)
    }

    /// Bytes of requests and responses that server transactions keep, those that are over among them.
    pub fn held_bytes(&self) -> usize {
        self.held + self.kept.bytes()
    }

    /// Transactions that are over, and of which is kept how the same request again is answered. They take no room from others: where there
    /// are as many as there may be transactions, or their answers take 512 bytes each on average, the oldest are forgotten.
    pub fn kept_len(&self) -> usize {
        self.kept.len()
    }

    /// The user of an INVITE's server transaction has gone: it gives no further 2xx. Nothing changes unless it gave one.
    pub fn release_server(&mut self, now: Millis, tx: ServerTx) {
        self.server_released(now, tx.0);
    }

    /// The user of an INVITE's client transaction has gone: 2xx that come after a first one are stray responses. Nothing changes
    /// before that.
    pub fn release_client(&mut self, now: Millis, tx: ClientTx) {
        self.client_released(now, tx.0);
    }

    /// The next thing to do or to know.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`on_time`](Self::on_time) has to be called next.
    pub fn next_timeout(&self) -> Option<Millis> {
        self.queue.next()
    }

    /// Fires all timers that are due at `now`.
    pub fn on_time(&mut self, now: Millis) {
        self.briefs.expire(now);
        self.kept.expire(now);
        if self.queue.is_littered() {
            let (servers, clients) = (&self.servers, &self.clients);
            self.queue.sweep(|due| match due.server {
                true => servers.get(due.id).is_some_and(|slot| slot.armed.holds(due)),
                false => clients.get(due.id).is_some_and(|slot| slot.armed.holds(due)),
            });
        }
        while let Some(due) = self.queue.pop_due(now) {
            if due.server {
                self.server_timer(now, due);
            } else {
                self.client_timer(now, due);
            }
        }
    }

    /// The transport cannot send on `flow`, or its connection has closed. Client transactions on
    /// it, also those that were sent with connection 0 to the same remote, fail at once; answers
    /// of server transactions go to a new connection (RFC 3261 §18.2.2). What rings over the link to
    /// another pool waits a little for [`transport_restored`](Self::transport_restored).
    pub fn transport_failed(&mut self, now: Millis, flow: Flow) {
        let any = Flow { connection: 0, ..flow };
        let mut hit = self.on_flow(flow);
        if any != flow {
            hit.extend(self.on_flow(any));
        }
        for (server, id) in hit {
            if server {
                self.server_lost_connection(id, flow);
            } else {
                self.client_transport_error(now, id);
            }
        }
    }

    /// The link that `flow` names is up again: answers that may have been lost with it are sent once more, and so are CANCELs.
    pub fn transport_restored(&mut self, now: Millis, flow: Flow) {
        for (server, id) in self.on_flow(flow) {
            if server {
                self.repeat_request(now, id);
            } else {
                self.client_transport_restored(now, id);
            }
        }
    }

    /// The transactions that send on a flow: whether it is a server's, and its id.
    fn on_flow(&self, flow: Flow) -> Vec<(bool, u64)> {
        let range = (flow, false, 0)..=(flow, true, u64::MAX);
        self.by_flow.range(range).map(|(_, server, id)| (*server, *id)).collect()
    }

    /// All transactions, server and client.
    pub fn len(&self) -> usize {
        self.servers.len() + self.clients.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Server transactions.
    pub fn server_len(&self) -> usize {
        self.servers.len()
    }

    /// Client transactions.
    pub fn client_len(&self) -> usize {
        self.clients.len()
    }

    /// Brief transactions that wait for their answer.
    pub fn brief_len(&self) -> usize {
        self.briefs.len()
    }

    /// Timers that run; brief transactions have none.
    pub fn timer_len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn transmit(&mut self, flow: Flow, bytes: Bytes) {
        self.outputs.push_back(Output::Transmit { flow, bytes });
    }
}
