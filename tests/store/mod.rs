//! One suite for every database: what `Store` promises, each promise on a database of its own.

mod bench;
mod bulk;
mod connections;
mod idempotency;
mod ledger;
mod lists;
mod maintenance;
mod migrations;
mod moderation;
mod operations;
mod plans;
mod quarantine;
mod reading;
mod record;
mod repeats;
mod sync;
mod verify;
