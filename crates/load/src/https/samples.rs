//! A server's metrics at a steady interval.
//!
//! Owns the interval and the lines. A sample that could not be had is a line too, with its reason.

use super::args::SampleArgs;
use super::connection::{Connection, HttpsError, Target};
use super::metrics::Sum;
use super::requests::unix_ms;
use serde::Serialize;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

/// Why sampling ended early.
#[derive(Debug, thiserror::Error)]
pub enum SamplesError {
    /// The arguments name something that cannot be used.
    #[error(transparent)]
    Https(#[from] HttpsError),
    /// The lines cannot be written.
    #[error("output: {0}")]
    Output(#[from] std::io::Error),
}

/// One line.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// When the server was asked, in milliseconds since 1970.
    pub at: f64,
    /// How long the answer took, in milliseconds.
    pub took: f64,
    /// One for each selector; none if there is no answer.
    pub figures: Vec<Sum>,
    /// Why there is no answer.
    pub error: Option<String>,
}

/// Samples until the time is over.
///
/// # Errors
/// Files that cannot be used, or output that cannot be written. A server that does not answer is no error.
pub fn run(args: &SampleArgs, out: &mut impl Write) -> Result<(), SamplesError> {
    let target = Target::new(&args.server)?;
    let ends = Instant::now() + Duration::from_secs_f64(args.duration);
    let mut connection = None;
    let mut due = Instant::now();
    let mut number = 0_u64;
    while due < ends {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let line = sample(args, &target, &mut connection);
        serde_json::to_writer(&mut *out, &line).map_err(std::io::Error::from)?;
        out.write_all(b"\n")?;
        out.flush()?;
        number += 1;
        // After a slow answer the schedule starts anew: samples are never made up for.
        due = due.max(Instant::now() - interval(args.every, number)) + interval(args.every, number);
    }
    Ok(())
}

/// The interval before sample `number`: three quarters to five quarters of the wanted one, in a fixed order that looks random, so
/// that the deviations add up and every phase of something periodic is met.
fn interval(every: u64, number: u64) -> Duration {
    // The output function of SplitMix64.
    let mut mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let part = (mixed ^ (mixed >> 31)) as f64 / u64::MAX as f64;
    Duration::from_secs_f64(every as f64 / 1000.0 * (0.75 + part / 2.0))
}

fn sample(args: &SampleArgs, target: &Target, connection: &mut Option<Connection>) -> Line {
    let at = unix_ms();
    let began = Instant::now();
    let mut ask = || {
        let mut open = connection.take().map_or_else(|| Connection::open(target), Ok)?;
        let answer = open.exchange(target, "GET", &args.path, "")?;
        if answer.status != 200 {
            return Err(HttpsError::Answer("its status is not 200"));
        }
        *connection = Some(open);
        Ok(answer)
    };
    let answer = ask();
    let took = began.elapsed().as_secs_f64() * 1000.0;
    match answer {
        Err(error) => Line { at, took, figures: Vec::new(), error: Some(error.to_string()) },
        Ok(answer) => {
            let text = String::from_utf8_lossy(&answer.body);
            let figures = args.metric.iter().map(|selector| selector.sum(&text)).collect();
            Line { at, took, figures, error: None }
        }
    }
}

#[cfg(test)]
mod tests {
    //! The interval keeps its mean and meets every phase.

    use super::*;

    #[test]
    fn intervals_vary_about_the_wanted_one() {
        let all: Vec<f64> = (0..3000).map(|n| interval(20, n).as_secs_f64() * 1000.0).collect();
        assert!(all.iter().all(|ms| (15.0..=25.0).contains(ms)));
        assert!((all.iter().sum::<f64>() / 3000.0 - 20.0).abs() < 0.2);
        let mut at = 0.0;
        let mut phases = [0; 10];
        for ms in &all {
            at += ms;
            phases[(at % 100.0 / 10.0) as usize % 10] += 1;
        }
        assert!(phases.iter().all(|count| *count > 200), "{phases:?}");
    }
}
