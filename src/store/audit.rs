//! Audits: walk the tables in bounded chunks and compare what must agree. Called by `admin/audit.rs`, which
//! repairs with `repair.rs`.

use chrono::{DateTime, Utc};
use diesel::prelude::QueryableByName;
use serde::{Deserialize, Serialize};

use super::comparisons::{
    Scope, broken_ledger_rows, count, missing_behaviors, missing_counts, missing_ledger_rows,
    stray_likes, wrong_behavior_counts, wrong_counts, wrong_likes,
};
use super::dialect::Column::{ResourceId, User, Word};
use super::discrepancy::{CountRow, Discrepancy, EventRow, Finding, LikeRow};
use super::error::StoreError;
use super::ids::AnyId;
use super::pair_row::PairRow;
use super::pool::INSPECT_TIMEOUTS;
use super::schema::{COUNTED_BEHAVIORS, Schema, likes_table};
use super::session::{LikesSql, Session, Sql};
use super::statement::{Param, Statement};
use super::{Sample, Store, read};
use crate::domain::{Id, IdKind, IdKinds, Pair, Resource, ResourceType};

/// One walk of an audit through a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pass {
    /// The behaviors, by user: each like event has its ledger row.
    Behaviors,
    /// The ledger, by event id: each row has its behavior and a possible state.
    Ledger,
    /// A read model and its events, by user: each pair equals the fold of its events, and its resource has a
    /// count.
    Likes(ResourceType),
    /// The counts, by resource: each equals the number of liked rows.
    Counts(ResourceType),
    /// The counts by behavior and their behaviors, by resource: each equals the number of recorded and pruned ones.
    BehaviorCounts(ResourceType),
}

/// A place in a [`Pass`]: the key of the last compared row, which is a user, a resource, or an event id as it is stored.
pub type Position = Id;

impl Pass {
    /// The position before the first row.
    #[must_use]
    pub fn start(self, kinds: IdKinds) -> Position {
        self.kind(kinds)
            .map_or_else(|| Id::from(""), IdKind::before_all)
    }

    /// A position that no row comes after.
    fn end(self, kinds: IdKinds) -> Position {
        // Event ids consist of digits, letters and hyphens, which sort before this character.
        self.kind(kinds)
            .map_or_else(|| Id::from("~"), IdKind::after_all)
    }

    /// The kind of ids that are its keys; `None` for event ids.
    const fn kind(self, kinds: IdKinds) -> Option<IdKind> {
        match self {
            Self::Ledger => None,
            Self::Behaviors | Self::Likes(_) => Some(kinds.users),
            Self::Counts(_) | Self::BehaviorCounts(_) => Some(kinds.resources),
        }
    }
}

/// A part of a pass: the rows after one position, up to and including another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The pass.
    pub pass: Pass,
    /// The position before the first row.
    pub after: Position,
    /// The position of the last row; `None` for the end of the table.
    pub until: Option<Position>,
    /// The number of behaviors, ledger rows or counts; zero for likes, whose pass follows the behaviors.
    pub rows: i64,
}

impl Chunk {
    /// The parameters of [`Scope::Chunk`].
    fn bounds(&self, kinds: IdKinds) -> [Param; 2] {
        let end = self.pass.end(kinds);
        [
            (&self.after).into(),
            self.until.as_ref().unwrap_or(&end).into(),
        ]
    }
}

/// The number of rows of each table that an audit walks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// `user_behaviors`.
    pub behaviors: i64,
    /// `sync_events`.
    pub ledger_rows: i64,
    /// `likewise_like_counts`.
    pub counts: i64,
    /// `likewise_behavior_counts`.
    #[serde(default)]
    pub behavior_counts: i64,
}

impl Store {
    /// Returns the approximate sizes of the tables, by the database's own statistics; zero if it has none.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn sizes(&self) -> Result<Sizes, StoreError> {
        read!(self, self.inspect_timeout(), |session| sizes(session))
    }

    /// Returns the chunk of a pass after this position, with about this number of rows.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn chunk(
        &self,
        pass: Pass,
        after: Position,
        rows: usize,
    ) -> Result<Chunk, StoreError> {
        read!(self, self.inspect_timeout(), |session| chunk(
            session, pass, &after, rows
        ))
    }

    /// Compares a chunk. The live pipeline causes short discrepancies: compare again to tell them apart.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn inspect(&self, chunk: &Chunk) -> Result<Vec<Discrepancy>, StoreError> {
        read!(self, self.inspect_timeout(), |session| inspect(
            session, chunk
        ))
    }

    /// Returns those of the pairs that have an open ledger row.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn open_pairs(&self, pairs: &[Pair]) -> Result<Vec<Pair>, StoreError> {
        read!(self, self.timeout, |session| open_pairs(session, pairs))
    }

    /// Counts the open ledger rows that were due before this time.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn overdue(&self, before: DateTime<Utc>) -> Result<i64, StoreError> {
        let params = [Param::time(before)];
        read!(self, self.timeout, |session| async {
            session.total(OVERDUE.on(session.schema()), &params).await
        })
    }

    /// How long one chunk of an audit may take.
    pub(super) fn inspect_timeout(&self) -> std::time::Duration {
        self.timeout * INSPECT_TIMEOUTS
    }
}

