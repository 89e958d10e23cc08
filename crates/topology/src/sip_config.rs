//! How SIP is spoken over TLS and WebSocket on one machine: certificates, whom they are checked against, web origins.
//!
//! Owns the `[sip]` table of a server's text and its checks. Reads no files: paths are passed on as written.

use crate::reader::{Findings, Section};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Whether SIP clients are asked for a certificate on TLS listeners. Browsers never are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertificates {
    /// Never asked for.
    Ignored,
    /// Asked for; one that is right proves an identity, one that is not proves nothing.
    #[default]
    Asked,
    /// Nobody connects without a right one.
    Required,
}

const CLIENT_CERTIFICATES: [(&str, ClientCertificates); 3] = [
    ("ignored", ClientCertificates::Ignored),
    ("asked", ClientCertificates::Asked),
    ("required", ClientCertificates::Required),
];

/// The `[sip]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SipConfig {
    /// PEM: the organisation's certificate chain for SIP; the server's own (`[tls]`) if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM: its private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// PEM: authorities, besides the deployment's own, that certificates of other SIP servers and of clients may come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorities: Option<PathBuf>,
    /// Whether clients are asked for certificates.
    pub client_certificates: ClientCertificates,
    /// Web origins (`https://host[:port]`) whose pages may open a WebSocket, besides those of the deployment's own hosts.
    pub origins: Vec<String>,
    /// Seconds beyond its Flow-Timer after which the connection of a client is closed that sends no keep-alive (RFC 5626 §4.4);
    /// 0: it is not closed for that.
    pub flow_grace_s: u16,
}

/// Time for a keep-alive that was sent at the last moment and had to be repeated.
const FLOW_GRACE_S: u16 = 15;
/// Most seconds of grace.
const MAX_FLOW_GRACE_S: u16 = 3_600;

impl Default for SipConfig {
    fn default() -> SipConfig {
        SipConfig {
            certificate: None,
            key: None,
            authorities: None,
            client_certificates: ClientCertificates::default(),
            origins: Vec::new(),
            flow_grace_s: FLOW_GRACE_S,
        }
    }
}

/// Reads the table.
pub(crate) fn read(f: &mut Findings, mut s: Section<'_>) -> SipConfig {
    let config = SipConfig {
        certificate: s.opt_text(f, "certificate").map(PathBuf::from),
        key: s.opt_text(f, "key").map(PathBuf::from),
        authorities: s.opt_text(f, "authorities").map(PathBuf::from),
        client_certificates: s.word(f, "client_certificates", &CLIENT_CERTIFICATES, ClientCertificates::default()),
        origins: s.texts(f, "origins"),
        flow_grace_s: s.number(f, "flow_grace_s", FLOW_GRACE_S, 0, MAX_FLOW_GRACE_S),
    };
    if config.certificate.is_some() != config.key.is_some() {
        let (have, lacks) = if config.key.is_none() { ("certificate", "key") } else { ("key", "certificate") };
        f.add(s.at(lacks), format!("is missing, but {have} is written"), "write both, or neither");
    }
    for (n, origin) in config.origins.iter().enumerate() {
        if !is_origin(origin) {
            let at = format!("{}[{n}]", s.at("origins"));
            f.add(at, format!("\"{origin}\" is not a web origin"), "write for example \"https://phone.example.org\"");
        }
    }
    s.done(f);
    config
}

/// Whether this is an origin as browsers write it (RFC 6454 §6.2): scheme, host and port, nothing behind.
/// `null`, which browsers write for pages from files, has to be listed as that word.
fn is_origin(text: &str) -> bool {
    if text == "null" {
        return true;
    }
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|host| {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b))
    })
}

impl SipConfig {
    /// As a table of a text, without what is as by default; `None` if nothing differs.
    pub(crate) fn to_table(&self) -> Option<toml::Table> {
        let plain = SipConfig::default();
        let mut table = toml::Table::try_from(self).expect("paths, words and texts are always writable");
        if self.client_certificates == plain.client_certificates {
            table.remove("client_certificates");
        }
        if self.origins.is_empty() {
            table.remove("origins");
        }
        if self.flow_grace_s == plain.flow_grace_s {
            table.remove("flow_grace_s");
        }
        (!table.is_empty()).then_some(table)
    }
}
