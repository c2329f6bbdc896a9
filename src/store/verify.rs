//! Verification: checks the promises that the data can show. Called by `likewise verify`, by `/readyz` for
//! acknowledged events in quarantine, and by the check of a load's journal.

use std::collections::BTreeMap;

use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text};
use serde::Serialize;
use uuid::Uuid;

use super::comparisons::{
    Scope, count, missing_behaviors, missing_counts, missing_ledger_rows, open_ledger_rows,
    stray_likes, wrong_behavior_counts, wrong_counts, wrong_likes,
};
use super::dialect::Column::Word;
use super::error::StoreError;
use super::pool::VERIFY_TIMEOUT;
use super::schema::likes_table;
use super::session::{LikesSql, Mode, Session, Sql};
use super::statement::{Param, Statement};
use super::text::{id_text, word};
use super::transact::on;
use super::{Store, read};
use crate::domain::ResourceType;
use crate::domain::origin::ACCEPTED;

/// The outcome of a verification, on one snapshot.
#[derive(Debug, Clone, Serialize)]
pub struct Verification {
    /// The checked promises.
    pub checks: Vec<Check>,
    /// The number of liked pairs of each type.
    pub liked: BTreeMap<ResourceType, i64>,
}

impl Verification {
    /// Whether every promise holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.checks.iter().all(Check::holds)
    }
}

/// One promise, checked on the data.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// The promise.
    pub promise: String,
    /// The number of checked rows.
    pub checked: i64,
    /// The number of rows that break the promise.
    pub differences: i64,
    /// The first differences.
    pub examples: Vec<Difference>,
}

/// One row that breaks a promise.
#[derive(Debug, Clone, Serialize, QueryableByName)]
pub struct Difference {
    /// The event, pair or resource.
    #[diesel(sql_type = Text)]
    pub subject: String,
    /// The expected value.
    #[diesel(sql_type = Text)]
    pub expected: String,
    /// The value found.
    #[diesel(sql_type = Text)]
    pub found: String,
}

impl Check {
    fn new(promise: impl Into<String>, checked: i64) -> Self {
        Self {
            promise: promise.into(),
            checked,
            differences: 0,
            examples: Vec::new(),
        }
    }

    /// Adds the differences that one comparison found.
    fn add(&mut self, found: Vec<DifferenceRow>) {
        self.differences += found.first().map_or(0, |row| row.total);
        self.examples
            .extend(found.into_iter().map(|row| row.difference));
    }

    /// Whether the promise holds.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.differences == 0
    }
}

/// The rows of one event id.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Journaled {
    /// The number of behaviors.
    #[diesel(sql_type = BigInt)]
    pub behaviors: i64,
    /// The number of ledger rows.
    #[diesel(sql_type = BigInt)]
    pub ledger_rows: i64,
    /// The ledger row's status.
    #[diesel(sql_type = Nullable<Text>)]
    pub status: Option<String>,
}

impl Store {
    /// Checks the promises that the data can show, on one snapshot, with at most `examples` differences each.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn verify(&self, examples: usize) -> Result<Verification, StoreError> {
        read!(self, VERIFY_TIMEOUT, |session| verify(session, examples))
    }

    /// Checks that no unresolved acknowledged event is in quarantine: such an event has no effect. An index
    /// makes this cheap.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn acknowledged_in_quarantine(&self, examples: usize) -> Result<Check, StoreError> {
        // `/readyz` calls this at any rate, which must not close the readers' circuit breaker.
        on!(self, prober, self.timeout, |session| {
            acknowledged_in_quarantine(session, examples)
        })
    }

    /// Counts the rows of each of these event ids.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn journaled(&self, ids: &[Uuid]) -> Result<BTreeMap<Uuid, Journaled>, StoreError> {
        read!(self, self.inspect_timeout(), |session| journaled(
            session, ids
        ))
    }

    /// Returns the reason for each of these events that is or was in quarantine, by its id.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn quarantined_events(
        &self,
        ids: &[Uuid],
    ) -> Result<BTreeMap<String, String>, StoreError> {
        read!(self, self.inspect_timeout(), |session| quarantined_events(
            session, ids
        ))
    }
}

async fn verify<S: Session>(session: &mut S, examples: usize) -> Result<Verification, StoreError> {
    session.begin(Mode::Snapshot).await?;
    let outcome = check_promises(session, examples).await;
    session.end(outcome).await
}

