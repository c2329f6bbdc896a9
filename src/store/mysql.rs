//! MySQL 8 and MariaDB 10.6, or newer.

use diesel::ConnectionError;
use diesel_async::{AsyncMigrationHarness, AsyncMysqlConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::dialect::Mysql;
use super::sql::prelude::*;

/// Here each statement is committed on its own, so that a process may be killed after a migration and before
/// it is noted as done: every migration must find what it has done before in order.
const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/mysql");

/// Held while migrating, so that processes which start together do not both do it. It goes with the
/// connection.
const MIGRATION_LOCK: &str = "SELECT GET_LOCK('likewise_migrations', 120)";

/// Without gap locks, workers that write neighbouring rows do not meet; strict mode refuses what it would
/// otherwise cut to fit.
const SESSION: [&str; 3] = [
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')",
    "SET SESSION innodb_lock_wait_timeout = 5",
];

/// Connects to the database, whose tables must be there.
pub(super) async fn connect(options: &StoreOptions) -> Result<MysqlStore, StoreError> {
    let mut config = ManagerConfig::default();
    // A connection that the server has dropped meanwhile is noticed before it is used.
    config.recycling_method = RecyclingMethod::Verified;
    config.custom_setup = Box::new(|url| Box::pin(establish(url)));
    let manager = AsyncDieselConnectionManager::new_with_config(&options.url, config);
    let connections = pool(manager, options.max_connections, options.timeout)?;
    let store = MysqlStore::new(connections.clone(), connections, options.timeout);
    store.ping().await?;
    Ok(store)
}

/// Brings the database's tables up to date; answers the names of the migrations that this ran.
pub(super) async fn migrate(options: &StoreOptions) -> Result<Vec<String>, StoreError> {
    let connecting = tokio::time::timeout(options.timeout, establish(&options.url));
    let mut connection = connecting
        .await
        .map_err(|_| StoreError::TimedOut(options.timeout))?
        .map_err(|error| StoreError::Unavailable(error.to_string()))?;
    connection.batch_execute(MIGRATION_LOCK).await?;
    // The harness blocks, which this runtime's only thread must not.
    let migrate = tokio::task::spawn_blocking(move || {
        AsyncMigrationHarness::new(connection)
            .run_pending_migrations(MIGRATIONS)
            .map(|ran| ran.iter().map(ToString::to_string).collect())
            .map_err(|error| StoreError::Migration(error.to_string()))
    });
    migrate
        .await
        .map_err(|error| StoreError::Migration(error.to_string()))?
}

async fn establish(url: &str) -> Result<AsyncMysqlConnection, ConnectionError> {
    let mut connection = AsyncMysqlConnection::establish(url).await?;
    for statement in SESSION {
        connection
            .batch_execute(statement)
            .await
            .map_err(ConnectionError::CouldntSetupConfiguration)?;
    }
    Ok(connection)
}

sql_store!(
    MysqlStore,
    AsyncMysqlConnection,
    Mysql,
    transaction,
    "MySQL"
);
