//! Rules over the text of one Rust file, and the rule that the pure crates share one `clippy.toml`.
//!
//! Owns each rule's words and its remedy. Sizes are in `ratchet`, forbidden words in `words`.

use super::files::Source;
use crate::dag::PURE;
use std::path::Path;

/// What may not stand in code outside tests, and what to do instead.
const OUTSIDE_TESTS: [(&str, &str); 2] = [
    (".unwrap()", "return an error, or `expect(\"why it holds\")` for a true invariant"),
    (".expect(\"\")", "say why it holds"),
];

/// What may not stand in any code, and what to do instead.
const ANYWHERE: [(&str, &str); 8] = [
    ("todo!(", "write it or leave it out"),
    ("unimplemented!(", "write it or leave it out"),
    ("dbg!(", "log with fields, or remove it"),
    ("unbounded_channel", "every queue has a bound"),
    ("crossbeam_channel::unbounded", "every queue has a bound"),
    ("channel::unbounded(", "every queue has a bound"),
    ("UnboundedSender", "every queue has a bound"),
    ("mpsc::channel()", "every queue has a bound: sync_channel(limit)"),
];

/// What may not stand in any comment.
const COMMENTS: [&str; 4] = ["FIXME", "TODO", "XXX", "HACK"];

/// Findings of all rules for one file.
pub(crate) fn check(source: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    if !opens_with_module_doc(source.content()) {
        findings.push(format!("{}:1: opens without `//!`: say what it owns and what it does not", source.path()));
    }
    for (needle, cure) in OUTSIDE_TESTS {
        let hits = source.code().match_indices(needle).filter(|(at, _)| !source.is_test(*at));
        findings.extend(hits.map(|(at, _)| finding(source, at, needle, cure)));
    }
    for (needle, cure) in ANYWHERE {
        let hits = source.code().match_indices(needle);
        findings.extend(hits.map(|(at, _)| finding(source, at, needle, cure)));
    }
    for needle in COMMENTS {
        let hits = source.comments().match_indices(needle).filter(|(at, _)| is_word(source.comments(), *at, needle));
        findings.extend(hits.map(|(at, _)| finding(source, at, needle, "do it, or state the limit plainly")));
    }
    findings.extend(allowances(source));
    findings.extend(pure_maps(source));
    findings.extend(unsafe_place(source));
    findings
}

fn finding(source: &Source, at: usize, needle: &str, cure: &str) -> String {
    let line = source.code().as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
    format!("{}:{line}: `{needle}`: {cure}", source.path())
}

fn is_word(text: &str, at: usize, needle: &str) -> bool {
    let letter = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b == b'-');
    let bytes = text.as_bytes();
    !letter(at.checked_sub(1).and_then(|i| bytes.get(i))) && !letter(bytes.get(at + needle.len()))
}

/// Inner attributes and blank lines may stand before the module's documentation.
fn opens_with_module_doc(content: &str) -> bool {
    content
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with("#!["))
        .is_some_and(|line| line.starts_with("//!"))
}

/// A lint is switched off for a whole file only with its reason: in the attribute, or in a comment on the line before.
fn allowances(source: &Source) -> Vec<String> {
    let hits = source.code().match_indices("#![allow(").filter(|(at, _)| !source.is_test(*at));
    let unexplained = hits.filter(|(at, _)| {
        let attribute = source.code()[*at..].split(']').next().unwrap_or_default();
        let before = source.content()[..*at].trim_end().lines().next_back().unwrap_or_default();
        !attribute.contains("reason") && !before.trim_start().starts_with("//")
    });
    let cure = "say why: #![expect(lint, reason = \"…\")], and on one item where it can be";
    unexplained.map(|(at, needle)| finding(source, at, needle, cure)).collect()
}

/// A pure crate may hold a hash map only with a fixed hasher, and says so where it does.
fn pure_maps(source: &Source) -> Option<String> {
    let pure = PURE.iter().any(|name| source.path().starts_with(&format!("crates/{name}/src/")));
    if !pure || source.comments().to_lowercase().contains("never iterated") {
        return None;
    }
    let (at, needle) = ["HashMap", "HashSet"]
        .iter()
        .filter_map(|needle| {
            let hits = source.code().match_indices(needle);
            hits.filter(|(at, _)| is_word(source.code(), *at, needle) && !source.is_test(*at))
                .map(|(at, _)| (at, needle))
                .next()
        })
        .min()?;
    Some(finding(
        source,
        at,
        needle,
        "use BTreeMap, or a fixed hasher and a comment that says that it is never iterated",
    ))
}

/// `unsafe` lives in the server's I/O module and nowhere else.
fn unsafe_place(source: &Source) -> Vec<String> {
    if source.path().starts_with("crates/server/src/net/") {
        return Vec::new();
    }
    let code = source.code();
    let hits = code.match_indices("unsafe").filter(|(at, _)| is_word(code, *at, "unsafe"));
    hits.map(|(at, _)| finding(source, at, "unsafe", "only in the I/O module of `server`")).collect()
}

/// The pure crates' `clippy.toml` files exist and are byte for byte the same.
pub(crate) fn clippy_files(root: &Path) -> Vec<String> {
    let read = |name: &str| std::fs::read_to_string(root.join(format!("crates/{name}/clippy.toml")));
    let first = read(PURE[0]).unwrap_or_default();
    let mut findings = Vec::new();
    for name in PURE {
        match read(name) {
            Ok(text) if text == first && !text.is_empty() => {}
            Ok(_) => findings.push(format!("crates/{name}/clippy.toml: differs from crates/{}/clippy.toml", PURE[0])),
            Err(error) => findings.push(format!("crates/{name}/clippy.toml: {error}")),
        }
    }
    findings
}
