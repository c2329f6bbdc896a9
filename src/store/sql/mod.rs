//! The store over SQL, written once. Diesel's types differ for each backend, so the code is in macros
//! that are checked for each of them; what they say differently is asked of the dialect.

mod migrations;
mod server;

pub(super) use migrations::sql_migrations;
pub(super) use server::sql_server;

/// What the macro's code and the files that use it need.
pub(super) mod prelude {
    pub(in crate::store) use std::collections::BTreeSet;
    pub(in crate::store) use std::sync::Arc;
    pub(in crate::store) use std::time::Duration;

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

    pub(in crate::store) use crate::store::codes::{Explain, Meaning, explained, known};
    pub(in crate::store) use crate::store::error::StoreError;
    pub(in crate::store) use crate::store::gate::Gate;
    pub(in crate::store) use crate::store::migrate::{
        LeaseLost, LeaseStatements, MigrationLease, Target, lost, migration_error,
    };
    pub(in crate::store) use crate::store::pool::{Pools, connections, lock_wait};
    pub(in crate::store) use crate::store::rows::{LeaseRow, lease_params};
    pub(in crate::store) use crate::store::schema::Schema;
    pub(in crate::store) use crate::store::session::{IdRow, Param, Query, Statement};
    pub(in crate::store) use crate::store::sql::{sql_migrations, sql_server};
    pub(in crate::store) use crate::store::{StoreFuture, StoreOptions};
}
