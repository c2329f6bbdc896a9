//! Parses the arguments, runs the subcommand and returns its exit code.

use std::process::ExitCode;

use clap::Parser;
use likewise::cli::Cli;
use likewise::telemetry;

fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::init_logging();
    telemetry::log_panics();
    cli.run()
}
