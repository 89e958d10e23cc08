//! The `pairline` binary: hands over to the command line. Owns nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    pairline_server::cli::main()
}
