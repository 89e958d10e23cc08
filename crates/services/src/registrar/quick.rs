//! The REGISTER that nearly all are: one contact of a user served here, decided in one step (DESIGN §3: the hottest paths are
//! plain functions).
//!
//! Owns the choice of what is decided so, and the decision. Everything unusual is left to [`super::handle`], before anything was
//! done about it; the two give the same answers, and a test holds them side by side.

use super::ask::Ask;
use super::plan::{Changes, Plan, plan};
use super::{after, answer, counter_of, kept_uris};
use crate::access;
use crate::auth::{self, Against, Judged, Realm};
use crate::binding::{Binding, FlowRef};
use crate::cx::{Peer, Place};
use crate::emergency;
use crate::ident::{Whose, classify};
use crate::metrics::Counter;
use crate::records::{BINDING, binding_key, credential_key};
use crate::settings::DeploymentView;
use crate::sight::Sight;
use crate::sips;
use crate::trust;
use bytes::Bytes;
use pairline_group::io::{Proposal, Write, WriteClass};
use pairline_group::{GroupId, Key, Millis, Position, ServerId};
use pairline_sip::auth::{Algorithm, Credentials};
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::method::Method;
use pairline_sip::uri::Aor;

/// What is to be done with a REGISTER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quick {
    /// Not decided here, and nothing was done: [`crate::dispatch::handle`] takes it.
    Not,
    /// A challenge: sent and not kept.
    Challenge(Bytes),
    /// The answer to a REGISTER that stands already: nothing is to be written.
    Answer(Bytes),
    /// For that other server of this pool, which leads the user's group: nothing was done, and it may well decide in one step too.
    Elsewhere {
        /// Which.
        at: ServerId,
        /// What its sender is to be weighed by, as this server's listener wants it.
        algorithm: Algorithm,
    },
    /// Write this; once it is committed, give this answer. If it is refused, [`crate::dispatch::registered`] takes the
    /// request, whose sender is known.
    Commit {
        /// The user's group.
        group: GroupId,
        /// What is to be written.
        proposal: Proposal,
        /// The 200.
        reply: Bytes,
    },
}

/// The flow that a REGISTER came on, and whose that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Of a client: never a link.
    pub client: FlowRef,
    /// Of another server of this pool: the algorithm that its listener wants.
    pub algorithm: Option<Algorithm>,
}

impl Origin {
    /// A flow of this server's own.
    pub fn here(view: &DeploymentView, flow: Flow) -> Origin {
        let own = &view.own;
        Origin { client: FlowRef { pool: own.pool, server: own.server, boot: own.boot, flow }, algorithm: None }
    }

    fn algorithm(&self, view: &DeploymentView, request: &Message) -> Algorithm {
        self.algorithm.unwrap_or_else(|| auth::algorithm_for(view, request, self.client.flow))
    }
}

/// Whether a request has the form that is decided here; whatever needs more thought is not it.
fn is_plain(request: &Message, flow: Flow) -> bool {
    let unusual = [Name::Route, Name::Path, Name::Require, Name::ProxyRequire];
    *request.method() == Method::Register
        && flow.transport != Transport::Peer
        && !unusual.iter().any(|name| request.has(*name))
        && request.max_forwards() != Some(0)
        && request.vias().nth(1).is_none()
        && request.to().tag().is_none()
        && request.headers(Name::Authorization).nth(1).is_none()
        && !sips::is_asked(request)
        && has_one_contact(request)
}

/// At most one contact, which need not be encrypted.
fn has_one_contact(request: &Message) -> bool {
    let mut contacts = request.contacts();
    let plain = contacts.next().is_none_or(|contact| !sips::is_sips(contact.uri));
    plain && contacts.next().is_none()
}

/// Decides about a request of a client of this server's.
pub fn decide<S: Sight>(sight: &mut S, request: &Message, flow: Flow) -> Quick {
    let origin = Origin::here(&sight.view(), flow);
    decide_from(sight, request, origin)
}

