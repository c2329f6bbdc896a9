//! PostgreSQL 14 or newer.

use diesel::ConnectionError;
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::dialect::Postgres;
use super::sql::prelude::*;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Held while migrating, so that processes which start together do not both do it. It goes with the
/// connection.
const MIGRATION_LOCK: &str = "SELECT pg_advisory_lock(7310579606148477295)";

/// A transaction that waits for a lock gives up before the pool does.
const SESSION: &str = "SET TIME ZONE 'UTC'; SET lock_timeout = '5s'";

/// Connects to the database, whose tables must be there.
pub(super) async fn connect(options: &StoreOptions) -> Result<PostgresStore, StoreError> {
    let mut config = ManagerConfig::default();
    // A connection that the server has dropped meanwhile is noticed before it is used.
    config.recycling_method = RecyclingMethod::Verified;
    config.custom_setup = Box::new(|url| Box::pin(establish(url)));
    let manager = AsyncDieselConnectionManager::new_with_config(&options.url, config);
    let connections = pool(manager, options.max_connections, options.timeout)?;
    let store = PostgresStore::new(connections.clone(), connections, options.timeout);
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

async fn establish(url: &str) -> Result<AsyncPgConnection, ConnectionError> {
    let mut connection = AsyncPgConnection::establish(url).await?;
    connection
        .batch_execute(SESSION)
        .await
        .map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

sql_store!(
    PostgresStore,
    AsyncPgConnection,
    Postgres,
    transaction,
    "PostgreSQL"
);
