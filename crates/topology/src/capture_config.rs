//! The capture in a server's text: whether SIP messages are mirrored to a collector, and kept in files.
//!
//! Owns its form and bounds. Captures nothing.

use crate::reader::{Findings, Section};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The `[capture]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureConfig {
    /// Collector that every message is mirrored to by HEP version 3 (Homer); none: no mirror.
    pub hep: Option<SocketAddr>,
    /// Whether the collector is reached over TCP; UDP otherwise.
    pub hep_tcp: bool,
    /// Number of this server as a capture agent; the server's own number if absent.
    pub hep_id: Option<u32>,
    /// File with the key that the collector asks for; readable by the server only.
    pub hep_key: Option<PathBuf>,
    /// Whether messages are kept in capture files in the data folder.
    pub pcap: bool,
    /// Capture files at one time, 2 to 1000; the oldest is removed for the newest.
    pub pcap_files: u16,
    /// MiB of one capture file, 1 to 1024.
    pub pcap_file_mib: u16,
    /// Whether bodies stay readable, texts of messages among them. Session descriptions are readable without it.
    pub bodies: bool,
}

impl Default for CaptureConfig {
    fn default() -> CaptureConfig {
        CaptureConfig {
            hep: None,
            hep_tcp: false,
            hep_id: None,
            hep_key: None,
            pcap: false,
            pcap_files: 8,
            pcap_file_mib: 16,
            bodies: false,
        }
    }
}

const TRANSPORTS: [(&str, bool); 2] = [("udp", false), ("tcp", true)];

/// Reads the table.
pub(crate) fn read(f: &mut Findings, mut s: Section<'_>) -> CaptureConfig {
    let plain = CaptureConfig::default();
    let has_id = s.has("hep_id");
    let config = CaptureConfig {
        hep: s.opt_address(f, "hep"),
        hep_tcp: s.word(f, "hep_transport", &TRANSPORTS, false),
        hep_id: Some(s.number(f, "hep_id", 0, 0, u32::MAX)).filter(|_| has_id),
        hep_key: s.opt_text(f, "hep_key").map(PathBuf::from),
        pcap: s.flag(f, "pcap", plain.pcap),
        pcap_files: s.number(f, "pcap_files", plain.pcap_files, 2, 1000),
        pcap_file_mib: s.number(f, "pcap_file_mib", plain.pcap_file_mib, 1, 1024),
        bodies: s.flag(f, "bodies", plain.bodies),
    };
    if s.has("hep") && config.hep.is_some_and(|at| at.port() == 0 || at.ip().is_unspecified()) {
        f.add(s.at("hep"), "is nobody's address", "write the collector's, for example \"192.0.2.9:9060\"");
    }
    for key in ["hep_transport", "hep_id", "hep_key"].into_iter().filter(|key| s.has(key) && !s.has("hep")) {
        f.add(s.at(key), "is written, but hep is missing", "write hep = \"192.0.2.9:9060\", or remove it");
    }
    s.done(f);
    config
}

impl CaptureConfig {
    /// As a table that [`read`] reads back to the same, without what is as by default; `None` if nothing differs.
    pub(crate) fn to_table(&self) -> Option<toml::Table> {
        let plain = CaptureConfig::default();
        let mut table = toml::Table::new();
        let mut put = |key: &str, differs: bool, value: toml::Value| {
            if differs {
                table.insert(key.to_owned(), value);
            }
        };
        let text = |text: String| toml::Value::String(text);
        put("hep", self.hep.is_some(), text(self.hep.map(|at| at.to_string()).unwrap_or_default()));
        put("hep_transport", self.hep_tcp, text("tcp".to_owned()));
        put("hep_id", self.hep_id.is_some(), toml::Value::Integer(self.hep_id.unwrap_or_default().into()));
        let key = self.hep_key.as_ref().map(|path| path.to_string_lossy().into_owned());
        put("hep_key", key.is_some(), text(key.unwrap_or_default()));
        put("pcap", self.pcap != plain.pcap, toml::Value::Boolean(self.pcap));
        put("pcap_files", self.pcap_files != plain.pcap_files, toml::Value::Integer(self.pcap_files.into()));
        put(
            "pcap_file_mib",
            self.pcap_file_mib != plain.pcap_file_mib,
            toml::Value::Integer(self.pcap_file_mib.into()),
        );
        put("bodies", self.bodies != plain.bodies, toml::Value::Boolean(self.bodies));
        (!table.is_empty()).then_some(table)
    }
}
