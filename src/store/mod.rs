//! The database: behaviors, ledger and read models behind one boundary, the same for SQLite, MySQL and PostgreSQL.
//!
//! Actors, readers and the command line call [`Store`]; [`connect`] picks the database from its URL. Each operation has a
//! file that is named after it, with its SQL. `session.rs` explains how to write such a file, and `dialect/` holds the
//! differences between databases.

mod audit;
mod behavior_counts;
mod bounded;
mod claim;
mod clock;
mod codes;
mod comparisons;
mod condition;
mod connections;
mod deployment;
mod deployment_history;
mod dialect;
mod discrepancy;
mod endpoint;
mod entries;
mod erase;
mod erasures;
mod error;
mod event_record;
mod examined;
mod export;
mod fail;
mod gate;
mod history;
mod idempotency;
mod ids;
mod import_records;
mod imports;
mod interventions;
mod job_claims;
mod job_snapshots;
mod jobs;
mod lease;
mod ledger;
mod ledger_filter;
mod ledger_row;
mod like_counts;
mod lists;
mod migrate;
mod moderation;
mod mysql;
mod operation_queue;
mod operations;
mod outbox;
mod pair_row;
mod pair_states;
mod pool;
mod postgres;
mod postgres_tap;
mod processes;
mod quarantine;
mod quarantine_filter;
mod reader;
mod reads;
mod record;
mod record_and_sync;
mod repair;
mod retention;
mod sample;
mod schema;
mod search;
mod session;
mod source_table;
mod sqlite;
mod statement;
mod sync;
mod text;
mod time;
mod transact;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use diesel_async::{AsyncMysqlConnection, AsyncPgConnection};

pub use crate::domain::Lease;
pub use audit::{Chunk, Pass, Position, Sizes};
pub use claim::Claimed;
pub use deployment_history::{DeploymentCounts, HistoryRow, ProcessCounts};
pub use discrepancy::{Discrepancy, Finding, Subject};
pub use entries::{Loaded, Wanted};
pub use erase::{Erased, Sweep, Swept};
pub use erasures::{Erasure, Erasures};
pub use error::StoreError;
pub use event_record::{BehaviorEntry, EventRecord, HistoryEntry};
pub use export::{ExportCursor, ExportPage};
pub use fail::FailedAttempt;
pub use gate::{Gate, Waiting};
pub use idempotency::StoredResponse;
pub use import_records::{BegunImport, ImportRecord, NewImport};
pub use imports::{ImportChunk, Imported};
pub use interventions::{Intervention, InterventionKind};
pub use job_claims::{JobReport, JobStep, RowChange};
pub use job_snapshots::{JOB_LIMIT, JobRows};
pub use jobs::{Job, NewJob};
pub use lease::RowLease;
pub use ledger::{ErrorCount, LedgerCounts, LedgerEntry, LedgerHealth};
pub use ledger_filter::{LedgerFilter, is_storable};
pub use lists::Cursor;
pub use moderation::{Decision, LikesOf, Moderated};
pub use operation_queue::OperationQueue;
pub use operations::{Operation, OperationFilter};
pub use outbox::{
    Backlog, DeadLetter, DeadLetterAction, DeadLetterFilter, FailedDelivery, OutboxRow,
    ReceiverTotals,
};
pub use processes::{ProcessRecord, process_name};
pub use quarantine::{QuarantineEntry, QuarantinedEvent};
pub use quarantine_filter::QuarantineFilter;
pub use reader::Reader;
pub use reads::Found;
pub use record::Recorded;
pub use record_and_sync::RecordedAndSynced;
pub use repair::Repaired;
pub use retention::{ArchivedBehavior, Prunable};
pub use sample::Sample;
pub use search::LedgerPage;
pub use source_table::{SourceColumn, SourceColumns, SourceRow, SourceTable};
pub use sync::Settled;
pub use verify::{Check, Difference, Journaled, Verification};

