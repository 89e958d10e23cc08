//! Bindings: a contact of a user and the flow that reaches it.
//!
//! Owns the stored form and its encoding. Does not own when one is made (`registrar`) or used (`proxy`).

use crate::records::DecodeError;
use bytes::Bytes;
use pairline_group::{Class, Millis, PoolId, Record, ServerId};
use pairline_sip::flow::{Flow, Transport};
use serde::{Deserialize, Serialize, Serializer};
use std::net::SocketAddr;

/// Version of the stored form that is written. Version 1, which ends before `since`, is still read.
pub const BINDING_VERSION: u8 = 2;
/// The first stored form.
const FIRST_VERSION: u8 = 1;
/// What a stored form takes as a rule, in bytes.
const ROOM: usize = 320;

/// A flow together with the process that owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowRef {
    /// Pool of the owner.
    pub pool: PoolId,
    /// The owning server.
    pub server: ServerId,
    /// Start number of the owning process: a flow of an earlier start is gone.
    pub boot: u64,
    /// The flow itself, as the owner sees it.
    pub flow: Flow,
}

/// One binding of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Name of the record among the user's bindings: a hash of instance and reg-id, or of the contact.
    pub id: [u8; 16],
    /// Contact URI, as the client gave it.
    pub contact: Box<[u8]>,
    /// Contact parameters but `expires` and `q`, as given, each with its leading `;`.
    pub params: Box<[u8]>,
    /// Preference in thousandths.
    pub q: u16,
    /// Call-ID of the REGISTER.
    pub call_id: Box<[u8]>,
    /// CSeq of the REGISTER.
    pub cseq: u32,
    /// Seconds that were granted.
    pub granted: u32,
    /// Wall-clock milliseconds at which it ends; taken from the record's class when read from a record.
    pub expires: Millis,
    /// Wall-clock milliseconds of the last REGISTER.
    pub refreshed: Millis,
    /// Wall-clock milliseconds since when the device is registered without a break under this Call-ID: temporary GRUUs
    /// that are older are void (RFC 5627).
    pub since: Millis,
    /// Path beyond our own servers (RFC 3327), nearest to us first; each a URI.
    pub path: Vec<Box<[u8]>>,
    /// `+sip.instance`, if the client has one (RFC 5626).
    pub instance: Option<Box<[u8]>>,
    /// `reg-id` (RFC 5626).
    pub reg_id: Option<u32>,
    /// The flow that reaches it, and its owner.
    pub flow: FlowRef,
    /// The client's name, cut to 80 bytes.
    pub user_agent: Box<[u8]>,
    /// Hash of user, Call-ID, CSeq and contacts of the REGISTER that wrote it.
    pub op: [u8; 16],
}

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    id: [u8; 16],
    #[serde(borrow, serialize_with = "at_once")]
    contact: &'a [u8],
    #[serde(serialize_with = "at_once")]
    params: &'a [u8],
    q: u16,
    #[serde(serialize_with = "at_once")]
    call_id: &'a [u8],
    cseq: u32,
    granted: u32,
    expires: u64,
    refreshed: u64,
    path: Vec<&'a [u8]>,
    instance: Option<&'a [u8]>,
    reg_id: Option<u32>,
    flow: StoredFlow,
    #[serde(serialize_with = "at_once")]
    user_agent: &'a [u8],
    op: [u8; 16],
}

/// Bytes in one piece, which is the form of a list of them too.
fn at_once<S: Serializer>(bytes: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

#[derive(Serialize, Deserialize)]
struct StoredFlow {
    pool: u16,
    server: u32,
    boot: u64,
    transport: u8,
    listener: u16,
    remote: SocketAddr,
    connection: u64,
}

/// Stored number of a transport.
pub(crate) fn transport_code(transport: Transport) -> u8 {
    match transport {
        Transport::Udp => 1,
        Transport::Tcp => 2,
        Transport::Tls => 3,
        Transport::Ws => 4,
        Transport::Wss => 5,
        Transport::Peer => 6,
    }
}

/// Transport of a stored number.
pub(crate) fn transport_of(code: u8) -> Option<Transport> {
    Some(match code {
        1 => Transport::Udp,
        2 => Transport::Tcp,
        3 => Transport::Tls,
        4 => Transport::Ws,
        5 => Transport::Wss,
        6 => Transport::Peer,
        _ => return None,
    })
}

impl FlowRef {
    fn store(&self) -> StoredFlow {
        StoredFlow {
            pool: self.pool.0,
            server: self.server.0,
            boot: self.boot,
            transport: transport_code(self.flow.transport),
            listener: self.flow.listener,
            remote: self.flow.remote,
            connection: self.flow.connection,
        }
    }

    fn restore(stored: &StoredFlow) -> Option<FlowRef> {
        Some(FlowRef {
            pool: PoolId(stored.pool),
            server: ServerId(stored.server),
            boot: stored.boot,
            flow: Flow {
                transport: transport_of(stored.transport)?,
                listener: stored.listener,
                remote: stored.remote,
                connection: stored.connection,
            },
        })
    }

    /// Compact bytes for flow tokens (no version: the token has one).
    pub fn to_bytes(self) -> Vec<u8> {
        postcard::to_stdvec(&self.store()).expect("encoding into memory cannot fail")
    }

    /// Reverse of [`FlowRef::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Option<FlowRef> {
        FlowRef::restore(&postcard::from_bytes(bytes).ok()?)
    }
}

