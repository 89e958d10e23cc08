//! Classes of requests, from what must always go through to what can wait.
//!
//! Owns their order, their weights, and the choice of a message's class from its bytes. Decides nothing.

use pairline_sip::glance::Glance;

/// A class; the first is the last to be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Class {
    /// An emergency call.
    Emergency,
    /// Part of what is going on already: requests inside a dialog, BYE, CANCEL, PRACK. ACKs and responses are not even weighed.
    InDialog,
    /// A REGISTER with credentials: a refresh, or the answer to a challenge.
    Refresh,
    /// A new call.
    Invite,
    /// A message outside dialogs.
    Message,
    /// A new subscription or publication.
    Subscribe,
    /// A REGISTER without credentials: of somebody who is not registered, and will be challenged.
    Register,
    /// OPTIONS, and whatever else begins something new.
    Other,
    /// A repetition of what was let fall unseen: its client waits already, and those that come for the first time need not.
    Again,
}

impl Class {
    /// All, in order; `Class as usize` is the index.
    pub const ALL: [Class; 9] = [
        Class::Emergency,
        Class::InDialog,
        Class::Refresh,
        Class::Invite,
        Class::Message,
        Class::Subscribe,
        Class::Register,
        Class::Other,
        Class::Again,
    ];

    /// Stable name, as on `/metrics`.
    pub fn name(self) -> &'static str {
        match self {
            Class::Emergency => "emergency",
            Class::InDialog => "in-dialog",
            Class::Refresh => "refresh",
            Class::Invite => "invite",
            Class::Message => "message",
            Class::Subscribe => "subscribe",
            Class::Register => "register",
            Class::Other => "other",
            Class::Again => "again",
        }
    }

    /// What one costs, in units: a REGISTER refresh is one. A call's counts for all that follows in its dialog; what a repetition repeats
    /// is not asked.
    pub fn weight(self) -> u32 {
        match self {
            Class::Emergency | Class::Invite => 4,
            Class::Message | Class::Subscribe | Class::Again => 2,
            Class::InDialog | Class::Refresh | Class::Register | Class::Other => 1,
        }
    }

    /// Whether one may be let fall unseen: neither part of what is going on nor a call.
    pub fn may_fall(self) -> bool {
        matches!(
            self,
            Class::Refresh | Class::Message | Class::Subscribe | Class::Register | Class::Other | Class::Again
        )
    }

    /// Of a message at a glance; never [`Class::Again`], which only who let it fall knows; `None` for what is not weighed: responses, ACKs, and what is no SIP. `emergency` says whether a
    /// Request-URI is an emergency service's; it is asked for calls and messages only.
    pub fn of(seen: &Glance<'_>, emergency: impl Fn(&[u8]) -> bool) -> Option<Class> {
        Some(match seen.method {
            b"" | b"ACK" => return None,
            b"REGISTER" if seen.credentials.is_some() => Class::Refresh,
            b"REGISTER" => Class::Register,
            b"CANCEL" | b"BYE" | b"PRACK" => Class::InDialog,
            _ if !seen.to_tag.is_empty() => Class::InDialog,
            b"INVITE" | b"MESSAGE" if emergency(seen.uri) => Class::Emergency,
            b"INVITE" => Class::Invite,
            b"MESSAGE" => Class::Message,
            b"SUBSCRIBE" | b"PUBLISH" => Class::Subscribe,
            _ => Class::Other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(text: &str) -> Option<Class> {
        let emergency = |uri: &[u8]| uri == b"tel:112" || uri.starts_with(b"urn:service:sos");
        Class::of(&Glance::of(text.replace('|', "\r\n").as_bytes()), emergency)
    }

    #[test]
    fn classes_follow_method_dialog_and_credentials() {
        for (text, want) in [
            ("INVITE sip:b@x SIP/2.0|To: <sip:b@x>||", Some(Class::Invite)),
            ("INVITE sip:b@x SIP/2.0|t:<sip:b@x>;tag=2||", Some(Class::InDialog)),
            ("INVITE urn:service:sos.fire SIP/2.0|To: <urn:service:sos>||", Some(Class::Emergency)),
            ("INVITE tel:112 SIP/2.0|To: <tel:112>||", Some(Class::Emergency)),
            ("INVITE tel:113 SIP/2.0|To: <tel:113>||", Some(Class::Invite)),
            ("BYE sip:b@x SIP/2.0|To: <sip:b@x>||", Some(Class::InDialog)),
            ("CANCEL sip:b@x SIP/2.0|To: <sip:b@x>||", Some(Class::InDialog)),
            ("REGISTER sip:x SIP/2.0|To: <sip:b@x>||", Some(Class::Register)),
            ("REGISTER sip:x SIP/2.0|To: <sip:b@x>|Authorization: Digest x||", Some(Class::Refresh)),
            ("MESSAGE sip:b@x SIP/2.0|To: <sip:b@x>||", Some(Class::Message)),
            ("MESSAGE urn:service:sos SIP/2.0|To: <sip:b@x>||", Some(Class::Emergency)),
            ("SUBSCRIBE sip:b@x SIP/2.0|To: <sip:b@x>||", Some(Class::Subscribe)),
            ("SUBSCRIBE sip:b@x SIP/2.0|To: <sip:b@x>;tag=1||", Some(Class::InDialog)),
            ("OPTIONS sip:x SIP/2.0|To: <sip:b@x>||", Some(Class::Other)),
            ("NOSUCH sip:x SIP/2.0|To: <sip:b@x>||", Some(Class::Other)),
            ("ACK sip:x SIP/2.0|To: <sip:b@x>;tag=1||", None),
            ("SIP/2.0 200 OK|To: <sip:b@x>;tag=1||", None),
        ] {
            assert_eq!(class(text), want, "{text}");
        }
        for (index, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, index);
        }
    }
}
