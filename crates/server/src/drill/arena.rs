//! The deployment that a drill plays on: its own folder, its own loopback addresses, two real server processes.
//!
//! Owns processes and folder, and questions to the admin API. Does not own the course of the drill.

use super::DrillError;
use super::agent::Persona;
use super::board::Side;
use crate::cli::args::DrillArgs;
use crate::cli::import;
use crate::client::{Access, Prefer, Session};
use crate::up::children::{Said, ServerProcess, channel};
use crate::up::layout::Layout;
use crate::up::{clients, create, ports, ready};
use pairline_node::command::{Command, ImportRow, Reply};
use pairline_node::view::PoolsView;
use pairline_sip::Transport;
use pairline_topology::{Topology, demo};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How long a server may take until it answers.
const START: Duration = Duration::from_secs(60);

/// Questions for contact lists that are asked at one time.
const READERS: usize = 8;

/// The deployment.
pub struct Arena {
    /// Its folder.
    pub layout: Layout,
    /// Its topology.
    pub topology: Topology,
    /// How to ask it.
    pub access: Access,
    east: ServerProcess,
    west: ServerProcess,
    tell: mpsc::Sender<Said>,
    _log: JoinHandle<()>,
    keep: bool,
}

impl Arena {
    /// Creates the folder and starts both servers.
    pub async fn start(beside: &Path, args: &DrillArgs) -> Result<Arena, DrillError> {
        raise_descriptors();
        let mut topology = demo::two_pools(ip(3), ip(4), 5060);
        topology.deployment.name = "Pairline drill".into();
        topology.policies.registration.max_contacts = 10_000;
        let taken = ports::taken(&topology);
        if !taken.is_empty() {
            return Err(DrillError::Taken(taken.iter().map(ToString::to_string).collect()));
        }
        let beside = std::path::absolute(beside).unwrap_or_else(|_| beside.to_owned());
        let folder = beside.with_file_name(format!("pairline-drill-{}", std::process::id()));
        let layout = create::create(&folder, &topology)?;
        let access = Access::find(&[], layout.root(), None, None)?;
        let (tell, said) = channel();
        let log = tokio::spawn(keep_log(layout.root().join("log.jsonl"), said));
        let server = |side: Side| {
            let pool = topology.pool_named(side.name()).map(|pool| pool.id).unwrap_or_default();
            topology.servers_of(pool).first().map(|server| server.name.clone()).unwrap_or_default()
        };
        let east = ServerProcess::start(&layout, &server(Side::East), "east", &tell)?;
        let west = ServerProcess::start(&layout, &server(Side::West), "west", &tell)?;
        let mut arena = Arena { layout, access, east, west, tell, _log: log, keep: args.keep, topology };
        for side in [Side::East, Side::West] {
            arena.wait(side, true).await?;
        }
        Ok(arena)
    }

    /// The process of a side.
    pub fn process(&mut self, side: Side) -> &mut ServerProcess {
        match side {
            Side::East => &mut self.east,
            Side::West => &mut self.west,
        }
    }

    /// Waits until a side's server answers.
    pub async fn wait(&mut self, side: Side, fully: bool) -> Result<(), DrillError> {
        let access = self.access.clone();
        let process = self.process(side);
        if ready::wait(&access, side.name(), fully, START, || process.ended().is_some()).await {
            return Ok(());
        }
        let log = self.layout.root().join("log.jsonl");
        Err(DrillError::NotReady { pool: side.name(), log: tail_of(&log) })
    }

    /// Starts a dead side's server again.
    pub async fn restart(&mut self, side: Side) -> Result<(), DrillError> {
        let pool = self.topology.pool_named(side.name()).map(|pool| pool.id).unwrap_or_default();
        let name = self.topology.servers_of(pool).first().map(|server| server.name.clone()).unwrap_or_default();
        let started = ServerProcess::start(&self.layout, &name, side.name(), &self.tell)?;
        *self.process(side) = started;
        self.wait(side, false).await
    }

    /// A new session.
    pub fn session(&self) -> Session {
        Session::new(self.access.clone())
    }

    /// Status of all pools as a side's server sees them.
    pub async fn status(&self, side: Side) -> Result<PoolsView, DrillError> {
        match self.ask(side, &Command::PoolStatus).await? {
            Reply::Pools(view) => Ok(view),
            other => Err(DrillError::Unexpected(format!("{other:?}"))),
        }
    }

    /// Asks one side's server and no other.
    pub async fn ask(&self, side: Side, command: &Command) -> Result<Reply, DrillError> {
        Ok(self.session().call(command, &Prefer::Only(side.name().to_owned())).await?)
    }

