//! Soak: whether memory, transactions, tasks and timers stay where they are under a steady load, and go when it is over.
//!
//! Owns the course, the samples, the line through the memory, and the report. The pair, the load and the metrics are others'.

use super::overload::{self, SHARES, generator, report_of};
use super::pair::{Pair, Side, now_ms};
use super::{Binaries, machine, today, write_report};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// Between two samples.
const EVERY: Duration = Duration::from_secs(10);
/// Time for everything to end after the load: the longest timer of a transaction is 34 s.
const ENDING: Duration = Duration::from_secs(40);
/// Between two looks at what is left.
const LOOK: Duration = Duration::from_millis(500);
/// Before the minutes that count it is for so many seconds so many times the rate, which is twice the capacity if the rate is half of it: what
/// overload takes once, and the allocator keeps, is not growth.
const SURGE: (u32, u32) = (60, 4);
/// Growth below this part of the memory an hour is none.
const NOTHING: f64 = 0.01;
const SIDES: [Side; 2] = [Side::East, Side::West];

/// A figure of a server's metrics.
struct Gauge {
    /// In the report.
    name: &'static str,
    selector: &'static str,
    /// Whether it is as before the load when the load is over; the others live as long as policy says.
    ends: bool,
}

const fn ends(name: &'static str, selector: &'static str) -> Gauge {
    Gauge { name, selector, ends: true }
}

const fn stays(name: &'static str, selector: &'static str) -> Gauge {
    Gauge { name, selector, ends: false }
}

/// What is sampled.
const GAUGES: [Gauge; 14] = [
    ends("transactions", "pairline_sip_transactions"),
    ends("answered in one step", "pairline_sip_transactions_brief"),
    ends("answers kept", "pairline_sip_transactions_kept"),
    ends("bytes kept for repetitions", "pairline_sip_transactions_kept_bytes"),
    ends("tasks of requests", "pairline_tasks{of=\"request\"}"),
    ends("other tasks", "pairline_tasks{of=\"other\"}"),
    ends("timers of transactions", "pairline_timers{of=\"transaction\"}"),
    ends("timers of tasks", "pairline_timers{of=\"task\"}"),
    ends("waits", "pairline_waits"),
    ends("pending requests", "pairline_requests_pending"),
    ends("commits in flight", "pairline_commits_in_flight"),
    ends("connections", "pairline_streams_open"),
    stays("bindings", "pairline_registrations"),
    stays("nonces", "pairline_nonces"),
];

/// Options.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Minutes of load.
    pub minutes: u32,
    /// Operations a second; 0: half of the capacity that was measured last.
    pub rate: u32,
    /// Registered users.
    pub users: u32,
    /// Core of the servers.
    pub server_core: u32,
    /// Core of the generator.
    pub load_core: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { minutes: 30, rate: 0, users: 20_000, server_core: 0, load_core: 1 }
    }
}

/// One server at one time.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    /// Resident, in MiB.
    memory: f64,
    /// Open files and sockets.
    descriptors: f64,
    /// By gauge.
    figures: Vec<f64>,
}

/// Both servers at one time.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sample {
    /// Seconds since the load began.
    at: f64,
    /// East and west.
    states: [State; 2],
}

impl Sample {
    fn take(pair: &Pair, began: f64) -> Result<Sample, String> {
        let at = (now_ms() - began) / 1000.0;
        let selectors = GAUGES.map(|gauge| gauge.selector);
        let state = |side| -> Result<State, String> {
            let seen = pair.look(side, &selectors)?;
            // What a server does not say is not nought.
            let figure = |gauge| Some(seen.figure(gauge)).filter(|sum| sum.count > 0).map_or(f64::NAN, |sum| sum.sum);
            let figures = (0..selectors.len()).map(figure).collect();
            Ok(State { memory: pair.memory(side), descriptors: pair.descriptors(side), figures })
        };
        Ok(Sample { at, states: [state(Side::East)?, state(Side::West)?] })
    }

    /// What there is more of than before the load, though it should have ended.
    fn left(&self, before: &Sample) -> Vec<String> {
        let mut left = Vec::new();
        for ((side, now), before) in SIDES.iter().zip(&self.states).zip(&before.states) {
            for ((gauge, now), before) in GAUGES.iter().zip(&now.figures).zip(&before.figures) {
                if gauge.ends && (now > before || now.is_nan()) {
                    left.push(format!("{}: {} {now:.0} (before {before:.0})", side.name(), gauge.name));
                }
            }
        }
        left
    }
}

