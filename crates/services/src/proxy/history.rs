//! History-Info (RFC 7044): what a request was aimed at before it was aimed at a contact.
//!
//! Owns the entries that this proxy adds and their indices. What is in a request already is never changed.

use super::hop::Hop;
use crate::privacy;
use crate::settings::{DeploymentView, HistoryInfo};
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use std::fmt::Write;

/// The entries of one request. Those of branches that ended go along with every later branch (§9.3).
#[derive(Clone, Debug)]
pub struct History {
    /// Entry for the Request-URI as it came, if nobody wrote it before.
    own: Option<String>,
    /// Index of the Request-URI's entry.
    parent: String,
    /// Number of the next branch.
    next: u32,
    /// Entries of branches that ended.
    ended: Vec<String>,
}

/// The entry of one branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    uri: Box<[u8]>,
    params: String,
}

impl Entry {
    /// `<uri>;index=…`, with the answer that ended the branch as a Reason in the URI.
    fn written(&self, ended_by: Option<u16>) -> String {
        let uri = String::from_utf8_lossy(&self.uri);
        let mut text = format!("<{uri}");
        if let Some(status) = ended_by {
            let begins = if uri.contains('?') { '&' } else { '?' };
            // Writing to a string cannot fail.
            let _ = write!(text, "{begins}Reason=SIP%3Bcause%3D{status}");
        }
        text.push('>');
        text.push_str(&self.params);
        text
    }
}

/// Whether entries are written for this request: policy, the caller's wish, and privacy (§10.1).
fn wanted(view: &DeploymentView, request: &Message) -> bool {
    let asked = match view.proxy.history_info {
        HistoryInfo::Off => false,
        HistoryInfo::Always => true,
        HistoryInfo::Asked => request.has(Name::Supported) && request.supported("histinfo"),
    };
    asked && !privacy::asks(request, &["history", "header", "session"])
}

impl History {
    /// Begins the history of a request that leaves its Request-URI; `None` where none is to be written.
    pub fn begin(view: &DeploymentView, request: &Message) -> Option<History> {
        if !wanted(view, request) {
            return None;
        }
        let last = request.addresses(Name::HistoryInfo).last();
        let uri = request.request_uri();
        let (own, parent) = match last.and_then(|last| Some((last.uri, index_of(last.param("index")?)?))) {
            None => (Some("1".to_owned()), "1".to_owned()),
            // What stands before a Reason in the entry's URI is the target.
            Some((known, index)) if known.split(|b| *b == b'?').next() == Some(uri) => (None, index),
            // Whoever was before us wrote nothing: a gap (§10.3 item 6).
            Some((_, index)) => (Some(format!("{index}.0.1")), format!("{index}.0.1")),
        };
        let own = own.map(|index| format!("<{}>;index={index}", String::from_utf8_lossy(uri)));
        Some(History { own, parent, next: 1, ended: Vec::new() })
    }

    /// The value to add for a branch, and the branch's own entry; `None` if the branch keeps the Request-URI.
    pub fn of_branch(&mut self, hop: &Hop) -> Option<(String, Entry)> {
        let uri = hop.uri.clone()?;
        let number = self.next;
        self.next += 1;
        let index = format!("{}.{number}", self.parent);
        let mut parts: Vec<String> = self.own.iter().chain(&self.ended).cloned().collect();
        // Another user in between: call forwarding or a redirection mapped the one to the other.
        let params = match &hop.mapped {
            Some(user) if *user.as_str().as_bytes() != *uri => {
                parts.push(format!("<{}>;index={index};mp={}", user.as_str(), self.parent));
                format!(";index={index}.1;rc={index}")
            }
            Some(_) => format!(";index={index};mp={}", self.parent),
            None => format!(";index={index};rc={}", self.parent),
        };
        let entry = Entry { uri, params };
        parts.push(entry.written(None));
        Some((parts.join(", "), entry))
    }

    /// A branch ended with that status.
    pub fn ended(&mut self, entry: &Entry, status: u16) {
        self.ended.push(entry.written(Some(status)));
    }
}

/// An index as it stands, if it is one: numbers and dots, not longer than any real one.
fn index_of(value: &[u8]) -> Option<String> {
    let fits = value.len() <= 64 && value.iter().all(|b| b.is_ascii_digit() || *b == b'.');
    fits.then(|| String::from_utf8_lossy(value).into_owned())
}
