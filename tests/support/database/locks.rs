//! Locks that a test holds in the database.

use std::collections::BTreeSet;
use std::thread::JoinHandle;

use diesel::SqliteConnection;
use diesel::connection::SimpleConnection;
use diesel_async::{AsyncMysqlConnection, AsyncPgConnection, SimpleAsyncConnection};
use tokio::runtime::Runtime;

use super::{Database, Hosted, TABLES, mysql, open, postgres};
use crate::support::{PATIENCE, runtime, until};

impl Database {
    /// Blocks all other writers of likes, of any resource type, until the returned value is dropped.
    #[track_caller]
    pub fn hold_writes(&self) -> HeldWrites {
        let columns = self.columns();
        let tables: BTreeSet<&str> = columns.iter().map(|(table, _)| table.as_str()).collect();
        let is_held = |table: &&str| TABLES.contains(table) || table.ends_with("_likes");
        let tables: Vec<_> = tables.into_iter().filter(is_held).collect();
        self.hold_tables(&tables)
    }

    /// Blocks all other writers of these tables until the returned value is dropped; on SQLite, of any table.
    #[track_caller]
    pub fn hold_tables(&self, tables: &[&str]) -> HeldWrites {
        match self {
            Self::Sqlite(path) => {
                let mut connection = open(path);
                connection
                    .batch_execute("BEGIN IMMEDIATE")
                    .expect("the write lock");
                HeldWrites::Sqlite(connection)
            }
            Self::MariaDb(Hosted { url, .. }) => {
                let lock = format!("LOCK TABLES {} READ", tables.join(" READ, "));
                let runtime = runtime();
                let connection = runtime.block_on(async {
                    let mut connection = mysql(url).await;
                    let locked = connection.batch_execute(&lock).await;
                    locked.expect("the tables' locks");
                    connection
                });
                HeldWrites::MariaDb(connection, runtime)
            }
            Self::Postgres(Hosted { url, .. }) => {
                let tables = tables.join(", ");
                let lock = format!("BEGIN; LOCK TABLE {tables} IN EXCLUSIVE MODE");
                let runtime = runtime();
                let connection = runtime.block_on(async {
                    let mut connection = postgres(url).await;
                    let locked = connection.batch_execute(&lock).await;
                    locked.expect("the tables' locks");
                    connection
                });
                HeldWrites::Postgres(connection, runtime)
            }
        }
    }

    /// Locks the rows of this query until the returned value is dropped. SQLite has no row locks.
    #[track_caller]
    pub fn hold_rows(&self, query: &str) -> HeldWrites {
        let lock = format!("BEGIN; {query} FOR UPDATE");
        let runtime = runtime();
        match self {
            Self::Sqlite(_) => panic!("SQLite has no locks on rows"),
            Self::MariaDb(Hosted { url, .. }) => {
                let mut connection = runtime.block_on(mysql(url));
                let locked = runtime.block_on(connection.batch_execute(&lock));
                locked.expect("the rows' locks");
                HeldWrites::MariaDb(connection, runtime)
            }
            Self::Postgres(Hosted { url, .. }) => {
                let mut connection = runtime.block_on(postgres(url));
                let locked = runtime.block_on(connection.batch_execute(&lock));
                locked.expect("the rows' locks");
                HeldWrites::Postgres(connection, runtime)
            }
        }
    }

    /// Blocks every other connection that creates this table until the returned value is dropped. The table must not
    /// exist. SQLite has no such lock.
    #[track_caller]
    pub fn hold_table_name(&self, table: &str) -> HeldWrites {
        let runtime = runtime();
        match self {
            Self::Sqlite(_) => panic!("SQLite has no locks on names"),
            Self::MariaDb(Hosted { url, .. }) => {
                let create = format!("CREATE TABLE {table} AS SELECT SLEEP(600) AS slept");
                let mut connection = runtime.block_on(mysql(url));
                let creating = std::thread::spawn(move || {
                    // Ends with an error, because the connection is killed.
                    let _ = runtime.block_on(connection.batch_execute(&create));
                });
                let sleeping = "SELECT id FROM information_schema.processlist \
                    WHERE db = DATABASE() AND state = 'User sleep'";
                let id = until("the table to be created", PATIENCE, || {
                    match self.rows(sleeping).as_slice() {
                        [row] => Ok(row[0].number()),
                        rows => Err(format!("{rows:?}")),
                    }
                });
                HeldWrites::Creating(self.clone(), id, Some(creating))
            }
            Self::Postgres(Hosted { url, .. }) => {
                let create = format!("BEGIN; CREATE TABLE {table} (held BIGINT)");
                let mut connection = runtime.block_on(postgres(url));
                let created = runtime.block_on(connection.batch_execute(&create));
                created.expect("the table");
                HeldWrites::Postgres(connection, runtime)
            }
        }
    }
}

/// Blocks all other writers.
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum HeldWrites {
    Sqlite(SqliteConnection),
    MariaDb(AsyncMysqlConnection, Runtime),
    Postgres(AsyncPgConnection, Runtime),
    /// A MariaDB connection that creates a table: its id, and its thread.
    Creating(Database, i64, Option<JoinHandle<()>>),
}

impl Drop for HeldWrites {
    fn drop(&mut self) {
        let released = match self {
            Self::Sqlite(connection) => connection.batch_execute("ROLLBACK"),
            Self::MariaDb(connection, runtime) => {
                runtime.block_on(connection.batch_execute("ROLLBACK; UNLOCK TABLES"))
            }
            Self::Postgres(connection, runtime) => {
                runtime.block_on(connection.batch_execute("ROLLBACK"))
            }
            Self::Creating(database, id, creating) => {
                database.execute(&[&format!("KILL QUERY {id}")]);
                let ended = creating.take().map_or(Ok(()), JoinHandle::join);
                assert!(ended.is_ok() || std::thread::panicking(), "{ended:?}");
                Ok(())
            }
        };
        assert!(
            released.is_ok() || std::thread::panicking(),
            "the lock was not released: {released:?}"
        );
    }
}
