//! Requests that are decided in one step, without a task: the usual REGISTER.
//!
//! Owns what is in flight for them (the answer that is given once the change is committed) and the way back to a task where it
//! is refused. Decides nothing about registrations; `pairline_services::registrar::quick` does.

use crate::core::{Core, TicketOwner};
use crate::traffic::Asked;
use bytes::Bytes;
use pairline_group::io::{Done, Now, Proposal};
use pairline_group::{GroupId, Key, Kind, LinkId, Record};
use pairline_services::auth::Opened;
use pairline_services::cx::Place;
use pairline_services::metrics::Counter;
use pairline_services::records;
use pairline_services::registrar::quick::{self, Origin, Quick};
use pairline_services::settings::DeploymentView;
use pairline_services::sight::Sight;
use pairline_sip::auth::NcVerdict;
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::message::Message;
use pairline_sip::method::Method;
use pairline_sip::transaction::{Brief, BriefTx, Layer};
use pairline_sip::uri::Aor;
use std::collections::VecDeque;
use std::rc::Rc;

/// A client's request that was taken and is not answered yet.
#[derive(Debug)]
pub struct Waiting {
    /// Its transaction.
    pub tx: BriefTx,
    /// Where it came from.
    pub came: Flow,
    /// Where its answer goes.
    pub goes: Flow,
    /// As it came.
    pub request: Bytes,
    /// When.
    pub asked: Asked,
}

/// Who waits for a change.
#[derive(Debug)]
enum Asker {
    Client(Waiting),
    /// A server of this pool whose client asked, by the number of its call.
    Neighbour(LinkId, u64),
}

/// A request whose change is on its way to the disk.
#[derive(Debug)]
struct Pending {
    asker: Asker,
    reply: Bytes,
}

/// A request that was decided and could not be written as it was.
#[derive(Debug)]
pub struct Refused {
    /// Where it came from.
    pub flow: Flow,
    /// As it came.
    pub request: Bytes,
    /// When.
    pub asked: Asked,
    /// Whether its sender is known to be who it says.
    pub admitted: bool,
}

/// What is in flight.
#[derive(Debug, Default)]
pub struct Quicks {
    pending: Vec<Option<Pending>>,
    free: Vec<u32>,
    /// HA1s that were opened lately.
    pub opened: Opened,
    /// Requests that a task has to take over.
    pub refused: VecDeque<Refused>,
}

impl Quicks {
    fn keep(&mut self, pending: Pending) -> u32 {
        match self.free.pop() {
            Some(slot) => {
                self.pending[slot as usize] = Some(pending);
                slot
            }
            None => {
                self.pending.push(Some(pending));
                // There are never more than commits in flight, which a policy bounds far below.
                u32::try_from(self.pending.len() - 1).unwrap_or(u32::MAX)
            }
        }
    }

    fn take(&mut self, slot: u32) -> Option<Pending> {
        let pending = self.pending.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(pending)
    }

