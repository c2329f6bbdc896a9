//! The outbox: facts that wait for the stream or for a webhook. The sync transaction appends them; the fact publisher
//! delivers and deletes them under a lease. `outbox/dead_letters.rs` has what operators do with dead ones.

mod dead_letters;

pub(super) use dead_letters::change as change_dead_letters;
pub use dead_letters::{DeadLetter, DeadLetterAction, DeadLetterFilter, ReceiverTotals};

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Timestamp};
use uuid::Uuid;

use super::dialect::Column::{self, Number, ResourceId, Text as AnyText, Time, User, Word};
use super::error::StoreError;
use super::lease::{LeaseKind, RowLease};
use super::pair_row::PairRow;
use super::session::{Session, Sql, TotalRow};
use super::statement::{Param, time_text};
use super::text::{id_text, word};
use super::time::InUtc;
use super::{Store, read, transact};
use crate::domain::{Fact, TraceParent, Version};

/// A fact that waits for a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its id: facts of one pair have ascending ids.
    pub id: i64,
    /// The fact.
    pub fact: Fact,
    /// The number of failed attempts.
    pub attempts: i32,
    /// When the next attempt is due; `None` before the first one.
    pub next_attempt_at: Option<DateTime<Utc>>,
}

/// A failed attempt to deliver a fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedDelivery {
    /// The row's id.
    pub id: i64,
    /// The number of failed attempts, this one included.
    pub attempts: i32,
    /// When the next attempt is due; `None` if the fact is dead.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// What failed.
    pub error: String,
}

/// The facts that wait for one receiver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backlog {
    /// The number of facts that wait, counted up to 100,000.
    pub waiting: i64,
    /// The number of dead facts, counted up to 100,000.
    pub dead: i64,
    /// When the oldest waiting fact was committed.
    pub oldest_at: Option<DateTime<Utc>>,
}

/// The limit of the rows that a backlog counts.
const COUNTED: i64 = 100_000;

impl Store {
    /// Acquires the lease to deliver to a receiver; `None` if another process holds it.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn lease_receiver(
        &self,
        receiver: &str,
        holder: &str,
        duration: Duration,
    ) -> Result<Option<RowLease>, StoreError> {
        let kind = LeaseKind {
            name: lease_name(receiver).into(),
            seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        };
        transact!(self, |session| acquire(session, &kind, holder))
    }

    /// Renews a lease. Returns whether this process still holds it.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn renew_receiver(&self, lease: &RowLease) -> Result<bool, StoreError> {
        transact!(self, |session| lease.renew(session))
    }

    /// Releases a lease, so that another process need not wait for its end.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn release_receiver(&self, lease: &RowLease) -> Result<(), StoreError> {
        transact!(self, |session| lease.release(session))
    }

    /// Returns up to `limit` facts that wait for a receiver, in the order of their ids, after this id.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn outbox(
        &self,
        receiver: &str,
        after: i64,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let params = [
            Param::Text(receiver.to_owned()),
            Param::Number(after),
            Param::limit(limit),
        ];
        read!(self, self.timeout, |session| load(session, &params))
    }

    /// Deletes delivered facts.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn delivered(&self, ids: &[i64]) -> Result<(), StoreError> {
        let rows: Vec<_> = ids.iter().map(|id| (id,)).collect();
        let params = [Param::rows(&rows)];
        transact!(self, |session| async {
            let delete = DELETE.on(session.schema());
            session.execute(delete, &params).await.map(drop)
        })
    }

    /// Records failed attempts. A fact without a next attempt is dead from now on.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn not_delivered(
        &self,
        failed: &[FailedDelivery],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let rows: Vec<_> = failed
            .iter()
            .map(|one| {
                let next = one.next_attempt_at.map(time_text);
                let dead = next.is_none().then(|| time_text(now));
                (one.id, one.attempts, next, dead, &one.error)
            })
            .collect();
        let params = [Param::rows(&rows)];
        transact!(self, |session| async {
            let fail = FAIL.on(session.schema());
            session.execute(fail, &params).await.map(drop)
        })
    }

    /// Returns how many facts wait for a receiver, and since when.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn backlog(&self, receiver: &str) -> Result<Backlog, StoreError> {
        read!(self, self.timeout, |session| backlog(session, receiver))
    }
}

/// Returns the name of the lease of a receiver. URLs are longer than a name may be.
fn lease_name(receiver: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, receiver.as_bytes());
    format!("facts/{}", hex::encode(&digest.as_ref()[..16]))
}

async fn acquire<S: Session>(
    session: &mut S,
    kind: &LeaseKind,
    holder: &str,
) -> Result<Option<RowLease>, StoreError> {
    RowLease::prepare(session, kind).await?;
    Ok(RowLease::acquire(session, kind, holder).await?.ok())
}

/// Appends facts, once for each receiver, in the transaction that commits them.
pub(super) async fn append<S: Session>(
    session: &mut S,
    receivers: &[String],
    facts: &[Fact],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    if facts.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = facts
        .iter()
        .map(|fact| {
            (
                id_text(fact.event_id),
                fact.kind.as_str(),
                &fact.pair.user_id,
                fact.pair.resource.resource_type.as_str(),
                &fact.pair.resource.id,
                fact.like_count,
                fact.version,
                fact.trace,
            )
        })
        .collect();
    let insert = INSERT.on(session.schema());
    for receiver in receivers {
        let receiver = Param::Text(receiver.clone());
        let params = [Param::rows(&rows), receiver, Param::time(now)];
        session.execute(insert, &params).await?;
    }
    Ok(())
}

