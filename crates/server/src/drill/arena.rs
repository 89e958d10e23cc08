//! The deployment that a drill plays on: its own folder, its own loopback addresses, real server processes.
//!
//! Owns processes and folder, and questions to the admin API. Does not own the course of the drill.

use super::DrillError;
use super::agent::Persona;
use super::board::{At, Side};
use super::proxy::{Line, Relay};
use super::returning::join_all;
use crate::cli::args::DrillArgs;
use crate::cli::import;
use crate::client::{Access, Prefer, Session};
use crate::tls::files;
use crate::up::children::{Said, ServerProcess, channel};
use crate::up::layout::Layout;
use crate::up::{clients, create, label, ports, ready};
use pairline_node::command::{Command, ImportRow, Reply};
use pairline_node::view::PoolsView;
use pairline_sip::Transport;
use pairline_topology::{Server, Topology, demo, parse_server_config};
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

/// Port on which west's servers accept links in truth; the topology's port leads to the line between the pools.
const BEHIND_THE_LINE: u16 = 7445;

/// Servers of each pool of a drill of Enterprise pools.
const FRONT_ENDS: u8 = 3;

/// How long a request may wait at a server of such a drill before it counts as overloaded.
const WAITS_MS: u32 = 300;

/// The deployment.
pub struct Arena {
    /// Its folder.
    pub layout: Layout,
    /// Its topology.
    pub topology: Topology,
    /// How to ask it.
    pub access: Access,
    /// The line between the two pools.
    pub line: Line,
    servers: BTreeMap<String, ServerProcess>,
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
        let mut topology = match args.enterprise {
            true => demo::enterprise(&[(demo::EAST, "east", site(3)), (demo::WEST, "west", site(4))], 5060),
            false => demo::two_pools(ip(3, 1), ip(4, 1), 5060),
        };
        topology.deployment.name = "Pairline drill".into();
        topology.policies.registration.max_contacts = 10_000;
        if args.enterprise {
            // Six servers and all clients share this machine's processors: that one has to wait for its turn is no overload.
            topology.policies.overload.target_delay_ms = WAITS_MS;
        }
        let taken = taken(&topology);
        if !taken.is_empty() {
            return Err(DrillError::Taken(taken));
        }
        let beside = std::path::absolute(beside).unwrap_or_else(|_| beside.to_owned());
        let folder = beside.with_file_name(format!("pairline-drill-{}", std::process::id()));
        let layout = create::create(&folder, &topology)?;
        Arena::on(layout.clone(), topology, args.keep).inspect_err(|_| {
            // The error says more than a folder that cannot be removed.
            let _ = layout.remove();
        })
    }

    fn on(layout: Layout, topology: Topology, keep: bool) -> Result<Arena, DrillError> {
        // Of two servers the one with the lower identity dials: each of east dials each of west, and finds the line there.
        let mut relays = Vec::new();
        for server in servers_of(&topology, Side::West) {
            let behind = behind(server);
            move_link(&layout, &server.name, behind)?;
            relays.push(Relay { listen: server.link, behind });
        }
        // Servers dial from the address at which they accept links.
        let inside = relays.iter().map(|relay| relay.behind.ip()).collect();
        let line = Line::start(&relays, inside).map_err(DrillError::Line)?;
        let access = Access::find(&[], layout.root(), None, None)?;
        let (tell, said) = channel();
        let log = tokio::spawn(keep_log(layout.root().join("log.jsonl"), said));
        Ok(Arena { layout, topology, access, line, servers: BTreeMap::new(), tell, _log: log, keep })
    }

    /// Names of a side's servers.
    pub fn of(&self, side: Side) -> Vec<String> {
        servers_of(&self.topology, side).iter().map(|server| server.name.clone()).collect()
    }

    /// The short word for a server.
    pub fn label(&self, server: &str) -> String {
        self.topology.server_named(server).map_or_else(String::new, |found| label(&self.topology, found))
    }

    /// Starts all servers and waits until they serve.
    ///
    /// # Errors
    /// A server that cannot be started or does not come up.
    pub async fn start(&mut self) -> Result<(), DrillError> {
        let all: Vec<String> = [Side::East, Side::West].into_iter().flat_map(|side| self.of(side)).collect();
        for server in &all {
            self.launch(server)?;
        }
        for server in &all {
            self.wait(server, true).await?;
        }
        Ok(())
    }

    /// Sends a signal to a side's servers, as far as they live.
    pub fn signal(&self, side: Side, signal: rustix::process::Signal) {
        for server in self.of(side).iter().filter_map(|server| self.servers.get(server)) {
            server.signal(signal);
        }
    }

    /// Starts a server and does not wait for it.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn launch(&mut self, server: &str) -> Result<(), DrillError> {
        let started = ServerProcess::start(&self.layout, server, &self.label(server), &self.tell)?;
        self.servers.insert(server.to_owned(), started);
        Ok(())
    }

    /// Kills a side's servers with SIGKILL and waits until they are gone.
    pub async fn kill(&mut self, side: Side) {
        for server in self.of(side).iter().filter_map(|server| self.servers.get(server)) {
            // One after the other would leave the last ones time to notice.
            server.signal(rustix::process::Signal::KILL);
        }
        for server in self.of(side) {
            self.kill_server(&server).await;
        }
    }

    /// Kills one server with SIGKILL and waits until it is gone.
    pub async fn kill_server(&mut self, server: &str) {
        if let Some(process) = self.servers.get_mut(server) {
            process.kill().await;
        }
    }

    /// Waits until a server answers.
    ///
    /// # Errors
    /// It did not, with the end of the log.
    pub async fn wait(&mut self, server: &str, fully: bool) -> Result<(), DrillError> {
        let access = self.access.only_server(server);
        let process = &mut self.servers.get_mut(server);
        let gone = || process.as_mut().is_none_or(|process| process.ended().is_some());
        if ready::wait(&access, fully, START, gone).await {
            return Ok(());
        }
        let log = self.layout.root().join("log.jsonl");
        Err(DrillError::NotReady { server: self.label(server), log: tail_of(&log) })
    }

    /// Starts a dead side's servers again and waits until they answer.
    ///
    /// # Errors
    /// As [`Arena::launch`] and [`Arena::wait`].
    pub async fn restart(&mut self, side: Side) -> Result<(), DrillError> {
        let all = self.of(side);
        for server in &all {
            self.launch(server)?;
        }
        for server in &all {
            self.wait(server, false).await?;
        }
        Ok(())
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

    /// Asks one server and no other.
    pub async fn ask_server(&self, server: &str, command: &Command) -> Result<Reply, DrillError> {
        Ok(Session::new(self.access.only_server(server)).call(command, &Prefer::Any).await?)
    }

    /// The servers that a client of a home pool knows, as from SRV records: those of its pool, begun in turn, then the partner's.
    fn targets(&self, home: Side, turn: usize) -> Vec<(At, SocketAddr)> {
        let of_side = |side: Side| {
            let mut all: Vec<(At, SocketAddr)> = servers_of(&self.topology, side)
                .into_iter()
                .map(|server| (At { side, server: server.id.0 }, clients::sip_address(server).unwrap_or(NOWHERE)))
                .collect();
            let count = all.len().max(1);
            all.rotate_left(turn % count);
            all
        };
        [home, home.other()].into_iter().flat_map(of_side).collect()
    }

    /// Imports the swarm's users and says who they are.
    pub async fn people(&self, args: &DrillArgs) -> Result<Vec<Persona>, DrillError> {
        let mut people = Vec::new();
        for number in 0..args.users {
            let home = if number % 2 == 0 { Side::East } else { Side::West };
            // The share of UDP is the same among the users of both pools.
            let udp = number / 2 % 100 < args.udp;
            let number = usize::try_from(number).unwrap_or(0);
            people.push(Persona {
                number,
                user: format!("d{number:05}"),
                password: create::password().map_err(create::CreateError::from)?,
                domain: self.topology.default_domain().to_owned(),
                home,
                targets: self.targets(home, number / 2),
                roams: args.enterprise,
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
    pub async fn contacts(&self, side: Side, people: &[&Persona]) -> Result<Lists, DrillError> {
        Arena::read(&self.access.only(side.name()), people).await
    }

    /// The same at one server.
    pub async fn contacts_at(&self, server: &str, people: &[&Persona]) -> Result<Lists, DrillError> {
        Arena::read(&self.access.only_server(server), people).await
    }

    async fn read(access: &Access, people: &[&Persona]) -> Result<Lists, DrillError> {
        let mut readers = tokio::task::JoinSet::new();
        for share in people.chunks(people.len().div_ceil(READERS).max(1)) {
            let users: Vec<(usize, String)> =
                share.iter().map(|who| (who.number, format!("{}@{}", who.user, who.domain))).collect();
            readers.spawn(read_lists(Session::new(access.clone()), users));
        }
        let (mut lists, mut read_only) = (BTreeMap::new(), 0);
        while let Some(done) = readers.join_next().await {
            let (part, count) = done.map_err(|error| DrillError::Unexpected(error.to_string()))??;
            lists.extend(part);
            read_only += count;
        }
        Ok((lists, read_only))
    }

    /// Stops all servers and removes the folder, unless it is to be kept.
    pub async fn end(mut self) {
        let stopped = self.servers.values_mut().map(ServerProcess::stop);
        join_all(stopped).await;
        if !self.keep {
            // Left behind it does no harm; the next drill has a folder of its own.
            let _ = self.layout.remove();
        }
    }
}

/// Contacts by user, and how many of the lists were marked read-only.
pub type Lists = (BTreeMap<usize, BTreeSet<String>>, usize);

/// For a topology without the pool; never sent to.
pub const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

fn ip(third: u8, last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, third, last))
}

/// The addresses of a site's Front Ends.
fn site(third: u8) -> Vec<IpAddr> {
    (1..=FRONT_ENDS).map(|last| ip(third, last)).collect()
}

/// A side's servers in the topology.
fn servers_of(topology: &Topology, side: Side) -> Vec<&Server> {
    let pool = topology.pool_named(side.name()).map(|pool| pool.id).unwrap_or_default();
    topology.servers_of(pool)
}

/// Where a server of west accepts links in truth.
fn behind(server: &Server) -> SocketAddr {
    SocketAddr::new(server.link.ip(), BEHIND_THE_LINE)
}

/// Addresses that are not free, in words: also those where west's servers accept links in truth.
fn taken(topology: &Topology) -> Vec<String> {
    let mut true_places = topology.clone();
    let west = topology.pool_named(Side::West.name()).map(|pool| pool.id);
    for server in true_places.server.iter_mut().filter(|server| Some(server.pool) == west) {
        server.link = behind(server);
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
    users: Vec<(usize, String)>,
) -> Result<(Vec<(usize, BTreeSet<String>)>, usize), DrillError> {
    let (mut lists, mut count) = (Vec::new(), 0);
    for (number, user) in users {
        match session.call(&Command::ContactList { user }, &Prefer::Any).await? {
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
