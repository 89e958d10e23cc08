//! Contact lists and settings of users: commands for the HTTP API and the administrator.
//!
//! Owns what may be in a list and in settings. Does not own who may ask: the caller has checked that.

use crate::cx::Cx;
use crate::ident::parse_user;
use crate::records::{CONTACT, Contact, Settings, contact_key, settings_key};
use crate::remedy::{CommandError, readable, text, writable, written};
use crate::settings::DeploymentView;
use pairline_group::io::{Done, Proposal, Refusal, Write, WriteClass};
use pairline_group::{Key, OpId, Record};
use pairline_sip::uri::{Aor, Uri};

/// Longest contact address in bytes.
pub const MAX_ADDRESS: usize = 256;
/// Longest name of a contact, of a group, or display name, in bytes.
pub const MAX_NAME: usize = 256;
/// Longest note in bytes.
pub const MAX_NOTE: usize = 1024;
/// Most groups of one contact.
pub const MAX_GROUPS: usize = 32;

/// One contact with its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedContact {
    /// Address.
    pub address: String,
    /// Name and groups.
    pub contact: Contact,
}

/// A user's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactList {
    /// In order of address.
    pub contacts: Vec<ListedContact>,
    /// Read in resiliency mode: changes are refused.
    pub read_only: bool,
}

/// A change of settings; absent fields stay, an empty text clears.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsChange {
    /// Shown to others.
    pub display_name: Option<String>,
    /// Call-forward target.
    pub forward_to: Option<String>,
    /// Free text.
    pub note: Option<String>,
}

/// The de-duplication key of a user's change: the client's own session name and counter.
pub fn op_id(user: &Aor, session: &str, counter: u64) -> OpId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(user.as_str().as_bytes());
    hasher.update(&[0]);
    hasher.update(session.as_bytes());
    OpId { session: u128::from_be_bytes(crate::binding::short(&hasher.finalize())), counter }
}

/// The stored form of a contact's address: `sip:user@domain` in canonical form, or another URI as it is.
pub fn address(view: &DeploymentView, written: &str) -> Result<String, CommandError> {
    const FIELD: &str = "contact";
    let bad = CommandError::BadValue { field: FIELD, reason: "not a SIP address" };
    let written = written.trim();
    text(FIELD, written, MAX_ADDRESS)?;
    if let Some(user) = parse_user(view, written) {
        return Ok(user.as_str().to_owned());
    }
    if !written.contains(':') {
        return Aor::parse(&format!("sip:{written}")).map(|aor| aor.as_str().to_owned()).ok_or(bad);
    }
    let uri = Uri::parse(written.as_bytes()).map_err(|_| bad.clone())?;
    match uri.aor() {
        Some(aor) => Ok(aor.as_str().to_owned()),
        None if uri.is_sip() => Err(bad),
        None => Ok(written.to_owned()),
    }
}

fn decode(user: &Aor, key: &Key, record: &Record) -> Result<ListedContact, CommandError> {
    let unreadable = || CommandError::Unreadable(user.as_str().to_owned());
    let address = std::str::from_utf8(&key.item).map_err(|_| unreadable())?.to_owned();
    let contact = Contact::decode(&record.value).map_err(|_| unreadable())?;
    Ok(ListedContact { address, contact })
}

/// Reads a user's list.
pub async fn list<C: Cx>(cx: &C, user: &Aor) -> Result<ContactList, CommandError> {
    let readable = readable(cx, user)?;
    let records = cx.read_all(readable.group, user.as_str(), Some(CONTACT)).await;
    let contacts = records.iter().map(|(key, record)| decode(user, key, record)).collect::<Result<_, _>>()?;
    Ok(ContactList { contacts, read_only: readable.read_only })
}

/// Checks a contact's name and groups.
pub(crate) fn check(contact: &Contact) -> Result<(), CommandError> {
    text("name", &contact.name, MAX_NAME)?;
    if contact.groups.len() > MAX_GROUPS {
        return Err(CommandError::BadValue { field: "groups", reason: "too many" });
    }
    contact.groups.iter().try_for_each(|group| text("groups", group, MAX_NAME))
}

