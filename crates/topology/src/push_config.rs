//! The push gateway in a server's text: where orders to wake sleeping clients go (RFC 8599).
//!
//! Owns its form and bounds. Contacts nobody; which clients are woken is the services' matter.

use crate::reader::{Findings, Section};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The gateway. The same in every server's text, so that any of them can wake a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushConfig {
    /// Where orders are posted: an `http` or `https` address.
    pub gateway: String,
    /// Push services that it can ask, by the name that clients use (`pn-provider`); 1 to 16.
    pub providers: Vec<String>,
    /// Seconds that a request waits for a client that was woken; 1 to 25.
    pub wait_s: u32,
    /// PEM: authority of the gateway's certificate; needed for `https`.
    pub authority: Option<PathBuf>,
    /// File with the token that is sent with each order; readable by the server only.
    pub token: Option<PathBuf>,
}

/// Letters, digits, dot and hyphen: what can stand in a contact's parameter and in Feature-Caps as it is.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

pub(crate) fn read(f: &mut Findings, mut s: Section<'_>) -> PushConfig {
    let config = PushConfig {
        gateway: s.text(f, "gateway", "http://127.0.0.1:9080/wake"),
        providers: s.texts(f, "providers"),
        wait_s: s.number(f, "wait_s", 10, 1, 25),
        authority: s.opt_text(f, "authority").map(PathBuf::from),
        token: s.opt_text(f, "token").map(PathBuf::from),
    };
    if config.providers.is_empty() || config.providers.len() > 16 {
        let problem = format!("has {} names", config.providers.len());
        f.add(s.at("providers"), problem, "write 1 to 16, for example providers = [\"apns\", \"fcm\"]");
    }
    for name in config.providers.iter().filter(|name| !is_name(name)) {
        f.add(s.at("providers"), format!("{name:?} is no name"), "write letters, digits, dots and hyphens");
    }
    s.done(f);
    config
}

impl PushConfig {
    /// As a table that [`read`] reads back to the same.
    pub(crate) fn to_table(&self) -> toml::Table {
        let mut table = toml::Table::new();
        let path = |p: &PathBuf| toml::Value::String(p.to_string_lossy().into_owned());
        table.insert("gateway".into(), toml::Value::String(self.gateway.clone()));
        table.insert("providers".into(), toml::Value::from(self.providers.clone()));
        table.insert("wait_s".into(), toml::Value::Integer(self.wait_s.into()));
        for (key, value) in [("authority", &self.authority), ("token", &self.token)] {
            if let Some(value) = value {
                table.insert(key.into(), path(value));
            }
        }
        table
    }
}
