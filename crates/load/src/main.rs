//! The `pairline-load` command.
//!
//! Owns reading the command line and printing the report; the work is the library's.

use clap::Parser as _;
use pairline_load::args::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.common().json;
    match pairline_load::run::run(&cli) {
        Ok(report) => {
            if json {
                println!("{}", report.json());
            } else {
                print!("{report}");
            }
            if report.operations == 0 {
                eprintln!("pairline-load: no operation succeeded");
                return ExitCode::FAILURE;
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("pairline-load: {error}");
            ExitCode::from(2)
        }
    }
}
