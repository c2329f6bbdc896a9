//! Rows and parameters of audits, repairs and retention.

use chrono::NaiveDateTime;
use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamp};
use uuid::Uuid;

use super::error::StoreError;
use super::maintenance::{
    ArchivedBehavior, Chunk, Discrepancy, Finding, Journaled, Pass, Position, Subject,
};
use super::rows::{Param, id_text};
use crate::domain::{LedgerRow, Pair, Resource, ResourceType, Step};

/// A position as a parameter.
pub(super) fn position_param(position: &Position) -> Param {
    match position {
        Position::Number(number) => Param::Number(*number),
        Position::Id(id) => Param::Text(id.clone()),
    }
}

/// The bounds of a chunk as parameters.
pub(super) fn chunk_params(chunk: &Chunk) -> [Param; 2] {
    // An id has digits, letters and hyphens, which all sort before this.
    let end = match chunk.pass {
        Pass::Ledger => Position::Id("~".to_owned()),
        _ => Position::Number(i64::MAX),
    };
    let until = chunk.until.as_ref().unwrap_or(&end);
    [position_param(&chunk.after), position_param(until)]
}

/// What is appended to the history of an event that was put back.
#[allow(clippy::type_complexity, reason = "the columns of a batch")]
pub(super) fn restored_columns(
    row: &LedgerRow,
) -> (String, &'static str, i32, i64, Option<&str>, &'static str) {
    (
        id_text(row.event_id),
        Step::Restored.as_str(),
        row.retry_count,
        row.fencing_token,
        None,
        "audit",
    )
}

/// What there is under an event id.
#[derive(Debug, QueryableByName)]
pub(super) struct JournaledRow {
    #[diesel(sql_type = Text)]
    event_id: String,
    #[diesel(sql_type = BigInt)]
    behaviors: i64,
    #[diesel(sql_type = BigInt)]
    ledger_rows: i64,
    #[diesel(sql_type = Nullable<Text>)]
    status: Option<String>,
}

impl JournaledRow {
    pub(super) fn journaled(self) -> Result<(Uuid, Journaled), StoreError> {
        let id = Uuid::parse_str(&self.event_id).map_err(|error| StoreError::Unreadable {
            table: "sync_events",
            reason: error.to_string(),
        })?;
        let journaled = Journaled {
            behaviors: self.behaviors,
            ledger_rows: self.ledger_rows,
            status: self.status,
        };
        Ok((id, journaled))
    }
}

/// The number that ends a chunk.
#[derive(Debug, QueryableByName)]
pub(super) struct BoundRow {
    #[diesel(sql_type = BigInt)]
    pub(super) bound: i64,
}

/// An event id.
#[derive(Debug, QueryableByName)]
pub(super) struct IdRow {
    #[diesel(sql_type = Text)]
    pub(super) bound: String,
}

/// An event that something is wrong with.
#[derive(Debug, QueryableByName)]
pub(super) struct EventFindingRow {
    #[diesel(sql_type = Text)]
    event_id: String,
    #[diesel(sql_type = Text)]
    finding: String,
    #[diesel(sql_type = Text)]
    expected: String,
    #[diesel(sql_type = Text)]
    found: String,
}

impl EventFindingRow {
    pub(super) fn discrepancy(self) -> Result<Discrepancy, StoreError> {
        let unreadable = |reason: String| StoreError::Unreadable {
            table: "sync_events",
            reason,
        };
        let finding = Finding::ALL
            .into_iter()
            .find(|finding| finding.as_str() == self.finding)
            .ok_or_else(|| unreadable(format!("finding '{}'", self.finding)))?;
        Ok(Discrepancy {
            finding,
            subject: Subject::Event(self.event_id),
            expected: self.expected,
            found: self.found,
        })
    }
}

/// A pair whose row is wrong.
#[derive(Debug, QueryableByName)]
pub(super) struct LikeFindingRow {
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = BigInt)]
    resource_id: i64,
    #[diesel(sql_type = Text)]
    expected: String,
    #[diesel(sql_type = Text)]
    found: String,
}

impl LikeFindingRow {
    pub(super) fn discrepancy(self, resource_type: ResourceType) -> Discrepancy {
        Discrepancy {
            finding: Finding::WrongLike,
            subject: Subject::Pair(Pair {
                resource: Resource {
                    resource_type,
                    id: self.resource_id,
                },
                user_id: self.user_id,
            }),
            expected: self.expected,
            found: self.found,
        }
    }
}

/// A resource whose count is wrong.
#[derive(Debug, QueryableByName)]
pub(super) struct CountFindingRow {
    #[diesel(sql_type = BigInt)]
    resource_id: i64,
    #[diesel(sql_type = BigInt)]
    expected: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    found: Option<i64>,
}

impl CountFindingRow {
    pub(super) fn discrepancy(&self, resource_type: ResourceType) -> Discrepancy {
        Discrepancy {
            finding: Finding::WrongCount,
            subject: Subject::Resource(Resource {
                resource_type,
                id: self.resource_id,
            }),
            expected: format!("{} likes", self.expected),
            found: match self.found {
                None => "no count".to_owned(),
                Some(..0) => "a count below zero".to_owned(),
                Some(found) => format!("{found} likes"),
            },
        }
    }
}

/// How many users like a resource.
#[derive(Debug, QueryableByName)]
pub(super) struct LikesRow {
    #[diesel(sql_type = BigInt)]
    resource_id: i64,
    #[diesel(sql_type = BigInt)]
    total: i64,
}

impl LikesRow {
    pub(super) const fn likes(&self, resource_type: ResourceType) -> (Resource, i64) {
        let resource = Resource {
            resource_type,
            id: self.resource_id,
        };
        (resource, self.total)
    }
}

/// A row of `user_behaviors`.
#[derive(Debug, QueryableByName)]
pub(super) struct BehaviorRow {
    #[diesel(sql_type = BigInt)]
    user_behavior_id: i64,
    #[diesel(sql_type = Text)]
    event_id: String,
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = Text)]
    resource_type: String,
    #[diesel(sql_type = BigInt)]
    resource_id: i64,
    #[diesel(sql_type = Text)]
    behavior_type: String,
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = Text)]
    source: String,
    #[diesel(sql_type = Timestamp)]
    behavior_time: NaiveDateTime,
    #[diesel(sql_type = Timestamp)]
    created_at: NaiveDateTime,
}

impl BehaviorRow {
    pub(super) fn archived(self) -> ArchivedBehavior {
        ArchivedBehavior {
            user_behavior_id: self.user_behavior_id,
            event_id: self.event_id,
            user_id: self.user_id,
            resource_type: self.resource_type,
            resource_id: self.resource_id,
            behavior_type: self.behavior_type,
            version: self.version,
            source: self.source,
            behavior_time: self.behavior_time.and_utc(),
            created_at: self.created_at.and_utc(),
        }
    }
}
