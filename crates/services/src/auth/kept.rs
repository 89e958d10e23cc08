//! Where the credential of a name lies, and who stands in for a name that nobody has, so that both take the same work.
//!
//! Owns the choice and the rule that evens the work out. Does not own the table of stand-ins (`node`) nor what a credential is
//! worth.
//!
//! A known user with a wrong password costs: its place, a look at the table of stand-ins (which ends at a name that is no
//! user's), a credential read, opened and compared. A name that nobody has costs: its place (none), the same look at the table
//! (which ends at the stand-in's place), and the same for the stand-in's credential. Whoever proves to be that user is spared
//! the second look.

use super::Against;
use crate::cx::{Cx, Place};
use crate::records::derive;
use crate::settings::Secret;
use pairline_group::GroupId;
use pairline_sip::uri::Aor;

/// Where a name's credential lies: the user's own, or that of a stand-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Where the user, or the stand-in, is served; `NoSuchUser` only where nobody can stand in.
    pub place: Place,
    stand_in: Option<Aor>,
}

/// The place of a name in the table of stand-ins. Nobody without the deployment's key can tell who stands in for whom.
pub fn mark_of(key: &Secret, user: &str) -> u64 {
    let hash = blake3::keyed_hash(&derive(key, b"stand-in"), user.as_bytes());
    let mut mark = [0_u8; 8];
    mark.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(mark)
}

impl Kept {
    /// Of a name of our domains.
    pub async fn of<C: Cx>(cx: &C, user: &Aor) -> Kept {
        match cx.placed(user).await {
            Place::NoSuchUser => match cx.stand_in(user) {
                Some((stand_in, place)) => Kept { place, stand_in: Some(stand_in) },
                None => Kept { place: Place::NoSuchUser, stand_in: None },
            },
            place => Kept { place, stand_in: None },
        }
    }

    /// Whether there is such a user.
    pub fn exists(&self) -> bool {
        self.stand_in.is_none() && self.place != Place::NoSuchUser
    }

    /// The group with the credential, whoever serves it.
    pub fn group(&self) -> Option<GroupId> {
        match self.place {
            Place::NoSuchUser => None,
            Place::Here { group } | Place::Resiliency { group } => Some(group),
            Place::Elsewhere { group, .. } | Place::Unavailable { group, .. } => group,
        }
    }

    /// Whose credential it is.
    pub(super) fn owner<'a>(&'a self, user: &'a Aor) -> &'a Aor {
        self.stand_in.as_ref().unwrap_or(user)
    }

    /// An HA1 of it, for comparing.
    pub(super) fn against<'a>(&self, ha1: Option<&'a [u8]>) -> Against<'a> {
        match ha1 {
            Some(ha1) if self.exists() => Against::Own(ha1),
            Some(ha1) => Against::StandIn(ha1),
            None => Against::Nothing,
        }
    }

    /// The other half of the work, for a user who exists and has not proven to be it.
    pub fn even_out<C: Cx>(&self, cx: &C, user: &Aor) {
        if self.exists() {
            drop(cx.stand_in(user));
        }
    }
}
