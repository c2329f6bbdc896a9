//! Dead letters: facts that a webhook did not take. Operators (`admin/webhooks.rs`) list, retry and discard them.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamp};

use super::{DELETE, FACT_COLUMNS, FactRow, OutboxRow};
use crate::store::dialect::Column::Number;
use crate::store::error::StoreError;
use crate::store::ledger_filter::Conditions;
use crate::store::schema::Schema;
use crate::store::session::{Param, Session, Sql, Statement};
use crate::store::time::InUtc;
use crate::store::{Store, read, transact};

/// A fact that its receiver did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The row, with the fact.
    pub row: OutboxRow,
    /// The receiver.
    pub receiver: String,
    /// What failed last.
    pub last_error: Option<String>,
    /// When it was given up.
    pub dead_at: DateTime<Utc>,
}

/// Which dead letters are meant: all that match every given part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Those of this receiver.
    pub receiver: Option<String>,
    /// Those with these ids.
    pub ids: Option<Vec<i64>>,
}

/// The facts of one receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverTotals {
    /// The receiver.
    pub receiver: String,
    /// The number of facts that wait.
    pub waiting: i64,
    /// The number of dead facts.
    pub dead: i64,
    /// When the oldest waiting fact was committed.
    pub oldest_at: Option<DateTime<Utc>>,
}

/// The limit of the rows that one transaction changes.
const AT_ONCE: usize = 1_000;

impl Store {
    /// Returns the totals of each receiver that has facts in the outbox.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn receivers(&self) -> Result<Vec<ReceiverTotals>, StoreError> {
        read!(self, self.timeout, |session| receivers(session))
    }

    /// Returns up to `limit` dead letters in the order of their ids, after this id.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        after: i64,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let (statement, params) = page(self.schema, filter, after, limit);
        read!(self, self.timeout, |session| letters(
            session, &statement, &params
        ))
    }

    /// Makes dead letters due now, with all their attempts. Returns how many.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn retry_dead_letters(&self, filter: &DeadLetterFilter) -> Result<usize, StoreError> {
        self.change_dead_letters(filter, &RETRY).await
    }

    /// Deletes dead letters. Returns how many.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn discard_dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<usize, StoreError> {
        self.change_dead_letters(filter, &DELETE).await
    }

    async fn change_dead_letters(
        &self,
        filter: &DeadLetterFilter,
        change: &'static Sql,
    ) -> Result<usize, StoreError> {
        let mut changed = 0;
        let mut after = 0;
        loop {
            let ids = transact!(self, |session| change_some(session, filter, after, change))?;
            let Some(last) = ids.last() else {
                return Ok(changed);
            };
            changed += ids.len();
            after = *last;
        }
    }
}

/// Changes the next dead letters after this id. Returns their ids.
async fn change_some<S: Session>(
    session: &mut S,
    filter: &DeadLetterFilter,
    after: i64,
    change: &'static Sql,
) -> Result<Vec<i64>, StoreError> {
    let d = session.schema();
    let (statement, params) = page(d, filter, after, AT_ONCE);
    let letters = letters(session, &statement, &params).await?;
    let ids: Vec<_> = letters.iter().map(|letter| letter.row.id).collect();
    if !ids.is_empty() {
        let rows: Vec<_> = ids.iter().map(|id| (id,)).collect();
        session.execute(change.on(d), &[Param::rows(&rows)]).await?;
    }
    Ok(ids)
}

#[derive(Debug, QueryableByName)]
struct LetterRow {
    #[diesel(embed)]
    fact: FactRow,
    #[diesel(sql_type = Text)]
    receiver: String,
    #[diesel(sql_type = Nullable<Text>)]
    last_error: Option<String>,
    #[diesel(sql_type = Timestamp, deserialize_as = InUtc<NaiveDateTime>)]
    dead_at: DateTime<Utc>,
}

async fn letters<S: Session>(
    session: &mut S,
    statement: &Statement,
    params: &[Param],
) -> Result<Vec<DeadLetter>, StoreError> {
    let rows: Vec<LetterRow> = session.load(statement, params).await?;
    let letter = |row: LetterRow| {
        Ok(DeadLetter {
            row: row.fact.row()?,
            receiver: row.receiver,
            last_error: row.last_error,
            dead_at: row.dead_at,
        })
    };
    rows.into_iter().map(letter).collect()
}

/// A page of dead letters, in the order of their ids.
fn page(
    d: &Schema,
    filter: &DeadLetterFilter,
    after: i64,
    limit: usize,
) -> (Statement, Vec<Param>) {
    let mut conditions = Conditions::default();
    conditions.and("o.dead_at IS NOT NULL".to_owned());
    let after = conditions.param(Param::Number(after));
    conditions.and(format!("o.id > {after}"));
    if let Some(receiver) = &filter.receiver {
        // Names are printable ASCII, and not every database compares their column with other text.
        if receiver.bytes().all(|byte| byte.is_ascii_graphic()) {
            let receiver = conditions.text(receiver.clone());
            conditions.and(format!("o.receiver = {receiver}"));
        } else {
            conditions.and("1 = 0".to_owned());
        }
    }
    if let Some(ids) = &filter.ids {
        let rows: Vec<_> = ids.iter().map(|id| (id,)).collect();
        let rows = conditions.param(Param::rows(&rows));
        let rows = d.rows(&rows, &[Number("id")]);
        conditions.and(format!("o.id IN (SELECT r.id FROM {rows})"));
    }
    let limit = conditions.param(Param::limit(limit));
    let sql = format!(
        "SELECT {FACT_COLUMNS}, o.receiver, o.last_error, o.dead_at FROM likewise_outbox o \
         WHERE {} ORDER BY o.id LIMIT {limit}",
        conditions.sql()
    );
    (d.statement(sql), conditions.params)
}

/// Parameters: rows `(id)`.
static RETRY: Sql = Sql::new(|d| {
    d.update(
        "likewise_outbox",
        &d.rows("$1", &[Number("id")]),
        "e.id = r.id AND e.dead_at IS NOT NULL",
        &[
            ("attempts", "0"),
            ("next_attempt_at", "NULL"),
            ("dead_at", "NULL"),
        ],
    )
});

#[derive(Debug, QueryableByName)]
struct ReceiverRow {
    #[diesel(sql_type = Text)]
    receiver: String,
    #[diesel(sql_type = BigInt)]
    waiting: i64,
    #[diesel(sql_type = BigInt)]
    dead: i64,
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = InUtc<Option<NaiveDateTime>>)]
    oldest_at: Option<DateTime<Utc>>,
}

async fn receivers<S: Session>(session: &mut S) -> Result<Vec<ReceiverTotals>, StoreError> {
    let rows: Vec<ReceiverRow> = session.load(RECEIVERS.on(session.schema()), &[]).await?;
    let totals = |row: ReceiverRow| ReceiverTotals {
        receiver: row.receiver,
        waiting: row.waiting,
        dead: row.dead,
        oldest_at: row.oldest_at,
    };
    Ok(rows.into_iter().map(totals).collect())
}

static RECEIVERS: Sql = Sql::new(|d| {
    format!(
        "SELECT o.receiver, {} AS waiting, {} AS dead, \
         MIN(CASE WHEN o.dead_at IS NULL THEN o.created_at END) AS oldest_at \
         FROM likewise_outbox o GROUP BY o.receiver ORDER BY o.receiver",
        d.number("SUM(CASE WHEN o.dead_at IS NULL THEN 1 ELSE 0 END)"),
        d.number("SUM(CASE WHEN o.dead_at IS NULL THEN 0 ELSE 1 END)"),
    )
});
