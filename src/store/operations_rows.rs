//! Rows of what operators see.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Timestamp};
use serde_json::Value;

use super::error::StoreError;
use super::operations::{
    BehaviorEntry, ErrorCount, HistoryEntry, Intervention, InterventionKind, Job, LedgerEntry,
    QuarantineEntry,
};
use super::rows::{QuarantinedRow, id_text, word};
use crate::domain::{LedgerRow, Step};

/// The most entries of an event's history that are shown.
pub(super) const MOST_HISTORY: usize = 1_000;

/// The most different errors that a summary names.
pub(super) const MOST_ERRORS: usize = 10;

/// What is appended to the history of an event that an operator does something to.
#[allow(clippy::type_complexity, reason = "the columns of a batch")]
pub(super) fn intervention_columns<'a>(
    row: &LedgerRow,
    intervention: &'a Intervention,
) -> (String, &'static str, i32, i64, Option<&'a str>, &'a str) {
    let (step, reason) = match &intervention.action {
        InterventionKind::Retry => (Step::Retried, None),
        InterventionKind::Discard(reason) => (Step::Discarded, Some(reason.as_str())),
    };
    (
        id_text(row.event_id),
        step.as_str(),
        row.retry_count,
        row.fencing_token,
        reason,
        &intervention.operator,
    )
}

/// A place among ledger rows.
#[derive(Debug, QueryableByName)]
pub(super) struct PlaceRow {
    #[diesel(sql_type = Timestamp)]
    created_at: NaiveDateTime,
    #[diesel(sql_type = Text)]
    id: String,
}

impl PlaceRow {
    pub(super) fn place(self) -> (DateTime<Utc>, String) {
        (self.created_at.and_utc(), self.id)
    }
}

/// A row of `sync_events`.
#[derive(Debug, QueryableByName)]
pub(super) struct LedgerEntryRow {
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
    #[diesel(sql_type = Integer)]
    priority: i32,
    #[diesel(sql_type = Nullable<Text>)]
    error_message: Option<String>,
    #[diesel(sql_type = Nullable<Timestamp>)]
    next_attempt_at: Option<NaiveDateTime>,
    #[diesel(sql_type = Nullable<Timestamp>)]
    lease_until: Option<NaiveDateTime>,
    #[diesel(sql_type = BigInt)]
    fencing_token: i64,
    #[diesel(sql_type = Timestamp)]
    created_at: NaiveDateTime,
    #[diesel(sql_type = Timestamp)]
    updated_at: NaiveDateTime,
    #[diesel(sql_type = Nullable<Timestamp>)]
    processed_at: Option<NaiveDateTime>,
}

impl From<LedgerEntryRow> for LedgerEntry {
    fn from(row: LedgerEntryRow) -> Self {
        let utc = |time: Option<NaiveDateTime>| time.map(|time| time.and_utc());
        Self {
            event_id: row.id,
            user_id: row.user_id,
            resource_type: row.resource_type,
            resource_id: row.resource_id,
            action: row.action_type,
            status: row.status,
            version: row.version,
            retry_count: row.retry_count,
            max_retries: row.max_retries,
            priority: row.priority,
            error_message: row.error_message,
            next_attempt_at: utc(row.next_attempt_at),
            lease_until: utc(row.lease_until),
            fencing_token: row.fencing_token,
            created_at: row.created_at.and_utc(),
            updated_at: row.updated_at.and_utc(),
            processed_at: utc(row.processed_at),
        }
    }
}

/// A row of `user_behaviors`.
#[derive(Debug, QueryableByName)]
pub(super) struct BehaviorEntryRow {
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
    #[diesel(sql_type = Nullable<BigInt>)]
    stream_sequence: Option<i64>,
    #[diesel(sql_type = Timestamp)]
    created_at: NaiveDateTime,
}

impl From<BehaviorEntryRow> for BehaviorEntry {
    fn from(row: BehaviorEntryRow) -> Self {
        Self {
            user_id: row.user_id,
            resource_type: row.resource_type,
            resource_id: row.resource_id,
            behavior: row.behavior_type,
            version: row.version,
            source: row.source,
            behavior_time: row.behavior_time.and_utc(),
            stream_sequence: row.stream_sequence,
            created_at: row.created_at.and_utc(),
        }
    }
}

