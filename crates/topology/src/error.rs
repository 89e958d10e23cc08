//! What is wrong with a document: one finding with its place and its remedy.
//!
//! Owns the type only. Parsing and checking collect all findings; none stops at the first.

use serde::{Deserialize, Serialize};

/// One thing that is wrong in a configuration text, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
#[error("{file}: {key}: {problem} ({remedy})")]
pub struct ConfigError {
    /// Name of the text as the caller gave it; `topology` for a document that did not come from a text.
    pub file: String,
    /// Dotted path of the key, with a number for members of a list (`server[2].pool`).
    pub key: String,
    /// What is wrong, in words.
    pub problem: String,
    /// What to write instead or do.
    pub remedy: String,
}

impl ConfigError {
    /// Builds a finding.
    pub fn new(
        file: &str,
        key: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ConfigError {
        ConfigError { file: file.to_owned(), key: key.into(), problem: problem.into(), remedy: remedy.into() }
    }
}
