//! Server transactions of the layer: matching, answering, repeating answers, CANCEL and ACK.

use std::net::SocketAddr;

use bytes::Bytes;

use super::effect::{Effect, Effects};
use super::key::{Class, Key};
use super::layer::{Gone, Layer, Output, Received, ServerTx};
use super::timers::{Armed, Due, Timer};
use super::{invite_server, server};
use crate::Millis;
use crate::flow::{Flow, Transport};
use crate::header::Name;
use crate::message::Message;
use crate::method::Method;
use crate::reply::{self, Reply};
use crate::via::Via;

#[derive(Clone, Copy, Debug)]
enum Machine {
    Invite(invite_server::State),
    Other(server::State),
}

/// Something that happens to a server transaction.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Request,
    Ack,
    Status(u16),
    Timer(Timer),
    Released,
}

/// One server transaction.
#[derive(Debug)]
pub(super) struct ServerSlot {
    machine: Machine,
    key: Key,
    /// Where answers go (RFC 3261 §18.2.2, RFC 3581 §4).
    flow: Flow,
    /// The port to connect to if the connection that the request came on is gone.
    sent_by_port: u16,
    /// The request, until its final response.
    request: Option<Box<Message>>,
    /// The last response, while it may have to be repeated.
    response: Option<Bytes>,
    pub(super) armed: Armed,
    /// Ours alone: the transaction of a CANCEL.
    internal: bool,
    /// Bytes of request and response that the layer's budget counts.
    held: usize,
}

impl Layer {
    /// Gives a response of the transaction: `status` and the whole message. Its repetition is the
    /// layer's, except that of a 2xx to INVITE, which each call sends once.
    pub fn respond(&mut self, now: Millis, tx: ServerTx, status: u16, bytes: Bytes) -> Result<(), Gone> {
        if self.run_server(now, tx.0, Happening::Status(status), Some(bytes)) { Ok(()) } else { Err(Gone) }
    }

    /// Gives the final response and forgets the transaction: nothing is kept, repeated or absorbed. For answers to strangers,
    /// whose source may be forged (RFC 3261 §26.3.2.4, §22.1: a challenge needs no state).
    pub fn respond_once(&mut self, tx: ServerTx, bytes: Bytes) -> Result<(), Gone> {
        let flow = self.server_flow(tx).ok_or(Gone)?;
        self.transmit(flow, bytes);
        self.close_server(tx.0);
        Ok(())
    }

    /// Where the answers of a transaction go.
    pub fn server_flow(&self, tx: ServerTx) -> Option<Flow> {
        self.servers.get(tx.0).map(|slot| slot.flow)
    }

    /// The request of a transaction, until its final response is given.
    pub fn request_of(&self, tx: ServerTx) -> Option<&Message> {
        self.servers.get(tx.0)?.request.as_deref()
    }

    /// Makes the transaction of a request.
    pub(super) fn open_server(
        &mut self,
        now: Millis,
        key: Key,
        flow: Flow,
        message: &Message,
        internal: bool,
    ) -> ServerTx {
        let invite = *message.method() == Method::Invite;
        let flow = response_flow(flow, message);
        let sent_by_port = message.via().port.unwrap_or_else(|| flow.transport.default_port());
        let id = self.servers.insert(|_| ServerSlot {
            machine: if invite {
                Machine::Invite(invite_server::State::Proceeding)
            } else {
                Machine::Other(server::State::Trying)
            },
            key,
            flow,
            sent_by_port,
            request: Some(Box::new(message.clone())),
            response: None,
            armed: Armed::default(),
            internal,
            held: 0,
        });
        self.weigh(id);
        self.server_keys.insert(key, id);
        if flow.transport.reliable() {
            self.by_flow.insert((flow, true, id));
        }
        let timer = if invite { Timer::Trying } else { Timer::Abandoned };
        self.start_server_timer(now, id, timer, false);
        ServerTx(id)
    }

    pub(super) fn repeat_request(&mut self, now: Millis, id: u64) {
        self.run_server(now, id, Happening::Request, None);
    }

    pub(super) fn receive_ack(&mut self, now: Millis, message: Message) -> Received {
        match self.server_keys.get(&self.keys.server(&message, Class::Invite)) {
            Some(&id) => {
                let accepted = self
                    .servers
                    .get(id)
                    .is_some_and(|slot| matches!(slot.machine, Machine::Invite(invite_server::State::Accepted)));
                self.run_server(now, id, Happening::Ack, None);
                if accepted { Received::Ack { message } } else { Received::Absorbed }
            }
            // The ACK to a non-2xx response that we gave without a transaction, or whose
            // transaction is over: it ends here, whoever it names.
            None if has_derived_tag(&message) => Received::Absorbed,
            None => Received::Ack { message },
        }
    }

