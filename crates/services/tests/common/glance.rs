//! The one-step decision on a REGISTER beside the task that handles it: whatever is decided in one step must be what the task
//! does, answer for answer and record for record. Every test that starts a REGISTER tests that, too.

use super::{Fake, World};
use pairline_group::io::{Now, Proposal};
use pairline_group::{GroupId, Key, Kind, Record};
use pairline_services::auth::Opened;
use pairline_services::cx::{Cx, Place};
use pairline_services::metrics::Counter;
use pairline_services::registrar::quick::{self, Quick};
use pairline_services::settings::DeploymentView;
use pairline_services::sight::Sight;
use pairline_sip::flow::Flow;
use pairline_sip::message::Message;
use pairline_sip::method::Method;
use pairline_sip::uri::Aor;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// The world as it is now; what is done here does not change it.
struct Glance {
    now: Now,
    random: u64,
    view: Rc<DeploymentView>,
    places: BTreeMap<String, Place>,
    records: BTreeMap<(GroupId, Key), Record>,
    guests: bool,
    full: bool,
    nonces: BTreeSet<(u128, u32)>,
    opened: Opened,
    counters: BTreeMap<Counter, u64>,
}

impl Sight for Glance {
    fn now(&self) -> Now {
        self.now
    }

    fn random(&mut self) -> u64 {
        self.random += 1;
        self.random
    }

    fn view(&self) -> Rc<DeploymentView> {
        Rc::clone(&self.view)
    }

    fn place(&self, user: &Aor) -> Place {
        self.places.get(user.as_str()).cloned().unwrap_or(Place::NoSuchUser)
    }

    fn stand_in(&self, user: &Aor) -> Option<(Aor, Place)> {
        super::stand_in(&self.places, user)
    }

    fn record(&self, group: GroupId, key: &Key) -> Option<&Record> {
        self.records.get(&(group, key.clone()))
    }

    fn records(&self, group: GroupId, owner: &str, kind: Kind) -> impl Iterator<Item = (&Key, &Record)> {
        let owner = owner.to_owned();
        let of_kind = move |(g, key): &(GroupId, Key)| *g == group && *key.owner == *owner && key.kind == kind;
        self.records.iter().filter(move |(id, _)| of_kind(id)).map(|((_, key), record)| (key, record))
    }

    fn may_have_guests(&self, _: &Aor) -> bool {
        self.guests
    }

    fn room_for_bindings(&self) -> bool {
        !self.full
    }

    fn nonce_count(&mut self, nonce_id: u128, nc: u32) -> bool {
        self.nonces.insert((nonce_id, nc))
    }

    fn opened(&mut self) -> &mut Opened {
        &mut self.opened
    }

    fn count(&mut self, what: Counter) {
        *self.counters.entry(what).or_default() += 1;
    }
}

/// What the one-step decision would be, with the counters that it would leave.
pub struct Foreseen {
    quick: Quick,
    /// It is the same request once more.
    again: bool,
    counters: BTreeMap<Counter, u64>,
    commits: usize,
    responses: usize,
    once: usize,
}

impl Foreseen {
    /// Whether it is decided in one step.
    pub fn is_taken(&self) -> bool {
        self.quick != Quick::Not
    }

    /// Whether it is written and answered in one step.
    pub fn is_commit(&self) -> bool {
        matches!(self.quick, Quick::Commit { .. })
    }
}

/// Looks before the task does anything; `None` if it is no REGISTER, or the test has awaits in the way.
pub fn foresee(fake: &Fake, request: &Message, flow: Flow) -> Option<Foreseen> {
    let world = fake.0.borrow();
    if *request.method() != Method::Register || world.slow || !world.refusals.is_empty() {
        return None;
    }
    let World { random, view, places, records, nonces, counters, .. } = &*world;
    let mut glance = Glance {
        now: fake.now(),
        random: *random,
        view: Rc::clone(view),
        places: places.clone(),
        records: records.clone(),
        guests: world.guests.values().any(|guests| !guests.is_empty()),
        full: world.bindings_full,
        nonces: nonces.clone(),
        opened: world.opened.clone(),
        counters: counters.clone(),
    };
    let quick = quick::decide(&mut glance, request, flow);
    // The same count of a nonce once more, and yet an answer: a repetition.
    let again = matches!(quick, Quick::Answer(_)) && glance.nonces.len() == nonces.len();
    drop(world);
    // What was opened is known to the next one: a changed password must not be answered by it.
    fake.0.borrow_mut().opened = glance.opened;
    let world = fake.0.borrow();
    let (commits, responses, once) = (world.commits.len(), world.responses.len(), world.once);
    Some(Foreseen { quick, again, counters: glance.counters, commits, responses, once })
}

fn commits_since(world: &World, before: usize) -> Vec<(GroupId, Proposal)> {
    world.commits[before..].to_vec()
}

/// Compares with what the task did.
pub fn compare(fake: &Fake, foreseen: Foreseen) {
    let world = fake.0.borrow();
    let (reply, written, once) = match foreseen.quick {
        Quick::Not | Quick::Elsewhere { .. } => return,
        Quick::Challenge(reply) => (reply, None, 1),
        Quick::Answer(reply) => (reply, None, 0),
        Quick::Commit { group, proposal, reply } => (reply, Some((group, proposal)), 0),
    };
    assert_eq!(world.responses.len(), foreseen.responses + 1, "one answer");
    let answer = &world.responses[foreseen.responses].1;
    if foreseen.again {
        // For a task that is never a repetition: its transaction would have taken it.
        assert!(reply.starts_with(b"SIP/2.0 200 ") && commits_since(&world, foreseen.commits).is_empty());
        return;
    }
    assert_eq!(String::from_utf8_lossy(answer.as_bytes()), String::from_utf8_lossy(&reply));
    assert_eq!(commits_since(&world, foreseen.commits), Vec::from_iter(written));
    assert_eq!(world.once - foreseen.once, once, "only challenges are not kept");
    assert_eq!(world.counters, foreseen.counters);
}
