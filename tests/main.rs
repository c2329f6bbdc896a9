//! The promises, tested from outside: each test starts the program itself, in a folder of its own, and
//! talks to it as its users and operators do. `promises/` has one file for each promise, `web/` mirrors
//! the URLs, `cli/` the subcommands, and `support/` is what they all stand on.
//!
//! `LIKEWISE_TEST_SEED=...` repeats what a failed test has drawn; it prints the number.

#[macro_use]
mod support;

mod cache;
mod cli;
mod docs;
mod nats;
mod promises;
mod simulation;
mod store;
mod web;
