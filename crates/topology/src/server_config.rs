//! The text that one server starts with: which server of which topology, where its data and keys are, and overrides.
//!
//! Owns its form and checks. Reads no files: paths are passed on as written.

use crate::capture_config::{self, CaptureConfig};
use crate::error::ConfigError;
use crate::model::{Server, Topology};
use crate::push_config::{self, PushConfig};
use crate::reader::{self, Findings, Section};
use crate::sip_config::{self, SipConfig};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// One readable line per event.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// An address that differs on this machine from the document (behind address translation, in tests).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerOverride {
    /// Id of the listener.
    pub id: String,
    /// Where it listens instead.
    pub address: SocketAddr,
}

/// Everything that a server cannot learn from the management store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerConfig {
    /// Name of the server in the topology.
    pub server: String,
    /// Topology text for the first start; later starts use the last good copy in the data folder.
    pub topology: PathBuf,
    /// Folder of log, checkpoint and tails; owned by this server alone.
    pub data: PathBuf,
    /// PEM: this server's certificate chain.
    pub certificate: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
    /// PEM: the deployment's authority.
    pub authority: PathBuf,
    /// Secret that encrypts stored HA1s, nonce keys and tails; the same on both pools.
    pub secret: PathBuf,
    /// Token of the local administrator; created at first start with mode 0600.
    pub admin_token: Option<PathBuf>,
    /// Text or JSON.
    pub log_format: LogFormat,
    /// Filter, for example `info` or `info,shipping=debug`.
    pub log_level: String,
    /// Admin API here instead.
    pub admin: Option<SocketAddr>,
    /// Links here instead.
    pub link: Option<SocketAddr>,
    /// DNS here instead.
    pub dns: Option<SocketAddr>,
    /// Listeners elsewhere.
    pub listener: Vec<ListenerOverride>,
    /// SIP over TLS and WebSocket.
    pub sip: SipConfig,
    /// Wakes sleeping clients; none: they are not woken.
    pub push: Option<PushConfig>,
    /// Users (`sip:user@domain`) who may watch the registrations of all others; the same in every server's text.
    pub watchers: Vec<String>,
    /// What becomes of SIP messages besides their handling.
    pub capture: CaptureConfig,
}

/// Reads a server's text.
///
/// # Errors
/// Every finding.
pub fn parse_server_config(file_name: &str, text: &str) -> Result<ServerConfig, Vec<ConfigError>> {
    let mut f = Findings::new(file_name);
    let Some(table) = reader::table(&mut f, text) else {
        return Err(f.into_list());
    };
    let config = read(&mut f, Section::root(&table));
    if f.is_empty() { Ok(config) } else { Err(f.into_list()) }
}

fn read(f: &mut Findings, mut root: Section<'_>) -> ServerConfig {
    let mut tls = root.section(f, "tls");
    let mut log = root.section(f, "log");
    let mut overrides = root.section(f, "override");
    let sip = root.section(f, "sip");
    let capture = root.section(f, "capture");
    let mut registrations = root.section(f, "registrations");
    let push = root.has("push").then(|| root.section(f, "push"));
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let path = |s: &mut Section<'_>, f: &mut Findings, key, example| PathBuf::from(s.text(f, key, example));
    let config = ServerConfig {
        server: root.text(f, "server", "fe1.east.example.org"),
        topology: path(&mut root, f, "topology", "/etc/pairline/topology.toml"),
        data: path(&mut root, f, "data", "/var/lib/pairline"),
        certificate: path(&mut tls, f, "certificate", "/etc/pairline/server.pem"),
        key: path(&mut tls, f, "key", "/etc/pairline/server.key"),
        authority: path(&mut tls, f, "authority", "/etc/pairline/authority.pem"),
        secret: path(&mut root, f, "secret", "/etc/pairline/deployment.secret"),
        admin_token: root.opt_text(f, "admin_token").map(PathBuf::from),
        log_format: log.word(f, "format", &formats, LogFormat::Text),
        log_level: log.opt_text(f, "level").unwrap_or_else(|| "info".to_owned()),
        admin: overrides.opt_address(f, "admin"),
        link: overrides.opt_address(f, "link"),
        dns: overrides.opt_address(f, "dns"),
        listener: overrides.list(f, "listener").into_iter().map(|s| listener(f, s)).collect(),
        sip: sip_config::read(f, sip),
        push: push.map(|s| push_config::read(f, s)),
        watchers: registrations.texts(f, "watchers"),
        capture: capture_config::read(f, capture),
    };
    [root, tls, log, overrides, registrations].into_iter().for_each(|s| s.done(f));
    config
}

