//! The registrar (RFC 3261 §10): bindings of users served here, guest bindings in resiliency mode, and the way to the
//! serving pool for all others.
//!
//! Owns the handling of REGISTER. Does not own digests (`auth`) nor how bindings are used (`proxy`).

mod answer;
pub mod ask;
mod guest;
mod outbound;
pub mod plan;
pub mod quick;
mod relay;

use crate::auth::{self, Kept, Realm, Who};
use crate::binding::{Binding, FlowRef};
use crate::cx::{Cx, Peer, Place, TaskEvent};
use crate::forward::Asserted;
use crate::ident::{Whose, classify};
use crate::metrics::Counter;
use crate::records::{BINDING, binding_key};
use crate::replies;
use crate::routes::{RouteSet, read_flow_token};
use crate::sips;
use ask::{Ask, AskError};
use pairline_group::io::{Done, Proposal, Refusal, Write, WriteClass};
use pairline_group::{GroupId, Millis, Position};
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::uri::{Aor, Uri};
use plan::{Changes, Plan, Refuse};

/// How often a REGISTER looks at where its user is served before it gives up.
const ROUNDS: usize = 4;
/// Pause before another look while a group changes hands, in milliseconds.
const PAUSE_MS: u64 = 500;

/// Handles one REGISTER for one of our domains.
pub async fn handle<C: Cx>(cx: &C, request: &Message, flow: Flow, routes: &RouteSet) {
    serve_where_it_is(cx, request, flow, routes, false).await;
}

/// Handles one REGISTER whose sender has proven to be its user.
pub async fn admitted<C: Cx>(cx: &C, request: &Message, flow: Flow, routes: &RouteSet) {
    serve_where_it_is(cx, request, flow, routes, true).await;
}

async fn serve_where_it_is<C: Cx>(cx: &C, request: &Message, flow: Flow, routes: &RouteSet, mut admitted: bool) {
    let user = match classify(&cx.view(), request.to().uri) {
        Whose::User(user) => user,
        Whose::Malformed => return replies::refuse(cx, request, 400, "Malformed To"),
        // RFC 4475 §3.3.4: an address of record is a SIP or SIPS URI.
        Whose::Scheme => return replies::refuse(cx, request, 400, "To Is No SIP Address"),
        _ => return replies::refuse(cx, request, 404, "Not Our Domain"),
    };
    if !extensions_known(cx, request) {
        return;
    }
    for round in 0..ROUNDS {
        let kept = Kept::of(cx, &user).await;
        let who = Who { user: &user, kept: &kept };
        if let Place::Elsewhere { at, .. } = kept.place
            && (admitted || !weighed_here(cx, request, flow, who))
        {
            match at_other_servers(cx, request, flow, routes, who, (at, admitted)).await {
                Outcome::Moving => continue,
                Outcome::Answered => return,
            }
        }
        // Once: a second look at the same credentials would find their nonce count used.
        admitted = admitted || admit(cx, request, flow, who).await;
        if !admitted {
            return;
        }
        let again = match kept.place {
            // Gone since it was proven.
            _ if !kept.exists() => return replies::try_later(cx, request, "User Is Being Moved"),
            Place::Here { group } => serve(cx, request, flow, &user, group).await,
            Place::Resiliency { group } => return guest::serve(cx, request, flow, &user, group).await,
            _ => return replies::try_later(cx, request, "Serving Pool Not Reachable"),
        };
        match again {
            Outcome::Answered => return,
            Outcome::Moving if round + 1 < ROUNDS => pause(cx).await,
            Outcome::Moving => {}
        }
    }
    replies::try_later(cx, request, "User Is Being Moved");
}

/// Whether credentials that name another user than To does are weighed at once, whoever serves the one in To: the answer says
/// nothing of that then.
fn weighed_here<C: Cx>(cx: &C, request: &Message, flow: Flow, who: Who<'_>) -> bool {
    auth::names_another(&cx.view(), request, Realm::Registrar, who.user)
        && !auth::is_vouched_for(cx, request, flow, who)
}

/// A REGISTER of a user whom other servers serve. Who offers no credentials is challenged here, at once, like everybody, and a
/// pool that does not answer is news only for who has proven to be that user: neither time nor failure tells who exists. If a server
/// of this pool is gone, another one will lead the group in a moment.
async fn at_other_servers<C: Cx>(
    cx: &C,
    request: &Message,
    flow: Flow,
    routes: &RouteSet,
    who: Who<'_>,
    (at, proven): (Peer, bool),
) -> Outcome {
    let vouched = auth::is_vouched_for(cx, request, flow, who);
    if !vouched && !auth::are_offered(&cx.view(), request, Realm::Registrar, who.user.domain()) {
        auth::challenge(cx, request, flow, Realm::Registrar, who.user.domain(), false);
        return Outcome::Answered;
    }
    let asserted = if vouched { Asserted::Set(who.user.clone()) } else { Asserted::Strip };
    match (relay::send(cx, request, flow, routes, at, &asserted).await, at) {
        (Ok(()), _) => Outcome::Answered,
        (Err(_), Peer::Server(_)) => Outcome::Moving,
        (Err(unreached), Peer::Pool(_)) => {
            if proven || admit(cx, request, flow, who).await {
                replies::try_later(cx, request, unreached.0);
            }
            Outcome::Answered
        }
    }
}

