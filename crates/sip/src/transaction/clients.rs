//! Client transactions of the layer: sending, repeating, ACK to non-2xx and CANCEL.

use bytes::Bytes;

use super::effect::{Effect, Effects};
use super::key::Key;
use super::layer::{ClientTx, Layer, Output, Received};
use super::timers::{Armed, Due, Timer};
use super::{client, invite_client};
use crate::Millis;
use crate::flow::{Flow, Transport};
use crate::glance::top_via;
use crate::kind::kind_of;
use crate::message::Message;
use crate::method::Method;
use crate::reply::Reply;

#[derive(Clone, Copy, Debug)]
enum Machine {
    Invite(invite_client::State),
    Other(client::State),
}

/// Something that happens to a client transaction.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Status(u16),
    Cancel,
    TransportError,
    Interrupted,
    Restored,
    Released,
    Timer(Timer),
}

/// One client transaction.
#[derive(Debug)]
pub(super) struct ClientSlot {
    machine: Machine,
    key: Key,
    flow: Flow,
    /// The INVITE as sent, until its final response: ACK and CANCEL are made from it, and it is read for that, which is rare.
    invite: Option<Bytes>,
    /// The request's bytes, while they may have to be repeated.
    request: Option<Bytes>,
    /// The ACK to the non-2xx final response, to repeat it.
    ack: Option<Bytes>,
    /// The Reason of a CANCEL that waits for a provisional response.
    cancel_reason: Option<Box<str>>,
    pub(super) armed: Armed,
    /// A provisional response of a device came (101 to 199).
    rang: bool,
    /// Ours alone: the transaction of a CANCEL.
    internal: bool,
}

impl Layer {
    /// Sends a request other than ACK, exactly as it is: our Via with a fresh branch is on top.
    pub fn request(&mut self, now: Millis, flow: Flow, message: Message) -> ClientTx {
        let key = self.keys.client(&message);
        let invite = *message.method() == Method::Invite;
        let bytes = message.as_bytes().clone();
        self.open_client(now, key, flow, first_state(invite), bytes, false)
    }

    /// As [`request`](Self::request), of one that was made from a parsed one and is not parsed for this: it is read no further than its
    /// top Via. `None`, and nothing was done, for an ACK, and where no Via can be read.
    pub fn request_made(&mut self, now: Millis, flow: Flow, bytes: Bytes) -> Option<ClientTx> {
        let kind = kind_of(&bytes).filter(|kind| kind.status.is_none())?;
        if kind.method == b"ACK" {
            return None;
        }
        let machine = first_state(kind.method == b"INVITE");
        let key = self.keys.client_at(kind.method, &top_via(&bytes)?);
        Some(self.open_client(now, key, flow, machine, bytes, false))
    }

    /// Asks for the CANCEL of an INVITE: sent at once if a provisional response came, else after
    /// the first one (RFC 3261 §9.1). Nothing happens once there is a final response.
    pub fn cancel(&mut self, now: Millis, tx: ClientTx) {
        self.run_client(now, tx.0, Happening::Cancel, None);
    }

    /// As [`cancel`](Self::cancel), with the value of a Reason header (RFC 3326).
    pub fn cancel_because(&mut self, now: Millis, tx: ClientTx, reason: &str) {
        if let Some(slot) = self.clients.get_mut(tx.0) {
            slot.cancel_reason = Some(reason.into());
        }
        self.cancel(now, tx);
    }

    /// Where a client transaction sends.
    pub fn client_flow(&self, tx: ClientTx) -> Option<Flow> {
        self.clients.get(tx.0).map(|slot| slot.flow)
    }

    /// Makes a transaction and sends its request.
    fn open_client(
        &mut self,
        now: Millis,
        key: Key,
        flow: Flow,
        machine: Machine,
        bytes: Bytes,
        internal: bool,
    ) -> ClientTx {
        let reliable = flow.transport.reliable();
        let id = self.clients.insert(|_| ClientSlot {
            machine,
            key,
            flow,
            invite: matches!(machine, Machine::Invite(_)).then(|| bytes.clone()),
            request: (!reliable).then(|| bytes.clone()),
            ack: None,
            cancel_reason: None,
            armed: Armed::default(),
            rang: false,
            internal,
        });
        self.client_keys.insert(key, id);
        self.by_flow.insert((flow, false, id));
        let (resend, life) = match machine {
            Machine::Invite(_) => (Timer::A, Timer::B),
            Machine::Other(_) => (Timer::E, Timer::F),
        };
        if !reliable {
            self.start_client_timer(now, id, resend, false);
        }
        self.start_client_timer(now, id, life, false);
        self.transmit(flow, bytes);
        ClientTx(id)
    }

