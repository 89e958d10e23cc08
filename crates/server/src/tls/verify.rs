//! Verification of the other end of a link: signed by the deployment's authority, valid now, and the expected server.
//!
//! Owns that decision for both directions. Names and addresses play no part in it: the identity is pool and server.

use super::identity::{IdentityError, PeerIdentity};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
};
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

fn refuse(error: IdentityError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

/// The dialling side: accepts exactly one server.
#[derive(Debug)]
pub struct DialVerifier {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    expected: PeerIdentity,
}

impl DialVerifier {
    /// Accepts `expected` only.
    pub fn new(roots: Arc<RootCertStore>, provider: Arc<CryptoProvider>, expected: PeerIdentity) -> DialVerifier {
        DialVerifier { roots, provider, expected }
    }
}

impl ServerCertVerifier for DialVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        let found = PeerIdentity::of_certificate(end_entity).map_err(refuse)?;
        if found != self.expected {
            return Err(refuse(IdentityError::Other { found, expected: self.expected }));
        }
        Ok(ServerCertVerified::assertion())
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

/// The accepting side: accepts every server that the topology lets link to this one.
#[derive(Debug)]
pub struct AcceptVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    allowed: Allowed,
}

impl AcceptVerifier {
    /// Accepts the servers of `allowed`, as it stands at each handshake.
    ///
    /// # Errors
    /// When the roots are empty.
    pub fn new(
        roots: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
        allowed: Allowed,
    ) -> Result<AcceptVerifier, rustls::server::VerifierBuilderError> {
        let chain = WebPkiClientVerifier::builder_with_provider(roots, provider).build()?;
        Ok(AcceptVerifier { chain, allowed })
    }
}

impl ClientCertVerifier for AcceptVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        let found = PeerIdentity::of_certificate(end_entity).map_err(refuse)?;
        if !self.allowed.contains(found) {
            return Err(refuse(IdentityError::Unknown(found)));
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
