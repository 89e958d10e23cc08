//! Users, registrations, contacts and settings: from the API's words to the services' functions and back.
//!
//! Owns the translation. What a change means, and when it is refused, is `services`'.

use crate::command::{Command, ImportRow, Problem, Reply};
use crate::core::Core;
use crate::cx::TaskCx;
use crate::view::{BindingView, ContactView, SettingsView, UserView, WhereView};
use pairline_group::{GroupId, OpId, PoolId};
use pairline_services::contacts::{self, SettingsChange};
use pairline_services::cx::{Cx, Peer, Place, Reach};
use pairline_services::ident;
use pairline_services::records::{Contact, Settings, settings_key};
use pairline_services::remedy::CommandError;
use pairline_services::users::{self, NewUser, RegistrationView, WhereIs};
use pairline_sip::uri::Aor;
use pairline_topology::directory::DirectoryEntry;
use pairline_topology::stored::KIND_DIRECTORY;
use std::collections::BTreeSet;

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Problem {
        if let CommandError::Refused(refusal) = &error {
            return Problem::refused(refusal);
        }
        Problem::new(error.status(), error.kind(), "the command was refused", error.to_string(), error.remedy())
    }
}

/// The address of a user as written by a person.
pub fn aor(core: &Core, written: &str) -> Result<Aor, Problem> {
    ident::parse_user(&core.view, written).ok_or_else(|| CommandError::BadUser(written.to_owned()).into())
}

/// Who serves a user, if it is other servers that can be asked.
pub async fn serving(cx: &TaskCx, user: &str) -> Option<Peer> {
    let user = cx.with(|core| aor(core, user)).ok()?;
    match cx.placed(&user).await {
        Place::Elsewhere { at, .. } => Some(at),
        _ => None,
    }
}

/// Executes one command of this family.
pub async fn execute(cx: &TaskCx, command: Command) -> Result<Reply, Problem> {
    let who = |written: &str| cx.with(|core| aor(core, written));
    match command {
        Command::UserAdd { user, password, display_name, pool } => {
            let new = new_user(cx, &ImportRow { user, password, display_name, pool, contacts: Vec::new() })?;
            users::add(cx, &new).await?;
            done(format!(
                "user {} is there, home pool {}",
                new.user.as_str(),
                cx.with(|core| core.topology.pool_name(new.home))
            ))
        }
        Command::UserImport { rows } => import(cx, &rows).await,
        Command::UserList { after, limit } => Ok(list(cx, after.as_deref(), limit).await),
        Command::UserShow { user } => {
            let info = users::show(cx, &who(&user)?).await?;
            Ok(Reply::Users { users: vec![user_view(cx, info.user.as_str(), info.home).await], next: None })
        }
        Command::UserRemove { user } => {
            let user = who(&user)?;
            users::remove(cx, &user).await?;
            done(format!("user {} is removed", user.as_str()))
        }
        Command::UserPassword { user, password } => {
            let user = who(&user)?;
            users::set_password(cx, &user, &password).await?;
            done(format!("user {} has a new password", user.as_str()))
        }
        Command::UserWhere { user } => {
            let found = users::where_is(cx, &who(&user)?).await?;
            Ok(Reply::Where(cx.with(|core| where_view(core, &found))))
        }
        Command::RegistrationList { user, after, limit } => {
            registrations(cx, user.as_deref(), after.as_deref(), limit).await
        }
        Command::RegistrationDrop { user, contact } => {
            let dropped = users::drop_registrations(cx, &who(&user)?, contact.as_deref()).await?;
            done(format!("{dropped} registrations of {user} are dropped"))
        }
        other => lists(cx, other).await,
    }
}

