//! Plain SQL against the service's database, as an operator would send it. This folder contains the differences between
//! the databases' dialects, so that tests run on any of them.

mod locks;
mod triggers;
mod values;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use diesel::connection::SimpleConnection;
use diesel::{Connection, QueryResult, SqliteConnection};
use diesel_async::{
    AsyncConnection, AsyncMysqlConnection, AsyncPgConnection, SimpleAsyncConnection,
};

pub use self::locks::HeldWrites;
use self::values::AnyRow;
pub use self::values::Value;
use super::servers::{Kind, Server};
use super::{PATIENCE, until, until_equal, wait};

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
