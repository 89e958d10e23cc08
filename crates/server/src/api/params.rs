//! What a request brings to a route: path, query and body members, read with checks.
//!
//! Owns the typed reading and its refusals. Does not own which members a route takes (`routes`).

use super::problem::bad_request;
use pairline_node::command::Problem;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Members of one request.
#[derive(Clone, Debug, Default)]
pub struct Params {
    /// Path members, decoded.
    pub path: BTreeMap<String, String>,
    /// Query members, decoded; the last of equal names.
    pub query: BTreeMap<String, String>,
    /// Members of the JSON body; empty without one.
    pub body: Map<String, Value>,
}

impl Params {
    /// A path member; it is there for every route that names it.
    pub fn path(&self, name: &str) -> Result<String, Problem> {
        self.path.get(name).cloned().ok_or_else(|| bad_request(format!("The path lacks `{name}`.")))
    }

    /// A query member as text.
    pub fn query(&self, name: &str) -> Option<String> {
        self.query.get(name).cloned()
    }

    /// A query member as a number within bounds, or its default.
    pub fn query_number(&self, name: &str, default: u32, lowest: u32, highest: u32) -> Result<u32, Problem> {
        let Some(text) = self.query.get(name) else { return Ok(default) };
        text.parse()
            .ok()
            .filter(|number| (lowest..=highest).contains(number))
            .ok_or_else(|| bad_request(format!("`{name}` must be a number from {lowest} to {highest}.")))
    }

    /// A member of the body that must be there.
    pub fn need<T: DeserializeOwned>(&self, name: &str) -> Result<T, Problem> {
        self.get(name)?.ok_or_else(|| bad_request(format!("The body lacks `{name}`.")))
    }

    /// A member of the body that may be absent or null.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Problem> {
        match self.body.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => T::deserialize(value)
                .map(Some)
                .map_err(|error| bad_request(format!("`{name}` of the body cannot be read: {error}."))),
        }
    }

    /// A flag of the body; absent is false.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        Ok(self.get(name)?.unwrap_or(false))
    }

    /// A collection in the body; absent is empty.
    pub fn list<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<T>, Problem> {
        Ok(self.get(name)?.unwrap_or_default())
    }
}

/// Decodes a query string; at most 32 members are looked at. `None` if an escape is wrong.
pub fn decode_query(query: &str) -> Option<BTreeMap<String, String>> {
    let mut members = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()).take(32) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        members.insert(decode(&name.replace('+', " "))?, decode(&value.replace('+', " "))?);
    }
    Some(members)
}

/// Decodes percent escapes (RFC 3986 §2.1). `None` if one is wrong or the result is not UTF-8.
pub fn decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'%' {
            let digits = std::str::from_utf8(bytes.get(at + 1..at + 3)?).ok()?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
            at += 3;
        } else {
            out.push(byte);
            at += 1;
        }
    }
    String::from_utf8(out).ok()
}

/// Encodes one path segment or query value.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
