//! What the threads of a server tell each other, and how they all end.
//!
//! Owns the stop, the fatal end and the joining of threads. Does not own why.

use super::events::EventHub;
use super::inbox::Inbox;
use super::options::OnFatal;
use pairline_node::event::Level;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

/// Exit status after a fatal failure (EX_SOFTWARE).
const FATAL_STATUS: i32 = 70;
/// Answers that are under way when a server stops get so long to leave.
const FAREWELL: Duration = Duration::from_millis(100);

/// How a server ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    Stopped,
    /// It was asked to start again.
    Restart,
    /// It had to; the reason.
    Fatal(String),
}

/// What the threads tell each other.
pub struct Signals {
    stop: AtomicBool,
    deaf: AtomicBool,
    restart: AtomicBool,
    failed: AtomicBool,
    runtime_end: Notify,
    streams_end: Notify,
    ended: watch::Sender<Option<Ended>>,
    events: EventHub,
    on_fatal: OnFatal,
    inbox: Inbox,
}

impl Signals {
    /// With nothing told yet.
    pub fn new(inbox: Inbox, events: EventHub, on_fatal: OnFatal) -> Signals {
        Signals {
            stop: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            restart: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            runtime_end: Notify::new(),
            streams_end: Notify::new(),
            ended: watch::channel(None).0,
            events,
            on_fatal,
            inbox,
        }
    }

    /// Stop taking work, settle the disk, end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.inbox.nudge();
    }

    /// The same, and start again.
    pub fn restart(&self) {
        self.restart.store(true, Ordering::Relaxed);
        self.stop();
    }

    /// Whether it was asked to start again.
    pub fn restarts(&self) -> bool {
        self.restart.load(Ordering::Relaxed)
    }

    /// Whether to stop.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The node has ended: nobody is left who could answer. Until then datagrams are taken, also while the server stops: what is under
    /// way is brought to its end, and the rest is told so.
    pub fn deafen(&self) {
        self.deaf.store(true, Ordering::Relaxed);
    }

    /// Whether it has, for threads that look at nothing else.
    pub fn deaf_flag(&self) -> &AtomicBool {
        &self.deaf
    }

    /// Whether disk or node have failed, so that nothing is waited for.
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// The process must end, for this reason.
    pub fn fatal(&self, reason: &str) {
        self.failed.store(true, Ordering::Relaxed);
        self.deafen();
        self.events.emit(Level::Error, "fatal", format!("this server must end: {reason}"));
        if self.on_fatal == OnFatal::Exit {
            std::process::exit(FATAL_STATUS);
        }
        self.end(Ended::Fatal(reason.to_owned()));
        self.stop();
    }

    /// Tells whoever waits that the server has ended; the first word counts.
    pub fn end(&self, how: Ended) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            if first {
                *ended = Some(how);
            }
            first
        });
    }

    /// How the server ended, once it has.
    pub fn ended(&self) -> watch::Receiver<Option<Ended>> {
        self.ended.subscribe()
    }
}

/// Makes the end of the node's thread, however it ends, that of those who listen for it.
pub struct Deafens(pub Arc<Signals>);

impl Drop for Deafens {
    fn drop(&mut self) {
        self.0.deafen();
    }
}

/// Makes a panic of one thread the end of the server, also where panics unwind.
struct PanicGuard(Arc<Signals>, &'static str);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fatal(&format!("a panic in the {} thread", self.1));
        }
    }
}

/// The threads of a server. Dropping it stops and joins them, in the right order.
pub struct Threads {
    signals: Arc<Signals>,
    workers: Vec<JoinHandle<()>>,
    /// The runtime of links, HTTP and DNS.
    runtime: Handle,
    /// The runtime of SIP streams: however many handshakes strangers ask for, no heartbeat waits for one.
    streams: Handle,
    runtimes: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts the runtimes' threads.
    ///
    /// # Errors
    /// The system gives no thread or no poller.
    pub fn start(signals: Arc<Signals>) -> io::Result<Threads> {
        let (runtime, first) = runtime("runtime", &signals, |signals| &signals.runtime_end)?;
        let mut threads =
            Threads { signals, workers: Vec::new(), streams: runtime.clone(), runtime, runtimes: vec![first] };
        // If this one fails, dropping the first ends it.
        let (streams, second) = self::runtime("streams", &threads.signals, |signals| &signals.streams_end)?;
        threads.streams = streams;
        threads.runtimes.push(second);
        Ok(threads)
    }

    /// Where tasks run that must not wait for strangers.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Where SIP streams run.
    pub fn streams(&self) -> &Handle {
        &self.streams
    }

    /// Starts one more thread.
    ///
    /// # Errors
    /// The system gives none.
    pub fn add(&mut self, name: &'static str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.workers.push(spawn(name, &self.signals, work)?);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.signals.stop();
        for worker in self.workers.drain(..) {
            // A panic in it was told by its guard.
            let _ = worker.join();
        }
        self.signals.end(Ended::Stopped);
        self.signals.runtime_end.notify_one();
        self.signals.streams_end.notify_one();
        for runtime in self.runtimes.drain(..) {
            // As above.
            let _ = runtime.join();
        }
    }
}

/// A runtime on a thread of its own, until it is notified of its end.
fn runtime(
    name: &'static str,
    signals: &Arc<Signals>,
    end: fn(&Signals) -> &Notify,
) -> io::Result<(Handle, JoinHandle<()>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (handle, until) = (runtime.handle().clone(), signals.clone());
    let joined = spawn(name, signals, move || {
        runtime.block_on(end(&until).notified());
        runtime.shutdown_timeout(FAREWELL);
    })?;
    Ok((handle, joined))
}

fn spawn(
    name: &'static str,
    signals: &Arc<Signals>,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let guard = PanicGuard(signals.clone(), name);
    let body = move || {
        let _guard = guard;
        work();
    };
    std::thread::Builder::new().name(format!("pairline-{name}")).spawn(body)
}
