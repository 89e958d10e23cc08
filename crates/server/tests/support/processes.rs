//! Real server processes of one Enterprise pool, each on a loopback address of its own.
#![allow(dead_code)]

use crate::support::{Folder, PATIENCE, address, wait_for};
use pairline_node::command::{Command, Problem, Reply};
use pairline_node::view::HealthView;
use pairline_server::client::{Access, CallError, Prefer, Session};
use pairline_server::up::create;
use pairline_server::up::layout::Layout;
use pairline_topology::Topology;
use pairline_topology::demo::{self, EAST};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub struct Pool {
    pub topology: Topology,
    layout: Layout,
    access: Access,
    runtime: tokio::runtime::Runtime,
    servers: Vec<Option<Child>>,
    /// The programs of servers that run another one than this build's.
    programs: BTreeMap<usize, PathBuf>,
    /// The configurations of servers that joined, in folders of their own.
    joined: BTreeMap<usize, PathBuf>,
    _folder: Folder,
    _alone: MutexGuard<'static, ()>,
}

/// One pool at a time: what is measured is a pool's time, not that of five on one machine.
static ALONE: Mutex<()> = Mutex::new(());

impl Pool {
    /// Creates the deployment and starts all its servers; waits until the pool is healthy.
    pub fn start(servers: usize) -> Pool {
        let addresses = (0..servers).map(|_| address()).collect();
        Pool::of(demo::enterprise(&[(EAST, "east", addresses)], 5060))
    }

    /// The same with two servers and a witness, the last.
    pub fn witnessed() -> Pool {
        let addresses = (0..2).map(|_| address()).collect();
        let mut topology = demo::with_witnesses(demo::enterprise(&[(EAST, "east", addresses)], 5060));
        let own = address();
        topology.server[2].admin.set_ip(own);
        topology.server[2].link.set_ip(own);
        Pool::of(topology)
    }

    fn of(topology: Topology) -> Pool {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let servers = topology.server.len();
        let folder = Folder::new();
        let layout = create::create(&folder.path().join("data"), &topology).unwrap();
        // Whose disk holds nothing, and opens nothing.
        for witness in topology.server.iter().filter(|server| server.is_witness()) {
            let config = layout.server_config(&witness.name);
            let text = std::fs::read_to_string(&config).unwrap();
            std::fs::write(&config, text.replace("deployment.secret", "there-is-none")).unwrap();
        }
        let access = Access::find(&[], layout.root(), None, None).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let empty = (0..servers).map(|_| None).collect();
        let (programs, joined) = (BTreeMap::new(), BTreeMap::new());
        let mut pool = Pool {
            topology,
            layout,
            access,
            runtime,
            servers: empty,
            programs,
            joined,
            _folder: folder,
            _alone: alone,
        };
        (0..servers).for_each(|n| pool.launch(n));
        pool.wait("healthy", 0);
        pool
    }

    /// Starts one server's process and does not wait for it.
    pub fn launch(&mut self, n: usize) {
        let config = self.layout.server_config(&self.topology.server[n].name);
        let config = self.joined.get(&n).unwrap_or(&config);
        let log = std::fs::File::options().append(true).create(true).open(self.log(n)).unwrap();
        let own = PathBuf::from(env!("CARGO_BIN_EXE_pairline"));
        let child = std::process::Command::new(self.programs.get(&n).unwrap_or(&own))
            .args(["server", "--log", "json", "--with-parent", "--config"])
            .arg(config)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.servers[n] = Some(child);
    }

    fn log(&self, n: usize) -> std::path::PathBuf {
        let own = self.layout.server(&self.topology.server[n].name);
        let folder = self.joined.get(&n).and_then(|config| config.parent()).unwrap_or(&own);
        folder.join("log.jsonl")
    }

    /// From its next start on a server runs this program; `None`: this build's.
    pub fn install(&mut self, n: usize, program: Option<&Path>) {
        match program {
            Some(program) => self.programs.insert(n, program.to_owned()),
            None => self.programs.remove(&n),
        };
    }

    /// Waits for the end of a server that cannot go on; whether it ended well.
    pub fn ended(&mut self, n: usize) -> bool {
        let mut child = self.servers[n].take().unwrap();
        let status = wait_for("the end of a server", || child.try_wait().unwrap());
        status.success()
    }

    /// Everything that a server has said.
    pub fn said(&self, n: usize) -> String {
        std::fs::read_to_string(self.log(n)).unwrap_or_default()
    }

