//! Guest bindings: what a REGISTER makes while nobody serves its user in full (DESIGN §8).
//!
//! Owns their making and their end. They live at most two minutes, in the own pool's groups, and are never merged into the
//! home group: there a REGISTER of the same contact ends them. A pool that has been promoted for the user's group commits
//! them as ordinary bindings at the user's next REGISTER; until then they are called all the same.

use super::{answer, count_change, read_ask, refuse};
use crate::binding::Binding;
use crate::cx::Cx;
use crate::metrics::Counter;
use crate::registrar::ask::Ask;
use crate::registrar::plan::{Changes, Plan, plan};
use crate::replies;
use crate::settings::DeploymentView;
use pairline_group::GroupId;
use pairline_sip::flow::Flow;
use pairline_sip::message::Message;
use pairline_sip::uri::Aor;

/// Text of the Warning header.
pub const LIMITED: &str = "limited mode: calls and messages work, changes are refused";
/// Longest life of a guest binding in seconds, whatever policy says.
const CEILING_S: u32 = 120;

/// A user's guest bindings that have not ended.
pub fn live<C: Cx>(cx: &C, user: &Aor) -> Vec<Binding> {
    let wall = cx.now().wall;
    cx.guests(user).into_iter().filter(|b| b.expires > wall).collect()
}

/// Those that count as ordinary bindings of `group`: where this pool serves it in place of its home.
pub fn adopted(view: &DeploymentView, group: GroupId, existing: &[Binding], guests: &[Binding]) -> Vec<Binding> {
    let promoted = group.pool != view.own.pool;
    let fresh = |guest: &&Binding| promoted && !existing.iter().any(|b| b.id == guest.id);
    guests.iter().filter(fresh).cloned().collect()
}

/// Removes the guests in whose place ordinary bindings are now, or that the client has signed off. One that cannot be removed
/// now ends by itself.
pub async fn drain<C: Cx>(cx: &C, user: &Aor, ask: &Ask, bindings: &[Binding], guests: &[Binding]) {
    for guest in guests {
        if ask.means(guest) || bindings.iter().any(|b| b.id == guest.id) {
            cx.put_guest(user, guest.clone(), 0).await;
        }
    }
}

/// Serves one REGISTER of a user who is known to be the sender.
pub async fn serve<C: Cx>(cx: &C, request: &Message, flow: Flow, user: &Aor, group: GroupId) {
    let Some(ask) = read_ask(cx, request, flow, user) else {
        return;
    };
    let view = cx.view();
    let now = cx.now();
    let longest = view.registrar.guest_max_s.min(CEILING_S);
    let existing = live(cx, user);
    let mut changes = match plan(&existing, &ask, &view.registrar, longest, now.wall) {
        Plan::Refuse(why) => return refuse(cx, request, why),
        Plan::Fetch => Changes::default(),
        Plan::Repeat(changes) => changes,
        Plan::Change(changes) if !super::has_room(cx, request, &changes) => return,
        Plan::Change(changes) => {
            count_change(cx, &changes);
            changes
        }
    };
    if !changes.puts.is_empty() {
        let home = super::bindings(cx, group, user).await;
        changes.go_on_from(home.iter().map(|(binding, _)| binding));
    }
    if !write(cx, user, &existing, &changes).await {
        return replies::try_later(cx, request, "Guest Binding Not Stored");
    }
    cx.count(Counter::RegisterGuest);
    answer::ok(cx, request, user, &ask, &super::after(existing, changes), Some(LIMITED));
}

async fn write<C: Cx>(cx: &C, user: &Aor, existing: &[Binding], changes: &Changes) -> bool {
    for binding in &changes.puts {
        if !cx.put_guest(user, binding.clone(), u64::from(binding.granted) * 1000).await {
            return false;
        }
    }
    for id in &changes.deletes {
        let Some(old) = existing.iter().find(|b| b.id == *id) else {
            continue;
        };
        if !cx.put_guest(user, old.clone(), 0).await {
            return false;
        }
    }
    true
}
