//! What a server is started with, and why it does not start.
//!
//! Owns reading the files that its configuration names. Does not own their forms (`topology`, `tls`, `secrets`).

use super::boot::BootError;
use super::push::{Gateway, GatewayError};
use super::upkeep::most_connections;
use crate::link::LinkTimes;
use crate::link::links::LinksError;
use crate::net::StreamLimits;
use crate::secrets::{Secrets, SecretsError};
use crate::tls::config::CredentialsError;
use crate::tls::files::FileError;
use crate::tls::{Certified, Credentials, PeerIdentity, RandomFailed, Trust};
use pairline_store::OpenError;
use pairline_topology::{ConfigError, PushConfig, ServerConfig, Topology};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What happens when the process must end (failed sync, broken invariant).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFatal {
    /// The process exits with status 70 after a clear message: what is on disk is recovered at the next start.
    Exit,
    /// [`super::RunningServer::wait`] tells it; for tests within one process.
    Report,
}

/// What a server is started with.
pub struct ServerOptions {
    /// Its own configuration.
    pub config: ServerConfig,
    /// Topology of the first start; a newer one in the management store's copy wins.
    pub topology: Topology,
    /// Its certificate, key and authority.
    pub credentials: Arc<Credentials>,
    /// What it shows to SIP clients and servers; the same certificate, unless the organisation's is given.
    pub sip_certificate: Arc<Certified>,
    /// Whom it believes there.
    pub sip_trust: Arc<Trust>,
    /// The deployment's secrets.
    pub secrets: Secrets,
    /// Where orders to wake clients go.
    pub push: Option<Gateway>,
    /// What the collector of captured messages asks for, if it does.
    pub hep_key: Option<Vec<u8>>,
    /// Limits on SIP streams.
    pub streams: StreamLimits,
    /// Intervals of links.
    pub links: LinkTimes,
    /// How often the node is told the facts of the machine.
    pub facts_every: Duration,
    /// How often certificates are looked for that have been renewed on disk.
    pub certificates_every: Duration,
    /// How often the DNS learns which pools live.
    pub liveness_every: Duration,
    /// Resolvers for names that are not ours; those of the system if `None`.
    pub resolvers: Option<Vec<SocketAddr>>,
    /// Whether groups that are damaged on this disk are given up and taken anew from the partner.
    pub resync_corrupt: bool,
    /// What happens when the process must end.
    pub on_fatal: OnFatal,
}

