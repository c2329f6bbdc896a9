//! The row of a ledger entry that a worker reads: claims, syncs, retries and repairs load it.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Timestamp};
use uuid::Uuid;

use super::error::StoreError;
use super::pair_row::PairRow;
use super::text::word;
use super::time::InUtc;
use crate::domain::{Action, LedgerRow, Pair, Status, TraceParent, Version};

/// The columns of `sync_events` that a worker needs.
#[derive(Debug, QueryableByName)]
pub(super) struct StoredLedgerRow {
    #[diesel(sql_type = Text)]
    pub(super) id: String,
    #[diesel(embed)]
    pair: PairRow,
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
    /// When it is due: at the end of its lease, if a worker holds it.
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = InUtc<Option<NaiveDateTime>>)]
    pub(super) next_attempt_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Text>)]
    traceparent: Option<String>,
}

impl StoredLedgerRow {
    /// Returns its id and fencing token, by which a statement changes only rows that this worker still holds.
    pub(super) fn claimed_as(&self) -> (&str, i64) {
        (&self.id, self.fencing_token)
    }

    /// Returns its status, and the row as the rules take it.
    ///
    /// # Errors
    /// If a column cannot be parsed.
    pub(super) fn ledger_row(&self) -> Result<(Status, LedgerRow), StoreError> {
        const TABLE: &str = "sync_events";
        let Pair { resource, user_id } = self.pair.pair(TABLE)?;
        let row = LedgerRow {
            event_id: Uuid::parse_str(&self.id).map_err(|error| StoreError::Unreadable {
                table: TABLE,
                reason: format!("id '{}': {error}", self.id),
            })?,
            user_id,
            resource,
            action: word::<Action>(&self.action_type, TABLE)?,
            version: Version(self.version),
            retry_count: self.retry_count,
            max_retries: self.max_retries,
            fencing_token: self.fencing_token,
            trace: self.traceparent.as_deref().and_then(TraceParent::parse),
        };
        Ok((word(&self.status, TABLE)?, row))
    }
}
