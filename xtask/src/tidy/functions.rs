//! Finds functions and their lengths.
//!
//! Owns nothing but the search in already split code.

use super::lexer;

/// One function with a body.
pub(crate) struct Function {
    /// Its name, without path.
    pub name: String,
    /// Lines from its `fn` to its closing brace.
    pub lines: usize,
}

/// All functions with a body in `code` (comments and literals already blanked), nested ones too.
pub(crate) fn find(code: &str) -> Vec<Function> {
    let bytes = code.as_bytes();
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if at > 0 && word(bytes[at - 1]) {
            continue;
        }
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.is_empty() {
            continue;
        }
        if let Some(body) = lexer::braced(code, at) {
            let lines = code[at..body.end].matches('\n').count() + 1;
            found.push(Function { name, lines });
        }
    }
    found
}