    pub(super) fn receive_response(&mut self, now: Millis, message: Message) -> Received {
        let Some(&id) = self.client_keys.get(&self.keys.client(&message)) else {
            return Received::StrayResponse { message };
        };
        let status = message.status().unwrap_or(0);
        let internal = self.clients.get(id).is_some_and(|slot| slot.internal);
        let up = self.run_client(now, id, Happening::Status(status), Some(&message));
        if up && !internal { Received::Response { tx: ClientTx(id), message } } else { Received::Absorbed }
    }

    pub(super) fn client_timer(&mut self, now: Millis, due: Due) {
        if let Some(slot) = self.clients.get_mut(due.id)
            && self.queue.fires(&mut slot.armed, due)
        {
            self.run_client(now, due.id, Happening::Timer(due.timer), None);
        }
    }

    /// A call that rings in the other pool outlives a short interruption of the link: failed here, it would ring on there.
    pub(super) fn client_transport_error(&mut self, now: Millis, id: u64) {
        let Some(slot) = self.clients.get(id).filter(|slot| !slot.armed.awaits(Timer::Interrupted)) else {
            return;
        };
        let cancelling = matches!(slot.machine, Machine::Invite(invite_client::State::Cancelling));
        let rings = slot.flow.transport == Transport::Peer && (slot.rang || cancelling);
        let happening = if rings { Happening::Interrupted } else { Happening::TransportError };
        self.run_client(now, id, happening, None);
    }

    pub(super) fn client_released(&mut self, now: Millis, id: u64) {
        self.run_client(now, id, Happening::Released, None);
    }

    pub(super) fn client_transport_restored(&mut self, now: Millis, id: u64) {
        self.run_client(now, id, Happening::Restored, None);
    }

    /// Steps a machine and does what it says; whether a response goes to the user.
    fn run_client(&mut self, now: Millis, id: u64, happening: Happening, response: Option<&Message>) -> bool {
        let Some(slot) = self.clients.get_mut(id) else {
            return false;
        };
        let reliable = slot.flow.transport.reliable();
        let Some((machine, effects)) = step(slot.machine, happening, reliable) else {
            return false;
        };
        slot.machine = machine;
        slot.rang |= matches!(happening, Happening::Status(101..=199));
        for effect in effects {
            self.apply_client(now, id, *effect, happening, response);
        }
        if let Happening::Status(200..) = happening
            && let Some(slot) = self.clients.get_mut(id)
        {
            slot.invite = None;
            slot.request = None;
        }
        if is_over(machine) {
            self.close_client(id);
        }
        effects.contains(&Effect::PassUp)
    }

    fn apply_client(&mut self, now: Millis, id: u64, effect: Effect, happening: Happening, response: Option<&Message>) {
        let Some(slot) = self.clients.get_mut(id) else {
            return;
        };
        match effect {
            Effect::Resend => {
                if let Some(bytes) = slot.request.clone() {
                    let flow = slot.flow;
                    self.transmit(flow, bytes);
                }
            }
            Effect::Ack => self.send_ack(id, response),
            Effect::Cancel => self.send_cancel(now, id),
            Effect::Start(timer) => {
                let again = matches!(happening, Happening::Timer(fired) if fired == timer);
                self.start_client_timer(now, id, timer, again);
            }
            Effect::StopResend => self.queue.stop_resend(&mut slot.armed),
            Effect::Timeout if !slot.internal => {
                self.outputs.push_back(Output::Timeout { tx: ClientTx(id) });
            }
            Effect::Failed if !slot.internal => {
                self.outputs.push_back(Output::TransportError { tx: ClientTx(id) });
            }
            // `PassUp` is done by the caller; the others are a server's.
            _ => {}
        }
    }

