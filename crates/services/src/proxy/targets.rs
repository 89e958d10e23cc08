//! The target set of a user (RFC 3261 §16.5): bindings and guest bindings, call forwarding, the other pool.
//!
//! Owns where a request for a user goes. Sends nothing.

use super::hop::{self, Hop};
use crate::binding::Binding;
use crate::cx::{Cx, Peer, Place};
use crate::forward::peer_hops;
use crate::gruu;
use crate::ident::parse_user;
use crate::metrics::Counter;
use crate::push;
use crate::records::{BINDING, Settings, settings_key};
use crate::sips;
use pairline_group::GroupId;
use pairline_sip::message::Message;
use pairline_sip::method::Method;
use pairline_sip::uri::{Aor, Uri};

/// Most users that one call is forwarded through.
const MAX_FORWARDS: usize = 5;

/// Where a request for a user can go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// To these.
    Hops(Vec<Hop>),
    /// To these at once, and to devices of this user that were woken when they have registered.
    Waking(Aor, Vec<Hop>),
    /// There are bindings of this user, all stranded.
    Stranded(Aor),
    /// There are bindings, and none by which a request may go that is to travel encrypted (RFC 5630).
    NotSecure,
    /// No binding.
    NotRegistered,
    /// No such user.
    NoSuchUser,
    /// Who serves the user cannot be reached.
    Unavailable,
    /// Call forwarding turns in a circle.
    ForwardLoop,
}

/// Finds the target set, following unconditional call forwarding of INVITEs.
pub async fn find<C: Cx>(cx: &C, request: &Message, user: &Aor) -> Found {
    let device = gruu::Target::of(&cx.view().sealing_key, request.request_uri());
    find_device(cx, request, user, device.as_ref()).await
}

/// The same for a user, or one device of that user, whoever stands in the Request-URI.
pub async fn find_device<C: Cx>(cx: &C, request: &Message, user: &Aor, device: Option<&gruu::Target>) -> Found {
    secured(request, look(cx, request, user, device, false).await)
}

/// As [`find`], and orders sleeping devices to be woken for a call or a message, where the deployment has a gateway for that
/// (RFC 8599).
pub async fn find_and_wake<C: Cx>(cx: &C, request: &Message, user: &Aor) -> Found {
    let wakes = matches!(request.method(), Method::Invite | Method::Message);
    let wake = wakes && !cx.view().push.providers.is_empty();
    let device = gruu::Target::of(&cx.view().sealing_key, request.request_uri());
    secured(request, look(cx, request, user, device.as_ref(), wake).await)
}

/// Only the hops that a request may take, their alternates among them (RFC 5630 §5.3).
fn secured(request: &Message, mut found: Found) -> Found {
    let (Found::Hops(hops) | Found::Waking(_, hops)) = &mut found else { return found };
    let takes = |hop: &Hop| sips::may_take(request, hop);
    if hops.iter().all(|hop| takes(hop) && hop.alternates.iter().all(takes)) {
        return found;
    }
    let all = std::mem::take(hops);
    hops.extend(all.into_iter().filter_map(|mut hop| {
        let further = std::mem::take(&mut hop.alternates);
        Hop::first_of(std::iter::once(hop).chain(further).filter(takes).collect())
    }));
    if hops.is_empty() && matches!(found, Found::Hops(_)) { Found::NotSecure } else { found }
}

async fn look<C: Cx>(cx: &C, request: &Message, user: &Aor, device: Option<&gruu::Target>, wake: bool) -> Found {
    let mut seen = vec![user.clone()];
    loop {
        let current = seen.last().expect("begins with one").clone();
        let forwarded = seen.len() > 1;
        let place = cx.placed(&current).await;
        let group = match place {
            Place::NoSuchUser if forwarded => return Found::NotRegistered,
            Place::NoSuchUser => return Found::NoSuchUser,
            Place::Here { group } | Place::Resiliency { group } => Some(group),
            Place::Elsewhere { at, .. } => {
                let uri = forwarded.then(|| sips::like(request, current.as_str()));
                if let Some(peer) = hop::to_peer(cx, request, at, uri.as_deref().map(str::as_bytes)) {
                    cx.count(Counter::ProxyPeer);
                    let found = Found::Hops(vec![peer]);
                    return if forwarded { mapped_to(&current, found) } else { found };
                }
                None
            }
            Place::Unavailable { .. } => None,
        };
        let next = match group {
            // A GRUU means that device and no other (RFC 5627 §5.3).
            Some(group) if *request.method() == Method::Invite && device.is_none() => {
                forward_target(cx, group, &current).await
            }
            _ => None,
        };
        let Some(next) = next else {
            if wake {
                // Before the bindings are read, so that no REGISTER slips in between.
                cx.watch_bindings(&current);
            }
            let waker = wake.then_some(request);
            let found = of_user(cx, group, &current, device, waker).await;
            let found = match place {
                Place::Resiliency { .. } => then_other_pool(cx, request, &current, forwarded, found),
                _ => found,
            };
            return if forwarded { mapped_to(&current, found) } else { found };
        };
        if seen.contains(&next) || seen.len() > MAX_FORWARDS {
            return Found::ForwardLoop;
        }
        cx.count(Counter::ProxyCallForward);
        seen.push(next);
    }
}

/// Notes on each hop that it was found for that other user.
fn mapped_to(user: &Aor, mut found: Found) -> Found {
    if let Found::Hops(hops) | Found::Waking(_, hops) = &mut found {
        hops.iter_mut().for_each(|hop| hop.map_to(user, user.as_str().as_bytes()));
    }
    found
}

