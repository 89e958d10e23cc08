//! Side-by-side measurements of whole servers.
//!
//! Owns the choice of benchmark and what they share: tools, building, folders. Each server has a module that starts it, each
//! benchmark one that runs and reports it.

mod kamailio;
mod load;
mod pairline;
mod register;
mod server;

use std::path::{Path, PathBuf};
use std::process::Command;

/// Options of a benchmark.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Registered users.
    pub users: u32,
    /// Seconds of each measurement.
    pub seconds: u32,
    /// How often each measurement is made.
    pub repeats: u32,
    /// Core of the server.
    pub server_core: u32,
    /// Core of the generator.
    pub load_core: u32,
}

/// REGISTER, Pairline beside Kamailio.
///
/// # Errors
/// A line that says what could not be had or done.
pub(crate) fn register(root: &Path, args: &[&str]) -> Result<(), String> {
    let options = options(args)?;
    for tool in ["taskset", "kill"] {
        if !installed(tool) {
            return Err(format!("{tool} is missing (Debian: util-linux, procps)"));
        }
    }
    kamailio::install()?;
    let binaries = build(root)?;
    let folder = std::env::temp_dir().join(format!("pairline-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let result = register::run(root, &binaries, &folder, &options);
    if result.is_ok() {
        // A folder that stays behind harms nobody.
        let _ = std::fs::remove_dir_all(&folder);
    }
    result
}

fn options(args: &[&str]) -> Result<Options, String> {
    let mut options = Options { users: 20_000, seconds: 5, repeats: 5, server_core: 0, load_core: 1 };
    let mut rest = args.iter();
    while let Some(name) = rest.next() {
        let value = rest.next().and_then(|text| text.parse().ok()).ok_or_else(|| format!("{name} needs a number"))?;
        match *name {
            "--users" => options.users = value,
            "--seconds" => options.seconds = value,
            "--repeats" => options.repeats = value,
            "--server-core" => options.server_core = value,
            "--load-core" => options.load_core = value,
            _ => return Err(format!("unknown option {name} (--users --seconds --repeats --server-core --load-core)")),
        }
    }
    if options.users < 2 || options.seconds == 0 || options.repeats == 0 {
        return Err("at least two users, one second, one repeat".to_owned());
    }
    Ok(options)
}

/// The binaries under test.
#[derive(Clone, Debug)]
pub(crate) struct Binaries {
    /// The server.
    pub pairline: PathBuf,
    /// The generator.
    pub load: PathBuf,
}

/// Builds them in release.
fn build(root: &Path) -> Result<Binaries, String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let status = Command::new(cargo)
        .args(["build", "--release", "-p", "pairline-server", "-p", "pairline-load"])
        .current_dir(root)
        .status()
        .map_err(|e| format!("cargo: {e}"))?;
    if !status.success() {
        return Err("the release build failed".to_owned());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let binary = |name: &str| target.join("release").join(name);
    Ok(Binaries { pairline: binary("pairline"), load: binary("pairline-load") })
}

/// Whether a program can be found.
fn installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|folder: PathBuf| folder.join(name).is_file())
}