/// The columns of a fact.
const FACT: [Column; 8] = [
    Word("event_id"),
    Word("fact"),
    User("user_id"),
    Word("resource_type"),
    ResourceId("resource_id"),
    Number("like_count"),
    Number("version"),
    Word("traceparent"),
];

/// Parameters: rows of [`FACT`], the receiver, now.
static INSERT: Sql = Sql::new(|d| {
    let (rows, now) = (d.rows("$1", &FACT), d.time("$3"));
    format!(
        "INSERT INTO likewise_outbox (receiver, event_id, fact, user_id, resource_type, \
         resource_id, like_count, version, traceparent, created_at) \
         SELECT $2, r.event_id, r.fact, r.user_id, r.resource_type, r.resource_id, \
         r.like_count, r.version, r.traceparent, {now} FROM {rows}"
    )
});

/// A fact in the outbox.
#[derive(Debug, QueryableByName)]
pub(super) struct FactRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    event_id: String,
    #[diesel(sql_type = Text)]
    fact: String,
    #[diesel(embed)]
    pair: PairRow,
    #[diesel(sql_type = BigInt)]
    like_count: i64,
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = Nullable<Text>)]
    traceparent: Option<String>,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = InUtc<Option<NaiveDateTime>>)]
    next_attempt_at: Option<DateTime<Utc>>,
}

/// The columns of a [`FactRow`] `o`.
const FACT_COLUMNS: &str = "o.id, o.event_id, o.fact, o.user_id, o.resource_type, \
    o.resource_id, o.like_count, o.version, o.traceparent, o.attempts, o.next_attempt_at";

const TABLE: &str = "likewise_outbox";

impl FactRow {
    fn row(&self) -> Result<OutboxRow, StoreError> {
        let event_id = Uuid::parse_str(&self.event_id).map_err(|error| StoreError::Unreadable {
            table: TABLE,
            reason: format!("event_id '{}': {error}", self.event_id),
        })?;
        Ok(OutboxRow {
            id: self.id,
            fact: Fact {
                event_id,
                kind: word(&self.fact, TABLE)?,
                pair: self.pair.pair(TABLE)?,
                like_count: self.like_count,
                version: Version(self.version),
                trace: self.traceparent.as_deref().and_then(TraceParent::parse),
            },
            attempts: self.attempts,
            next_attempt_at: self.next_attempt_at,
        })
    }
}

async fn load<S: Session>(session: &mut S, params: &[Param]) -> Result<Vec<OutboxRow>, StoreError> {
    let rows: Vec<FactRow> = session.load(OPEN.on(session.schema()), params).await?;
    rows.iter().map(FactRow::row).collect()
}

/// Parameters: the receiver, the last id before, the most rows.
static OPEN: Sql = Sql::new(|_| {
    format!(
        "SELECT {FACT_COLUMNS} FROM likewise_outbox o \
         WHERE o.receiver = $1 AND o.dead_at IS NULL AND o.id > $2 ORDER BY o.id LIMIT $3"
    )
});

/// Parameters: rows `(id)`.
static DELETE: Sql = Sql::new(|d| {
    let rows = d.rows("$1", &[Number("id")]);
    d.delete("likewise_outbox", &rows, &[("id", "r.id")])
});

/// Parameters: rows of a failed attempt.
static FAIL: Sql = Sql::new(|d| {
    let rows = d.rows(
        "$1",
        &[
            Number("id"),
            Number("attempts"),
            Time("due"),
            Time("dead"),
            AnyText("error"),
        ],
    );
    d.update(
        "likewise_outbox",
        &rows,
        "e.id = r.id",
        &[
            ("attempts", "r.attempts"),
            ("next_attempt_at", "r.due"),
            ("dead_at", "r.dead"),
            ("last_error", "r.error"),
        ],
    )
});

#[derive(Debug, QueryableByName)]
struct OldestRow {
    #[diesel(sql_type = Timestamp, deserialize_as = InUtc<NaiveDateTime>)]
    created_at: DateTime<Utc>,
}

async fn backlog<S: Session>(session: &mut S, receiver: &str) -> Result<Backlog, StoreError> {
    let params = [Param::Text(receiver.to_owned()), Param::Number(COUNTED)];
    let totals: Vec<TotalRow> = session.load(TOTALS.on(session.schema()), &params).await?;
    let total = |label| {
        let found = totals.iter().find(|row| row.label == label);
        found.map_or(0, |row| row.total)
    };
    let oldest: Vec<OldestRow> = session
        .load(OLDEST.on(session.schema()), &params[..1])
        .await?;
    Ok(Backlog {
        waiting: total("waiting"),
        dead: total("dead"),
        oldest_at: oldest.first().map(|row| row.created_at),
    })
}

/// Parameters: the receiver, the most rows to count.
static TOTALS: Sql = Sql::new(|_| {
    let total = |label, is| {
        format!(
            "SELECT '{label}' AS label, COUNT(*) AS total FROM (SELECT o.id FROM likewise_outbox o \
             WHERE o.receiver = $1 AND o.dead_at IS {is} LIMIT $2) AS counted"
        )
    };
    format!(
        "{} UNION ALL {}",
        total("waiting", "NULL"),
        total("dead", "NOT NULL")
    )
});

/// Parameters: the receiver.
static OLDEST: Sql = Sql::new(|_| {
    "SELECT o.created_at FROM likewise_outbox o WHERE o.receiver = $1 AND o.dead_at IS NULL \
     ORDER BY o.id LIMIT 1"
        .to_owned()
});
