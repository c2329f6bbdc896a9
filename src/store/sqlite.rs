//! SQLite, the embedded default: one writer and a few readers on one file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::{AnsiTransactionManager, Connection, SimpleConnection};
use diesel::{ConnectionError, QueryResult, SqliteConnection};
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_async::pooled_connection::RecyclingMethod;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use super::codes::{Explain, Meaning, known};
use super::connections::{PoolsOf, connections, lock_wait};
use super::dialect::Sqlite;
use super::endpoint::Endpoint;
use super::error::StoreError;
use super::gate::Gate;
use super::migrate::Migrate;
use super::pool::Pools;
use super::session::{self, Mode, session};
use crate::config::StoreOptions;

pub(super) type Async = SyncConnectionWrapper<SqliteConnection>;

/// Fails if the file does not exist, because connecting would create it.
pub(super) fn check(path: &str) -> Result<(), StoreError> {
    if Path::new(path).exists() {
        return Ok(());
    }
    Err(StoreError::Unavailable(format!(
        "there is no file '{path}'; `likewise serve` and `likewise migrate` make one, in the \
         folder that they run in"
    )))
}

/// Creates pools that open the file when they are used, once the gate is open.
pub(super) fn open(
    path: &str,
    options: &StoreOptions,
    gate: &Arc<Gate>,
) -> Result<PoolsOf<Async>, StoreError> {
    let lock_wait = lock_wait(options.timeout);
    let opened = |size| {
        let establish = move |path: String| async move {
            let open = tokio::task::spawn_blocking(move || open_file(&path, lock_wait));
            let connection = open
                .await
                .map_err(|error| ConnectionError::BadConnection(error.to_string()))??;
            Ok(SyncConnectionWrapper::new(connection))
        };
        connections(
            path,
            size,
            options.timeout,
            RecyclingMethod::Fast,
            establish,
        )
    };
    let readers = opened(options.max_connections)?;
    // Two writers at once could fail each other's transactions, so they queue for one connection.
    let writer = opened(1)?;
    Ok(Pools::new(readers, writer, gate, false))
}

/// How long a migration waits for another process to release the file, before it tries again.
const MIGRATION_LOCK_WAIT: Duration = Duration::from_secs(5);

/// Opens the file. `lock_wait` limits how long a connection waits for another process to release it.
fn open_file(path: &str, lock_wait: Duration) -> Result<SqliteConnection, ConnectionError> {
    let mut connection = SqliteConnection::establish(path)?;
    // In WAL mode readers and the writer do not block each other. FULL flushes each commit to the disk before it
    // returns; the likes of a batch share one commit.
    connection
        .batch_execute(&format!(
            "PRAGMA busy_timeout = {}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
             PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -65536; \
             PRAGMA wal_autocheckpoint = 4000;",
            lock_wait.as_millis()
        ))
        .map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

impl Explain for Async {
    async fn explain(&mut self, error: diesel::result::Error) -> StoreError {
        known(error).unwrap_or_else(|info| Meaning::of_sqlite(info.message()).error(info.message()))
    }
}

async fn begin(connection: &mut Async, mode: Mode) -> QueryResult<()> {
    match mode {
        Mode::Write => {
            let begin = |connection: &mut SqliteConnection| {
                AnsiTransactionManager::begin_transaction_sql(connection, "BEGIN IMMEDIATE")
            };
            connection.spawn_blocking(begin).await
        }
        // A deferred transaction in WAL mode reads from one snapshot.
        Mode::Snapshot => session::begin(connection).await,
    }
}

session!(Async, Sqlite, begin);

impl Migrate for Async {
    const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
    const LEASE_TABLE: &'static str = "CREATE TABLE IF NOT EXISTS schema_lease (\
        name TEXT NOT NULL PRIMARY KEY, holder TEXT NOT NULL, epoch BIGINT NOT NULL, \
        expires_at TIMESTAMP NOT NULL) WITHOUT ROWID";
    const TRANSACTIONAL: bool = true;
    type Blocking = AsyncConnectionWrapper<Self>;

    /// Opens the file, and creates it if it does not exist.
    async fn connect(endpoint: &Endpoint) -> Result<Self, StoreError> {
        let path = &endpoint.url;
        let file = path.to_owned();
        let opened =
            tokio::task::spawn_blocking(move || open_file(&file, MIGRATION_LOCK_WAIT)).await;
        match opened.map_err(|error| StoreError::Unavailable(error.to_string()))? {
            Ok(connection) => Ok(SyncConnectionWrapper::new(connection)),
            Err(error) => Err(match StoreError::from(error) {
                // Another process is switching to WAL mode.
                busy @ StoreError::Busy(_) => busy,
                error => {
                    StoreError::Misconfigured(format!("cannot open the file '{path}': {error}"))
                }
            }),
        }
    }
}