/// RFC 3261 §8.2.2.3: what the client requires must be known here; answers 420 otherwise.
fn extensions_known<C: Cx>(cx: &C, request: &Message) -> bool {
    let known = |tag: &&[u8]| replies::EXTENSIONS.iter().any(|known| tag.eq_ignore_ascii_case(known.as_bytes()));
    let mut unknown = request.option_tags(Name::Require).filter(|tag| !known(tag)).peekable();
    if unknown.peek().is_none() {
        return true;
    }
    replies::bad_extension(cx, request, unknown);
    false
}

/// How one try ended.
enum Outcome {
    /// A final answer was given.
    Answered,
    /// The group is changing hands: look again where the user is served.
    Moving,
}

async fn pause<C: Cx>(cx: &C) {
    cx.set_deadline(Some(cx.now().mono + PAUSE_MS));
    while !matches!(cx.event().await, TaskEvent::Deadline) {}
    cx.set_deadline(None);
}

/// Authenticates; the identity must be the user whose bindings are to be changed (no third-party registration).
async fn admit<C: Cx>(cx: &C, request: &Message, flow: Flow, who: Who<'_>) -> bool {
    if !auth::authenticate(cx, request, flow, Realm::Registrar, who).await {
        return false;
    }
    match classify(&cx.view(), request.from().uri) {
        Whose::User(from) if from == *who.user => true,
        _ => {
            cx.count(Counter::AuthMismatch);
            replies::refuse(cx, request, 403, "Third-Party Registration Not Allowed");
            false
        }
    }
}

/// The flow that reaches the client, and how many Path values at the top are our own servers'.
fn client_flow<C: Cx>(cx: &C, request: &Message, flow: Flow) -> (FlowRef, usize) {
    let view = cx.view();
    if flow.transport == Transport::Peer
        && let Some(top) = request.paths().next()
        && let Ok(uri) = Uri::parse(top.uri)
        && let Some(token) = uri.user.and_then(|user| read_flow_token(&view.sealing_key, user))
    {
        return (token, 1);
    }
    let own = &view.own;
    (FlowRef { pool: own.pool, server: own.server, boot: own.boot, flow }, 0)
}

/// Reads the wish, or answers why it cannot be read.
fn read_ask<C: Cx>(cx: &C, request: &Message, flow: Flow, user: &Aor) -> Option<Ask> {
    let (client, own_path) = client_flow(cx, request, flow);
    match Ask::read(user, request, client, own_path) {
        Ok(ask) if outbound::is_asked(request, &ask) && outbound::first_hop_lacks_it(request, &ask) => {
            cx.count(Counter::RegisterRefused);
            replies::refuse(cx, request, 439, "First Hop Lacks Outbound Support");
            None
        }
        Ok(ask) if sips::is_bound_openly(request, &ask) => {
            cx.count(Counter::RegisterRefused);
            replies::refuse(cx, request, 400, "SIPS Contact Needs SIPS All The Way");
            None
        }
        // Signing off needs no push service (RFC 8599 §4.1.4).
        Ok(ask) if cx.view().push.answer(kept_uris(&ask)).is_err() => {
            cx.count(Counter::RegisterRefused);
            replies::refuse(cx, request, 555, "Push Notification Service Not Supported");
            None
        }
        Ok(ask) => Some(ask),
        Err(error) => {
            cx.count(Counter::RegisterRefused);
            let status = if matches!(error, AskError::TooMany | AskError::Gruu) { 403 } else { 400 };
            replies::refuse(cx, request, status, &error.to_string());
            None
        }
    }
}

/// The contacts that are to stay.
fn kept_uris(ask: &Ask) -> impl Iterator<Item = &[u8]> {
    ask.contacts.iter().filter(|contact| contact.expires != Some(0)).map(|contact| &*contact.uri)
}

fn refuse<C: Cx>(cx: &C, request: &Message, why: Refuse) {
    cx.count(Counter::RegisterRefused);
    match why {
        Refuse::OutOfOrder => replies::refuse(cx, request, 500, "REGISTER Out Of Order"),
        Refuse::TooManyBindings => replies::refuse(cx, request, 403, "Too Many Bindings"),
        Refuse::TooBrief => {
            let min = cx.view().registrar.min_s.to_string();
            replies::refuse_with(cx, request, 423, "Interval Too Brief", &[("Min-Expires", &min)]);
        }
    }
}

/// Whether the pool may hold what a REGISTER adds; answers where not. Whoever is registered stays so, and another pool would
/// only ask this one: no 503.
fn has_room<C: Cx>(cx: &C, request: &Message, changes: &Changes) -> bool {
    let room = changes.new == 0 || cx.room_for_bindings();
    if !room {
        cx.count(Counter::RegisterPoolFull);
        replies::try_later(cx, request, "Pool Holds All Bindings It May");
    }
    room
}

