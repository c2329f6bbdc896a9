//! Dead letters: facts that a webhook did not take. Operators (`admin/webhooks.rs`) list, retry and discard them.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{DELETE, FACT_COLUMNS, FactRow, OutboxRow};
use crate::domain::{Id, ResourceType};
use crate::store::dialect::Column::Number;
use crate::store::error::StoreError;
use crate::store::ledger_filter::{Conditions, check_error, check_times};
use crate::store::schema::Schema;
use crate::store::session::{Session, Sql};
use crate::store::statement::{Param, Statement};
use crate::store::time::InUtc;
use crate::store::{Store, read, transact};

/// A fact that its receiver did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The row, with the fact.
    pub row: OutboxRow,
    /// The receiver.
    pub receiver: String,
    /// When it was committed.
    pub created_at: DateTime<Utc>,
    /// What failed last.
    pub last_error: Option<String>,
    /// When it was given up.
    pub dead_at: DateTime<Utc>,
}

/// A filter for dead letters; an absent field matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLetterFilter {
    /// Those of this receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiver: Option<String>,
    /// The kind of resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_type: Option<ResourceType>,
    /// The resource's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub resource_id: Option<Id>,
    /// Whose like.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub user_id: Option<Id>,
    /// Dead since this moment or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Dead since before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// A part of the last error, in small or capital letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl DeadLetterFilter {
    /// Checks that every database accepts the filter. Returns the reason if one does not.
    ///
    /// # Errors
    /// If a time or a text is one that a database rejects.
    pub fn check(&self) -> Result<(), &'static str> {
        check_times(self.since, self.until)?;
        check_error(self.error.as_deref())
    }

    /// Returns the conditions on rows `o` of the outbox.
    pub(in crate::store) fn conditions(&self, d: &Schema) -> Conditions {
        let mut conditions = Conditions::default();
        conditions.and("o.dead_at IS NOT NULL".to_owned());
        if let Some(receiver) = &self.receiver {
            // Names are printable ASCII, and not every database compares their column with other text.
            if receiver.bytes().all(|byte| byte.is_ascii_graphic()) {
                let receiver = conditions.text(receiver.clone());
                conditions.and(format!("o.receiver = {receiver}"));
            } else {
                conditions.and("1 = 0".to_owned());
            }
        }
        let resource = (self.resource_type, self.resource_id.as_ref());
        conditions.about(d, "o", resource, self.user_id.as_ref());
        conditions.between(d, "o.dead_at", (self.since, self.until));
        if let Some(error) = &self.error {
            conditions.contains("COALESCE(o.last_error, '')", error);
        }
        conditions
    }
}

/// What an operator does with dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLetterAction {
    /// Sends them again, with all their attempts.
    Retry,
    /// Deletes them.
    Discard,
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

    /// Returns a dead letter.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn dead_letter(&self, id: i64) -> Result<Option<DeadLetter>, StoreError> {
        let (statement, params) = of_ids(self.schema, &[id]);
        let letters = read!(self, self.timeout, |session| letters(
            session, &statement, &params
        ))?;
        Ok(letters.into_iter().next())
    }

    /// Makes dead letters due now with all their attempts, or deletes them. Returns the ids of those that were dead.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn change_dead_letters(
        &self,
        action: DeadLetterAction,
        ids: &[i64],
    ) -> Result<BTreeSet<i64>, StoreError> {
        transact!(self, |session| change(session, action, ids))
    }
}

/// Changes those of these dead letters that are still dead. Returns their ids.
pub(in crate::store) async fn change<S: Session>(
    session: &mut S,
    action: DeadLetterAction,
    ids: &[i64],
) -> Result<BTreeSet<i64>, StoreError> {
    let d = session.schema();
    if ids.is_empty() {
        return Ok(BTreeSet::new());
    }
    let (statement, params) = of_ids(d, ids);
    let letters = letters(session, &statement, &params).await?;
    let ids: BTreeSet<_> = letters.iter().map(|letter| letter.row.id).collect();
    if !ids.is_empty() {
        let rows: Vec<_> = ids.iter().map(|id| (id,)).collect();
        let change = match action {
            DeadLetterAction::Retry => &RETRY,
            DeadLetterAction::Discard => &DELETE,
        };
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
    #[diesel(sql_type = Timestamp, deserialize_as = InUtc<NaiveDateTime>)]
    created_at: DateTime<Utc>,
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
            created_at: row.created_at,
            last_error: row.last_error,
            dead_at: row.dead_at,
        })
    };
    rows.into_iter().map(letter).collect()
}

/// The columns of a [`LetterRow`], without a condition.
fn select() -> String {
    format!(
        "SELECT {FACT_COLUMNS}, o.receiver, o.created_at, o.last_error, o.dead_at FROM likewise_outbox o"
    )
}

/// A page of dead letters, in the order of their ids.
fn page(
    d: &Schema,
    filter: &DeadLetterFilter,
    after: i64,
    limit: usize,
) -> (Statement, Vec<Param>) {
    let mut conditions = filter.conditions(d);
    let after = conditions.param(Param::Number(after));
    conditions.and(format!("o.id > {after}"));
    let limit = conditions.param(Param::limit(limit));
    let sql = format!(
        "{} WHERE {} ORDER BY o.id LIMIT {limit}",
        select(),
        conditions.sql()
    );
    (d.statement(sql), conditions.params)
}

/// The dead letters with these ids.
fn of_ids(d: &Schema, ids: &[i64]) -> (Statement, Vec<Param>) {
    let rows: Vec<_> = ids.iter().map(|id| (id,)).collect();
    let rows = [Param::rows(&rows)];
    let ids = d.rows("$1", &[Number("id")]);
    let sql = format!(
        "{} WHERE o.dead_at IS NOT NULL AND o.id IN (SELECT r.id FROM {ids})",
        select()
    );
    (d.statement(sql), rows.into())
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
