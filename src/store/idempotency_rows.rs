//! Rows of `idempotency_keys`.

use chrono::NaiveDateTime;
use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamp};
use uuid::Uuid;

use super::error::StoreError;
use crate::domain::{StoredRequest, Version};

/// What is kept of a request.
#[derive(Debug, QueryableByName)]
pub(super) struct KeptRow {
    #[diesel(sql_type = Text)]
    pub(super) id: String,
    #[diesel(sql_type = Text)]
    fingerprint: String,
    #[diesel(sql_type = Text)]
    event_id: String,
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = Text)]
    holder: String,
    #[diesel(sql_type = Timestamp)]
    lease_until: NaiveDateTime,
    #[diesel(sql_type = Nullable<Text>)]
    answer: Option<String>,
    #[diesel(sql_type = Timestamp)]
    created_at: NaiveDateTime,
}

impl KeptRow {
    /// Its id, and what is kept of it.
    pub(super) fn kept(self) -> Result<(String, StoredRequest), StoreError> {
        let uuid = |text: &str| {
            Uuid::parse_str(text).map_err(|error| StoreError::Unreadable {
                table: "idempotency_keys",
                reason: format!("'{text}': {error}"),
            })
        };
        let kept = StoredRequest {
            event_id: uuid(&self.event_id)?,
            holder: uuid(&self.holder)?,
            fingerprint: self.fingerprint,
            version: Version(self.version),
            lease_until: self.lease_until.and_utc(),
            answer: self.answer,
            created_at: self.created_at.and_utc(),
        };
        Ok((self.id, kept))
    }
}
