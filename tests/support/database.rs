//! Plain SQL against the service's database, as an operator would send it. This file contains the differences between
//! the databases' dialects, so that tests run on any of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

use diesel::backend::Backend;
use diesel::connection::SimpleConnection;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::mysql::{Mysql, MysqlType, MysqlValue};
use diesel::pg::{Pg, PgValue};
use diesel::row::{Field, Row};
use diesel::sql_types::{
    BigInt, Bool, Datetime, Double, Integer, SmallInt, Text, Timestamp, Untyped,
};
use diesel::sqlite::{Sqlite, SqliteType, SqliteValue};
use diesel::{Connection, QueryResult, SqliteConnection};
use diesel_async::SimpleAsyncConnection;
use diesel_async::{AsyncConnection, AsyncMysqlConnection, AsyncPgConnection};
use tokio::runtime::Runtime;

use super::servers::{Kind, Server};
use super::{PATIENCE, runtime, until, until_equal, wait};

/// Every table.
pub const TABLES: [&str; 7] = [
    "user_behaviors",
    "sync_events",
    "video_likes",
    "comment_likes",
    "likewise_like_counts",
    "likewise_quarantined_events",
    "likewise_idempotency_keys",
];

/// A database that one service uses.
#[derive(Debug, Clone)]
pub enum Database {
    /// A file, which may not exist yet.
    Sqlite(PathBuf),
    /// A database of MariaDB.
    MariaDb(Hosted),
    /// A database of PostgreSQL.
    Postgres(Hosted),
}

/// A database on a server. The server runs while one of its databases is used.
#[derive(Debug, Clone)]
pub struct Hosted {
    url: String,
    _server: Option<Arc<Server>>,
}

impl Database {
    /// Returns a new database in this folder.
    pub fn sqlite(folder: &Path) -> Self {
        Self::Sqlite(folder.join("likewise.db"))
    }

    /// Returns a new, empty database on the shared server of this kind.
    #[track_caller]
    pub fn hosted(kind: Kind) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let server = shared(kind);
        let name = format!("likewise_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let first = Self::first_of(&server);
        first.execute(&[&format!("CREATE DATABASE {name}")]);
        let url = server.url();
        let (server_url, _) = url.rsplit_once('/').expect("a URL that names a database");
        first.with(Hosted {
            url: format!("{server_url}/{name}"),
            _server: Some(server),
        })
    }

    /// Returns the server's default database. It keeps the server running.
    pub fn first_of(server: &Server) -> Self {
        let hosted = Hosted {
            url: server.url(),
            _server: None,
        };
        match server.kind() {
            Kind::MariaDb => Self::MariaDb(hosted),
            Kind::Postgres => Self::Postgres(hosted),
            kind => panic!("{kind:?} has no databases"),
        }
    }

    /// Returns the same database, with the superuser's login.
    pub fn as_administrator(&self) -> Self {
        let user = match self {
            Self::Sqlite(_) => panic!("SQLite has no users"),
            Self::MariaDb(_) => "root",
            Self::Postgres(_) => "postgres",
        };
        self.with(Hosted {
            url: self.url().replacen("likewise@", &format!("{user}@"), 1),
            _server: None,
        })
    }

    fn with(&self, hosted: Hosted) -> Self {
        match self {
            Self::MariaDb(_) => Self::MariaDb(hosted),
            Self::Sqlite(_) | Self::Postgres(_) => Self::Postgres(hosted),
        }
    }

