//! Plain text tables and durations, for people.
//!
//! Owns alignment and units. Does not own what is shown.

use std::fmt::Write;

/// A table with a header; columns are as wide as their widest cell.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let upper: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    line(&mut text, &widths, &upper);
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    line(&mut text, &widths, &rule);
    for row in rows {
        line(&mut text, &widths, row);
    }
    text
}

fn line(text: &mut String, widths: &[usize], cells: &[String]) {
    let mut out = String::new();
    for (at, (width, cell)) in widths.iter().zip(cells).enumerate() {
        if at > 0 {
            out.push_str("  ");
        }
        // Writing to a string cannot fail.
        let _ = write!(out, "{cell:<width$}");
    }
    text.push_str(out.trim_end());
    text.push('\n');
}

/// Seconds as `4.2 s`, `3 min 5 s`, `2 h 10 min`.
pub fn seconds(value: u64) -> String {
    match value {
        0..=119 => format!("{value} s"),
        120..=7199 => format!("{} min {} s", value / 60, value % 60),
        7200..=172_799 => format!("{} h {} min", value / 3600, value % 3600 / 60),
        _ => format!("{} days", value / 86_400),
    }
}

/// Milliseconds as `12 ms` or `1.25 s`.
pub fn millis(value: u64) -> String {
    if value < 1_000 {
        return format!("{value} ms");
    }
    format!("{}.{:02} s", value / 1_000, value % 1_000 / 10)
}

/// Bytes as `12 B`, `3.4 KiB` …
pub fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut whole = value;
    let mut rest = 0;
    while whole >= 1024 && unit + 1 < UNITS.len() {
        rest = whole % 1024 * 10 / 1024;
        whole /= 1024;
        unit += 1;
    }
    if unit == 0 { format!("{whole} B") } else { format!("{whole}.{rest} {}", UNITS[unit]) }
}

/// Wall-clock milliseconds as UTC.
pub fn utc(wall_ms: u64) -> String {
    let seconds = i64::try_from(wall_ms / 1_000).unwrap_or(i64::MAX);
    let Ok(time) = time::OffsetDateTime::from_unix_timestamp(seconds) else { return format!("{wall_ms} ms") };
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}
