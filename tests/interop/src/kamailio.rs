//! One Kamailio with a configuration of ours, on a loopback address of its own.
//!
//! Owns the process. What it does with a message is in its configuration (`kamailio/*.cfg`).

use crate::names;
use crate::program::Program;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Time to start.
const START: Duration = Duration::from_secs(20);

/// Starts one and waits until it listens.
///
/// # Panics
/// If it does not start, with its last lines.
pub fn start(config: &str) -> Program {
    run(config, command(config))
}

/// The same, asking the DNS servers of that `resolv.conf`.
///
/// # Panics
/// If it does not start, with its last lines.
pub fn start_resolving(config: &str, resolv_conf: &Path) -> Program {
    run(config, names::resolving(&command(config), resolv_conf))
}

fn command(config: &str) -> Command {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("kamailio").join(format!("{config}.cfg"));
    let mut command = Command::new("kamailio");
    command.args(["-DD", "-E", "-Y"]).arg(std::env::temp_dir()).arg("-f").arg(file);
    command
}

fn run(config: &str, mut command: Command) -> Program {
    let program = Program::start(&format!("kamailio as {config}"), &mut command);
    // The route that runs once when all workers have started.
    program.expect_line(0, START, "ready for requests");
    program
}