/// Decides, wherever in the pool the request came in.
pub fn decide_from<S: Sight>(sight: &mut S, request: &Message, origin: Origin) -> Quick {
    let flow = origin.client.flow;
    if !is_plain(request, flow) {
        return Quick::Not;
    }
    let view = sight.view();
    if !access::registers_by_digest(flow) || trust::takes_certificates(&view, flow) {
        return Quick::Not;
    }
    let uri = request.request_uri();
    if !matches!(emergency::aim(&view, uri, classify(&view, uri)), Whose::Server | Whose::User(_)) {
        return Quick::Not;
    }
    let Whose::User(user) = classify(&view, request.to().uri) else {
        return Quick::Not;
    };
    let Some(value) = request.header(Name::Authorization) else {
        // Before anything is looked up: the time that this takes tells nobody who exists.
        return challenge(sight, &view, request, origin, &user, Counter::AuthChallenge);
    };
    let credentials = match Credentials::parse(value) {
        Ok(credentials) if *credentials.realm == *view.realm(user.domain()).as_bytes() => credentials,
        _ => return Quick::Not,
    };
    match sight.place(&user) {
        Place::Here { group } => known(sight, &view, request, origin, (&user, group), &credentials),
        Place::NoSuchUser => nobody(sight, &view, request, origin, &user, &credentials),
        Place::Elsewhere { at: Peer::Server(at), .. } if origin.algorithm.is_none() => {
            elsewhere(&view, request, origin, &user, &credentials, at)
        }
        _ => Quick::Not,
    }
}

/// A REGISTER of a user whose group another server of this pool leads. Credentials that name another user are weighed here, and
/// a flow of several (RFC 5626) needs more thought there too.
fn elsewhere(
    view: &DeploymentView,
    request: &Message,
    origin: Origin,
    user: &Aor,
    credentials: &Credentials<'_>,
    at: ServerId,
) -> Quick {
    let usual = request.contacts().next().is_some_and(|contact| !contact.has_param("reg-id"));
    if auth::are_anothers(credentials, user) || !usual {
        return Quick::Not;
    }
    Quick::Elsewhere { at, algorithm: origin.algorithm(view, request) }
}

/// A REGISTER of a user who does not exist: weighed like another's with a wrong password, and answered the same. Whoever
/// stands in for that name says where it goes and what it is weighed against.
fn nobody<S: Sight>(
    sight: &mut S,
    view: &DeploymentView,
    request: &Message,
    origin: Origin,
    user: &Aor,
    credentials: &Credentials<'_>,
) -> Quick {
    let Some((stand_in, Place::Here { group })) = sight.stand_in(user) else {
        return Quick::Not;
    };
    let algorithm = origin.algorithm(view, request);
    let Some((ha1, _)) = ha1(sight, view, &stand_in, group, algorithm) else {
        return Quick::Not;
    };
    let method = request.method().as_str().as_bytes();
    // Never right: it is not this user's.
    auth::judge(view, credentials, method, user, Against::StandIn(&ha1), algorithm, sight.now().wall);
    if auth::are_anothers(credentials, user) {
        return Quick::Not;
    }
    sight.count(Counter::AuthFailed);
    challenge(sight, view, request, origin, user, Counter::AuthChallenge)
}

fn challenge<S: Sight>(
    sight: &mut S,
    view: &DeploymentView,
    request: &Message,
    origin: Origin,
    user: &Aor,
    why: Counter,
) -> Quick {
    sight.count(why);
    let algorithm = origin.algorithm(view, request);
    let random = [sight.random(), sight.random()];
    let stale = why == Counter::AuthStale;
    let wall = sight.now().wall;
    Quick::Challenge(auth::challenge_reply(
        view,
        request,
        Realm::Registrar,
        user.domain(),
        algorithm,
        stale,
        wall,
        random,
    ))
}

