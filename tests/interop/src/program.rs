//! One running program and the lines that it prints.
//!
//! Owns the process: it is ended when the value is dropped. Lines are kept, so that a wait can look back.

use std::io::{BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Lines kept of one program; older ones than that are not dropped, newer ones are not taken.
const LINES: usize = 500_000;
/// Output and error output.
const PIPES: usize = 2;
/// Time to end by itself when asked to.
const ENDING: Duration = Duration::from_secs(20);
/// Time for the last lines of a program that has ended to be read; something that it started may hold its output open.
const LAST_LINES: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Output {
    lines: Mutex<Vec<String>>,
    more: Condvar,
    /// Pipes whose end was read.
    ended: AtomicUsize,
}

/// One running program.
pub struct Program {
    name: String,
    child: Child,
    output: Arc<Output>,
    ended: Option<ExitStatus>,
}

impl Program {
    /// Starts it with its input closed and its output taken.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let output = Arc::new(Output::default());
        if let Some(pipe) = child.stdout.take() {
            listen(pipe, &output);
        }
        if let Some(pipe) = child.stderr.take() {
            listen(pipe, &output);
        }
        Self { name: name.to_owned(), child, output, ended: None }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Number of lines so far: a mark to wait from.
    pub fn mark(&self) -> usize {
        self.output.lines.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits for a line after `mark` that contains `part`.
    ///
    /// # Panics
    /// If the time runs out, with the last lines.
    pub fn expect_line(&self, mark: usize, limit: Duration, part: &str) -> String {
        match self.wait_line(mark, limit, |line| line.contains(part)) {
            Some(line) => line,
            None => panic!("{}: no `{part}` within {} s; last lines:\n{}", self.name, limit.as_secs(), self.tail(30)),
        }
    }

    /// Waits for a line after `mark` that `wanted` accepts; `None` if the time runs out or the
    /// program has ended.
    pub fn wait_line(&self, mark: usize, limit: Duration, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let ends = Instant::now() + limit;
        let mut next = mark;
        let mut lines = self.output.lines.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            while let Some(line) = lines.get(next) {
                if wanted(line) {
                    return Some(line.clone());
                }
                next += 1;
            }
            if self.output.ended.load(Ordering::Acquire) == PIPES {
                return None;
            }
            let left = ends.checked_duration_since(Instant::now())?;
            lines = self.output.more.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The lines after `mark`.
    pub fn lines(&self, mark: usize) -> Vec<String> {
        let lines = self.output.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().skip(mark).cloned().collect()
    }

    /// The last `count` lines.
    pub fn tail(&self, count: usize) -> String {
        let lines = self.output.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Waits until both pipes of a program that has ended were read to their ends: its last lines may still be in them.
    fn read_out(&self) {
        let ends = Instant::now() + LAST_LINES;
        let mut lines = self.output.lines.lock().unwrap_or_else(PoisonError::into_inner);
        while self.output.ended.load(Ordering::Acquire) < PIPES {
            let Some(left) = ends.checked_duration_since(Instant::now()) else { return };
            lines = self.output.more.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// If it does not in time, with its last lines.
    pub fn finish(&mut self, limit: Duration) -> ExitStatus {
        let ends = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                self.read_out();
                return status;
            }
            if Instant::now() >= ends {
                panic!("{} did not end within {} s; last lines:\n{}", self.name, limit.as_secs(), self.tail(30));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks it to end (SIGTERM), then makes it end. True if it ended when asked.
    pub fn stop(&mut self) -> bool {
        self.stop_by("TERM")
    }

    /// As [`Program::stop`], but asked by Ctrl-C at its terminal (SIGINT).
    pub fn interrupt(&mut self) -> bool {
        self.stop_by("INT")
    }

    fn stop_by(&mut self, name: &str) -> bool {
        if self.ended().is_some() {
            return true;
        }
        signal(self.pid(), name);
        let ends = Instant::now() + ENDING;
        while Instant::now() < ends {
            if self.ended().is_some() {
                self.read_out();
                return true;
            }
            thread::sleep(Duration::from_millis(20));
        }
        // Nothing more can be done for a process that cannot be killed.
        let _ = self.child.kill();
        self.ended = self.child.wait().ok();
        false
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sends a signal to a process by its id. True if it was there.
pub fn signal(pid: u32, name: &str) -> bool {
    Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// Why something that a case needs is not to be had here: a program, `tmpfs` for the right to mount, or
/// `browser` for the libraries of its pages.
pub fn lacks(need: &str) -> Option<String> {
    match need {
        "tmpfs" => crate::tmpfs::lacks(),
        "browser" => crate::browser::lacks(),
        program => (!installed(program)).then(|| format!("{program} is not installed")),
    }
}

/// Whether a program can be found.
fn installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// Takes lines from a pipe; a carriage return ends a line as well.
fn listen(pipe: impl Read + Send + 'static, output: &Arc<Output>) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        let mut line = Vec::new();
        for byte in BufReader::new(pipe).bytes() {
            match byte {
                Ok(b'\n' | b'\r') => take(&output, &mut line),
                Ok(byte) => line.push(byte),
                Err(_) => break,
            }
        }
        take(&output, &mut line);
        output.ended.fetch_add(1, Ordering::AcqRel);
        // Under the lock, so that nobody is between looking and waiting.
        let _lines = output.lines.lock().unwrap_or_else(PoisonError::into_inner);
        output.more.notify_all();
    });
}

fn take(output: &Output, line: &mut Vec<u8>) {
    if line.is_empty() {
        return;
    }
    let mut lines = output.lines.lock().unwrap_or_else(PoisonError::into_inner);
    if lines.len() < LINES {
        lines.push(String::from_utf8_lossy(line).into_owned());
    }
    line.clear();
    output.more.notify_all();
}
