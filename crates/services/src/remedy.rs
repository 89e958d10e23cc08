//! Why a command on users, contacts or settings is refused, and what to do about it.
//!
//! Owns the reasons that all commands share and their words. Decides nothing.

use crate::cx::{Cx, Place};
use pairline_group::io::{Done, Refusal};
use pairline_group::{GroupId, PoolId};
use pairline_sip::uri::Aor;

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The text names no user of our domains.
    #[error("{0:?} is not a user of this deployment's domains")]
    BadUser(String),
    /// No such user.
    #[error("there is no user {0}")]
    NoSuchUser(String),
    /// The user exists already.
    #[error("{user} exists already, with home pool {home}")]
    Exists {
        /// Who.
        user: String,
        /// Short name of the home pool.
        home: String,
    },
    /// No such pool.
    #[error("pool {0:?} is not in the topology")]
    NoSuchPool(PoolId),
    /// A value is out of bounds.
    #[error("{field}: {reason}")]
    BadValue {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The list is full.
    #[error("the contact list holds {0} contacts, its limit")]
    ListFull(usize),
    /// No such item.
    #[error("{0} is not there")]
    NotThere(String),
    /// The user is in resiliency mode here: known data can be read, nothing durable can be changed.
    #[error("{0} is in resiliency mode: contacts, settings and users can be read but not changed")]
    Limited(String),
    /// The serving pool cannot be reached.
    #[error("pool {0}, which serves the user, cannot be reached")]
    Unreachable(String),
    /// This server has just come back, and lacks users perhaps; nobody who knows them all could be asked.
    #[error("whether there is a user {0} is not known here yet")]
    NotKnownYet(String),
    /// A stored record is of a newer build or damaged.
    #[error("a stored record of {0} cannot be read by this build")]
    Unreadable(String),
    /// The change was not written.
    #[error("the change was not written")]
    Refused(#[source] Refusal),
}

impl CommandError {
    /// Stable short name.
    pub fn kind(&self) -> &'static str {
        match self {
            CommandError::BadUser(_) => "bad-user",
            CommandError::NoSuchUser(_) => "no-such-user",
            CommandError::Exists { .. } => "user-exists",
            CommandError::NoSuchPool(_) => "no-such-pool",
            CommandError::BadValue { .. } => "bad-value",
            CommandError::ListFull(_) => "list-full",
            CommandError::NotThere(_) => "not-there",
            CommandError::Limited(_) => "resiliency-mode",
            CommandError::Unreachable(_) => "pool-unreachable",
            CommandError::NotKnownYet(_) => "not-known-yet",
            CommandError::Unreadable(_) => "record-unreadable",
            CommandError::Refused(_) => "not-written",
        }
    }

    /// Whether the same command may succeed a moment later without anybody doing anything.
    pub fn passes(&self) -> bool {
        matches!(self, CommandError::Limited(_) | CommandError::Unreachable(_) | CommandError::NotKnownYet(_))
            || matches!(
                self,
                CommandError::Refused(
                    Refusal::Busy
                        | Refusal::Moved(..)
                        | Refusal::NotNow(_)
                        | Refusal::NotActive(..)
                        | Refusal::HandingOver(_)
                        | Refusal::OutcomeUnknown
                )
            )
    }

    /// HTTP status that fits.
    pub fn status(&self) -> u16 {
        match self {
            CommandError::BadUser(_) | CommandError::BadValue { .. } => 400,
            CommandError::NoSuchUser(_) | CommandError::NoSuchPool(_) | CommandError::NotThere(_) => 404,
            CommandError::Exists { .. } | CommandError::ListFull(_) => 409,
            CommandError::Limited(_)
            | CommandError::Unreachable(_)
            | CommandError::NotKnownYet(_)
            | CommandError::Refused(_) => 503,
            CommandError::Unreadable(_) => 500,
        }
    }

    /// What to do.
    pub fn remedy(&self) -> &'static str {
        match self {
            CommandError::BadUser(_) => "write the user as name, name@domain or sip:name@domain",
            CommandError::NoSuchUser(_) => "see `pairline user list`",
            CommandError::Exists { .. } => "use `pairline user password` to change its password, or remove it first",
            CommandError::NoSuchPool(_) => "see `pairline pool status` for the pools there are",
            CommandError::BadValue { .. } => "correct the value and repeat the command",
            CommandError::ListFull(_) => "remove contacts, or raise max_contacts in the topology",
            CommandError::NotThere(_) => "list what is there and repeat the command",
            CommandError::Limited(_) => {
                "repeat when the serving pool is back, or after `pairline pool failover` of the lost pool"
            }
            CommandError::Unreachable(_) => "see `pairline pool status`; repeat when the pool is reachable",
            CommandError::NotKnownYet(_) => "repeat the command; if that does not help, see `pairline pool health`",
            CommandError::Unreadable(_) => "update this server to the build that wrote the record",
            CommandError::Refused(Refusal::OutcomeUnknown) => "look whether the change is there before repeating it",
            CommandError::Refused(_) => "repeat the command; a change that was half done is completed then",
        }
    }
}

/// The group whose local copy may be read for a user, and whether the user's data can be changed now.
pub(crate) struct Readable {
    /// The user's group.
    pub group: GroupId,
    /// Nothing durable can be changed.
    pub read_only: bool,
}

/// Where a user's data can be read.
pub(crate) fn readable<C: Cx>(cx: &C, user: &Aor) -> Result<Readable, CommandError> {
    match cx.place(user) {
        Place::NoSuchUser => Err(CommandError::NoSuchUser(user.as_str().to_owned())),
        Place::Here { group } | Place::Elsewhere { group: Some(group), .. } => Ok(Readable { group, read_only: false }),
        Place::Resiliency { group } => Ok(Readable { group, read_only: true }),
        Place::Elsewhere { group: None, .. } | Place::Unavailable { group: None, .. } => {
            Err(CommandError::NotKnownYet(user.as_str().to_owned()))
        }
        Place::Unavailable { pool, .. } => Err(CommandError::Unreachable(cx.view().pool_label(pool))),
    }
}

/// The group to which a user's changes are proposed. Served elsewhere is fine: the proposal goes there.
pub(crate) fn writable<C: Cx>(cx: &C, user: &Aor) -> Result<GroupId, CommandError> {
    let readable = readable(cx, user)?;
    if readable.read_only {
        return Err(CommandError::Limited(user.as_str().to_owned()));
    }
    Ok(readable.group)
}

/// Turns the end of a commit into a result.
pub(crate) fn written(done: Done, user: &Aor) -> Result<(), CommandError> {
    match done {
        Done::Committed(_) | Done::Duplicate(_) | Done::NoChange(_) => Ok(()),
        Done::Refused(Refusal::Unconfirmed) => Err(CommandError::Limited(user.as_str().to_owned())),
        Done::Refused(refusal) => Err(CommandError::Refused(refusal)),
    }
}

/// Refuses a text that is too long or has control characters.
pub(crate) fn text(field: &'static str, value: &str, max: usize) -> Result<(), CommandError> {
    if value.len() > max {
        return Err(CommandError::BadValue { field, reason: "too long" });
    }
    if value.chars().any(char::is_control) {
        return Err(CommandError::BadValue { field, reason: "contains control characters" });
    }
    Ok(())
}
