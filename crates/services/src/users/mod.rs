//! Users: added, imported, removed, shown; their passwords and registrations. Commands for the administrator.
//!
//! Owns the saga over two groups (directory entry in `cms`, credential and settings in the user's group) and its repair.
//! Does not own the directory's form (`pairline_topology::directory`) nor contact lists.

mod import;
mod registrations;

pub use import::{Imported, import};
pub use registrations::{RegistrationView, WhereIs, drop_registrations, where_is};

use crate::cx::Cx;
use crate::records::{Contact, Credential, Settings, contact_key, credential_key, settings_key};
use crate::remedy::{CommandError, readable, text, writable, written};
use crate::settings::DeploymentView;
use pairline_group::io::{Done, Proposal, Refusal, Write, WriteClass};
use pairline_group::{GroupId, OpId, PoolId};
use pairline_sip::uri::Aor;
use pairline_topology::directory::{self, DirectoryEntry};

/// Longest password in bytes.
pub const MAX_PASSWORD: usize = 256;
/// Longest display name in bytes.
pub const MAX_NAME: usize = 256;

/// A user to be added.
#[derive(Clone, PartialEq, Eq)]
pub struct NewUser {
    /// Who.
    pub user: Aor,
    /// Its password; only hashes of it are kept.
    pub password: String,
    /// Shown to others.
    pub display_name: Option<String>,
    /// Home pool.
    pub home: PoolId,
    /// Addresses for the contact list, in stored form.
    pub contacts: Vec<String>,
    /// De-duplication key of the saga; the same in both groups.
    pub op: Option<OpId>,
}

impl std::fmt::Debug for NewUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewUser").field("user", &self.user).field("home", &self.home).finish_non_exhaustive()
    }
}

/// What adding a user did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// The user is new.
    New,
    /// An earlier attempt had stopped half-way; it is complete now.
    Completed,
}

/// A user as shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserInfo {
    /// Who.
    pub user: Aor,
    /// Home pool.
    pub home: PoolId,
    /// Routing group.
    pub group: GroupId,
    /// Whether the user may sign in.
    pub enabled: bool,
    /// Settings, as far as a local copy has them.
    pub settings: Settings,
    /// Whether the user has a credential; if not, it is half made: repeat the command that made it.
    pub complete: bool,
}

/// The directory entry of a user, from the local copy of the management store.
pub async fn entry_of<C: Cx>(cx: &C, user: &Aor) -> Result<Option<DirectoryEntry>, CommandError> {
    let Some(record) = cx.read(GroupId::CMS, &directory::user_key(user.as_str())).await else {
        return Ok(None);
    };
    let entry = DirectoryEntry::decode(&record.value);
    entry.map(Some).map_err(|_| CommandError::Unreadable(user.as_str().to_owned()))
}

fn check(view: &DeploymentView, new: &NewUser) -> Result<GroupId, CommandError> {
    let name = new.user.as_str();
    if directory::aor(new.user.user(), new.user.domain()).as_deref() != Some(name)
        || view.domain(new.user.domain()).is_none()
    {
        return Err(CommandError::BadUser(name.to_owned()));
    }
    check_password(&new.password)?;
    text("display_name", new.display_name.as_deref().unwrap_or_default(), MAX_NAME)?;
    if new.contacts.len() > view.max_contacts {
        return Err(CommandError::ListFull(view.max_contacts));
    }
    view.group_of(new.home, name).ok_or(CommandError::NoSuchPool(new.home))
}

fn check_password(password: &str) -> Result<(), CommandError> {
    if password.is_empty() {
        return Err(CommandError::BadValue { field: "password", reason: "empty" });
    }
    text("password", password, MAX_PASSWORD)
}

fn sealed<C: Cx>(cx: &C, view: &DeploymentView, user: &Aor, password: &str) -> Write {
    let realm = view.realm(user.domain());
    let credential = Credential::from_password(&view.stored_algorithms, user.user(), realm, password);
    let value = credential.seal(&view.sealing_key, user.as_str(), cx.random());
    Write::Put { key: credential_key(user.as_str()), class: WriteClass::Durable, value }
}

/// The first half of the saga: the directory entry.
fn directory_write(new: &NewUser) -> Write {
    let entry = DirectoryEntry { home: new.home, enabled: true };
    Write::Put { key: directory::user_key(new.user.as_str()), class: WriteClass::Durable, value: entry.encode() }
}

