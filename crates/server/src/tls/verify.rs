//! Who may be at the other end of a link: the expected server, or one that the topology lets link to this one.
//!
//! Owns that decision for both directions. Names and addresses play no part in it: the identity is pool and server. Does not own
//! chains and signatures (`trust`).

use super::identity::{IdentityError, PeerIdentity};
use super::trust::{Judge, Trust, refusal};
use rustls::Error;
use rustls::pki_types::{CertificateDer, UnixTime};
use std::collections::BTreeSet;
use std::sync::{Arc, RwLock};

/// Servers that may open a link to this one; follows the topology.
#[derive(Clone, Debug, Default)]
pub struct Allowed(Arc<RwLock<BTreeSet<PeerIdentity>>>);

impl Allowed {
    /// Replaces the set.
    pub fn set(&self, peers: BTreeSet<PeerIdentity>) {
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = peers;
    }

    /// Whether that server may.
    pub fn contains(&self, peer: PeerIdentity) -> bool {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).contains(&peer)
    }
}

/// The dialling side: exactly that server.
#[derive(Debug)]
pub struct Expected(pub PeerIdentity);

impl Judge for Expected {
    fn judge(
        &self,
        trust: &Trust,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        trust.check_server(end_entity, intermediates, now)?;
        let found = PeerIdentity::of_certificate(end_entity).map_err(refusal)?;
        if found == self.0 { Ok(()) } else { Err(refusal(IdentityError::Other { found, expected: self.0 })) }
    }
}

/// The accepting side: every server of the set, as it stands at each handshake.
impl Judge for Allowed {
    fn judge(
        &self,
        trust: &Trust,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        trust.check_client(end_entity, intermediates, now)?;
        let found = PeerIdentity::of_certificate(end_entity).map_err(refusal)?;
        if self.contains(found) { Ok(()) } else { Err(refusal(IdentityError::Unknown(found))) }
    }
}
