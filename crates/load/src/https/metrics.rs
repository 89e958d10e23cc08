//! Prometheus' text format: choosing series and summing them up.
//!
//! Owns reading. What a metric means is its server's.

use serde::Serialize;
use std::str::FromStr;

/// Which series: a name, and labels that each of them must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    name: String,
    labels: Vec<(String, String)>,
}

/// A selector that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no selector: write name or name{{label=\"value\"}}")]
pub struct BadSelector(String);

impl FromStr for Selector {
    type Err = BadSelector;

    fn from_str(text: &str) -> Result<Self, BadSelector> {
        let bad = || BadSelector(text.to_owned());
        let (name, labels) = series(text).ok_or_else(bad)?;
        let labels = labels_of(labels).ok_or_else(bad)?;
        if name.is_empty() { Err(bad()) } else { Ok(Self { name: name.to_owned(), labels }) }
    }
}

impl Selector {
    fn takes(&self, name: &str, labels: &[(String, String)]) -> bool {
        let wanted = |(key, value): &(String, String)| {
            labels.iter().any(|(k, v)| {
                k == key && value.strip_suffix('*').map_or_else(|| v == value, |start| v.starts_with(start))
            })
        };
        name == self.name && self.labels.iter().all(wanted)
    }

    /// Sums up what a text has of the chosen series.
    pub fn sum(&self, text: &str) -> Sum {
        let mut sum = Sum::default();
        for line in text.lines().filter(|line| line.starts_with(self.name.as_str())) {
            let Some((head, value)) = line.rsplit_once(' ') else { continue };
            let Some((name, labels)) = series(head) else { continue };
            let (Some(labels), Ok(value)) = (labels_of(labels), value.parse::<f64>()) else { continue };
            if value.is_finite() && self.takes(name, &labels) {
                sum.max = if sum.count == 0 { value } else { sum.max.max(value) };
                sum.count += 1;
                sum.sum += value;
            }
        }
        sum
    }
}

/// What the chosen series say together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sum {
    /// How many there are.
    pub count: u32,
    /// Their sum.
    pub sum: f64,
    /// The largest; 0 if there is none.
    pub max: f64,
}

/// Name and text of the labels.
fn series(text: &str) -> Option<(&str, &str)> {
    match text.trim().split_once('{') {
        None => Some((text.trim(), "")),
        Some((name, rest)) => Some((name, rest.strip_suffix('}')?)),
    }
}

/// Labels; quotes within values are not understood.
fn labels_of(text: &str) -> Option<Vec<(String, String)>> {
    let mut labels = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (key, after) = rest.split_once("=\"")?;
        let (value, after) = after.split_once('"')?;
        labels.push((key.to_owned(), value.to_owned()));
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    //! Series are chosen by name and labels, and nothing else is counted.

    use super::*;

    const TEXT: &str = "# TYPE lag gauge\nlag{group=\"1/0\",bound=\"at-most\"} 0.25\nlag{group=\"1/1\",bound=\"at-most\"} 0.5\n\
                        lag{group=\"2/0\",bound=\"exact\"} 9\nlag{group=\"1/2\",bound=\"at-most\"} NaN\nlag_total 7\nplain 3\n";

    fn sum(selector: &str) -> Sum {
        selector.parse::<Selector>().unwrap().sum(TEXT)
    }

    #[test]
    fn labels_choose_series() {
        assert_eq!(sum("lag{bound=\"at-most\"}"), Sum { count: 2, sum: 0.75, max: 0.5 });
        assert_eq!(sum("lag{group=\"1/1\",bound=\"at-most\"}"), Sum { count: 1, sum: 0.5, max: 0.5 });
        assert_eq!(sum("lag{group=\"2/*\"}").max, 9.0);
        assert_eq!(sum("lag").count, 3);
        assert_eq!(sum("plain").sum, 3.0);
        assert_eq!(sum("absent"), Sum::default());
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in ["", "{a=\"b\"}", "a{b=\"c\"", "a{b}"] {
            assert!(text.parse::<Selector>().is_err(), "{text}");
        }
    }
}
