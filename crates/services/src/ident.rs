//! Whose a URI is: a user's of our domains, this server's, an emergency service's, somebody else's.
//!
//! Owns DESIGN §7 "Names" as code. Does not know where a user is served: [`crate::cx::Cx::place`] does.

use crate::gruu;
use crate::settings::DeploymentView;
use pairline_sip::uri::{Aor, Host, Uri};

/// Whom a host names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostIs {
    /// A SIP domain of ours.
    Domain,
    /// This server or its pool, by name or address.
    Own,
    /// The backup partner, by name or address.
    Partner,
    /// A pool of the deployment that is neither this one nor its partner, by name or address.
    Other,
    /// Nobody of ours.
    Foreign,
}

/// What a URI means to this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// A user of ours, or what would be one; existence is not implied.
    User(Aor),
    /// The server or the domain itself: no user part.
    Server,
    /// `urn:service:sos` or a sub-service (RFC 5031).
    Emergency,
    /// A SIP URI of another domain, or a telephone number without a route.
    Foreign,
    /// A scheme that is not spoken here: 416.
    Scheme,
    /// Not a URI.
    Malformed,
}

/// Whether the URI is an emergency service's.
pub fn is_emergency(uri: &[u8]) -> bool {
    const SOS: &[u8] = b"urn:service:sos";
    uri.get(..SOS.len()).is_some_and(|head| head.eq_ignore_ascii_case(SOS))
        && matches!(uri.get(SOS.len()), None | Some(b'.'))
}

fn has_scheme(uri: &[u8], scheme: &[u8]) -> bool {
    uri.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme))
        && uri.get(scheme.len()) == Some(&b':')
}

/// Whom the host of a SIP URI names. Addresses count with their port: a phone on this very machine is not this server.
pub fn host_is(view: &DeploymentView, uri: &Uri<'_>) -> HostIs {
    match &uri.host {
        Host::Ip(ip) => {
            let secure = has_scheme(uri.raw(), b"sips")
                || uri.param("transport").is_some_and(|t| t.eq_ignore_ascii_case(b"tls"));
            let port = uri.port.unwrap_or(if secure { 5061 } else { 5060 });
            if view.is_own_address(*ip, port) {
                HostIs::Own
            } else if view.is_partner_address(*ip, port) {
                HostIs::Partner
            } else if view.is_other_address(*ip, port) {
                HostIs::Other
            } else {
                HostIs::Foreign
            }
        }
        Host::None => HostIs::Foreign,
        Host::Name(name) => match std::str::from_utf8(name) {
            Ok(name) if view.domain(name).is_some() => HostIs::Domain,
            Ok(name) if view.is_own_name(name) => HostIs::Own,
            Ok(name) if view.is_partner_name(name) => HostIs::Partner,
            Ok(name) if view.is_other_name(name) => HostIs::Other,
            _ => HostIs::Foreign,
        },
    }
}

/// What a URI means to this server. `user@<own address>` is the user of the default domain (DESIGN §11).
pub fn classify(view: &DeploymentView, raw: &[u8]) -> Whose {
    if is_emergency(raw) {
        return Whose::Emergency;
    }
    if has_scheme(raw, b"tel") {
        return Whose::Foreign;
    }
    if !has_scheme(raw, b"sip") && !has_scheme(raw, b"sips") {
        return Whose::Scheme;
    }
    let Ok(uri) = Uri::parse(raw) else {
        return Whose::Malformed;
    };
    let host = host_is(view, &uri);
    if matches!(host, HostIs::Other | HostIs::Foreign) {
        return Whose::Foreign;
    }
    let Some(aor) = uri.aor() else {
        return Whose::Server;
    };
    if aor.user().is_empty() {
        return Whose::Server;
    }
    match host {
        HostIs::Domain => Whose::User(gruu::owner(&view.sealing_key, &uri).unwrap_or(aor)),
        _ => user_of(&view.default_domain, aor.user()).map_or(Whose::Malformed, Whose::User),
    }
}

/// The address of record of a user of a domain; `None` if no such URI can be.
pub fn user_of(domain: &str, user: &str) -> Option<Aor> {
    Uri::parse(format!("sip:{user}@{domain}").as_bytes()).ok()?.aor()
}

/// Reads a user written as `name`, `name@domain` or `sip:name@domain`; only our domains.
pub fn parse_user(view: &DeploymentView, text: &str) -> Option<Aor> {
    let text = text.trim();
    let after_scheme = text.strip_prefix("sip:").or_else(|| text.strip_prefix("sips:"));
    let aor = match (after_scheme.unwrap_or(text).split_once('@'), after_scheme) {
        (Some((user, domain)), _) => user_of(domain, user)?,
        (None, None) => user_of(&view.default_domain, text)?,
        // A SIP URI without a user names a host.
        (None, Some(_)) => return None,
    };
    (!aor.user().is_empty() && view.domain(aor.domain()).is_some()).then_some(aor)
}
