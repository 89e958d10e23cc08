//! The `pairline` binary: hands over to the command line. Owns nothing else.

use std::process::ExitCode;

/// The system's allocator takes a quarter of a registration's processor time, and more memory for it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pairline_server::cli::main()
}
