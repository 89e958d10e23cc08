//! Creating a deployment's data folder: authority, secrets, topology, certificates, configurations, token.
//!
//! Owns what a new folder holds. It is built beside its place and renamed at the end, so that there is never half of one.

use super::layout::{Layout, LayoutError};
use crate::secrets::{Secrets, SecretsError};
use crate::tls::authority::{Authority, AuthorityError, CertificateNames};
use crate::tls::files::{self, FileError};
use crate::tls::{Issued, PeerIdentity, RandomFailed, fill_random};
use pairline_topology::server_config::LogFormat;
use pairline_topology::{CaptureConfig, ConfigError, Server, ServerConfig, SipConfig, Topology, to_toml};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Why a folder could not be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The folder is not ours, or the file system refused.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// No authority or certificate.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// No secrets.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomFailed),
    /// The published topology cannot be used.
    #[error("the published topology cannot be read by this build: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Topology(Vec<ConfigError>),
    /// It does not have the server.
    #[error(
        "the published topology has no server {0}; see `pairline topology show`, and publish one that has it first"
    )]
    NoSuchServer(String),
    /// The server is there already.
    #[error(
        "{0} is there already; nothing was touched. A server whose disk was replaced is started with the configuration that it had"
    )]
    Exists(PathBuf),
    /// Not here.
    #[error("{0} is not there: run this where the deployment was created, or with --data DIR")]
    NoAuthority(PathBuf),
    /// A file of the folder is not text.
    #[error("{0} is not text")]
    NotText(PathBuf),
    /// The folder could not be made or renamed.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> CreateError {
    let path = path.to_owned();
    move |source| CreateError::Io { path, source }
}

/// Creates the folder for a topology; every server gets certificate and configuration.
pub fn create(root: &Path, topology: &Topology) -> Result<Layout, CreateError> {
    whole(root, |new, final_place| build(new, final_place, topology))
}

/// What a machine that joins was given, and the key that it made.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// The published topology.
    pub topology: &'a str,
    /// The authority's certificate, in PEM.
    pub authority: &'a str,
    /// What all servers share that hold data.
    pub secret: Option<&'a str>,
    /// The administrator's token, for the same.
    pub admin_token: Option<&'a str>,
    /// Its own certificate and key.
    pub issued: &'a Issued,
}

/// Creates the folder of a machine that is one server of a deployment; the place of its configuration comes back.
///
/// # Errors
/// [`CreateError`]; then nothing is there.
pub fn create_joined(root: &Path, name: &str, parts: &Parts<'_>) -> Result<PathBuf, CreateError> {
    let layout = whole(root, |new, final_place| build_joined(new, final_place, name, parts))?;
    Ok(layout.server_config(name))
}

fn build_joined(new: &Layout, final_place: &Layout, name: &str, parts: &Parts<'_>) -> Result<(), CreateError> {
    let topology =
        pairline_topology::parse("the topology that was sent", parts.topology).map_err(CreateError::Topology)?;
    let known = topology.server.iter().find(|server| server.name == name);
    let server = known.ok_or_else(|| CreateError::NoSuchServer(name.to_owned()))?;
    files::write_public(&new.topology(), parts.topology.as_bytes())?;
    for (path, content) in [(new.secret(), parts.secret), (new.admin_token(), parts.admin_token)] {
        content.map(|content| files::write_private(&path, content.as_bytes())).transpose()?;
    }
    files::write_public(&new.authority_certificate(), parts.authority.as_bytes())?;
    add_files(new, final_place, server, parts.issued)?;
    Ok(new.mark_server()?)
}

/// Builds a folder beside its place, and puts it there once it is whole.
fn whole(root: &Path, build: impl FnOnce(&Layout, &Layout) -> Result<(), CreateError>) -> Result<Layout, CreateError> {
    use std::os::unix::fs::DirBuilderExt;
    let root = std::path::absolute(root).map_err(io(root))?;
    let final_place = Layout::new(&root);
    let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside = root.with_file_name(format!(".{name}.new-{}", std::process::id()));
    let new = Layout::new(&beside);
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(new.root()).map_err(io(new.root()));
    let built = made.and_then(|()| build(&new, &final_place));
    if let Err(error) = built.and_then(|()| std::fs::rename(&beside, &root).map_err(io(&root))) {
        // What was built beside is ours alone; the place itself is untouched.
        let _ = std::fs::remove_dir_all(&beside);
        return Err(error);
    }
    Ok(final_place)
}

