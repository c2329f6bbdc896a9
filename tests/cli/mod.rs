//! The command line, a file for each subcommand.

mod actors;
mod audit_rebuild_prune;
mod bench;
mod config;
mod help;
mod import;
mod load;
mod log_format;
mod migrate;
mod serve;
mod setup_differences;
mod top;
mod verify;
