//! PostgreSQL 14 or newer.

use diesel::ConnectionError;
use diesel_async::AsyncPgConnection;

use super::dialect::Postgres;
use super::sql::prelude::*;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Of the lease of migrations.
const LEASE_TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_lease (\
    name TEXT COLLATE \"C\" NOT NULL PRIMARY KEY, holder TEXT NOT NULL, epoch BIGINT NOT NULL, \
    expires_at TIMESTAMP(6) NOT NULL)";

/// A transaction that waits for a lock gives up before the pool does.
const SESSION: &str = "SET TIME ZONE 'UTC'; SET lock_timeout = '5s'";

/// A migration waits for the locks of running transactions as long as it takes.
const MIGRATING: &str = "SET TIME ZONE 'UTC'; SET lock_timeout = 0; SET statement_timeout = 0; \
    SET idle_in_transaction_session_timeout = 0";

async fn establish(url: &str) -> Result<AsyncPgConnection, ConnectionError> {
    establish_with(url, SESSION).await
}

async fn establish_to_migrate(url: &str) -> Result<AsyncPgConnection, ConnectionError> {
    establish_with(url, MIGRATING).await
}

async fn establish_with(url: &str, session: &str) -> Result<AsyncPgConnection, ConnectionError> {
    let mut connection = AsyncPgConnection::establish(url).await?;
    connection
        .batch_execute(session)
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

sql_server!(PostgresStore, AsyncPgConnection);

type Blocking = AsyncConnectionWrapper<AsyncPgConnection>;

sql_migrations!(AsyncPgConnection, Postgres, connect_to_migrate, true);
