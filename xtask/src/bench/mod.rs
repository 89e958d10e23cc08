//! Measurements of whole servers: side by side with others, and of a pair of pools.
//!
//! Owns the choice of benchmark and what they share: tools, building, folders. Each server has a module that starts it, each
//! benchmark one that runs and reports it.

mod avalanche;
mod delay;
mod enumeration;
mod instructions;
mod kamailio;
mod lag;
mod load;
mod overload;
mod pair;
mod pairline;
mod pool;
mod ranks;
mod register;
mod relay;
mod rows;
mod samples;
mod seed;
mod server;
mod soak;

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
    in_folder(root, |binaries, folder| register::run(root, binaries, folder, &options))
}

/// Messages or whole calls between users, Pairline beside Kamailio.
///
/// # Errors
/// A line that says what could not be had or done.
pub(crate) fn relay(root: &Path, kind: &'static str, args: &[&str]) -> Result<(), String> {
    let options = options(args)?;
    for tool in ["taskset", "kill"] {
        if !installed(tool) {
            return Err(format!("{tool} is missing (Debian: util-linux, procps)"));
        }
    }
    kamailio::install()?;
    in_folder(root, |binaries, folder| relay::run(root, kind, binaries, folder, &options))
}

/// Instructions of the usual requests.
///
/// # Errors
/// A line that says what could not be had or done.
pub(crate) fn instructions(root: &Path, args: &[&str]) -> Result<(), String> {
    instructions::run(root, args)
}

/// Lag of a steady pair under durable changes.
///
/// # Errors
/// A line that says what could not be had or done, or which target is missed.
pub(crate) fn lag(root: &Path, args: &[&str]) -> Result<(), String> {
    let mut options = lag::Options::default();
    let (rate, seconds) = (&mut options.rate, &mut options.seconds);
    numbers(
        args,
        &mut [("--rate", rate), ("--seconds", seconds), ("--users", &mut options.users), ("--rtt", &mut options.rtt)],
    )?;
    if options.rate == 0 || options.seconds == 0 || options.users < options.rate {
        return Err("at least one change a second, one second, and as many users as changes a second".to_owned());
    }
    in_folder(root, |binaries, folder| lag::run(root, binaries, folder, &options))
}

/// Import of users and seeding of the partner.
///
/// # Errors
/// A line that says what could not be had or done.
pub(crate) fn seed(root: &Path, args: &[&str]) -> Result<(), String> {
    let mut options = seed::Options::default();
    let args: Vec<&str> = args
        .iter()
        .copied()
        .filter(|arg| {
            options.disk |= *arg == "--disk";
            *arg != "--disk"
        })
        .collect();
    numbers(&args, &mut [("--users", &mut options.users), ("--contacts", &mut options.contacts)])?;
    if options.users < 2 || options.contacts > 1000 {
        return Err("at least two users, and at most 1000 contacts each".to_owned());
    }
    in_folder(root, |binaries, folder| seed::run(root, binaries, folder, &options))
}

/// Telling users apart by the time of answers. `PAIRLINE_BIN` names a server to be measured that is built already.
///
/// # Errors
/// A line that says what could not be had or done, or by which requests users can be told apart.
pub(crate) fn enumeration(root: &Path, args: &[&str]) -> Result<(), String> {
    let mut options = enumeration::Options::default();
    numbers(args, &mut [("--tries", &mut options.tries), ("--users", &mut options.users)])?;
    if options.tries < 50 || options.users == 0 || options.users > 99_999 {
        return Err("at least 50 tries, and 1 to 99999 users".to_owned());
    }
    match std::env::var_os("PAIRLINE_BIN").map(PathBuf::from) {
        Some(binary) => in_scratch(|folder| {
            enumeration::run(root, &binary, folder, &options, "the server that `PAIRLINE_BIN` names")
        }),
        None => in_folder(root, |binaries, folder| {
            enumeration::run(root, &binaries.pairline, folder, &options, "release build")
        }),
    }
}

/// What a server still does while more comes than it can do.
///
/// # Errors
/// A line that says what could not be had or done, or which target is missed.
pub(crate) fn overload(root: &Path, args: &[&str]) -> Result<(), String> {
    let options = overload_options(args, overload::Options::default())?;
    in_folder(root, |binaries, folder| overload::run(root, binaries, folder, &options))
}

/// All clients dropped at one instant.
///
/// # Errors
/// A line that says what could not be had or done, or which target is missed.
pub(crate) fn avalanche(root: &Path, args: &[&str]) -> Result<(), String> {
    let defaults = overload::Options { users: 50_000, seconds: 150, ..overload::Options::default() };
    let options = overload_options(args, defaults)?;
    in_folder(root, |binaries, folder| avalanche::run(root, binaries, folder, &options))
}

