//! Emergency services (RFC 5031): which requests are for one, and where the table sends them.
//!
//! Owns the reading of the policy's table. Does not own the call (`proxy`), nor who may make it (`access`).

use crate::ident::{Whose, is_emergency};
use crate::settings::DeploymentView;
use pairline_topology::policy_proxy::EmergencyRoute;

/// Whose the Request-URI is, with the numbers of the table taken into account: a user of ours, or a telephone number, that is
/// one of them means the emergency service.
pub fn aim(view: &DeploymentView, uri: &[u8], whose: Whose) -> Whose {
    let may_be = !view.proxy.emergency.route.is_empty() && matches!(whose, Whose::User(_) | Whose::Foreign);
    if may_be && by_number(view, uri, &whose).is_some() { Whose::Emergency } else { whose }
}

/// Where the table sends a request with that Request-URI; the first row that matches.
pub fn route<'v>(view: &'v DeploymentView, uri: &[u8]) -> Option<&'v EmergencyRoute> {
    if is_emergency(uri) {
        return view.proxy.emergency.route.iter().find(|row| row.is_urn() && covers(row.pattern.as_bytes(), uri));
    }
    by_number(view, uri, &crate::ident::classify(view, uri))
}

/// Whether a service is the pattern's, or a sub-service of it.
fn covers(pattern: &[u8], uri: &[u8]) -> bool {
    uri.get(..pattern.len()).is_some_and(|head| head.eq_ignore_ascii_case(pattern))
        && matches!(uri.get(pattern.len()), None | Some(b'.'))
}

fn by_number<'v>(view: &'v DeploymentView, uri: &[u8], whose: &Whose) -> Option<&'v EmergencyRoute> {
    let number: Vec<u8> = match whose {
        Whose::User(user) => user.user().as_bytes().to_vec(),
        // A number at another domain is that domain's.
        _ => tel_number(uri)?,
    };
    let number = number.split(|b| *b == b';').next().unwrap_or_default();
    view.proxy.emergency.route.iter().find(|row| !row.is_urn() && row.pattern.as_bytes() == number)
}

/// The number of a tel URI without visual separators (RFC 3966 §5.1.1); `None` for anything else.
fn tel_number(uri: &[u8]) -> Option<Vec<u8>> {
    let rest = uri.get(..4).filter(|head| head.eq_ignore_ascii_case(b"tel:")).and_then(|_| uri.get(4..))?;
    let number = rest.iter().copied().take_while(|b| *b != b';');
    Some(number.filter(|b| !matches!(b, b'-' | b'.' | b'(' | b')')).collect())
}

/// Whether a Request-URI may mean an emergency service by this table, whatever domain it names: for who decides in which order requests
/// are looked at.
pub fn may_be(routes: &[EmergencyRoute], uri: &[u8]) -> bool {
    let numbers = || routes.iter().filter(|row| !row.is_urn()).map(|row| row.pattern.as_bytes());
    let Some(first) = numbers().next() else { return is_emergency(uri) };
    let number = tel_number(uri).or_else(|| sip_user(uri).map(<[u8]>::to_vec)).unwrap_or_default();
    is_emergency(uri) || first == number || numbers().any(|pattern| pattern == number)
}

/// The user part of a SIP or SIPS URI, without its parameters.
fn sip_user(uri: &[u8]) -> Option<&[u8]> {
    let scheme = uri.iter().position(|b| *b == b':')?;
    let known = [&b"sip"[..], b"sips"].iter().any(|name| uri[..scheme].eq_ignore_ascii_case(name));
    let rest = known.then_some(&uri[scheme + 1..])?;
    let user = &rest[..rest.iter().position(|b| *b == b'@')?];
    user.split(|b| matches!(b, b';' | b':')).next()
}

/// Whether a request is one: for admission, before anything else is known of it.
pub fn is_call(view: &DeploymentView, uri: &[u8]) -> bool {
    is_emergency(uri)
        || (!view.proxy.emergency.route.is_empty()
            && aim(view, uri, crate::ident::classify(view, uri)) == Whose::Emergency)
}

#[cfg(test)]
mod tests {
    use super::{EmergencyRoute, covers, may_be, tel_number};

    #[test]
    fn what_may_be_an_emergency_is_seen_whatever_its_domain() {
        let row = |pattern: &str| EmergencyRoute { pattern: pattern.to_owned(), to: "sip:psap@x".to_owned() };
        let table = [row("urn:service:sos"), row("112"), row("911")];
        for uri in
            ["sip:112@pairline.test", "SIPS:911;phone-context=x@192.0.2.1:5061", "tel:1-1-2", "urn:service:sos.fire"]
        {
            assert!(may_be(&table, uri.as_bytes()), "{uri}");
        }
        for uri in ["sip:1120@pairline.test", "sip:112", "sip:anna@112", "tel:113", "http://112@x", ""] {
            assert!(!may_be(&table, uri.as_bytes()), "{uri}");
        }
        assert!(may_be(&[], b"urn:service:sos") && !may_be(&[], b"sip:112@x"));
    }

    #[test]
    fn numbers_and_services() {
        assert_eq!(tel_number(b"tel:1-1(2);phone-context=+49").unwrap(), b"112");
        assert_eq!(tel_number(b"TEL:112").unwrap(), b"112");
        assert_eq!(tel_number(b"sip:112@x"), None);
        assert!(covers(b"urn:service:sos", b"URN:service:SOS.fire"));
        assert!(covers(b"urn:service:sos.fire", b"urn:service:sos.fire"));
        assert!(!covers(b"urn:service:sos.fire", b"urn:service:sos"));
        assert!(!covers(b"urn:service:sos.fire", b"urn:service:sos.firearms"));
    }
}
