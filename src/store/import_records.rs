//! The records of imports: what each reads, and how far its lanes have come. `admin/import/` begins and ends them, and
//! `imports.rs` moves them on.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text as SqlText, Timestamp};
use serde::Serialize;

use super::dialect::Column::{Number, Text};
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
    /// The position of a lane before the first row. `admin/import/` writes and reads positions.
    pub position: String,
    /// The number of its lanes.
    pub lanes: usize,
    /// The time of rows that have none; `None` for now.
    pub default_time: Option<DateTime<Utc>>,
    /// Whether to begin anew although an earlier run of this input has not ended.
    pub restart: bool,
}

/// An import that a run has begun or resumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BegunImport {
    /// Its record.
    pub record: ImportRecord,
    /// The number of the run.
    pub run: i64,
    /// The positions of its lanes; empty ones if an erasure has forgotten them.
    pub positions: Vec<String>,
}

impl Store {
    /// Begins an import. Resumes it where an earlier run of the same input stopped before its end. A run that is still
    /// going on ends: this one waits for its chunks that are being written, and none follows.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn begin_import(
        &self,
        import: &NewImport,
        now: DateTime<Utc>,
    ) -> Result<BegunImport, StoreError> {
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
) -> Result<BegunImport, StoreError> {
    let d = session.schema();
    let input = [Param::Text(import.input.clone())];
    let found = find(session, &BY_INPUT, &input).await?;
    let mut held = Vec::new();
    if let Some(found) = &found {
        // Before the import's own row, which a chunk locks after its lane.
        held = lock_lanes(session, found.import_id, import.lanes).await?;
    }
    let is_resumed = found.as_ref().is_some_and(|found| {
        found.finished_at.is_none() && !import.restart && held.len() == import.lanes
    });
    let kept = found.map(|found| found.default_time);
    let params = [
        Param::Text(import.input.clone()),
        Param::Text(import.name.clone()),
        Param::time(import.default_time.or(kept).unwrap_or(now)),
        Param::time(now),
    ];
    let statement = if is_resumed { &RESUME } else { &BEGIN };
    session.execute(statement.on(d), &params).await?;
    let record = find(session, &BY_INPUT, &input)
        .await?
        .ok_or_else(|| unreadable("an import that has begun is not there".to_owned()))?;
    // Another process may have begun it since.
    let held = lock_lanes(session, record.import_id, import.lanes).await?;
    let run = held.iter().map(|lane| lane.run).max().unwrap_or_default() + 1;
    let positions: Vec<String> = match is_resumed {
        true => held.into_iter().map(|lane| lane.position).collect(),
        false => vec![import.position.clone(); import.lanes],
    };
    let rows = positions.iter().enumerate();
    let rows: Vec<_> = rows
        .map(|(lane, position)| (record.import_id, lane, run, position))
        .collect();
    session
        .execute(BEGIN_RUN.on(d), &[Param::rows(&rows)])
        .await?;
    Ok(BegunImport {
        record,
        run,
        positions,
    })
}

/// Returns the first lanes of an import, and waits for their chunks that are being written.
async fn lock_lanes<S: Session>(
    session: &mut S,
    import_id: i64,
    most: usize,
) -> Result<Vec<LaneRow>, StoreError> {
    let params = [Param::Number(import_id), Param::limit(most)];
    session.load(LOCK_LANES.on(session.schema()), &params).await
}

fn unreadable(reason: String) -> StoreError {
    StoreError::Unreadable {
        table: "likewise_imports",
        reason,
    }
}

async fn record<S: Session>(session: &mut S, import_id: i64) -> Result<ImportRecord, StoreError> {
    find(session, &BY_ID, &[Param::Number(import_id)])
        .await?
        .ok_or_else(|| unreadable(format!("there is no import {import_id}")))
}

/// Returns the import with this number or input.
async fn find<S: Session>(
    session: &mut S,
    statement: &'static Sql,
    key: &[Param],
) -> Result<Option<ImportRecord>, StoreError> {
    let found: Vec<ImportRecord> = session.load(statement.on(session.schema()), key).await?;
    Ok(found.into_iter().next())
}

async fn finish<S: Session>(
    session: &mut S,
    import_id: i64,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let params = [Param::Number(import_id), Param::time(now)];
    let d = session.schema();
    session.execute(FINISH.on(d), &params).await?;
    session.execute(FINISH_LANES.on(d), &params[..1]).await?;
    Ok(())
}

/// A lane of an import.
#[derive(Debug, QueryableByName)]
struct LaneRow {
    #[diesel(sql_type = BigInt)]
    run: i64,
    #[diesel(sql_type = SqlText)]
    position: String,
}

const COLUMNS: &str = "import_id, name, default_time, rows_read, rows_rejected, events_new, \
    events_repeated, started_at, finished_at";

/// Parameters: the input.
static BY_INPUT: Sql =
    Sql::new(|_| format!("SELECT {COLUMNS} FROM likewise_imports WHERE input = $1"));

/// Parameters: the number.
static BY_ID: Sql =
    Sql::new(|_| format!("SELECT {COLUMNS} FROM likewise_imports WHERE import_id = $1"));

/// Parameters: the number, the most lanes.
static LOCK_LANES: Sql = Sql::new(|d| {
    format!(
        "SELECT l.run, l.position FROM likewise_import_lanes l \
         WHERE l.import_id = $1 AND l.lane < $2 ORDER BY l.lane{}",
        d.for_update("l")
    )
});

/// Begins an import at the first row. Parameters: the input, its name, the default time, now.
static BEGIN: Sql = Sql::new(|d| {
    let (default_time, now) = (d.time("$3"), d.time("$4"));
    let set = [
        "name",
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
        "INSERT INTO likewise_imports (input, name, default_time, rows_read, rows_rejected, \
         events_new, events_repeated, started_at, updated_at, finished_at) \
         VALUES ($1, $2, {default_time}, 0, 0, 0, 0, {now}, {now}, NULL) {}",
        d.on_conflict("likewise_imports", &["input"], &set)
    )
});

/// Resumes an import. Parameters: those of [`BEGIN`].
static RESUME: Sql = Sql::new(|d| {
    format!(
        "UPDATE likewise_imports SET default_time = {}, updated_at = {} WHERE input = $1",
        d.time("$3"),
        d.time("$4")
    )
});

/// Begins a run. Parameters: rows `(import_id, lane, run, position)`.
static BEGIN_RUN: Sql = Sql::new(|d| {
    let columns = [
        Number("import_id"),
        Number("lane"),
        Number("run"),
        Text("position"),
    ];
    let set = ["run", "position"].map(|column| (column, d.incoming(column)));
    format!(
        "INSERT INTO likewise_import_lanes (import_id, lane, run, position) \
         SELECT r.import_id, r.lane, r.run, r.position FROM {} WHERE true {}",
        d.rows("$1", &columns),
        d.on_conflict("likewise_import_lanes", &["import_id", "lane"], &set)
    )
});

/// Ends an import. Parameters: the number, now.
static FINISH: Sql = Sql::new(|d| {
    let now = d.time("$2");
    format!(
        "UPDATE likewise_imports SET finished_at = {now}, updated_at = {now} WHERE import_id = $1"
    )
});

/// Forgets the last places of an import, which may be the key of a row, and are not needed any more. Parameters: the
/// number.
static FINISH_LANES: Sql =
    Sql::new(|_| "UPDATE likewise_import_lanes SET position = '' WHERE import_id = $1".to_owned());
