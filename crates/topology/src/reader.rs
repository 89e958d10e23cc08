//! A reader over a parsed TOML table that collects every finding instead of stopping at the first.
//!
//! Owns typed access with bounds, the paths of findings, and the report of keys that nobody asked for. Knows nothing of
//! what the keys mean.

use crate::error::ConfigError;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use toml::{Table, Value};

/// Texts beyond this many bytes are refused unread.
pub(crate) const MAX_TEXT: usize = 4 * 1024 * 1024;
/// Members of one list.
pub(crate) const MAX_LIST: usize = 4096;
/// Bytes of one string.
pub(crate) const MAX_STRING: usize = 512;

/// The findings of one text.
pub(crate) struct Findings {
    file: String,
    list: Vec<ConfigError>,
}

impl Findings {
    /// No findings yet.
    pub(crate) fn new(file: &str) -> Findings {
        Findings { file: file.to_owned(), list: Vec::new() }
    }

    /// Adds one.
    pub(crate) fn add(&mut self, key: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) {
        self.list.push(ConfigError::new(&self.file, key, problem, remedy));
    }

    /// Adds findings made elsewhere about the same text.
    pub(crate) fn extend(&mut self, more: Vec<ConfigError>) {
        self.list.extend(more);
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All of them.
    pub(crate) fn into_list(self) -> Vec<ConfigError> {
        self.list
    }
}

/// Reads the text as a table, or says where it is not one.
pub(crate) fn table(findings: &mut Findings, text: &str) -> Option<Table> {
    if text.len() > MAX_TEXT {
        findings.add("", format!("text of {} bytes", text.len()), format!("at most {MAX_TEXT} bytes"));
        return None;
    }
    match text.parse::<Table>() {
        Ok(table) => Some(table),
        Err(error) => {
            let line = error.span().map_or(0, |s| text.bytes().take(s.start).filter(|b| *b == b'\n').count() + 1);
            findings.add(format!("line {line}"), error.message().to_owned(), "write valid TOML 1.0");
            None
        }
    }
}

/// One table of the text, with its path.
pub(crate) struct Section<'t> {
    path: String,
    table: Option<&'t Table>,
    asked: BTreeSet<&'static str>,
}