/// What a change counts as.
fn counter_of(changes: &Changes) -> Counter {
    if changes.new > 0 {
        Counter::RegisterNew
    } else if changes.puts.is_empty() {
        Counter::RegisterRemove
    } else {
        Counter::RegisterRefresh
    }
}

fn count_change<C: Cx>(cx: &C, changes: &Changes) {
    cx.count(counter_of(changes));
}

/// A user's live bindings with the versions of their records.
async fn bindings<C: Cx>(cx: &C, group: GroupId, user: &Aor) -> Vec<(Binding, Position)> {
    let wall = cx.now().wall;
    let records = cx.read_all(group, user.as_str(), Some(BINDING)).await;
    let mut found = Vec::with_capacity(records.len());
    for (_, record) in records {
        match Binding::from_record(&record) {
            Ok(binding) if binding.expires > wall => found.push((binding, record.version)),
            Ok(_) => {}
            Err(_) => cx.count(Counter::RecordUnreadable),
        }
    }
    found
}

/// The proposal for some changes, based on the versions that were read.
fn proposal(user: &Aor, changes: &Changes, read: &[(Binding, Position)], wall: Millis) -> Proposal {
    let version = |id: &[u8; 16]| read.iter().find(|(b, _)| b.id == *id).map(|(_, v)| *v);
    let mut proposal = Proposal::default();
    for binding in &changes.puts {
        let key = binding_key(user.as_str(), &binding.id);
        proposal.reads.push((key.clone(), version(&binding.id)));
        let lives = binding.expires.saturating_sub(wall).max(1);
        proposal.writes.push(Write::Put { key, class: WriteClass::Soft { lives }, value: binding.encode() });
    }
    for id in &changes.deletes {
        let key = binding_key(user.as_str(), id);
        proposal.reads.push((key.clone(), version(id)));
        proposal.writes.push(Write::Delete { key });
    }
    proposal
}

async fn serve<C: Cx>(cx: &C, request: &Message, flow: Flow, user: &Aor, group: GroupId) -> Outcome {
    let Some(ask) = read_ask(cx, request, flow, user) else {
        return Outcome::Answered;
    };
    let guests = guest::live(cx, user);
    // One retry: a conflict means that another REGISTER of the user was faster, and that one counts first.
    for last in [false, true] {
        let read = bindings(cx, group, user).await;
        let mut existing: Vec<Binding> = read.iter().map(|(b, _)| b.clone()).collect();
        let view = cx.view();
        let adopted = guest::adopted(&view, group, &existing, &guests);
        existing.extend(adopted.iter().cloned());
        let plan = plan::plan(&existing, &ask, &view.registrar, view.registrar.max_s, cx.now().wall);
        let mut changes = match plan {
            Plan::Refuse(why) => {
                refuse(cx, request, why);
                return Outcome::Answered;
            }
            Plan::Fetch => {
                cx.count(Counter::RegisterFetch);
                Changes::default()
            }
            Plan::Repeat(changes) => {
                cx.count(Counter::RegisterRepeat);
                changes
            }
            Plan::Change(changes) if !has_room(cx, request, &changes) => return Outcome::Answered,
            Plan::Change(changes) => {
                count_change(cx, &changes);
                changes
            }
        };
        changes.go_on_from(guests.iter());
        changes.keep(adopted);
        if changes.puts.is_empty() && changes.deletes.is_empty() {
            answer::ok(cx, request, user, &ask, &existing, None);
            guest::drain(cx, user, &ask, &existing, &guests).await;
            return Outcome::Answered;
        }
        match cx.commit(group, proposal(user, &changes, &read, cx.now().wall)).await {
            Done::Committed(_) | Done::Duplicate(_) | Done::NoChange(_) => {
                let bindings = after(existing, changes);
                answer::ok(cx, request, user, &ask, &bindings, None);
                guest::drain(cx, user, &ask, &bindings, &guests).await;
                return Outcome::Answered;
            }
            Done::Refused(Refusal::Conflict(_)) if !last => {}
            Done::Refused(refusal) => return refused(cx, request, &refusal),
        }
    }
    Outcome::Answered
}

/// Whether a refused commit is worth another look at where the user is served; answers otherwise.
fn refused<C: Cx>(cx: &C, request: &Message, refusal: &Refusal) -> Outcome {
    match refusal {
        Refusal::Moved(..)
        | Refusal::NotActive(..)
        | Refusal::HandingOver(_)
        | Refusal::Unconfirmed
        | Refusal::NotLeader(_)
        // Whoever leads next knows whether it was written: the binding names this REGISTER, and is then only answered.
        | Refusal::OutcomeUnknown => Outcome::Moving,
        _ => {
            replies::try_later(cx, request, "Binding Not Stored");
            Outcome::Answered
        }
    }
}

/// The bindings once the changes are made.
fn after(existing: Vec<Binding>, changes: Changes) -> Vec<Binding> {
    let gone = |b: &Binding| changes.deletes.contains(&b.id) || changes.puts.iter().any(|p| p.id == b.id);
    let mut bindings: Vec<Binding> = existing.into_iter().filter(|b| !gone(b)).collect();
    bindings.extend(changes.puts);
    bindings
}
