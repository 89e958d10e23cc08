//! Replies in words: users, registrations, contacts, settings.
//!
//! Owns the wording. Pools and procedures are in `render_pool`.

use super::table::{seconds, table};
use super::{render_group, render_health, render_pool};
use pairline_node::command::Reply;
use pairline_node::view::{BindingView, ContactView, SettingsView, UserView, WhereView};

/// Any reply as text, ending with a newline.
pub fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Ok { message } => format!("{message}\n"),
        Reply::Users { users, next } => users_text(users, next.as_deref()),
        Reply::Where(view) => where_text(view),
        Reply::Proof { user, .. } => format!("{}\n", user.as_deref().unwrap_or("nobody is proven")),
        Reply::Imported { added, unchanged, refused, refused_count, .. } => {
            imported(*added, *unchanged, refused, *refused_count)
        }
        Reply::Registrations { registrations, next } => registrations_text(registrations, next.as_deref()),
        Reply::Contacts { contacts, read_only } => contacts_text(contacts, *read_only),
        Reply::Settings(view) => settings_text(view),
        Reply::Pools(view) => render_pool::pools(view),
        Reply::Health(view) => render_health::health(view),
        Reply::HealthPart { copies } => format!("{} copies\n", copies.len()),
        Reply::Verify(view) => render_pool::verify(view),
        Reply::Plan(view) => render_pool::plan(view),
        Reply::Procedure(view) => render_pool::procedure(view),
        Reply::Procedures { procedures } => render_pool::procedures(procedures),
        Reply::Divergence(view) => render_pool::divergence(view),
        Reply::Text { text } => format!("{}\n", text.trim_end()),
        Reply::Status(view) => crate::api::metrics::render(view),
        Reply::Groups(view) => render_group::groups(view),
        Reply::GroupCopies { copies } => format!("{} copies\n", copies.len()),
        Reply::GroupRecovery(view) => render_group::recovery(view),
        Reply::GroupSurvived { at } => format!("it goes on from {at}\n"),
    }
}

fn dash(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}

fn more(next: Option<&str>) -> String {
    next.map(|after| format!("more: --after {after}\n")).unwrap_or_default()
}

fn users_text(users: &[UserView], next: Option<&str>) -> String {
    if users.is_empty() {
        return "no users\n".into();
    }
    let rows: Vec<Vec<String>> =
        users.iter().map(|u| vec![u.user.clone(), u.home.clone(), dash(u.display_name.as_deref())]).collect();
    table(&["USER", "HOME POOL", "NAME"], &rows) + &more(next)
}

fn where_text(view: &WhereView) -> String {
    let serving = view.serving.as_deref().unwrap_or("none in full");
    let place = match view.place.as_str() {
        "here" => "served in full by the answering pool",
        "elsewhere" => "served in full by the other pool",
        "resiliency" => "in resiliency mode: calls and messages work, nothing durable can be changed",
        "unavailable" => "the serving pool cannot be reached and the detection interval is not over",
        other => other,
    };
    let mut text = format!(
        "{}\n  home pool     {}\n  serving pool  {serving}\n  state         {place}\n  group         {} in epoch {}\n",
        view.user, view.home, view.group, view.epoch
    );
    text.push_str(&if view.bindings.is_empty() {
        "  not registered\n".to_owned()
    } else {
        bindings(&view.bindings, false)
    });
    text
}

fn bindings(bindings: &[BindingView], with_user: bool) -> String {
    let rows: Vec<Vec<String>> = bindings
        .iter()
        .map(|b| {
            let kind = if b.guest { format!("{}, guest", b.reach) } else { b.reach.clone() };
            let mut row = vec![
                b.contact.clone(),
                b.flow.clone(),
                b.pool.clone(),
                kind,
                seconds(b.expires_in),
                b.user_agent.clone(),
            ];
            if with_user {
                row.insert(0, b.user.clone());
            }
            row
        })
        .collect();
    let mut header = vec!["CONTACT", "FLOW", "POOL", "REACH", "EXPIRES IN", "CLIENT"];
    if with_user {
        header.insert(0, "USER");
    }
    table(&header, &rows)
}

fn registrations_text(registrations: &[BindingView], next: Option<&str>) -> String {
    if registrations.is_empty() {
        return "no registrations\n".to_owned() + &more(next);
    }
    bindings(registrations, true) + &more(next)
}

fn contacts_text(contacts: &[ContactView], read_only: bool) -> String {
    let note = if read_only { "resiliency mode: the list can be read, changes are refused\n" } else { "" };
    if contacts.is_empty() {
        return format!("no contacts\n{note}");
    }
    let rows: Vec<Vec<String>> = contacts
        .iter()
        .map(|c| vec![c.contact.clone(), dash(Some(&c.name)), dash(Some(&c.groups.join(", ")))])
        .collect();
    table(&["CONTACT", "NAME", "GROUPS"], &rows) + note
}

fn settings_text(view: &SettingsView) -> String {
    format!(
        "{}\n  display name  {}\n  forward to    {}\n  note          {}\n",
        view.user,
        dash(view.display_name.as_deref()),
        dash(view.forward_to.as_deref()),
        dash(view.note.as_deref())
    )
}

fn imported(added: u64, unchanged: u64, refused: &[(String, String)], count: u64) -> String {
    let mut text = format!("{added} added, {unchanged} unchanged, {count} refused\n");
    for (user, reason) in refused {
        text.push_str(&format!("  {user}: {reason}\n"));
    }
    text
}