/// A straight line through points by least squares.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Line {
    slope: f64,
    /// Standard error of the slope.
    error: f64,
    /// Mean of what grows.
    mean: f64,
}

impl Line {
    /// Through at least three points that are not all at one place.
    fn through(points: &[(f64, f64)]) -> Option<Line> {
        // A count of samples is far below 2^53.
        let count = points.len() as f64;
        let mean = |value: fn(&(f64, f64)) -> f64| points.iter().map(value).sum::<f64>() / count;
        let (middle, mean) = (mean(|p| p.0), mean(|p| p.1));
        let spread: f64 = points.iter().map(|p| (p.0 - middle).powi(2)).sum();
        if points.len() < 3 || spread <= 0.0 {
            return None;
        }
        let slope = points.iter().map(|p| (p.0 - middle) * (p.1 - mean)).sum::<f64>() / spread;
        let rest: f64 = points.iter().map(|p| (p.1 - mean - slope * (p.0 - middle)).powi(2)).sum();
        Some(Line { slope, error: (rest / (count - 2.0) / spread).sqrt(), mean })
    }

    /// Whether it may as well be level: by its error, or because it is hardly anything.
    fn is_level(&self) -> bool {
        self.slope.abs() < 2.0 * self.error || self.slope.abs() < NOTHING * self.mean
    }
}

/// What was found.
struct Found {
    before: Sample,
    samples: Vec<Sample>,
    /// When nothing was left, or the time was over.
    last: Sample,
    left: Vec<String>,
    report: Value,
}

impl Found {
    /// Memory of a server over the second half of the load, in MiB an hour; the surge is not in it.
    fn line(&self, side: usize) -> Option<Line> {
        let half = self.samples.last().map_or(0.0, |last| last.at) / 2.0;
        let second = self.samples.iter().filter(|sample| sample.at >= half);
        let points: Vec<(f64, f64)> = second.map(|s| (s.at / 3600.0, s.states[side].memory)).collect();
        Line::through(&points)
    }
}

/// Measures and writes the report.
pub(crate) fn run(root: &Path, binaries: &Binaries, folder: &Path, options: &Options) -> Result<(), String> {
    let options = Options { rate: rate(root, options.rate)?, ..*options };
    let Options { users, server_core, load_core, minutes, rate } = options;
    let (surge, times) = SURGE;
    let loads = overload::Options { users, seconds: surge + minutes * 60, server_core, load_core };
    let pair = overload::start(binaries, &folder.join("soak"), &loads)?;
    let before = Sample::take(&pair, now_ms())?;
    let mut command = generator(&pair, binaries, &loads, "mix")?;
    let steps = format!("{}:{surge},{rate}:{}", rate.saturating_mul(times), minutes * 60);
    command.args(["--steps", &steps, "--shares", SHARES]);
    command.args(["--warmup", "0", "--sockets", "16"]);
    let began = now_ms();
    let (told, ended) = sync_channel(1);
    // It is not joined: it ends with the generator, whose report is all that it has to say.
    std::thread::spawn(move || told.send(report_of(command)));
    let mut samples = Vec::new();
    let mut due = Instant::now();
    let report = loop {
        samples.push(Sample::take(&pair, began)?);
        due += EVERY;
        match ended.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(report) => break report?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err("the generator's thread is gone".to_owned()),
        }
    };
    let (last, left) = ending(&pair, began, &before)?;
    let found = Found { before, samples, last, left, report };
    write_report(root, "soak.md", &text(&options, &found))?;
    if found.left.is_empty() { Ok(()) } else { Err(format!("left over: {}", found.left.join("; "))) }
}

/// Looks until nothing is left, or the time is over.
fn ending(pair: &Pair, began: f64, before: &Sample) -> Result<(Sample, Vec<String>), String> {
    let until = Instant::now() + ENDING;
    loop {
        let sample = Sample::take(pair, began)?;
        let left = sample.left(before);
        if left.is_empty() || Instant::now() >= until {
            return Ok((sample, left));
        }
        std::thread::sleep(LOOK);
    }
}

/// The given rate, or half of the capacity in the report of overload.
fn rate(root: &Path, given: u32) -> Result<u32, String> {
    if given > 0 {
        return Ok(given);
    }
    let path = root.join("docs/results/overload.md");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let capacity = capacity(&text).ok_or_else(|| format!("{} gives no capacity: use --rate", path.display()))?;
    Ok((capacity / 2).max(1))
}

