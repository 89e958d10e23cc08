//! One Linphone (`linphone-daemon`), commanded over its socket.
//!
//! Owns the process, its folder and the connection. Commands are lines; what happens is asked for with `pop-event`.

use crate::names;
use crate::program::Program;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Time for the socket to appear.
const START: Duration = Duration::from_secs(20);
/// Time for an answer to a command.
const ANSWER: Duration = Duration::from_secs(10);
/// Pause between two questions for events.
const LOOK: Duration = Duration::from_millis(50);

/// One Linphone.
pub struct Linphone {
    name: String,
    program: Program,
    socket: UnixStream,
}

impl Linphone {
    /// Starts one in `folder` with the configuration `rc`; it answers calls by itself. With a `resolv.conf` it asks those DNS
    /// servers.
    ///
    /// The network is not watched: a machine that reaches nothing but itself is one on which Linphone would never register.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(name: &str, folder: &Path, rc: &str, resolv_conf: Option<&Path>) -> Linphone {
        for part in [".local/share/linphone", ".config/linphone"] {
            fs::create_dir_all(folder.join(part)).expect("the folder can be written");
        }
        let config = folder.join("linphonerc");
        let rc = rc.replacen("[sip]\n", "[sip]\nauto_net_state_mon=0\n", 1);
        fs::write(&config, rc).expect("the folder can be written");
        // It puts its socket into /tmp, whatever it is told.
        let pipe = format!("pairline-linphone-{}-{name}", std::process::id());
        let mut command = Command::new("linphone-daemon");
        command.arg("--config").arg(&config);
        command.arg("--log").arg(folder.join("log")).args(["--pipe", &pipe, "--disable-stats-events", "--auto-answer"]);
        if let Some(file) = resolv_conf {
            command = names::resolving(&command, file);
        }
        command.env("HOME", folder).current_dir(folder);
        let mut program = Program::start(&format!("linphone of {name}"), &mut command);
        let ends = Instant::now() + START;
        let socket = loop {
            match UnixStream::connect(Path::new("/tmp").join(&pipe)) {
                Ok(socket) => break socket,
                Err(_) if program.ended().is_none() && Instant::now() < ends => std::thread::sleep(LOOK),
                Err(error) => panic!("linphone of {name} opens no socket: {error}\n{}", program.tail(20)),
            }
        };
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a fixed time-out is valid");
        Linphone { name: name.to_owned(), program, socket }
    }

    /// Gives a command and its answer.
    ///
    /// # Panics
    /// If there is no answer.
    pub fn command(&mut self, command: &str) -> String {
        self.socket.write_all(format!("{command}\n").as_bytes()).expect("the control connection lives");
        let ends = Instant::now() + ANSWER;
        let mut answer = Vec::new();
        loop {
            let mut chunk = [0; 8192];
            match self.socket.read(&mut chunk) {
                Ok(0) => panic!("{}: linphone has ended:\n{}", self.name, self.program.tail(20)),
                Ok(length) => answer.extend_from_slice(&chunk[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => panic!("{}: control connection: {error}", self.name),
            }
            // An answer ends with an empty line; a short pause tells it from one inside an answer.
            if answer.starts_with(b"Status:") && answer.ends_with(b"\n") {
                return String::from_utf8_lossy(&answer).into_owned();
            }
            assert!(Instant::now() < ends, "{}: no answer to `{command}`", self.name);
        }
    }

    /// Gives a command that must succeed, and its answer.
    ///
    /// # Panics
    /// If it is refused.
    pub fn must(&mut self, command: &str) -> String {
        let answer = self.command(command);
        assert!(answer.starts_with("Status: Ok"), "{}: `{command}`: {answer}", self.name);
        answer
    }

    /// Waits until its accounts are registered.
    ///
    /// # Panics
    /// If they are not in time.
    pub fn registered(&mut self, limit: Duration) {
        let ends = Instant::now() + limit;
        loop {
            let told = self.must("register-status ALL");
            let states = || told.lines().filter(|line| line.starts_with("State:"));
            if states().count() > 0 && states().all(|line| line.ends_with("LinphoneRegistrationOk")) {
                return;
            }
            assert!(Instant::now() < ends, "{} is not registered: {told}", self.name);
            std::thread::sleep(LOOK);
        }
    }

    /// Waits for an event whose text contains all of `parts`, oldest first; older ones are forgotten.
    ///
    /// # Panics
    /// If it does not come in time.
    pub fn event(&mut self, parts: &[&str], limit: Duration) -> String {
        let ends = Instant::now() + limit;
        let mut seen = Vec::new();
        loop {
            let told = self.must("pop-event");
            if parts.iter().all(|part| told.contains(part)) {
                return told;
            }
            assert!(Instant::now() < ends, "{}: no event with {parts:?}, but {seen:?}", self.name);
            match told.contains("Event-type:") {
                true => seen.push(told),
                false => std::thread::sleep(LOOK),
            }
        }
    }

    /// Calls somebody and waits until both sides have the call with its sound running.
    ///
    /// # Panics
    /// If the call is not established in time.
    pub fn call(&mut self, other: &mut Linphone, address: &str, limit: Duration) {
        self.must(&format!("call {address}"));
        self.event(&["LinphoneCallStreamsRunning"], limit);
        other.event(&["LinphoneCallStreamsRunning"], limit);
    }

    /// Hangs up and waits until the other side knows.
    ///
    /// # Panics
    /// If the other side does not learn of it in time.
    pub fn hang_up(&mut self, other: &mut Linphone, limit: Duration) {
        self.must("terminate");
        other.event(&["LinphoneCallEnd"], limit);
        self.event(&["LinphoneCallReleased"], limit);
    }

    /// Writes to somebody and waits until the other side has the text, from whom it should be.
    ///
    /// # Panics
    /// If the text does not arrive in time.
    pub fn write(&mut self, other: &mut Linphone, address: &str, text: &str, limit: Duration) {
        self.must(&format!("message {address} {text}"));
        other.event(&["message-received", text], limit);
    }
}