async fn lists(cx: &TaskCx, command: Command) -> Result<Reply, Problem> {
    let who = |written: &str| cx.with(|core| aor(core, written));
    match command {
        Command::ContactList { user } => {
            let list = contacts::list(cx, &who(&user)?).await?;
            let contacts = list
                .contacts
                .into_iter()
                .map(|c| ContactView { contact: c.address, name: c.contact.name, groups: c.contact.groups })
                .collect();
            Ok(Reply::Contacts { contacts, read_only: list.read_only })
        }
        Command::ContactPut { user, contact, name, groups, op } => {
            let user = who(&user)?;
            let op = op_id(&user, op.as_ref());
            contacts::put(cx, &user, &contact, &Contact { name, groups }, op).await?;
            done(format!("contact {contact} is in the list of {}", user.as_str()))
        }
        Command::ContactRemove { user, contact, op } => {
            let user = who(&user)?;
            let op = op_id(&user, op.as_ref());
            contacts::remove(cx, &user, &contact, op).await?;
            done(format!("contact {contact} is not in the list of {}", user.as_str()))
        }
        Command::SettingsGet { user } => {
            let user = who(&user)?;
            Ok(settings_reply(&user, contacts::settings(cx, &user).await?))
        }
        Command::SettingsPut { user, display_name, forward_to, note } => {
            let user = who(&user)?;
            let change = SettingsChange { display_name, forward_to, note };
            Ok(settings_reply(&user, contacts::change_settings(cx, &user, &change).await?))
        }
        _ => Err(Problem::forbidden()),
    }
}

fn done(message: String) -> Result<Reply, Problem> {
    Ok(Reply::Ok { message })
}

fn op_id(user: &Aor, op: Option<&(String, u64)>) -> Option<OpId> {
    op.map(|(session, counter)| contacts::op_id(user, session, *counter))
}

fn settings_reply(user: &Aor, settings: Settings) -> Reply {
    Reply::Settings(SettingsView {
        user: user.as_str().to_owned(),
        display_name: settings.display_name,
        forward_to: settings.forward_to,
        note: settings.note,
    })
}

fn new_user(cx: &TaskCx, row: &ImportRow) -> Result<NewUser, Problem> {
    let home = match &row.pool {
        Some(name) => super::pool_named(cx, name)?,
        None => cx.with(|core| core.pool),
    };
    let user = cx.with(|core| aor(core, &row.user))?;
    Ok(NewUser {
        user,
        password: row.password.clone(),
        display_name: row.display_name.clone(),
        home,
        contacts: row.contacts.clone(),
        op: None,
    })
}

async fn import(cx: &TaskCx, rows: &[ImportRow]) -> Result<Reply, Problem> {
    let mut good = Vec::with_capacity(rows.len());
    let mut refused = Vec::new();
    for row in rows {
        match new_user(cx, row) {
            Ok(new) => good.push(new),
            Err(problem) => refused.push((row.user.clone(), problem.detail)),
        }
    }
    let imported = users::import(cx, &good).await;
    let refused_count = imported.refused_count.saturating_add(u64::try_from(refused.len()).unwrap_or(u64::MAX));
    refused.extend(imported.refused);
    refused.truncate(100);
    let again: BTreeSet<&str> = imported.unfinished.iter().map(String::as_str).collect();
    let unfinished = (0_u32..)
        .zip(rows)
        .filter(|(_, row)| cx.with(|core| aor(core, &row.user)).is_ok_and(|user| again.contains(user.as_str())))
        .map(|(number, _)| number)
        .collect();
    Ok(Reply::Imported { added: imported.added, unchanged: imported.unchanged, refused, refused_count, unfinished })
}

/// Owners of directory entries after a name, at most `limit`, and where the next page starts.
fn page(core: &Core, after: Option<&str>, limit: u32) -> (Vec<(String, PoolId)>, Option<String>) {
    let limit = usize::try_from(limit.clamp(1, 1_000)).unwrap_or(1_000);
    let start = after.and_then(|name| aor(core, name).ok()).map(|aor| aor.as_str().to_owned());
    let entries = core.host.scan_from(GroupId::CMS, start.as_deref().unwrap_or_default());
    let mut users: Vec<(String, PoolId)> = entries
        .filter(|(key, _)| key.kind == KIND_DIRECTORY && start.as_deref() != Some(&*key.owner))
        .filter_map(|(key, record)| Some((key.owner.to_string(), DirectoryEntry::decode(&record.value).ok()?.home)))
        .take(limit + 1)
        .collect();
    let more = users.len() > limit;
    users.truncate(limit);
    let next = users.last().filter(|_| more).map(|(name, _)| name.clone());
    (users, next)
}

