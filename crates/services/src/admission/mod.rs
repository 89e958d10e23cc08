//! Admission: what is let in while more comes than can be done, and how the rest is refused before anything is spent on it.
//!
//! Owns the decision for one message from its bytes and the time that it waited: its class, the tokens that are left, what its
//! source and its identity have used. A refusal is written from the received bytes and leaves nothing behind: no transaction, no
//! lookup. 500 with a Retry-After that differs from client to client, and 503 only where another server of the pool stands ready
//! (DESIGN invariant 11: an overloaded pool does not tip its load on its partner). Does not own queues, nor who somebody is.

pub mod class;
pub mod neighbours;
pub mod rate;
pub mod sieve;
pub mod sources;

pub use class::Class;
pub use neighbours::Neighbours;
pub use rate::{Change, Figures, Rate, Waited};
pub use sources::{Limit, Sender, Sources};

use crate::emergency;
use crate::settings::DeploymentView;
use bytes::Bytes;
use pairline_group::Millis;
use pairline_sip::flow::Flow;
use pairline_sip::glance::{self, Glance};
use pairline_topology::policy_overload::OverloadPolicy;

/// Least seconds for which a server that is about to end is left alone; most are twice as many.
const LEAVING_S: u64 = 4;

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Admit,
    /// It is refused; with the answer and where it goes, if it can be answered.
    Refuse(Option<(Flow, Bytes)>),
    /// It is the ACK of a refusal: nobody waits for it.
    Absorb,
}

/// What a server takes that is about to end. The rest is for another: 503 says that to whoever has found the pool by SRV (RFC 3263 §4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doors {
    /// Everything.
    #[default]
    Open,
    /// No new calls and subscriptions: what they begin would outlast this server.
    NoDialogs,
    /// Nothing new.
    Shut,
}

impl Doors {
    fn keeps_out(self, class: Class) -> bool {
        match self {
            Doors::Open => false,
            Doors::NoDialogs => matches!(class, Class::Invite | Class::Subscribe),
            Doors::Shut => class > Class::InDialog,
        }
    }
}

/// What is known besides the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// Whether another server of the pool stands ready to take what is refused here.
    pub another: bool,
    /// Whether the tables that hold what is under way are nearly full: only what must never be refused is taken.
    pub full: bool,
    /// Whether this server is about to end.
    pub doors: Doors,
    /// Whether the source is one whose word is taken: no limit of its own holds for it.
    pub trusted: bool,
}

/// The admission of one server.
#[derive(Clone, Debug)]
pub struct Admission {
    rate: Rate,
    sources: Sources,
    neighbours: Neighbours,
    now: Millis,
    /// How long ago what is judged now came, in milliseconds.
    age: Millis,
    /// Whether it repeats what was let fall.
    again: bool,
    /// Who sent the message that was judged last.
    sender: Option<Sender>,
}

impl Admission {
    /// For a server that has just started; with a secret seed for the tables that strangers write to.
    pub fn new(policy: OverloadPolicy, seed: u64) -> Admission {
        Admission {
            sources: Sources::new(&policy, seed),
            rate: Rate::new(policy),
            neighbours: Neighbours::default(),
            now: 0,
            age: 0,
            again: false,
            sender: None,
        }
    }

    /// Takes another policy over.
    pub fn set_policy(&mut self, policy: &OverloadPolicy) {
        if self.rate.policy() != policy {
            self.sources.set_policy(policy);
            self.rate.set_policy(policy.clone());
        }
    }

    /// What is handled from now on had waited for so long.
    pub fn waited(&mut self, now: Millis, waited: Waited) -> Option<Change> {
        self.now = now;
        self.came_ago(0, false);
        self.rate.waited(now, waited)
    }

    /// What is judged from now on came so long ago, in milliseconds; `again`: it repeats what was let fall.
    pub fn came_ago(&mut self, ms: Millis, again: bool) {
        (self.age, self.again) = (ms, again);
    }

    /// Time passes.
    pub fn pass(&mut self, now: Millis) -> Option<Change> {
        self.now = now;
        self.rate.pass(now)
    }

    /// The rate and its figures.
    pub fn rate(&self) -> &Rate {
        &self.rate
    }

    /// The limits of sources and identities.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Overload control with trusted peers.
    pub fn neighbours(&self) -> &Neighbours {
        &self.neighbours
    }

    /// The same, to be told what came.
    pub fn neighbours_mut(&mut self) -> &mut Neighbours {
        &mut self.neighbours
    }

    /// The credentials of the message that was judged last were right or wrong.
    pub fn weighed_last(&mut self, right: bool) {
        if let Some(sender) = self.sender {
            self.sources.weighed(self.now, sender, right);
        }
    }

    /// The credentials of a message that was judged before were right or wrong.
    pub fn weighed(&mut self, flow: Flow, message: &[u8], right: bool) {
        let sender = self.sources.sender(flow, Glance::of(message).credentials);
        self.sources.weighed(self.now, sender, right);
    }

    /// Decides about one message. `random` gives a random number, and `known` says whether the transaction with that method is
    /// under way: what repeats it is not refused.
    pub fn judge(
        &mut self,
        view: &DeploymentView,
        (flow, message): (Flow, &[u8]),
        around: Circumstances,
        random: impl FnOnce() -> u64,
        known: impl FnOnce(&[u8]) -> bool,
    ) -> Verdict {
        let seen = Glance::of(message);
        if seen.acknowledges_refusal(message) {
            return Verdict::Absorb;
        }
        let Some(class) = Class::of(&seen, |uri| emergency::is_call(view, uri)) else { return Verdict::Admit };
        let known = || !flow.transport.reliable() && known(seen.method);
        let status = if around.another { 503 } else { 500 };
        if around.doors.keeps_out(class) {
            return if known() {
                Verdict::Admit
            } else {
                Verdict::Refuse(self.leaving(flow, message, status, random()))
            };
        }
        let new = class > Class::InDialog;
        self.sender = (new && !around.trusted).then(|| self.sources.sender(flow, seen.credentials));
        if let Some(Err(_)) = self.sender.map(|sender| self.sources.take(self.now, sender)) {
            return if known() { Verdict::Admit } else { Verdict::Refuse(self.refusal(flow, message, 500, random())) };
        }
        let late = class == Class::Invite && self.rate.is_too_late(self.age);
        let class = if self.again && class.may_fall() { Class::Again } else { class };
        if self.rate.offer(class, (around.full && new) || late, known) {
            return Verdict::Admit;
        }
        if let Some(sender) = self.sender {
            self.sources.give_back(self.now, sender);
        }
        Verdict::Refuse(self.refusal(flow, message, status, random()))
    }

    /// The refusal of a server that is about to end: it is back after some seconds.
    fn leaving(&self, flow: Flow, message: &[u8], status: u16, random: u64) -> Option<(Flow, Bytes)> {
        let header = format!("Retry-After: {}\r\n", LEAVING_S + random % LEAVING_S);
        glance::refusal(message, flow, status, "Server Leaving", header.as_bytes())
    }

    fn refusal(&self, flow: Flow, message: &[u8], status: u16, random: u64) -> Option<(Flow, Bytes)> {
        let header = format!("Retry-After: {}\r\n", self.rate.retry_after(random));
        glance::refusal(message, flow, status, "Server Busy", header.as_bytes())
    }
}
