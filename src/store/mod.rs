//! The database: behaviors, ledger and read models behind one boundary, whatever runs beneath.
//!
//! Actors, readers and the command line call [`Store`]; [`connect`] picks the database from its URL.
//! Each operation has a file that is named after it, with its SQL; `session.rs` tells how such a file is made, and
//! `dialect.rs` what differs between databases.

mod audit;
mod claim;
mod clock;
mod codes;
mod comparisons;
mod dialect;
mod discrepancy;
mod error;
mod fail;
mod gate;
mod history;
mod idempotency;
mod idempotency_rows;
mod lists;
mod migrate;
mod mysql;
mod operations;
mod operations_rows;
mod pool;
mod postgres;
mod postgres_tap;
mod read_models;
mod reader;
mod reads;
mod record;
mod repair;
mod retention;
mod rows;
mod schema;
mod session;
mod sql;
mod sqlite;
mod statements;
mod sync;
mod verify;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::{AsyncMysqlConnection, AsyncPgConnection};
use uuid::Uuid;

pub use crate::domain::Lease;
pub use audit::{Chunk, Pass, Position, Sizes};
pub use claim::Claimed;
pub use discrepancy::{Discrepancy, Finding, Subject};
pub use error::StoreError;
pub use fail::FailedAttempt;
pub use gate::{Gate, Waiting};
pub use idempotency::{IdempotencyKeys, StoredResponse};
pub use lists::{Cursor, Lists};

pub use operations::{
    BehaviorEntry, ErrorCount, EventRecord, HistoryEntry, Intervention, InterventionKind,
    JOB_LIMIT, Job, JobReport, JobStep, LedgerEntry, LedgerFilter, LedgerHealth, LedgerPage,
    NewJob, Operations, QuarantineEntry, is_storable,
};
pub use reader::Reader;
pub use reads::Found;
pub use record::Recorded;
pub use repair::Repaired;
pub use retention::{ArchivedBehavior, Prunable};
pub use statements::Sample;
pub use sync::Settled;
pub use verify::{Check, Difference, Journaled, Verification};

use self::dialect::Dialect;
use self::pool::{Condition, Pools, read, transact};
use crate::config::StoreOptions;
use crate::domain::{DatabaseClock, Status};

/// What every method of [`Store`] answers with.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A message that is no event, kept with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinedEvent {
    /// Its identity: the same message is quarantined once.
    pub id: Uuid,
    /// Its place in the stream.
    pub stream_sequence: i64,
    /// The subject it was published on.
    pub subject: String,
    /// Its header `Nats-Msg-Id`.
    pub message_id: Option<String>,
    /// Why it is no event.
    pub reason: String,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// When it was put here.
    pub created_at: DateTime<Utc>,
}

/// The database.
pub struct Store {
    backend: Backend,
    clock: Arc<DatabaseClock>,
    timeout: Duration,
    old: Box<dyn OldStore>,
}

/// The pools of the database that is in use.
enum Backend {
    Sqlite(Pools<AsyncDieselConnectionManager<sqlite::Async>>),
    Mysql(Pools<AsyncDieselConnectionManager<AsyncMysqlConnection>>),
    Postgres(Pools<AsyncDieselConnectionManager<AsyncPgConnection>>),
}

impl Store {
    fn new(backend: Backend, timeout: Duration) -> Self {
        let clock = Arc::default();
        let old: Box<dyn OldStore> = match &backend {
            Backend::Sqlite(pools) => Box::new(sqlite::SqliteStore::new(pools, &clock, timeout)),
            Backend::Mysql(pools) => Box::new(mysql::MysqlStore::new(pools, &clock, timeout)),
            Backend::Postgres(pools) => {
                Box::new(postgres::PostgresStore::new(pools, &clock, timeout))
            }
        };
        Self {
            backend,
            clock,
            timeout,
            old,
        }
    }

    /// Returns the name of the database's kind, for people.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match &self.backend {
            Backend::Sqlite(_) => "SQLite",
            Backend::Mysql(_) => "MySQL",
            Backend::Postgres(_) => "PostgreSQL",
        }
    }

    fn dialect(&self) -> &'static dyn Dialect {
        match &self.backend {
            Backend::Sqlite(_) => &dialect::Sqlite,
            Backend::Mysql(_) => &dialect::Mysql,
            Backend::Postgres(_) => &dialect::Postgres,
        }
    }

    /// Returns the statements whose cost must not follow the size of the tables, each with a name, with their
    /// parameters in the text, for the database to explain.
    #[must_use]
    pub fn bounded_statements(&self, sample: &Sample) -> Vec<(String, String)> {
        let mut all = self.old.bounded_statements(sample);
        all.extend(audit::bounded(self.dialect(), sample));
        all.push(retention::bounded(self.dialect(), sample));
        all
    }

    /// What all connections share.
    fn condition(&self) -> &Condition {
        match &self.backend {
            Backend::Sqlite(pools) => &pools.condition,
            Backend::Mysql(pools) => &pools.condition,
            Backend::Postgres(pools) => &pools.condition,
        }
    }

    /// Takes note of how it went with a transaction that writes.
    fn wrote<T>(&self, outcome: &Result<T, StoreError>) {
        self.condition().wrote(outcome, self.now());
    }
}