impl Binding {
    /// Encodes with the version byte.
    pub fn encode(&self) -> Bytes {
        let stored = Stored {
            id: self.id,
            contact: &self.contact,
            params: &self.params,
            q: self.q,
            call_id: &self.call_id,
            cseq: self.cseq,
            granted: self.granted,
            expires: self.expires,
            refreshed: self.refreshed,
            path: self.path.iter().map(|p| &**p).collect(),
            instance: self.instance.as_deref(),
            reg_id: self.reg_id,
            flow: self.flow.store(),
            user_agent: &self.user_agent,
            op: self.op,
        };
        let mut bytes = Vec::with_capacity(ROOM);
        bytes.push(BINDING_VERSION);
        let bytes = postcard::to_extend(&stored, bytes).expect("encoding into memory cannot fail");
        Bytes::from(postcard::to_extend(&self.since, bytes).expect("encoding into memory cannot fail"))
    }

    /// Decodes a stored value.
    pub fn decode(value: &[u8]) -> Result<Binding, DecodeError> {
        let (version, body) = value.split_first().ok_or(DecodeError::Empty)?;
        if !(FIRST_VERSION..=BINDING_VERSION).contains(version) {
            return Err(DecodeError::Version(*version));
        }
        let (stored, rest): (Stored<'_>, _) = postcard::take_from_bytes(body).map_err(DecodeError::Malformed)?;
        let since = match *version {
            FIRST_VERSION => stored.refreshed,
            _ => postcard::from_bytes(rest).map_err(DecodeError::Malformed)?,
        };
        let flow = FlowRef::restore(&stored.flow).ok_or(DecodeError::Value("transport"))?;
        Ok(Binding {
            id: stored.id,
            contact: stored.contact.into(),
            params: stored.params.into(),
            q: stored.q,
            call_id: stored.call_id.into(),
            cseq: stored.cseq,
            granted: stored.granted,
            expires: stored.expires,
            refreshed: stored.refreshed,
            since,
            path: stored.path.iter().map(|p| Box::from(*p)).collect(),
            instance: stored.instance.map(Box::from),
            reg_id: stored.reg_id,
            flow,
            user_agent: stored.user_agent.into(),
            op: stored.op,
        })
    }

    /// The flow of a stored value, read without a copy of anything.
    ///
    /// # Errors
    /// As [`Binding::decode`], but that what follows the flow is not looked at.
    pub fn flow_of(value: &[u8]) -> Result<FlowRef, DecodeError> {
        let (version, body) = value.split_first().ok_or(DecodeError::Empty)?;
        if !(FIRST_VERSION..=BINDING_VERSION).contains(version) {
            return Err(DecodeError::Version(*version));
        }
        let (stored, _): (Stored<'_>, _) = postcard::take_from_bytes(body).map_err(DecodeError::Malformed)?;
        FlowRef::restore(&stored.flow).ok_or(DecodeError::Value("transport"))
    }

    /// Decodes a record; its class decides when the binding ends, since a change of serving pool may have extended it.
    pub fn from_record(record: &Record) -> Result<Binding, DecodeError> {
        let mut binding = Binding::decode(&record.value)?;
        if let Class::Soft { expires } = record.class {
            binding.expires = expires;
        }
        Ok(binding)
    }

    /// Seconds left, rounded up; 0 once it has ended.
    pub fn seconds_left(&self, wall: Millis) -> u64 {
        self.expires.saturating_sub(wall).div_ceil(1000)
    }

    /// The name of a binding's record: by instance and reg-id where the client has an instance, else by contact.
    pub fn id_for(instance: Option<&[u8]>, reg_id: Option<u32>, contact: &[u8]) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        match instance {
            Some(instance) => {
                hasher.update(b"instance");
                hasher.update(instance);
                hasher.update(&reg_id.unwrap_or(0).to_be_bytes());
            }
            None => {
                hasher.update(b"contact");
                hasher.update(contact);
            }
        }
        short(&hasher.finalize())
    }
}

/// The first 16 bytes of a hash.
pub(crate) fn short(hash: &blake3::Hash) -> [u8; 16] {
    let mut out = [0_u8; 16];
    out.copy_from_slice(&hash.as_bytes()[..16]);
    out
}