async fn sizes<S: Session>(session: &mut S) -> Result<Sizes, StoreError> {
    let d = session.schema();
    let mut sizes = [0; 4];
    let tables = [
        &BEHAVIORS_ESTIMATE,
        &LEDGER_ESTIMATE,
        &COUNTS_ESTIMATE,
        &BEHAVIOR_COUNTS_ESTIMATE,
    ];
    for (size, table) in sizes.iter_mut().zip(tables) {
        *size = session.total(table.on(d), &[]).await?.max(0);
    }
    let [behaviors, ledger_rows, counts, behavior_counts] = sizes;
    Ok(Sizes {
        behaviors,
        ledger_rows,
        counts,
        behavior_counts,
    })
}

async fn chunk<S: Session>(
    session: &mut S,
    pass: Pass,
    after: &Position,
    rows: usize,
) -> Result<Chunk, StoreError> {
    let d = session.schema();
    let (bound, between) = match pass {
        Pass::Behaviors => (USER_BOUND.on(d), Some(BEHAVIORS_BETWEEN.on(d))),
        Pass::Ledger => (LEDGER_BOUND.on(d), Some(LEDGER_BETWEEN.on(d))),
        Pass::Likes(_) => (USER_BOUND.on(d), None),
        Pass::Counts(of) => (COUNT_BOUND.on(d, of), Some(COUNTS_BETWEEN.on(d, of))),
        Pass::BehaviorCounts(of) => {
            let between = BEHAVIOR_COUNTS_BETWEEN.on(d, of);
            (BEHAVIOR_COUNT_BOUND.on(d, of), Some(between))
        }
    };
    let params = [after.into(), Param::limit(rows)];
    let found: Vec<BoundRow> = session.load(bound, &params).await?;
    let until = found.into_iter().next().map(|row| row.bound);
    let mut chunk = Chunk {
        pass,
        after: after.clone(),
        until,
        rows: 0,
    };
    if let Some(between) = between {
        chunk.rows = session.total(between, &chunk.bounds(d.kinds())).await?;
    }
    Ok(chunk)
}

async fn inspect<S: Session>(
    session: &mut S,
    chunk: &Chunk,
) -> Result<Vec<Discrepancy>, StoreError> {
    let d = session.schema();
    let bounds = chunk.bounds(d.kinds());
    Ok(match chunk.pass {
        Pass::Behaviors => {
            let rows = session.load(MISSING_LEDGER_ROWS.on(d), &bounds).await?;
            EventRow::discrepancies(rows, Finding::MissingLedgerRow).collect()
        }
        Pass::Ledger => {
            let missing = session.load(MISSING_BEHAVIORS.on(d), &bounds).await?;
            let broken = session.load(BROKEN_LEDGER_ROWS.on(d), &bounds).await?;
            EventRow::discrepancies(missing, Finding::MissingBehavior)
                .chain(EventRow::discrepancies(broken, Finding::BrokenLedgerRow))
                .collect()
        }
        Pass::Likes(of) => {
            let wrong = session.load(WRONG_LIKES.on(d, of), &bounds).await?;
            let stray = session.load(STRAY_LIKES.on(d, of), &bounds).await?;
            let uncounted = session.load(MISSING_COUNTS.on(d, of), &bounds).await?;
            LikeRow::discrepancies(wrong, of)
                .chain(LikeRow::discrepancies(stray, of))
                .chain(CountRow::discrepancies(uncounted, Finding::WrongCount, of))
                .collect()
        }
        Pass::Counts(of) => {
            let rows = session.load(WRONG_COUNTS.on(d, of), &bounds).await?;
            CountRow::discrepancies(rows, Finding::WrongCount, of).collect()
        }
        Pass::BehaviorCounts(of) => {
            let rows = session
                .load(WRONG_BEHAVIOR_COUNTS.on(d, of), &bounds)
                .await?;
            CountRow::discrepancies(rows, Finding::WrongBehaviorCount, of).collect()
        }
    })
}