/// Operations that have not moved into files of their own yet.
impl std::ops::Deref for Store {
    type Target = dyn OldStore;

    fn deref(&self) -> &Self::Target {
        &*self.old
    }
}

/// The operations that have not moved into files of their own yet: see `session.rs` for how to move one.
pub trait OldStore: Operations + Lists + IdempotencyKeys {
    /// Returns the database's time as this process knows it: the time for leases and for when rows are due.
    fn now(&self) -> DateTime<Utc>;

    /// Keeps messages that are no events; those that are kept already stay as they are.
    fn quarantine<'a>(&'a self, events: &'a [QuarantinedEvent]) -> StoreFuture<'a, ()>;

    /// The messages that were quarantined last, newest first.
    fn quarantined(&self, limit: usize) -> StoreFuture<'_, Vec<QuarantinedEvent>>;

    /// How many ledger rows have not come to their end.
    fn open_rows(&self) -> StoreFuture<'_, i64>;

    /// How many ledger rows have each status. A status that no row has is absent.
    fn ledger_summary(&self) -> StoreFuture<'_, BTreeMap<Status, i64>>;

    /// The statements whose cost must not follow the size of the tables, each with a name, spelled out so that
    /// the database can explain how it carries them out.
    fn bounded_statements(&self, sample: &Sample) -> Vec<(String, String)>;
}

/// Connects to the database that the URL names. Its tables must be up to date: see [`migrate`].
///
/// # Errors
/// If the URL names no database that Likewise runs on, there is none, or its tables lack a migration.
pub async fn connect(options: &StoreOptions) -> Result<Arc<Store>, StoreError> {
    if let Scheme::Sqlite(path) = scheme(&options.url)? {
        sqlite::check(path)?;
    }
    let lacking = target(options)?.pending().await?;
    if let Some(first) = lacking.first() {
        return Err(StoreError::Migration(format!(
            "the tables lack {} migrations of this version, the first is {first}; run `likewise migrate`",
            lacking.len()
        )));
    }
    let store = open(options, &Arc::new(Gate::opened()))?;
    store.ping().await?;
    Ok(store)
}

/// A store that connects when it is used, and that nobody can use before the gate is open.
///
/// # Errors
/// If the URL names no database that Likewise runs on.
pub fn open(options: &StoreOptions, gate: &Arc<Gate>) -> Result<Arc<Store>, StoreError> {
    let backend = match scheme(&options.url)? {
        Scheme::Sqlite(path) => Backend::Sqlite(sqlite::open(path, options, gate)?),
        Scheme::Mysql => Backend::Mysql(mysql::open(options, gate)?),
        Scheme::Postgres => Backend::Postgres(postgres::open(options, gate)?),
    };
    Ok(Arc::new(Store::new(backend, options.timeout)))
}

/// Brings the database's tables up to date; answers the names of the migrations that this ran. Waits while
/// another process migrates.
///
/// # Errors
/// If the URL names no database that Likewise runs on, or the database cannot be reached or migrated.
pub async fn migrate(options: &StoreOptions) -> Result<Vec<String>, StoreError> {
    let target = target(options)?;
    migrate::run(target.as_ref(), &options.url_without_password(), None).await
}

/// As [`migrate`], and waits for a database that cannot be reached. Opens the gate once the tables are up to
/// date.
///
/// # Errors
/// If the URL or the credentials are wrong, or a migration fails.
pub async fn migrate_when_reachable(options: &StoreOptions, gate: &Gate) -> Result<(), StoreError> {
    let target = target(options)?;
    let url = options.url_without_password();
    migrate::run(target.as_ref(), &url, Some(gate)).await?;
    gate.open();
    Ok(())
}

fn target(options: &StoreOptions) -> Result<Box<dyn migrate::Target>, StoreError> {
    let (url, timeout) = (&options.url, options.timeout);
    Ok(match scheme(url)? {
        Scheme::Sqlite(path) => Box::new(sqlite::Migrations::of(path, timeout)),
        Scheme::Mysql => Box::new(mysql::Migrations::of(url, timeout)),
        Scheme::Postgres => Box::new(postgres::Migrations::of(url, timeout)),
    })
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