use self::condition::Condition;
use self::connections::{PoolsOf, open_server};
use self::dialect::Dialect;
use self::endpoint::Endpoint;
use self::like_counts::KnownCounts;
use self::migrate::Migrations;
use self::schema::Schema;
use self::transact::{read, transact, transact_owned};
use crate::config::StoreOptions;
use crate::domain::{DatabaseClock, IdKinds, ResourceTypes};
use crate::telemetry::PoolUse;

/// The database.
pub struct Store {
    backend: Backend,
    schema: &'static Schema,
    clock: Arc<DatabaseClock>,
    erasures: Arc<Erasures>,
    known_counts: Arc<KnownCounts>,
    timeout: Duration,
    /// The receivers of facts.
    fact_receivers: Arc<[String]>,
}

/// The pools of the database that is in use.
enum Backend {
    Sqlite(PoolsOf<sqlite::Async>),
    Mysql(PoolsOf<AsyncMysqlConnection>),
    Postgres(PoolsOf<AsyncPgConnection>),
}

impl Store {
    fn new(backend: Backend, schema: &'static Schema, options: &StoreOptions) -> Self {
        Self {
            backend,
            schema,
            clock: Arc::default(),
            erasures: Arc::default(),
            known_counts: Arc::default(),
            timeout: options.timeout,
            fact_receivers: options.fact_receivers.as_slice().into(),
        }
    }

    /// Returns the name of the database's kind, for people.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.schema.name()
    }

    /// Returns the resource types of the deployment.
    #[must_use]
    pub const fn resource_types(&self) -> &ResourceTypes {
        self.schema.resource_types()
    }

    /// Returns the kinds of the deployment's ids.
    #[must_use]
    pub const fn id_kinds(&self) -> IdKinds {
        self.schema.kinds()
    }

    /// Returns the names of the receivers of facts.
    #[must_use]
    pub fn fact_receivers(&self) -> &[String] {
        &self.fact_receivers
    }

    /// Returns the condition that all connections share.
    fn condition(&self) -> &Condition {
        match &self.backend {
            Backend::Sqlite(pools) => &pools.condition,
            Backend::Mysql(pools) => &pools.condition,
            Backend::Postgres(pools) => &pools.condition,
        }
    }

    /// Returns the use of the pools of connections: one on a server, two on SQLite.
    #[must_use]
    pub fn pools(&self) -> Vec<PoolUse> {
        match &self.backend {
            Backend::Sqlite(pools) => pools.used(),
            Backend::Mysql(pools) => pools.used(),
            Backend::Postgres(pools) => pools.used(),
        }
    }

    /// Reports the outcome of a transaction that writes.
    fn wrote<T>(&self, outcome: &Result<T, StoreError>) {
        self.condition().wrote(outcome, self.now());
    }
}

/// Connects to the database that the URL names, and measures its clock. Its tables must be up to date: see [`migrate`].
///
/// # Errors
/// If Likewise does not support the database of the URL, the database does not exist, or its tables lack a migration.
pub async fn connect(options: &StoreOptions) -> Result<Arc<Store>, StoreError> {
    if let Scheme::Sqlite(path) = scheme(&options.url)? {
        sqlite::check(path)?;
    }
    let lacking = pending_migrations(options).await?;
    if let Some(first) = lacking.first() {
        return Err(StoreError::Migration(format!(
            "the tables lack {} migrations of this version, the first is {first}; run `likewise migrate`",
            lacking.len()
        )));
    }
    let store = open(options, &Arc::new(Gate::opened()))?;
    store.ping().await?;
    store.measure_clock().await?;
    Ok(store)
}

/// Creates a store that connects when it is used. It lends no connection before the gate is open.
///
/// # Errors
/// If Likewise does not support the database of the URL.
pub fn open(options: &StoreOptions, gate: &Arc<Gate>) -> Result<Arc<Store>, StoreError> {
    let schema = schema(options)?;
    let backend = match scheme(&options.url)? {
        Scheme::Sqlite(path) => Backend::Sqlite(sqlite::open(path, schema, options, gate)?),
        Scheme::Mysql => Backend::Mysql(open_server(schema, options, gate, mysql::establish)?),
        Scheme::Postgres => {
            Backend::Postgres(open_server(schema, options, gate, postgres::establish)?)
        }
    };
    Ok(Arc::new(Store::new(backend, schema, options)))
}

