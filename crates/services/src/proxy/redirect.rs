//! Redirections that are followed (RFC 3261 §16.7 step 4): which of a 3xx's contacts become targets.
//!
//! Owns that choice. Only users of the deployment are followed: a device's answer makes this server send nowhere that the
//! caller could not have called, and nowhere that is not looked up anew.

use crate::gruu;
use crate::ident::{Whose, classify};
use crate::settings::DeploymentView;
use pairline_sip::message::Message;
use pairline_sip::uri::Aor;

/// Most contacts of one redirection that are read.
const MAX_CONTACTS: usize = 8;

/// One whom a redirection names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The user.
    pub user: Aor,
    /// That device of the user's and no other, if it was named by its GRUU (RFC 5627 §5.3).
    pub device: Option<gruu::Target>,
    /// What to call it by: the user's address, or the GRUU.
    pub uri: Box<[u8]>,
}

impl Named {
    /// Whom a contact names; `None` if that is no user of the deployment.
    fn by(view: &DeploymentView, contact: &[u8]) -> Option<Named> {
        let Whose::User(user) = classify(view, contact) else {
            return None;
        };
        let device = gruu::Target::of(&view.sealing_key, contact);
        let uri = match device {
            // Without headers, which no Request-URI has (RFC 3261 §19.1.1).
            Some(_) => contact.split(|b| *b == b'?').next().unwrap_or(contact),
            None => user.as_str().as_bytes(),
        };
        Some(Named { uri: uri.into(), user, device })
    }

    fn is_same(&self, other: &Named) -> bool {
        self.user == other.user && self.device == other.device
    }
}

/// A redirection, and whom it names, the most wanted first.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// The 3xx, which goes back if nobody whom it names can be tried.
    pub answer: Box<Message>,
    /// Whom to try.
    pub named: Vec<Named>,
}

impl Redirect {
    /// Reads a final answer; gives it back if it is none that is followed here.
    pub fn read(view: &DeploymentView, answer: Box<Message>) -> Result<Redirect, Box<Message>> {
        if !matches!(answer.status(), Some(300..=302)) {
            return Err(answer);
        }
        let mut found: Vec<(u16, Named)> = Vec::new();
        for contact in answer.contacts().take(MAX_CONTACTS) {
            if let Some(named) = Named::by(view, contact.uri)
                && !found.iter().any(|(_, known)| known.is_same(&named))
            {
                found.push((contact.q().unwrap_or(1000), named));
            }
        }
        if found.is_empty() {
            return Err(answer);
        }
        // Stable: those of one q stay in the order of the answer.
        found.sort_by_key(|(q, _)| std::cmp::Reverse(*q));
        Ok(Redirect { answer, named: found.into_iter().map(|(_, named)| named).collect() })
    }
}
