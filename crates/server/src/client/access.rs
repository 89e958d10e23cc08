//! What a client must have before it can ask: endpoints, token and authority.
//!
//! Owns reading them from a data folder or from options. Does not own connections.

use crate::tls;
use crate::tls::files::{self, FileError};
use crate::up::layout::Layout;
use pairline_topology::Topology;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One server's admin API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port`.
    pub address: String,
    /// The server's name, if known.
    pub server: Option<String>,
    /// Its pool's short name, if known.
    pub pool: Option<String>,
    /// Short name of the pool's partner, if known.
    pub partner: Option<String>,
}

/// Endpoints and credentials.
#[derive(Clone)]
pub struct Access {
    /// Servers, in the order in which they are asked.
    pub endpoints: Vec<Endpoint>,
    /// Bearer token.
    pub token: String,
    /// Trust in the deployment's authority.
    pub tls: Arc<rustls::ClientConfig>,
}

/// Why a client cannot ask.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// No data folder and no `--server`.
    #[error("there is no deployment in {0}; give --data DIR, or --server ADDRESS with --token-file and --authority")]
    NoDeployment(PathBuf),
    /// A file is missing or cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The token's file does not hold text.
    #[error("{0} does not hold a token")]
    Token(PathBuf),
    /// The authority's file cannot be used.
    #[error("the authority's certificate cannot be used: {0}")]
    Authority(#[from] tls::config::CredentialsError),
    /// The topology file cannot be read.
    #[error("{path} cannot be read: {why}")]
    Topology {
        /// Which.
        path: PathBuf,
        /// First finding.
        why: String,
    },
    /// An address without port.
    #[error("`{0}` is not host:port")]
    Address(String),
}

impl Access {
    /// From options: explicit servers win, the data folder fills what is missing.
    pub fn find(
        servers: &[String],
        data: &Path,
        token_file: Option<&Path>,
        authority: Option<&Path>,
    ) -> Result<Access, AccessError> {
        let layout = Layout::new(data);
        if servers.is_empty() && !layout.topology().exists() {
            return Err(AccessError::NoDeployment(data.to_owned()));
        }
        let endpoints = if servers.is_empty() {
            endpoints_of(&read_topology(&layout.topology())?)
        } else {
            servers.iter().map(|address| explicit(address)).collect::<Result<_, _>>()?
        };
        let token_file = token_file.map_or_else(|| layout.admin_token(), Path::to_owned);
        let token = String::from_utf8(files::read_private(&token_file)?)
            .map_err(|_| AccessError::Token(token_file))?
            .trim()
            .to_owned();
        let authority = authority.map_or_else(|| layout.authority_certificate(), Path::to_owned);
        let tls = tls::config::admin_client(&files::read(&authority)?)?;
        Ok(Access { endpoints, token, tls })
    }

    /// The same credentials for the servers of one pool.
    pub fn only(&self, pool: &str) -> Access {
        self.those(|endpoint| endpoint.pool.as_deref() == Some(pool))
    }

    /// The same credentials for one server, by its name.
    pub fn only_server(&self, name: &str) -> Access {
        self.those(|endpoint| endpoint.server.as_deref() == Some(name))
    }

    /// Names of the servers of a pool.
    pub fn of_pool(&self, pool: &str) -> Vec<String> {
        let of_pool = self.endpoints.iter().filter(|endpoint| endpoint.pool.as_deref() == Some(pool));
        of_pool.filter_map(|endpoint| endpoint.server.clone()).collect()
    }

    fn those(&self, wanted: impl Fn(&Endpoint) -> bool) -> Access {
        let endpoints = self.endpoints.iter().filter(|endpoint| wanted(endpoint)).cloned().collect();
        Access { endpoints, token: self.token.clone(), tls: Arc::clone(&self.tls) }
    }
}

/// Reads a topology file.
pub fn read_topology(path: &Path) -> Result<Topology, AccessError> {
    let failed = |why: String| AccessError::Topology { path: path.to_owned(), why };
    let text = String::from_utf8(files::read(path)?).map_err(|_| failed("not text".into()))?;
    pairline_topology::parse(&path.to_string_lossy(), &text)
        .map_err(|findings| failed(findings.first().map_or_else(String::new, ToString::to_string)))
}

/// The admin APIs of a topology, in its order; witnesses last, since they know least.
pub fn endpoints_of(topology: &Topology) -> Vec<Endpoint> {
    let (witnesses, others): (Vec<_>, Vec<_>) = topology.server.iter().partition(|server| server.is_witness());
    others
        .into_iter()
        .chain(witnesses)
        .map(|server| Endpoint {
            address: server.admin.to_string(),
            server: Some(server.name.clone()),
            pool: topology.pool(server.pool).map(|pool| pool.name.clone()),
            partner: topology.partner(server.pool).map(|pool| pool.name.clone()),
        })
        .collect()
}

fn explicit(address: &str) -> Result<Endpoint, AccessError> {
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    match port {
        Some(_) => Ok(Endpoint { address: address.to_owned(), server: None, pool: None, partner: None }),
        None => Err(AccessError::Address(address.to_owned())),
    }
}
