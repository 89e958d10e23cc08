//! TLS with whoever made a token, and with nobody else.
//!
//! Owns both ends' configuration: a certificate that is made for one invitation and known by its fingerprint in the token, so that neither
//! names nor authorities matter, also not another server of the deployment. Does not own connections.

use super::Token;
use crate::tls;
use crate::tls::trust::{Judge, Trust, Verifier};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::{CertificateError, ClientConfig, Error, ServerConfig};
use std::sync::Arc;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum PinnedError {
    /// No certificate for the invitation.
    #[error("no certificate for the invitation: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused.
    #[error("TLS of the invitation: {0}")]
    Tls(#[from] rustls::Error),
    /// No randomness for its token.
    #[error(transparent)]
    Random(#[from] tls::RandomFailed),
}

/// TLS 1.3 of an invitation, and the token by which it is known.
pub(super) fn server() -> Result<(Arc<ServerConfig>, Token), PinnedError> {
    let key = KeyPair::generate()?;
    let certificate: CertificateDer<'static> =
        CertificateParams::new(vec!["pairline.invalid".to_owned()])?.self_signed(&key)?.der().clone();
    let token = Token::new(&certificate)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    Ok((Arc::new(config), token))
}

/// TLS 1.3 with the maker of a token.
pub(super) fn client(token: &Token) -> Result<Arc<ClientConfig>, PinnedError> {
    let verifier = Verifier::new(Arc::new(Trust::nobody()), Maker(token.clone()));
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Believes the maker of the token, whatever its certificate says: that it has the certificate's key is the library's to check.
#[derive(Debug)]
struct Maker(Token);

impl Judge for Maker {
    fn judge(
        &self,
        _trust: &Trust,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<(), Error> {
        let unknown = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
        if self.0.is_of(end_entity) { Ok(()) } else { Err(unknown) }
    }
}
