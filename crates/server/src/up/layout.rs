//! The data folder of a deployment: where everything lies, and how a folder is recognised as one of Pairline's.
//!
//! Owns paths and the marker file. Does not own the content of the other files, nor servers' own data formats (`store`).

use crate::tls::files::{self, FileError};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Format of the folder that this build writes; a newer one is refused untouched.
pub const FORMAT: u32 = 1;

/// What the marker says of a whole deployment's folder.
const DEPLOYMENT: &str = "pairline-deployment";

/// What it says of the folder of one server that joined.
const SERVER: &str = "pairline-server";

/// Paths of one deployment's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

/// The marker file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// `pairline-deployment`, or `pairline-server`.
    pub kind: String,
    /// Format of the folder.
    pub format: u32,
    /// Build that created it.
    pub created_by: String,
}

/// What a folder is.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing there, or an empty folder.
    Nothing,
    /// A deployment that this build can run.
    Deployment,
    /// One server that joined a deployment: its data is all that this machine has of it.
    Server,
}

/// Why a folder is not touched.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// Something else lies there.
    #[error(
        "{0} is not a data folder of Pairline; nothing was touched. Choose another with --data DIR, or remove it yourself"
    )]
    Foreign(PathBuf),
    /// Created by a newer build.
    #[error(
        "{path} has data format {format}, this build knows up to {FORMAT}; nothing was touched. Run the newer build, or choose another folder with --data DIR"
    )]
    Newer {
        /// Which folder.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// One server of a deployment lies there.
    #[error(
        "{0} is the folder of a server that joined a deployment, and has its data; nothing was touched. Start it with `pairline server --config {0}/servers/NAME/server.toml`, or choose another folder with --data DIR"
    )]
    OneServer(PathBuf),
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// Which path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Layout {
    /// The layout of a folder.
    pub fn new(root: &Path) -> Layout {
        Layout { root: root.to_owned() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The marker by which the folder is recognised.
    pub fn marker(&self) -> PathBuf {
        self.root.join("deployment.json")
    }

    /// Topology text of the first start.
    pub fn topology(&self) -> PathBuf {
        self.root.join("topology.toml")
    }

    /// The administrator's token.
    pub fn admin_token(&self) -> PathBuf {
        self.root.join("admin.token")
    }

    /// Folder of the deployment's authority.
    pub fn authority(&self) -> PathBuf {
        self.root.join("authority")
    }

    /// The authority's certificate.
    pub fn authority_certificate(&self) -> PathBuf {
        self.authority().join(crate::tls::authority::AUTHORITY_CERTIFICATE)
    }

    /// Its key, where certificates are issued: on no other machine.
    pub fn authority_key(&self) -> PathBuf {
        self.authority().join(crate::tls::authority::AUTHORITY_KEY)
    }

    /// Secrets that all servers share.
    pub fn secret(&self) -> PathBuf {
        self.root.join("deployment.secret")
    }

    /// Held while an `up` runs here.
    pub fn lock(&self) -> PathBuf {
        self.root.join("up.lock")
    }

    /// Folder of one server.
    pub fn server(&self, name: &str) -> PathBuf {
        self.root.join("servers").join(name)
    }

    /// Configuration of one server.
    pub fn server_config(&self, name: &str) -> PathBuf {
        self.server(name).join("server.toml")
    }

    /// Folder of a user's client configurations.
    pub fn client(&self, user: &str) -> PathBuf {
        self.root.join("clients").join(user)
    }

    /// What the folder is, without touching it.
    pub fn look(&self) -> Result<Found, LayoutError> {
        let io = |source| LayoutError::Io { path: self.root.clone(), source };
        let mut entries = match std::fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
                return Err(LayoutError::Foreign(self.root.clone()));
            }
            Err(error) => return Err(io(error)),
        };
        if entries.next().is_none() {
            return Ok(Found::Nothing);
        }
        let foreign = || LayoutError::Foreign(self.root.clone());
        let text = files::read(&self.marker()).map_err(|_| foreign())?;
        let marker: Marker = serde_json::from_slice(&text).map_err(|_| foreign())?;
        let found = match marker.kind.as_str() {
            DEPLOYMENT => Found::Deployment,
            SERVER => Found::Server,
            _ => return Err(foreign()),
        };
        if marker.format > FORMAT {
            return Err(LayoutError::Newer { path: self.root.clone(), format: marker.format });
        }
        Ok(found)
    }

    /// Writes the marker of a deployment: the last step of creating a folder's content.
    pub fn mark(&self) -> Result<(), LayoutError> {
        self.mark_as(DEPLOYMENT)
    }

    /// Writes the marker of a server that joined, as the last step as well.
    pub fn mark_server(&self) -> Result<(), LayoutError> {
        self.mark_as(SERVER)
    }

    fn mark_as(&self, kind: &str) -> Result<(), LayoutError> {
        let marker = Marker { kind: kind.into(), format: FORMAT, created_by: env!("CARGO_PKG_VERSION").into() };
        let text = serde_json::to_vec_pretty(&marker).unwrap_or_default();
        Ok(files::write_public(&self.marker(), &text)?)
    }

    /// Removes the folder, after it was recognised as that of a deployment (of any format that this build can read). That of a server that
    /// joined is never removed: its data may be needed.
    pub fn remove(&self) -> Result<(), LayoutError> {
        match self.look()? {
            Found::Nothing => Ok(()),
            Found::Server => Err(LayoutError::OneServer(self.root.clone())),
            Found::Deployment => std::fs::remove_dir_all(&self.root)
                .map_err(|source| LayoutError::Io { path: self.root.clone(), source }),
        }
    }
}
