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

sql_server!(PostgresStore);