    /// Returns the URL for `LIKEWISE_DATABASE_URL`.
    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite://{}", path.display()),
            Self::MariaDb(hosted) | Self::Postgres(hosted) => hosted.url.clone(),
        }
    }

    /// Returns the rows of a query.
    #[track_caller]
    pub fn rows(&self, sql: &str) -> Vec<Vec<Value>> {
        let rows: QueryResult<Vec<AnyRow>> = match self {
            Self::Sqlite(path) => {
                diesel::RunQueryDsl::load(diesel::sql_query(sql), &mut open(path))
            }
            Self::MariaDb(Hosted { url, .. }) => wait(async {
                let mut connection = mysql(url).await;
                diesel_async::RunQueryDsl::load(diesel::sql_query(sql), &mut connection).await
            }),
            Self::Postgres(Hosted { url, .. }) => wait(async {
                let mut connection = postgres(url).await;
                diesel_async::RunQueryDsl::load(diesel::sql_query(sql), &mut connection).await
            }),
        };
        let rows = rows.unwrap_or_else(|error| panic!("{error} in: {sql}"));
        rows.into_iter().map(|AnyRow(values)| values).collect()
    }

    /// Returns the number that a query returns.
    #[track_caller]
    pub fn number(&self, sql: &str) -> i64 {
        let rows = self.rows(sql);
        let [row] = rows.as_slice() else {
            panic!("not one row but {}: {sql}", rows.len());
        };
        row[0].number()
    }

    /// Returns the only row of a query, with spaces between its values.
    #[track_caller]
    pub fn line(&self, sql: &str) -> String {
        let rows = self.rows(sql);
        let [row] = rows.as_slice() else {
            panic!("not one row but {}: {sql}", rows.len());
        };
        let values = row.iter().map(|value| match value {
            Value::Null => "NULL".to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Text(text) => text.clone(),
        });
        values.collect::<Vec<_>>().join(" ")
    }

    /// Returns the number of rows of a table, or of those that a `WHERE` after its name selects.
    #[track_caller]
    pub fn count(&self, rows: &str) -> i64 {
        self.number(&format!("SELECT COUNT(*) FROM {rows}"))
    }

    /// Waits until [`count`](Self::count) returns this number.
    #[track_caller]
    pub fn until_count(&self, rows: &str, expected: i64) {
        let what = format!("the number of rows in {rows}");
        until_equal(&what, expected, || self.count(rows));
    }

    /// Returns the first column of a query, as text.
    #[track_caller]
    pub fn texts(&self, sql: &str) -> Vec<String> {
        let rows = self.rows(sql);
        rows.iter().map(|row| row[0].text().to_owned()).collect()
    }

    /// Runs statements without results, each on its own.
    #[track_caller]
    pub fn execute(&self, statements: &[&str]) {
        for sql in statements {
            let done = match self {
                // A busy writer leaves SQLite only moments in which another connection gets its lock.
                Self::Sqlite(path) => until("the lock of the file", PATIENCE, || {
                    match open(path).batch_execute(sql) {
                        Err(error) if error.to_string().contains("is locked") => Err(error),
                        done => Ok(done),
                    }
                }),
                Self::MariaDb(Hosted { url, .. }) => {
                    wait(async { mysql(url).await.batch_execute(sql).await })
                }
                Self::Postgres(Hosted { url, .. }) => {
                    wait(async { postgres(url).await.batch_execute(sql).await })
                }
            };
            done.unwrap_or_else(|error| panic!("{error} in: {sql}"));
        }
    }

    /// Returns the number of rows in each table.
    #[track_caller]
    pub fn sizes(&self) -> Vec<(&'static str, i64)> {
        TABLES
            .into_iter()
            .map(|table| (table, self.number(&format!("SELECT COUNT(*) FROM {table}"))))
            .collect()
    }

    /// Returns the columns of every table, in alphabetical order.
    #[track_caller]
    pub fn columns(&self) -> Vec<(String, String)> {
        let schema = match self {
            Self::Sqlite(_) => {
                "SELECT t.name, c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c \
                 WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%'"
            }
            Self::MariaDb(_) => {
                "SELECT table_name, column_name FROM information_schema.columns \
                 WHERE table_schema = DATABASE()"
            }
            Self::Postgres(_) => {
                "SELECT table_name::text, column_name::text FROM information_schema.columns \
                 WHERE table_schema = current_schema()"
            }
        };
        let mut columns: Vec<_> = self
            .rows(schema)
            .iter()
            .map(|row| (row[0].text().to_owned(), row[1].text().to_owned()))
            .collect();
        columns.sort();
        columns
    }

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

    /// From now on, refuses every row of `video_likes` for this user, which makes it the bad row of a batch.
    pub fn refuse_likes_of(&self, user: i64, why: &str) {
        self.refuse_likes_with_code(user, why, "45000", "P0001");
    }

    /// As [`refuse_likes_of`](Self::refuse_likes_of), with the error of a constraint. A trigger of SQLite cannot choose
    /// its error code.
    #[track_caller]
    pub fn constrain_likes_of(&self, user: i64, why: &str) {
        self.refuse_likes_with_code(user, why, "23000", "23514");
    }

    /// Ends what [`refuse_likes_of`](Self::refuse_likes_of) began.
    #[track_caller]
    pub fn accept_likes_of(&self, user: i64) {
        let drop = match self {
            Self::Sqlite(_) | Self::MariaDb(_) => format!("DROP TRIGGER refuse_{user}"),
            Self::Postgres(_) => format!("DROP TRIGGER refuse_{user} ON video_likes"),
        };
        self.execute(&[&drop]);
    }

    fn refuse_likes_with_code(&self, user: i64, why: &str, mysql: &str, postgres: &str) {
        match self {
            Self::Sqlite(_) => self.execute(&[&format!(
                "CREATE TRIGGER refuse_{user} BEFORE INSERT ON video_likes \
                 WHEN NEW.user_id = {user} BEGIN SELECT RAISE(ABORT, '{why}'); END"
            )]),
            Self::MariaDb(_) => self.execute(&[&format!(
                "CREATE TRIGGER refuse_{user} BEFORE INSERT ON video_likes FOR EACH ROW \
                 IF NEW.user_id = {user} THEN \
                 SIGNAL SQLSTATE '{mysql}' SET MESSAGE_TEXT = '{why}'; END IF"
            )]),
            Self::Postgres(_) => self.trigger(
                &format!("refuse_{user}"),
                &format!("BEFORE INSERT ON video_likes FOR EACH ROW WHEN (NEW.user_id = {user})"),
                &format!("RAISE EXCEPTION '{why}' USING ERRCODE = '{postgres}'; RETURN NEW;"),
            ),
        }
    }

    /// From now on, each new ledger row of this user is claimed at once by another worker, which holds the second token
    /// until a far future. Refuses rows that are completed already, so that the events take two steps.
    pub fn claim_for_another_worker(&self, user: i64) {
        const FAR: &str = "'2100-01-01 00:00:00'";
        const WHY: &str = "'claimed by a test'";
        match self {
            Self::Sqlite(_) => self.execute(&[
                &format!(
                    "CREATE TRIGGER claim_{user} AFTER INSERT ON sync_events \
                     WHEN NEW.user_id = {user} BEGIN UPDATE sync_events SET status = 'processing', \
                     fencing_token = 2, next_attempt_at = {FAR}, lease_until = {FAR} \
                     WHERE id = NEW.id; END"
                ),
                &format!(
                    "CREATE TRIGGER refuse_completed_{user} BEFORE INSERT ON sync_events \
                     WHEN NEW.user_id = {user} AND NEW.status = 'completed' \
                     BEGIN SELECT RAISE(ABORT, {WHY}); END"
                ),
            ]),
            Self::MariaDb(_) => self.execute(&[&format!(
                "CREATE TRIGGER claim_{user} BEFORE INSERT ON sync_events FOR EACH ROW \
                 IF NEW.user_id = {user} THEN \
                 IF NEW.status = 'completed' THEN \
                 SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = {WHY}; END IF; \
                 SET NEW.status = 'processing', NEW.fencing_token = 2, \
                 NEW.next_attempt_at = {FAR}, NEW.lease_until = {FAR}; END IF"
            )]),
            Self::Postgres(_) => self.trigger(
                &format!("claim_{user}"),
                &format!("BEFORE INSERT ON sync_events FOR EACH ROW WHEN (NEW.user_id = {user})"),
                &format!(
                    "IF NEW.status = 'completed' THEN RAISE EXCEPTION {WHY}; END IF; \
                     NEW.status := 'processing'; NEW.fencing_token := 2; \
                     NEW.next_attempt_at := {FAR}; NEW.lease_until := {FAR}; RETURN NEW;"
                ),
            ),
        }
    }

    /// PostgreSQL requires a function for each trigger.
    fn trigger(&self, name: &str, when: &str, body: &str) {
        self.execute(&[
            &format!(
                "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN {body} END $$"
            ),
            &format!("CREATE TRIGGER {name} {when} EXECUTE FUNCTION {name}()"),
        ]);
    }
}

