//! SIP identities in certificates (RFC 5922 §7): which names one proves, and whether that is the name that was meant.
//!
//! Owns the reading and the comparison. Does not own whether a certificate is trusted (`sip`).

use super::identity::IdentityError;
use std::net::IpAddr;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Names that are read from one certificate; whoever needs more shows another.
const MAX_NAMES: usize = 256;

/// Whom a connection is meant to reach.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SipPeer {
    /// The domain of the URI that is followed, before any look-up (RFC 5922 §4); lower case.
    Domain(String),
    /// An address, where the URI names one.
    Address(IpAddr),
}

impl std::fmt::Display for SipPeer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SipPeer::Domain(domain) => f.write_str(domain),
            SipPeer::Address(address) => write!(f, "{address}"),
        }
    }
}

/// What a certificate says of its holder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SipNames {
    domains: Vec<String>,
    addresses: Vec<IpAddr>,
    users: Vec<String>,
}

impl SipNames {
    /// Reads a certificate in DER. The common name never counts, nor does a name with a wildcard: neither is one that RFC
    /// 5922 §7.2 would compare as equal.
    ///
    /// # Errors
    /// [`IdentityError::Unreadable`].
    pub fn of_certificate(der: &[u8]) -> Result<SipNames, IdentityError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| IdentityError::Unreadable)?;
        let names = certificate.subject_alternative_name().map_err(|_| IdentityError::Unreadable)?;
        let Some(names) = names else { return Ok(SipNames::default()) };
        let (mut uris, mut hosts, mut addresses, mut users) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for name in names.value.general_names.iter().take(MAX_NAMES) {
            match name {
                GeneralName::URI(uri) => {
                    uris.extend(domain_of(uri));
                    users.extend(user_of(uri));
                }
                GeneralName::DNSName(host) if !host.contains('*') => hosts.push(host.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => addresses.extend(address_of(bytes)),
                _ => {}
            }
        }
        // RFC 5922 §7.1: DNS names count only where no URI names a SIP domain.
        let domains = if uris.is_empty() { hosts } else { uris };
        Ok(SipNames { domains, addresses, users })
    }

    /// Whether this is who was meant: the whole name, in any case.
    pub fn matches(&self, peer: &SipPeer) -> bool {
        match peer {
            SipPeer::Domain(domain) => self.domains.iter().any(|have| have.eq_ignore_ascii_case(domain)),
            SipPeer::Address(address) => self.addresses.contains(address),
        }
    }

    /// Whether it names nobody.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty() && self.addresses.is_empty() && self.users.is_empty()
    }

    /// What it proves, in words: SIP domains, lower case, and users as `user@domain`. A user proves nothing of its domain.
    pub fn proven(&self) -> Vec<String> {
        self.domains.iter().chain(&self.users).cloned().collect()
    }

    /// The SIP domains that it proves, lower case.
    pub fn domains(&self) -> &[String] {
        &self.domains
    }
}

/// The domain of `sip:domain`. Only that scheme, and only without a user (RFC 5922 §7.1).
fn domain_of(uri: &str) -> Option<String> {
    let scheme = uri.get(..4).filter(|scheme| scheme.eq_ignore_ascii_case("sip:"))?;
    let rest = &uri[scheme.len()..];
    let host = rest.split([';', '?']).next().filter(|host| !host.contains('@') && !host.is_empty())?;
    (!host.contains([':', '*', '['])).then(|| host.to_ascii_lowercase())
}

/// The user of `sip:user@domain`, as `user@domain` in the form that addresses of record have.
fn user_of(uri: &str) -> Option<String> {
    let aor = pairline_sip::Aor::parse(uri)?;
    aor.as_str().strip_prefix("sip:").map(str::to_owned)
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn names(of: &[SanType]) -> SipNames {
        let mut params = CertificateParams::default();
        params.subject_alt_names = of.to_vec();
        params.distinguished_name.push(rcgen::DnType::CommonName, "common.example");
        let certificate = params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate");
        SipNames::of_certificate(certificate.der()).expect("readable")
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().expect("a name"))
    }

    fn uri(name: &str) -> SanType {
        SanType::URI(name.try_into().expect("a name"))
    }

    fn proves(names: &SipNames, domain: &str) -> bool {
        names.matches(&SipPeer::Domain(domain.to_owned()))
    }

    #[test]
    fn host_names_count_whole_and_in_any_case() {
        let found = names(&[dns("Example.ORG"), dns("*.example.net"), uri("pairline://pool/1/server/1")]);
        assert!(proves(&found, "example.org") && proves(&found, "EXAMPLE.org"));
        for other in ["sip.example.org", "org", "a.example.net", "*.example.net", "common.example", ""] {
            assert!(!proves(&found, other), "{other}");
        }
    }

    /// RFC 5922 §7.1: where a URI names a SIP domain, host names are for other protocols.
    #[test]
    fn sip_uris_come_before_host_names() {
        let found = names(&[dns("host.example.org"), uri("SIP:Example.org;transport=tls"), uri("sips:secure.example")]);
        assert_eq!(found.domains(), ["example.org"]);
        // A user is nobody's domain, nor is another scheme or a wildcard.
        let found =
            names(&[dns("host.example.org"), uri("sip:alice@example.org"), uri("sips:a.example"), uri("sip:*.b")]);
        assert_eq!(found.domains(), ["host.example.org"]);
        assert_eq!(found.proven(), ["host.example.org", "alice@example.org"]);
        let found = names(&[uri("sip:b%6fb@EXAMPLE.org;transport=tls")]);
        assert_eq!((found.proven(), found.is_empty()), (vec!["bob@example.org".to_owned()], false));
    }

    #[test]
    fn addresses_are_proven_as_addresses_only() {
        let (v4, v6) = ("192.0.2.1".parse().expect("valid"), "2001:db8::1".parse().expect("valid"));
        let found = names(&[SanType::IpAddress(v4), SanType::IpAddress(v6), dns("198.51.100.1")]);
        assert!(found.matches(&SipPeer::Address(v4)) && found.matches(&SipPeer::Address(v6)));
        assert!(!found.matches(&SipPeer::Address("198.51.100.1".parse().expect("valid"))));
        assert!(!proves(&found, "192.0.2.1"));
        assert!(names(&[]).is_empty());
    }
}
