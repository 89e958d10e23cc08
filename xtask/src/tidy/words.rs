//! Words that do not belong in the repository.
//!
//! Owns the list; the walk is in `files`. This file is the only one that may hold them.

/// Word, and why it has no place here.
const FORBIDDEN: [(&str, &str); 9] = [
    ("/root/", "a path of one machine"),
    ("/home/", "a path of one machine"),
    ("/work/", "a path of one machine"),
    ("/Users/", "a path of one machine"),
    ("/tmp/target", "a path of one machine"),
    ("registry.npmjs", "a registry's host"),
    ("static.crates", "a registry's host"),
    ("pypi.org", "a registry's host"),
    ("deb.debian.org", "a registry's host"),
];

/// Spelling: ours is British.
const SPELLING: [(&str, &str); 6] = [
    ("initialize", "initialise"),
    ("Initialize", "Initialise"),
    ("behavior", "behaviour"),
    ("neighbor", "neighbour"),
    ("favorite", "favourite"),
    ("synchronize", "synchronise"),
];

/// Findings for one text.
pub(crate) fn check(path: &str, content: &str) -> Vec<String> {
    if path.ends_with("tidy/words.rs") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in content.lines().enumerate() {
        for (word, why) in FORBIDDEN {
            if line.contains(word) {
                findings.push(format!("{path}:{}: `{word}`: {why}", number + 1));
            }
        }
        for (word, ours) in SPELLING {
            if line.contains(word) {
                findings.push(format!("{path}:{}: `{word}`: we write `{ours}`", number + 1));
            }
        }
    }
    findings
}
