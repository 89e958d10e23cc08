//! The house rules that a machine can check.
//!
//! Owns the walk over the repository and the list of rules; each rule is a function from a file to findings. What clippy can
//! check is left to clippy.

mod architecture;
mod files;
mod functions;
mod lexer;
mod ratchet;
mod rules;
#[cfg(test)]
mod tests;
mod words;

use files::Source;
use ratchet::Ratchet;
use std::fmt::Write as _;
use std::path::Path;

/// Lines that a file may have.
pub(crate) const FILE_LINES: usize = 800;
/// Lines that a function may have, from its `fn` to its closing brace.
pub(crate) const FUNCTION_LINES: usize = 70;

/// All findings, each one line that names the place and the remedy. Empty when the tree is tidy.
pub(crate) fn check(root: &Path) -> Vec<String> {
    let texts = files::texts(root);
    let mut findings = Vec::new();
    let mut ratchet = match Ratchet::read(&root.join("docs/tidy.toml")) {
        Ok(ratchet) => ratchet,
        Err(error) => return vec![error],
    };
    for text in &texts {
        if !text.path.ends_with(".rs") {
            findings.extend(words::check(&text.path, &text.content, &text.content));
        } else {
            let source = Source::new(text);
            findings.extend(words::check(&text.path, &text.content, source.comments()));
            findings.extend(rules::check(&source));
            sizes(&source, &mut ratchet, &mut findings);
        }
    }
    findings.extend(ratchet.unused());
    findings.extend(rules::clippy_files(root));
    findings.extend(architecture::check(root));
    findings
}

/// Holds the sizes of one file and its functions against budget and ratchet.
fn sizes(source: &Source, ratchet: &mut Ratchet, findings: &mut Vec<String>) {
    findings.extend(ratchet.file(source.path(), source.lines()));
    for function in functions::find(source.code()) {
        findings.extend(ratchet.function(source.path(), &function.name, function.lines));
    }
}

/// Medians and tails of the sizes, for people.
pub(crate) fn figures(root: &Path) -> String {
    let (mut files_, mut functions_) = (Vec::new(), Vec::new());
    for text in files::texts(root).iter().filter(|t| t.path.ends_with(".rs")) {
        let source = Source::new(text);
        files_.push((source.lines(), source.path().to_owned()));
        for function in functions::find(source.code()) {
            functions_.push((function.lines, format!("{}::{}", source.path(), function.name)));
        }
    }
    let mut out = String::new();
    for (title, sizes) in [("files", &mut files_), ("functions", &mut functions_)] {
        sizes.sort();
        let at = |per_mille: usize| sizes.get((sizes.len() * per_mille / 1000).min(sizes.len().saturating_sub(1)));
        let lines = |per_mille| at(per_mille).map_or(0, |s| s.0);
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{title}: {} in all, lines median {} p90 {} p99 {}",
            sizes.len(),
            lines(500),
            lines(900),
            lines(990)
        );
        for (lines, name) in sizes.iter().rev().take(10) {
            let _ = writeln!(out, "  {lines:>5}  {name}");
        }
    }
    out
}