async fn open_pairs<S: Session>(session: &mut S, pairs: &[Pair]) -> Result<Vec<Pair>, StoreError> {
    let rows: Vec<_> = pairs
        .iter()
        .map(|pair| {
            let Resource { resource_type, id } = &pair.resource;
            (resource_type.as_str(), id, &pair.user_id)
        })
        .collect();
    let statement = OPEN_PAIRS.on(session.schema());
    let rows: Vec<PairRow> = session.load(statement, &[Param::rows(&rows)]).await?;
    rows.iter().map(|row| row.pair("user_behaviors")).collect()
}

/// The statements of audits whose cost must not follow the size of the tables: see
/// [`Store::bounded_statements`].
pub(super) fn bounded(d: &'static Schema, sample: &Sample) -> Vec<(String, String)> {
    let (after, until) = sample.numbers;
    let users = [Param::Number(after), Param::Number(until)];
    let (after_id, until_id) = &sample.ids;
    let ids = [Param::Text(after_id.clone()), Param::Text(until_id.clone())];
    let next_user = [Param::Number(after), Param::limit(100)];
    let next_id = [Param::Text(after_id.clone()), Param::limit(100)];
    let video = ResourceType::VIDEO;
    let all: [(&str, &Statement, &[Param]); 16] = [
        ("overdue", OVERDUE.on(d), &[Param::time(sample.now)]),
        ("audit: users", USER_BOUND.on(d), &next_user),
        ("audit: ids", LEDGER_BOUND.on(d), &next_id),
        ("audit: behaviors between", BEHAVIORS_BETWEEN.on(d), &users),
        ("audit: ledger between", LEDGER_BETWEEN.on(d), &ids),
        ("audit: counts between", COUNTS_BETWEEN.on(d, video), &users),
        ("audit: behaviors", MISSING_LEDGER_ROWS.on(d), &users),
        ("audit: ledger", MISSING_BEHAVIORS.on(d), &ids),
        ("audit: broken rows", BROKEN_LEDGER_ROWS.on(d), &ids),
        ("audit: likes", WRONG_LIKES.on(d, video), &users),
        ("audit: strays", STRAY_LIKES.on(d, video), &users),
        ("audit: uncounted", MISSING_COUNTS.on(d, video), &users),
        ("audit: counts", WRONG_COUNTS.on(d, video), &users),
        (
            "audit: next behavior counts",
            BEHAVIOR_COUNT_BOUND.on(d, video),
            &next_user,
        ),
        (
            "audit: behavior counts between",
            BEHAVIOR_COUNTS_BETWEEN.on(d, video),
            &users,
        ),
        (
            "audit: behavior counts",
            WRONG_BEHAVIOR_COUNTS.on(d, video),
            &users,
        ),
    ];
    all.into_iter()
        .map(|(name, statement, params)| (name.to_owned(), statement.spelled(params)))
        .collect()
}

#[derive(QueryableByName)]
struct BoundRow {
    #[diesel(sql_type = AnyId)]
    bound: Id,
}

static BEHAVIORS_ESTIMATE: Sql = Sql::new(|d| d.estimate("user_behaviors"));
static LEDGER_ESTIMATE: Sql = Sql::new(|d| d.estimate("sync_events"));
static COUNTS_ESTIMATE: Sql = Sql::new(|d| d.estimate("likewise_like_counts"));
static BEHAVIOR_COUNTS_ESTIMATE: Sql = Sql::new(|d| d.estimate("likewise_behavior_counts"));

/// The key of a row further on. Parameters: the key before, the number of rows.
static USER_BOUND: Sql = Sql::new(|d| {
    format!(
        "SELECT user_id AS bound FROM user_behaviors WHERE user_id > {} \
         ORDER BY user_id LIMIT 1 OFFSET $2",
        d.user("$1")
    )
});

/// As [`USER_BOUND`].
static LEDGER_BOUND: Sql = Sql::new(|_| {
    "SELECT id AS bound FROM sync_events WHERE id > $1 ORDER BY id LIMIT 1 OFFSET $2".to_owned()
});

/// As [`USER_BOUND`].
static COUNT_BOUND: LikesSql = LikesSql::new(|d, resource_type| {
    format!(
        "SELECT resource_id AS bound FROM likewise_like_counts WHERE resource_type = '{resource_type}' \
         AND resource_id > {} ORDER BY resource_id LIMIT 1 OFFSET $2",
        d.resource("$1")
    )
});

