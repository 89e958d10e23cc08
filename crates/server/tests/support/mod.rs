//! What the server's tests share: deployments on loopback addresses of their own, certificates, a scripted node.
#![allow(dead_code, clippy::unwrap_used)]

use pairline_group::io::{Now, RecoveredGroup};
use pairline_group::{Millis, PoolId, ServerId};
use pairline_node::io::{Input, Output};
use pairline_server::secrets::Secrets;
use pairline_server::shell::{MakeNode, NodeLike, OnFatal, ServerOptions};
use pairline_server::tls::{Authority, CertificateNames, Credentials, Issued, PeerIdentity};
use pairline_topology::{ServerConfig, SipConfig, Topology, demo};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest that anything awaited may take; reached only by a fault.
pub const PATIENCE: Duration = Duration::from_secs(20);

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A loopback address that no other test of this machine uses at the same time.
pub fn address() -> IpAddr {
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    let [high, low] = u16::try_from(process % 50_000 + 256).unwrap().to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, high.max(2), low, u8::try_from(n % 250 + 1).unwrap()))
}

/// A folder that is removed at the end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pairline-test-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Two pools with one server each, on fresh loopback addresses.
pub struct Deployment {
    pub topology: Topology,
    pub authority: Authority,
    pub secrets: Secrets,
    pub folder: Folder,
}

pub fn identity(pool: u16, server: u32) -> PeerIdentity {
    PeerIdentity { pool: PoolId(pool), server: ServerId(server) }
}

pub fn names(identity: PeerIdentity) -> CertificateNames {
    CertificateNames { identity, names: vec!["pairline.test".to_owned()], addresses: vec![] }
}

pub fn credentials_from(authority: &Authority, issued: &Issued) -> Credentials {
    let (certificate, key) = (issued.certificate_pem.as_bytes(), issued.key_pem.as_bytes());
    Credentials::from_pem(certificate, key, authority.certificate_pem().as_bytes()).unwrap()
}

impl Deployment {
    pub fn new() -> Deployment {
        Deployment {
            topology: demo::two_pools(address(), address(), 5060),
            authority: Authority::create("test").unwrap().0,
            secrets: Secrets::generate().unwrap(),
            folder: Folder::new(),
        }
    }

    /// Options of one of its servers; `name` is `east` or `west`.
    pub fn options(&self, name: &str) -> ServerOptions {
        let server = self.topology.server_named(&format!("fe1.{name}.pairline.test")).unwrap();
        let identity = PeerIdentity { pool: server.pool, server: server.id };
        let issued = self.authority.issue(&names(identity)).unwrap();
        let data = self.folder.path().join(name);
        std::fs::create_dir_all(&data).unwrap();
        let nowhere = PathBuf::from("unused");
        let config = ServerConfig {
            server: server.name.clone(),
            topology: nowhere.clone(),
            data,
            certificate: nowhere.clone(),
            key: nowhere.clone(),
            authority: nowhere.clone(),
            secret: nowhere,
            admin_token: None,
            log_format: Default::default(),
            log_level: "info".to_owned(),
            admin: None,
            link: None,
            dns: None,
            listener: vec![],
            sip: SipConfig::default(),
            push: None,
            watchers: vec![],
            capture: Default::default(),
        };
        let credentials = credentials_from(&self.authority, &issued);
        let mut options = ServerOptions::new(config, self.topology.clone(), credentials, self.secrets.clone());
        options.on_fatal = OnFatal::Report;
        options.liveness_every = Duration::from_millis(50);
        options.resolvers = Some(vec![]);
        options
    }
}

/// A node that does what a script says.
pub struct Scripted<F> {
    script: F,
    out: std::collections::VecDeque<Output>,
}

impl<F: FnMut(Now, Input) -> Vec<Output>> NodeLike for Scripted<F> {
    fn handle(&mut self, now: Now, input: Input) {
        self.out.extend((self.script)(now, input));
    }

    fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn next_timeout(&self) -> Option<Millis> {
        None
    }
}

/// Makes a scripted node.
pub fn scripted<F>(script: F) -> MakeNode
where
    F: FnMut(Now, Input) -> Vec<Output> + Send + 'static,
{
    Box::new(move |_: Now, _: Vec<RecoveredGroup>| {
        Ok(Box::new(Scripted { script, out: Default::default() }) as Box<dyn NodeLike>)
    })
}

/// A node that answers every SIP message with the same bytes on the same flow, and passes on what else it is told.
pub fn echo(told: std::sync::mpsc::SyncSender<String>) -> MakeNode {
    scripted(move |_, input| match input {
        Input::Sip { flow, message } => vec![Output::Sip { flow, message }],
        Input::Tick | Input::Waited(_) | Input::Age { .. } | Input::Facts(_) | Input::Admin { .. } => vec![],
        other => {
            // A full channel is a test that has seen enough.
            let _ = told.try_send(format!("{other:?}"));
            vec![]
        }
    })
}

/// Receives until one fits.
pub fn until<T>(receiver: &std::sync::mpsc::Receiver<T>, mut fits: impl FnMut(&T) -> bool) -> T {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        let item = receiver.recv_timeout(left).expect("what was awaited did not come");
        if fits(&item) {
            return item;
        }
    }
}

/// The text of the first event of that name.
pub async fn event(events: &mut pairline_server::shell::Events, name: &str) -> String {
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            match events.next().await {
                Some(pairline_server::shell::Next::Event(e)) if e.name == name => return e.text.clone(),
                Some(_) => {}
                None => panic!("the server ended while {name} was awaited"),
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("no event {name}"))
}

/// Looks again until it is there: for what another process or a file shows, and nobody announces.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}
