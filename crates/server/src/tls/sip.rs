//! TLS for SIP: what this server shows, whom it believes, and who the other end has proven to be (RFC 5922, RFC 3261 §26.3).
//!
//! Owns the configurations of SIP's listeners and outgoing connections. Does not own connections (`net`).

use super::certified::Certified;
use super::config::CredentialsError;
use super::sip_names::{SipNames, SipPeer};
use pairline_topology::ClientCertificates;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    ServerConfig, SignatureScheme,
};
use std::sync::Arc;

/// TLS 1.3 session tickets per handshake: one is enough to come back with.
const TICKETS: usize = 1;

/// The certificate of the other end is right, but of somebody else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificate does not name {expected} (RFC 5922: whole names only, no wildcard); it names {found}")]
pub struct WrongName {
    /// Who was meant.
    pub expected: SipPeer,
    /// Whom it names.
    pub found: String,
}

/// Whom SIP believes: the deployment's authority and those of the configuration.
#[derive(Debug)]
struct Trust {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl Trust {
    /// Whether the chain leads to an authority that is believed, valid now, for either end of a connection: between SIP
    /// servers each is both, and public authorities issue for servers only.
    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let as_server = ParsedCertificate::try_from(end_entity).and_then(|certificate| {
            rustls::client::verify_server_cert_signed_by_trust_anchor(
                &certificate,
                &self.roots,
                intermediates,
                now,
                self.provider.signature_verification_algorithms.all,
            )
        });
        match as_server {
            Ok(()) => Ok(()),
            Err(error) => {
                self.clients.verify_client_cert(end_entity, intermediates, now).map(|_| ()).map_err(|_| error)
            }
        }
    }
}

/// TLS for SIP.
pub struct SipTls {
    shown: Arc<Certified>,
    trust: Arc<Trust>,
    listeners: Arc<ServerConfig>,
    web: Arc<ServerConfig>,
}

impl SipTls {
    /// Shows that certificate, believes those authorities, and asks clients (not browsers) for certificates as said.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn new(
        shown: Arc<Certified>,
        roots: Arc<RootCertStore>,
        ask: ClientCertificates,
    ) -> Result<SipTls, CredentialsError> {
        let provider = super::provider();
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
        let trust = Arc::new(Trust { roots, provider, clients });
        let listeners = server(&shown, &trust, ask, &[])?;
        // A browser that is asked for a certificate shows a dialog to its user, so it is not.
        let web = server(&shown, &trust, ClientCertificates::Ignored, &[b"http/1.1"])?;
        Ok(SipTls { shown, trust, listeners, web })
    }

    /// For TLS listeners.
    pub fn listeners(&self) -> &Arc<ServerConfig> {
        &self.listeners
    }

    /// For WSS listeners.
    pub fn web(&self) -> &Arc<ServerConfig> {
        &self.web
    }

    /// For a connection to that peer and nobody else.
    ///
    /// # Errors
    /// [`CredentialsError::Tls`].
    pub fn client(&self, peer: &SipPeer) -> Result<Arc<ClientConfig>, CredentialsError> {
        let verifier = PeerVerifier { trust: self.trust.clone(), expected: peer.clone() };
        let mut config = ClientConfig::builder_with_provider(super::provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.shown.clone());
        // The configuration lives as long as its one connection.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// Who the other end has proven to be; nobody if it showed no certificate or one that is not believed.
    pub fn identify(&self, chain: Option<&[CertificateDer<'_>]>) -> SipNames {
        let Some((end_entity, intermediates)) = chain.and_then(<[_]>::split_first) else {
            return SipNames::default();
        };
        match self.trust.check(end_entity, intermediates, UnixTime::now()) {
            Ok(()) => SipNames::of_certificate(end_entity).unwrap_or_default(),
            Err(_) => SipNames::default(),
        }
    }
}

fn server(
    shown: &Arc<Certified>,
    trust: &Arc<Trust>,
    ask: ClientCertificates,
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, CredentialsError> {
    let builder = ServerConfig::builder_with_provider(super::provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let builder = match ask {
        ClientCertificates::Ignored => builder.with_no_client_auth(),
        ClientCertificates::Asked | ClientCertificates::Required => {
            let required = ask == ClientCertificates::Required;
            builder.with_client_cert_verifier(Arc::new(ClientVerifier { trust: trust.clone(), required }))
        }
    };
    let mut config = builder.with_cert_resolver(shown.clone());
    // Tickets instead of a table: thousands of clients that come back at one moment need no full handshake and no memory.
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    config.send_tls13_tickets = TICKETS;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

/// The accepting side. Unless one is required, a certificate that proves nothing is no reason to refuse: phones show their
/// maker's.
#[derive(Debug)]
struct ClientVerifier {
    trust: Arc<Trust>,
    required: bool,
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.required
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
        match self.trust.check(end_entity, intermediates, now) {
            Err(error) if self.required => Err(error),
            _ => Ok(ClientCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.clients.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.clients.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.clients.supported_verify_schemes()
    }
}

/// The dialling side: accepts exactly who was meant.
#[derive(Debug)]
struct PeerVerifier {
    trust: Arc<Trust>,
    expected: SipPeer,
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let other = |e: Arc<dyn std::error::Error + Send + Sync>| {
            Error::InvalidCertificate(CertificateError::Other(OtherError(e)))
        };
        self.trust.check(end_entity, intermediates, now)?;
        let names = SipNames::of_certificate(end_entity).map_err(|e| other(Arc::new(e)))?;
        if names.matches(&self.expected) {
            return Ok(ServerCertVerified::assertion());
        }
        let found = names.domains().iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        Err(other(Arc::new(WrongName { expected: self.expected.clone(), found })))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.trust.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.trust.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.provider.signature_verification_algorithms.supported_schemes()
    }
}
