//! What a REGISTER does to a user's bindings (RFC 3261 §10.3): a pure decision.
//!
//! Owns order, repeats, replacement, limits and expiries. Does not read or write anything.

use crate::binding::Binding;
use crate::registrar::ask::{Ask, AskContact};
use crate::settings::RegistrarPolicy;
use pairline_group::Millis;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing asked for or nothing to change: answer with the present state.
    Fetch,
    /// The same REGISTER again: answer with the present state. What it now writes is only a new flow, since the client may
    /// have come to another server with it.
    Repeat(Changes),
    /// Write this, then answer with the new state.
    Change(Changes),
    /// Refuse.
    Refuse(Refuse),
}

/// Changes of a user's bindings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Bindings to write.
    pub puts: Vec<Binding>,
    /// Ids of bindings to remove.
    pub deletes: Vec<[u8; 16]>,
    /// How many of the puts were not there before.
    pub new: usize,
}

impl Changes {
    /// Lets registrations go on that are known in another place, home or guest: what was given out under them stays good.
    pub fn go_on_from<'a>(&mut self, known: impl Iterator<Item = &'a Binding>) {
        for binding in known {
            for put in self.puts.iter_mut().filter(|put| put.id == binding.id && put.call_id == binding.call_id) {
                put.since = put.since.min(binding.since);
            }
        }
    }

    /// Adds what is to be written as it is, unless it is changed anyway.
    pub fn keep(&mut self, bindings: Vec<Binding>) {
        for binding in bindings {
            if !self.deletes.contains(&binding.id) && !self.puts.iter().any(|put| put.id == binding.id) {
                self.puts.push(binding);
            }
        }
    }
}

/// Why a REGISTER is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuse {
    /// A lower CSeq in the same Call-ID, or an equal one with other contacts: 500.
    OutOfOrder,
    /// Expiry below the minimum: 423.
    TooBrief,
    /// More bindings than a user may have: 403.
    TooManyBindings,
}

/// The expiry granted for a wish, in seconds; `Err` if policy refuses short ones.
fn grant(wish: Option<u32>, longest: u32, policy: &RegistrarPolicy) -> Result<u32, Refuse> {
    let wish = wish.unwrap_or(policy.default_s);
    // Below an hour only (RFC 3261 §10.3 step 7); and never refuse what the deployment itself would grant at most.
    if policy.refuse_brief && wish > 0 && wish < policy.min_s.min(longest) && wish < 3600 {
        return Err(Refuse::TooBrief);
    }
    Ok(wish.min(longest))
}