/// Why a server does not start. Nothing that was there is changed by then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its configuration and the topology do not fit together, or a text has findings.
    #[error("{}", join(.0))]
    Config(Vec<ConfigError>),
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The topology file is not text.
    #[error("the topology file is not UTF-8 text")]
    NotText,
    /// Certificate, key or authority.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The certificate is another server's.
    #[error("the certificate is of pool {} server {}, the configuration is of pool {} server {}", .found.pool.0, .found.server.0, .expected.pool.0, .expected.server.0)]
    WrongCertificate {
        /// Whom the certificate names.
        found: PeerIdentity,
        /// Who this server is.
        expected: PeerIdentity,
    },
    /// The push gateway.
    #[error(transparent)]
    Push(#[from] GatewayError),
    /// The secrets.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// A listening point cannot be had.
    #[error("cannot listen on {what} {address}: {source}{}", hint(.source))]
    Bind {
        /// Which kind.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// More listeners than can be numbered.
    #[error("too many listeners")]
    TooManyListeners,
    /// The store.
    #[error("data folder: {}{}", .0, cause(.0))]
    Store(#[from] OpenError),
    /// Data of groups is damaged.
    #[error("{}", corrupt_text(.0))]
    Corrupt(Vec<(pairline_group::GroupId, pairline_store::Corruption)>),
    /// A damaged group could not be given up.
    #[error("a damaged group cannot be given up: {0}")]
    Forget(#[from] pairline_store::ForgetError),
    /// The start number.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The links.
    #[error(transparent)]
    Links(#[from] LinksError),
    /// The system gives no thread, socket or runtime.
    #[error("the system refuses: {0}")]
    System(#[from] io::Error),
    /// The capture of messages.
    #[error("messages cannot be captured as [capture] wants: {0}")]
    Capture(io::Error),
    /// A watcher that is no address.
    #[error("registrations.watchers: {0:?} is no SIP address; write for example \"sip:anna@example.org\"")]
    Watcher(String),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomFailed),
    /// The node cannot start from what the disk gave back.
    #[error("the node cannot start: {0}")]
    Node(String),
}

fn join(errors: &[ConfigError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn cause(error: &dyn std::error::Error) -> String {
    error.source().map(|s| format!(": {s}{}", cause(s))).unwrap_or_default()
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program (or another Pairline) listens there: stop it or choose another port"
        }
        io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
        io::ErrorKind::PermissionDenied => "; that port needs a privilege that this process does not have",
        _ => "",
    }
}

fn corrupt_text(groups: &[(pairline_group::GroupId, pairline_store::Corruption)]) -> String {
    let few: Vec<String> = groups.iter().take(3).map(|(group, reason)| format!("{group} ({reason})")).collect();
    let more = if groups.len() > few.len() { format!(" and {} more", groups.len() - few.len()) } else { String::new() };
    format!(
        "the data of {} group(s) on this disk is damaged: {}{more}; nothing was changed. If the pool is paired, start once with \
         --resync-corrupt to take them anew from the partner (what only this disk had is lost then); else restore the data folder \
         from a backup",
        groups.len(),
        few.join(", ")
    )
}

/// The push gateway with the files that its part of the text names.
fn gateway(config: &PushConfig) -> Result<Gateway, StartError> {
    let tls = match &config.authority {
        Some(path) => Some(crate::tls::config::admin_client(&crate::tls::files::read(path)?)?),
        None => None,
    };
    let token = match &config.token {
        Some(path) => Some(crate::tls::files::read_private(path)?),
        None => None,
    };
    let token = token.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    Ok(Gateway::new(&config.gateway, tls, token)?)
}

impl ServerOptions {
    /// Reads every file that a server's configuration names.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn load(config: ServerConfig) -> Result<ServerOptions, StartError> {
        let text = crate::tls::files::read(&config.topology)?;
        let text = String::from_utf8(text).map_err(|_| StartError::NotText)?;
        let topology =
            pairline_topology::parse(&config.topology.to_string_lossy(), &text).map_err(StartError::Config)?;
        let credentials = Credentials::load(&config.certificate, &config.key, &config.authority)?;
        // A witness opens nothing that is sealed: its machine need not have the deployment's secrets.
        let witness = topology.server_named(&config.server).is_some_and(pairline_topology::Server::is_witness);
        let secrets = if witness { Secrets::generate()? } else { Secrets::load(&config.secret)? };
        let mut options = ServerOptions::new(config, topology, credentials, secrets);
        let sip = &options.config.sip;
        if let (Some(certificate), Some(key)) = (&sip.certificate, &sip.key) {
            options.sip_certificate = Arc::new(Certified::load(certificate, key)?);
        }
        if let Some(authorities) = &sip.authorities {
            let pem = crate::tls::files::read(authorities)?;
            let roots = crate::tls::config::roots_with(options.credentials.roots(), &pem)?;
            options.sip_trust.replace(roots).map_err(CredentialsError::from)?;
        }
        options.push = options.config.push.as_ref().map(gateway).transpose()?;
        if let Some(path) = &options.config.capture.hep_key {
            let key = crate::tls::files::read_private(path)?;
            options.hep_key = Some(key.trim_ascii().to_vec());
        }
        Ok(options)
    }

    /// From what is in memory, with production values for the rest.
    pub fn new(config: ServerConfig, topology: Topology, credentials: Credentials, secrets: Secrets) -> ServerOptions {
        let connections = most_connections(&topology);
        let grace = u64::from(config.sip.flow_grace_s);
        let flow_grace = (grace > 0).then(|| Duration::from_secs(grace));
        ServerOptions {
            config,
            topology,
            sip_certificate: credentials.certified().clone(),
            sip_trust: Arc::new(credentials.sip_trust()),
            credentials: Arc::new(credentials),
            secrets,
            push: None,
            hep_key: None,
            streams: StreamLimits { connections, flow_grace, ..StreamLimits::default() },
            links: LinkTimes::default(),
            facts_every: Duration::from_secs(5),
            certificates_every: Duration::from_secs(30),
            liveness_every: Duration::from_secs(1),
            resolvers: None,
            resync_corrupt: false,
            on_fatal: OnFatal::Exit,
        }
    }
}
