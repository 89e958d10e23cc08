//! How the running program is called at a prompt: after `cargo run` there is no `pairline` on the PATH.
//!
//! Owns the word. Runs nothing.

use std::path::{Component, Path, PathBuf};

/// The word with which whoever reads our output can start this program from the folder that it was started in.
pub fn name() -> String {
    let Ok(program) = std::env::current_exe() else { return "pairline".to_owned() };
    let here = std::env::current_dir().unwrap_or_default();
    let path: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    name_from(&program, &here, &path)
}

/// The same for a program, a current folder and the folders of a PATH: its bare name if that finds it, a relative path if it
/// lies below the current folder, else its full path.
pub fn name_from(program: &Path, here: &Path, path: &[PathBuf]) -> String {
    let found = program.file_name().filter(|name| first_on(path, Path::new(name)).as_deref() == Some(program));
    if let Some(name) = found {
        return quoted(Path::new(name));
    }
    match program.strip_prefix(here) {
        Ok(below) if below.components().count() == 1 => quoted(&Path::new(".").join(below)),
        Ok(below) if below.components().all(|part| matches!(part, Component::Normal(_))) => quoted(below),
        _ => quoted(program),
    }
}

fn first_on(path: &[PathBuf], name: &Path) -> Option<PathBuf> {
    let found = path.iter().map(|folder| folder.join(name)).find(|file| file.is_file())?;
    std::fs::canonicalize(found).ok()
}

/// A path as one word of a shell.
pub fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@=".contains(c);
    if text.chars().all(plain) { text.into_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}