/// The expiry that is granted in the end: spread, so that those who registered together do not come back together. What the
/// deployment chose is spread to both sides; what the client asked for is never exceeded (RFC 3261 §10.3 step 7). The device and
/// its CSeq choose the place, so each refresh gets another one, and every server gives the same.
fn spread(seconds: u32, contact: &AskContact, id: [u8; 16], cseq: u32, longest: u32, policy: &RegistrarPolicy) -> u32 {
    let width = u64::from(seconds) * u64::from(policy.spread_percent.min(50)) / 100;
    if width == 0 {
        return seconds;
    }
    let mix = |place: u64, byte: &u8| (place ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    let place = cseq.to_le_bytes().iter().fold(id.iter().fold(0, mix), mix);
    let chosen = contact.expires.is_none();
    let above = if chosen { width } else { 0 };
    let less = (place >> 16) % (width + above + 1);
    let granted = u32::try_from(u64::from(seconds) + above - less).unwrap_or(seconds);
    // Not below what a client may ask for, nor above what anybody gets.
    granted.max(policy.min_s.min(seconds)).min(longest.max(1))
}

/// Since when the device is registered without a break under this Call-ID: its other flows count too.
fn since(existing: &[Binding], ask: &Ask, contact: &AskContact, id: [u8; 16], wall: Millis) -> Millis {
    let same_device = |b: &&Binding| b.id == id || (b.instance.is_some() && b.instance == contact.instance);
    let unbroken = existing.iter().filter(|b| b.call_id == ask.call_id).filter(same_device);
    unbroken.map(|b| b.since).min().unwrap_or(wall)
}

fn bind(existing: &[Binding], ask: &Ask, contact: &AskContact, id: [u8; 16], seconds: u32, wall: Millis) -> Binding {
    Binding {
        id,
        contact: contact.uri.clone(),
        params: contact.params.clone(),
        q: contact.q,
        call_id: ask.call_id.clone(),
        cseq: ask.cseq,
        granted: seconds,
        expires: wall.saturating_add(u64::from(seconds) * 1000),
        refreshed: wall,
        since: since(existing, ask, contact, id, wall),
        path: ask.path.clone(),
        instance: contact.instance.clone(),
        reg_id: contact.reg_id,
        flow: ask.flow,
        user_agent: ask.user_agent.clone(),
        op: ask.op,
    }
}

/// Where the REGISTER stands to a binding of the same Call-ID.
enum Order {
    Later,
    Same,
    Stale,
}

fn order(ask: &Ask, binding: &Binding) -> Order {
    if binding.call_id != ask.call_id || binding.cseq < ask.cseq {
        Order::Later
    } else if binding.cseq == ask.cseq && binding.op == ask.op {
        Order::Same
    } else {
        Order::Stale
    }
}

/// Decides. `existing` are the user's live bindings; `longest` the longest expiry to grant, in seconds.
pub fn plan(existing: &[Binding], ask: &Ask, policy: &RegistrarPolicy, longest: u32, wall: Millis) -> Plan {
    if !ask.star && ask.contacts.is_empty() {
        return Plan::Fetch;
    }
    let mut repeat = false;
    // One operation writes all its bindings at once, so one that stands at this very operation tells that it was applied.
    for binding in existing {
        match order(ask, binding) {
            Order::Same => repeat = true,
            Order::Stale if ask.means(binding) => return Plan::Refuse(Refuse::OutOfOrder),
            _ => {}
        }
    }
    if repeat {
        return Plan::Repeat(moved(existing, ask));
    }
    if ask.star {
        let deletes = existing.iter().map(|b| b.id).collect();
        return Plan::Change(Changes { deletes, ..Changes::default() });
    }
    match changes(existing, ask, policy, longest, wall) {
        Ok(changes) => Plan::Change(changes),
        Err(refuse) => Plan::Refuse(refuse),
    }
}

/// The flow of a repeated REGISTER, where it differs from the one that is stored.
fn moved(existing: &[Binding], ask: &Ask) -> Changes {
    let puts = existing
        .iter()
        .filter(|b| b.op == ask.op && (b.flow != ask.flow || b.path != ask.path))
        .map(|b| Binding { flow: ask.flow, path: ask.path.clone(), ..b.clone() })
        .collect();
    Changes { puts, ..Changes::default() }
}

fn changes(
    existing: &[Binding],
    ask: &Ask,
    policy: &RegistrarPolicy,
    longest: u32,
    wall: Millis,
) -> Result<Changes, Refuse> {
    let mut changes = Changes::default();
    let mut replaced: Vec<[u8; 16]> = Vec::new();
    for contact in &ask.contacts {
        let seconds = grant(contact.expires, longest, policy)?;
        let old: Vec<[u8; 16]> =
            existing.iter().filter(|b| contact.is_of(b) && !replaced.contains(&b.id)).map(|b| b.id).collect();
        let first = old.first().copied();
        changes.deletes.extend(old.iter().skip(1));
        replaced.extend(old);
        match (seconds, first) {
            (0, Some(id)) => changes.deletes.push(id),
            (0, None) => {}
            (_, Some(id)) => {
                let seconds = spread(seconds, contact, id, ask.cseq, longest, policy);
                changes.puts.push(bind(existing, ask, contact, id, seconds, wall));
            }
            (_, None) => {
                let id = Binding::id_for(contact.instance.as_deref(), contact.reg_id, &contact.uri);
                // Two values of one REGISTER that mean the same contact are one binding: the later one counts.
                changes.new += usize::from(!changes.puts.iter().any(|b| b.id == id));
                changes.puts.retain(|b| b.id != id);
                let seconds = spread(seconds, contact, id, ask.cseq, longest, policy);
                changes.puts.push(bind(existing, ask, contact, id, seconds, wall));
            }
        }
    }
    let after = existing.len() - changes.deletes.len() + changes.new;
    if changes.new > 0 && after > policy.max_bindings {
        return Err(Refuse::TooManyBindings);
    }
    Ok(changes)
}
