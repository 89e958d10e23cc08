//! Chains of certificates and signatures, checked against the authorities that are believed: the one core of every verifier.
//!
//! Owns which authorities those are (they may be replaced while connections are made) and the glue to the TLS library. Does not
//! own who is meant: links (`verify`) and SIP (`sip`) each say that as a [`Judge`].

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// The authorities as they stand.
#[derive(Clone)]
struct Anchors {
    roots: Arc<RootCertStore>,
    /// Of clients' chains; none where nobody is believed.
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl Anchors {
    fn new(roots: Arc<RootCertStore>, provider: &Arc<CryptoProvider>) -> Result<Anchors, VerifierBuilderError> {
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
        Ok(Anchors { roots, clients: Some(clients) })
    }
}

/// Whom this server believes.
pub struct Trust {
    provider: Arc<CryptoProvider>,
    anchors: RwLock<Anchors>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("authorities", &self.anchors().roots.len()).finish_non_exhaustive()
    }
}

/// Who may be at the other end: asked once its chain and key can be looked at.
pub trait Judge: fmt::Debug + Send + Sync {
    /// Whether it may.
    ///
    /// # Errors
    /// Why not, for the log and for the alert that the other end gets.
    fn judge(
        &self,
        trust: &Trust,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error>;

    /// Whether a client has to show a certificate at all.
    fn is_mandatory(&self) -> bool {
        true
    }
}

/// Why a certificate that is right is still refused.
pub(super) fn refusal(why: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

impl Trust {
    /// Believes those authorities.
    ///
    /// # Errors
    /// When there are none.
    pub fn new(roots: Arc<RootCertStore>) -> Result<Trust, VerifierBuilderError> {
        let provider = super::provider();
        let anchors = RwLock::new(Anchors::new(roots, &provider)?);
        Ok(Trust { provider, anchors })
    }

    /// Believes no authority: for judges that know a certificate by itself.
    pub fn nobody() -> Trust {
        let anchors = Anchors { roots: Arc::new(RootCertStore::empty()), clients: None };
        Trust { provider: super::provider(), anchors: RwLock::new(anchors) }
    }

    /// The same authorities as they stand now, to be replaced apart.
    pub fn apart(&self) -> Trust {
        Trust { provider: self.provider.clone(), anchors: RwLock::new(self.anchors()) }
    }

    /// Believes those from now on, and nobody else. Connections that are up stay.
    ///
    /// # Errors
    /// When there are none; then those of before stay.
    pub fn replace(&self, roots: Arc<RootCertStore>) -> Result<(), VerifierBuilderError> {
        let anchors = Anchors::new(roots, &self.provider)?;
        *self.anchors.write().unwrap_or_else(PoisonError::into_inner) = anchors;
        Ok(())
    }

    fn anchors(&self) -> Anchors {
        self.anchors.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the chain leads to an authority that is believed, valid now, for a server.
    ///
    /// # Errors
    /// Why not.
    pub fn check_server(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.anchors().roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )
    }

    /// The same for a client.
    ///
    /// # Errors
    /// Why not.
    pub fn check_client(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let clients = self.anchors().clients.ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        clients.verify_client_cert(end_entity, intermediates, now).map(|_| ())
    }

    /// The same for either end of a connection: between SIP servers each is both, and public authorities issue for servers
    /// only.
    ///
    /// # Errors
    /// Why it is not right for a server.
    pub fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        self.check_server(end_entity, intermediates, now)
            .or_else(|error| self.check_client(end_entity, intermediates, now).map_err(|_| error))
    }

    fn tls12(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn tls13(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A judge with the authorities, as the TLS library asks them, at either side of a connection.
#[derive(Debug)]
pub struct Verifier<J> {
    trust: Arc<Trust>,
    judge: J,
}

impl<J: Judge + 'static> Verifier<J> {
    /// Of those.
    pub fn new(trust: Arc<Trust>, judge: J) -> Arc<Verifier<J>> {
        Arc::new(Verifier { trust, judge })
    }
}

impl<J: Judge> ServerCertVerifier for Verifier<J> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge.judge(&self.trust, end_entity, intermediates, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.tls12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.schemes()
    }
}

impl<J: Judge> ClientCertVerifier for Verifier<J> {
    fn client_auth_mandatory(&self) -> bool {
        self.judge.is_mandatory()
    }

    // None: a client with one certificate shows it, and a list of all authorities would be larger than the rest.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge.judge(&self.trust, end_entity, intermediates, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.tls12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.schemes()
    }
}
