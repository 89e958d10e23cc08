//! TLS with whoever made a token, and with nobody else.
//!
//! Owns both ends' configuration: a certificate that is made for one invitation and known by its fingerprint in the token, so that neither
//! names nor authorities matter, also not another server of the deployment. Does not own connections.

use super::Token;
use crate::tls;
use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme};
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
    let verifier = Pinned { token: token.clone(), provider: tls::provider() };
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Believes the maker of the token.
#[derive(Debug)]
struct Pinned {
    token: Token,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let own = self.token.is_of(end_entity);
        own.then(ServerCertVerified::assertion)
            .ok_or(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