impl<'t> Section<'t> {
    /// The outermost table.
    pub(crate) fn root(table: &'t Table) -> Section<'t> {
        Section { path: String::new(), table: Some(table), asked: BTreeSet::new() }
    }

    /// Full path of a key in this section.
    pub(crate) fn at(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn get(&mut self, key: &'static str) -> Option<&'t Value> {
        self.asked.insert(key);
        self.table.and_then(|t| t.get(key))
    }

    /// A table below; an absent one reads as empty, so that defaults hold.
    pub(crate) fn section(&mut self, f: &mut Findings, key: &'static str) -> Section<'t> {
        let path = self.at(key);
        let table = match self.get(key) {
            None => None,
            Some(Value::Table(t)) => Some(t),
            Some(other) => {
                f.add(&path, format!("is a {}", other.type_str()), format!("write a table [{path}]"));
                None
            }
        };
        Section { path, table, asked: BTreeSet::new() }
    }

    /// A list of tables (`[[key]]`).
    pub(crate) fn list(&mut self, f: &mut Findings, key: &'static str) -> Vec<Section<'t>> {
        let path = self.at(key);
        let items = match self.get(key) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(other) => {
                f.add(&path, format!("is a {}", other.type_str()), format!("write a list of tables [[{path}]]"));
                return Vec::new();
            }
        };
        if items.len() > MAX_LIST {
            f.add(&path, format!("has {} members", items.len()), format!("at most {MAX_LIST}"));
            return Vec::new();
        }
        let mut sections = Vec::with_capacity(items.len());
        for (n, item) in items.iter().enumerate() {
            let path = format!("{path}[{n}]");
            match item {
                Value::Table(t) => sections.push(Section { path, table: Some(t), asked: BTreeSet::new() }),
                other => f.add(path, format!("is a {}", other.type_str()), "write a table"),
            }
        }
        sections
    }

    /// Optional text, never empty.
    pub(crate) fn opt_text(&mut self, f: &mut Findings, key: &'static str) -> Option<String> {
        let path = self.at(key);
        match self.get(key)? {
            Value::String(s) if s.len() <= MAX_STRING => Some(s.clone()),
            Value::String(s) => {
                f.add(path, format!("has {} bytes", s.len()), format!("at most {MAX_STRING}"));
                None
            }
            other => {
                f.add(path, format!("is a {}", other.type_str()), "write a text in quotes");
                None
            }
        }
    }

    /// Text that must be there; an empty one if it is not, with a finding.
    pub(crate) fn text(&mut self, f: &mut Findings, key: &'static str, example: &str) -> String {
        if self.table.is_none_or(|t| !t.contains_key(key)) {
            self.asked.insert(key);
            f.add(self.at(key), "is missing", format!("write for example {key} = \"{example}\""));
            return String::new();
        }
        let text = self.opt_text(f, key);
        if text.as_deref() == Some("") {
            f.add(self.at(key), "is empty", format!("write for example {key} = \"{example}\""));
        }
        text.unwrap_or_default()
    }

    /// A list of texts.
    pub(crate) fn texts(&mut self, f: &mut Findings, key: &'static str) -> Vec<String> {
        let path = self.at(key);
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let Value::Array(items) = value else {
            f.add(path, format!("is a {}", value.type_str()), "write a list of texts");
            return Vec::new();
        };
        if items.len() > MAX_LIST {
            f.add(path, format!("has {} members", items.len()), format!("at most {MAX_LIST}"));
            return Vec::new();
        }
        let mut texts = Vec::new();
        for (n, item) in items.iter().enumerate() {
            match item {
                Value::String(s) if s.len() <= MAX_STRING => texts.push(s.clone()),
                _ => f.add(format!("{path}[{n}]"), "is not a short text", "write a text in quotes"),
            }
        }
        texts
    }

    /// A whole number within bounds (both allowed), or the default.
    pub(crate) fn number<T>(&mut self, f: &mut Findings, key: &'static str, default: T, min: T, max: T) -> T
    where
        T: TryFrom<i64> + PartialOrd + std::fmt::Display + Copy,
    {
        let path = self.at(key);
        let remedy = format!("write a number from {min} to {max}");
        match self.get(key) {
            None => default,
            Some(Value::Integer(n)) => match T::try_from(*n) {
                Ok(value) if value >= min && value <= max => value,
                _ => {
                    f.add(path, format!("is {n}"), remedy);
                    default
                }
            },
            Some(other) => {
                f.add(path, format!("is a {}", other.type_str()), remedy);
                default
            }
        }
    }

    /// Whether the key is written.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|t| t.contains_key(key))
    }

    /// A whole number that must be there.
    pub(crate) fn required_number<T>(&mut self, f: &mut Findings, key: &'static str, min: T, max: T) -> T
    where
        T: TryFrom<i64> + PartialOrd + std::fmt::Display + Copy,
    {
        if !self.has(key) {
            f.add(self.at(key), "is missing", format!("write a number from {min} to {max}"));
        }
        self.number(f, key, min, min, max)
    }

    /// Yes or no, or the default.
    pub(crate) fn flag(&mut self, f: &mut Findings, key: &'static str, default: bool) -> bool {
        let path = self.at(key);
        match self.get(key) {
            None => default,
            Some(Value::Boolean(b)) => *b,
            Some(other) => {
                f.add(path, format!("is a {}", other.type_str()), "write true or false");
                default
            }
        }
    }

    /// One of a set of words, or the default.
    pub(crate) fn word<T: Copy>(&mut self, f: &mut Findings, key: &'static str, words: &[(&str, T)], default: T) -> T {
        let path = self.at(key);
        let Some(value) = self.get(key) else {
            return default;
        };
        let found = value.as_str().and_then(|s| words.iter().find(|(w, _)| w.eq_ignore_ascii_case(s)));
        if let Some((_, value)) = found {
            return *value;
        }
        let all: Vec<&str> = words.iter().map(|(w, _)| *w).collect();
        f.add(path, format!("is {value}"), format!("write one of: {}", all.join(", ")));
        default
    }

    /// An address with port, if written.
    pub(crate) fn opt_address(&mut self, f: &mut Findings, key: &'static str) -> Option<SocketAddr> {
        let path = self.at(key);
        let value = self.get(key)?;
        let parsed = value.as_str().and_then(|s| s.parse::<SocketAddr>().ok());
        if parsed.is_none() {
            f.add(path, format!("is {value}, not an address with port"), "write for example \"192.0.2.1:5060\"");
        }
        parsed
    }

    /// An address with port that must be there; an unspecified one if it is not, with a finding.
    pub(crate) fn address(&mut self, f: &mut Findings, key: &'static str) -> SocketAddr {
        if !self.has(key) {
            f.add(self.at(key), "is missing", format!("write for example {key} = \"192.0.2.1:5060\""));
        }
        self.opt_address(f, key).unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// Reports the keys that nobody asked for; call last.
    pub(crate) fn done(self, f: &mut Findings) {
        let Some(table) = self.table else { return };
        for key in table.keys().filter(|k| !self.asked.contains(k.as_str())) {
            let known: Vec<&str> = self.asked.iter().copied().collect();
            f.add(self.at(key), "is not a known key", format!("remove it; known here: {}", known.join(", ")));
        }
    }
}
