//! TLS configurations from a server's credentials: links (TLS 1.3, mutual), the admin API, and its clients.
//!
//! Owns versions and verification of each. Does not own connections.

use super::certified::{self, Certified};
use super::files::{self, FileError};
use super::identity::{IdentityError, PeerIdentity};
use super::trust::{Trust, Verifier};
use super::verify::{Allowed, Expected};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::path::Path;
use std::sync::Arc;

/// A server's certificate, its key, and the authority that it trusts.
pub struct Credentials {
    certified: Arc<Certified>,
    roots: Arc<RootCertStore>,
    trust: Arc<Trust>,
    identity: PeerIdentity,
}

/// Why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A PEM file holds no certificate.
    #[error("no certificate in {0}")]
    NoCertificate(&'static str),
    /// A PEM file holds no private key.
    #[error("no private key in the key file")]
    NoKey,
    /// The certificate names no server.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Key and certificate do not fit, or are of a kind that is not supported.
    #[error("TLS credentials: {0}")]
    Tls(#[from] rustls::Error),
    /// The verifier refused the authority.
    #[error("authority's certificate: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// Reads certificates from PEM.
pub(super) fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let found: Vec<_> = rustls_pemfile::certs(&mut &*pem).filter_map(Result::ok).collect();
    if found.is_empty() { Err(CredentialsError::NoCertificate(what)) } else { Ok(found) }
}

/// The set of trusted authorities of a PEM text.
///
/// # Errors
/// [`CredentialsError`] when there is none, or one cannot be an authority.
pub fn roots(authority_pem: &[u8]) -> Result<Arc<RootCertStore>, CredentialsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority_pem, "the authority's file")? {
        roots.add(certificate)?;
    }
    Ok(Arc::new(roots))
}

/// Those authorities and more: of a bundle of many, what can be used.
///
/// # Errors
/// [`CredentialsError`] when not one can be.
pub fn roots_with(roots: &RootCertStore, more_pem: &[u8]) -> Result<Arc<RootCertStore>, CredentialsError> {
    let mut all = roots.clone();
    let (added, _) = all.add_parsable_certificates(certificates(more_pem, "the file of SIP authorities")?);
    if added == 0 { Err(CredentialsError::NoCertificate("the file of SIP authorities")) } else { Ok(Arc::new(all)) }
}

impl Credentials {
    /// Loads certificate, key (which must be private) and authority.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn load(certificate: &Path, key: &Path, authority: &Path) -> Result<Credentials, CredentialsError> {
        Credentials::from_pem(&files::read(certificate)?, &files::read_private(key)?, &files::read(authority)?)
    }

    /// From PEM texts.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn from_pem(certificate: &[u8], key: &[u8], authority: &[u8]) -> Result<Credentials, CredentialsError> {
        let certified = Arc::new(Certified::new(certified::from_pem(certificate, key)?));
        let identity = PeerIdentity::of_certificate(&certified.end_entity())?;
        let roots = roots(authority)?;
        let trust = Arc::new(Trust::new(roots.clone())?);
        Ok(Credentials { certified, roots, trust, identity })
    }

    /// Whom the certificate names.
    pub fn identity(&self) -> PeerIdentity {
        self.identity
    }

    /// Trusted authorities.
    pub fn roots(&self) -> &Arc<RootCertStore> {
        &self.roots
    }

    /// The deployment's authority, for SIP: there more may be believed than for links.
    pub fn sip_trust(&self) -> Trust {
        self.trust.apart()
    }

    /// Whole days until the certificate expires; negative once it has.
    pub fn days_left(&self, now_unix_seconds: i64) -> i64 {
        self.certified.days_left(now_unix_seconds)
    }

    /// Certificate and key as every configuration made from these credentials shows them.
    pub fn certified(&self) -> &Arc<Certified> {
        &self.certified
    }

    /// For dialling a link to exactly that server: TLS 1.3, mutual.
    ///
    /// # Errors
    /// [`CredentialsError::Tls`].
    pub fn link_client(&self, expected: PeerIdentity) -> Result<Arc<ClientConfig>, CredentialsError> {
        let provider = super::provider();
        let verifier = Verifier::new(self.trust.clone(), Expected(expected));
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(self.certified.clone());
        // Without resumption each link proves both certificates as they are now.
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = vec![crate::link::ALPN.to_vec()];
        Ok(Arc::new(config))
    }

    /// For accepting links from the servers of `allowed`: TLS 1.3, mutual.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn link_server(&self, allowed: Allowed) -> Result<Arc<ServerConfig>, CredentialsError> {
        let provider = super::provider();
        let verifier = Verifier::new(self.trust.clone(), allowed);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.certified.clone());
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![crate::link::ALPN.to_vec()];
        Ok(Arc::new(config))
    }

    /// For the admin API: TLS 1.2 and 1.3, no client certificate (its clients show a token).
    ///
    /// # Errors
    /// [`CredentialsError::Tls`].
    pub fn admin_server(&self) -> Result<Arc<ServerConfig>, CredentialsError> {
        let mut config = ServerConfig::builder_with_provider(super::provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(self.certified.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// For asking another server's admin API: chain and identity are checked, names are not.
    ///
    /// # Errors
    /// [`CredentialsError::Tls`].
    pub fn admin_client_of(&self, expected: PeerIdentity) -> Result<Arc<ClientConfig>, CredentialsError> {
        let provider = super::provider();
        let verifier = Verifier::new(self.trust.clone(), Expected(expected));
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

/// For clients of the admin API (the command line): TLS verified against the deployment's authority, by name or address.
///
/// # Errors
/// [`CredentialsError`].
pub fn admin_client(authority_pem: &[u8]) -> Result<Arc<ClientConfig>, CredentialsError> {
    let config = ClientConfig::builder_with_provider(super::provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_root_certificates(roots(authority_pem)?)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
