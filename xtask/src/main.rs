//! The project's own chores: `tidy` (house rules as a ratchet), `dag` (dependencies against `docs/dag.toml`), `bench`
//! (side-by-side measurements), `fuzz` and `sweep`.
//!
//! Owns the rules that a machine can check and the benchmark drivers. Contains nothing that the product needs at run time.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod bench;
mod dag;
mod fuzz;
mod sweep;
mod tidy;

const USAGE: &str = "usage: cargo xtask <command>

  tidy             check the house rules (budgets, words, architecture, dependency graph)
  tidy --figures   print sizes of files and functions
  dag              compare the real dependencies with docs/dag.toml
  bench register   REGISTER refresh, Pairline beside Kamailio; writes docs/results/register.md
  bench message    MESSAGE from user to user, Pairline beside Kamailio; writes docs/results/message.md
  bench call       INVITE, ACK and BYE, Pairline beside Kamailio; writes docs/results/call.md
                   all three: [--users 20000] [--seconds 5] [--repeats 5] [--server-core 0] [--load-core 1]
  bench instructions  what the node does for each of these, in instructions, which are the same on every machine; writes
                   docs/results/instructions.md [--turns 40: of 48 operations]
  bench lag        lag of a steady pair under durable changes; writes docs/results/lag.md
                   [--rate 500] [--seconds 60] [--users 2000] [--rtt 50: milliseconds on the link of a second run, 0 for none]
  bench seed       import of users and seeding of the partner; writes docs/results/import.md
                   [--users 200000] [--contacts 10: each user has in a second run, 0 for none] [--disk: seed a partner whose disk
                   was lost, instead of one that is paired]
  bench enumeration  whether users can be told apart by the time of answers; writes docs/results/enumeration.md
                   [--tries 2000] [--users 1000]; PAIRLINE_BIN: a server that is built already
  bench overload   what a server still does while up to ten times too much comes; writes docs/results/overload.md
                   [--users 20000] [--seconds 10] [--server-core 0] [--load-core 1]
  bench avalanche  all clients dropped at one instant register again; writes docs/results/avalanche.md
                   [--users 50000] [--seconds 150: at most] [--server-core 0] [--load-core 1]
  bench soak       memory, transactions, tasks and timers under a steady load, and after it; writes docs/results/soak.md
                   [--minutes 30] [--rate: operations a second, half of the capacity in docs/results/overload.md]
                   [--users 20000] [--server-core 0] [--load-core 1]
  bench pool       a pool of three Front Ends: REGISTER beside two Kamailio nodes, and what both lose when a host is cut off;
                   servers that die, freeze and are cut off under load, and what it costs without traffic; writes docs/results/pool.md
                   [--part register, cut, faults, rolling, rejoin, idle or many] [--users 20000] [--seconds 5] [--repeats 5] [--rounds 20: of each fault]
                   [--load-percent 100: of 2,000 REGISTER/s, 100 calls/s and 500 changes/s] [--server-core 0] [--load-core 1]
  fuzz             all fuzz targets, or those named, one after the other; writes docs/results/fuzz.md
                   [TARGET...] [--seconds 600: for each] [--built: as built by an earlier run]
  sweep            simulator seeds that no run has visited before, on all cores; writes docs/results/sweep.md
                   [--pairs 4000] [--pools 12000] [--sites 4000] [--from: first seed, else the day's] [--jobs: processes at a time]
                   [--built: as built by an earlier run]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let root = root();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["tidy"] => report("tidy", &[tidy::check(&root), dag::check(&root)].concat()),
        ["tidy", "--figures"] => {
            println!("{}", tidy::figures(&root));
            ExitCode::SUCCESS
        }
        ["dag"] => report("dag", &dag::check(&root)),
        ["bench", "register", rest @ ..] => done("bench", bench::register(&root, rest)),
        ["bench", "message", rest @ ..] => done("bench", bench::relay(&root, "message", rest)),
        ["bench", "call", rest @ ..] => done("bench", bench::relay(&root, "call", rest)),
        ["bench", "instructions", rest @ ..] => done("bench", bench::instructions(&root, rest)),
        ["bench", "lag", rest @ ..] => done("bench", bench::lag(&root, rest)),
        ["bench", "seed", rest @ ..] => done("bench", bench::seed(&root, rest)),
        ["bench", "enumeration", rest @ ..] => done("bench", bench::enumeration(&root, rest)),
        ["bench", "overload", rest @ ..] => done("bench", bench::overload(&root, rest)),
        ["bench", "soak", rest @ ..] => done("bench", bench::soak(&root, rest)),
        ["bench", "pool", rest @ ..] => done("bench", bench::pool(&root, rest)),
        ["bench", "avalanche", rest @ ..] => done("bench", bench::avalanche(&root, rest)),
        ["sweep", rest @ ..] => done("sweep", sweep::run(&root, rest)),
        ["fuzz", rest @ ..] => done("fuzz", fuzz::run(&root, rest)),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// The workspace's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

fn done(name: &str, result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn report(name: &str, findings: &[String]) -> ExitCode {
    if findings.is_empty() {
        println!("{name}: clean");
        return ExitCode::SUCCESS;
    }
    for finding in findings {
        println!("{name}: {finding}");
    }
    println!("{name}: {} findings", findings.len());
    ExitCode::FAILURE
}
