//! Two real baresip clients beside the simulated users, if Debian's baresip is installed: one on UDP, one on TCP.
//!
//! Owns their processes and the times at which they sign in. Their configuration is the `srv` variant of `up`.

use super::arena::Arena;
use super::board::Side;
use crate::tls::files;
use crate::up::clients::{baresip_base, name_servers};
use crate::up::create;
use pairline_group::PoolId;
use pairline_node::command::ImportRow;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// First SIP port; each client takes ten.
const FIRST_PORT: u16 = 15_900;

/// Largest event that is read.
const LARGEST: usize = 64 * 1024;

/// One real client.
pub struct Phone {
    /// Its user's name.
    pub user: String,
    /// `UDP` or `TCP`.
    pub transport: &'static str,
    child: Child,
    signed_in: Arc<Mutex<Vec<Instant>>>,
}

/// Whether baresip is installed, and where.
pub fn installed() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("baresip")).find(|program| program.is_file())
}

impl Phone {
    /// Adds a user at home on east and starts a client for it.
    pub async fn start(
        arena: &Arena,
        program: &Path,
        transport: &'static str,
        number: u16,
    ) -> Result<Phone, super::DrillError> {
        let user = format!("phone-{}", transport.to_ascii_lowercase());
        let password = create::password().map_err(create::CreateError::from)?;
        let row = ImportRow {
            user: user.clone(),
            password: password.clone(),
            display_name: None,
            pool: Some("east".into()),
            contacts: Vec::new(),
        };
        arena.import(vec![row]).await?;
        let folder = arena.layout.client(&user).join("baresip");
        let port = FIRST_PORT + number * 10;
        let mut config = baresip_base(port, port + 5);
        let home = arena.topology.pool_named(Side::East.name()).map_or(PoolId(0), |pool| pool.id);
        for dns in name_servers(&arena.topology, home) {
            config.push_str(&format!("dns_server\t\t{dns}\n"));
        }
        let domain = arena.topology.default_domain();
        let transport_param = transport.to_ascii_lowercase();
        let account = format!(
            "<sip:{user}@{domain};transport={transport_param}>;auth_user={user};auth_pass={password};answermode=auto;regint=60\n"
        );
        for (name, content) in [("config", config), ("accounts", account), ("contacts", String::new())] {
            files::write_private(&folder.join(name), content.as_bytes()).map_err(create::CreateError::from)?;
        }
        let out = std::fs::File::create(folder.join("output.log")).map_or_else(|_| Stdio::null(), Stdio::from);
        let child = Command::new(program)
            .arg("-f")
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| super::DrillError::Unexpected(format!("baresip cannot be started: {error}")))?;
        let signed_in = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(watch(port + 5, Arc::clone(&signed_in)));
        Ok(Phone { user, transport, child, signed_in })
    }

    /// When it first signed in after an instant.
    pub fn first_after(&self, since: Instant) -> Option<Instant> {
        self.signed_in.lock().unwrap_or_else(PoisonError::into_inner).iter().find(|at| **at > since).copied()
    }

    /// Ends it.
    pub async fn end(mut self) {
        // It may have ended by itself.
        let _ = self.child.kill().await;
    }
}

/// Reads the client's events (netstrings of JSON) for as long as it lives.
async fn watch(control: u16, signed_in: Arc<Mutex<Vec<Instant>>>) {
    let mut stream = None;
    for _ in 0..100 {
        match TcpStream::connect(("127.0.0.1", control)).await {
            Ok(connected) => {
                stream = Some(connected);
                break;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    let Some(mut stream) = stream else { return };
    let mut buffer = Vec::new();
    let mut chunk = [0_u8; 4096];
    loop {
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(length) => buffer.extend_from_slice(&chunk[..length]),
        }
        while let Some((event, rest)) = netstring(&buffer) {
            if is_sign_in(&event) {
                signed_in.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            }
            buffer = rest;
        }
        if buffer.len() > LARGEST {
            return;
        }
    }
}

/// The first whole netstring and what follows it.
pub fn netstring(buffer: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let colon = buffer.iter().position(|byte| *byte == b':')?;
    let length: usize = std::str::from_utf8(&buffer[..colon]).ok()?.parse().ok()?;
    let end = colon.checked_add(1)?.checked_add(length)?;
    let event = buffer.get(colon + 1..end)?;
    let rest = buffer.get(end + 1..)?;
    Some((event.to_vec(), rest.to_vec()))
}

fn is_sign_in(event: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(event)
        .is_ok_and(|value| value.get("type").and_then(serde_json::Value::as_str) == Some("REGISTER_OK"))
}
