//! What operators did: `admin/operations.rs` writes and lists it.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{Nullable, Text as SqlText, Timestamp};
use uuid::Uuid;

use super::dialect::Column::{Text, Time, Word};
use super::error::StoreError;
use super::ledger_filter::Conditions;
use super::schema::Schema;
use super::session::{Session, Sql};
use super::statement::{Param, Statement, time_text};
use super::text::{id_text, word};
use super::{Store, read, transact};
use crate::domain::{OperationResult, OperationTarget, OperatorAction};

/// Something that an operator did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Its id.
    pub id: Uuid,
    /// The operator.
    pub operator: String,
    /// What the operator did.
    pub action: OperatorAction,
    /// What it was done to.
    pub target_type: OperationTarget,
    /// Its name or id, at most 255 characters.
    pub target: String,
    /// The id of the process that has the actor; `None` for what all processes share.
    pub process: Option<String>,
    /// What came of it.
    pub result: OperationResult,
    /// Why it failed.
    pub detail: Option<String>,
    /// When it was done.
    pub created_at: DateTime<Utc>,
}

/// Which operations are listed: those that match every given part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperationFilter {
    /// Those of this kind.
    pub action: Option<OperatorAction>,
    /// Those on this kind of target.
    pub target_type: Option<OperationTarget>,
    /// Those on this target.
    pub target: Option<String>,
    /// Those of this operator.
    pub operator: Option<String>,
    /// Those on actors of this process.
    pub process: Option<String>,
}

impl Store {
    /// Writes operations. One with a known id is not written again.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn note_operations(&self, operations: &[Operation]) -> Result<(), StoreError> {
        if operations.is_empty() {
            return Ok(());
        }
        transact!(self, |session| note(session, operations))
    }

    /// Returns up to `limit` operations, newest first, that follow the operation of this time and id.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn operations(
        &self,
        filter: &OperationFilter,
        after: Option<(DateTime<Utc>, String)>,
        limit: usize,
    ) -> Result<Vec<Operation>, StoreError> {
        let (statement, params) = page(self.schema, filter, after, limit);
        let rows: Vec<OperationRow> = read!(self, self.timeout, |session| async {
            session.load(&statement, &params).await
        })?;
        rows.into_iter().map(OperationRow::operation).collect()
    }
}

async fn note<S: Session>(session: &mut S, operations: &[Operation]) -> Result<(), StoreError> {
    let rows: Vec<_> = operations
        .iter()
        .map(|one| {
            (
                id_text(one.id),
                &one.operator,
                one.action.as_str(),
                one.target_type.as_str(),
                &one.target,
                &one.process,
                one.result.as_str(),
                &one.detail,
                time_text(one.created_at),
            )
        })
        .collect();
    let params = [Param::rows(&rows)];
    session.execute(NOTE.on(session.schema()), &params).await?;
    Ok(())
}

#[derive(Debug, QueryableByName)]
struct OperationRow {
    #[diesel(sql_type = SqlText)]
    id: String,
    #[diesel(sql_type = SqlText)]
    operator: String,
    #[diesel(sql_type = SqlText)]
    action: String,
    #[diesel(sql_type = SqlText)]
    target_type: String,
    #[diesel(sql_type = SqlText)]
    target: String,
    #[diesel(sql_type = Nullable<SqlText>)]
    process: Option<String>,
    #[diesel(sql_type = SqlText)]
    result: String,
    #[diesel(sql_type = Nullable<SqlText>)]
    detail: Option<String>,
    #[diesel(sql_type = Timestamp)]
    created_at: NaiveDateTime,
}

impl OperationRow {
    fn operation(self) -> Result<Operation, StoreError> {
        const TABLE: &str = "likewise_operations";
        let id = Uuid::parse_str(&self.id).map_err(|error| StoreError::Unreadable {
            table: TABLE,
            reason: error.to_string(),
        })?;
        Ok(Operation {
            id,
            operator: self.operator,
            action: word(&self.action, TABLE)?,
            target_type: word(&self.target_type, TABLE)?,
            target: self.target,
            process: self.process,
            result: word(&self.result, TABLE)?,
            detail: self.detail,
            created_at: self.created_at.and_utc(),
        })
    }
}

/// A page of operations, newest first.
fn page(
    d: &Schema,
    filter: &OperationFilter,
    after: Option<(DateTime<Utc>, String)>,
    limit: usize,
) -> (Statement, Vec<Param>) {
    let mut conditions = Conditions::default();
    for (column, value) in [
        ("action", filter.action.map(|one| one.as_str().to_owned())),
        (
            "target_type",
            filter.target_type.map(|one| one.as_str().to_owned()),
        ),
        ("target", filter.target.clone()),
        ("operator", filter.operator.clone()),
        ("process", filter.process.clone()),
    ] {
        if let Some(value) = value {
            let value = conditions.text(value);
            conditions.and(format!("o.{column} = {value}"));
        }
    }
    if let Some((time, id)) = after {
        let time = conditions.param(Param::time(time));
        let (time, id) = (d.time(&time), conditions.text(id));
        conditions.and(format!(
            "(o.created_at < {time} OR (o.created_at = {time} AND o.id < {id}))"
        ));
    }
    let limit = conditions.param(Param::limit(limit));
    let sql = format!(
        "SELECT o.id, o.operator, o.action, o.target_type, o.target, o.process, o.result, o.detail, \
         o.created_at FROM likewise_operations o WHERE {} \
         ORDER BY o.created_at DESC, o.id DESC LIMIT {limit}",
        conditions.sql()
    );
    (d.statement(sql), conditions.params)
}

/// Parameters: rows `(id, operator, action, target_type, target, process, result, detail, at)`.
static NOTE: Sql = Sql::new(|d| {
    let rows = d.rows(
        "$1",
        &[
            Word("id"),
            Text("operator"),
            Word("action"),
            Word("target_type"),
            Text("target"),
            Word("process"),
            Word("result"),
            Text("detail"),
            Time("at"),
        ],
    );
    format!(
        "INSERT INTO likewise_operations (id, operator, action, target_type, target, process, result, \
         detail, created_at) SELECT r.id, r.operator, r.action, r.target_type, r.target, r.process, \
         r.result, r.detail, r.at FROM {rows} WHERE true {}",
        d.on_conflict("likewise_operations", &["id"], &[])
    )
});
