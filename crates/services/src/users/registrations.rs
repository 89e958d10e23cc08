//! Where a user is: home, serving pool, bindings and whether they can be reached; and dropping registrations.
//!
//! Owns these two commands.

use super::entry_of;
use crate::binding::Binding;
use crate::cx::{Cx, Peer, Place, Reach};
use crate::records::{BINDING, binding_key};
use crate::remedy::{CommandError, writable, written};
use pairline_group::io::{Proposal, Write};
use pairline_group::{GroupId, PoolId};
use pairline_sip::uri::Aor;

/// One registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationView {
    /// The binding.
    pub binding: Binding,
    /// Whether and how it can be reached now.
    pub reach: Reach,
    /// Whether it is a guest binding.
    pub guest: bool,
    /// Seconds until it ends.
    pub expires_in: u64,
}

/// Where a user is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhereIs {
    /// Who.
    pub user: Aor,
    /// Home pool.
    pub home: PoolId,
    /// Who serves; `None` in resiliency mode or when that pool cannot be reached.
    pub serving: Option<PoolId>,
    /// As this server sees it.
    pub place: Place,
    /// Routing group.
    pub group: GroupId,
    /// Registrations, guests last.
    pub registrations: Vec<RegistrationView>,
}

fn view_of<C: Cx>(cx: &C, binding: Binding, guest: bool) -> RegistrationView {
    let expires_in = binding.seconds_left(cx.now().wall);
    RegistrationView { reach: cx.reach(&binding), guest, expires_in, binding }
}

async fn live_bindings<C: Cx>(cx: &C, group: GroupId, user: &Aor) -> Result<Vec<Binding>, CommandError> {
    let wall = cx.now().wall;
    let mut bindings = Vec::new();
    for (_, record) in cx.read_all(group, user.as_str(), Some(BINDING)).await {
        let binding = Binding::from_record(&record).map_err(|_| CommandError::Unreadable(user.as_str().to_owned()))?;
        if binding.expires > wall {
            bindings.push(binding);
        }
    }
    Ok(bindings)
}

/// Says where a user is.
pub async fn where_is<C: Cx>(cx: &C, user: &Aor) -> Result<WhereIs, CommandError> {
    let entry = entry_of(cx, user).await?.ok_or_else(|| CommandError::NoSuchUser(user.as_str().to_owned()))?;
    let view = cx.view();
    let group = view.group_of(entry.home, user.as_str()).ok_or(CommandError::NoSuchPool(entry.home))?;
    let place = cx.placed(user).await;
    let serving = match &place {
        Place::Here { .. } => Some(view.own.pool),
        Place::Elsewhere { at: Peer::Pool(pool), .. } => Some(*pool),
        Place::Elsewhere { at: Peer::Server(_), .. } => Some(view.own.pool),
        _ => None,
    };
    let mut registrations: Vec<RegistrationView> =
        live_bindings(cx, group, user).await?.into_iter().map(|b| view_of(cx, b, false)).collect();
    let wall = cx.now().wall;
    let guests = cx.guests(user).into_iter().filter(|b| b.expires > wall);
    registrations.extend(guests.map(|b| view_of(cx, b, true)));
    Ok(WhereIs { user: user.clone(), home: entry.home, serving, place, group, registrations })
}

/// Drops a user's registrations: all, or the one with that contact URI. Returns how many.
///
/// Guest bindings are dropped too; they may be dropped in resiliency mode, ordinary ones not.
pub async fn drop_registrations<C: Cx>(cx: &C, user: &Aor, contact: Option<&str>) -> Result<usize, CommandError> {
    let meant = |b: &Binding| contact.is_none_or(|c| *b.contact == *c.as_bytes());
    let mut dropped = 0;
    for guest in cx.guests(user).into_iter().filter(|b| meant(b)) {
        dropped += usize::from(cx.put_guest(user, guest, 0).await);
    }
    let group = match writable(cx, user) {
        Ok(group) => group,
        Err(CommandError::Limited(_)) if dropped > 0 => return Ok(dropped),
        Err(error) => return Err(error),
    };
    let bindings = live_bindings(cx, group, user).await?;
    let keys: Vec<_> = bindings.iter().filter(|b| meant(b)).map(|b| binding_key(user.as_str(), &b.id)).collect();
    if keys.is_empty() {
        return match contact {
            Some(contact) if dropped == 0 => Err(CommandError::NotThere(contact.to_owned())),
            _ => Ok(dropped),
        };
    }
    dropped += keys.len();
    // Whoever watches learns that it was not the client who signed off.
    cx.watching(|table| {
        for binding in bindings.iter().filter(|b| meant(b)) {
            table.drop_binding(user.as_str(), binding.id);
        }
    });
    let writes = keys.into_iter().map(|key| Write::Delete { key }).collect();
    written(cx.commit(group, Proposal { writes, ..Proposal::default() }).await, user)?;
    Ok(dropped)
}
