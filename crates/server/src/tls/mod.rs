//! The deployment's authority, the servers' certificates and identities, and the TLS configurations made from them.
//!
//! Owns who may speak to whom. Does not own connections (`link`, `net`, the admin API).

pub mod authority;
pub mod certified;
pub mod config;
pub mod files;
pub mod identity;
pub mod reason;
pub mod reload;
pub mod sip;
pub mod sip_names;
pub mod trust;
pub mod verify;

pub use authority::{Authority, CertificateNames, Issued};
pub use certified::Certified;
pub use config::Credentials;
pub use identity::PeerIdentity;
pub use sip::SipTls;
pub use sip_names::{SipNames, SipPeer};
pub use trust::Trust;

use std::sync::Arc;

/// The one cryptographic provider of this process.
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Fills `bytes` from the system's random source.
///
/// # Errors
/// When the system's random source fails; nothing may go on without it.
pub fn fill_random(bytes: &mut [u8]) -> Result<(), RandomFailed> {
    rustls::crypto::ring::default_provider().secure_random.fill(bytes).map_err(|_| RandomFailed)
}

/// A random number from the system's source.
///
/// # Errors
/// As [`fill_random`].
pub fn random_u64() -> Result<u64, RandomFailed> {
    let mut bytes = [0_u8; 8];
    fill_random(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// The system's random source failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system's random source failed")]
pub struct RandomFailed;
