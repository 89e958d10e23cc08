//! The `pairline-load-https` command.
//!
//! Owns reading the command line and printing; the work is the library's.

use clap::Parser as _;
use pairline_load::https::args::{Cli, Work};
use pairline_load::https::{reading, requests, samples};
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match Cli::parse().work {
        Work::Requests(args) => requests::run(&args).map_err(|error| error.to_string()).and_then(|report| {
            println!("{}", serde_json::to_string(&report).map_err(|error| error.to_string())?);
            Ok(())
        }),
        Work::Read(args) => reading::run(&args, &mut std::io::stdout().lock()).map_err(|error| error.to_string()),
        Work::Samples(args) => samples::run(&args, &mut std::io::stdout().lock()).map_err(|error| error.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pairline-load-https: {error}");
            ExitCode::from(2)
        }
    }
}
