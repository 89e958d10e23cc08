//! The course of `pairline up`: find or create, check, start, wait, greet, stream, stop.
//!
//! Owns the order of these and the rule that nothing is touched before every check has passed.

use super::children::{Said, ServerProcess, SpawnError, channel};
use super::create::{self, CreateError};
use super::greeting::Greeting;
use super::layout::{Found, Layout, LayoutError};
use super::ports::{self, Taken};
use super::{label, program, ready, stream, users};
use crate::cli::args::UpArgs;
use crate::cli::run::out;
use crate::client::{Access, AccessError, CallError};
use pairline_topology::demo::{enterprise_of, with_witnesses};
use pairline_topology::{Advertise, Edition, Listener, Topology, Transport, demo_topology};
use rustix::fs::{FlockOperation, flock};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// How long a server may take until it answers.
const START: Duration = Duration::from_secs(60);

/// Why `up` does not go on.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// The data folder.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A new folder could not be created.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The description of the deployment cannot be used.
    #[error("{path} cannot be used:\n  {}", findings.join("\n  "))]
    Topology {
        /// Which file.
        path: PathBuf,
        /// All findings.
        findings: Vec<String>,
    },
    /// Another `up` runs on this folder.
    #[error("another `pairline up` runs on {0}; stop it, or choose another folder with --data DIR")]
    Running(PathBuf),
    /// Addresses are not free; nothing was touched.
    #[error("addresses are not free; nothing was touched:\n  {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "))]
    Taken(Vec<Taken>),
    /// `--listen` cannot be used.
    #[error("--listen {address}: {why}")]
    Listen {
        /// The address.
        address: IpAddr,
        /// Why.
        why: &'static str,
    },
    /// `--witness` for pools that can have none.
    #[error(
        "--witness: a witness is for pools of two Front Ends, and these have {0}; write --servers 2, or leave it out"
    )]
    Witness(u8),
    /// A server could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// A server ended or did not answer.
    #[error("{server} did not come up: {why}\n  its configuration: {}", config.display())]
    NotReady {
        /// Its label.
        server: String,
        /// What is known.
        why: String,
        /// Its configuration.
        config: PathBuf,
    },
    /// The admin API cannot be asked.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The admin API refused.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A file or signal could not be had.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
}

/// Runs a deployment until Ctrl-C.
pub async fn run(data: &Path, args: &UpArgs) -> Result<(), UpError> {
    if args.witness && args.servers != 2 {
        return Err(UpError::Witness(args.servers));
    }
    let mut signals = Signals::new()?;
    let prepared = prepare(data, args)?;
    let (tell, mut said) = channel();
    let mut servers = Vec::new();
    for server in &prepared.topology.server {
        let label = label(&prepared.topology, server);
        servers.push(ServerProcess::start(&prepared.layout, &server.name, &label, &tell)?);
    }
    let result = tokio::select! {
        result = Box::pin(live(&prepared, args, &mut servers, &mut said)) => result,
        () = signals.stop() => Ok(()),
    };
    stop(&mut servers, &mut said).await;
    result
}

/// A folder that is ours, locked, with its topology.
struct Prepared {
    layout: Layout,
    topology: Topology,
    new: bool,
    // Held while `up` runs.
    _lock: std::fs::File,
}

fn prepare(data: &Path, args: &UpArgs) -> Result<Prepared, UpError> {
    let root = std::path::absolute(data).map_err(|source| UpError::Io { what: data.display().to_string(), source })?;
    let layout = Layout::new(&root);
    let found = layout.look()?;
    let held = match found {
        Found::Nothing => None,
        Found::Deployment => Some(lock(&layout)?),
        Found::Server => return Err(LayoutError::OneServer(layout.root().to_owned()).into()),
    };
    let start_over = args.fresh || found == Found::Nothing;
    let topology = if start_over { wanted(args)? } else { existing(&layout, args)? };
    let taken = ports::taken(&topology);
    if !taken.is_empty() {
        return Err(UpError::Taken(taken));
    }
    if !start_over {
        let lock = held.map_or_else(|| lock(&layout), Ok)?;
        return Ok(Prepared { layout, topology, new: false, _lock: lock });
    }
    layout.remove()?;
    let layout = create::create(&root, &topology)?;
    if args.topology.is_none() {
        users::prepare(&layout, &topology)?;
    }
    let lock = lock(&layout)?;
    Ok(Prepared { layout, topology, new: true, _lock: lock })
}

