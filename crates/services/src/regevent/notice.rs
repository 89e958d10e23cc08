//! One notification: the numbers it takes and the NOTIFY as it is to be sent (RFC 6665 §4.2.2).
//!
//! Owns its headers. Does not own the way to the subscriber (`proxy`).

use super::document;
use crate::subscription::Subscription;
use pairline_group::Millis;
use pairline_sip::uri::Aor;

/// How a subscription stands after a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It goes on.
    Active,
    /// Over, for this reason (RFC 6665 §4.1.3).
    Terminated(&'static str),
}

/// A notification to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Who is watched.
    pub user: Aor,
    /// Whom it is for.
    pub subscription: Subscription,
    /// Its CSeq.
    pub cseq: u32,
    /// What is said of the subscription.
    pub standing: Standing,
    /// The document.
    pub body: String,
}

impl Notice {
    /// Its headers but those that the way decides (Via, Route, Contact, Max-Forwards), in order.
    pub fn headers(&self, wall: Millis) -> Vec<(&'static str, Vec<u8>)> {
        let sub = &self.subscription;
        let mut event = sub.package.to_vec();
        if let Some(id) = &sub.event_id {
            event.extend_from_slice(b";id=");
            event.extend_from_slice(id);
        }
        let state = match self.standing {
            Standing::Active => format!("active;expires={}", sub.seconds_left(wall)),
            Standing::Terminated(reason) => format!("terminated;reason={reason}"),
        };
        vec![
            ("From", party(&sub.local_uri, &sub.local_tag)),
            ("To", party(&sub.remote_uri, &sub.remote_tag)),
            ("Call-ID", sub.call_id.to_vec()),
            ("CSeq", format!("{} NOTIFY", self.cseq).into_bytes()),
            ("Event", event),
            ("Subscription-State", state.into_bytes()),
        ]
    }

    /// MIME type of the body.
    pub fn content_type(&self) -> &'static str {
        document::TYPE
    }
}

fn party(uri: &[u8], tag: &[u8]) -> Vec<u8> {
    [&b"<"[..], uri, b">;tag=", tag].concat()
}
