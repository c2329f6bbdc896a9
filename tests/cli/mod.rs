//! The command line, a file for each subcommand.

mod config;
mod help;
mod import;
mod load;
mod maintenance;
mod migrate;
mod processes;
mod serve;
mod verify;
