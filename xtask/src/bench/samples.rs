//! What a server's metrics said over a time.
//!
//! Owns the sampler process (`pairline-load-https samples`), the reading of its lines, and quantiles.

use super::pair::now_ms;
use super::server::Server;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest time to wait for a sampler's last sample: beyond its own limit for an answer.
const LAST: Duration = Duration::from_secs(15);

/// What the series of one selector said together.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Sum {
    /// How many series there were.
    pub count: u32,
    /// Their sum.
    pub sum: f64,
    /// The largest.
    pub max: f64,
}

/// One sample.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Sample {
    /// When the server was asked, in milliseconds since 1970.
    pub at: f64,
    /// One for each selector; empty if there was no answer.
    pub figures: Vec<Sum>,
}

impl Sample {
    /// What one selector said; nothing if there was no answer.
    pub(crate) fn figure(&self, selector: usize) -> Sum {
        self.figures.get(selector).copied().unwrap_or_default()
    }
}

/// A running sampler.
#[derive(Debug)]
pub(crate) struct Sampler {
    process: Server,
    lines: PathBuf,
}

impl Sampler {
    /// Starts one; `access` names the server and how to ask it.
    pub(crate) fn start(program: &Path, access: &[String], selectors: &[&str], lines: &Path) -> Result<Self, String> {
        let mut args = vec!["samples".to_owned()];
        args.extend_from_slice(access);
        args.extend(selectors.iter().flat_map(|selector| ["--metric".to_owned(), (*selector).to_owned()]));
        let process = Server::start_anywhere(program, &args, lines)?;
        Ok(Self { process, lines: lines.to_owned() })
    }

    /// Ends it and gives what it saw, a sample of the time of this call included.
    pub(crate) fn end(self) -> Result<Vec<Sample>, String> {
        let (called, until) = (now_ms(), Instant::now() + LAST);
        loop {
            let text = std::fs::read_to_string(&self.lines).map_err(|e| format!("{}: {e}", self.lines.display()))?;
            let samples = read(&text);
            if samples.last().is_some_and(|sample| sample.at >= called) {
                drop(self.process);
                return Ok(samples);
            }
            if Instant::now() >= until {
                let last = text.lines().last().unwrap_or("none").to_owned();
                return Err(format!("the sampler is silent; its last line: {last}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The whole lines of a text; the last one may have been cut by the sampler's end.
pub(crate) fn read(text: &str) -> Vec<Sample> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The value that `share` of all values do not exceed; nothing if there are none.
pub(crate) fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    // A count of samples is far below 2^53.
    let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    //! Lines and quantiles.

    use super::*;

    #[test]
    fn whole_lines_are_read_and_cut_ones_are_not() {
        let text = "{\"at\":1.5,\"took\":0.1,\"figures\":[{\"count\":2,\"sum\":3.0,\"max\":2.0}],\"error\":null}\n\
                    {\"at\":2.5,\"took\":9.0,\"figures\":[],\"error\":\"gone\"}\n{\"at\":3.";
        let samples = read(text);
        assert_eq!(samples.len(), 2);
        assert_eq!((samples[0].figure(0).count, samples[0].figure(0).max), (2, 2.0));
        assert_eq!(samples[1].figure(0).count, 0);
    }

    #[test]
    fn an_absent_value_is_the_worst() {
        let values = [4.0, f64::INFINITY, 1.0, 3.0, 2.0];
        assert_eq!(quantile(&values, 0.5), Some(3.0));
        assert_eq!(quantile(&values, 0.8), Some(4.0));
        assert_eq!(quantile(&values, 0.99), Some(f64::INFINITY));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
