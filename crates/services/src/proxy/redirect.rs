//! Redirections that are followed (RFC 3261 §16.7 step 4): which of a 3xx's contacts become targets.
//!
//! Owns that choice. Only users of the deployment are followed: a device's answer makes this server send nowhere that the
//! caller could not have called, and nowhere that is not looked up anew.

use crate::ident::{Whose, classify};
use crate::settings::DeploymentView;
use pairline_sip::message::Message;
use pairline_sip::uri::Aor;

/// Most contacts of one redirection that are read.
const MAX_CONTACTS: usize = 8;

/// A redirection, and the users that it names, the most wanted first.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// The 3xx, which goes back if none of its users can be tried.
    pub answer: Box<Message>,
    /// Whom to try.
    pub users: Vec<Aor>,
}

impl Redirect {
    /// Reads a final answer; gives it back if it is none that is followed here.
    pub fn read(view: &DeploymentView, answer: Box<Message>) -> Result<Redirect, Box<Message>> {
        if !matches!(answer.status(), Some(300..=302)) {
            return Err(answer);
        }
        let mut found: Vec<(u16, Aor)> = Vec::new();
        for contact in answer.contacts().take(MAX_CONTACTS) {
            if let Whose::User(user) = classify(view, contact.uri)
                && !found.iter().any(|(_, known)| *known == user)
            {
                found.push((contact.q().unwrap_or(1000), user));
            }
        }
        if found.is_empty() {
            return Err(answer);
        }
        // Stable: those of one q stay in the order of the answer.
        found.sort_by_key(|(q, _)| std::cmp::Reverse(*q));
        Ok(Redirect { answer, users: found.into_iter().map(|(_, user)| user).collect() })
    }
}
