//! Budgets and the list of what is over them.
//!
//! Owns `docs/tidy.toml`: a size listed there may shrink and never grow. Does not measure.

use super::{FILE_LINES, FUNCTION_LINES};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    #[serde(default)]
    files: BTreeMap<String, usize>,
    #[serde(default)]
    functions: BTreeMap<String, usize>,
}

/// The listed excesses and which of them were met.
#[derive(Default)]
pub(crate) struct Ratchet {
    listed: Listed,
    met: BTreeSet<String>,
}

impl Ratchet {
    /// Reads the list.
    ///
    /// # Errors
    /// A line that says why the file cannot be read or parsed.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Self::parse(&text).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Parses the list.
    ///
    /// # Errors
    /// The parser's message.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let listed = toml::from_str(text).map_err(|e| e.to_string())?;
        Ok(Self { listed, met: BTreeSet::new() })
    }

    /// A finding if the file is over its budget and not listed, or grew, or shrank below what is listed.
    pub(crate) fn file(&mut self, path: &str, lines: usize) -> Option<String> {
        let listed = self.listed.files.get(path).copied();
        self.hold(path.to_owned(), lines, FILE_LINES, listed, "split the file by concern")
    }

    /// The same for a function.
    pub(crate) fn function(&mut self, path: &str, name: &str, lines: usize) -> Option<String> {
        let key = format!("{path}::{name}");
        let listed = self.listed.functions.get(&key).copied();
        // Two functions of one name in one file: only the one that is over the budget can be the one listed.
        if listed.is_some() && lines <= FUNCTION_LINES {
            return None;
        }
        self.hold(key, lines, FUNCTION_LINES, listed, "split the function")
    }

    fn hold(&mut self, key: String, lines: usize, budget: usize, listed: Option<usize>, cure: &str) -> Option<String> {
        match listed {
            None if lines > budget => Some(format!("{key}: {lines} lines, the budget is {budget}: {cure}")),
            None => None,
            Some(before) => {
                self.met.insert(key.clone());
                if lines > before {
                    Some(format!("{key}: grew from {before} to {lines} lines; it may only shrink: {cure}"))
                } else if lines <= budget {
                    Some(format!("{key}: {lines} lines, within the budget: remove it from docs/tidy.toml"))
                } else if lines < before {
                    Some(format!("{key}: shrank from {before} to {lines} lines: lower it in docs/tidy.toml"))
                } else {
                    None
                }
            }
        }
    }

    /// Findings for listed places that do not exist any more (or are within the budget).
    pub(crate) fn unused(&self) -> Vec<String> {
        let keys = self.listed.files.keys().chain(self.listed.functions.keys());
        keys.filter(|key| !self.met.contains(*key))
            .map(|key| format!("{key}: listed in docs/tidy.toml and no longer over its budget: remove the line"))
            .collect()
    }
}
