//! A TLS connection made by `openssl s_client`: whether another implementation agrees, and believes whom it should.
//!
//! Owns the process. What it reads comes through a thread, so that nothing waits for ever.

use std::io::{Error, ErrorKind, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// Time for anything to arrive.
const ANSWER: Duration = Duration::from_secs(10);

/// One connection.
pub struct Openssl {
    child: Child,
    input: ChildStdin,
    output: Receiver<Vec<u8>>,
    left: Vec<u8>,
}

impl Openssl {
    /// Connects, and ends if the server's certificate is not of `name` or from that authority.
    ///
    /// # Panics
    /// If `openssl` cannot be started.
    pub fn connect(server: &str, authority: &Path, name: &str, options: &[&str]) -> Openssl {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-quiet", "-verify_return_error", "-connect", server, "-verify_hostname", name]);
        command.arg("-CAfile").arg(authority).args(options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("openssl starts");
        let (input, mut pipe) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let (told, output) = sync_channel(64);
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut chunk) {
                if told.send(chunk[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Openssl { child, input, output, left: Vec::new() }
    }
}

impl Read for Openssl {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.left.is_empty() {
            match self.output.recv_timeout(ANSWER) {
                Ok(chunk) => self.left = chunk,
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return Ok(0),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => return Err(Error::from(ErrorKind::TimedOut)),
            }
        }
        let length = self.left.len().min(into.len());
        into[..length].copy_from_slice(&self.left[..length]);
        self.left.drain(..length);
        Ok(length)
    }
}

impl Write for Openssl {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.input.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.input.flush()
    }
}

impl Drop for Openssl {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
