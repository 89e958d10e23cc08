//! `/metrics`: the node's samples in Prometheus' text format.
//!
//! Owns the format. Does not own what is measured.

use super::about::about;
use pairline_node::view::StatusView;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Media type of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text of all samples, grouped by name as the format wants, in order.
pub fn render(status: &StatusView) -> String {
    let mut families: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, labels, value) in &status.samples {
        let name = metric_name(name);
        let line = format!("{name}{} {}", label_set(labels), number(*value));
        families.entry(name).or_default().push(line);
    }
    let mut text = String::new();
    let healthy = u8::from(status.healthy);
    // Writing to a string cannot fail.
    head(&mut text, "pairline_healthy", "gauge");
    let _ = writeln!(text, "pairline_healthy {healthy}");
    let histograms: Vec<String> =
        families.keys().filter_map(|name| name.strip_suffix("_bucket")).map(str::to_owned).collect();
    for base in &histograms {
        head(&mut text, base, "histogram");
        for part in ["_bucket", "_sum", "_count"] {
            for line in families.remove(&format!("{base}{part}")).unwrap_or_default() {
                let _ = writeln!(text, "{line}");
            }
        }
    }
    for (name, lines) in families {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        head(&mut text, &name, kind);
        for line in lines {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

/// The lines before a family: what it means, where that is known, and its type.
fn head(text: &mut String, name: &str, kind: &str) {
    if let Some(about) = about(name) {
        let _ = writeln!(text, "# HELP {name} {}", about.replace('\\', "\\\\").replace('\n', "\\n"));
    }
    let _ = writeln!(text, "# TYPE {name} {kind}");
}

fn metric_name(name: &str) -> String {
    let clean: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if clean.starts_with("pairline_") { clean } else { format!("pairline_{clean}") }
}

fn label_set(labels: &[(String, String)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let inner: Vec<String> = labels
        .iter()
        .map(|(name, value)| {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
            format!("{name}=\"{value}\"")
        })
        .collect();
    format!("{{{}}}", inner.join(","))
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".into() } else { "-Inf".into() }
    } else {
        value.to_string()
    }
}
