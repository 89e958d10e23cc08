//! Certificates that are renewed on disk while the server runs.
#![allow(clippy::unwrap_used)]

use super::support;

use pairline_node::io::Input;
use pairline_server::shell::{Events, RunningServer, Server};
use pairline_server::tls::{CertificateNames, Certified, Issued, PeerIdentity, config};
use rustls::pki_types::ServerName;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use support::{Deployment, PATIENCE, credentials_from, event, identity, scripted, until};
use time::OffsetDateTime;
use tokio::net::TcpStream;
use x509_parser::prelude::{FromDer as _, X509Certificate};

struct Case {
    deployment: Deployment,
    server: RunningServer,
    events: Events,
    days: mpsc::Receiver<i64>,
    certificate: PathBuf,
    key: PathBuf,
}

/// A certificate of that server that lives so many days.
fn issue(deployment: &Deployment, who: PeerIdentity, days: i64) -> Issued {
    let names = CertificateNames { identity: who, names: vec!["pairline.test".to_owned()], addresses: vec![] };
    let now = OffsetDateTime::now_utc();
    let from = now - time::Duration::days(30);
    deployment.authority.issue_between(&names, from, now + time::Duration::hours(24 * days + 1)).unwrap()
}

/// A server whose files are looked at every few milliseconds, or only when it is asked to.
fn start(every: Duration) -> Case {
    let deployment = Deployment::new();
    let (certificate, key) = (deployment.folder.path().join("server.pem"), deployment.folder.path().join("server.key"));
    let first = issue(&deployment, identity(1, 1), 100);
    first.write(&certificate, &key).unwrap();
    let mut options = deployment.options("east");
    (options.config.certificate, options.config.key) = (certificate.clone(), key.clone());
    options.credentials = Arc::new(credentials_from(&deployment.authority, &first));
    options.sip_certificate = options.credentials.certified().clone();
    options.certificates_every = every;
    options.facts_every = Duration::from_millis(20);
    let (told_in, days) = mpsc::sync_channel(10_000);
    let script = scripted(move |_, input| {
        if let Input::Facts(facts) = input {
            let _ = told_in.try_send(facts.certificate_days);
        }
        vec![]
    });
    let server = Server::start_with(options, script).unwrap();
    let events = server.handle().events();
    Case { deployment, server, events, days, certificate, key }
}

/// Days left of what a client is shown.
async fn shown(case: &Case) -> i64 {
    let roots = config::roots(case.deployment.authority.certificate_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
    let stream = TcpStream::connect(case.server.address("tls").unwrap()).await.unwrap();
    let name = ServerName::try_from("pairline.test").unwrap();
    let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.unwrap();
    let der = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    let (_, found) = X509Certificate::from_der(&der).unwrap();
    (found.validity().not_after.timestamp() - OffsetDateTime::now_utc().unix_timestamp()) / 86_400
}

fn write(path: &Path, text: &str) {
    pairline_server::tls::files::write_private(path, text.as_bytes()).unwrap();
}

#[tokio::test]
async fn a_renewed_certificate_is_noticed_and_shown() {
    let mut case = start(Duration::from_millis(20));
    assert_eq!(shown(&case).await, 100);
    let renewed = issue(&case.deployment, identity(1, 1), 300);
    // In two steps, as tools do: what does not fit together is not taken.
    write(&case.certificate, &renewed.certificate_pem);
    let text = event(&mut case.events, "certificate-not-taken").await;
    assert!(text.contains("server.pem") && text.contains("still shown"), "{text}");
    assert_eq!(shown(&case).await, 100);
    write(&case.key, &renewed.key_pem);
    let text = event(&mut case.events, "certificate-reloaded").await;
    assert!(text.contains("expires in 300 days"), "{text}");
    assert_eq!(shown(&case).await, 300);
    assert_eq!(until(&case.days, |days| *days != 100), 300, "and its expiry is the one that is watched");
}

#[tokio::test]
async fn what_must_not_be_shown_is_not_taken() {
    let mut case = start(Duration::from_millis(20));
    let other = issue(&case.deployment, identity(2, 2), 300);
    let expired = issue(&case.deployment, identity(1, 1), -2);
    for (issued, reason) in [(other, "pool 2 server 2"), (expired, "expired")] {
        issued.write(&case.certificate, &case.key).unwrap();
        loop {
            // Between the two files, neither fits the other.
            let text = event(&mut case.events, "certificate-not-taken").await;
            if text.contains(reason) {
                break;
            }
        }
        assert_eq!(shown(&case).await, 100);
    }
    std::fs::remove_file(&case.certificate).unwrap();
    event(&mut case.events, "certificate-not-taken").await;
    assert_eq!(shown(&case).await, 100);
}

#[tokio::test]
async fn it_looks_when_it_is_asked_to() {
    let mut case = start(Duration::from_secs(3_600));
    issue(&case.deployment, identity(1, 1), 200).write(&case.certificate, &case.key).unwrap();
    assert_eq!(shown(&case).await, 100);
    case.server.reload_certificates();
    let text = event(&mut case.events, "certificate-reloaded").await;
    assert!(text.contains("200 days"), "{text}");
    assert_eq!(shown(&case).await, 200);
}

#[tokio::test]
async fn of_several_certificates_the_first_to_expire_counts() {
    let deployment = Deployment::new();
    let folder = deployment.folder.path();
    let (certificate, key) = (folder.join("sip.pem"), folder.join("sip.key"));
    issue(&deployment, identity(9, 9), 7).write(&certificate, &key).unwrap();
    let mut options = deployment.options("east");
    options.sip_certificate = Arc::new(Certified::load(&certificate, &key).unwrap());
    let (told_in, days) = mpsc::sync_channel(16);
    let script = scripted(move |_, input| {
        if let Input::Facts(facts) = input {
            let _ = told_in.try_send(facts.certificate_days);
        }
        vec![]
    });
    let _server = Server::start_with(options, script).unwrap();
    assert_eq!(days.recv_timeout(PATIENCE).unwrap(), 7);
}
