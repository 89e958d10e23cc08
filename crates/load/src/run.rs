//! One run: threads, phases, measurement.
//!
//! Owns the order of things. The traffic is the engine's.

use crate::args::{Cli, Common, Traffic, Transport};
use crate::control::{Control, Phase};
use crate::engine::{Counts, Kind, Plan, Steps, Worker};
use crate::journal::Journal;
use crate::port;
use crate::process::{self, Used};
use crate::report::{Measured, Report};
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often the run looks at its threads.
const LOOK: Duration = Duration::from_millis(1);

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No way to the server.
    #[error("no way to {server}: {source}")]
    Way {
        /// Which server.
        server: std::net::SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A socket failed.
    #[error("socket: {0}")]
    Socket(#[source] io::Error),
    /// The server's processes cannot be read.
    #[error("process of --cpu-pid: {0}")]
    Process(#[source] io::Error),
    /// A thread cannot be pinned.
    #[error("core {core}: {source}")]
    Pin {
        /// Which core.
        core: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The journal cannot be written.
    #[error("journal: {0}")]
    Journal(#[source] io::Error),
    /// More threads than users can be shared among.
    #[error("each thread needs two users")]
    Users,
    /// A thread broke one of its own rules.
    #[error("a thread of the generator failed")]
    Thread,
}

/// Makes the run and reports it.
///
/// # Errors
/// See [`RunError`]. Failing operations are no error; they are in the report.
pub fn run(cli: &Cli) -> Result<Report, RunError> {
    let common = cli.common();
    let journal = journal(cli)?;
    let control = Arc::new(Control::default());
    let started = Instant::now();
    let threads = start(plans(cli, journal.as_ref(), started)?, &control, started)?;
    let count = threads.len();
    let drill = matches!(cli.traffic, Traffic::DrillTraffic { .. });
    let once = matches!(cli.traffic, Traffic::Register { once: true, .. });
    let mut watch = Watch { threads: &threads, control: &control, started, lines: drill, shown: 0 };
    watch.until(|| control.count(Phase::Prepare) == count);
    if !once {
        control.begin(Phase::Warm);
        let ends = Instant::now() + Duration::from_secs_f64(common.warmup);
        watch.until(|| Instant::now() >= ends);
    }
    let before = cpu(common)?;
    control.begin(Phase::Measure);
    let measuring = Instant::now();
    let (seconds, returns) = match &cli.traffic {
        Traffic::Mix { steps, .. } => (steps.iter().map(|(_, seconds)| seconds).sum(), false),
        traffic => (common.duration, matches!(traffic, Traffic::Avalanche { .. })),
    };
    let ends = measuring + Duration::from_secs_f64(seconds);
    watch.until(|| {
        let done = (once || returns) && control.count(Phase::Measure) == count;
        done || (!once && Instant::now() >= ends)
    });
    let after = cpu(common)?;
    let seconds = measuring.elapsed().as_secs_f64();
    control.begin(Phase::Drain);
    let counts = join(threads)?;
    if let Some(journal) = journal {
        journal.flush().map_err(RunError::Journal)?;
    }
    let mut server = Vec::new();
    for ((pid, before), after) in common.cpu_pid.iter().zip(&before.0).zip(&after.0) {
        let memory = process::memory_bytes(&[*pid]).map_err(RunError::Process)?;
        server.push((*pid, after.since(before), memory));
    }
    let measured = Measured { seconds, server, generator: after.1.saturating_sub(before.1) };
    let transport = match common.transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
        Transport::Wss => "wss",
    };
    Ok(Report::new(name(&cli.traffic), transport, common.users, counts, measured))
}

fn name(traffic: &Traffic) -> &'static str {
    match traffic {
        Traffic::Register { .. } => "register",
        Traffic::Message { .. } => "message",
        Traffic::Call { .. } => "call",
        Traffic::DrillTraffic { .. } => "drill-traffic",
        Traffic::Mix { .. } => "mix",
        Traffic::Avalanche { .. } => "avalanche",
    }
}

fn journal(cli: &Cli) -> Result<Option<Arc<Journal>>, RunError> {
    match &cli.traffic {
        Traffic::Register { journal: Some(path), .. } | Traffic::DrillTraffic { journal: Some(path), .. } => {
            Ok(Some(Arc::new(Journal::create(path).map_err(RunError::Journal)?)))
        }
        _ => Ok(None),
    }
}

/// Processor time so far: of each process of the server, and of the generator.
fn cpu(common: &Common) -> Result<(Vec<Used>, u64), RunError> {
    let server =
        common.cpu_pid.iter().map(|pid| Used::by(*pid)).collect::<io::Result<_>>().map_err(RunError::Process)?;
    let own = process::cpu_nanos(&[std::process::id()]).map_err(RunError::Process)?;
    Ok((server, own))
}

/// Shares users and pace among the threads.
fn plans(cli: &Cli, journal: Option<&Arc<Journal>>, started: Instant) -> Result<Vec<Plan>, RunError> {
    let common = cli.common();
    let server = common.server[0];
    let local = match common.local {
        Some(local) => local,
        None => port::local_address(server).map_err(|source| RunError::Way { server, source })?,
    };
    let threads = u32::from(common.threads);
    if common.users < threads * 2 {
        return Err(RunError::Users);
    }
    let (kind, once, hold) = match &cli.traffic {
        Traffic::Register { once, .. } => (Kind::Register, *once, 0),
        Traffic::Message { .. } => (Kind::Message, false, 0),
        Traffic::Call { hold, .. } => (Kind::Call, false, *hold),
        Traffic::DrillTraffic { hold, .. } | Traffic::Mix { hold, .. } => (Kind::Register, false, *hold),
        Traffic::Avalanche { .. } => (Kind::Register, false, 0),
    };
    let share = f64::from(threads);
    let rates = match (&cli.traffic, common.rate) {
        (Traffic::DrillTraffic { calls, messages, registers, .. }, _) => {
            let refreshes = registers.unwrap_or(f64::from(common.users) / (f64::from(common.expires) / 2.0));
            vec![(Kind::Register, refreshes / share), (Kind::Call, calls / share), (Kind::Message, messages / share)]
        }
        (_, Some(rate)) => vec![(kind, rate / share)],
        (_, None) => Vec::new(),
    };
    let steps = match &cli.traffic {
        Traffic::Mix { steps, shares, .. } => Steps { rates: steps.clone(), shares: shares.clone() }.of_thread(share),
        _ => Steps::default(),
    };
    // Distinguishes Call-IDs of this run from those that a server still knows.
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let run = since_1970.as_micros() as u64 ^ u64::from(std::process::id());
    let began = since_1970.saturating_sub(started.elapsed()).as_millis() as u64;
    let (journal_failures, elsewhere, goes_on) = match &cli.traffic {
        Traffic::DrillTraffic { journal_failures, elsewhere, goes_on, .. } => (*journal_failures, *elsewhere, *goes_on),
        _ => (false, false, false),
    };
    let plan = |thread: u32| Plan {
        common: common.clone(),
        local,
        first: common.first + common.users * thread / threads,
        users: common.users * (thread + 1) / threads - common.users * thread / threads,
        rates: rates.clone(),
        steps: steps.clone(),
        avalanche: matches!(cli.traffic, Traffic::Avalanche { .. }),
        outstanding: (common.outstanding / threads).max(1) as usize,
        kind,
        once,
        moves: matches!(cli.traffic, Traffic::DrillTraffic { .. }),
        hold: hold.saturating_mul(1_000_000),
        thread: thread as u16,
        run,
        journal: journal.cloned(),
        journal_failures,
        elsewhere,
        goes_on,
        began,
    };
    Ok((0..threads).map(plan).collect())
}

type Thread = JoinHandle<Result<Counts, RunError>>;

fn start(plans: Vec<Plan>, control: &Arc<Control>, started: Instant) -> Result<Vec<Thread>, RunError> {
    let mut threads = Vec::new();
    for plan in plans {
        let core = plan.common.pin.get(usize::from(plan.thread) % plan.common.pin.len().max(1)).copied();
        let worker = Worker::new(plan, Arc::clone(control), started).map_err(RunError::Socket)?;
        threads.push(thread::spawn(move || {
            if let Some(core) = core {
                process::pin(core).map_err(|source| RunError::Pin { core, source })?;
            }
            worker.run().map_err(RunError::Socket)
        }));
    }
    Ok(threads)
}

fn join(threads: Vec<Thread>) -> Result<Counts, RunError> {
    let mut all = Counts::default();
    for thread in threads {
        all.merge(&thread.join().map_err(|_| RunError::Thread)??);
    }
    Ok(all)
}

/// Waits for conditions while threads run, and shows one line a second if asked to.
struct Watch<'a> {
    threads: &'a [Thread],
    control: &'a Control,
    started: Instant,
    lines: bool,
    shown: u64,
}

impl Watch<'_> {
    /// Returns when `reached` says so, or when a thread ended before its time: `join` then tells why.
    fn until(&mut self, reached: impl Fn() -> bool) {
        while !reached() && !self.threads.iter().any(Thread::is_finished) {
            thread::sleep(LOOK);
            let second = self.started.elapsed().as_secs();
            if self.lines && second > self.shown {
                self.shown = second;
                let (succeeded, failed) = self.control.progress();
                let phase = self.control.phase().name();
                println!(
                    "{{\"v\":1,\"t\":{second},\"phase\":\"{phase}\",\"succeeded\":{succeeded},\"failed\":{failed}}}"
                );
            }
        }
    }
}