/// A pool of several Front Ends.
///
/// # Errors
/// A line that says what could not be had or done, or which target is missed.
pub(crate) fn pool(root: &Path, args: &[&str]) -> Result<(), String> {
    let options = pool::Options::read(args)?;
    for tool in ["taskset", "kill"] {
        if !installed(tool) {
            return Err(format!("{tool} is missing (Debian: util-linux, procps)"));
        }
    }
    in_folder(root, |binaries, folder| pool::run(root, binaries, folder, &options))
}

/// Hours of a steady load, in minutes.
///
/// # Errors
/// A line that says what could not be had or done, or what is left when the load is over.
pub(crate) fn soak(root: &Path, args: &[&str]) -> Result<(), String> {
    let mut options = soak::Options::default();
    let soak::Options { minutes, rate, users, server_core, load_core } = &mut options;
    let known = &mut [
        ("--minutes", minutes),
        ("--rate", rate),
        ("--users", users),
        ("--server-core", server_core),
        ("--load-core", load_core),
    ];
    numbers(args, known)?;
    if !installed("taskset") {
        return Err("taskset is missing (Debian: util-linux)".to_owned());
    }
    if options.users < 100 || !(1..=1_440).contains(&options.minutes) {
        return Err("at least a hundred users, and one minute to a day".to_owned());
    }
    in_folder(root, |binaries, folder| soak::run(root, binaries, folder, &options))
}

fn overload_options(args: &[&str], mut options: overload::Options) -> Result<overload::Options, String> {
    let overload::Options { users, seconds, server_core, load_core } = &mut options;
    let known =
        &mut [("--users", users), ("--seconds", seconds), ("--server-core", server_core), ("--load-core", load_core)];
    numbers(args, known)?;
    if !installed("taskset") {
        return Err("taskset is missing (Debian: util-linux)".to_owned());
    }
    if options.users < 100 || options.seconds == 0 {
        return Err("at least a hundred users, one second".to_owned());
    }
    Ok(options)
}

/// Builds, and runs something in a folder that is removed if it succeeds.
fn in_folder(root: &Path, work: impl FnOnce(&Binaries, &Path) -> Result<(), String>) -> Result<(), String> {
    let binaries = build(root)?;
    in_scratch(|folder| work(&binaries, folder))
}

/// Runs something in a folder that is removed if it succeeds.
fn in_scratch(work: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), String> {
    let folder = std::env::temp_dir().join(format!("pairline-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let result = work(&folder);
    match &result {
        // A folder that stays behind harms nobody.
        Ok(()) => drop(std::fs::remove_dir_all(&folder)),
        Err(_) => eprintln!("bench: logs and data are in {}", folder.display()),
    }
    result
}

/// Reads options that are numbers.
fn numbers(args: &[&str], known: &mut [(&str, &mut u32)]) -> Result<(), String> {
    let mut rest = args.iter();
    while let Some(name) = rest.next() {
        let value = rest.next().and_then(|text| text.parse().ok()).ok_or_else(|| format!("{name} needs a number"))?;
        match known.iter_mut().find(|(option, _)| option == name) {
            Some((_, place)) => **place = value,
            None => {
                let names: Vec<&str> = known.iter().map(|(option, _)| *option).collect();
                return Err(format!("unknown option {name} ({})", names.join(" ")));
            }
        }
    }
    Ok(())
}

fn options(args: &[&str]) -> Result<Options, String> {
    let mut options = Options { users: 20_000, seconds: 5, repeats: 5, server_core: 0, load_core: 1 };
    let Options { users, seconds, repeats, server_core, load_core } = &mut options;
    let known = &mut [
        ("--users", users),
        ("--seconds", seconds),
        ("--repeats", repeats),
        ("--server-core", server_core),
        ("--load-core", load_core),
    ];
    numbers(args, known)?;
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
    /// The generator of requests over HTTPS, and sampler of metrics.
    pub https: PathBuf,
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
    Ok(Binaries { pairline: binary("pairline"), load: binary("pairline-load"), https: binary("pairline-load-https") })
}

/// Whether a program can be found.
fn installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|folder: PathBuf| folder.join(name).is_file())
}

/// Processor and kernel.
pub(crate) fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let count = info.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = Command::new("uname").arg("-r").output().map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    format!("{count} × {}, Linux {}", model.trim_start_matches(['\t', ' ', ':']), kernel.unwrap_or_default())
}

/// Today in UTC, as the system's `date` says.
pub(crate) fn today() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d"]).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}

/// Writes a report and prints it.
pub(crate) fn write_report(root: &Path, name: &str, text: &str) -> Result<(), String> {
    let results = root.join("docs/results");
    std::fs::create_dir_all(&results).map_err(|e| format!("{}: {e}", results.display()))?;
    std::fs::write(results.join(name), text).map_err(|e| format!("{name}: {e}"))?;
    println!("{text}");
    Ok(())
}