async fn check_promises<S: Session>(
    session: &mut S,
    examples: usize,
) -> Result<Verification, StoreError> {
    let d = session.schema();
    let mut checks = vec![
        check(
            session,
            "each like event has one ledger row",
            LIKE_EVENTS.on(d),
            [MISSING_LEDGER_ROWS.on(d), MISSING_BEHAVIORS.on(d)],
            examples,
        )
        .await?,
        check(
            session,
            "each ledger row is completed or dead",
            LEDGER_ROWS.on(d),
            [OPEN_LEDGER_ROWS.on(d)],
            examples,
        )
        .await?,
        check(
            session,
            QUARANTINE_PROMISE,
            QUARANTINED.on(d),
            [ACKNOWLEDGED_IN_QUARANTINE.on(d)],
            examples,
        )
        .await?,
    ];
    let mut liked = BTreeMap::new();
    for resource_type in session.schema().resource_types().iter() {
        let rows = session.total(LIKED.on(d, resource_type), &[]).await?;
        liked.insert(resource_type, rows);
        checks.push(
            check(
                session,
                format!("{resource_type}_likes is the fold of user_behaviors"),
                PAIRS.on(d, resource_type),
                [
                    WRONG_LIKES.on(d, resource_type),
                    STRAY_LIKES.on(d, resource_type),
                ],
                examples,
            )
            .await?,
        );
        checks.push(
            check(
                session,
                format!("each {resource_type}'s like count is its number of likes not voided"),
                COUNTS.on(d, resource_type),
                [
                    WRONG_COUNTS.on(d, resource_type),
                    MISSING_COUNTS.on(d, resource_type),
                ],
                examples,
            )
            .await?,
        );
        checks.push(
            check(
                session,
                format!("each {resource_type}'s counts by behavior are its recorded behaviors"),
                BEHAVIOR_COUNTS.on(d, resource_type),
                [WRONG_BEHAVIOR_COUNTS.on(d, resource_type)],
                examples,
            )
            .await?,
        );
    }
    Ok(Verification { checks, liked })
}

/// Checks a promise: `total` counts the checked rows, `comparisons` find the differences.
async fn check<S: Session, const N: usize>(
    session: &mut S,
    promise: impl Into<String> + Send,
    total: &Statement,
    comparisons: [&Statement; N],
    examples: usize,
) -> Result<Check, StoreError> {
    let mut check = Check::new(promise, session.total(total, &[]).await?);
    for statement in comparisons {
        check.add(session.load(statement, &[Param::limit(examples)]).await?);
    }
    Ok(check)
}

async fn acknowledged_in_quarantine<S: Session>(
    session: &mut S,
    examples: usize,
) -> Result<Check, StoreError> {
    let statement = ACKNOWLEDGED_IN_QUARANTINE.on(session.schema());
    let most = [Param::limit(examples.max(1))];
    let mut check = Check::new(QUARANTINE_PROMISE, 0);
    check.add(session.load(statement, &most).await?);
    check.checked = check.differences;
    Ok(check)
}

async fn journaled<S: Session>(
    session: &mut S,
    ids: &[Uuid],
) -> Result<BTreeMap<Uuid, Journaled>, StoreError> {
    let statement = JOURNALED.on(session.schema());
    let rows: Vec<JournaledRow> = session.load(statement, &[id_rows(ids)]).await?;
    rows.into_iter()
        .map(|row| Ok((word(&row.event_id, "sync_events")?, row.journaled)))
        .collect()
}

async fn quarantined_events<S: Session>(
    session: &mut S,
    ids: &[Uuid],
) -> Result<BTreeMap<String, String>, StoreError> {
    let statement = QUARANTINED_EVENTS.on(session.schema());
    let rows: Vec<ReasonRow> = session.load(statement, &[id_rows(ids)]).await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.event_id, row.reason))
        .collect())
}

/// Event ids as a batch.
fn id_rows(ids: &[Uuid]) -> Param {
    let rows: Vec<_> = ids.iter().map(|id| (id_text(*id),)).collect();
    Param::rows(&rows)
}

/// A difference, with the number of all differences of its kind.
#[derive(Debug, QueryableByName)]
struct DifferenceRow {
    #[diesel(embed)]
    difference: Difference,
    #[diesel(sql_type = BigInt)]
    total: i64,
}

#[derive(Debug, QueryableByName)]
struct JournaledRow {
    #[diesel(sql_type = Text)]
    event_id: String,
    #[diesel(embed)]
    journaled: Journaled,
}

#[derive(Debug, QueryableByName)]
struct ReasonRow {
    #[diesel(sql_type = Text)]
    event_id: String,
    #[diesel(sql_type = Text)]
    reason: String,
}