/// As [`USER_BOUND`]: this number of counts or of behaviors further on, whichever comes first. A count may have lost its row,
/// and its behaviors may be pruned.
static BEHAVIOR_COUNT_BOUND: LikesSql = LikesSql::new(|d, resource_type| {
    let bound = |id: &str, from: &str, condition: &str| {
        format!(
            "SELECT {id} AS bound FROM {from} WHERE {condition}resource_type = '{resource_type}' \
             AND {id} > {} ORDER BY {id} LIMIT 1 OFFSET $2",
            d.resource("$1")
        )
    };
    let of_counts = bound("c.resource_id", "likewise_behavior_counts c", "c.");
    let counted = format!("{COUNTED_BEHAVIORS} AND b.");
    let of_behaviors = bound(d.counted_resource(), "user_behaviors b", &counted);
    format!(
        "SELECT k.bound FROM (SELECT x.bound FROM ({of_counts}) x \
         UNION ALL SELECT y.bound FROM ({of_behaviors}) y) k ORDER BY k.bound LIMIT 1"
    )
});

/// The number of rows of a chunk. Parameters: its bounds, as for all of the following.
static BEHAVIORS_BETWEEN: Sql = Sql::new(|d| {
    let (after, until) = (d.user("$1"), d.user("$2"));
    count(&format!(
        "user_behaviors WHERE user_id > {after} AND user_id <= {until}"
    ))
});

static LEDGER_BETWEEN: Sql = Sql::new(|_| count("sync_events WHERE id > $1 AND id <= $2"));

static COUNTS_BETWEEN: LikesSql = LikesSql::new(|d, resource_type| {
    let (after, until) = (d.resource("$1"), d.resource("$2"));
    count(&format!(
        "likewise_like_counts WHERE resource_type = '{resource_type}' \
         AND resource_id > {after} AND resource_id <= {until}"
    ))
});

static BEHAVIOR_COUNTS_BETWEEN: LikesSql = LikesSql::new(|d, resource_type| {
    let (after, until) = (d.resource("$1"), d.resource("$2"));
    count(&format!(
        "likewise_behavior_counts c WHERE c.resource_type = '{resource_type}' \
         AND c.resource_id > {after} AND c.resource_id <= {until}"
    ))
});

static MISSING_LEDGER_ROWS: Sql =
    Sql::new(|d| missing_ledger_rows(Scope::Chunk(d)).select("b.event_id"));

static MISSING_BEHAVIORS: Sql =
    Sql::new(|d| missing_behaviors(Scope::Chunk(d)).select("e.id AS event_id"));

static BROKEN_LEDGER_ROWS: Sql =
    Sql::new(|d| broken_ledger_rows(Scope::Chunk(d)).select("e.id AS event_id"));

static WRONG_LIKES: LikesSql = LikesSql::new(|d, resource_type| {
    wrong_likes(d, resource_type, Scope::Chunk(d)).select("n.user_id, n.resource_id")
});

static STRAY_LIKES: LikesSql = LikesSql::new(|d, resource_type| {
    let (_, id) = likes_table(resource_type);
    stray_likes(resource_type, Scope::Chunk(d)).select(&format!("l.user_id, l.{id} AS resource_id"))
});

static MISSING_COUNTS: LikesSql = LikesSql::new(|d, resource_type| {
    let (_, id) = likes_table(resource_type);
    missing_counts(resource_type, Scope::Chunk(d)).select(&format!("l.{id} AS resource_id"))
});

static WRONG_COUNTS: LikesSql = LikesSql::new(|d, resource_type| {
    wrong_counts(resource_type, Scope::Chunk(d)).select("c.resource_id")
});

static WRONG_BEHAVIOR_COUNTS: LikesSql = LikesSql::new(|d, resource_type| {
    wrong_behavior_counts(d, resource_type, Scope::Chunk(d)).select("n.resource_id")
});

/// The pairs with an open ledger row. Parameters: rows `(resource_type, resource_id, user_id)`.
static OPEN_PAIRS: Sql = Sql::new(|d| {
    let pairs = [
        Word("resource_type"),
        ResourceId("resource_id"),
        User("user_id"),
    ];
    let (rows, join) = (d.rows("$1", &pairs), d.join());
    format!(
        "SELECT DISTINCT b.user_id, b.resource_type, b.resource_id FROM {rows} \
         {join} user_behaviors b ON b.user_id = r.user_id \
         AND b.resource_type = r.resource_type AND b.resource_id = r.resource_id \
         {join} sync_events e ON e.id = b.event_id \
         WHERE e.status IN ('pending', 'processing', 'failed')"
    )
});

/// The number of overdue rows. Parameters: due before.
static OVERDUE: Sql = Sql::new(|d| {
    count(&format!(
        "{} WHERE e.next_attempt_at < {}",
        d.open_rows(),
        d.time("$1")
    ))
});