/// The shared server of a kind, which runs while a test uses it.
#[track_caller]
fn shared(kind: Kind) -> Arc<Server> {
    static MARIADB: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    static POSTGRES: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let slot = match kind {
        Kind::MariaDb => &MARIADB,
        Kind::Postgres => &POSTGRES,
        Kind::Redis | Kind::Nats => panic!("{kind:?} has no databases"),
    };
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    slot.upgrade().unwrap_or_else(|| {
        let server = Arc::new(Server::start(kind));
        *slot = Arc::downgrade(&server);
        server
    })
}

fn open(path: &Path) -> SqliteConnection {
    // SQLite would create a missing file.
    assert!(path.exists(), "there is no {}", path.display());
    let path = path.to_str().expect("a path in UTF-8");
    let mut connection = SqliteConnection::establish(path).expect("the database opens");
    connection
        .batch_execute("PRAGMA busy_timeout = 20000")
        .expect("a pragma");
    connection
}

async fn mysql(url: &str) -> AsyncMysqlConnection {
    let connection = AsyncMysqlConnection::establish(url).await;
    connection.expect("a connection to MariaDB")
}

async fn postgres(url: &str) -> AsyncPgConnection {
    let connection = AsyncPgConnection::establish(url).await;
    connection.expect("a connection to PostgreSQL")
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

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// NULL.
    Null,
    /// An integer or a truth value.
    Number(i64),
    /// Any other value, as text.
    Text(String),
}

