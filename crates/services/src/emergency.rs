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

/// Whether a request is one: for admission, before anything else is known of it.
pub fn is_call(view: &DeploymentView, uri: &[u8]) -> bool {
    is_emergency(uri)
        || (!view.proxy.emergency.route.is_empty()
            && aim(view, uri, crate::ident::classify(view, uri)) == Whose::Emergency)
}

#[cfg(test)]
mod tests {
    use super::{covers, tel_number};

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
