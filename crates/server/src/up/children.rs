//! The servers as processes: started, listened to, stopped.
//!
//! Owns the processes and their pipes. Every one of them is ended when this value is; none is restarted by itself.

use super::layout::Layout;
use rustix::process::{Pid, Signal, kill_process};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

/// How long a server may take to stop cleanly.
const STOPPING: Duration = Duration::from_secs(15);

/// Lines that may wait to be printed; a server that writes faster waits in its pipe.
const LINES: usize = 1024;

/// Longest line that is kept whole.
const LONGEST: usize = 16 * 1024;

/// What a server process says or does.
#[derive(Debug)]
pub enum Said {
    /// One line of its log.
    Line {
        /// The server's label.
        server: String,
        /// The line.
        text: String,
    },
    /// Its output ended: it is dead or dying.
    Silent {
        /// The server's label.
        server: String,
    },
}

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
#[error("{program} cannot be started: {source}")]
pub struct SpawnError {
    program: PathBuf,
    source: std::io::Error,
}

/// One server process.
pub struct ServerProcess {
    /// Its name in the topology.
    pub name: String,
    /// What its lines are marked with: see [`super::label`].
    pub label: String,
    /// Its configuration.
    pub config: PathBuf,
    child: Child,
    // Held open: the server stops when it ends.
    _stdin: Option<ChildStdin>,
}

/// A channel for what the servers say.
pub fn channel() -> (mpsc::Sender<Said>, mpsc::Receiver<Said>) {
    mpsc::channel(LINES)
}

impl ServerProcess {
    /// Starts the server of a folder; its lines go to `said`.
    pub fn start(
        layout: &Layout,
        server: &str,
        label: &str,
        said: &mpsc::Sender<Said>,
    ) -> Result<ServerProcess, SpawnError> {
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("pairline"));
        let config = layout.server_config(server);
        let mut child = Command::new(&program)
            .arg("server")
            .arg("--config")
            .arg(&config)
            .args(["--log", "json", "--with-parent"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Of its own group: Ctrl-C at the terminal goes to `up`, which stops the servers in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| SpawnError { program, source })?;
        if let Some(out) = child.stdout.take() {
            tokio::spawn(listen(out, label.to_owned(), said.clone(), true));
        }
        if let Some(err) = child.stderr.take() {
            tokio::spawn(listen(err, label.to_owned(), said.clone(), false));
        }
        let stdin = child.stdin.take();
        Ok(ServerProcess { name: server.to_owned(), label: label.to_owned(), config, child, _stdin: stdin })
    }

    /// Process id, while it lives.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal to this process; false if it is gone.
    pub fn signal(&self, signal: Signal) -> bool {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
    }

    /// Asks it to stop and waits; kills it if it does not. True if it stopped by itself.
    pub async fn stop(&mut self) -> bool {
        if self.ended().is_some() {
            return true;
        }
        self.signal(Signal::TERM);
        if tokio::time::timeout(STOPPING, self.child.wait()).await.is_ok() {
            return true;
        }
        self.kill().await;
        false
    }

    /// Kills it at once (SIGKILL) and waits until it is gone.
    pub async fn kill(&mut self) {
        // It may have ended by itself meanwhile.
        let _ = self.child.kill().await;
    }
}

async fn listen(pipe: impl AsyncRead + Unpin, server: String, said: mpsc::Sender<Said>, tells_end: bool) {
    let mut lines = BufReader::with_capacity(LONGEST, pipe);
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {
                line.truncate(LONGEST);
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if !text.is_empty() && said.send(Said::Line { server: server.clone(), text }).await.is_err() {
                    return;
                }
            }
        }
    }
    if tells_end {
        // Nobody left to tell is fine.
        let _ = said.send(Said::Silent { server }).await;
    }
}