const QUARANTINE_PROMISE: &str = "no acknowledged event is in quarantine";

static LIKE_EVENTS: Sql =
    Sql::new(|_| count("user_behaviors WHERE behavior_type IN ('like', 'unlike')"));

static LEDGER_ROWS: Sql = Sql::new(|_| count("sync_events"));

static QUARANTINED: Sql = Sql::new(|_| count("likewise_quarantined_events"));

static LIKED: LikesSql = LikesSql::new(|_, resource_type| {
    let (table, _) = likes_table(resource_type);
    count(&format!("{table} WHERE deleted_at IS NULL"))
});

static PAIRS: LikesSql = LikesSql::new(|_, resource_type| count(&likes_table(resource_type).0));

static COUNTS: LikesSql = LikesSql::new(|_, resource_type| {
    count(&format!(
        "likewise_like_counts WHERE resource_type = '{resource_type}'"
    ))
});

static BEHAVIOR_COUNTS: LikesSql = LikesSql::new(|_, resource_type| {
    count(&format!(
        "likewise_behavior_counts WHERE resource_type = '{resource_type}'"
    ))
});

static MISSING_LEDGER_ROWS: Sql =
    Sql::new(|_| missing_ledger_rows(Scope::All).examples("b.event_id"));

static MISSING_BEHAVIORS: Sql = Sql::new(|_| missing_behaviors(Scope::All).examples("e.id"));

static OPEN_LEDGER_ROWS: Sql = Sql::new(|_| open_ledger_rows().examples("e.id"));

static WRONG_LIKES: LikesSql = LikesSql::new(|d, resource_type| {
    let subject = format!("CONCAT('user ', n.user_id, ', {resource_type} ', n.resource_id)");
    wrong_likes(d, resource_type, Scope::All).examples(&subject)
});

static STRAY_LIKES: LikesSql = LikesSql::new(|_, resource_type| {
    let (_, id) = likes_table(resource_type);
    let subject = format!("CONCAT('user ', l.user_id, ', {resource_type} ', l.{id})");
    stray_likes(resource_type, Scope::All).examples(&subject)
});

static WRONG_COUNTS: LikesSql = LikesSql::new(|_, resource_type| {
    let subject = format!("CONCAT('{resource_type} ', c.resource_id)");
    wrong_counts(resource_type, Scope::All).examples(&subject)
});

static MISSING_COUNTS: LikesSql = LikesSql::new(|_, resource_type| {
    let (_, id) = likes_table(resource_type);
    let subject = format!("CONCAT('{resource_type} ', l.{id})");
    missing_counts(resource_type, Scope::All).examples(&subject)
});

static WRONG_BEHAVIOR_COUNTS: LikesSql = LikesSql::new(|d, resource_type| {
    let subject = format!("CONCAT('{resource_type} ', n.resource_id)");
    wrong_behavior_counts(d, resource_type, Scope::All).examples(&subject)
});

/// Each database has an index for this condition.
static ACKNOWLEDGED_IN_QUARANTINE: Sql = Sql::new(|_| {
    format!(
        "SELECT COUNT(*) OVER () AS total, CONCAT('event ', COALESCE(q.message_id, q.id)) AS subject, \
         'recorded' AS expected, CONCAT('in quarantine: ', q.reason) AS found \
         FROM likewise_quarantined_events q WHERE q.resolved_at IS NULL AND q.subject LIKE '{ACCEPTED}.%' \
         ORDER BY q.created_at LIMIT $1"
    )
});

/// The rows of event ids. Parameters: rows `(event_id)`.
static JOURNALED: Sql = Sql::new(|d| {
    format!(
        "SELECT r.event_id, COUNT(DISTINCT b.user_behavior_id) AS behaviors, \
         COUNT(DISTINCT e.id) AS ledger_rows, MAX(e.status) AS status FROM {} \
         LEFT JOIN user_behaviors b ON b.event_id = r.event_id \
         LEFT JOIN sync_events e ON e.id = r.event_id GROUP BY r.event_id",
        d.rows("$1", &[Word("event_id")])
    )
});

/// The reasons of events that are or were in quarantine. Parameters: rows `(event_id)`.
static QUARANTINED_EVENTS: Sql = Sql::new(|d| {
    format!(
        "SELECT r.event_id, CONCAT('in quarantine: ', q.reason) AS reason \
         FROM {} {} likewise_quarantined_events q ON q.message_id LIKE CONCAT(r.event_id, '%')",
        d.rows("$1", &[Word("event_id")]),
        d.join()
    )
});