/// The operations a second that a report of overload calls the capacity.
fn capacity(report: &str) -> Option<u32> {
    let found = report.split("**").find_map(|part| part.split_once(" operations, "))?;
    found.0.parse().ok()
}

fn text(options: &Options, found: &Found) -> String {
    let mut text = String::from("# Soak\n\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "Made by `cargo xtask bench soak --minutes {} --rate {}` on {}, {}.\n\n\
         A fresh pair, both servers on one core, the generator (`pairline-load mix`) on the other; {} users with digest at home on east, over \
         UDP. {} operations a second for {} minutes in the parts {SHARES}: a refresh, a message to another user, a whole call (INVITE, ACK, BYE). \
         Before them it is {} times as many for {} s: what overload takes once is there. \
         Both servers are sampled every {} s; of that one row a minute is shown, and where there are two numbers the second one is west's.\n",
        options.minutes,
        options.rate,
        machine(),
        today(),
        options.users,
        options.rate,
        options.minutes,
        SURGE.1,
        SURGE.0,
        EVERY.as_secs()
    );
    text.push_str(&operations(&found.report));
    text.push_str(&table(found));
    text.push_str(
        "\n## Memory over the second half\n\n| | MiB | MiB an hour | standard error | |\n|---|---|---|---|---|\n",
    );
    for (index, side) in SIDES.iter().enumerate() {
        let _ = match found.line(index) {
            Some(line) => writeln!(
                text,
                "| {} | {:.1} | {:+.1} | {:.1} | {} |",
                side.name(),
                line.mean,
                line.slope,
                line.error,
                if line.is_level() { "level" } else { "**not level**" }
            ),
            None => writeln!(text, "| {} | – | – | – | too few samples |", side.name()),
        };
    }
    let _ = writeln!(
        text,
        "\nA line by least squares. Level: less than twice its standard error from none, or less than {:.0} % of the memory an hour.\n",
        NOTHING * 100.0
    );
    text.push_str("## What is left\n\n");
    let waited = found.last.at - f64::from(options.minutes * 60 + SURGE.0);
    if found.left.is_empty() {
        let _ = writeln!(text, "Nothing: {waited:.0} s after the end of the load all that ends was as before it.");
    } else {
        let _ = writeln!(text, "{waited:.0} s after the end of the load: {}.", found.left.join("; "));
    }
    text
}

/// What the generator says.
fn operations(report: &Value) -> String {
    // The first is the surge.
    let step = &report["steps"][1];
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let done: f64 = step["succeeded"].as_object().into_iter().flat_map(|all| all.values()).map(number).sum();
    format!(
        "Of {:.0} operations {done:.0} were done, {:.0} refused, {:.0} failed otherwise; INVITE to 200 took {:.1} ms at p50 and {:.1} ms at p99.\n\n",
        number(&step["offered"]),
        number(&step["refused"]),
        number(&step["failed"]),
        number(&step["invites"]["p50"]) / 1000.0,
        number(&step["invites"]["p99"]) / 1000.0
    )
}

/// One row a minute, and those before and after the load.
fn table(found: &Found) -> String {
    let mut text = String::from("| minute | MiB | descriptors |");
    for gauge in &GAUGES {
        let _ = write!(text, " {} |", gauge.name);
    }
    let _ = writeln!(text, "\n|---|---|---|{}", "---|".repeat(GAUGES.len()));
    row(&mut text, "before", &found.before);
    for sample in thinned(&found.samples) {
        row(&mut text, &format!("{:.1}", sample.at / 60.0), sample);
    }
    row(&mut text, &format!("{:.1}, after", found.last.at / 60.0), &found.last);
    text
}

/// The first of each minute.
fn thinned(samples: &[Sample]) -> impl Iterator<Item = &Sample> {
    let mut next = 0.0;
    samples.iter().filter(move |sample| {
        let first = sample.at >= next;
        if first {
            next = (sample.at / 60.0).floor() * 60.0 + 60.0;
        }
        first
    })
}