    pub(super) fn receive_cancel(&mut self, now: Millis, flow: Flow, message: Message) -> Received {
        let invite = self.keys.server(&message, Class::Invite);
        let open = self.server_keys.get(&invite).copied();
        if open.is_none() && !self.kept.has(invite, now) {
            let bytes = Reply::to(&message, 481).build();
            self.transmit(response_flow(flow, &message), bytes);
            return Received::Absorbed;
        }
        let key = self.keys.server(&message, Class::Own);
        if self.repeats(now, key) {
            return Received::Absorbed;
        }
        let tx = self.open_server(now, key, flow, &message, true);
        let bytes = Reply::to(&message, 200).build();
        self.run_server(now, tx.0, Happening::Status(200), Some(bytes));
        let rings = |slot: &ServerSlot| matches!(slot.machine, Machine::Invite(invite_server::State::Proceeding));
        match open.filter(|id| self.servers.get(*id).is_some_and(rings)) {
            Some(invite) => Received::Cancel { invite: ServerTx(invite), reason: reason_of(&message) },
            None => Received::Absorbed,
        }
    }

    /// Answers 500 without a transaction: nobody here knows whether another server could take it. The delay differs from caller to caller, so that they
    /// do not all come back at once.
    pub(super) fn refuse(&mut self, flow: Flow, message: &Message) {
        let spread = reply::derived_tag(message) % 10;
        let bytes = Reply::to(message, 500).header("Retry-After", (5 + spread).to_string()).build();
        self.transmit(response_flow(flow, message), bytes);
    }

    pub(super) fn server_timer(&mut self, now: Millis, due: Due) {
        if let Some(slot) = self.servers.get_mut(due.id)
            && self.queue.fires(&mut slot.armed, due)
        {
            self.run_server(now, due.id, Happening::Timer(due.timer), None);
        }
    }

    /// Answers that were to go on a lost connection go to a new one.
    pub(super) fn server_lost_connection(&mut self, id: u64, failed: Flow) {
        let Some(slot) = self.servers.get_mut(id) else {
            return;
        };
        // The link to the other pool comes back under the same name; there is no address to connect to.
        if slot.flow.transport == Transport::Peer || failed.connection == 0 || slot.flow.connection != failed.connection
        {
            return;
        }
        let old = slot.flow;
        slot.flow.connection = 0;
        slot.flow.remote = SocketAddr::new(old.remote.ip(), slot.sent_by_port);
        let new = slot.flow;
        self.by_flow.remove(&(old, true, id));
        self.by_flow.insert((new, true, id));
    }

    /// Steps a machine and does what it says; whether it sent what `outgoing` holds.
    fn run_server(&mut self, now: Millis, id: u64, happening: Happening, outgoing: Option<Bytes>) -> bool {
        let Some(slot) = self.servers.get_mut(id) else {
            return false;
        };
        let reliable = slot.flow.transport.reliable();
        let Some((machine, effects)) = step(slot.machine, happening, reliable) else {
            return false;
        };
        slot.machine = machine;
        let sent = effects.contains(&Effect::Send);
        if let (true, Some(bytes), Happening::Status(status)) = (sent, outgoing, happening) {
            if status >= 200 {
                slot.request = None;
            }
            let flow = slot.flow;
            // A 2xx to INVITE is repeated by the user, not by us (RFC 6026 §7.1).
            let accepted = matches!(machine, Machine::Invite(invite_server::State::Accepted));
            slot.response = (!accepted).then(|| bytes.clone());
            self.transmit(flow, bytes);
            self.weigh(id);
        }
        self.apply_server(now, id, effects, happening);
        if is_over(machine) {
            self.close_server(id);
        }
        sent
    }

    fn apply_server(&mut self, now: Millis, id: u64, effects: Effects, happening: Happening) {
        for effect in effects {
            match *effect {
                Effect::Resend => {
                    let repeat = self.servers.get(id).and_then(|slot| Some((slot.flow, slot.response.clone()?)));
                    if let Some((flow, bytes)) = repeat {
                        self.transmit(flow, bytes);
                    }
                }
                Effect::Trying => self.send_trying(id),
                Effect::Keep => self.keep(now, id),
                Effect::Start(timer) => {
                    let again = matches!(happening, Happening::Timer(fired) if fired == timer);
                    self.start_server_timer(now, id, timer, again);
                }
                Effect::StopResend => {
                    if let Some(slot) = self.servers.get_mut(id) {
                        self.queue.stop_resend(&mut slot.armed);
                    }
                }
                // `Send` is done by the caller, `PassUp` by whoever received the message; the
                // others are a client's.
                _ => {}
            }
        }
    }

    fn send_trying(&mut self, id: u64) {
        let Some(slot) = self.servers.get_mut(id) else {
            return;
        };
        let Some(request) = slot.request.as_deref() else {
            return;
        };
        let bytes = Reply::to(request, 100).build();
        let flow = slot.flow;
        slot.response = Some(bytes.clone());
        self.transmit(flow, bytes);
        self.weigh(id);
    }

