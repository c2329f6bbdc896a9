//! SQLite, the embedded default: one writer and a few readers on one file.

use std::path::Path;

use diesel::connection::{AnsiTransactionManager, SimpleConnection};
use diesel::{ConnectionError, QueryResult, SqliteConnection};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

use super::dialect::Sqlite;
use super::session::{self, Mode, session};
use super::sql::prelude::*;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

pub(super) type Async = SyncConnectionWrapper<SqliteConnection>;

/// Of the lease of migrations.
const LEASE_TABLE: &str = "CREATE TABLE IF NOT EXISTS likewise_schema_lease (\
    name TEXT NOT NULL PRIMARY KEY, holder TEXT NOT NULL, epoch BIGINT NOT NULL, \
    expires_at TIMESTAMP NOT NULL) WITHOUT ROWID";

/// Fails if there is no such file: to connect to it would make one.
pub(super) fn check(path: &str) -> Result<(), StoreError> {
    if Path::new(path).exists() {
        return Ok(());
    }
    Err(StoreError::Unavailable(format!(
        "there is no file '{path}'; `likewise serve` and `likewise migrate` make one, in the \
         folder that they run in"
    )))
}

/// Pools that open the file when they are used, once the gate is open.
pub(super) fn open(
    path: &str,
    schema: &'static Schema,
    options: &StoreOptions,
    gate: &Arc<Gate>,
) -> Result<Pools<AsyncDieselConnectionManager<Async>>, StoreError> {
    let lock_wait = lock_wait(options.timeout);
    let opened = |size| {
        let mut config = ManagerConfig::default();
        config.recycling_method = RecyclingMethod::Fast;
        config.custom_setup = Box::new(move |path| {
            let path = path.to_owned();
            Box::pin(async move {
                let open = tokio::task::spawn_blocking(move || open_file(&path, lock_wait));
                let connection = open
                    .await
                    .map_err(|error| ConnectionError::BadConnection(error.to_string()))??;
                Ok(SyncConnectionWrapper::new(connection))
            })
        });
        connections(
            AsyncDieselConnectionManager::new_with_config(path, config),
            size,
            options.timeout,
        )
    };
    let readers = opened(options.max_connections)?;
    // One writer: of two transactions that meet half-way one would fail, so that they queue here.
    let writer = opened(1)?;
    Ok(Pools::new(schema, readers, writer, gate, false))
}

/// How long a migration waits for another process to release the file, before it looks again.
const MIGRATION_LOCK_WAIT: Duration = Duration::from_secs(5);

/// Opens the file to migrate it, and makes it if it is not there.
async fn connect_to_migrate(path: &str) -> Result<Async, StoreError> {
    let path = path.to_owned();
    let opened =
        tokio::task::spawn_blocking(move || (open_file(&path, MIGRATION_LOCK_WAIT), path)).await;
    let (opened, path) = opened.map_err(|error| StoreError::Unavailable(error.to_string()))?;
    match opened {
        Ok(connection) => Ok(SyncConnectionWrapper::new(connection)),
        Err(error) => Err(match StoreError::from(error) {
            // Another process is turning WAL mode on.
            busy @ StoreError::Busy(_) => busy,
            error => StoreError::Misconfigured(format!("cannot open the file '{path}': {error}")),
        }),
    }
}

/// Opens the file; `lock_wait` bounds how long one connection waits for another process to release it.
fn open_file(path: &str, lock_wait: Duration) -> Result<SqliteConnection, ConnectionError> {
    let mut connection = SqliteConnection::establish(path)?;
    // Readers and the writer pass each other in WAL mode; FULL flushes each commit to the disk before
    // it is answered, which the group commit shares out among the likes of a batch.
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

session!(Async, begin);

type Blocking = AsyncConnectionWrapper<Async>;

sql_migrations!(Async, Sqlite, connect_to_migrate, true);
