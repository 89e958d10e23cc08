//! `ARCHITECTURE.md` names every room and says what it must never contain.
//!
//! Owns the comparison of the document's headings with the folders. Dependencies are held against `docs/dag.toml` elsewhere.

use std::collections::BTreeSet;
use std::path::Path;

/// Findings: a crate without a paragraph, a paragraph without its absences, a paragraph without its crate.
pub(crate) fn check(root: &Path) -> Vec<String> {
    match std::fs::read_to_string(root.join("ARCHITECTURE.md")) {
        Ok(text) => compare(&text, &folders(root)),
        Err(error) => vec![format!("ARCHITECTURE.md: {error}")],
    }
}

/// The workspace's crate folders, as the document names them.
fn folders(root: &Path) -> BTreeSet<String> {
    let mut folders = BTreeSet::new();
    for parent in ["crates", "tests", "."] {
        let Ok(entries) = std::fs::read_dir(root.join(parent)) else {
            continue;
        };
        for entry in entries.flatten().filter(|e| e.path().join("Cargo.toml").is_file()) {
            let name = entry.file_name().to_string_lossy().into_owned();
            folders.insert(if parent == "." { name } else { format!("{parent}/{name}") });
        }
    }
    folders
}

/// Compares the headings of the form ``### `crates/sip` `` with `folders`.
pub(crate) fn compare(text: &str, folders: &BTreeSet<String>) -> Vec<String> {
    let mut findings = Vec::new();
    let mut named = BTreeSet::new();
    for section in text.split("\n### ").skip(1) {
        let Some(name) = section.strip_prefix('`').and_then(|rest| rest.split('`').next()) else {
            continue;
        };
        if !folders.contains(name) {
            findings.push(format!("ARCHITECTURE.md: `{name}` has a paragraph and no folder"));
        }
        let paragraph = section.split("\n## ").next().unwrap_or(section).to_lowercase();
        if !paragraph.contains("must never contain") {
            findings.push(format!("ARCHITECTURE.md: `{name}`: say what it must never contain"));
        }
        named.insert(name.to_owned());
    }
    let missing = folders.difference(&named);
    findings.extend(missing.map(|name| format!("ARCHITECTURE.md: `{name}` has no paragraph (### `{name}`)")));
    findings
}
