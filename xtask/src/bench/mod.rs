//! Side-by-side measurements of whole servers.
//!
//! Owns the choice of benchmark. Each benchmark is a module of its own.

use std::path::Path;

pub(crate) fn register(_root: &Path, _args: &[&str]) -> Result<(), String> {
    Err("not yet".to_owned())
}
