//! The command line, a file for each subcommand.

mod load;
mod migrate;
mod serve;
mod verify;