    /// Keeps what the same request again is to be given.
    fn keep(&mut self, now: Millis, id: u64) {
        let Some(slot) = self.servers.get(id) else {
            return;
        };
        let end = now.saturating_add(self.timers.patience());
        self.kept.keep(slot.key, slot.flow, slot.response.as_deref(), end, self.max);
    }

    pub(super) fn server_released(&mut self, now: Millis, id: u64) {
        self.run_server(now, id, Happening::Released, None);
    }

    /// Counts anew what a transaction keeps.
    fn weigh(&mut self, id: u64) {
        let Some(slot) = self.servers.get_mut(id) else {
            return;
        };
        let request = slot.request.as_ref().map_or(0, |request| request.as_bytes().len());
        let held = request + slot.response.as_ref().map_or(0, Bytes::len);
        let before = std::mem::replace(&mut slot.held, held);
        self.held = self.held + held - before;
    }

    fn start_server_timer(&mut self, now: Millis, id: u64, timer: Timer, again: bool) {
        let Some(slot) = self.servers.get_mut(id) else {
            return;
        };
        let delay = if again {
            timer.next_interval(slot.armed.interval, false, &self.timers)
        } else {
            timer.fixed_delay(&self.timers)
        };
        if timer == Timer::G {
            slot.armed.interval = delay;
        }
        let due = Due { when: now.saturating_add(delay), server: true, id, timer };
        self.queue.start(&mut slot.armed, due);
    }

    fn close_server(&mut self, id: u64) {
        let Some(mut slot) = self.servers.remove(id) else {
            return;
        };
        self.held -= slot.held;
        self.queue.stop_all(&mut slot.armed);
        if self.server_keys.get(&slot.key) == Some(&id) {
            self.server_keys.remove(&slot.key);
        }
        if slot.flow.transport.reliable() {
            self.by_flow.remove(&(slot.flow, true, id));
        }
        if !slot.internal {
            self.outputs.push_back(Output::ServerDone { tx: ServerTx(id) });
        }
    }
}

/// The step of either machine; `None` for what cannot happen to it.
fn step(machine: Machine, happening: Happening, reliable: bool) -> Option<(Machine, Effects)> {
    match machine {
        Machine::Invite(state) => {
            use invite_server::Event;
            let event = match happening {
                Happening::Request => Event::Request,
                Happening::Ack => Event::Ack,
                Happening::Timer(timer) => Event::Timer(timer),
                Happening::Released => Event::Released,
                Happening::Status(status) => match status {
                    100..=199 => Event::Provisional,
                    200..=299 => Event::Success,
                    _ => Event::Failure,
                },
            };
            let (next, effects) = invite_server::step(state, event, reliable);
            Some((Machine::Invite(next), effects))
        }
        Machine::Other(state) => {
            use server::Event;
            let event = match happening {
                Happening::Request => Event::Request,
                Happening::Ack | Happening::Released => return None,
                Happening::Timer(timer) => Event::Timer(timer),
                Happening::Status(100..=199) => Event::Provisional,
                Happening::Status(_) => Event::Final,
            };
            let (next, effects) = server::step(state, event, reliable);
            Some((Machine::Other(next), effects))
        }
    }
}

fn is_over(machine: Machine) -> bool {
    matches!(machine, Machine::Invite(invite_server::State::Terminated) | Machine::Other(server::State::Terminated))
}

/// Where the answers to a request go: on the connection it came on; over UDP to its source, at
/// the source port if `rport` was asked for, else at the port of the Via (RFC 3261 §18.2.2,
/// RFC 3581 §4). `maddr` is not followed: it would let anyone aim our answers at a third party.
pub(super) fn response_flow(flow: Flow, message: &Message) -> Flow {
    if flow.transport.reliable() { flow } else { way_back(flow, &message.via()) }
}

/// As [`response_flow`], from nothing but the top Via.
pub(crate) fn way_back(flow: Flow, via: &Via<'_>) -> Flow {
    if flow.transport.reliable() {
        return flow;
    }
    if via.wants_rport() {
        return flow;
    }
    Flow { remote: SocketAddr::new(flow.remote.ip(), via.port.unwrap_or(5060)), ..flow }
}

/// Whether the To tag is the one that our replies derive for this transaction.
fn has_derived_tag(message: &Message) -> bool {
    let mut tag = Vec::with_capacity(16);
    reply::write_hex(&mut tag, reply::derived_tag(message));
    message.to().tag() == Some(tag.as_slice())
}

/// The values of a CANCEL's Reason headers as one; `None` if there is none.
fn reason_of(cancel: &Message) -> Option<Box<str>> {
    if !cancel.has(Name::Reason) {
        return None;
    }
    let values: Vec<&str> = cancel.headers(Name::Reason).filter_map(|value| std::str::from_utf8(value).ok()).collect();
    (!values.is_empty()).then(|| values.join(", ").into())
}
