//! Rows as they come from the database, parameters as they go to it, and the query that carries them.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Timestamp};
use uuid::Uuid;

use super::QuarantinedEvent;
use super::error::StoreError;
use super::lists::Cursor;
use super::migrate::MigrationLease;
pub(super) use super::session::{Param, Query, TotalRow, time_text};
use crate::domain::{
    Action, Claim, LedgerRow, LikeCount, Pair, Resource, ResourceType, Status, Step, Version,
    VersionedState,
};

/// The row of `schema_lease`.
#[derive(Debug, QueryableByName)]
pub(super) struct LeaseRow {
    #[diesel(sql_type = Text)]
    holder: String,
    #[diesel(sql_type = BigInt)]
    epoch: i64,
}

impl LeaseRow {
    pub(super) fn lease(self) -> MigrationLease {
        MigrationLease {
            holder: self.holder,
            epoch: self.epoch,
        }
    }
}

/// Which lease.
pub(super) fn lease_params(lease: &MigrationLease) -> [Param; 2] {
    [
        Param::Text(lease.holder.clone()),
        Param::Number(lease.epoch),
    ]
}

/// A pair of `video_likes` or `comment_likes`.
#[derive(Debug, QueryableByName)]
pub(super) struct StateRow {
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = BigInt)]
    resource_id: i64,
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = BigInt)]
    liked: i64,
}

impl StateRow {
    pub(super) fn state(&self, resource_type: ResourceType) -> (Pair, VersionedState) {
        let pair = Pair {
            resource: Resource {
                resource_type,
                id: self.resource_id,
            },
            user_id: self.user_id,
        };
        let mark = VersionedState {
            version: Version(self.version),
            liked: self.liked == 1,
        };
        (pair, mark)
    }
}

/// Whose behavior towards what.
#[derive(Debug, QueryableByName)]
pub(super) struct PairRow {
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = Text)]
    resource_type: String,
    #[diesel(sql_type = BigInt)]
    resource_id: i64,
}

impl PairRow {
    pub(super) fn pair(&self) -> Result<Pair, StoreError> {
        Ok(Pair {
            resource: Resource {
                resource_type: word(&self.resource_type, "user_behaviors")?,
                id: self.resource_id,
            },
            user_id: self.user_id,
        })
    }
}

/// A row of `quarantined_events`.
#[derive(Debug, QueryableByName)]
pub(super) struct QuarantinedRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = BigInt)]
    stream_sequence: i64,
    #[diesel(sql_type = Text)]
    subject: String,
    #[diesel(sql_type = Nullable<Text>)]
    message_id: Option<String>,
    #[diesel(sql_type = Text)]
    reason: String,
    #[diesel(sql_type = Text)]
    payload: String,
    #[diesel(sql_type = Timestamp)]
    created_at: NaiveDateTime,
}

impl QuarantinedRow {
    pub(super) fn event(self) -> Result<QuarantinedEvent, StoreError> {
        let unreadable = |reason: String| StoreError::Unreadable {
            table: "quarantined_events",
            reason,
        };
        Ok(QuarantinedEvent {
            id: Uuid::parse_str(&self.id).map_err(|error| unreadable(error.to_string()))?,
            stream_sequence: self.stream_sequence,
            subject: self.subject,
            message_id: self.message_id,
            reason: self.reason,
            payload: hex::decode(&self.payload).map_err(|error| unreadable(error.to_string()))?,
            created_at: self.created_at.and_utc(),
        })
    }
}

/// A row of `like_counts`.
#[derive(Debug, QueryableByName)]
pub(super) struct CountRow {
    #[diesel(sql_type = Text)]
    resource_type: String,
    #[diesel(sql_type = BigInt)]
    resource_id: i64,
    #[diesel(sql_type = BigInt)]
    like_count: i64,
    #[diesel(sql_type = BigInt)]
    revision: i64,
}

impl CountRow {
    pub(super) fn count(&self) -> Result<(Resource, LikeCount), StoreError> {
        let resource = Resource {
            resource_type: word(&self.resource_type, "like_counts")?,
            id: self.resource_id,
        };
        let count = LikeCount {
            like_count: self.like_count,
            revision: self.revision,
        };
        Ok((resource, count))
    }
}

