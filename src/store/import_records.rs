//! The records of imports: what each reads, and how far it has come. `admin/import/` begins and ends them, and
//! `imports.rs` moves them on.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text as SqlText, Timestamp};
use serde::Serialize;

use super::error::StoreError;
use super::session::{Session, Sql};
use super::statement::Param;
use super::time::InUtc;
use super::{Store, read, transact};

/// An import and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, QueryableByName)]
pub struct ImportRecord {
    /// Its number.
    #[diesel(sql_type = BigInt)]
    pub import_id: i64,
    /// Its input, for people.
    #[diesel(sql_type = SqlText)]
    pub name: String,
    /// Its place in the input, which `admin/import/` writes and reads.
    #[diesel(sql_type = SqlText)]
    #[serde(skip)]
    pub position: String,
    /// The time of rows that have none.
    #[diesel(sql_type = Timestamp, deserialize_as = InUtc<NaiveDateTime>)]
    pub default_time: DateTime<Utc>,
    /// The rows read, rejected ones included.
    #[diesel(sql_type = BigInt)]
    pub rows_read: i64,
    /// The invalid rows.
    #[diesel(sql_type = BigInt)]
    pub rows_rejected: i64,
    /// The events that it recorded.
    #[diesel(sql_type = BigInt)]
    pub events_new: i64,
    /// The events that were recorded before.
    #[diesel(sql_type = BigInt)]
    pub events_repeated: i64,
    /// When it began.
    #[diesel(sql_type = Timestamp, deserialize_as = InUtc<NaiveDateTime>)]
    pub started_at: DateTime<Utc>,
    /// When it ended.
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = InUtc<Option<NaiveDateTime>>)]
    pub finished_at: Option<DateTime<Utc>>,
}

/// An import to begin or to resume.
#[derive(Debug, Clone)]
pub struct NewImport {
    /// Identifies the input with its options.
    pub input: String,
    /// The input, for people.
    pub name: String,
    /// The position before the first row.
    pub position: String,
    /// The time of rows that have none; `None` for now.
    pub default_time: Option<DateTime<Utc>>,
    /// Whether to begin anew although an earlier run of this input has not ended.
    pub restart: bool,
}

impl Store {
    /// Begins an import. Resumes it where an earlier run of the same input stopped before its end.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn begin_import(
        &self,
        import: &NewImport,
        now: DateTime<Utc>,
    ) -> Result<ImportRecord, StoreError> {
        transact!(self, |session| begin(session, import, now))
    }

    /// Notes that an import has read all of its input.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn finish_import(
        &self,
        import_id: i64,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        transact!(self, |session| finish(session, import_id, now))
    }

    /// Returns an import.
    ///
    /// # Errors
    /// If the database cannot be read, or there is no such import.
    pub async fn import_record(&self, import_id: i64) -> Result<ImportRecord, StoreError> {
        read!(self, self.timeout, |session| record(session, import_id))
    }
}

async fn begin<S: Session>(
    session: &mut S,
    import: &NewImport,
    now: DateTime<Utc>,
) -> Result<ImportRecord, StoreError> {
    let d = session.schema();
    let input = [Param::Text(import.input.clone())];
    let found: Vec<ImportRecord> = session.load(BY_INPUT.on(d), &input).await?;
    let found = found.into_iter().next();
    let resumes = |found: &ImportRecord| found.finished_at.is_none() && !import.restart;
    let (import_id, kept) = match &found {
        Some(found) => (found.import_id, Some(found.default_time)),
        None => (session.total(LAST_ID.on(d), &[]).await? + 1, None),
    };
    let default_time = import.default_time.or(kept).unwrap_or(now);
    let statement = match &found {
        Some(found) if resumes(found) => &RESUME,
        _ => &BEGIN,
    };
    let params = [
        Param::Number(import_id),
        Param::Text(import.input.clone()),
        Param::Text(import.name.clone()),
        Param::Text(import.position.clone()),
        Param::time(default_time),
        Param::time(now),
    ];
    session.execute(statement.on(d), &params).await?;
    record(session, import_id).await
}

async fn record<S: Session>(session: &mut S, import_id: i64) -> Result<ImportRecord, StoreError> {
    let id = [Param::Number(import_id)];
    let found: Vec<ImportRecord> = session.load(BY_ID.on(session.schema()), &id).await?;
    found
        .into_iter()
        .next()
        .ok_or_else(|| StoreError::Unreadable {
            table: "likewise_imports",
            reason: format!("there is no import {import_id}"),
        })
}

async fn finish<S: Session>(
    session: &mut S,
    import_id: i64,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let params = [Param::Number(import_id), Param::time(now)];
    session
        .execute(FINISH.on(session.schema()), &params)
        .await?;
    Ok(())
}
const COLUMNS: &str = "import_id, name, position, default_time, rows_read, rows_rejected, \
    events_new, events_repeated, started_at, finished_at";

/// Parameters: the input. Locks the row, so that two processes begin one after the other.
static BY_INPUT: Sql = Sql::new(|d| {
    format!(
        "SELECT {COLUMNS} FROM likewise_imports i WHERE i.input = $1{}",
        d.for_update("i")
    )
});

/// Parameters: the number.
static BY_ID: Sql =
    Sql::new(|_| format!("SELECT {COLUMNS} FROM likewise_imports WHERE import_id = $1"));

static LAST_ID: Sql = Sql::new(|d| {
    format!(
        "SELECT 'last' AS label, {} AS total FROM likewise_imports",
        d.number("COALESCE(MAX(import_id), 0)")
    )
});

/// Begins an import at the first row. Parameters: the number, the input, its name, the position, the default time, now.
static BEGIN: Sql = Sql::new(|d| {
    let (default_time, now) = (d.time("$5"), d.time("$6"));
    let set = [
        "name",
        "position",
        "default_time",
        "rows_read",
        "rows_rejected",
        "events_new",
        "events_repeated",
        "started_at",
        "updated_at",
        "finished_at",
    ]
    .map(|column| (column, d.incoming(column)));
    format!(
        "INSERT INTO likewise_imports (import_id, input, name, position, default_time, rows_read, \
         rows_rejected, events_new, events_repeated, started_at, updated_at, finished_at) \
         VALUES ($1, $2, $3, $4, {default_time}, 0, 0, 0, 0, {now}, {now}, NULL) {}",
        d.on_conflict("likewise_imports", &["import_id"], &set)
    )
});

/// Resumes an import. Parameters: those of [`BEGIN`].
static RESUME: Sql = Sql::new(|d| {
    format!(
        "UPDATE likewise_imports SET default_time = {}, updated_at = {} WHERE import_id = $1",
        d.time("$5"),
        d.time("$6")
    )
});
/// Ends an import. Its last place may be the key of a row, and is not needed any more. Parameters: the number, now.
static FINISH: Sql = Sql::new(|d| {
    let now = d.time("$2");
    format!(
        "UPDATE likewise_imports SET position = '', finished_at = {now}, updated_at = {now} \
         WHERE import_id = $1"
    )
});
