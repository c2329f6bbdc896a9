//! Searches the ledger page by page, newest rows first. Called by operators (`admin/`).

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{Text, Timestamp};

use super::error::StoreError;
use super::ledger::{ENTRY_COLUMNS, LedgerEntry};
use super::ledger_filter::{Conditions, LedgerFilter, is_failure};
use super::pool::SEARCH_TIMEOUT;
use super::schema::Schema;
use super::session::Session;
use super::statement::{Param, Statement};
use super::time::InUtc;
use super::{Sample, Store, read};
use crate::domain::{Id, ResourceType, Status};

/// A page of ledger rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerPage {
    /// The rows, newest first.
    pub entries: Vec<LedgerEntry>,
    /// The time and id after which the next page begins. It is present whenever older rows may match, also on a
    /// page with few rows or none.
    pub next: Option<(DateTime<Utc>, String)>,
}

impl Store {
    /// Returns up to `limit` ledger rows, newest first, that follow the row of this time and id. Where no index
    /// finds the rows that match, it reads 10,000 rows and returns where the next search continues.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn search(
        &self,
        filter: &LedgerFilter,
        after: Option<(DateTime<Utc>, String)>,
        limit: usize,
    ) -> Result<LedgerPage, StoreError> {
        let after = after.map(|(created_at, id)| RowKey { created_at, id });
        read!(self, SEARCH_TIMEOUT, |session| {
            search(session, filter, after.as_ref(), limit)
        })
    }
}

/// The order of ledger rows: by time, then by id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, QueryableByName)]
struct RowKey {
    #[diesel(sql_type = Timestamp, deserialize_as = InUtc<NaiveDateTime>)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    id: String,
}

async fn search<S: Session>(
    session: &mut S,
    filter: &LedgerFilter,
    after: Option<&RowKey>,
    limit: usize,
) -> Result<LedgerPage, StoreError> {
    let d = session.schema();
    let paths = paths(d, filter);
    let mut end: Option<RowKey> = None;
    for path in paths.iter().filter(|path| path.windowed) {
        let (statement, params) = window_end(d, path, filter, after);
        let last: Vec<RowKey> = session.load(&statement, &params).await?;
        // Each path is read down to the newest of the ends.
        end = end.max(last.into_iter().next());
    }
    let mut entries = Vec::new();
    for path in &paths {
        let (statement, params) = rows(d, path, filter, (after, end.as_ref()), limit + 1);
        entries.extend(session.load(&statement, &params).await?);
    }
    Ok(LedgerPage::of(entries, end, limit))
}

impl LedgerPage {
    /// A page of at most `limit` rows, out of the first `limit + 1` of each path; `end` is where they stop, if not
    /// at the end of the ledger.
    fn of(mut entries: Vec<LedgerEntry>, end: Option<RowKey>, limit: usize) -> Self {
        entries.sort_by(|one, other| {
            (other.created_at, &other.event_id).cmp(&(one.created_at, &one.event_id))
        });
        let mut next = end.map(|end| (end.created_at, end.id));
        if entries.len() > limit {
            entries.truncate(limit);
            let last = entries.last();
            next = last.map(|last| (last.created_at, last.event_id.clone()));
        }
        Self { entries, next }
    }
}

/// The number of rows that one page of a search reads where no index finds those that match.
const WINDOW: usize = 10_000;

/// A path through the ledger, newest rows first.
struct Path {
    rows: Rows,
    /// Whether it may pass many rows that do not match, so that a page reads only a window of it.
    windowed: bool,
}

/// The rows on a path.
enum Rows {
    /// Those that this condition matches, in the order of an index.
    Ledger(String),
    /// The open ones.
    Open,
    /// The events of this user.
    OfUser(Id),
}

/// The paths that together pass all rows which a filter matches.
fn paths(d: &Schema, filter: &LedgerFilter) -> Vec<Path> {
    let narrow =
        filter.resource_type.is_some() || filter.resource_id.is_some() || filter.error.is_some();
    let one = |rows, windowed| vec![Path { rows, windowed }];
    if let (None | Some(Status::Completed), Some(user_id)) = (filter.status, &filter.user_id) {
        return one(Rows::OfUser(user_id.clone()), false);
    }
    match filter.status {
        Some(status @ (Status::Failed | Status::Dead)) => one(
            Rows::Ledger(is_failure(d, status)),
            narrow || filter.user_id.is_some(),
        ),
        Some(Status::Pending | Status::Processing) => one(Rows::Open, false),
        Some(Status::Completed) | None if let Some(user_id) = &filter.user_id => {
            one(Rows::OfUser(user_id.clone()), false)
        }
        Some(Status::Completed) => one(Rows::Ledger(d.walk_of_completed().to_owned()), true),
        None => d
            .walks()
            .iter()
            .map(|walk| Path {
                rows: Rows::Ledger((*walk).to_owned()),
                windowed: narrow,
            })
            .collect(),
    }
}

