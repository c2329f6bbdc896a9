//! MySQL 8 and MariaDB 10.6, or newer.

use diesel::sql_types::{BigInt, Text};
use diesel::{ConnectionError, QueryResult, sql_query};
use diesel_async::AsyncMysqlConnection;

use super::dialect::Mysql;
use super::session::{self, Mode, session};
use super::sql::prelude::*;

/// Here each statement is committed on its own, so that a process may be killed after a migration and before
/// it is noted as done: every migration must find what it has done before in order.
const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/mysql");

/// Of the lease of migrations.
const LEASE_TABLE: &str = "CREATE TABLE IF NOT EXISTS likewise_schema_lease (\
    name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, \
    holder VARCHAR(255) NOT NULL, epoch BIGINT NOT NULL, expires_at DATETIME(6) NOT NULL\
    ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4";

/// A migration waits for the locks of running transactions as long as it takes.
const MIGRATING: [&str; 2] = [
    "SET SESSION lock_wait_timeout = 31536000",
    "SET SESSION innodb_lock_wait_timeout = 31536000",
];

/// What makes the next transaction read from one snapshot.
const SNAPSHOT: &str = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";

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
    establish_with(url, &session).await
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

/// One of the conditions that the last statement on a connection has raised.
#[derive(Debug, QueryableByName)]
struct Diagnostic {
    #[diesel(sql_type = BigInt)]
    errno: i64,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Text)]
    text: String,
}

/// How many conditions are asked for. Few statements raise more than two.
const CONDITIONS: usize = 8;

/// Asks the server for the conditions that the last statement has raised: the error, and warnings and notes before
/// and after it.
async fn conditions(connection: &mut AsyncMysqlConnection) -> QueryResult<Vec<Diagnostic>> {
    let mut selects = Vec::new();
    for n in 1..=CONDITIONS {
        let get = format!(
            "GET DIAGNOSTICS CONDITION {n} @likewise_errno_{n} = MYSQL_ERRNO, \
             @likewise_state_{n} = RETURNED_SQLSTATE, @likewise_text_{n} = MESSAGE_TEXT"
        );
        // Fails if there are not so many.
        if connection.batch_execute(&get).await.is_err() {
            break;
        }
        selects.push(format!(
            "SELECT CAST(COALESCE(@likewise_errno_{n}, 0) AS SIGNED) AS errno, \
             CAST(COALESCE(@likewise_state_{n}, '') AS CHAR) AS state, \
             CAST(COALESCE(@likewise_text_{n}, '') AS CHAR) AS text"
        ));
    }
    // Fails if the connection is gone.
    connection.batch_execute("DO 0").await?;
    let mut found = Vec::new();
    for select in selects {
        found.push(RunQueryDsl::get_result(sql_query(select), connection).await?);
    }
    Ok(found)
}

impl Explain for AsyncMysqlConnection {
    async fn explain(&mut self, error: diesel::result::Error) -> StoreError {
        let info = match known(error) {
            Ok(error) => return error,
            Err(info) => info,
        };
        let message = info.message();
        let meaning = match conditions(self).await {
            // MariaDB keeps no condition of a statement that could not be prepared. Its text is fixed, so
            // that is not an event's fault.
            Ok(conditions) if conditions.is_empty() => Meaning::Unusable,
            Ok(conditions) => {
                // Which of them the error is, its text tells; what it means, its code.
                let is_it = |one: &&Diagnostic| message.starts_with(&one.text);
                let it = conditions.iter().find(is_it).or(conditions.last());
                it.map_or(Meaning::Unknown, |it| {
                    let errno = u16::try_from(it.errno).unwrap_or_default();
                    Meaning::of_mysql(errno, &it.state)
                })
            }
            // It was the driver's own error, or the connection is gone.
            Err(_) => Meaning::Unavailable,
        };
        meaning.error(message)
    }
}

async fn begin(connection: &mut AsyncMysqlConnection, mode: Mode) -> QueryResult<()> {
    if mode == Mode::Snapshot {
        // It is of the next transaction.
        connection.batch_execute(SNAPSHOT).await?;
    }
    session::begin(connection).await
}

session!(AsyncMysqlConnection, begin);

sql_server!(AsyncMysqlConnection);

type Blocking = AsyncConnectionWrapper<AsyncMysqlConnection>;

sql_migrations!(AsyncMysqlConnection, Mysql, connect_to_migrate, false);