/// Brings the database's tables up to date, and returns the names of the migrations that it ran. Waits while another
/// process migrates.
///
/// # Errors
/// If Likewise does not support the database of the URL, or the database cannot be reached or migrated.
pub async fn migrate(options: &StoreOptions) -> Result<Vec<String>, StoreError> {
    run_migrations(options, None).await
}

/// Migrates as [`migrate`] does, and waits for an unreachable database. Opens the gate when the tables are up to date.
///
/// # Errors
/// If the URL or the credentials are wrong, or a migration fails.
pub async fn migrate_when_reachable(options: &StoreOptions, gate: &Gate) -> Result<(), StoreError> {
    run_migrations(options, Some(gate)).await?;
    gate.open();
    Ok(())
}

/// Whether the database can be reached and used. Changes nothing. Its tables may lack, and so may the file of SQLite.
///
/// # Errors
/// If it cannot be reached, or refuses the connection.
pub async fn reach(options: &StoreOptions) -> Result<(), StoreError> {
    match scheme(&options.url)? {
        Scheme::Sqlite(path) if sqlite::check(path).is_err() => Ok(()),
        _ => pending_migrations(options).await.map(drop),
    }
}

/// Runs `$work` on the migrations of the database that the options name.
macro_rules! on_migrations {
    ($options:expr, |$migrations:ident| $work:expr) => {{
        let (options, schema) = ($options, schema($options)?);
        match scheme(&options.url)? {
            Scheme::Sqlite(path) => {
                let file = Endpoint::file(path);
                let $migrations = Migrations::<sqlite::Async>::new(file, schema, options.timeout);
                $work.await
            }
            Scheme::Mysql => {
                let server = Endpoint::server(options);
                let $migrations =
                    Migrations::<AsyncMysqlConnection>::new(server, schema, options.timeout);
                $work.await
            }
            Scheme::Postgres => {
                let server = Endpoint::server(options);
                let $migrations =
                    Migrations::<AsyncPgConnection>::new(server, schema, options.timeout);
                $work.await
            }
        }
    }};
}

/// Returns the names of the migrations that the tables lack.
async fn pending_migrations(options: &StoreOptions) -> Result<Vec<String>, StoreError> {
    on_migrations!(options, |migrations| migrations.pending())
}

async fn run_migrations(
    options: &StoreOptions,
    gate: Option<&Gate>,
) -> Result<Vec<String>, StoreError> {
    let name = options.url_without_password();
    on_migrations!(options, |migrations| migrate::run(&migrations, &name, gate))
}

/// Returns the schema of the deployment that the options name.
fn schema(options: &StoreOptions) -> Result<&'static Schema, StoreError> {
    let dialect: &'static dyn Dialect = match scheme(&options.url)? {
        Scheme::Sqlite(_) => &dialect::Sqlite,
        Scheme::Mysql => &dialect::Mysql,
        Scheme::Postgres => &dialect::Postgres,
    };
    Ok(Schema::of(
        dialect,
        &options.table_prefix,
        &options.resource_types,
        options.id_kinds,
    ))
}

enum Scheme<'a> {
    Sqlite(&'a str),
    Mysql,
    Postgres,
}

fn scheme(url: &str) -> Result<Scheme<'_>, StoreError> {
    match url.split_once("://") {
        Some(("sqlite", path)) if !path.is_empty() => Ok(Scheme::Sqlite(path)),
        Some(("mysql", _)) => Ok(Scheme::Mysql),
        Some(("postgres" | "postgresql", _)) => Ok(Scheme::Postgres),
        _ => Err(StoreError::Url(
            url.split_once("://")
                .map_or(url, |(scheme, _)| scheme)
                .to_owned(),
        )),
    }
}
