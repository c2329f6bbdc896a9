//! Parses the arguments, runs the subcommand and returns its exit code.

use std::process::ExitCode;

use likewise::cli::Cli;
use likewise::{telemetry, tls};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::from_arguments();
    telemetry::init_logging(cli.log_format());
    telemetry::log_panics();
    tls::install();
    cli.run()
}
