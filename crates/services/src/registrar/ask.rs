//! What a REGISTER asks for, read out of the message.
//!
//! Owns the reading and its bounds. Decides nothing.

use crate::binding::{Binding, FlowRef, short};
use crate::parts::Parts;
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::name_addr::NameAddr;
use pairline_sip::uri::{Aor, Uri};

/// Most contacts that one REGISTER may carry.
pub const MAX_CONTACTS: usize = 16;
/// Longest contact URI, in bytes.
const MAX_URI: usize = 512;
/// Longest parameters of a contact, in bytes.
const MAX_PARAMS: usize = 512;
/// Longest Path beyond our own servers.
const MAX_PATH: usize = 8;
/// Kept of a User-Agent, in bytes.
const MAX_AGENT: usize = 80;

/// One contact of a REGISTER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskContact {
    /// URI as given.
    pub uri: Box<[u8]>,
    /// Parameters but `expires` and `q`, each with its `;`.
    pub params: Box<[u8]>,
    /// Preference in thousandths.
    pub q: u16,
    /// Expiry wished in seconds (from the parameter, else the header); `None`: the default.
    pub expires: Option<u32>,
    /// `+sip.instance`.
    pub instance: Option<Box<[u8]>>,
    /// `reg-id`.
    pub reg_id: Option<u32>,
}

/// A REGISTER's wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Call-ID.
    pub call_id: Box<[u8]>,
    /// CSeq number.
    pub cseq: u32,
    /// `Contact: *` with Expires 0.
    pub star: bool,
    /// Contacts; none and no star: only asked.
    pub contacts: Vec<AskContact>,
    /// Operation id: hash of user, Call-ID, CSeq and contacts.
    pub op: [u8; 16],
    /// Path beyond our own servers, nearest first.
    pub path: Vec<Box<[u8]>>,
    /// The flow that reaches the client.
    pub flow: FlowRef,
    /// The client's name.
    pub user_agent: Box<[u8]>,
}

/// Why a REGISTER cannot be read. Each has its status and words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// `*` beside contacts, or without Expires 0 (RFC 3261 §10.3 step 6).
    #[error("Contact * needs Expires 0 and no other contact")]
    Star,
    /// More contacts than [`MAX_CONTACTS`].
    #[error("Too Many Contacts")]
    TooMany,
    /// A contact that cannot be called: no SIP URI, or too long.
    #[error("Contact Not Usable")]
    Contact,
    /// A Path longer than is kept.
    #[error("Path Too Long")]
    Path,
    /// A flow of an instance beside other contacts (RFC 5626 §6).
    #[error("One Contact Only With reg-id")]
    Flows,
    /// A contact that is a GRUU of this user: it would lead back to itself (RFC 5627 §5.1).
    #[error("Contact Is A GRUU")]
    Gruu,
}

/// The numeric value of `expires`; a malformed one counts as 3600 (RFC 3261 §10.2.1.1).
fn expires_of(contact: &NameAddr<'_>, header: Option<u32>) -> Option<u32> {
    if contact.has_param("expires") { Some(contact.expires().unwrap_or(3600)) } else { header }
}

fn read_contact(user: &Aor, contact: &NameAddr<'_>, header: Option<u32>) -> Result<AskContact, AskError> {
    let uri = Uri::parse(contact.uri).map_err(|_| AskError::Contact)?;
    let mut params = Vec::new();
    for param in contact.params.iter() {
        // GRUUs are ours to say: what a client repeats of them is not kept (RFC 5627 §5.1).
        if [&b"expires"[..], b"q", b"pub-gruu", b"temp-gruu"].iter().any(|own| param.name.eq_ignore_ascii_case(own)) {
            continue;
        }
        params.push(b';');
        params.extend_from_slice(param.name);
        if let Some(value) = param.raw_value {
            params.push(b'=');
            params.extend_from_slice(value);
        }
    }
    if !uri.is_sip() || contact.uri.len() > MAX_URI || params.len() > MAX_PARAMS {
        return Err(AskError::Contact);
    }
    if uri.has_param("gr") && uri.aor().is_some_and(|aor| aor.domain() == user.domain()) {
        return Err(AskError::Gruu);
    }
    let instance: Option<Box<[u8]>> = contact.param("+sip.instance").filter(|i| !i.is_empty()).map(Box::from);
    let number = |value: &[u8]| std::str::from_utf8(value).ok().and_then(|v| v.parse::<u32>().ok());
    Ok(AskContact {
        uri: contact.uri.into(),
        params: params.into(),
        q: contact.q().unwrap_or(1000),
        expires: expires_of(contact, header),
        // Without an instance the number of a flow means nothing (RFC 5626 §6).
        reg_id: instance.as_ref().and_then(|_| contact.param("reg-id")).and_then(number).filter(|id| *id > 0),
        instance,
    })
}

