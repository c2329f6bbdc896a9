//! MySQL 8 and MariaDB 10.6, or newer.

use diesel::ConnectionError;
use diesel_async::AsyncMysqlConnection;

use super::dialect::Mysql;
use super::sql::prelude::*;

/// Here each statement is committed on its own, so that a process may be killed after a migration and before
/// it is noted as done: every migration must find what it has done before in order.
const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/mysql");

/// Of the lease of migrations.
const LEASE_TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_lease (\
    name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, \
    holder VARCHAR(255) NOT NULL, epoch BIGINT NOT NULL, expires_at DATETIME(6) NOT NULL\
    ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4";

/// Without gap locks, workers that write neighbouring rows do not meet; strict mode refuses what it would
/// otherwise cut to fit.
const SESSION: [&str; 3] = [
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')",
    "SET SESSION innodb_lock_wait_timeout = 5",
];

/// A migration waits for the locks of running transactions as long as it takes.
const MIGRATING: [&str; 2] = [
    "SET SESSION lock_wait_timeout = 31536000",
    "SET SESSION innodb_lock_wait_timeout = 31536000",
];

async fn establish(url: &str) -> Result<AsyncMysqlConnection, ConnectionError> {
    establish_with(url, &SESSION).await
}

async fn establish_to_migrate(url: &str) -> Result<AsyncMysqlConnection, ConnectionError> {
    establish_with(url, &MIGRATING).await
}

async fn establish_with(
    url: &str,
    session: &[&str],
) -> Result<AsyncMysqlConnection, ConnectionError> {
    let mut connection = AsyncMysqlConnection::establish(url).await?;
    for statement in session {
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

sql_server!(MysqlStore, AsyncMysqlConnection);

type Blocking = AsyncConnectionWrapper<AsyncMysqlConnection>;

sql_migrations!(AsyncMysqlConnection, Mysql, connect_to_migrate, false);
