//! The new machine's side: a key is made here, everything else is asked for, and the folder is there whole or not at all.
//!
//! Owns that order. Does not own the folder's form (`up::layout`) nor the server's configuration (`up::create`).

use super::pinned::{self, PinnedError};
use super::{Ask, Given, JOIN, JOINED, Token, VERSION};
use crate::api::problem::ProblemBody;
use crate::client::{Connection, ConnectionError};
use crate::secrets::{Secrets, SecretsError};
use crate::tls::Issued;
use crate::up::create::{self, CreateError};
use crate::up::layout::{Found, Layout, LayoutError};
use bytes::Bytes;
use rcgen::{CertificateParams, KeyPair};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the other side may take to answer.
const ANSWER: Duration = Duration::from_secs(30);

/// Why this machine is no server yet.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// Something is there already.
    #[error("{0} is not empty; nothing was asked for. Choose another folder with --data DIR")]
    NotEmpty(PathBuf),
    /// The folder is not ours.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// No key, or no request with it.
    #[error("no key for this server: {0}")]
    Key(#[from] rcgen::Error),
    /// No TLS.
    #[error(transparent)]
    Pinned(#[from] PinnedError),
    /// The other side does not answer, or is another one.
    #[error(
        "{address} does not answer as the maker of the token: {source}. Is `pairline server invite` still waiting there, and is this the whole token that it printed?"
    )]
    NotReached {
        /// Which.
        address: String,
        /// Why.
        source: ConnectionError,
    },
    /// The token is not, or not any more, good for anything.
    #[error("{address} refused: {detail} {remedy}")]
    Refused {
        /// Who.
        address: String,
        /// Why.
        detail: String,
        /// What to do.
        remedy: String,
    },
    /// The answer cannot be used.
    #[error(
        "the answer of {address} cannot be used: {why}. Install the same version on both machines, and invite again"
    )]
    Answer {
        /// Whose.
        address: String,
        /// Why.
        why: String,
    },
    /// What all servers share cannot be read.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// The folder was not written; nothing of it is left.
    #[error("{0}. The token does not work any more: invite again")]
    NotWritten(CreateError),
}

/// Makes this machine the server that the token was made for: name of the server and place of its configuration come back.
///
/// # Errors
/// [`EnterError`]; then nothing was written.
pub async fn enter(root: &Path, address: &str, token: &Token) -> Result<(String, PathBuf), EnterError> {
    let layout = Layout::new(root);
    match layout.look() {
        Ok(Found::Nothing) => {}
        Ok(Found::Deployment | Found::Server) | Err(LayoutError::Foreign(_)) => {
            return Err(EnterError::NotEmpty(root.to_owned()));
        }
        Err(error) => return Err(error.into()),
    }
    let key = KeyPair::generate()?;
    let request = CertificateParams::default().serialize_request(&key)?.pem()?;
    let not_reached = |source| EnterError::NotReached { address: address.to_owned(), source };
    let mut connection = Connection::open(address, pinned::client(token)?).await.map_err(not_reached)?;
    let ask = serde_json::to_vec(&Ask { version: VERSION, request }).unwrap_or_default();
    let (status, body) = connection.post(JOIN, &token.secret(), Bytes::from(ask), ANSWER).await.map_err(not_reached)?;
    let given = given(address, status, &body)?;
    // Read before anything is written: a server would refuse to start with what it does not know.
    given.secret.as_deref().map(Secrets::from_toml).transpose()?;
    let issued = Issued { certificate_pem: given.certificate, key_pem: key.serialize_pem() };
    let parts = create::Parts {
        topology: &given.topology,
        authority: &given.authority,
        secret: given.secret.as_deref(),
        admin_token: given.admin_token.as_deref(),
        issued: &issued,
    };
    let config = create::create_joined(root, &given.server, &parts).map_err(EnterError::NotWritten)?;
    // The other side waits for it in vain if that is lost, and says so; here all is done.
    let _ = connection.post(JOINED, &token.secret(), Bytes::new(), ANSWER).await;
    Ok((given.server, config))
}

fn given(address: &str, status: u16, body: &[u8]) -> Result<Given, EnterError> {
    let address = address.to_owned();
    match status {
        200 => {}
        401 => {
            return Err(EnterError::Refused {
                address,
                detail: "The token is not the one that is waited for.".into(),
                remedy: "Invite again, and copy the command that is printed.".into(),
            });
        }
        _ => {
            let problem: Option<ProblemBody> = serde_json::from_slice(body).ok();
            let (detail, remedy) = problem.map_or_else(
                || (format!("it answers {status}."), "Invite again.".to_owned()),
                |problem| (problem.detail, problem.remedy),
            );
            return Err(EnterError::Refused { address, detail, remedy });
        }
    }
    let given: Given = match serde_json::from_slice(body) {
        Ok(given) => given,
        Err(error) => return Err(EnterError::Answer { address, why: error.to_string() }),
    };
    if given.version != VERSION {
        return Err(EnterError::Answer { address, why: format!("it has version {}", given.version) });
    }
    Ok(given)
}
