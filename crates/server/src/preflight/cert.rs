//! `pairline preflight cert`: the names that each server's certificate must carry, and those that it shows now.
//!
//! Owns the comparison, by connecting as a client would.

use super::{PreflightError, published};
use crate::cli::run::{out, pretty};
use crate::client::Access;
use crate::up::create::certificate_names;
use pairline_topology::Server;
use rustls::pki_types::ServerName;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// How long a server may take to show its certificate.
const WAIT: Duration = Duration::from_secs(3);

/// Days before expiry from which a certificate is reported.
const EXPIRY_DAYS: i64 = 30;

/// What a server shows.
struct Shown {
    names: Vec<String>,
    days: i64,
}

/// Prints what each certificate must carry and lacks; true if every server that can be reached shows a good one.
pub async fn cert(access: &Access, json: bool) -> Result<bool, PreflightError> {
    let topology = published(access).await?;
    let mut good = true;
    let mut all = Vec::new();
    for server in &topology.server {
        let names = certificate_names(&topology, server);
        let mut wanted: Vec<String> = names.names.clone();
        wanted.extend(names.addresses.iter().map(ToString::to_string));
        wanted.push(names.identity.to_string());
        let shown = shown(access, server).await;
        let (missing, state) = match &shown {
            Err(why) => (Vec::new(), format!("not checked: {why}")),
            Ok(shown) => {
                let missing: Vec<String> = wanted
                    .iter()
                    .filter(|name| !shown.names.iter().any(|have| have.eq_ignore_ascii_case(name)))
                    .cloned()
                    .collect();
                (missing, format!("expires in {} days", shown.days))
            }
        };
        let fine = missing.is_empty() && shown.as_ref().is_ok_and(|shown| shown.days >= EXPIRY_DAYS);
        good &= fine || shown.is_err();
        if json {
            all.push(json!({ "server": server.name, "must_carry": wanted, "missing": missing, "state": state }));
        } else {
            out(&format!("{} ({})\n", server.name, state));
            for name in &wanted {
                let mark = if missing.contains(name) { "MISSING" } else { "ok" };
                out(&format!("  {:<7}  {name}\n", if shown.is_ok() { mark } else { "needs" }));
            }
        }
    }
    if json {
        out(&pretty(&json!({ "servers": all, "good": good })));
    }
    Ok(good)
}

async fn shown(access: &Access, server: &Server) -> Result<Shown, String> {
    match tokio::time::timeout(WAIT, look(Arc::clone(&access.tls), server)).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {} s", WAIT.as_secs())),
    }
}

async fn look(tls: Arc<rustls::ClientConfig>, server: &Server) -> Result<Shown, String> {
    let stream = TcpStream::connect(server.admin).await.map_err(|error| error.to_string())?;
    let name = ServerName::from(server.admin.ip());
    let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(|error| error.to_string())?;
    let (_, session) = stream.get_ref();
    let first = session.peer_certificates().and_then(|chain| chain.first()).ok_or("it showed no certificate")?;
    let (_, certificate) = X509Certificate::from_der(first).map_err(|error| error.to_string())?;
    let now =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0));
    let days = (certificate.validity().not_after.timestamp() - now).div_euclid(86_400);
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|san| san.value.general_names.iter().filter_map(name_text).collect()).unwrap_or_default();
    Ok(Shown { names, days })
}

fn name_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|ip| std::net::IpAddr::from(ip).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|ip| std::net::IpAddr::from(ip).to_string()),
            _ => None,
        },
        _ => None,
    }
}
