//! `pairline server invite` and `pairline server join`: what is asked for and printed.
//!
//! Owns the words. Does not own what is handed out (`join`).

use crate::client::{CallError, Prefer, Session};
use crate::join::Token;
use crate::join::enter::{self, EnterError};
use crate::join::invite::{self, InviteError, Told};
use crate::up::layout::Layout;
use crate::up::program;
use pairline_node::command::{Command, Reply};
use std::net::SocketAddr;
use std::path::Path;

/// Why nobody joined.
#[derive(Debug, thiserror::Error)]
pub enum JoiningError {
    /// The published topology cannot be had.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The side that invites.
    #[error(transparent)]
    Invite(#[from] InviteError),
    /// The side that joins.
    #[error(transparent)]
    Enter(#[from] EnterError),
    /// The folder's path.
    #[error("the data folder cannot be named: {0}")]
    Path(std::io::Error),
}

/// Invites a machine and waits for it.
///
/// # Errors
/// [`JoiningError`].
pub async fn invite(
    session: &mut Session,
    data: &Path,
    (name, listen, minutes): (&str, SocketAddr, u64),
    mut told: impl FnMut(&str),
) -> Result<bool, JoiningError> {
    if listen.ip().is_unspecified() {
        return Err(InviteError::Unreachable(listen).into());
    }
    let Reply::Text { text } = session.call(&Command::TopologyShow, &Prefer::Any).await? else { return Ok(false) };
    if runs(session, name).await {
        return Err(InviteError::Runs(name.to_owned()).into());
    }
    let layout = Layout::new(&std::path::absolute(data).map_err(JoiningError::Path)?);
    let from = invite::invite(&layout, &text, name, listen, minutes, |step| match step {
        Told::Waits(token, address) => told(&format!(
            "On the machine that shall be {name}, within {minutes} min (the token works once, and whoever has it can become this server):\n\n  \
             pairline --data pairline-data server join {address} --token {token}\n\n\
             This command waits for it; Ctrl-C takes the invitation back.\n"
        )),
        Told::Wrong { from, last } => {
            let more = if last { "; others like it are not shown any more" } else { "" };
            told(&format!("{from} asked without the token and got nothing{more}\n"));
        }
        Told::Given(from) => told(&format!("{from} has the token: certificate and configuration are on their way\n")),
    })
    .await?;
    told(&format!("{name} has joined, on {}\n", from.ip()));
    Ok(true)
}

/// Whether a server of that name answers. Two of one name would take each other's links, and both say what they know of it.
async fn runs(session: &mut Session, name: &str) -> bool {
    let health = session.call(&Command::PoolHealth { pool: None, part: false }, &Prefer::Any).await;
    let Ok(Reply::Health(view)) = health else { return false };
    view.pools.iter().flat_map(|pool| &pool.servers).any(|server| server.server == name && server.up)
}

/// Makes this machine a server.
///
/// # Errors
/// [`JoiningError`].
pub async fn join(data: &Path, inviter: &str, token: &Token, told: impl Fn(&str)) -> Result<bool, JoiningError> {
    let root = std::path::absolute(data).map_err(JoiningError::Path)?;
    let (name, config) = enter::enter(&root, inviter, token).await?;
    let (program, config) = (program::name(), program::quoted(&config));
    told(&format!("This machine is {name}. Start it, as a service, with\n\n  {program} server --config {config}\n"));
    // A witness may ask for nothing.
    if Layout::new(&root).admin_token().exists() {
        let root = program::quoted(&root);
        told(&format!("\nand see its copies come with\n\n  {program} --data {root} pool health --wait\n"));
    }
    Ok(true)
}