/// Adds or changes a contact.
pub async fn put<C: Cx>(
    cx: &C,
    user: &Aor,
    contact_address: &str,
    contact: &Contact,
    op: Option<OpId>,
) -> Result<(), CommandError> {
    let view = cx.view();
    let address = address(&view, contact_address)?;
    check(contact)?;
    let group = writable(cx, user)?;
    let key = contact_key(user.as_str(), &address);
    if cx.read(group, &key).await.is_none() {
        let count = cx.read_all(group, user.as_str(), Some(CONTACT)).await.len();
        if count >= view.max_contacts {
            return Err(CommandError::ListFull(count));
        }
    }
    let write = Write::Put { key, class: WriteClass::Durable, value: contact.encode() };
    written(cx.commit(group, Proposal { op, writes: vec![write], ..Proposal::default() }).await, user)
}

/// Removes a contact. With `op` a repeat is harmless; without, removing what is not there is an error.
pub async fn remove<C: Cx>(cx: &C, user: &Aor, contact_address: &str, op: Option<OpId>) -> Result<(), CommandError> {
    let address = address(&cx.view(), contact_address)?;
    let group = writable(cx, user)?;
    let key = contact_key(user.as_str(), &address);
    if op.is_none() && cx.read(group, &key).await.is_none() {
        return Err(CommandError::NotThere(address));
    }
    let proposal = Proposal { op, writes: vec![Write::Delete { key }], ..Proposal::default() };
    written(cx.commit(group, proposal).await, user)
}

/// Reads a user's settings.
pub async fn settings<C: Cx>(cx: &C, user: &Aor) -> Result<Settings, CommandError> {
    let readable = readable(cx, user)?;
    match cx.read(readable.group, &settings_key(user.as_str())).await {
        None => Ok(Settings::default()),
        Some(record) => Settings::decode(&record.value).map_err(|_| CommandError::Unreadable(user.as_str().to_owned())),
    }
}

fn field(old: Option<String>, new: Option<&String>) -> Option<String> {
    match new {
        None => old,
        Some(text) if text.trim().is_empty() => None,
        Some(text) => Some(text.trim().to_owned()),
    }
}

/// Checks a change and puts the call-forward target into canonical form.
fn checked(view: &DeploymentView, user: &Aor, change: &SettingsChange) -> Result<SettingsChange, CommandError> {
    const FORWARD: &str = "forward_to";
    text("display_name", change.display_name.as_deref().unwrap_or_default(), MAX_NAME)?;
    text("note", change.note.as_deref().unwrap_or_default(), MAX_NOTE)?;
    let mut change = change.clone();
    if let Some(target) = change.forward_to.as_mut().filter(|t| !t.trim().is_empty()) {
        let reason = "calls can only be forwarded to a user of this deployment";
        let aor = parse_user(view, target).ok_or(CommandError::BadValue { field: FORWARD, reason })?;
        if aor == *user {
            return Err(CommandError::BadValue { field: FORWARD, reason: "a user cannot forward to itself" });
        }
        *target = aor.as_str().to_owned();
    }
    Ok(change)
}

/// Changes a user's settings and returns them as they are then.
pub async fn change_settings<C: Cx>(cx: &C, user: &Aor, change: &SettingsChange) -> Result<Settings, CommandError> {
    let change = checked(&cx.view(), user, change)?;
    let group = writable(cx, user)?;
    let key = settings_key(user.as_str());
    // One retry: somebody else changed another field meanwhile.
    for last in [false, true] {
        let record = cx.read(group, &key).await;
        let old = match &record {
            None => Settings::default(),
            Some(r) => Settings::decode(&r.value).map_err(|_| CommandError::Unreadable(user.as_str().to_owned()))?,
        };
        let new = Settings {
            display_name: field(old.display_name, change.display_name.as_ref()),
            forward_to: field(old.forward_to, change.forward_to.as_ref()),
            note: field(old.note, change.note.as_ref()),
        };
        let proposal = Proposal {
            reads: vec![(key.clone(), record.map(|r| r.version))],
            writes: vec![Write::Put { key: key.clone(), class: WriteClass::Durable, value: new.encode() }],
            ..Proposal::default()
        };
        match cx.commit(group, proposal).await {
            Done::Refused(Refusal::Conflict(_)) if !last => {}
            done => return written(done, user).map(|()| new),
        }
    }
    Err(CommandError::Refused(Refusal::Busy))
}
