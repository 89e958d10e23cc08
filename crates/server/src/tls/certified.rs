//! A certificate chain with its key, shared by every TLS configuration that shows it and replaced in place when it is renewed.
//!
//! Owns the sharing and the reading from PEM. Does not own when it is replaced (`reload`).

use super::config::{CredentialsError, certificates};
use super::files;
use super::identity;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

/// The chain and key in use. New handshakes show what [`Certified::replace`] gave last; connections that are up stay.
#[derive(Debug)]
pub struct Certified(RwLock<Arc<CertifiedKey>>);

/// Reads a chain and its key from PEM.
///
/// # Errors
/// [`CredentialsError`]: nothing there, or key and certificate do not fit.
pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, CredentialsError> {
    let chain = certificates(certificate, "the certificate file")?;
    let key = rustls_pemfile::private_key(&mut &*key).ok().flatten().ok_or(CredentialsError::NoKey)?;
    // Fails now rather than at the first handshake if key and certificate do not fit.
    Ok(Arc::new(CertifiedKey::from_der(chain, key, &super::provider())?))
}

impl Certified {
    /// With that chain and key.
    pub fn new(certified: Arc<CertifiedKey>) -> Certified {
        Certified(RwLock::new(certified))
    }

    /// Loads chain and key (which must be private).
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn load(certificate: &Path, key: &Path) -> Result<Certified, CredentialsError> {
        Ok(Certified::new(from_pem(&files::read(certificate)?, &files::read_private(key)?)?))
    }

    /// What is shown now.
    pub fn now(&self) -> Arc<CertifiedKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on this one is shown.
    pub fn replace(&self, certified: Arc<CertifiedKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certified;
    }

    /// The certificate itself, in DER; empty if there were none, which its reading excludes.
    pub fn end_entity(&self) -> CertificateDer<'static> {
        self.now().cert.first().cloned().unwrap_or_else(|| CertificateDer::from(Vec::new()))
    }

    /// Whole days until it expires; negative once it has.
    pub fn days_left(&self, now_unix_seconds: i64) -> i64 {
        identity::days_left(&self.end_entity(), now_unix_seconds).unwrap_or(i64::MIN)
    }
}

impl ResolvesServerCert for Certified {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now())
    }
}

impl ResolvesClientCert for Certified {
    fn resolve(&self, _root_hint_subjects: &[&[u8]], _sigschemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.now())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
