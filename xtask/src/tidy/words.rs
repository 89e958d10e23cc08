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

/// Findings for one text. `prose` is the part whose spelling is ours: the whole of a document, the comments of code (other
/// people's names in code are spelt as they spell them). It has the same lines as `content`.
pub(crate) fn check(path: &str, content: &str, prose: &str) -> Vec<String> {
    if path.ends_with("tidy/words.rs") {
        return Vec::new();
    }
    let find = |text: &str, words: &[(&str, &str)], note: &dyn Fn(&str) -> String| -> Vec<String> {
        let mut findings = Vec::new();
        for (number, line) in text.lines().enumerate() {
            for (word, more) in words.iter().filter(|(word, _)| line.contains(word)) {
                findings.push(format!("{path}:{}: `{word}`: {}", number + 1, note(more)));
            }
        }
        findings
    };
    let mut findings = find(content, &FORBIDDEN, &str::to_owned);
    findings.extend(find(prose, &SPELLING, &|ours| format!("we write `{ours}`")));
    findings
}
