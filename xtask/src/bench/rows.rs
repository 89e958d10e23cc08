//! Figures of several servers, by the rows of a report.
//!
//! Owns the samples of all repeats, their medians, and how a row and a run are written. Does not own what is measured.

use super::load::Figures;
use super::{Options, machine};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;

pub(crate) const KAMAILIO_PLAIN: &str = "Kamailio, no authentication";
pub(crate) const KAMAILIO_DIGEST: &str = "Kamailio, digest MD5, nonce reused";
pub(crate) const OURS_MD5: &str = "Pairline, digest MD5, nonce reused";
pub(crate) const OURS_SHA: &str = "Pairline, digest SHA-256, nonce reused";
pub(crate) const OURS_TLS: &str = "Pairline over TLS, digest SHA-256, nonce reused";
pub(crate) const OURS_WSS: &str = "Pairline over WSS, digest SHA-256, nonce reused";

/// What the repeats gave, by row.
#[derive(Debug, Default)]
pub(crate) struct Rows(BTreeMap<&'static str, Vec<Figures>>);

/// The middle of the values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Rows {
    /// Adds what one repeat gave, and says it.
    pub(crate) fn add(&mut self, name: &'static str, figures: Figures) {
        println!("  {name}: {:.2} µs, {:.0}/s", figures.cpu, figures.rate);
        self.0.entry(name).or_default().push(figures);
    }

    /// The middle of what the repeats gave.
    pub(crate) fn of(&self, name: &str, value: impl Fn(&Figures) -> f64) -> f64 {
        median(self.0.get(name).map(|all| all.iter().map(value).collect()).unwrap_or_default())
    }

    /// Our processor time in parts of theirs.
    pub(crate) fn ratio(&self, ours: &str, theirs: &str) -> f64 {
        self.of(ours, |f| f.cpu) / self.of(theirs, |f| f.cpu)
    }

    /// What of our own code's time a target leaves, in microseconds: that part of their processor time, less what we spend in the kernel.
    pub(crate) fn left(&self, ours: &str, theirs: &str, part: f64) -> f64 {
        self.of(theirs, |f| f.cpu) * part - self.of(ours, |f| f.kernel)
    }

    /// The table of those rows; `each` says what is counted a second.
    pub(crate) fn table(&self, each: &str, names: &[&str]) -> String {
        let mut text = format!(
            "| | CPU µs each | of it in the kernel | serving process alone | {each} | p99 ms |\n|---|---|---|---|---|---|\n"
        );
        for name in names {
            let value = |f: fn(&Figures) -> f64| self.of(name, f);
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {name} | {:.1} | {:.1} | {:.1} | {:.0} | {:.1} |",
                value(|f| f.cpu),
                value(|f| f.kernel),
                value(|f| f.cpu_first),
                value(|f| f.rate),
                value(|f| f.p99 / 1000.0)
            );
        }
        text
    }

    /// Every run, for machines.
    pub(crate) fn json(&self, options: &Options) -> String {
        let cases: serde_json::Map<String, serde_json::Value> = self
            .0
            .iter()
            .map(|(name, all)| {
                let runs = all.iter().map(|f| {
                    json!({"cpu_us": f.cpu, "kernel_us": f.kernel, "cpu_us_serving": f.cpu_first, "rate": f.rate, "p99_us": f.p99, "memory": f.memory})
                });
                ((*name).to_owned(), json!(runs.collect::<Vec<_>>()))
            })
            .collect();
        let all =
            json!({"v": 1, "users": options.users, "seconds": options.seconds, "machine": machine(), "runs": cases});
        serde_json::to_string_pretty(&all).unwrap_or_default() + "\n"
    }
}

#[cfg(test)]
mod tests {
    //! Medians and rows.

    use super::*;

    #[test]
    fn rows_and_ratios_are_those_of_the_medians() {
        let mut rows = Rows::default();
        for cpu in [90.0, 30.0, 60.0] {
            rows.add(OURS_MD5, Figures { cpu, kernel: cpu * 0.4, rate: cpu, ..Figures::default() });
        }
        for cpu in [40.0, 1000.0, 5.0] {
            rows.add(KAMAILIO_DIGEST, Figures { cpu, ..Figures::default() });
        }
        assert!((rows.ratio(OURS_MD5, KAMAILIO_DIGEST) - 1.5).abs() < 1e-9);
        assert!(
            rows.left(OURS_MD5, KAMAILIO_DIGEST, 0.6).abs() < 1e-9,
            "24 µs in the kernel are all that 0.6 × 40 allows"
        );
        let text = rows.table("calls/s", &[OURS_MD5]);
        assert!(text.ends_with("| Pairline, digest MD5, nonce reused | 60.0 | 24.0 | 0.0 | 60 | 0.0 |\n"), "{text}");
        assert!(median(Vec::new()).is_nan());
    }
}