/// A REGISTER with credentials for our realm.
fn known<S: Sight>(
    sight: &mut S,
    view: &DeploymentView,
    request: &Message,
    origin: Origin,
    (user, group): (&Aor, GroupId),
    credentials: &Credentials<'_>,
) -> Quick {
    let algorithm = origin.algorithm(view, request);
    let Some((ha1, fresh)) = ha1(sight, view, user, group, algorithm) else {
        return Quick::Not;
    };
    let method = request.method().as_str().as_bytes();
    let wall = sight.now().wall;
    let (id, nc) = match auth::judge(view, credentials, method, user, Against::Own(&ha1), algorithm, wall) {
        Judged::Wrong => {
            // The other half of what a name without a user takes (`auth::Kept`).
            drop(sight.stand_in(user));
            // Right or wrong, they are another's: there.
            if auth::are_anothers(credentials, user) {
                return Quick::Not;
            }
            sight.count(Counter::AuthFailed);
            return challenge(sight, view, request, origin, user, Counter::AuthChallenge);
        }
        Judged::Stale => return challenge(sight, view, request, origin, user, Counter::AuthStale),
        Judged::Counted { id, nc } => (id, nc),
    };
    if let Some(version) = fresh {
        sight.opened().put(user.as_str(), group, version, algorithm, &ha1);
    }
    let Ok(ask) = Ask::read(user, request, origin.client, 0) else {
        return Quick::Not;
    };
    // Nearly always From is as To is, which is this user's.
    let from = request.from().uri;
    let same = from == request.to().uri || matches!(classify(view, from), Whose::User(from) if from == *user);
    let usual = !ask.star && ask.contacts.len() == 1 && ask.contacts[0].reg_id.is_none();
    if !same || !usual || view.push.answer(kept_uris(&ask)).is_err() || sight.may_have_guests(user) {
        return Quick::Not;
    }
    let Some((existing, places)) = bindings(sight, group, user) else {
        return Quick::Not;
    };
    let changes = match plan(&existing, &ask, &view.registrar, view.registrar.max_s, wall) {
        // The same request again, on the flow that it came on before: its answer was lost, or is on its way. That its nonce
        // count is used is no matter, since nothing follows from it but the same answer to the same place.
        Plan::Repeat(changes) if changes.puts.is_empty() => {
            sight.nonce_count(id, nc);
            sight.count(Counter::AuthAccepted);
            sight.count(Counter::RegisterRepeat);
            return Quick::Answer(answer::reply(view, wall, request, user, &ask, &existing, None));
        }
        Plan::Change(changes) if is_one_put(&changes) && (changes.new == 0 || sight.room_for_bindings()) => changes,
        _ => return Quick::Not,
    };
    if !sight.nonce_count(id, nc) {
        return challenge(sight, view, request, origin, user, Counter::AuthStale);
    }
    sight.count(Counter::AuthAccepted);
    sight.count(counter_of(&changes));
    let proposal = put(user, &changes, &existing, &places, wall);
    let reply = answer::reply(view, wall, request, user, &ask, &after(existing, changes), None);
    Quick::Commit { group, proposal, reply }
}

/// The HA1 of a user who has a credential that can be read, and its version if it was opened only now. Nobody's guess makes it
/// known: who was asked for lately would show in the time.
fn ha1<S: Sight>(
    sight: &mut S,
    view: &DeploymentView,
    user: &Aor,
    group: GroupId,
    algorithm: Algorithm,
) -> Option<(Vec<u8>, Option<Position>)> {
    let record = sight.record(group, &credential_key(user.as_str()))?;
    let (version, value) = (record.version, record.value.clone());
    if let Some(known) = sight.opened().get(user.as_str(), group, version, algorithm) {
        return Some((known.to_vec(), None));
    }
    let ha1 = auth::open_ha1(view, user, &value, algorithm).ok()??;
    Some((ha1, Some(version)))
}

fn is_one_put(changes: &Changes) -> bool {
    changes.puts.len() == 1 && changes.deletes.is_empty()
}

/// Where a record stands: its key and version.
type Stored = (Key, Position);

/// A user's live bindings, and the keys and versions of their records; `None` if one cannot be read.
fn bindings<S: Sight>(sight: &S, group: GroupId, user: &Aor) -> Option<(Vec<Binding>, Vec<Stored>)> {
    let wall = sight.now().wall;
    let (mut found, mut places) = (Vec::new(), Vec::new());
    for (key, record) in sight.records(group, user.as_str(), BINDING) {
        let binding = Binding::from_record(record).ok()?;
        if binding.expires > wall {
            found.push(binding);
            places.push((key.clone(), record.version));
        }
    }
    Some((found, places))
}

/// The proposal for the one binding that is to be written, as [`super::proposal`] makes it; a record that is there keeps its
/// key.
fn put(user: &Aor, changes: &Changes, existing: &[Binding], places: &[Stored], wall: Millis) -> Proposal {
    let mut proposal = Proposal::default();
    for binding in &changes.puts {
        let place = existing.iter().position(|b| b.id == binding.id).and_then(|at| places.get(at));
        let (key, version) = match place {
            Some((key, version)) => (key.clone(), Some(*version)),
            None => (binding_key(user.as_str(), &binding.id), None),
        };
        let lives = binding.expires.saturating_sub(wall).max(1);
        proposal.reads.push((key.clone(), version));
        proposal.writes.push(Write::Put { key, class: WriteClass::Soft { lives }, value: binding.encode() });
    }
    proposal
}
