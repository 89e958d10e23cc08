//! The repository's text files.
//!
//! Owns the walk (what is ours, what is skipped) and a Rust file split into code, comments and test ranges. Knows no rule.

use super::lexer::{self, Split};
use std::ops::Range;
use std::path::Path;

/// Folders that hold no text of ours.
const SKIPPED: [&str; 5] = [".git", "target", "pairline-data", "node_modules", "golden"];
/// Endings of the files that are read.
const ENDINGS: [&str; 10] = ["rs", "toml", "md", "sh", "xml", "json", "cfg", "csv", "yml", "txt"];
/// Files without an ending that are read.
const NAMES: [&str; 2] = ["test", "run"];

/// One text file.
pub(crate) struct Text {
    /// Path from the root, with `/`.
    pub path: String,
    /// The whole content.
    pub content: String,
}

/// All text files, in the order of their paths.
pub(crate) fn texts(root: &Path) -> Vec<Text> {
    let mut texts = Vec::new();
    walk(root, root, &mut texts);
    texts.sort_by(|a, b| a.path.cmp(&b.path));
    texts
}

fn walk(root: &Path, folder: &Path, texts: &mut Vec<Text>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            if !SKIPPED.contains(&name.as_str()) {
                walk(root, &path, texts);
            }
            continue;
        }
        let ending = path.extension().map(|e| e.to_string_lossy().into_owned()).unwrap_or_default();
        if !kind.is_file() || !(ENDINGS.contains(&ending.as_str()) || NAMES.contains(&name.as_str())) {
            continue;
        }
        if let Ok(content) = std::fs::read_to_string(&path) {
            let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            texts.push(Text { path: relative, content });
        }
    }
}

/// One Rust file, split.
pub(crate) struct Source<'a> {
    text: &'a Text,
    split: Split,
    tests: Vec<Range<usize>>,
}

impl<'a> Source<'a> {
    /// Splits `text`.
    pub(crate) fn new(text: &'a Text) -> Self {
        let split = lexer::split(&text.content);
        let tests = test_ranges(&split.code);
        Self { text, split, tests }
    }

    /// Path from the root.
    pub(crate) fn path(&self) -> &str {
        &self.text.path
    }

    /// The file as it is.
    pub(crate) fn content(&self) -> &str {
        &self.text.content
    }

    /// The file with comments and the insides of literals blanked; line numbers are those of the file.
    pub(crate) fn code(&self) -> &str {
        &self.split.code
    }

    /// The comments alone; line numbers are those of the file.
    pub(crate) fn comments(&self) -> &str {
        &self.split.comments
    }

    /// Number of lines.
    pub(crate) fn lines(&self) -> usize {
        self.text.content.lines().count()
    }

    /// Whether the whole file is test code by its place.
    pub(crate) fn is_test_file(&self) -> bool {
        let path = self.path();
        path.split('/').any(|part| part == "tests" || part == "benches")
            || path.ends_with("/tests.rs")
            || path.ends_with("_tests.rs")
    }

    /// Whether the byte at `at` of the code is test code.
    pub(crate) fn is_test(&self, at: usize) -> bool {
        self.is_test_file() || self.tests.iter().any(|range| range.contains(&at))
    }
}

/// Byte ranges of the items under `#[cfg(test)]` and `#[test]`.
fn test_ranges(code: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    for marker in ["#[cfg(test)]", "#[test]"] {
        for (start, _) in code.match_indices(marker) {
            if let Some(body) = lexer::braced(code, start) {
                ranges.push(start..body.end);
            }
        }
    }
    ranges
}
