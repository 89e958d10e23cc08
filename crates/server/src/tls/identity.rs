//! Who a server is: the URI in its certificate that names its pool and its number.
//!
//! Owns the form of that URI and its reading from a certificate. Does not own whether a certificate is trusted (`verify`).

use pairline_group::{PoolId, ServerId};
use std::fmt;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Pool and number of a server: its identity on links, whatever its addresses and names are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerIdentity {
    /// Its pool.
    pub pool: PoolId,
    /// Its number in the deployment.
    pub server: ServerId,
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pairline://pool/{}/server/{}", self.pool.0, self.server.0)
    }
}

/// Why a certificate names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It is not a certificate.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// No URI of ours.
    #[error("the certificate names no server (no pairline:// URI among its names)")]
    Nameless,
    /// More than one URI of ours: ambiguous, so refused.
    #[error("the certificate names more than one server")]
    Ambiguous,
    /// It names another server than the expected one.
    #[error("the certificate is of pool {} server {}, expected was pool {} server {}", found.pool.0, found.server.0, expected.pool.0, expected.server.0)]
    Other {
        /// Whom it names.
        found: PeerIdentity,
        /// Who was expected.
        expected: PeerIdentity,
    },
    /// It names a server that the topology does not have.
    #[error("the certificate is of pool {} server {}, which the topology does not have", .0.pool.0, .0.server.0)]
    Unknown(PeerIdentity),
}

impl PeerIdentity {
    /// Reads the identity's URI; `None` if it is not exactly of that form.
    pub fn parse(uri: &str) -> Option<PeerIdentity> {
        let rest = uri.strip_prefix("pairline://pool/")?;
        let (pool, server) = rest.split_once("/server/")?;
        let identity = PeerIdentity { pool: PoolId(pool.parse().ok()?), server: ServerId(server.parse().ok()?) };
        // The one spelling only: no leading zeros, no signs.
        (identity.to_string() == uri).then_some(identity)
    }

    /// Reads the identity from a certificate in DER.
    ///
    /// # Errors
    /// [`IdentityError`] when it names nobody or more than one.
    pub fn of_certificate(der: &[u8]) -> Result<PeerIdentity, IdentityError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| IdentityError::Unreadable)?;
        let names = certificate.subject_alternative_name().map_err(|_| IdentityError::Unreadable)?;
        let names = names.ok_or(IdentityError::Nameless)?;
        let mut found = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => PeerIdentity::parse(uri),
            _ => None,
        });
        let first = found.next().ok_or(IdentityError::Nameless)?;
        if found.next().is_some() { Err(IdentityError::Ambiguous) } else { Ok(first) }
    }
}

/// Whole days until a certificate expires; negative once it has.
///
/// # Errors
/// [`IdentityError::Unreadable`].
pub fn days_left(der: &[u8], now_unix_seconds: i64) -> Result<i64, IdentityError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| IdentityError::Unreadable)?;
    Ok((certificate.validity().not_after.timestamp() - now_unix_seconds).div_euclid(86_400))
}
