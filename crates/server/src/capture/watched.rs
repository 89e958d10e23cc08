//! Whether a message has to do with one user.
//!
//! Owns the look for a user's name where SIP puts it. Does not own what is remembered of its calls (`traces`). Looks at addresses as
//! bytes, since a message that is traced may be malformed: that is often why it is.

use super::fields::Fields;

/// Headers that name users, with their compact forms.
const NAMING: [(&str, Option<&str>); 7] = [
    ("from", Some("f")),
    ("to", Some("t")),
    ("contact", Some("m")),
    ("p-asserted-identity", None),
    ("p-preferred-identity", None),
    ("refer-to", Some("r")),
    ("referred-by", Some("b")),
];

/// Addresses that are looked at in one header value.
const ADDRESSES: usize = 16;

/// Whom to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The user part, as it stands in an address.
    name: Vec<u8>,
    /// The domain, lower case; any if absent.
    domain: Option<String>,
}

impl Watched {
    /// From `name`, `name@domain` or `sip:name@domain`; `None` if that names nobody.
    pub fn parse(user: &str) -> Option<Watched> {
        let bare = user.strip_prefix("sips:").or_else(|| user.strip_prefix("sip:")).unwrap_or(user);
        let (name, domain) = match bare.rsplit_once('@') {
            Some((name, domain)) => (name, Some(domain.to_ascii_lowercase())),
            None => (bare, None),
        };
        let fits = |text: &str| {
            !text.is_empty()
                && text.len() <= 256
                && !text.bytes().any(|b| b.is_ascii_whitespace() || b"<>\"@".contains(&b))
        };
        let good = fits(name) && domain.as_deref().is_none_or(fits);
        good.then(|| Watched { name: unescaped(name.as_bytes()), domain })
    }

    /// Whether the message names the user in its start line or in a header that names users.
    pub fn is_named_in(&self, message: &[u8], fields: &Fields) -> bool {
        let line = &message[fields.start.clone()];
        if !line.starts_with(b"SIP/") && self.is_in(line) {
            return true;
        }
        NAMING.iter().any(|(name, compact)| fields.values(message, name, *compact).any(|value| self.is_in(value)))
    }

    fn is_in(&self, text: &[u8]) -> bool {
        let mut rest = text;
        for _ in 0..ADDRESSES {
            let Some(at) = scheme_end(rest) else { return false };
            rest = &rest[at..];
            let end = rest.iter().position(|b| b.is_ascii_whitespace() || b"<>\",".contains(b)).unwrap_or(rest.len());
            if self.is_address(&rest[..end]) {
                return true;
            }
        }
        false
    }

    /// Whether what stands behind the scheme is the user's. An address instead of the domain is the domain by another name.
    fn is_address(&self, address: &[u8]) -> bool {
        let Some(at) = address.iter().position(|b| *b == b'@') else { return false };
        let user = address[..at].split(|b| matches!(b, b':' | b';')).next().unwrap_or_default();
        if unescaped(user) != self.name {
            return false;
        }
        let host = &address[at + 1..];
        let bracketed = host.first() == Some(&b'[');
        let host = host.split(|b| b":;?".contains(b)).next().unwrap_or_default();
        let is_name = !bracketed && host.iter().any(u8::is_ascii_alphabetic);
        self.domain.as_ref().is_none_or(|domain| !is_name || host.eq_ignore_ascii_case(domain.as_bytes()))
    }
}

/// Behind the next `sip:` or `sips:`.
fn scheme_end(text: &[u8]) -> Option<usize> {
    (0..text.len()).find_map(|at| {
        let rest = &text[at..];
        let is = |scheme: &[u8]| rest.get(..scheme.len()).is_some_and(|found| found.eq_ignore_ascii_case(scheme));
        if is(b"sip:") { Some(at + 4) } else { is(b"sips:").then_some(at + 5) }
    })
}

/// Percent escapes undone (RFC 3261 §19.1.2); a wrong one stays as it is.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let hex = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let pair = text.get(at + 1..at + 3).and_then(|pair| Some(hex(pair[0])? * 16 + hex(pair[1])?));
        match pair.filter(|_| byte == b'%') {
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Fields, Watched};

    fn is_named(user: &str, message: &str) -> bool {
        let watched = Watched::parse(user).expect("it names somebody");
        watched.is_named_in(message.as_bytes(), &Fields::of(message.as_bytes()))
    }

    #[test]
    fn a_user_is_found_wherever_sip_names_one() {
        let alice = "sip:alice@example.org";
        for message in [
            "INVITE sip:alice@example.org SIP/2.0\r\n\r\n",
            "INVITE sip:alice@192.0.2.7:5061;ob SIP/2.0\r\n\r\n",
            "INVITE sip:alice@[2001:db8::1] SIP/2.0\r\n\r\n",
            "BYE sip:x@y SIP/2.0\r\nFrom: \"A, B\" <sips:alice@EXAMPLE.org;user=phone>;tag=1\r\n\r\n",
            "BYE sip:x@y SIP/2.0\r\nt: sip:%61lice:secret@example.org\r\n\r\n",
            "SIP/2.0 200 OK\r\nContact: <sip:bob@x>, <sip:alice@192.0.2.7>\r\n\r\n",
            "SIP/2.0 200 OK\r\nP-Asserted-Identity:\r\n <sip:alice@example.org>\r\n\r\n",
        ] {
            assert!(is_named(alice, message) && is_named("alice", message), "{message}");
        }
    }

    #[test]
    fn others_are_not_taken_for_the_user() {
        for message in [
            "INVITE sip:alice2@example.org SIP/2.0\r\n\r\n",
            "INVITE sip:Alice@example.org SIP/2.0\r\n\r\n",
            "INVITE sip:alice@other.example SIP/2.0\r\n\r\n",
            "INVITE sip:bob@example.org;x=alice SIP/2.0\r\nSubject: sip:alice@example.org\r\n\r\nFrom: sip:alice@example.org\r\n",
            "SIP/2.0 200 sip:alice@example.org\r\n\r\n",
            "OPTIONS sip:alice SIP/2.0\r\n\r\n",
        ] {
            assert!(!is_named("sip:alice@example.org", message), "{message}");
        }
        assert!(is_named("alice", "INVITE sip:alice@other.example SIP/2.0\r\n\r\n"), "no domain: any");
    }

    #[test]
    fn what_names_nobody_is_refused() {
        for text in ["", "sip:", "@example.org", "a b", "alice@", "<sip:a@b>", "a@b@c"] {
            assert_eq!(Watched::parse(text), None, "{text}");
        }
    }
}
