//! Subscriptions: a dialog in which this deployment notifies (RFC 6665), as a record of the watched user's group.
//!
//! Owns the stored form and its name. The notifier's CSeq is given out in blocks: every number up to `reserved` may
//! have been used, so a server that goes on with a dialog takes a block beyond it and never repeats one. Does not own who
//! may subscribe nor what is told (`regevent`), nor what was told last (`watching`).

use crate::binding::{FlowRef, short};
use crate::records::DecodeError;
use bytes::Bytes;
use pairline_group::{Class, Millis, Record};
use serde::{Deserialize, Serialize};

/// Version of the stored form.
pub const SUBSCRIPTION_VERSION: u8 = 1;
/// CSeq numbers that are reserved at a time.
pub const BLOCK: u32 = 32;

/// One subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Name of the record: a hash of the dialog's id.
    pub id: [u8; 16],
    /// Event package.
    pub package: Box<[u8]>,
    /// The Event header's `id`, if the subscriber gave one.
    pub event_id: Option<Box<[u8]>>,
    /// Canonical address of the subscriber.
    pub subscriber: Box<str>,
    /// Call-ID of the dialog.
    pub call_id: Box<[u8]>,
    /// Our tag.
    pub local_tag: Box<[u8]>,
    /// The subscriber's tag.
    pub remote_tag: Box<[u8]>,
    /// URI of the SUBSCRIBE's To.
    pub local_uri: Box<[u8]>,
    /// URI of the SUBSCRIBE's From.
    pub remote_uri: Box<[u8]>,
    /// The subscriber's contact URI.
    pub target: Box<[u8]>,
    /// Route set: URIs, nearest to us first.
    pub routes: Vec<Box<[u8]>>,
    /// CSeq of the last SUBSCRIBE.
    pub remote_cseq: u32,
    /// The highest CSeq of a NOTIFY that may have been used.
    pub reserved: u32,
    /// Wall-clock milliseconds at which it ends; taken from the record's class when read from a record.
    pub expires: Millis,
    /// The flow on which the SUBSCRIBE came.
    pub flow: FlowRef,
}

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    id: [u8; 16],
    #[serde(borrow)]
    package: &'a [u8],
    event_id: Option<&'a [u8]>,
    subscriber: &'a str,
    call_id: &'a [u8],
    local_tag: &'a [u8],
    remote_tag: &'a [u8],
    local_uri: &'a [u8],
    remote_uri: &'a [u8],
    target: &'a [u8],
    routes: Vec<&'a [u8]>,
    remote_cseq: u32,
    reserved: u32,
    expires: u64,
    flow: Vec<u8>,
}

impl Subscription {
    /// The name of a dialog's record.
    pub fn id_for(call_id: &[u8], local_tag: &[u8], remote_tag: &[u8]) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        for part in [call_id, local_tag, remote_tag] {
            hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(part);
        }
        short(&hasher.finalize())
    }

    /// Encodes with the version byte.
    pub fn encode(&self) -> Bytes {
        let stored = Stored {
            id: self.id,
            package: &self.package,
            event_id: self.event_id.as_deref(),
            subscriber: &self.subscriber,
            call_id: &self.call_id,
            local_tag: &self.local_tag,
            remote_tag: &self.remote_tag,
            local_uri: &self.local_uri,
            remote_uri: &self.remote_uri,
            target: &self.target,
            routes: self.routes.iter().map(|route| &**route).collect(),
            remote_cseq: self.remote_cseq,
            reserved: self.reserved,
            expires: self.expires,
            flow: self.flow.to_bytes(),
        };
        let bytes = postcard::to_extend(&stored, vec![SUBSCRIPTION_VERSION]).expect("encoding into memory cannot fail");
        Bytes::from(bytes)
    }

    /// Decodes a stored value.
    pub fn decode(value: &[u8]) -> Result<Subscription, DecodeError> {
        let body = crate::records::body_of(value, SUBSCRIPTION_VERSION)?;
        let stored: Stored<'_> = postcard::from_bytes(body).map_err(DecodeError::Malformed)?;
        Ok(Subscription {
            id: stored.id,
            package: stored.package.into(),
            event_id: stored.event_id.map(Box::from),
            subscriber: stored.subscriber.into(),
            call_id: stored.call_id.into(),
            local_tag: stored.local_tag.into(),
            remote_tag: stored.remote_tag.into(),
            local_uri: stored.local_uri.into(),
            remote_uri: stored.remote_uri.into(),
            target: stored.target.into(),
            routes: stored.routes.iter().map(|route| Box::from(*route)).collect(),
            remote_cseq: stored.remote_cseq,
            reserved: stored.reserved,
            expires: stored.expires,
            flow: FlowRef::from_bytes(&stored.flow).ok_or(DecodeError::Value("flow"))?,
        })
    }

    /// Decodes a record; its class decides when the subscription ends, since a change of serving pool may have extended it.
    pub fn from_record(record: &Record) -> Result<Subscription, DecodeError> {
        let mut subscription = Subscription::decode(&record.value)?;
        if let Class::Soft { expires } = record.class {
            subscription.expires = expires;
        }
        Ok(subscription)
    }

    /// Seconds left, rounded up; 0 once it has ended.
    pub fn seconds_left(&self, wall: Millis) -> u64 {
        self.expires.saturating_sub(wall).div_ceil(1000)
    }
}
