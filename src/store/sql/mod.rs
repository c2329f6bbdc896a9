//! The store over SQL, written once. Diesel's types differ for each backend, so the code is in macros
//! that are checked for each of them; what they say differently is asked of the dialect.

mod idempotency;
mod lists;
mod migrations;
mod operations;
mod pipeline;
mod server;

pub(super) use idempotency::sql_idempotency;
pub(super) use lists::sql_lists;
pub(super) use migrations::sql_migrations;
pub(super) use operations::sql_operations;
pub(super) use pipeline::sql_store;
pub(super) use server::sql_server;

/// What the macro's code and the files that use it need.
pub(super) mod prelude {
    pub(in crate::store) use std::collections::{BTreeMap, BTreeSet};
    pub(in crate::store) use std::sync::Arc;
    pub(in crate::store) use std::time::Duration;

    pub(in crate::store) use chrono::{DateTime, Utc};
    pub(in crate::store) use diesel::migration::{Migration, MigrationSource};
    pub(in crate::store) use diesel::{Connection, QueryableByName};
    pub(in crate::store) use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
    pub(in crate::store) use diesel_async::pooled_connection::{
        AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
    };
    pub(in crate::store) use diesel_async::{
        AsyncConnection, AsyncConnectionCore, RunQueryDsl, SimpleAsyncConnection,
    };

    pub(in crate::store) use diesel_migrations::{
        EmbeddedMigrations, MigrationHarness, embed_migrations,
    };

    pub(in crate::store) use crate::domain::{
        DatabaseClock, JobKind, JobState, KeyedRequest, LedgerRow, LikeCount, Pair, Resource,
        ResourceType, Started, Status, UserId, Version, VersionedState,
    };
    pub(in crate::store) use crate::store::codes::{Explain, Meaning, Raised, explained, known};
    pub(in crate::store) use crate::store::error::StoreError;
    pub(in crate::store) use crate::store::gate::Gate;
    pub(in crate::store) use crate::store::idempotency::{IdempotencyKeys, StoredResponse};
    pub(in crate::store) use crate::store::idempotency_rows::KeptRow;
    pub(in crate::store) use crate::store::lists::{Cursor, Lists};
    pub(in crate::store) use crate::store::migrate::{
        LeaseLost, LeaseStatements, MigrationLease, Target, lost, migration_error,
    };
    pub(in crate::store) use crate::store::operations::{
        BehaviorEntry, ErrorCount, EventRecord, HistoryEntry, Intervention, InterventionKind,
        JOB_LIMIT, Job, JobReport, JobStep, LedgerEntry, LedgerFilter, LedgerHealth, LedgerPage,
        NewJob, QuarantineEntry,
    };
    pub(in crate::store) use crate::store::operations_rows::{
        BehaviorEntryRow, ErrorRow, HistoryRow, JobRow, LedgerEntryRow, MOST_ERRORS, MOST_HISTORY,
        MomentRow, PlaceRow, QuarantineEntryRow, intervention_columns,
    };
    pub(in crate::store) use crate::store::pool::{
        Pool, Pools, SEARCH_TIMEOUT, SNAPSHOT_TIMEOUT, connections, lock_wait, old_in_transaction,
        old_transact, within,
    };
    pub(in crate::store) use crate::store::read_models::{CountRow, StateRow};
    pub(in crate::store) use crate::store::rows::{
        EventRow, IdRow, LeaseRow, Param, QuarantinedRow, Query, TotalRow, id_text, lease_params,
        page_params, time_text, word,
    };
    pub(in crate::store) use crate::store::sql::{
        sql_idempotency, sql_lists, sql_migrations, sql_operations, sql_server, sql_store,
    };
    pub(in crate::store) use crate::store::statements::{COUNTED_EXACTLY, Statement, Statements};
    pub(in crate::store) use crate::store::{
        OldStore, Operations, QuarantinedEvent, Sample, StoreFuture, StoreOptions,
    };
}