impl Path {
    /// The table that the path reads.
    fn from(&self, d: &Schema, conditions: &mut Conditions) -> String {
        match &self.rows {
            Rows::Ledger(condition) => {
                conditions.and(condition.clone());
                "sync_events e".to_owned()
            }
            Rows::Open => d.open_rows(),
            Rows::OfUser(user_id) => {
                let (join, fence) = (d.join(), d.fence());
                let user_id = d.user(&conditions.param(user_id.into()));
                format!(
                    "(SELECT s.* FROM (SELECT b.event_id FROM user_behaviors b \
                     WHERE b.user_id = {user_id}{fence}) AS r \
                     {join} sync_events s ON s.id = r.event_id{fence}) AS e"
                )
            }
        }
    }
}

/// The last row of the window that one page reads, if the path has more rows.
fn window_end(
    d: &Schema,
    path: &Path,
    filter: &LedgerFilter,
    after: Option<&RowKey>,
) -> (Statement, Vec<Param>) {
    let mut conditions = Conditions::default();
    conditions.times(d, filter);
    conditions.older_than(d, after);
    let from = path.from(d, &mut conditions);
    let sql = format!(
        "SELECT e.created_at, e.id FROM {from} WHERE {} \
         ORDER BY e.created_at DESC, e.id DESC LIMIT 1 OFFSET {WINDOW}",
        conditions.sql()
    );
    (d.statement(sql), conditions.params)
}

/// The rows of one path that a filter matches, newest first, after one row and down to another.
fn rows(
    d: &Schema,
    path: &Path,
    filter: &LedgerFilter,
    (after, end): (Option<&RowKey>, Option<&RowKey>),
    limit: usize,
) -> (Statement, Vec<Param>) {
    let mut conditions = Conditions::of(d, filter);
    conditions.older_than(d, after);
    conditions.down_to(d, end);
    let from = path.from(d, &mut conditions);
    let limit = conditions.param(Param::limit(limit));
    let sql = format!(
        "SELECT {ENTRY_COLUMNS} FROM {from} WHERE {} \
         ORDER BY e.created_at DESC, e.id DESC LIMIT {limit}",
        conditions.sql()
    );
    (d.statement(sql), conditions.params)
}

impl Conditions {
    /// Rows older than this one. The first comparison serves the index.
    fn older_than(&mut self, d: &Schema, key: Option<&RowKey>) {
        if let Some(key) = key {
            let (time, id) = self.key(d, key);
            self.and(format!(
                "e.created_at <= {time} AND (e.created_at < {time} OR e.id < {id})"
            ));
        }
    }

    /// Rows no older than this one. The first comparison serves the index.
    fn down_to(&mut self, d: &Schema, key: Option<&RowKey>) {
        if let Some(key) = key {
            let (time, id) = self.key(d, key);
            self.and(format!(
                "e.created_at >= {time} AND (e.created_at > {time} OR e.id >= {id})"
            ));
        }
    }

    fn key(&mut self, d: &Schema, key: &RowKey) -> (String, String) {
        let time = self.param(Param::time(key.created_at));
        (d.time(&time), self.text(key.id.clone()))
    }
}

/// Returns the statements whose cost must not follow the size of the tables, each with a name.
pub(super) fn bounded(d: &Schema, sample: &Sample) -> Vec<(String, String)> {
    let any = LedgerFilter::default;
    let of = |status| LedgerFilter {
        status: Some(status),
        ..any()
    };
    let statuses = Status::ALL.map(|status| (status.to_string(), of(status)));
    let user = LedgerFilter {
        user_id: Some(sample.user_id.into()),
        ..any()
    };
    let resource = LedgerFilter {
        resource_type: Some(ResourceType::VIDEO),
        resource_id: Some(sample.numbers.0.into()),
        ..any()
    };
    let time = LedgerFilter {
        since: Some(sample.now - TimeDelta::hours(1)),
        until: Some(sample.now),
        ..any()
    };
    let error = LedgerFilter {
        error: Some("lock".to_owned()),
        ..of(Status::Dead)
    };
    let others = [
        ("all", any()),
        ("user", user),
        ("resource", resource),
        ("time", time),
        ("error", error),
    ];
    let others = others.map(|(name, filter)| (name.to_owned(), filter));
    let key = |created_at| RowKey {
        created_at,
        id: sample.place.1.clone(),
    };
    let place = key(sample.place.0);
    let newer = key(sample.place.0 + TimeDelta::milliseconds(2));
    let mut all = Vec::new();
    let mut add = |name: String, (statement, params): (Statement, Vec<Param>)| {
        all.push((name, statement.spelled(&params)));
    };
    for (name, filter) in statuses.iter().chain(&others) {
        for (number, path) in paths(d, filter).iter().enumerate() {
            let end = path.windowed.then_some(&place);
            if path.windowed {
                let window = window_end(d, path, filter, None);
                add(format!("window: {name} {number}"), window);
            }
            let first = rows(d, path, filter, (None, end), 50);
            add(format!("search: {name} {number}"), first);
            let next = rows(d, path, filter, (Some(&newer), end), 50);
            add(format!("search below: {name} {number}"), next);
        }
    }
    all
}
