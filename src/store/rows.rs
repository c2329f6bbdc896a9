//! Rows as they come from the database, parameters as they go to it, and the query that carries them.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Timestamp};
use uuid::Uuid;

use super::error::StoreError;
use crate::domain::{Action, LedgerRow, Resource, Status, Version};

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

/// An event id as it is stored: text on every database, so that operators can read it.
pub(super) fn id_text(id: Uuid) -> String {
    id.hyphenated().to_string()
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
