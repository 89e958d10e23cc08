//! The project's own chores: `tidy` (house rules as a ratchet), `dag` (dependencies against `docs/dag.toml`) and `bench`
//! (side-by-side measurements).
//!
//! Owns the rules that a machine can check and the benchmark drivers. Contains nothing that the product needs at run time.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod bench;
mod dag;
mod tidy;

const USAGE: &str = "usage: cargo xtask <command>

  tidy             check the house rules (budgets, words, architecture, dependency graph)
  tidy --figures   print sizes of files and functions
  dag              compare the real dependencies with docs/dag.toml
  bench register   REGISTER refresh, Pairline beside Kamailio; writes docs/results/register.md";

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
        ["bench", "register", rest @ ..] => match bench::register(&root, rest) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("bench: {error}");
                ExitCode::FAILURE
            }
        },
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
