//! One suite for every database: what `Store` promises, each promise on a database of its own.

mod audit_and_prune;
mod behavior_counts;
mod bulk_rows;
mod cancelled_calls;
mod fixture;
mod idempotency;
mod imports;
mod ledger;
mod lists;
mod migrations;
mod moderation;
mod operator_queries;
mod quarantine;
mod query_plans;
mod reads;
mod reconnects;
mod record;
mod record_and_sync;
mod repeated_likes;
mod sync;
mod verify;