/// A row of `sync_event_history`.
#[derive(Debug, QueryableByName)]
pub(super) struct HistoryRow {
    #[diesel(sql_type = Text)]
    step: String,
    #[diesel(sql_type = Integer)]
    retry_count: i32,
    #[diesel(sql_type = BigInt)]
    fencing_token: i64,
    #[diesel(sql_type = Nullable<Text>)]
    error_message: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    operator: Option<String>,
    #[diesel(sql_type = Timestamp)]
    created_at: NaiveDateTime,
}

impl From<HistoryRow> for HistoryEntry {
    fn from(row: HistoryRow) -> Self {
        Self {
            step: row.step,
            retry_count: row.retry_count,
            fencing_token: row.fencing_token,
            error_message: row.error_message,
            operator: row.operator,
            created_at: row.created_at.and_utc(),
        }
    }
}

/// A moment, or none.
#[derive(Debug, QueryableByName)]
pub(super) struct MomentRow {
    #[diesel(sql_type = Nullable<Timestamp>)]
    pub(super) moment: Option<NaiveDateTime>,
}

/// How many rows have an error.
#[derive(Debug, QueryableByName)]
pub(super) struct ErrorRow {
    #[diesel(sql_type = Text)]
    label: String,
    #[diesel(sql_type = BigInt)]
    total: i64,
}

impl From<ErrorRow> for ErrorCount {
    fn from(row: ErrorRow) -> Self {
        Self {
            error_message: row.label,
            rows: row.total,
        }
    }
}

/// A row of `jobs`.
#[derive(Debug, QueryableByName)]
pub(super) struct JobRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Text)]
    spec: String,
    #[diesel(sql_type = Text)]
    requested_by: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    total: Option<i64>,
    #[diesel(sql_type = BigInt)]
    done: i64,
    #[diesel(sql_type = BigInt)]
    changed: i64,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) position: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    result: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    error_message: Option<String>,
    #[diesel(sql_type = BigInt)]
    fencing_token: i64,
    #[diesel(sql_type = Timestamp)]
    created_at: NaiveDateTime,
    #[diesel(sql_type = Timestamp)]
    updated_at: NaiveDateTime,
    #[diesel(sql_type = Nullable<Timestamp>)]
    finished_at: Option<NaiveDateTime>,
}

impl JobRow {
    pub(super) fn job(self) -> Result<Job, StoreError> {
        const TABLE: &str = "jobs";
        let json = |text: &str| -> Result<Value, StoreError> {
            serde_json::from_str(text).map_err(|error| StoreError::Unreadable {
                table: TABLE,
                reason: error.to_string(),
            })
        };
        Ok(Job {
            kind: word(&self.kind, TABLE)?,
            state: word(&self.state, TABLE)?,
            spec: json(&self.spec)?,
            result: self.result.as_deref().map(json).transpose()?,
            id: self.id,
            requested_by: self.requested_by,
            total: self.total,
            done: self.done,
            changed: self.changed,
            error_message: self.error_message,
            fencing_token: self.fencing_token,
            position: self.position,
            created_at: self.created_at.and_utc(),
            updated_at: self.updated_at.and_utc(),
            finished_at: self.finished_at.map(|time| time.and_utc()),
        })
    }
}

/// A row of `quarantined_events`, with what became of it.
#[derive(Debug, QueryableByName)]
pub(super) struct QuarantineEntryRow {
    #[diesel(embed)]
    event: QuarantinedRow,
    #[diesel(sql_type = Nullable<Text>)]
    resolution: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    resolved_by: Option<String>,
    #[diesel(sql_type = Nullable<Timestamp>)]
    resolved_at: Option<NaiveDateTime>,
}

impl QuarantineEntryRow {
    pub(super) fn entry(self) -> Result<QuarantineEntry, StoreError> {
        Ok(QuarantineEntry {
            event: self.event.event()?,
            resolution: self.resolution,
            resolved_by: self.resolved_by,
            resolved_at: self.resolved_at.map(|time| time.and_utc()),
        })
    }
}