/// The operation id of a REGISTER: what makes a repeat a repeat, on whichever server it arrives.
fn operation(user: &Aor, request: &Message) -> [u8; 16] {
    let mut parts = Parts::default();
    let mut part = |bytes: &[u8]| parts.push(bytes);
    part(user.as_str().as_bytes());
    part(request.call_id());
    part(&request.cseq().0.to_be_bytes());
    for value in request.headers(Name::Contact) {
        part(value);
    }
    part(request.header(Name::Expires).unwrap_or_default());
    short(&parts.hash())
}

impl Ask {
    /// Whether it says anything of a binding: its contact, or all.
    pub fn means(&self, binding: &Binding) -> bool {
        self.star || self.contacts.iter().any(|contact| contact.is_of(binding))
    }

    /// Reads a REGISTER. `flow` reaches the client; `own_path` values at the top of Path are ours and are not kept.
    pub fn read(user: &Aor, request: &Message, flow: FlowRef, own_path: usize) -> Result<Ask, AskError> {
        let list = request.contacts();
        let star = list.star;
        let header = request.header(Name::Expires).map(|_| request.expires().unwrap_or(3600));
        let mut contacts = Vec::new();
        for contact in list {
            if contacts.len() == MAX_CONTACTS {
                return Err(AskError::TooMany);
            }
            contacts.push(read_contact(user, &contact, header)?);
        }
        if star && (!contacts.is_empty() || header != Some(0)) {
            return Err(AskError::Star);
        }
        let kept = contacts.iter().filter(|contact| contact.expires != Some(0));
        if contacts.iter().any(|contact| contact.reg_id.is_some()) && kept.count() > 1 {
            return Err(AskError::Flows);
        }
        let path: Vec<Box<[u8]>> = request.paths().skip(own_path).map(|p| Box::from(p.uri)).collect();
        if path.len() > MAX_PATH || path.iter().any(|p| p.len() > MAX_URI) {
            return Err(AskError::Path);
        }
        let agent = request.header(Name::UserAgent).unwrap_or_default();
        Ok(Ask {
            call_id: request.call_id().into(),
            cseq: request.cseq().0,
            star,
            contacts,
            op: operation(user, request),
            path,
            flow,
            user_agent: agent[..agent.len().min(MAX_AGENT)].into(),
        })
    }
}

impl AskContact {
    /// Whether a binding is this contact's: the same instance (and reg-id), or an equal URI (RFC 3261 §10.3 step 7,
    /// RFC 5626 §6). Of two flows the URIs say nothing: two clients behind two NATs may well have the same.
    pub fn is_of(&self, binding: &Binding) -> bool {
        if self.reg_id.is_some() && binding.reg_id.is_some() {
            return self.reg_id == binding.reg_id && self.instance == binding.instance;
        }
        if self.instance.is_some() && self.instance == binding.instance && self.reg_id == binding.reg_id {
            return true;
        }
        if self.uri == binding.contact {
            return true;
        }
        match (Uri::parse(&self.uri), Uri::parse(&binding.contact)) {
            (Ok(a), Ok(b)) => a.equals(&b),
            _ => false,
        }
    }
}
