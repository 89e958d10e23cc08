//! Renewed certificates: noticed on disk, checked, and shown from then on, without a restart.
//!
//! Owns when and whether one is replaced. Does not own its use (`certified`). Connections that are up stay as they are.

use super::certified::{self, Certified};
use super::config::CredentialsError;
use super::files;
use super::identity::{self, IdentityError, PeerIdentity};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Why a changed certificate is not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// It cannot be read, or its key does not fit (yet: whoever replaces both has written one so far).
    #[error(transparent)]
    Unusable(#[from] CredentialsError),
    /// It names no server.
    #[error(transparent)]
    Nameless(#[from] IdentityError),
    /// It is another server's.
    #[error("it is of pool {} server {}, this is pool {} server {}", .found.pool.0, .found.server.0, .expected.pool.0, .expected.server.0)]
    Other {
        /// Whom it names.
        found: PeerIdentity,
        /// Who this server is.
        expected: PeerIdentity,
    },
    /// It has expired.
    #[error("it has expired")]
    Expired,
}

/// What became of a changed certificate.
#[derive(Debug)]
pub struct Reloaded {
    /// Its file.
    pub file: PathBuf,
    /// Days until it expires, or why the old one is still shown.
    pub outcome: Result<i64, NotTaken>,
}

/// When and how large both files were, where they can be seen.
type Stamp = [Option<(SystemTime, u64)>; 2];

/// One certificate on disk.
struct Watched {
    certificate: PathBuf,
    key: PathBuf,
    certified: Arc<Certified>,
    identity: Option<PeerIdentity>,
    seen: Stamp,
}

fn stamp(certificate: &Path, key: &Path) -> Stamp {
    [certificate, key].map(|file| {
        let found = std::fs::metadata(file).ok()?;
        Some((found.modified().ok()?, found.len()))
    })
}

/// The certificates of a server, as they lie on disk.
#[derive(Default)]
pub struct Reloader(Vec<Watched>);

impl Reloader {
    /// Watches one more; with an identity it must keep naming that server.
    pub fn watch(
        &mut self,
        certificate: &Path,
        key: &Path,
        certified: &Arc<Certified>,
        identity: Option<PeerIdentity>,
    ) {
        self.0.push(Watched {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            certified: certified.clone(),
            identity,
            seen: stamp(certificate, key),
        });
    }

    /// Takes what has changed since the last look, or everything if `all`. What is not taken is not tried again before it
    /// changes again.
    pub fn look(&mut self, all: bool, now_unix_seconds: i64) -> Vec<Reloaded> {
        let mut told = Vec::new();
        for watched in &mut self.0 {
            let stamp = stamp(&watched.certificate, &watched.key);
            if all || stamp != watched.seen {
                watched.seen = stamp;
                told.push(Reloaded { file: watched.certificate.clone(), outcome: watched.take(now_unix_seconds) });
            }
        }
        told
    }
}

impl Watched {
    fn take(&self, now_unix_seconds: i64) -> Result<i64, NotTaken> {
        let certificate = files::read(&self.certificate).map_err(CredentialsError::from)?;
        let key = files::read_private(&self.key).map_err(CredentialsError::from)?;
        let found = certified::from_pem(&certificate, &key)?;
        let end_entity = found.end_entity_cert().map_err(CredentialsError::from)?;
        if let Some(expected) = self.identity {
            let found = PeerIdentity::of_certificate(end_entity)?;
            if found != expected {
                return Err(NotTaken::Other { found, expected });
            }
        }
        let days = identity::days_left(end_entity, now_unix_seconds)?;
        if days < 0 {
            return Err(NotTaken::Expired);
        }
        self.certified.replace(found);
        Ok(days)
    }
}