    /// Imports the swarm's users and says who they are.
    pub async fn people(&self, args: &DrillArgs) -> Result<Vec<Persona>, DrillError> {
        let address = |side: Side| {
            let pool = self.topology.pool_named(side.name()).map(|pool| pool.id).unwrap_or_default();
            self.topology.servers_of(pool).first().and_then(|server| clients::sip_address(server)).unwrap_or(NOWHERE)
        };
        let pools = [address(Side::East), address(Side::West)];
        let mut people = Vec::new();
        for number in 0..args.users {
            let home = if number % 2 == 0 { Side::East } else { Side::West };
            // The share of UDP is the same among the users of both pools.
            let udp = number / 2 % 100 < args.udp;
            people.push(Persona {
                number: usize::try_from(number).unwrap_or(0),
                user: format!("d{number:05}"),
                password: create::password().map_err(create::CreateError::from)?,
                domain: self.topology.default_domain().to_owned(),
                home,
                pools,
                transport: if udp { Transport::Udp } else { Transport::Tcp },
            });
        }
        let rows = people
            .iter()
            .map(|who| ImportRow {
                user: who.user.clone(),
                password: who.password.clone(),
                display_name: None,
                pool: Some(who.home.name().to_owned()),
                contacts: Vec::new(),
            })
            .collect();
        self.import(rows).await?;
        Ok(people)
    }

    /// Imports users; every one must be taken.
    pub async fn import(&self, rows: Vec<ImportRow>) -> Result<(), DrillError> {
        let imported = import::run(self.access.clone(), rows, 200, false).await?;
        match imported.refusals.first() {
            None => Ok(()),
            Some((user, why)) => Err(DrillError::Unexpected(format!("import of {user} refused: {why}"))),
        }
    }

    /// Reads contact lists of users at one side; the second value counts lists that were marked read-only.
    pub async fn contacts(
        &self,
        side: Side,
        people: &[&Persona],
    ) -> Result<(BTreeMap<usize, BTreeSet<String>>, usize), DrillError> {
        let mut readers = tokio::task::JoinSet::new();
        for share in people.chunks(people.len().div_ceil(READERS).max(1)) {
            let users: Vec<(usize, String)> =
                share.iter().map(|who| (who.number, format!("{}@{}", who.user, who.domain))).collect();
            let session = self.session();
            readers.spawn(read_lists(session, side, users));
        }
        let (mut lists, mut read_only) = (BTreeMap::new(), 0);
        while let Some(done) = readers.join_next().await {
            let (part, count) = done.map_err(|error| DrillError::Unexpected(error.to_string()))??;
            lists.extend(part);
            read_only += count;
        }
        Ok((lists, read_only))
    }

    /// Stops both servers and removes the folder, unless it is to be kept.
    pub async fn end(mut self) {
        self.east.stop().await;
        self.west.stop().await;
        if !self.keep {
            // Left behind it does no harm; the next drill has a folder of its own.
            let _ = self.layout.remove();
        }
    }
}

/// For a topology without the pool; never sent to.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

fn ip(third: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, third, 1))
}

async fn read_lists(
    mut session: Session,
    side: Side,
    users: Vec<(usize, String)>,
) -> Result<(Vec<(usize, BTreeSet<String>)>, usize), DrillError> {
    let (mut lists, mut count) = (Vec::new(), 0);
    for (number, user) in users {
        match session.call(&Command::ContactList { user }, &Prefer::Only(side.name().to_owned())).await? {
            Reply::Contacts { contacts, read_only } => {
                count += usize::from(read_only);
                lists.push((number, contacts.into_iter().map(|contact| contact.contact).collect()));
            }
            other => return Err(DrillError::Unexpected(format!("{other:?}"))),
        }
    }
    Ok((lists, count))
}

/// Thousands of connections need thousands of descriptors, here and in the servers, which inherit the limit.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Without it the drill runs with as many users as fit.
    let _ = setrlimit(Resource::Nofile, wanted);
}

/// Writes what the servers say into one file, so that their pipes never fill.
async fn keep_log(path: std::path::PathBuf, mut said: mpsc::Receiver<Said>) {
    let mut file = std::fs::File::create(path).ok().map(std::io::BufWriter::new);
    while let Some(word) = said.recv().await {
        let line = match word {
            Said::Line { pool, text } => format!("{pool} {text}\n"),
            Said::Silent { pool } => format!("{pool} (its output ended)\n"),
        };
        if let Some(file) = &mut file {
            // A full disk must not stop the drill.
            let _ = file.write_all(line.as_bytes()).and_then(|()| file.flush());
        }
    }
}

/// The last lines of a log, for an error.
fn tail_of(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(12)).map(|line| format!("  {line}\n")).collect()
}
