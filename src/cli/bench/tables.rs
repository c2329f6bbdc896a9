//! Plain SQL on the tables of a benchmark: their sizes, their secondary indexes, and what the other tools need.

use std::io::Write;

use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Text};
use diesel::{Connection, QueryableByName, SqliteConnection};
use diesel_async::{
    AsyncConnection, AsyncMysqlConnection, AsyncPgConnection, SimpleAsyncConnection,
};
use serde::Serialize;

use super::ToolError;
use crate::cli::Failure;
use crate::cli::output::write_json;
use crate::config::Settings;

/// The tables that grow with likes.
pub(super) const TABLES: [&str; 4] = [
    "user_behaviors",
    "sync_events",
    "video_likes",
    "likewise_like_counts",
];

/// A connection to the database of the settings.
pub(super) enum Tables {
    Sqlite(SqliteConnection),
    Mysql(AsyncMysqlConnection),
    Postgres(Box<AsyncPgConnection>),
}

/// A row of a query: a text and two numbers.
#[derive(QueryableByName)]
pub(super) struct Cells {
    #[diesel(sql_type = Text)]
    pub(super) label: String,
    #[diesel(sql_type = BigInt)]
    pub(super) one: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) two: i64,
}

impl Tables {
    pub(super) async fn open(settings: &Settings) -> Result<Self, ToolError> {
        let url = settings.store.url.as_str();
        let failed = |error: diesel::ConnectionError| ToolError::Database(error.to_string());
        Ok(match url.split_once("://") {
            Some(("sqlite", path)) => {
                let mut connection = SqliteConnection::establish(path).map_err(failed)?;
                // The service writes its heartbeats meanwhile.
                let waits = connection.batch_execute("PRAGMA busy_timeout = 60000");
                waits.map_err(|error| ToolError::Database(error.to_string()))?;
                Self::Sqlite(connection)
            }
            Some(("mysql", _)) => {
                Self::Mysql(AsyncMysqlConnection::establish(url).await.map_err(failed)?)
            }
            _ => {
                let connection = AsyncPgConnection::establish(url).await.map_err(failed)?;
                Self::Postgres(Box::new(connection))
            }
        })
    }

    pub(super) async fn execute(&mut self, sql: &str) -> Result<(), ToolError> {
        let done = match self {
            Self::Sqlite(connection) => connection.batch_execute(sql),
            Self::Mysql(connection) => connection.batch_execute(sql).await,
            Self::Postgres(connection) => connection.batch_execute(sql).await,
        };
        done.map_err(|error| ToolError::Sql(error, sql.to_owned()))
    }

    /// Returns the rows of a query with the columns `label`, `one` and `two`.
    pub(super) async fn rows(&mut self, sql: &str) -> Result<Vec<Cells>, ToolError> {
        let query = diesel::sql_query(sql);
        let rows = match self {
            Self::Sqlite(connection) => diesel::RunQueryDsl::load(query, connection),
            Self::Mysql(connection) => diesel_async::RunQueryDsl::load(query, connection).await,
            Self::Postgres(connection) => {
                diesel_async::RunQueryDsl::load(query, &mut **connection).await
            }
        };
        rows.map_err(|error| ToolError::Sql(error, sql.to_owned()))
    }

    /// Returns the number that a query returns as `one`.
    pub(super) async fn number(&mut self, sql: &str) -> Result<i64, ToolError> {
        Ok(self.rows(sql).await?.first().map_or(0, |row| row.one))
    }

    /// Brings the statistics of the planner up to date.
    pub(super) async fn analyze(&mut self) -> Result<(), ToolError> {
        if let Self::Mysql(_) = self {
            return self
                .execute(&format!("ANALYZE TABLE {}", TABLES.join(", ")))
                .await;
        }
        self.execute("ANALYZE").await
    }
}

#[derive(Serialize)]
struct TableSize<'a> {
    table: &'a str,
    rows: i64,
    bytes: i64,
    index_bytes: i64,
}

/// Prints the bytes of each table and of its indexes, as the database reports them.
pub(super) async fn print_sizes(settings: &Settings) -> Result<(), Failure> {
    let mut tables = Tables::open(settings).await?;
    tables.analyze().await?;
    let sql = match &tables {
        Tables::Sqlite(_) => {
            "SELECT m.tbl_name AS label, \
             SUM(CASE WHEN m.type = 'table' THEN s.pgsize ELSE 0 END) AS one, \
             SUM(CASE WHEN m.type = 'index' THEN s.pgsize ELSE 0 END) AS two \
             FROM dbstat s JOIN sqlite_master m ON m.name = s.name WHERE s.aggregate = TRUE GROUP BY m.tbl_name"
        }
        Tables::Mysql(_) => {
            "SELECT table_name AS label, CAST(data_length AS SIGNED) AS one, \
             CAST(index_length AS SIGNED) AS two FROM information_schema.tables \
             WHERE table_schema = DATABASE()"
        }
        Tables::Postgres(_) => {
            "SELECT relname::text AS label, pg_table_size(oid) AS one, pg_indexes_size(oid) AS two \
             FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace"
        }
    };
    let sizes = tables.rows(sql).await?;
    let mut found = Vec::new();
    for table in TABLES {
        let count = format!("SELECT '' AS label, COUNT(*) AS one, COUNT(*) AS two FROM {table}");
        let rows = tables.number(&count).await?;
        let size = sizes.iter().find(|size| size.label == table);
        found.push(TableSize {
            table,
            rows,
            bytes: size.map_or(0, |size| size.one),
            index_bytes: size.map_or(0, |size| size.two),
        });
    }
    let mut out = std::io::stdout().lock();
    write_json(&mut out, &found)?;
    Ok(out.flush()?)
}

/// Drops every index that no uniqueness needs, for peers that read by primary key alone.
pub(super) async fn drop_secondary_indexes(settings: &Settings) -> Result<(), Failure> {
    let mut tables = Tables::open(settings).await?;
    let names = TABLES.map(|table| format!("'{table}'")).join(", ");
    let (find, drop): (_, fn(&str, &str) -> String) = match &tables {
        Tables::Sqlite(_) => return Err(ToolError::Needs("MariaDB or PostgreSQL").into()),
        Tables::Mysql(_) => (
            format!(
                "SELECT DISTINCT CONCAT(table_name, ' ', index_name) AS label, 0 AS one, 0 AS two \
                 FROM information_schema.statistics WHERE table_schema = DATABASE() \
                 AND non_unique = 1 AND table_name IN ({names})"
            ),
            |table, index| format!("ALTER TABLE {table} DROP INDEX {index}"),
        ),
        Tables::Postgres(_) => (
            format!(
                "SELECT t.relname || ' ' || i.relname AS label, 0::bigint AS one, 0::bigint AS two \
                 FROM pg_index x JOIN pg_class t ON t.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid \
                 WHERE NOT x.indisunique AND t.relname IN ({names})"
            ),
            |_, index| format!("DROP INDEX {index}"),
        ),
    };
    for row in tables.rows(&find).await? {
        if let Some((table, index)) = row.label.split_once(' ') {
            tables.execute(&drop(table, index)).await?;
        }
    }
    Ok(())
}
