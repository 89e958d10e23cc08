//! The deployment that a drill plays on: its own folder, its own loopback addresses, two real server processes.
//!
//! Owns processes and folder, and questions to the admin API. Does not own the course of the drill.

use super::DrillError;
use super::agent::Persona;
use super::board::Side;
use super::proxy::Line;
use crate::cli::args::DrillArgs;
use crate::cli::import;
use crate::client::{Access, Prefer, Session};
use crate::tls::files;
use crate::up::children::{Said, ServerProcess, channel};
use crate::up::layout::Layout;
use crate::up::{clients, create, ports, ready};
use pairline_node::command::{Command, ImportRow, Reply};
use pairline_node::view::PoolsView;
use pairline_sip::Transport;
use pairline_topology::{Topology, demo, parse_server_config};
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

/// Port on which west accepts links in truth; the topology's port leads to the line between the servers.
const BEHIND_THE_LINE: u16 = 7445;

/// The deployment.
pub struct Arena {
    /// Its folder.
    pub layout: Layout,
    /// Its topology.
    pub topology: Topology,
    /// How to ask it.
    pub access: Access,
    /// The line between the two servers.
    pub line: Line,
    east: Option<ServerProcess>,
    west: Option<ServerProcess>,
    tell: mpsc::Sender<Said>,
    _log: JoinHandle<()>,
    keep: bool,
}

impl Arena {
    /// Creates the folder and the line; no server runs yet. What fails leaves no folder behind.
    ///
    /// # Errors
    /// Addresses that are taken, or a folder or line that cannot be made.
    pub fn create(beside: &Path, args: &DrillArgs) -> Result<Arena, DrillError> {
        raise_descriptors();
        let mut topology = demo::two_pools(ip(3), ip(4), 5060);
        topology.deployment.name = "Pairline drill".into();
        topology.policies.registration.max_contacts = 10_000;
        let behind = SocketAddr::new(ip(4), BEHIND_THE_LINE);
        let taken = taken(&topology, behind);
        if !taken.is_empty() {
            return Err(DrillError::Taken(taken));
        }
        let beside = std::path::absolute(beside).unwrap_or_else(|_| beside.to_owned());
        let folder = beside.with_file_name(format!("pairline-drill-{}", std::process::id()));
        let layout = create::create(&folder, &topology)?;
        Arena::on(layout.clone(), topology, behind, args.keep).inspect_err(|_| {
            // The error says more than a folder that cannot be removed.
            let _ = layout.remove();
        })
    }

    fn on(layout: Layout, topology: Topology, behind: SocketAddr, keep: bool) -> Result<Arena, DrillError> {
        let west = server_of(&topology, Side::West);
        // Of two servers the one with the lower identity dials: east. It finds the line where it looks for west.
        let shown = topology.server_named(&west).map_or(behind, |server| server.link);
        move_link(&layout, &west, behind)?;
        let line = Line::start(shown, behind).map_err(DrillError::Line)?;
        let access = Access::find(&[], layout.root(), None, None)?;
        let (tell, said) = channel();
        let log = tokio::spawn(keep_log(layout.root().join("log.jsonl"), said));
        Ok(Arena { layout, topology, access, line, east: None, west: None, tell, _log: log, keep })
    }

    /// Starts both servers and waits until they serve.
    ///
    /// # Errors
    /// A server that cannot be started or does not come up.
    pub async fn start(&mut self) -> Result<(), DrillError> {
        for side in [Side::East, Side::West] {
            self.launch(side)?;
        }
        for side in [Side::East, Side::West] {
            self.wait(side, true).await?;
        }
        Ok(())
    }

    /// Sends a signal to a side's server, if it lives.
    pub fn signal(&mut self, side: Side, signal: rustix::process::Signal) {
        if let Some(server) = self.slot(side).as_ref() {
            server.signal(signal);
        }
    }

    fn slot(&mut self, side: Side) -> &mut Option<ServerProcess> {
        match side {
            Side::East => &mut self.east,
            Side::West => &mut self.west,
        }
    }

    /// Starts a side's server and does not wait for it.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn launch(&mut self, side: Side) -> Result<(), DrillError> {
        let name = server_of(&self.topology, side);
        let started = ServerProcess::start(&self.layout, &name, side.name(), &self.tell)?;
        *self.slot(side) = Some(started);
        Ok(())
    }

    /// Kills a side's server with SIGKILL and waits until it is gone.
    pub async fn kill(&mut self, side: Side) {
        if let Some(process) = self.slot(side) {
            process.kill().await;
        }
    }

    /// Waits until a side's server answers.
    ///
    /// # Errors
    /// It did not, with the end of the log.
    pub async fn wait(&mut self, side: Side, fully: bool) -> Result<(), DrillError> {
        let access = self.access.clone();
        let slot = self.slot(side);
        let gone = || slot.as_mut().is_none_or(|process| process.ended().is_some());
        if ready::wait(&access.only(side.name()), fully, START, gone).await {
            return Ok(());
        }
        let log = self.layout.root().join("log.jsonl");
        Err(DrillError::NotReady { pool: side.name(), log: tail_of(&log) })
    }

    /// Starts a dead side's server again and waits until it answers.
    ///
    /// # Errors
    /// As [`Arena::launch`] and [`Arena::wait`].
    pub async fn restart(&mut self, side: Side) -> Result<(), DrillError> {
        self.launch(side)?;
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
        let stop = |process: Option<ServerProcess>| async move {
            if let Some(mut process) = process {
                process.stop().await;
            }
        };
        tokio::join!(stop(self.east.take()), stop(self.west.take()));
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

/// Name of a side's server in the topology.
fn server_of(topology: &Topology, side: Side) -> String {
    let pool = topology.pool_named(side.name()).map(|pool| pool.id).unwrap_or_default();
    topology.servers_of(pool).first().map(|server| server.name.clone()).unwrap_or_default()
}

/// Addresses that are not free, in words; `behind` is where west accepts links in truth.
fn taken(topology: &Topology, behind: SocketAddr) -> Vec<String> {
    let mut true_places = topology.clone();
    let west = server_of(topology, Side::West);
    for server in true_places.server.iter_mut().filter(|server| server.name == west) {
        server.link = behind;
    }
    let all = [topology, &true_places].into_iter().flat_map(ports::taken).map(|taken| taken.to_string());
    all.collect::<BTreeSet<String>>().into_iter().collect()
}

/// Has a server accept links elsewhere than the topology says.
fn move_link(layout: &Layout, server: &str, link: SocketAddr) -> Result<(), DrillError> {
    let path = layout.server_config(server);
    let text = files::read(&path).map_err(create::CreateError::from)?;
    let read = parse_server_config(&path.to_string_lossy(), &String::from_utf8_lossy(&text));
    let mut config = read.map_err(|findings| {
        let why = findings.first().map_or_else(String::new, ToString::to_string);
        DrillError::Configuration { path: path.clone(), why }
    })?;
    config.link = Some(link);
    Ok(files::write_public(&path, config.to_toml().as_bytes()).map_err(create::CreateError::from)?)
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
            Said::Line { server, text } => format!("{server} {text}\n"),
            Said::Silent { server } => format!("{server} (its output ended)\n"),
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
