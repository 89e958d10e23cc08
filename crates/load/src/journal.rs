//! The record of everything that a server acknowledged.
//!
//! Owns the file and its lines: JSON, one line an operation, version first. Decides nothing.

use serde::Serialize;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;

/// One operation: acknowledged, or failed where failures are wanted too.
#[derive(Clone, Debug, Serialize)]
pub struct Line<'a> {
    /// Version of the format: 1.
    pub v: u8,
    /// Milliseconds since the start of the run.
    pub t: u64,
    /// `register`, `message` or `call`.
    pub op: &'static str,
    /// The user.
    pub user: &'a str,
    /// The server that acknowledged.
    pub server: SocketAddr,
    /// CSeq of the acknowledged request.
    pub cseq: u32,
    /// Final status; 0: no answer.
    pub status: u16,
    /// When it ended, in milliseconds since 1970.
    pub at: u64,
    /// Milliseconds since its first request was sent.
    pub took: u64,
    /// The other user, of a message or call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<&'a str>,
    /// Seconds that a registrar granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granted: Option<u64>,
    /// Servers that refused its first request with 503 before it went on to the next.
    #[serde(skip_serializing_if = "is_zero")]
    pub refused: u8,
    /// The same: that did not answer.
    #[serde(skip_serializing_if = "is_zero")]
    pub silent: u8,
    /// The step at which an operation failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<&'static str>,
    /// The words beside the status with which an operation failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<&'a str>,
    /// Of a call that was established: how it went on.
    #[serde(flatten)]
    pub call: Option<CallLine>,
}

// The signature is serde's.
fn is_zero(count: &u8) -> bool {
    *count == 0
}

/// An established call.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CallLine {
    /// When it was, in milliseconds since 1970.
    pub up: u64,
    /// The server that the INVITE went to.
    pub made: SocketAddr,
    /// Final status of the re-INVITE, if there was one; 0: no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reinvite: Option<u16>,
}

/// The file, shared by the threads.
#[derive(Debug)]
pub struct Journal {
    file: Mutex<BufWriter<File>>,
}

impl Journal {
    /// Creates the file.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: Mutex::new(BufWriter::new(File::create(path)?)) })
    }

    /// Appends one line.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, line: &Line<'_>) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let mut file = self.file.lock().map_err(|_| io::Error::other("a thread of the run failed"))?;
        file.write_all(&text)
    }

    /// Writes what is buffered.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn flush(&self) -> io::Result<()> {
        self.file.lock().map_err(|_| io::Error::other("a thread of the run failed"))?.flush()
    }
}