fn lock(layout: &Layout) -> Result<std::fs::File, UpError> {
    let path = layout.lock();
    let failed = |source| UpError::Io { what: path.display().to_string(), source };
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => Err(UpError::Running(layout.root().to_owned())),
    }
}

/// The topology that a new folder is to have.
fn wanted(args: &UpArgs) -> Result<Topology, UpError> {
    let mut topology = match &args.topology {
        None if args.witness => with_witnesses(enterprise_of(args.servers)),
        None if args.enterprise => enterprise_of(args.servers),
        None => demo_topology(),
        Some(path) => {
            let failed = |findings| UpError::Topology { path: path.clone(), findings };
            let text = std::fs::read_to_string(path).map_err(|error| failed(vec![error.to_string()]))?;
            pairline_topology::parse(&path.to_string_lossy(), &text)
                .map_err(|findings| failed(findings.iter().map(ToString::to_string).collect()))?
        }
    };
    if let Some(address) = args.listen {
        listen_too(&mut topology, address)?;
    }
    Ok(topology)
}

/// Adds listeners for phones on the network: the first server on port 5060, the next on 5062, and so on.
///
/// # Errors
/// [`UpError::Listen`] for an address that clients cannot be told.
pub fn listen_too(topology: &mut Topology, address: IpAddr) -> Result<(), UpError> {
    if address.is_unspecified() || address.is_multicast() {
        return Err(UpError::Listen {
            address,
            why: "name one address of this machine; clients are told to come back to it",
        });
    }
    let serving = topology.server.iter_mut().filter(|server| !server.is_witness());
    for (number, server) in (0_u16..).zip(serving) {
        let port = 5060_u16.saturating_add(number.saturating_mul(2));
        let all = [
            ("network-udp", Transport::Udp, port),
            ("network-tcp", Transport::Tcp, port),
            ("network-tls", Transport::Tls, port.saturating_add(1)),
        ];
        for (id, transport, port) in all {
            server.listener.push(Listener {
                id: id.into(),
                transport,
                address: SocketAddr::new(address, port),
                advertise: Advertise::Address,
                advertise_address: None,
            });
        }
    }
    Ok(())
}

fn existing(layout: &Layout, args: &UpArgs) -> Result<Topology, UpError> {
    let topology = crate::client::read_topology(&layout.topology())?;
    if let Some(address) = args.listen {
        let listens = topology.server.iter().flat_map(|s| &s.listener).any(|l| l.address.ip() == address);
        if !listens {
            let why = "this deployment was created without it; add listeners to a topology, or start over with --fresh --listen";
            return Err(UpError::Listen { address, why });
        }
    }
    let other = |pool: &pairline_topology::Pool| pool.edition != Edition::Enterprise;
    let fewer = topology.pool.iter().any(|pool| topology.servers_of(pool.id).len() != usize::from(args.servers))
        && args.servers != 3;
    let unwitnessed = args.witness && topology.pool.iter().any(|pool| topology.witness_of(pool.id).is_none());
    if args.enterprise && (topology.pool.iter().any(other) || fewer || unwitnessed) {
        let findings = vec![
            "it describes another deployment; start over with --fresh, or choose another folder with --data".to_owned(),
        ];
        return Err(UpError::Topology { path: layout.topology(), findings });
    }
    if let Some(path) = &args.topology {
        let given = wanted(args)?;
        if given != topology {
            let findings = vec!["it differs from the one in the data folder; start over with --fresh".to_owned()];
            return Err(UpError::Topology { path: path.clone(), findings });
        }
    }
    Ok(topology)
}

/// From the first process to the end of the last: ready, users, greeting, stream.
async fn live(
    prepared: &Prepared,
    args: &UpArgs,
    servers: &mut [ServerProcess],
    said: &mut mpsc::Receiver<Said>,
) -> Result<(), UpError> {
    let Prepared { layout, topology, .. } = prepared;
    let access = Access::find(&[], layout.root(), None, None)?;
    wait_ready(&access, servers, said).await?;
    let early = wait_together(&access, servers, said).await;
    early.iter().for_each(|line| out(line));
    let demo = users::of_folder(layout, topology);
    let adding = async {
        let missing = users::add_demo(&access, layout, topology).await?;
        if args.users > 0 {
            users::add_many(&access, layout, topology, args.users).await?;
        }
        Ok::<_, UpError>(missing)
    };
    // Lines are held back until the greeting; the channel is bounded, so a server waits rather than losing one.
    let (early, missing) = collect_while(adding, said).await;
    let missing = missing?;
    let program = program::name();
    let processes: Vec<(&str, u32)> = servers.iter().filter_map(|s| Some((s.name.as_str(), s.pid()?))).collect();
    let (users, missing, processes) = (&demo[..], &missing[..], &processes[..]);
    let greeting = Greeting { program, layout, topology, users, missing, processes, listen: args.listen };
    out(&greeting.text());
    early.iter().for_each(|line| out(line));
    if !prepared.new {
        out("  (found the data of an earlier start; --fresh starts over)\n");
    }
    stream_on(servers, said).await;
    Ok(())
}