async fn list(cx: &TaskCx, after: Option<&str>, limit: u32) -> Reply {
    let (users, next) = cx.with(|core| page(core, after, limit));
    let mut views = Vec::with_capacity(users.len());
    for (user, home) in users {
        views.push(user_view(cx, &user, home).await);
    }
    Reply::Users { users: views, next }
}

async fn user_view(cx: &TaskCx, user: &str, home: PoolId) -> UserView {
    let (key, pool) = (settings_key(user), cx.with(|core| core.topology.pool_name(home)));
    let group = cx.with(|core| crate::place::group_of(core, home, user));
    // The copy here will do, if there is one: a name is shown, nothing is decided.
    let here = cx.with(|core| group.filter(|group| core.host.role(*group).is_some()));
    let settings = match (here, group) {
        (Some(group), _) => cx.glance(group, &key),
        (None, Some(group)) if home == cx.with(|core| core.pool) => cx.read(group, &key).await,
        _ => None,
    };
    let settings = settings.and_then(|record| Settings::decode(&record.value).ok());
    UserView { user: user.to_owned(), home: pool, display_name: settings.and_then(|settings| settings.display_name) }
}

fn where_view(core: &Core, found: &WhereIs) -> WhereView {
    let place = match found.place {
        Place::NoSuchUser => "no-such-user",
        Place::Here { .. } => "here",
        Place::Elsewhere { .. } => "elsewhere",
        Place::Resiliency { .. } => "resiliency",
        Place::Unavailable { .. } => "unavailable",
    };
    WhereView {
        user: found.user.as_str().to_owned(),
        home: core.topology.pool_name(found.home),
        serving: found.serving.map(|pool| core.topology.pool_name(pool)),
        place: place.to_owned(),
        group: found.group.to_string(),
        epoch: core.host.serving(found.group).map(|(_, epoch)| epoch.to_string()).unwrap_or_default(),
        bindings: found.registrations.iter().map(|r| binding_view(core, found.user.as_str(), r)).collect(),
    }
}

fn binding_view(core: &Core, user: &str, registration: &RegistrationView) -> BindingView {
    let binding = &registration.binding;
    let flow = &binding.flow;
    let reach = match registration.reach {
        Reach::Open => "reachable",
        Reach::ThroughPeer if flow.pool == core.pool => "through-server",
        Reach::ThroughPeer => "through-partner",
        Reach::Stranded => "stranded",
    };
    BindingView {
        user: user.to_owned(),
        contact: String::from_utf8_lossy(&binding.contact).into_owned(),
        flow: format!("{} {}", flow.flow.transport.via_token(), flow.flow.remote),
        pool: core.topology.pool_name(flow.pool),
        expires_in: registration.expires_in,
        q: binding.q,
        reach: reach.to_owned(),
        guest: registration.guest,
        user_agent: String::from_utf8_lossy(&binding.user_agent).into_owned(),
    }
}

async fn registrations(cx: &TaskCx, user: Option<&str>, after: Option<&str>, limit: u32) -> Result<Reply, Problem> {
    let (users, next) = match user {
        Some(user) => (vec![cx.with(|core| aor(core, user))?], None),
        None => cx.with(|core| {
            let (users, next) = page(core, after, limit);
            (users.iter().filter_map(|(name, _)| aor(core, name).ok()).collect(), next)
        }),
    };
    let mut all = Vec::new();
    for user in users {
        let found = users::where_is(cx, &user).await?;
        all.extend(cx.with(|core| {
            let views: Vec<BindingView> =
                found.registrations.iter().map(|r| binding_view(core, user.as_str(), r)).collect();
            views
        }));
    }
    Ok(Reply::Registrations { registrations: all, next })
}
