//! Plain SQL against the service's database, as an operator would send it. What databases say in words
//! of their own is here, so that the tests need not care which one they run on.

use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::row::{Field, Row};
use diesel::sql_types::{BigInt, Double, Text, Untyped};
use diesel::sqlite::{Sqlite, SqliteType};
use diesel::{Connection, RunQueryDsl, SqliteConnection};

/// Every table, and the column that each row of it has.
pub const TABLES: [&str; 5] = [
    "user_behaviors",
    "sync_events",
    "video_likes",
    "comment_likes",
    "like_counts",
];

/// A database that one service uses.
#[derive(Debug, Clone)]
pub enum Database {
    /// A file, which need not be there yet.
    Sqlite(PathBuf),
}

impl Database {
    /// A new one in this folder.
    pub fn sqlite(folder: &Path) -> Self {
        Self::Sqlite(folder.join("likewise.db"))
    }

    /// As `LIKEWISE_DATABASE_URL` names it.
    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite://{}", path.display()),
        }
    }

    /// The rows of a query.
    #[track_caller]
    pub fn rows(&self, sql: &str) -> Vec<Vec<Value>> {
        let rows: Vec<AnyRow> = match self {
            Self::Sqlite(path) => diesel::sql_query(sql)
                .load(&mut open(path))
                .unwrap_or_else(|error| panic!("{error} in: {sql}")),
        };
        rows.into_iter().map(|AnyRow(values)| values).collect()
    }

    /// The one number that a query answers with.
    #[track_caller]
    pub fn number(&self, sql: &str) -> i64 {
        let rows = self.rows(sql);
        let [row] = rows.as_slice() else {
            panic!("not one row but {}: {sql}", rows.len());
        };
        row[0].number()
    }

    /// The first column of a query, as text.
    #[track_caller]
    pub fn texts(&self, sql: &str) -> Vec<String> {
        let rows = self.rows(sql);
        rows.iter().map(|row| row[0].text().to_owned()).collect()
    }

    /// Runs statements that answer nothing, each on its own.
    #[track_caller]
    pub fn execute(&self, statements: &[&str]) {
        match self {
            Self::Sqlite(path) => {
                let mut connection = open(path);
                for sql in statements {
                    connection
                        .batch_execute(sql)
                        .unwrap_or_else(|error| panic!("{error} in: {sql}"));
                }
            }
        }
    }

    /// How many rows each table has.
    #[track_caller]
    pub fn sizes(&self) -> Vec<(&'static str, i64)> {
        TABLES
            .into_iter()
            .map(|table| (table, self.number(&format!("SELECT COUNT(*) FROM {table}"))))
            .collect()
    }

    /// Keeps everybody else from writing until the answer is dropped.
    #[track_caller]
    pub fn hold_writes(&self) -> HeldWrites {
        match self {
            Self::Sqlite(path) => {
                let mut connection = open(path);
                connection
                    .batch_execute("BEGIN IMMEDIATE")
                    .expect("the write lock");
                HeldWrites(connection)
            }
        }
    }

    /// From now on, refuses every row of `video_likes` for this user: the one bad row of a batch.
    pub fn refuse_likes_of(&self, user: i64) {
        match self {
            Self::Sqlite(_) => self.execute(&[&format!(
                "CREATE TRIGGER refuse_{user} BEFORE INSERT ON video_likes \
                 WHEN NEW.user_id = {user} \
                 BEGIN SELECT RAISE(ABORT, 'constraint: refused by a test'); END"
            )]),
        }
    }

    /// From now on, each new ledger row of this user is at once under the claim of another worker,
    /// which holds the second token until a far future.
    pub fn claim_for_another_worker(&self, user: i64) {
        match self {
            Self::Sqlite(_) => self.execute(&[&format!(
                "CREATE TRIGGER claim_{user} AFTER INSERT ON sync_events WHEN NEW.user_id = {user} \
                 BEGIN UPDATE sync_events SET status = 'processing', fencing_token = 2, \
                 next_attempt_at = '2100-01-01 00:00:00', lease_until = '2100-01-01 00:00:00' \
                 WHERE id = NEW.id; END"
            )]),
        }
    }
}

fn open(path: &Path) -> SqliteConnection {
    // SQLite would make a file that is not there.
    assert!(path.exists(), "there is no {}", path.display());
    let path = path.to_str().expect("a path in UTF-8");
    let mut connection = SqliteConnection::establish(path).expect("the database opens");
    connection
        .batch_execute("PRAGMA busy_timeout = 20000")
        .expect("a pragma");
    connection
}

/// Keeps everybody else from writing.
pub struct HeldWrites(SqliteConnection);

impl Drop for HeldWrites {
    fn drop(&mut self) {
        let released = self.0.batch_execute("ROLLBACK");
        assert!(
            released.is_ok() || std::thread::panicking(),
            "the lock was not released: {released:?}"
        );
    }
}

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Nothing.
    Null,
    /// An integer or a truth value.
    Number(i64),
    /// Anything else.
    Text(String),
}

impl Value {
    /// The number that it is.
    #[track_caller]
    pub fn number(&self) -> i64 {
        match self {
            Self::Number(number) => *number,
            other => panic!("not a number: {other:?}"),
        }
    }

    /// The text that it is.
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

impl FromSqlRow<Untyped, Sqlite> for AnyRow {
    fn build_from_row<'a>(row: &impl Row<'a, Sqlite>) -> deserialize::Result<Self> {
        let mut values = Vec::with_capacity(row.field_count());
        for index in 0..row.field_count() {
            let field = row.get(index).ok_or("a field is missing")?;
            let Some(value) = field.value() else {
                values.push(Value::Null);
                continue;
            };
            values.push(match value.value_type() {
                Some(SqliteType::Double) => {
                    let number = <f64 as FromSql<Double, Sqlite>>::from_sql(value)?;
                    Value::Text(number.to_string())
                }
                Some(SqliteType::Text | SqliteType::Binary) => {
                    Value::Text(FromSql::<Text, Sqlite>::from_sql(value)?)
                }
                _ => Value::Number(FromSql::<BigInt, Sqlite>::from_sql(value)?),
            });
        }
        Ok(Self(values))
    }
}