/// Runs a future while keeping what the servers say meanwhile (at most 1,000 lines).
async fn collect_while<T>(work: impl Future<Output = T>, said: &mut mpsc::Receiver<Said>) -> (Vec<String>, T) {
    let mut lines = Vec::new();
    let mut work = Box::pin(work);
    loop {
        tokio::select! {
            done = &mut work => return (lines, done),
            Some(word) = said.recv() => {
                if let Said::Line { server, text } = word && lines.len() < 1_000 {
                    lines.push(stream::readable(&server, &text) + "\n");
                }
            }
        }
    }
}

async fn wait_ready(
    access: &Access,
    servers: &mut [ServerProcess],
    said: &mut mpsc::Receiver<Said>,
) -> Result<(), UpError> {
    for server in servers {
        let (label, config) = (server.label.clone(), server.config.clone());
        let access = access.only_server(&server.name);
        let waiting = ready::wait(&access, false, START, || server.ended().is_some());
        let (lines, up) = collect_while(waiting, said).await;
        if !up {
            lines.iter().for_each(|line| out(line));
            let why = match server.ended() {
                Some(status) => format!("it ended ({status}); its last lines stand above"),
                None => format!("no answer within {} s", START.as_secs()),
            };
            return Err(UpError::NotReady { server: label, why, config });
        }
    }
    Ok(())
}

/// How long the servers may take to find each other; what they cannot do without each other they say themselves.
const TOGETHER: Duration = Duration::from_secs(10);

/// Waits until every server serves in full; gives back what they said meanwhile. Pools of a new deployment ask each other
/// before they serve anybody, and servers of one pool choose who leads.
async fn wait_together(access: &Access, servers: &mut [ServerProcess], said: &mut mpsc::Receiver<Said>) -> Vec<String> {
    let mut lines = Vec::new();
    for server in servers {
        let access = access.only_server(&server.name);
        let waiting = ready::wait(&access, true, TOGETHER, || server.ended().is_some());
        lines.extend(collect_while(waiting, said).await.0);
    }
    lines
}

/// Prints one line per event until every server has ended.
async fn stream_on(servers: &mut [ServerProcess], said: &mut mpsc::Receiver<Said>) {
    let mut dead: Vec<String> = Vec::new();
    while let Some(word) = said.recv().await {
        match word {
            Said::Line { server, text } => out(&(stream::readable(&server, &text) + "\n")),
            Said::Silent { server } => {
                if let Some(gone) = servers.iter_mut().find(|gone| gone.label == server && !dead.contains(&server)) {
                    report_death(gone).await;
                    dead.push(server);
                }
            }
        }
        if dead.len() == servers.len() {
            out("every server has ended\n");
            return;
        }
    }
}

async fn report_death(server: &mut ServerProcess) {
    // The pipe closes a moment before the process can be waited for.
    let mut status = server.ended();
    for _ in 0..50 {
        if status.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        status = server.ended();
    }
    let how = status.map_or_else(|| "its output ended".to_owned(), |status| status.to_string());
    out(&format!(
        "\n*** {label} is dead ({how}). It is left so; the others go on. To start it again:\n***   {} server --config {}\n\n",
        program::name(),
        program::quoted(&server.config),
        label = server.label
    ));
}

async fn stop(servers: &mut [ServerProcess], said: &mut mpsc::Receiver<Said>) {
    out("\nstopping\n");
    for server in servers.iter_mut() {
        let label = server.label.clone();
        // Lines are read on, so that no server hangs in a full pipe.
        let (lines, clean) = collect_while(server.stop(), said).await;
        lines.iter().for_each(|line| out(line));
        out(&format!("{label} {}\n", if clean { "stopped" } else { "did not stop in time and was killed" }));
    }
}

/// Ctrl-C and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Signals, UpError> {
        let failed = |source| UpError::Io { what: "signals".into(), source };
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