impl Value {
    /// Returns the number.
    #[track_caller]
    pub fn number(&self) -> i64 {
        match self {
            Self::Number(number) => *number,
            other => panic!("not a number: {other:?}"),
        }
    }

    /// Returns the text.
    #[track_caller]
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            other => panic!("not text: {other:?}"),
        }
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A row of any query.
struct AnyRow(Vec<Value>);

/// A database whose value types can be told apart without knowing the query.
trait AnyValue: Backend {
    fn value(raw: Self::RawValue<'_>) -> deserialize::Result<Value>;
}

impl AnyRow {
    fn of<'a, DB: AnyValue>(row: &impl Row<'a, DB>) -> deserialize::Result<Self> {
        let mut values = Vec::with_capacity(row.field_count());
        for index in 0..row.field_count() {
            let field = row.get(index).ok_or("a field is missing")?;
            values.push(field.value().map_or(Ok(Value::Null), DB::value)?);
        }
        Ok(Self(values))
    }
}

macro_rules! any_row {
    ($($database:ty),*) => {
        $(impl FromSqlRow<Untyped, $database> for AnyRow {
            fn build_from_row<'a>(row: &impl Row<'a, $database>) -> deserialize::Result<Self> {
                Self::of(row)
            }
        })*
    };
}

any_row!(Sqlite, Mysql, Pg);

fn moment(moment: chrono::NaiveDateTime) -> Value {
    Value::Text(moment.format("%Y-%m-%d %H:%M:%S%.6f").to_string())
}

impl AnyValue for Sqlite {
    fn value(raw: SqliteValue<'_, '_, '_>) -> deserialize::Result<Value> {
        Ok(match raw.value_type() {
            Some(SqliteType::Double) => {
                let number = <f64 as FromSql<Double, Self>>::from_sql(raw)?;
                Value::Text(number.to_string())
            }
            Some(SqliteType::Text | SqliteType::Binary) => {
                Value::Text(FromSql::<Text, Self>::from_sql(raw)?)
            }
            _ => Value::Number(FromSql::<BigInt, Self>::from_sql(raw)?),
        })
    }
}

impl AnyValue for Mysql {
    fn value(raw: MysqlValue<'_>) -> deserialize::Result<Value> {
        use MysqlType as Type;
        Ok(match raw.value_type() {
            Type::DateTime | Type::Timestamp => moment(FromSql::<Datetime, Self>::from_sql(raw)?),
            Type::Tiny | Type::Short | Type::Long | Type::LongLong => {
                Value::Number(FromSql::<BigInt, Self>::from_sql(raw)?)
            }
            _ => Value::Text(String::from_utf8_lossy(raw.as_bytes()).into_owned()),
        })
    }
}

impl AnyValue for Pg {
    fn value(raw: PgValue<'_>) -> deserialize::Result<Value> {
        // PostgreSQL's catalogue fixes the numbers of its types.
        Ok(match raw.get_oid().get() {
            16 => Value::Number(<bool as FromSql<Bool, Self>>::from_sql(raw)?.into()),
            20 => Value::Number(FromSql::<BigInt, Self>::from_sql(raw)?),
            21 => Value::Number(<i16 as FromSql<SmallInt, Self>>::from_sql(raw)?.into()),
            23 => Value::Number(<i32 as FromSql<Integer, Self>>::from_sql(raw)?.into()),
            1114 => moment(FromSql::<Timestamp, Self>::from_sql(raw)?),
            _ => Value::Text(String::from_utf8_lossy(raw.as_bytes()).into_owned()),
        })
    }
}
