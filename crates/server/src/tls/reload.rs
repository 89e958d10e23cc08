//! Renewed certificates and changed authorities: noticed on disk, checked, and shown or believed from then on, without a restart.
//!
//! Owns when and whether one is replaced. Does not own its use (`certified`). Connections that are up stay as they are.

use super::certified::{self, Certified};
use super::config::{CredentialsError, roots_with};
use super::files;
use super::identity::{self, IdentityError, PeerIdentity};
use super::trust::Trust;
use rustls::RootCertStore;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Why a changed file is not taken.
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

/// What was taken from a changed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A certificate that expires in so many days.
    Certificate(i64),
    /// So many authorities, the deployment's own among them.
    Authorities(usize),
}

/// What became of a changed file.
#[derive(Debug)]
pub struct Reloaded {
    /// The file.
    pub file: PathBuf,
    /// Whether it holds authorities, not a certificate.
    pub authorities: bool,
    /// What was taken, or why what was there before still counts.
    pub outcome: Result<Taken, NotTaken>,
}

/// When and how large a file was, where it can be seen.
type Seen = Option<(SystemTime, u64)>;

/// The same of a certificate's file and its key's.
type Stamp = [Seen; 2];

/// A file of authorities that are believed besides the deployment's own.
struct Believed {
    file: PathBuf,
    own: Arc<RootCertStore>,
    trust: Arc<Trust>,
    seen: Seen,
}

/// One certificate on disk.
struct Watched {
    certificate: PathBuf,
    key: PathBuf,
    certified: Arc<Certified>,
    identity: Option<PeerIdentity>,
    seen: Stamp,
}

fn seen(file: &Path) -> Seen {
    let found = std::fs::metadata(file).ok()?;
    Some((found.modified().ok()?, found.len()))
}

fn stamp(certificate: &Path, key: &Path) -> Stamp {
    [seen(certificate), seen(key)]
}

/// The certificates of a server and whom it believes, as they lie on disk.
#[derive(Default)]
pub struct Reloader {
    certificates: Vec<Watched>,
    authorities: Vec<Believed>,
}

impl Reloader {
    /// Watches one more; with an identity it must keep naming that server.
    pub fn watch(
        &mut self,
        certificate: &Path,
        key: &Path,
        certified: &Arc<Certified>,
        identity: Option<PeerIdentity>,
    ) {
        self.certificates.push(Watched {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            certified: certified.clone(),
            identity,
            seen: stamp(certificate, key),
        });
    }

    /// Watches a file of authorities that are believed besides `own`.
    pub fn watch_authorities(&mut self, file: &Path, own: &Arc<RootCertStore>, trust: &Arc<Trust>) {
        let (own, trust) = (own.clone(), trust.clone());
        self.authorities.push(Believed { file: file.to_owned(), own, trust, seen: seen(file) });
    }

    /// Takes what has changed since the last look, or everything if `all`. What is not taken is not tried again before it
    /// changes again.
    pub fn look(&mut self, all: bool, now_unix_seconds: i64) -> Vec<Reloaded> {
        let mut told = Vec::new();
        for watched in &mut self.certificates {
            let stamp = stamp(&watched.certificate, &watched.key);
            if all || stamp != watched.seen {
                watched.seen = stamp;
                let outcome = watched.take(now_unix_seconds).map(Taken::Certificate);
                told.push(Reloaded { file: watched.certificate.clone(), authorities: false, outcome });
            }
        }
        for believed in &mut self.authorities {
            let seen = seen(&believed.file);
            if all || seen != believed.seen {
                believed.seen = seen;
                let outcome = believed.take().map(Taken::Authorities);
                told.push(Reloaded { file: believed.file.clone(), authorities: true, outcome });
            }
        }
        told
    }
}

impl Believed {
    fn take(&self) -> Result<usize, NotTaken> {
        let pem = files::read(&self.file).map_err(CredentialsError::from)?;
        let roots = roots_with(&self.own, &pem)?;
        let count = roots.len();
        self.trust.replace(roots).map_err(CredentialsError::from)?;
        Ok(count)
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