fn build(new: &Layout, final_place: &Layout, topology: &Topology) -> Result<(), CreateError> {
    files::write_public(&new.topology(), to_toml(topology).as_bytes())?;
    Secrets::generate()?.store(&new.secret())?;
    files::write_private(&new.admin_token(), format!("{}\n", token()?).as_bytes())?;
    let authority = Authority::load_or_create(&new.authority(), &topology.deployment.id)?;
    for server in &topology.server {
        let issued = authority.issue(&certificate_names(topology, server))?;
        add_files(new, final_place, server, &issued)?;
    }
    Ok(new.mark()?)
}

/// Certificate, key, an empty data folder and, last, the configuration of one server, for a folder that will be at its final place.
fn add_files(new: &Layout, final_place: &Layout, server: &Server, issued: &Issued) -> Result<(), CreateError> {
    let folder = new.server(&server.name);
    let data = folder.join("data");
    std::fs::create_dir_all(&data).map_err(io(&data))?;
    issued.write(&folder.join("server.pem"), &folder.join("server.key"))?;
    let config = server_config(final_place, server);
    Ok(files::write_public(&new.server_config(&server.name), config.to_toml().as_bytes())?)
}

/// Gives a server that came to the published topology what it needs: certificate, key and configuration; the folder's topology, with which it
/// begins, becomes the published one. The place of the configuration comes back.
///
/// # Errors
/// [`CreateError`]; nothing that was there is touched.
pub fn add_server(layout: &Layout, published: &str, name: &str) -> Result<PathBuf, CreateError> {
    let topology = pairline_topology::parse("the published topology", published).map_err(CreateError::Topology)?;
    let known = topology.server.iter().find(|server| server.name == name);
    let server = known.ok_or_else(|| CreateError::NoSuchServer(name.to_owned()))?;
    if !layout.authority_key().exists() {
        return Err(CreateError::NoAuthority(layout.authority_key()));
    }
    let config = layout.server_config(name);
    if config.exists() {
        return Err(CreateError::Exists(config));
    }
    let authority = Authority::load(&layout.authority())?;
    let issued = authority.issue(&certificate_names(&topology, server))?;
    files::write_public(&layout.topology(), published.as_bytes())?;
    add_files(layout, layout, server, &issued)?;
    Ok(config)
}

/// The names that a server's certificate carries: SIP domains, its own, its pool's and the partner's (clients check the name
/// before SRV resolution, RFC 5922), and its addresses. A witness speaks for nobody: its own name, and no other.
pub fn certificate_names(topology: &Topology, server: &Server) -> CertificateNames {
    let mut addresses: Vec<IpAddr> = vec![server.admin.ip(), server.link.ip()];
    addresses.extend(server.listener.iter().map(|l| l.address.ip()));
    addresses.extend(server.listener.iter().filter_map(|l| l.advertise_address).map(|a| a.ip()));
    addresses.sort_unstable();
    addresses.dedup();
    let own = if server.is_witness() { vec![server.name.to_ascii_lowercase()] } else { topology.own_names(server.id) };
    let names = own.into_iter().filter(|name| name.parse::<IpAddr>().is_err()).collect();
    CertificateNames { identity: PeerIdentity { pool: server.pool, server: server.id }, names, addresses }
}

/// The configuration of one server of the folder.
fn server_config(layout: &Layout, server: &Server) -> ServerConfig {
    let folder = layout.server(&server.name);
    ServerConfig {
        server: server.name.clone(),
        topology: layout.topology(),
        data: folder.join("data"),
        certificate: folder.join("server.pem"),
        key: folder.join("server.key"),
        authority: layout.authority_certificate(),
        secret: layout.secret(),
        admin_token: Some(layout.admin_token()),
        log_format: LogFormat::Text,
        log_level: "info".into(),
        admin: None,
        link: None,
        dns: None,
        listener: Vec::new(),
        sip: SipConfig::default(),
        push: None,
        watchers: Vec::new(),
        capture: CaptureConfig::default(),
    }
}

/// A new administrator token: 256 bits.
pub fn token() -> Result<String, RandomFailed> {
    let mut bytes = [0_u8; 32];
    fill_random(&mut bytes)?;
    Ok(crate::api::token::hex(&bytes))
}

/// A password that can be typed: 16 letters and digits without those that look alike, 80 bits.
pub fn password() -> Result<String, RandomFailed> {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0_u8; 16];
    fill_random(&mut bytes)?;
    Ok(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect())
}
