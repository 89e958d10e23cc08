//! Lines of servers' logs, readable.

use pairline_server::up::stream::{is_error, readable};

#[test]
fn a_json_line_becomes_words() {
    let line = r#"{"timestamp":"2030-02-03T04:05:06.789012Z","level":"WARN","message":"east is not heard","event":"mode-changed","target":"pairline","since":3}"#;
    let text = readable("west", line);
    assert_eq!(text, "04:05:06.789 west     mode-changed           warning: east is not heard  since=3");
    assert!(!is_error(line));
    assert!(is_error(r#"{"level":"ERROR","message":"x"}"#));
}

#[test]
fn another_line_is_shown_as_it_is() {
    assert!(readable("east", "thread 'main' panicked").ends_with("thread 'main' panicked"));
}
