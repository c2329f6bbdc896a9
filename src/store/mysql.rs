//! MySQL 8 and MariaDB 10.6, or newer.

use diesel::sql_types::{BigInt, Text};
use diesel::{ConnectionError, QueryResult, sql_query};
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

/// Connects; `lock_wait` bounds how long a statement waits for a row or a table that is locked.
async fn establish(
    url: &str,
    lock_wait: Duration,
) -> Result<AsyncMysqlConnection, ConnectionError> {
    let seconds = lock_wait.as_secs();
    // Without gap locks, workers that write neighbouring rows do not meet; strict mode refuses what it
    // would otherwise cut to fit; errors are kept, so that their code can be asked for.
    let session = [
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')",
        "SET SESSION max_error_count = 64",
        &format!("SET SESSION innodb_lock_wait_timeout = {seconds}"),
        &format!("SET SESSION lock_wait_timeout = {seconds}"),
    ];
    let mut connection = AsyncMysqlConnection::establish(url).await?;
    for statement in session {
        connection
            .batch_execute(statement)
            .await
            .map_err(ConnectionError::CouldntSetupConfiguration)?;
    }
    Ok(connection)
}

/// The code of the last error on a connection, which is the last of its conditions.
#[derive(Debug, QueryableByName)]
struct LastError {
    #[diesel(sql_type = BigInt)]
    conditions: i64,
    #[diesel(sql_type = BigInt)]
    errno: i64,
    #[diesel(sql_type = Text)]
    state: String,
}

/// Asks the server for the code of the last error.
async fn last_error(connection: &mut AsyncMysqlConnection) -> QueryResult<LastError> {
    connection
        .batch_execute("GET DIAGNOSTICS @likewise_conditions = NUMBER")
        .await?;
    // Fails if there is no condition.
    let codes = "GET DIAGNOSTICS CONDITION @likewise_conditions \
                 @likewise_errno = MYSQL_ERRNO, @likewise_sqlstate = RETURNED_SQLSTATE";
    let asked = connection.batch_execute(codes).await;
    let found = "SELECT CAST(@likewise_conditions AS SIGNED) AS conditions, \
                 CAST(COALESCE(@likewise_errno, 0) AS SIGNED) AS errno, \
                 CAST(COALESCE(@likewise_sqlstate, '') AS CHAR) AS state";
    let last: LastError = RunQueryDsl::get_result(sql_query(found), connection).await?;
    match asked {
        Err(error) if last.conditions > 0 => Err(error),
        _ => Ok(last),
    }
}

impl Explain for AsyncMysqlConnection {
    async fn explain(&mut self, error: diesel::result::Error) -> StoreError {
        let info = match known(error) {
            Ok(error) => return error,
            Err(info) => info,
        };
        let meaning = match last_error(self).await {
            // MariaDB keeps no condition of a statement that could not be prepared. Its text is fixed, so
            // that is not an event's fault.
            Ok(last) if last.conditions == 0 => Meaning::Unusable,
            Ok(last) => {
                let errno = u16::try_from(last.errno).unwrap_or_default();
                Meaning::of_mysql(errno, &last.state)
            }
            // It was the driver's own error, or the connection is gone.
            Err(_) => Meaning::Unavailable,
        };
        meaning.error(info.message())
    }
}

sql_store!(
    MysqlStore,
    AsyncMysqlConnection,
    Mysql,
    transaction,
    "MySQL"
);

sql_server!(MysqlStore);