/// What a worker needs of a row of `sync_events`.
#[derive(Debug, QueryableByName)]
pub(super) struct EventRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = Text)]
    resource_type: String,
    #[diesel(sql_type = BigInt)]
    resource_id: i64,
    #[diesel(sql_type = Text)]
    action_type: String,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = Integer)]
    retry_count: i32,
    #[diesel(sql_type = Integer)]
    max_retries: i32,
    #[diesel(sql_type = BigInt)]
    fencing_token: i64,
    #[diesel(sql_type = Nullable<Timestamp>)]
    next_attempt_at: Option<NaiveDateTime>,
}

impl EventRow {
    /// Its id, as it is stored.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// When it is due: at the end of its lease, if a worker has one.
    pub(super) fn next_attempt_at(&self) -> Option<DateTime<Utc>> {
        self.next_attempt_at.map(|at| at.and_utc())
    }

    /// Its id and its token, which a statement takes to change it for whoever holds that.
    pub(super) fn claimed_as(&self) -> (&str, i64) {
        (&self.id, self.fencing_token)
    }

    pub(super) fn ledger_row(&self) -> Result<(Status, LedgerRow), StoreError> {
        const TABLE: &str = "sync_events";
        let row = LedgerRow {
            event_id: Uuid::parse_str(&self.id).map_err(|error| StoreError::Unreadable {
                table: TABLE,
                reason: format!("id '{}': {error}", self.id),
            })?,
            user_id: self.user_id,
            resource: Resource {
                resource_type: word(&self.resource_type, TABLE)?,
                id: self.resource_id,
            },
            action: word::<Action>(&self.action_type, TABLE)?,
            version: Version(self.version),
            retry_count: self.retry_count,
            max_retries: self.max_retries,
            fencing_token: self.fencing_token,
        };
        Ok((word(&self.status, TABLE)?, row))
    }
}

/// The columns that a claim writes, for a lease that ends then.
pub(super) fn claim_columns<'a>(
    claim: &'a Claim,
    lease_end: &'a str,
) -> (
    String,
    &'static str,
    i32,
    Option<&'a str>,
    Option<&'a str>,
    i64,
    Option<&'static str>,
) {
    let lease_end = claim.status.is_open().then_some(lease_end);
    (
        id_text(claim.row.event_id),
        claim.status.as_str(),
        claim.row.retry_count,
        lease_end,
        lease_end,
        claim.row.fencing_token,
        claim.error,
    )
}

/// What a claim appends to the event's history, if there is anything to say.
#[allow(clippy::type_complexity, reason = "the columns of a batch")]
pub(super) fn history_columns(
    claim: &Claim,
) -> Option<(String, &'static str, i32, i64, &'static str, Option<&str>)> {
    let error = claim.error?;
    let step = match claim.status {
        Status::Dead => Step::Dead,
        _ => Step::Abandoned,
    };
    Some((
        id_text(claim.row.event_id),
        step.as_str(),
        claim.row.retry_count,
        claim.row.fencing_token - 1,
        error,
        None,
    ))
}

/// Resources as a batch.
pub(super) fn resource_rows<'a>(resources: impl IntoIterator<Item = &'a Resource>) -> Param {
    let rows: Vec<_> = resources
        .into_iter()
        .map(|resource| (resource.resource_type.as_str(), resource.id))
        .collect();
    Param::rows(&rows)
}

/// An event id as it is stored: text on every database, so that operators can read it.
pub(super) fn id_text(id: Uuid) -> String {
    id.hyphenated().to_string()
}

/// The parameters of a page of likes.
pub(super) fn page_params(key: i64, below: Cursor, limit: usize) -> [Param; 4] {
    [
        Param::Number(key),
        Param::Number(below.version.0),
        Param::Number(below.id),
        Param::limit(limit),
    ]
}

/// Reads a word that only this program writes.
pub(super) fn word<T: std::str::FromStr<Err: ToString>>(
    word: &str,
    table: &'static str,
) -> Result<T, StoreError> {
    word.parse()
        .map_err(|error: T::Err| StoreError::Unreadable {
            table,
            reason: error.to_string(),
        })
}
