//! One readable line per event of all servers.
//!
//! Owns turning a server's JSON line into words. A line that is not JSON is shown as it is.

use serde_json::{Map, Value};

/// Members that are shown in fixed places or not at all.
const PLACED: [&str; 7] = ["timestamp", "level", "target", "message", "event", "pool", "fields"];

/// The line for people: time, server, level where it matters, event, text, other members.
pub fn readable(server: &str, line: &str) -> String {
    let Ok(Value::Object(object)) = serde_json::from_str::<Value>(line) else {
        return format!("             {server:<8} {line}");
    };
    let mut fields = object.clone();
    if let Some(Value::Object(inner)) = object.get("fields") {
        fields.extend(inner.clone());
    }
    let time = text(&fields, "timestamp");
    // The time of day, to the millisecond, of an RFC 3339 timestamp.
    let time = time.split('T').nth(1).map_or("", |clock| clock.get(..12).unwrap_or(clock));
    let level = text(&fields, "level");
    let mark = match level.as_str() {
        "WARN" => "warning: ",
        "ERROR" => "ERROR: ",
        _ => "",
    };
    let event = text(&fields, "event");
    let message = text(&fields, "message");
    let others: Vec<String> = fields
        .iter()
        .filter(|(name, _)| event != "audit" && !PLACED.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}={}", plain(value)))
        .collect();
    let others = if others.is_empty() { String::new() } else { format!("  {}", others.join(" ")) };
    format!("{time:<12} {server:<8} {event:<22} {mark}{message}{others}").trim_end().to_owned()
}

/// Whether a line reports an error.
pub fn is_error(line: &str) -> bool {
    serde_json::from_str::<Value>(line).is_ok_and(|value| value.get("level").and_then(Value::as_str) == Some("ERROR"))
}

fn text(fields: &Map<String, Value>, name: &str) -> String {
    fields.get(name).map(plain).unwrap_or_default()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