fn row(text: &mut String, name: &str, sample: &Sample) {
    let [east, west] = &sample.states;
    let _ = write!(
        text,
        "| {name} | {:.1}, {:.1} | {:.0}, {:.0} |",
        east.memory, west.memory, east.descriptors, west.descriptors
    );
    for (east, west) in east.figures.iter().zip(&west.figures) {
        // Where west has none of it, which is nearly everywhere, its nought would only be in the way.
        let _ = if *west > 0.0 { write!(text, " {east:.0}, {west:.0} |") } else { write!(text, " {east:.0} |") };
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    //! The line, what is left, and what is shown.

    use super::*;
    use serde_json::json;

    fn sample(at: f64, memory: f64, transactions: f64) -> Sample {
        let mut figures = vec![0.0; GAUGES.len()];
        figures[0] = transactions;
        let state = State { memory, descriptors: 30.0, figures };
        Sample { at, states: [state.clone(), state] }
    }

    #[test]
    fn a_line_has_slope_and_error() {
        let line = Line::through(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]).expect("three points");
        assert_eq!((line.slope, line.error, line.mean), (2.0, 0.0, 3.0));
        assert!(!line.is_level());
        // By hand: slope 0.6, residuals -0.2, 0.4, -0.2; error sqrt(0.24 / 1 / 2).
        let line = Line::through(&[(0.0, 1.0), (1.0, 2.2), (2.0, 2.2)]).expect("three points");
        assert!((line.slope - 0.6).abs() < 1e-12 && (line.error - 0.12_f64.sqrt()).abs() < 1e-12, "{line:?}");
        assert!(line.is_level(), "0.6 is less than twice 0.35");
        assert_eq!(Line::through(&[(0.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(Line::through(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]), None);
    }

    #[test]
    fn a_slope_that_is_certain_and_hardly_anything_is_level() {
        let certain = |slope| Line { slope, error: 0.001, mean: 500.0 };
        assert!(certain(4.9).is_level() && certain(-4.9).is_level());
        assert!(!certain(5.1).is_level() && !certain(-5.1).is_level());
    }

    #[test]
    fn only_what_ends_and_is_more_than_before_is_left() {
        let before = sample(0.0, 100.0, 2.0);
        let mut after = sample(99.0, 900.0, 2.0);
        after.states[0].figures[GAUGES.len() - 1] = 5.0;
        assert_eq!(after.left(&before), Vec::<String>::new(), "nonces live on, and memory is no gauge");
        after.states[1].figures[0] = 3.0;
        assert_eq!(after.left(&before), ["west: transactions 3 (before 2)"]);
        after.states[1].figures[0] = f64::NAN;
        assert_eq!(after.left(&before).len(), 1, "what is not known is left");
    }

    #[test]
    fn the_second_half_makes_the_line_and_one_row_a_minute_is_shown() {
        // Grows at first; then 1 MiB in 100 s for ever.
        let course = |n: u32| {
            let at = f64::from(n) * 10.0;
            sample(at, if n < 10 { f64::from(n) * 50.0 } else { 500.0 + at / 100.0 }, 7.0)
        };
        let samples: Vec<Sample> = (0..=30).map(course).collect();
        let report = json!({"steps": [{"offered": 99}, {"offered": 10, "succeeded": {"call": 3, "register": 4}, "refused": 2, "failed": 1,
                                       "invites": {"p50": 1500.0, "p99": 9000.0}}]});
        let (before, last) = (sample(0.0, 50.0, 0.0), sample(335.0, 600.0, 1.0));
        let left = last.left(&before);
        let found = Found { before, samples, last, left, report };
        let line = found.line(0).expect("sixteen samples");
        assert!((line.slope - 36.0).abs() < 1e-6, "{line:?}");
        let text = text(&Options { minutes: 4, rate: 9, ..Options::default() }, &found);
        assert!(
            text.contains("Of 10 operations 7 were done, 2 refused, 1 failed otherwise; INVITE to 200 took 1.5 ms"),
            "{text}"
        );
        let minutes: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("| ")?.split(' ').next()).collect();
        assert_eq!(minutes[1..9], ["before", "0.0", "1.0", "2.0", "3.0", "4.0", "5.0", "5.6,"], "{text}");
        assert!(text.contains("| east | 502.2 | +36.0 | 0.0 | **not level** |"), "{text}");
        assert!(text.contains("35 s after the end of the load: east: transactions 1 (before 0); west: "), "{text}");
    }

    #[test]
    fn the_capacity_is_read_from_the_report_of_overload() {
        let text = "**bold** and while the offer rose: **12713 operations, 32168 units**.";
        assert_eq!(capacity(text), Some(12_713));
        assert_eq!(capacity("none"), None);
    }
}
