//! SIP methods. Owns their names; says nothing about who may use them.

use crate::scan;

/// The longest method that is accepted, in bytes.
pub const MAX_METHOD: usize = 128;

/// A request method, compared case-sensitively (RFC 3261 §7.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// REGISTER (RFC 3261 §10).
    Register,
    /// INVITE (RFC 3261 §13).
    Invite,
    /// ACK (RFC 3261 §17).
    Ack,
    /// BYE (RFC 3261 §15).
    Bye,
    /// CANCEL (RFC 3261 §9).
    Cancel,
    /// OPTIONS (RFC 3261 §11).
    Options,
    /// MESSAGE (RFC 3428).
    Message,
    /// INFO (RFC 6086).
    Info,
    /// REFER (RFC 3515).
    Refer,
    /// SUBSCRIBE (RFC 6665).
    Subscribe,
    /// NOTIFY (RFC 6665).
    Notify,
    /// PUBLISH (RFC 3903).
    Publish,
    /// UPDATE (RFC 3311).
    Update,
    /// PRACK (RFC 3262).
    Prack,
    /// Any other token.
    Extension(Box<str>),
}

impl Method {
    /// Reads a method; `None` if it is no token or longer than [`MAX_METHOD`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Method> {
        Some(match bytes {
            b"REGISTER" => Method::Register,
            b"INVITE" => Method::Invite,
            b"ACK" => Method::Ack,
            b"BYE" => Method::Bye,
            b"CANCEL" => Method::Cancel,
            b"OPTIONS" => Method::Options,
            b"MESSAGE" => Method::Message,
            b"INFO" => Method::Info,
            b"REFER" => Method::Refer,
            b"SUBSCRIBE" => Method::Subscribe,
            b"NOTIFY" => Method::Notify,
            b"PUBLISH" => Method::Publish,
            b"UPDATE" => Method::Update,
            b"PRACK" => Method::Prack,
            other => {
                if other.len() > MAX_METHOD || !scan::is_token(other) {
                    return None;
                }
                Method::Extension(std::str::from_utf8(other).ok()?.into())
            }
        })
    }

    /// The method's name as it stands in a message.
    pub fn as_str(&self) -> &str {
        match self {
            Method::Register => "REGISTER",
            Method::Invite => "INVITE",
            Method::Ack => "ACK",
            Method::Bye => "BYE",
            Method::Cancel => "CANCEL",
            Method::Options => "OPTIONS",
            Method::Message => "MESSAGE",
            Method::Info => "INFO",
            Method::Refer => "REFER",
            Method::Subscribe => "SUBSCRIBE",
            Method::Notify => "NOTIFY",
            Method::Publish => "PUBLISH",
            Method::Update => "UPDATE",
            Method::Prack => "PRACK",
            Method::Extension(name) => name,
        }
    }

    /// Whether a 2xx to this method can form a dialog (RFC 3261 §12, 6665, 3515).
    pub fn forms_dialog(&self) -> bool {
        matches!(self, Method::Invite | Method::Subscribe | Method::Refer | Method::Notify)
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
