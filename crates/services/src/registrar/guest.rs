//! Guest bindings: what a REGISTER makes while nobody serves its user in full (DESIGN §8).
//!
//! Owns their making. They live at most two minutes, in the own pool's groups, and are never merged into the home group.

use super::{answer, count_change, read_ask, refuse};
use crate::binding::Binding;
use crate::cx::Cx;
use crate::metrics::Counter;
use crate::registrar::plan::{Changes, Plan, plan};
use crate::replies;
use pairline_sip::flow::Flow;
use pairline_sip::message::Message;
use pairline_sip::uri::Aor;

/// Text of the Warning header.
pub const LIMITED: &str = "limited mode: calls and messages work, changes are refused";
/// Longest life of a guest binding in seconds, whatever policy says.
const CEILING_S: u32 = 120;

/// Serves one REGISTER of a user who is known to be the sender.
pub async fn serve<C: Cx>(cx: &C, request: &Message, flow: Flow, user: &Aor) {
    let Some(ask) = read_ask(cx, request, flow, user) else {
        return;
    };
    let view = cx.view();
    let now = cx.now();
    let longest = view.registrar.guest_max_s.min(CEILING_S);
    let existing: Vec<Binding> = cx.guests(user).into_iter().filter(|b| b.expires > now.wall).collect();
    let changes = match plan(&existing, &ask, &view.registrar, longest, now.wall) {
        Plan::Refuse(why) => return refuse(cx, request, why),
        Plan::Fetch => Changes::default(),
        Plan::Repeat(changes) => changes,
        Plan::Change(changes) => {
            count_change(cx, &changes);
            changes
        }
    };
    if !write(cx, user, &existing, &changes).await {
        return replies::try_later(cx, request, "Guest Binding Not Stored");
    }
    cx.count(Counter::RegisterGuest);
    answer::ok(cx, request, &super::after(existing, changes), Some(LIMITED));
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