/// The second half: what lies in the user's own group.
fn data_writes<C: Cx>(cx: &C, view: &DeploymentView, new: &NewUser) -> Vec<Write> {
    let name = new.user.as_str();
    let settings = Settings { display_name: new.display_name.clone(), ..Settings::default() };
    let durable = |key, value| Write::Put { key, class: WriteClass::Durable, value };
    let mut writes = vec![sealed(cx, view, &new.user, &new.password), durable(settings_key(name), settings.encode())];
    for address in &new.contacts {
        writes.push(durable(contact_key(name, address), Contact::default().encode()));
    }
    writes
}

/// Adds a user. Repeating it after a failure completes what was half done.
pub async fn add<C: Cx>(cx: &C, new: &NewUser) -> Result<Added, CommandError> {
    let view = cx.view();
    let group = check(&view, new)?;
    let name = new.user.as_str();
    let known = entry_of(cx, &new.user).await?;
    if let Some(entry) = known {
        let complete = cx.read(group, &credential_key(name)).await.is_some();
        if entry.home != new.home || complete {
            return Err(CommandError::Exists { user: name.to_owned(), home: view.pool_label(entry.home) });
        }
    } else {
        let key = directory::user_key(name);
        let proposal = Proposal {
            op: new.op,
            reads: vec![(key, None)],
            writes: vec![directory_write(new)],
            ..Proposal::default()
        };
        written(cx.commit(GroupId::CMS, proposal).await, &new.user)?;
    }
    let proposal = Proposal {
        op: new.op,
        reads: vec![(credential_key(name), None)],
        writes: data_writes(cx, &view, new),
        ..Proposal::default()
    };
    written(cx.commit(group, proposal).await, &new.user)?;
    Ok(if known.is_some() { Added::Completed } else { Added::New })
}

/// Sets a password; whoever is signed in stays so until its next challenge.
pub async fn set_password<C: Cx>(cx: &C, user: &Aor, password: &str) -> Result<(), CommandError> {
    check_password(password)?;
    let group = writable(cx, user)?;
    let write = sealed(cx, &cx.view(), user, password);
    written(cx.commit(group, Proposal { writes: vec![write], ..Proposal::default() }).await, user)
}

/// Shows a user.
pub async fn show<C: Cx>(cx: &C, user: &Aor) -> Result<UserInfo, CommandError> {
    let missing = || CommandError::NoSuchUser(user.as_str().to_owned());
    let entry = entry_of(cx, user).await?.ok_or_else(missing)?;
    let group = cx.view().group_of(entry.home, user.as_str()).ok_or(CommandError::NoSuchPool(entry.home))?;
    let settings = match cx.read(group, &settings_key(user.as_str())).await {
        Some(record) => {
            Settings::decode(&record.value).map_err(|_| CommandError::Unreadable(user.as_str().to_owned()))?
        }
        None => Settings::default(),
    };
    let complete = cx.read(group, &credential_key(user.as_str())).await.is_some();
    Ok(UserInfo { user: user.clone(), home: entry.home, group, enabled: entry.enabled, settings, complete })
}

/// Removes a user with all its records. The user's own group goes first: if the rest fails, the entry still tells where to
/// look, and repeating the command completes it.
pub async fn remove<C: Cx>(cx: &C, user: &Aor) -> Result<(), CommandError> {
    let entry = entry_of(cx, user).await?.ok_or_else(|| CommandError::NoSuchUser(user.as_str().to_owned()))?;
    if readable(cx, user)?.read_only {
        return Err(CommandError::Limited(user.as_str().to_owned()));
    }
    let group = cx.view().group_of(entry.home, user.as_str()).ok_or(CommandError::NoSuchPool(entry.home))?;
    // Several rounds, since a registration may slip in and a proposal has a limit.
    for _ in 0..8 {
        let records = cx.read_all(group, user.as_str(), None).await;
        if records.is_empty() {
            break;
        }
        let writes = records.into_iter().take(2048).map(|(key, _)| Write::Delete { key }).collect();
        let done = cx.commit(group, Proposal { writes, ..Proposal::default() }).await;
        let nothing_left = matches!(done, Done::NoChange(_));
        written(done, user)?;
        if nothing_left {
            break;
        }
    }
    let writes = vec![Write::Delete { key: directory::user_key(user.as_str()) }];
    written(cx.commit(GroupId::CMS, Proposal { writes, ..Proposal::default() }).await, user)
}

/// Whether a refusal says that another change was faster.
fn is_conflict(done: &Done) -> bool {
    matches!(done, Done::Refused(Refusal::Conflict(_)))
}