    /// Requests whose change is on its way.
    pub fn len(&self) -> usize {
        self.pending.len() - self.free.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Takes a request if it is of the kind that is decided in one step; gives it back otherwise, with nothing done.
pub fn receive(core: &mut Core, flow: Flow, mut message: Message) -> Option<Message> {
    if !message.is_request() || *message.method() != Method::Register || flow.transport == Transport::Peer {
        return Some(message);
    }
    if core.commit_started.len() >= core.topology.policies.limits.commits_in_flight as usize {
        return Some(message);
    }
    message.set_source(flow.remote);
    let now = core.now.mono;
    let tx = match core.layer.receive_brief(now, &message) {
        Brief::New(tx) => tx,
        Brief::Absorbed => return None,
        Brief::Full => return Some(message),
    };
    let asked = Asked::new(now, &Method::Register);
    let waiting = |message: &Message| Waiting {
        tx,
        came: flow,
        goes: Layer::answer_flow(flow, message),
        request: message.as_bytes().clone(),
        asked,
    };
    match quick::decide(core, &message, flow) {
        Quick::Not => {
            core.layer.drop_brief(tx);
            Some(message)
        }
        Quick::Challenge(reply) | Quick::Answer(reply) => {
            core.layer.drop_brief(tx);
            core.traffic.answered(asked, now);
            core.send_sip(Layer::answer_flow(flow, &message), reply);
            None
        }
        Quick::Commit { group, proposal, reply } => {
            commit(core, group, proposal, Pending { asker: Asker::Client(waiting(&message)), reply });
            None
        }
        Quick::Elsewhere { at, algorithm } => match crate::onward::send(core, at, algorithm, waiting(&message)) {
            true => None,
            false => {
                core.layer.drop_brief(tx);
                Some(message)
            }
        },
    }
}

/// Decides about the request of a neighbour's client: the answer; none if it is on its way, or `Err` if it is not decided so.
pub fn for_neighbour(
    core: &mut Core,
    (link, call): (LinkId, u64),
    message: &Message,
    origin: Origin,
) -> Result<Option<Bytes>, NotDecided> {
    if core.commit_started.len() >= core.topology.policies.limits.commits_in_flight as usize {
        return Err(NotDecided);
    }
    match quick::decide_from(core, message, origin) {
        Quick::Not | Quick::Elsewhere { .. } => Err(NotDecided),
        Quick::Challenge(reply) | Quick::Answer(reply) => Ok(Some(reply)),
        Quick::Commit { group, proposal, reply } => {
            commit(core, group, proposal, Pending { asker: Asker::Neighbour(link, call), reply });
            Ok(None)
        }
    }
}

/// A request is not of the kind that is decided in one step here; nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotDecided;

/// The request goes on as a task, from its beginning.
pub fn give_back(core: &mut Core, waiting: Waiting) {
    core.layer.drop_brief(waiting.tx);
    let Waiting { came: flow, request, asked, .. } = waiting;
    core.quicks.refused.push_back(Refused { flow, request, asked, admitted: false });
}

fn commit(core: &mut Core, group: GroupId, proposal: Proposal, pending: Pending) {
    let slot = core.quicks.keep(pending);
    core.propose(TicketOwner::Quick(slot), group, proposal);
}

/// The change of a request is committed or refused.
pub fn done(core: &mut Core, slot: u32, done: &Done) {
    let Some(Pending { asker, reply }) = core.quicks.take(slot) else { return };
    let written = !matches!(done, Done::Refused(_));
    match asker {
        Asker::Client(waiting) if written => {
            core.traffic.answered(waiting.asked, core.now.mono);
            core.layer.answer_brief(waiting.tx, waiting.goes, reply);
        }
        Asker::Client(Waiting { tx, came: flow, request, asked, .. }) => {
            core.layer.drop_brief(tx);
            core.quicks.refused.push_back(Refused { flow, request, asked, admitted: true });
        }
        Asker::Neighbour(link, call) => crate::onward::answer(core, link, call, written.then_some(reply)),
    }
}

impl Sight for Core {
    fn now(&self) -> Now {
        self.now
    }

    fn random(&mut self) -> u64 {
        self.rng.next_u64()
    }

    fn view(&self) -> Rc<DeploymentView> {
        Rc::clone(&self.view)
    }

    fn place(&self, user: &Aor) -> Place {
        crate::place::of_user(self, user)
    }

    fn stand_in(&self, user: &Aor) -> Option<(Aor, Place)> {
        crate::stand_ins::of(self, user)
    }

    fn record(&self, group: GroupId, key: &Key) -> Option<&Record> {
        self.host.get(group, key)
    }

    fn records(&self, group: GroupId, owner: &str, kind: Kind) -> impl Iterator<Item = (&Key, &Record)> {
        self.host.scan(group, owner, Some(kind))
    }

    fn may_have_guests(&self, user: &Aor) -> bool {
        let pools = [Some(self.pool), self.partner()].into_iter().flatten();
        let mut groups = pools.filter_map(|pool| crate::place::guest_group(self, pool, user));
        !self.local_guests.is_empty() || groups.any(|group| self.host.holds_kind(group, records::GUEST))
    }

    fn room_for_bindings(&self) -> bool {
        crate::place::room_for_bindings(self)
    }

    fn nonce_count(&mut self, nonce_id: u128, nc: u32) -> bool {
        self.nonces.accept(nonce_id, nc) == NcVerdict::Ok
    }

    fn opened(&mut self) -> &mut Opened {
        &mut self.quicks.opened
    }

    fn count(&mut self, what: Counter) {
        if matches!(what, Counter::AuthAccepted | Counter::AuthFailed) {
            self.admission.weighed_last(what == Counter::AuthAccepted);
        }
        Core::count(self, what.name());
    }
}
