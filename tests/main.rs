//! Tests the guarantees from outside: each test starts the program in a folder of its own, and uses it as users and
//! operators do. `promises/` has one file for each guarantee, `web/` mirrors the URLs, `cli/` the subcommands, and
//! `support/` has the shared tools.
//!
//! A failed test prints its seed; `LIKEWISE_TEST_SEED=...` repeats its random draws.

#[macro_use]
mod support;

mod cache;
mod cli;
mod docs;
mod facts;
mod live;
mod nats;
mod promises;
mod simulation;
mod store;
mod tls;
mod web;
