//! One server process of a benchmark.
//!
//! Owns starting it pinned to a core, and ending it. What it is started with is its module's.

use std::fs::File;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Time for a server to end when asked.
const ENDING: Duration = Duration::from_secs(20);

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
}

impl Server {
    /// Starts a program on one core; its output goes to a file.
    pub(crate) fn start(core: u32, program: &Path, args: &[String], log: &Path) -> Result<Self, String> {
        let mut pinned = vec!["-c".to_owned(), core.to_string(), program.to_string_lossy().into_owned()];
        pinned.extend_from_slice(args);
        Self::start_anywhere(Path::new("taskset"), &pinned, log)
    }

    /// Starts a program on whatever core is free; its output goes to a file.
    pub(crate) fn start_anywhere(program: &Path, args: &[String], log: &Path) -> Result<Self, String> {
        let file = File::create(log).map_err(|e| format!("{}: {e}", log.display()))?;
        let errors = file.try_clone().map_err(|e| format!("{}: {e}", log.display()))?;
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .map_err(|e| format!("{}: {e}", program.display()))?;
        Ok(Self { child })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill_at_once(&mut self) {
        // Already gone is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let asked = Command::new("kill").arg(self.pid().to_string()).stderr(Stdio::null()).status();
        let ends = Instant::now() + ENDING;
        while asked.is_ok() && self.runs() && Instant::now() < ends {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Already gone is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time that a process has used, in seconds.
pub(crate) fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in brackets may hold anything: fields are counted after its end.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|n| n.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) / 100.0
}

/// Waits until a server answers an OPTIONS, whatever it says.
pub(crate) fn answers(address: SocketAddr, limit: Duration) -> Result<(), String> {
    let socket = UdpSocket::bind(if address.ip().is_loopback() { "127.0.0.1:0" } else { "0.0.0.0:0" })
        .map_err(|e| e.to_string())?;
    socket.set_read_timeout(Some(Duration::from_millis(200))).map_err(|e| e.to_string())?;
    let own = socket.local_addr().map_err(|e| e.to_string())?;
    let ends = Instant::now() + limit;
    let mut buffer = [0; 2048];
    let mut count = 0u32;
    while Instant::now() < ends {
        count += 1;
        let text = format!(
            "OPTIONS sip:pairline.test SIP/2.0\r\nVia: SIP/2.0/UDP {own};rport;branch=z9hG4bKbench{count}\r\nMax-Forwards: 70\r\n\
             From: <sip:bench@pairline.test>;tag=b\r\nTo: <sip:pairline.test>\r\nCall-ID: bench{count}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        );
        // A server that does not listen yet refuses: asked again.
        let _ = socket.send_to(text.as_bytes(), address);
        if socket.recv_from(&mut buffer).is_ok() {
            return Ok(());
        }
    }
    Err(format!("no answer from {address} within {} s", limit.as_secs()))
}

/// An address of loopback that is free now.
pub(crate) fn free_address() -> Result<SocketAddr, String> {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).map_err(|e| e.to_string())
}