    fn send_ack(&mut self, id: u64, response: Option<&Message>) {
        let Some(slot) = self.clients.get_mut(id) else {
            return;
        };
        if slot.ack.is_none() {
            let (Some(invite), Some(response)) = (slot.invite.as_ref().and_then(read), response) else {
                return;
            };
            slot.ack = Some(Reply::ack_for(&invite, response));
        }
        if let Some(bytes) = slot.ack.clone() {
            let flow = slot.flow;
            self.transmit(flow, bytes);
        }
    }

    fn send_cancel(&mut self, now: Millis, id: u64) {
        let Some(slot) = self.clients.get(id) else {
            return;
        };
        let Some(invite) = slot.invite.as_ref().and_then(read) else {
            return;
        };
        let flow = slot.flow;
        let bytes = Reply::cancel_with_reason(&invite, slot.cancel_reason.as_deref());
        let key = self.keys.client_at(b"CANCEL", &invite.via());
        self.open_client(now, key, flow, first_state(false), bytes, true);
    }

    fn start_client_timer(&mut self, now: Millis, id: u64, timer: Timer, again: bool) {
        let Some(slot) = self.clients.get_mut(id) else {
            return;
        };
        let settled = matches!(slot.machine, Machine::Other(client::State::Proceeding));
        let delay = if again {
            timer.next_interval(slot.armed.interval, settled, &self.timers)
        } else {
            timer.fixed_delay(&self.timers)
        };
        if matches!(timer, Timer::A | Timer::E) {
            slot.armed.interval = delay;
        }
        let due = Due { when: now.saturating_add(delay), server: false, id, timer };
        self.queue.start(&mut slot.armed, due);
    }

    fn close_client(&mut self, id: u64) {
        let Some(mut slot) = self.clients.remove(id) else {
            return;
        };
        self.queue.stop_all(&mut slot.armed);
        if self.client_keys.get(&slot.key) == Some(&id) {
            self.client_keys.remove(&slot.key);
        }
        self.by_flow.remove(&(slot.flow, false, id));
        if !slot.internal {
            self.outputs.push_back(Output::ClientDone { tx: ClientTx(id) });
        }
    }
}

/// The machine of a request that has just been sent.
fn first_state(invite: bool) -> Machine {
    if invite { Machine::Invite(invite_client::State::Calling) } else { Machine::Other(client::State::Trying) }
}

/// What was sent, in parts.
fn read(sent: &Bytes) -> Option<Message> {
    Message::parse(sent.clone()).ok()
}

/// The step of either machine; `None` for what cannot happen to it.
fn step(machine: Machine, happening: Happening, reliable: bool) -> Option<(Machine, Effects)> {
    match machine {
        Machine::Invite(state) => {
            use invite_client::Event;
            let event = match happening {
                Happening::Status(100) => Event::Trying,
                Happening::Status(101..=199) => Event::Provisional,
                Happening::Status(200..=299) => Event::Success,
                Happening::Status(_) => Event::Failure,
                Happening::Cancel => Event::Cancel,
                Happening::TransportError => Event::TransportError,
                Happening::Interrupted => Event::Interrupted,
                Happening::Restored => Event::Restored,
                Happening::Released => Event::Released,
                Happening::Timer(timer) => Event::Timer(timer),
            };
            let (next, effects) = invite_client::step(state, event, reliable);
            Some((Machine::Invite(next), effects))
        }
        Machine::Other(state) => {
            use client::Event;
            let event = match happening {
                Happening::Status(100..=199) => Event::Provisional,
                Happening::Status(_) => Event::Final,
                Happening::Cancel | Happening::Interrupted | Happening::Restored | Happening::Released => return None,
                Happening::TransportError => Event::TransportError,
                Happening::Timer(timer) => Event::Timer(timer),
            };
            let (next, effects) = client::step(state, event);
            Some((Machine::Other(next), effects))
        }
    }
}

fn is_over(machine: Machine) -> bool {
    matches!(machine, Machine::Invite(invite_client::State::Terminated) | Machine::Other(client::State::Terminated))
}
