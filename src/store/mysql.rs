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

sql_server!(MysqlStore);
