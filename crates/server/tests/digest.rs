//! Users at the HTTP API with their own passwords: real HTTPS, the real nodes of two pools behind it.
#![allow(clippy::unwrap_used)]

use super::support;

use pairline_node::command::{Actor, Command, Problem, Reply};
use pairline_server::api::serve::bind;
use pairline_server::api::token::Tokens;
use pairline_server::api::{ApiState, serve};
use pairline_server::shell::{RunningServer, Server};
use pairline_server::tls::{CertificateNames, config::admin_client};
use pairline_sip::auth::{self, Challenge};
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Deployment, PATIENCE, credentials_from, identity};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

const PASSWORD: &str = "correct horse";
const ADMIN: &str = "0123456789abcdef0123456789abcdef";

/// Two pools with alice at home on east and carol on west, and east's API.
struct Site {
    api: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
    deployment: Deployment,
    east: RunningServer,
    west: RunningServer,
    stop: watch::Sender<bool>,
}

/// One HTTP answer: status, lower-case head, body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

async fn ask(server: &RunningServer, command: Command) -> Result<Reply, Problem> {
    server.handle().command(Actor::Administrator("test".to_owned()), command).await
}

async fn add(server: &RunningServer, user: &str, pool: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let command = Command::UserAdd {
            user: user.to_owned(),
            password: PASSWORD.to_owned(),
            display_name: None,
            pool: Some(pool.to_owned()),
        };
        match ask(server, command).await {
            Ok(_) => return,
            // The link between the pools comes up a moment after both run.
            Err(problem) => assert!(Instant::now() < until, "{user} cannot be added: {problem:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn start() -> Site {
    let deployment = Deployment::new();
    let east = Server::start(deployment.options("east")).unwrap();
    let west = Server::start(deployment.options("west")).unwrap();
    let api = deployment.topology.server[0].admin;
    let names = CertificateNames { identity: identity(1, 1), names: vec![], addresses: vec![api.ip()] };
    let credentials = credentials_from(&deployment.authority, &deployment.authority.issue(&names).unwrap());
    let (stop, stopping) = watch::channel(false);
    let state = Arc::new(ApiState {
        port: Arc::new(east.handle()),
        tokens: Tokens::new(ADMIN).unwrap(),
        server: "fe1".to_owned(),
    });
    let listener = bind(api).await.unwrap();
    tokio::spawn(serve(listener, credentials.admin_server().unwrap(), state, stopping));
    add(&east, "alice", "east").await;
    add(&west, "carol", "west").await;
    let tls = admin_client(deployment.authority.certificate_pem().as_bytes()).unwrap();
    Site { api, tls, deployment, east, west, stop }
}

impl Site {
    async fn request(&self, method: &str, path: &str, authorization: Option<&str>, body: &str) -> Answer {
        let stream = TcpStream::connect(self.api).await.unwrap();
        let name = ServerName::from(self.api.ip());
        let mut stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await.unwrap();
        let authorization = authorization.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
        let length = body.len();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{authorization}Content-Length: {length}\r\n\r\n{body}",
            self.api
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        // The end without a closing alert is no matter: the length of the answer is what its head says.
        let _ = stream.read_to_end(&mut all).await;
        let text = String::from_utf8(all).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    /// The Digest challenge of a request without credentials.
    async fn challenge(&self, path: &str) -> String {
        let answer = self.request("GET", path, None, "").await;
        assert_eq!(answer.status, 401, "{}", answer.body);
        assert!(answer.head.contains("www-authenticate: bearer realm=\"pairline\""), "{}", answer.head);
        let line = answer.head.lines().find(|line| line.starts_with("www-authenticate: digest ")).expect("a challenge");
        assert!(line.contains("algorithm=sha-256") && line.contains("qop=\"auth\""), "{line}");
        line.split_once(": ").unwrap().1.to_owned()
    }

    fn end(self) {
        self.stop.send_replace(true);
        // Joins threads, so outside the runtime.
        std::thread::spawn(move || drop((self.east, self.west, self.deployment))).join().unwrap();
    }
}

fn sign(challenge: &str, user: &str, password: &str, method: &str, path: &str, nc: u32) -> String {
    let challenge = Challenge::parse(challenge.as_bytes()).unwrap();
    auth::answer(&challenge, user, password, method, path, "c0ffee", nc)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_reads_and_changes_its_own_with_its_own_password() {
    let site = start().await;
    let put = "/api/v1/users/alice/contacts/sip:bob@pairline.test";
    let list = "/api/v1/users/alice/contacts";
    let challenge = site.challenge(list).await;
    let header = sign(&challenge, "alice", PASSWORD, "PUT", put, 1);
    let answer = site.request("PUT", put, Some(&header), "{\"name\":\"Bob\"}").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let header = sign(&challenge, "alice", PASSWORD, "GET", list, 2);
    let answer = site.request("GET", list, Some(&header), "").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.body.contains("bob@pairline.test"), "{}", answer.body);
    // A replay is asked again, without a word about the password; so are wrong ones and strangers, who look alike.
    let replay = site.request("GET", list, Some(&header), "").await;
    assert_eq!(replay.status, 401);
    assert!(replay.head.contains("stale=true"), "{}", replay.head);
    for (user, password) in [("alice", "wrong"), ("nobody", PASSWORD)] {
        let refused = site.request("GET", list, Some(&sign(&challenge, user, password, "GET", list, 3)), "").await;
        assert_eq!(refused.status, 401, "{user}");
        assert!(!refused.head.contains("stale"), "{}", refused.head);
    }
    // Not the answer to another method or target, and not another user's lists.
    let other = sign(&challenge, "alice", PASSWORD, "GET", "/api/v1/users/alice/settings", 4);
    assert_eq!(site.request("GET", list, Some(&other), "").await.status, 401);
    let theirs = "/api/v1/users/carol/settings";
    let header = sign(&challenge, "alice", PASSWORD, "GET", theirs, 5);
    assert_eq!(site.request("GET", theirs, Some(&header), "").await.status, 403);
    // An administrator's route takes no password.
    let users = sign(&challenge, "alice", PASSWORD, "GET", "/api/v1/users", 6);
    let refused = site.request("GET", "/api/v1/users", Some(&users), "").await;
    assert_eq!(refused.status, 401);
    assert!(!refused.head.contains("digest"), "{}", refused.head);
    site.end();
}

/// East has only a copy of carol's records: her own pool says whether the password is right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_of_the_other_pool_is_authenticated_there() {
    let site = start().await;
    let path = "/api/v1/users/carol/settings";
    let challenge = site.challenge(path).await;
    let new = Command::UserPassword { user: "carol".to_owned(), password: "new horse".to_owned() };
    ask(&site.west, new).await.unwrap();
    let old = sign(&challenge, "carol", PASSWORD, "PATCH", path, 1);
    assert_eq!(site.request("PATCH", path, Some(&old), "{\"note\":\"away\"}").await.status, 401);
    let header = sign(&challenge, "carol", "new horse", "PATCH", path, 2);
    let answer = site.request("PATCH", path, Some(&header), "{\"note\":\"away\"}").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.body.contains("away"), "{}", answer.body);
    site.end();
}

/// The same by a program that knows nothing of us.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_signs_in_by_digest() {
    if std::process::Command::new("curl").arg("--version").output().is_err() {
        println!("skipped: curl_signs_in_by_digest: curl is not installed");
        return;
    }
    let site = start().await;
    let authority = site.deployment.folder.path().join("authority.pem");
    std::fs::write(&authority, site.deployment.authority.certificate_pem()).unwrap();
    for (password, status) in [(PASSWORD, "200"), ("wrong", "401")] {
        let out = tokio::process::Command::new("curl")
            .args(["--silent", "--max-time", "20", "--digest", "--cacert"])
            .arg(&authority)
            .args(["--user", &format!("alice:{password}"), "--request", "PATCH", "--data", "{\"note\":\"by curl\"}"])
            .args(["--write-out", "\n%{http_code}", &format!("https://{}/api/v1/users/alice/settings", site.api)])
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert_eq!(text.lines().last(), Some(status), "{text}");
        assert_eq!(text.contains("by curl"), status == "200", "{text}");
    }
    site.end();
}