    /// Kills one server with SIGKILL.
    pub fn kill(&mut self, n: usize) {
        let mut child = self.servers[n].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Empties the disk of one server that does not run.
    pub fn wipe(&self, n: usize) {
        assert!(self.servers[n].is_none());
        std::fs::remove_dir_all(self.layout.server(&self.topology.server[n].name).join("data")).unwrap();
    }

    /// Publishes a topology by the command line.
    pub fn publish(&mut self, topology: Topology) {
        let output = self.try_publish(&topology);
        assert!(output.status.success(), "{output:?}\n{}", self.logs());
        self.access = Access::find(&[], self.layout.root(), None, None).unwrap();
        self.topology = topology;
    }

    /// Publishes a topology by the command line, whatever comes of it.
    pub fn try_publish(&self, topology: &Topology) -> std::process::Output {
        let file = self.layout.root().join("new.toml");
        let document = pairline_topology::to_toml(&Topology { revision: 0, ..topology.clone() });
        std::fs::write(&file, document).unwrap();
        self.command(&["topology", "publish", file.to_str().unwrap()]).wait_while(|| {})
    }

    /// So many servers more: published, and nothing else.
    pub fn announce(&mut self, servers: usize) {
        let mut addresses: Vec<IpAddr> = self.topology.server.iter().map(|server| server.admin.ip()).collect();
        addresses.extend((0..servers).map(|_| address()));
        self.publish(demo::enterprise(&[(EAST, "east", addresses)], 5060));
    }

    /// A folder beside that of the deployment, as on another machine.
    pub fn machine(&self, name: &str) -> PathBuf {
        self.layout.root().with_file_name(name)
    }

    /// The next server runs with a configuration that lies elsewhere.
    pub fn start_joined(&mut self, config: PathBuf) {
        let n = self.servers.len();
        self.servers.push(None);
        self.start_elsewhere(n, config);
    }

    /// A server that does not run any more does so on another machine.
    pub fn start_elsewhere(&mut self, n: usize, config: PathBuf) {
        assert!(self.servers[n].is_none());
        self.joined.insert(n, config);
        self.launch(n);
    }

    /// So many servers more: published, created, started.
    pub fn grow(&mut self, servers: usize) {
        self.announce(servers);
        for n in self.servers.len()..self.topology.server.len() {
            let name = self.topology.server[n].name.clone();
            let output = self.command(&["server", "create", &name]).wait_while(|| {});
            assert!(output.status.success(), "{output:?}\n{}", self.logs());
            self.servers.push(None);
            self.launch(n);
        }
    }

    /// The last server is taken out, and then stopped.
    pub fn shrink(&mut self) {
        let last = self.servers.len() - 1;
        let mut topology = self.topology.clone();
        topology.server.truncate(last);
        self.publish(topology);
        let mut child = self.servers.pop().unwrap().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Freezes one server, or thaws it.
    pub fn signal(&self, n: usize, signal: Signal) {
        let id = self.servers[n].as_ref().unwrap().id();
        kill_process(Pid::from_raw(i32::try_from(id).unwrap()).unwrap(), signal).unwrap();
    }

    /// Where one server's SIP over UDP is.
    pub fn sip(&self, n: usize) -> SocketAddr {
        self.topology.server[n].listener[0].address
    }

    /// Asks one server and no other.
    pub fn ask(&self, n: usize, command: &Command) -> Result<Reply, Problem> {
        let access = self.access.only_server(&self.topology.server[n].name);
        let mut session = Session::with_limit(access, Duration::from_secs(5));
        match self.runtime.block_on(session.call(command, &Prefer::Any)) {
            Ok(reply) => Ok(reply),
            Err(CallError::Refused(problem)) => Err(problem),
            Err(other) => Err(Problem::new(503, "no-answer", "no answer", other.to_string(), "")),
        }
    }

    /// Health as one server sees it.
    pub fn health(&self, n: usize) -> Option<HealthView> {
        match self.ask(n, &Command::PoolHealth { pool: Some("east".to_owned()), part: false }) {
            Ok(Reply::Health(view)) => Some(view),
            _ => None,
        }
    }

    /// Waits until one server sees the pool in a state; with the last view and the servers' logs if it does not come.
    pub fn wait(&self, state: &str, at: usize) -> HealthView {
        self.wait_within(state, at, PATIENCE)
    }

    /// Waits until all copies are where they should be, as one server sees it.
    pub fn settled(&self, at: usize) -> HealthView {
        self.wait_within("healthy", at, PATIENCE * 5)
    }

    fn wait_within(&self, state: &str, at: usize, patience: Duration) -> HealthView {
        let deadline = Instant::now() + patience;
        loop {
            let view = self.health(at);
            if let Some(view) = view.as_ref().filter(|view| view.pools[0].state == state) {
                return view.clone();
            }
            if Instant::now() >= deadline {
                panic!("the pool does not become {state}: {view:#?}\n{}", self.logs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs the command line against this deployment.
    pub fn command(&self, args: &[&str]) -> Running {
        self.command_on(self.layout.root(), args)
    }

    /// Runs the command line where another folder is the machine's.
    pub fn command_on(&self, folder: &Path, args: &[&str]) -> Running {
        let child = std::process::Command::new(env!("CARGO_BIN_EXE_pairline"))
            .arg("--data")
            .arg(folder)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Running(child, None)
    }

    /// Whether a server's log has a word.
    pub fn logs_contain(&self, n: usize, word: &str) -> bool {
        std::fs::read_to_string(self.log(n)).unwrap_or_default().contains(word)
    }

    /// The ends of all logs.
    pub fn logs(&self) -> String {
        let tail = |n: usize| {
            let text = std::fs::read_to_string(self.log(n)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().rev().take(15).collect();
            lines.into_iter().rev().map(|line| format!("{n}: {line}\n")).collect::<String>()
        };
        (0..self.servers.len()).map(tail).collect()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for child in self.servers.iter_mut().flatten() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A command line that runs.
pub struct Running(Child, Option<BufReader<ChildStdout>>);

impl Running {
    /// Does something again and again until the command ends; what it said.
    pub fn wait_while(mut self, mut meanwhile: impl FnMut()) -> std::process::Output {
        let deadline = Instant::now() + PATIENCE * 4;
        while self.0.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the command does not end");
            meanwhile();
        }
        self.0.wait_with_output().unwrap()
    }

    /// The next line that has a word; waits for it.
    pub fn line(&mut self, word: &str) -> String {
        let lines = self.1.get_or_insert_with(|| BufReader::new(self.0.stdout.take().unwrap())).lines();
        lines.map(Result::unwrap).find(|line| line.contains(word)).unwrap()
    }

    /// Whether it ended well, and what it said since.
    pub fn rest(mut self) -> (bool, String) {
        let mut said = String::new();
        self.1.take().unwrap().read_to_string(&mut said).unwrap();
        (self.0.wait().unwrap().success(), said)
    }

    /// Ends it.
    pub fn end(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}
