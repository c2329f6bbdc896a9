//! SQLite, the embedded default: one writer and a few readers on one file.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::Object;
use diesel::connection::{
    AnsiTransactionManager, Connection, SimpleConnection, TransactionManager,
};
use diesel::{ConnectionError, QueryResult, RunQueryDsl, SqliteConnection};
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::sync_connection_wrapper::{SpawnBlocking, SyncConnectionWrapper};
use futures_util::TryFutureExt;
use futures_util::future::BoxFuture;

use super::codes::{Explain, Meaning, explained, known};
use super::connections::{PoolsOf, connections, lock_wait};
use super::endpoint::Endpoint;
use super::error::StoreError;
use super::gate::Gate;
use super::migrate::{Migrate, Script, scripts};
use super::pool::Pools;
use super::schema::Schema;
use super::session::{self, Connected, Mode, Row, Session, session};
use super::statement::{Param, Query, Statement};
use crate::config::StoreOptions;

pub(super) type Async = SyncConnectionWrapper<SqliteConnection, Detached>;

/// Runs statements on the runtime's blocking threads. A statement whose caller has gone runs to its end by itself:
/// diesel-async's own way is to wait for it, which panics on a runtime of one thread, as each of ours is.
pub(super) struct Detached;

impl SpawnBlocking for Detached {
    fn spawn_blocking<'a, R: Send + 'static>(
        &mut self,
        task: impl FnOnce() -> R + Send + 'static,
    ) -> BoxFuture<'a, Result<R, Box<dyn Error + Send + Sync>>> {
        Box::pin(tokio::task::spawn_blocking(task).map_err(Box::from))
    }

    fn get_runtime() -> Self {
        Self
    }
}

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
    schema: &'static Schema,
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
        // An idle file stays open.
        connections(path, size, options.timeout, Duration::MAX, establish)
    };
    let readers = opened(options.max_connections)?;
    // Two writers at once could fail each other's transactions, so they queue for one connection.
    let writer = opened(1)?;
    Ok(Pools::new(schema, readers, writer, gate, false))
}

/// How long a migration waits for another process to release the file, before it tries again.
const MIGRATION_LOCK_WAIT: Duration = Duration::from_secs(5);

/// Opens the file. `lock_wait` limits how long a connection waits for another process to release it.
fn open_file(path: &str, lock_wait: Duration) -> Result<SqliteConnection, ConnectionError> {
    let mut connection = SqliteConnection::establish(path)?;
    // In WAL mode readers and the writer do not block each other. FULL flushes each commit to the disk before it
    // returns; the likes of a batch share one commit. A checkpoint every 64 MiB copies a page that many likes have changed
    // once.
    connection
        .batch_execute(&format!(
            "PRAGMA busy_timeout = {}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
             PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -65536; \
             PRAGMA wal_autocheckpoint = 16000;",
            lock_wait.as_millis()
        ))
        .map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

impl Explain for Async {
    async fn explain(&mut self, error: diesel::result::Error) -> StoreError {
        explain(error)
    }
}

impl Explain for SqliteConnection {
    async fn explain(&mut self, error: diesel::result::Error) -> StoreError {
        explain(error)
    }
}

fn explain(error: diesel::result::Error) -> StoreError {
    known(error).unwrap_or_else(|info| Meaning::of_sqlite(info.message()).error(info.message()))
}

async fn begin(connection: &mut Async, mode: Mode) -> QueryResult<()> {
    match mode {
        Mode::Write => connection.spawn_blocking(begin_immediate).await,
        // A deferred transaction in WAL mode reads from one snapshot.
        Mode::Snapshot => session::begin(connection).await,
    }
}

fn begin_immediate(connection: &mut SqliteConnection) -> QueryResult<()> {
    AnsiTransactionManager::begin_transaction_sql(connection, "BEGIN IMMEDIATE")
}

session!(Async, begin);

/// A connection within a blocking task. Each call is ready at once, so a whole transaction needs one task: with [`Async`],
/// each statement needs one of its own.
pub(super) struct Blocking<'a> {
    connection: &'a mut SqliteConnection,
    schema: &'static Schema,
}

impl Connected<Object<AsyncDieselConnectionManager<Async>>> {
    /// Runs work in one blocking task.
    pub(super) async fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Blocking<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let schema = self.schema;
        let done = self
            .connection
            .spawn_blocking(move |connection| Ok(work(&mut Blocking { connection, schema })));
        done.await.unwrap_or_else(|error| Err(explain(error)))
    }
}

impl<C> RunQueryDsl<C> for Query<'_> {}

impl Session for Blocking<'_> {
    fn schema(&self) -> &'static Schema {
        self.schema
    }

    fn use_schema(&mut self, schema: &'static Schema) {
        self.schema = schema;
    }

    async fn load<T: Row>(
        &mut self,
        statement: &Statement,
        params: &[Param],
    ) -> Result<Vec<T>, StoreError> {
        let loaded = RunQueryDsl::load(Query { statement, params }, self.connection);
        explained(self.connection, loaded).await
    }

    async fn execute(
        &mut self,
        statement: &Statement,
        params: &[Param],
    ) -> Result<usize, StoreError> {
        let done = RunQueryDsl::execute(Query { statement, params }, self.connection);
        explained(self.connection, done).await
    }

    async fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        let done = self.connection.batch_execute(sql);
        explained(self.connection, done).await
    }

    async fn begin(&mut self, mode: Mode) -> Result<(), StoreError> {
        let begun = match mode {
            Mode::Write => begin_immediate(self.connection),
            Mode::Snapshot => AnsiTransactionManager::begin_transaction(self.connection),
        };
        explained(self.connection, begun).await
    }

    async fn commit(&mut self) -> Result<(), StoreError> {
        let done = AnsiTransactionManager::commit_transaction(self.connection);
        explained(self.connection, done).await
    }

    async fn rollback(&mut self) -> Result<(), StoreError> {
        let done = AnsiTransactionManager::rollback_transaction(self.connection);
        explained(self.connection, session::unless_broken(done)).await
    }
}

impl Migrate for Async {
    const SCRIPTS: &'static [Script] = &scripts!("sqlite");
    const OWN_TABLES: [&'static str; 2] = [
        "CREATE TABLE IF NOT EXISTS likewise_schema_migrations (\
            name TEXT NOT NULL PRIMARY KEY, run_on TIMESTAMP NOT NULL) WITHOUT ROWID",
        "CREATE TABLE IF NOT EXISTS likewise_schema_lease (\
            name TEXT NOT NULL PRIMARY KEY, holder TEXT NOT NULL, epoch BIGINT NOT NULL, \
            expires_at TIMESTAMP NOT NULL) WITHOUT ROWID",
    ];
    const TRANSACTIONAL: bool = true;

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