fn listener(f: &mut Findings, mut s: Section<'_>) -> ListenerOverride {
    let over = ListenerOverride { id: s.text(f, "id", "udp"), address: s.address(f, "address") };
    s.done(f);
    over
}

impl ServerConfig {
    /// Writes text that [`parse_server_config`] reads back to the same.
    pub fn to_toml(&self) -> String {
        let mut root = toml::Table::new();
        let mut put = |table: Option<&str>, key: &str, value: toml::Value| {
            let target = match table {
                None => &mut root,
                Some(name) => root
                    .entry(name)
                    .or_insert_with(|| toml::Value::Table(toml::Table::new()))
                    .as_table_mut()
                    .expect("only tables are put under these names"),
            };
            target.insert(key.to_owned(), value);
        };
        let path = |p: &PathBuf| toml::Value::String(p.to_string_lossy().into_owned());
        let text = |s: &str| toml::Value::String(s.to_owned());
        put(None, "server", text(&self.server));
        put(None, "topology", path(&self.topology));
        put(None, "data", path(&self.data));
        put(None, "secret", path(&self.secret));
        if let Some(token) = &self.admin_token {
            put(None, "admin_token", path(token));
        }
        put(Some("tls"), "certificate", path(&self.certificate));
        put(Some("tls"), "key", path(&self.key));
        put(Some("tls"), "authority", path(&self.authority));
        put(Some("log"), "format", text(if self.log_format == LogFormat::Json { "json" } else { "text" }));
        put(Some("log"), "level", text(&self.log_level));
        for (key, address) in [("admin", self.admin), ("link", self.link), ("dns", self.dns)] {
            if let Some(address) = address {
                put(Some("override"), key, text(&address.to_string()));
            }
        }
        if let Some(sip) = self.sip.to_table() {
            put(None, "sip", toml::Value::Table(sip));
        }
        if !self.listener.is_empty() {
            let list = self.listener.iter().map(|l| toml::Value::try_from(l).expect("two texts")).collect();
            put(Some("override"), "listener", toml::Value::Array(list));
        }
        if let Some(push) = &self.push {
            root.insert("push".to_owned(), toml::Value::Table(push.to_table()));
        }
        if !self.watchers.is_empty() {
            let table = toml::Table::from_iter([("watchers".to_owned(), toml::Value::from(self.watchers.clone()))]);
            root.insert("registrations".to_owned(), toml::Value::Table(table));
        }
        if let Some(capture) = self.capture.to_table() {
            root.insert("capture".to_owned(), toml::Value::Table(capture));
        }
        toml::to_string(&root).expect("a tree of tables, lists and texts is always writable")
    }

    /// The server as this machine runs it: from the document, with the overrides.
    ///
    /// # Errors
    /// The document has no such server, or an override names a listener that it does not have.
    pub fn effective(&self, topology: &Topology) -> Result<Server, Vec<ConfigError>> {
        let mut f = Findings::new("server configuration");
        let Some(found) = topology.server_named(&self.server) else {
            let names: Vec<&str> = topology.server.iter().map(|s| s.name.as_str()).collect();
            let problem = format!("\"{}\" is not in the topology", self.server);
            f.add("server", problem, format!("one of: {}", names.join(", ")));
            return Err(f.into_list());
        };
        let mut server = found.clone();
        server.admin = self.admin.unwrap_or(server.admin);
        server.link = self.link.unwrap_or(server.link);
        server.dns = self.dns.or(server.dns);
        for (n, over) in self.listener.iter().enumerate() {
            match server.listener.iter_mut().find(|l| l.id == over.id) {
                Some(listener) => listener.address = over.address,
                None => {
                    let at = format!("override.listener[{n}].id");
                    f.add(at, format!("\"{}\" is not a listener of this server", over.id), "write the id of one");
                }
            }
        }
        if f.is_empty() { Ok(server) } else { Err(f.into_list()) }
    }
}
