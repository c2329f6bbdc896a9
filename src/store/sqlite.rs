//! SQLite, the embedded default: one writer and a few readers on one file.

use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::{Connection, ConnectionError, SqliteConnection};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::dialect::Sqlite;
use super::sql::prelude::*;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

type Async = SyncConnectionWrapper<SqliteConnection>;

/// Connects to a file that is there.
pub(super) fn connect(path: &str, options: &StoreOptions) -> Result<SqliteStore, StoreError> {
    if !Path::new(path).exists() {
        return Err(StoreError::Unavailable(format!(
            "there is no file '{path}'; `likewise serve` and `likewise migrate` make one, in the \
             folder that they run in"
        )));
    }
    let lock_wait = lock_wait(options.timeout);
    let connections = |size| {
        let mut config = ManagerConfig::default();
        config.recycling_method = RecyclingMethod::Fast;
        config.custom_setup = Box::new(move |path| {
            let path = path.to_owned();
            Box::pin(async move {
                let open = tokio::task::spawn_blocking(move || open(&path, lock_wait));
                let connection = open
                    .await
                    .map_err(|error| ConnectionError::BadConnection(error.to_string()))??;
                Ok(SyncConnectionWrapper::new(connection))
            })
        });
        pool(
            AsyncDieselConnectionManager::new_with_config(path, config),
            size,
            options.timeout,
        )
    };
    let readers = connections(options.max_connections)?;
    // One writer: of two transactions that meet half-way one would fail, so that they queue here.
    Ok(SqliteStore::new(readers, connections(1)?, options.timeout))
}

/// Brings the file's tables up to date, and makes it if it is not there; answers the names of the migrations that this ran.
pub(super) async fn migrate(path: &str, timeout: Duration) -> Result<Vec<String>, StoreError> {
    let path = path.to_owned();
    let migrate = tokio::task::spawn_blocking(move || {
        let mut connection = open(&path, lock_wait(timeout)).map_err(|error| {
            StoreError::Unavailable(format!("cannot open the file '{path}': {error}"))
        })?;
        connection
            .run_pending_migrations(MIGRATIONS)
            .map(|ran| ran.iter().map(ToString::to_string).collect())
            .map_err(|error| StoreError::Migration(error.to_string()))
    });
    migrate
        .await
        .map_err(|error| StoreError::Migration(error.to_string()))?
}

/// Opens the file; `lock_wait` bounds how long one connection waits for another process to release it.
fn open(path: &str, lock_wait: Duration) -> Result<SqliteConnection, ConnectionError> {
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

sql_store!(SqliteStore, Async, Sqlite, immediate_transaction, "SQLite");
