//! TLS for SIP: what this server shows, whom it believes, and who the other end has proven to be (RFC 5922, RFC 3261 §26.3).
//!
//! Owns the configurations of SIP's listeners and outgoing connections. Does not own connections (`net`).

use super::certified::Certified;
use super::config::CredentialsError;
use super::sip_names::{SipNames, SipPeer};
use super::trust::{Judge, Trust, Verifier, refusal};
use pairline_topology::ClientCertificates;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{ClientConfig, Error, ServerConfig};
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

/// TLS for SIP.
pub struct SipTls {
    shown: Arc<Certified>,
    trust: Arc<Trust>,
    listeners: Arc<ServerConfig>,
    web: Arc<ServerConfig>,
}

impl SipTls {
    /// Shows that certificate, believes those authorities as they stand at each handshake, and asks clients (not browsers) for certificates as said.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn new(shown: Arc<Certified>, trust: Arc<Trust>, ask: ClientCertificates) -> Result<SipTls, CredentialsError> {
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
        let verifier = Verifier::new(self.trust.clone(), Meant(peer.clone()));
        let mut config = ClientConfig::builder_with_provider(super::provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
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
            builder.with_client_cert_verifier(Verifier::new(trust.clone(), Client { required }))
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
struct Client {
    required: bool,
}

impl Judge for Client {
    fn judge(
        &self,
        trust: &Trust,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.required { trust.check(end_entity, intermediates, now) } else { Ok(()) }
    }

    fn is_mandatory(&self) -> bool {
        self.required
    }
}

/// The dialling side: exactly who was meant.
#[derive(Debug)]
struct Meant(SipPeer);

impl Judge for Meant {
    fn judge(
        &self,
        trust: &Trust,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        trust.check(end_entity, intermediates, now)?;
        let names = SipNames::of_certificate(end_entity).map_err(refusal)?;
        if names.matches(&self.0) {
            return Ok(());
        }
        let found = names.domains().iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        Err(refusal(WrongName { expected: self.0.clone(), found }))
    }
}