/// In a cut that is one-way, or not over for long enough, each pool tries what it has, then the other pool, once (DESIGN §8): what
/// came over the link does not go back.
fn then_other_pool<C: Cx>(cx: &C, request: &Message, user: &Aor, forwarded: bool, found: Found) -> Found {
    let partner = cx.view().partner.as_ref().map(|partner| partner.pool).filter(|_| peer_hops(request) == 0);
    let uri = forwarded.then(|| sips::like(request, user.as_str()));
    let uri = uri.as_deref().map(str::as_bytes);
    let Some(peer) = partner.and_then(|pool| hop::to_peer(cx, request, Peer::Pool(pool), uri)) else {
        return found;
    };
    match found {
        Found::Hops(mut hops) => {
            if let Some(first) = hops.first_mut() {
                first.alternates.push(peer);
            }
            Found::Hops(hops)
        }
        Found::Waking(user, mut hops) => {
            match hops.first_mut() {
                Some(first) => first.alternates.push(peer),
                None => hops.push(peer),
            }
            Found::Waking(user, hops)
        }
        // Here a temporary GRUU may be void and there not.
        Found::Stranded(_) | Found::NotRegistered | Found::NoSuchUser | Found::Unavailable => Found::Hops(vec![peer]),
        other => other,
    }
}

/// The user that all calls of this one go to, if set.
async fn forward_target<C: Cx>(cx: &C, group: GroupId, user: &Aor) -> Option<Aor> {
    let record = cx.read(group, &settings_key(user.as_str())).await?;
    let Ok(settings) = Settings::decode(&record.value) else {
        cx.count(Counter::RecordUnreadable);
        return None;
    };
    parse_user(&cx.view(), &settings.forward_to?)
}

/// The hops of one user's bindings, or of one device of that user. Without a readable copy only guest bindings are known.
/// `waker` wakes those that may sleep.
async fn of_user<C: Cx>(
    cx: &C,
    group: Option<GroupId>,
    user: &Aor,
    device: Option<&gruu::Target>,
    waker: Option<&Message>,
) -> Found {
    let wall = cx.now().wall;
    let mut bindings = match group {
        Some(group) => read_bindings(cx, group, user).await,
        None => Vec::new(),
    };
    bindings.extend(cx.guests(user));
    bindings.retain(|b| b.expires > wall && device.is_none_or(|device| device.admits(b)));
    if bindings.is_empty() {
        return match group {
            Some(_) if device.is_some_and(gruu::Target::is_temporary) => Found::NoSuchUser,
            Some(_) => Found::NotRegistered,
            None => Found::Unavailable,
        };
    }
    let waking = waker.is_some_and(|request| push::wake(cx, request, &bindings));
    let hops = hops_of(cx, bindings).await;
    if waking {
        return Found::Waking(user.clone(), hops);
    }
    if hops.is_empty() { Found::Stranded(user.clone()) } else { Found::Hops(hops) }
}

/// The bindings of a user in a group, ended ones too.
pub async fn read_bindings<C: Cx>(cx: &C, group: GroupId, user: &Aor) -> Vec<Binding> {
    let records = cx.read_all(group, user.as_str(), Some(BINDING)).await;
    let mut found = Vec::with_capacity(records.len());
    for (_, record) in &records {
        match Binding::from_record(record) {
            Ok(binding) => found.push(binding),
            Err(_) => cx.count(Counter::RecordUnreadable),
        }
    }
    found
}

/// The device of a user with that contact: where a flow is gone that a dialog kept to, another may lead to it by now.
pub async fn by_contact<C: Cx>(cx: &C, user: &Aor, contact: &[u8]) -> Option<Hop> {
    let contact = Uri::parse(contact).ok()?;
    let wall = cx.now().wall;
    let mut bindings = match cx.placed(user).await {
        Place::Here { group } | Place::Resiliency { group } | Place::Elsewhere { group: Some(group), .. } => {
            read_bindings(cx, group, user).await
        }
        _ => Vec::new(),
    };
    bindings.extend(cx.guests(user));
    for binding in bindings.iter().filter(|b| b.expires > wall) {
        if Uri::parse(&binding.contact).is_ok_and(|uri| uri.equals(&contact))
            && let Some(hop) = hop::to_binding(cx, binding).await
        {
            return Some(hop);
        }
    }
    None
}

fn same_device(a: &Binding, b: &Binding) -> bool {
    match (&a.instance, &b.instance) {
        (Some(x), Some(y)) => x == y,
        _ => a.contact == b.contact,
    }
}

/// One hop per device: of several bindings of one instance or contact the freshest is tried, the others are alternates.
async fn hops_of<C: Cx>(cx: &C, mut bindings: Vec<Binding>) -> Vec<Hop> {
    bindings.sort_by(|a, b| b.refreshed.cmp(&a.refreshed).then_with(|| a.id.cmp(&b.id)));
    let mut devices: Vec<(Binding, Hop)> = Vec::new();
    for binding in bindings {
        let Some(mut hop) = hop::to_binding(cx, &binding).await else {
            cx.count(Counter::BindingStranded);
            continue;
        };
        match devices.iter_mut().find(|(other, _)| same_device(other, &binding)) {
            Some((_, first)) => {
                let further = std::mem::take(&mut hop.alternates);
                first.alternates.push(hop);
                first.alternates.extend(further);
            }
            None => devices.push((binding, hop)),
        }
    }
    devices.into_iter().map(|(_, hop)| hop).take(cx.view().proxy.max_branches).collect()
}
