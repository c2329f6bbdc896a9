//! What operators ask of the database and do in it: the ledger, jobs, and messages in quarantine.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{QuarantinedEvent, StoreFuture};
use crate::domain::{
    JobKind, JobState, LedgerRow, Priority, ResourceType, Status, UserId, VersionedState,
};

/// Which ledger rows; what is absent does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerFilter {
    /// Their status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The kind of resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_type: Option<ResourceType>,
    /// The resource's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<i64>,
    /// Whose like.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub user_id: Option<UserId>,
    /// Recorded at this moment or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Recorded before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// A part of the error message, in small or capital letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Whether every database can hold this moment.
#[must_use]
pub fn is_storable(moment: DateTime<Utc>) -> bool {
    (1..=9_999).contains(&moment.year())
}

impl LedgerFilter {
    /// Whether every database can compare with what it says; why not, if it cannot.
    ///
    /// # Errors
    /// If a moment or a text is one that a database refuses.
    pub fn check(&self) -> Result<(), &'static str> {
        let mut moments = self.since.into_iter().chain(self.until);
        if !moments.all(is_storable) {
            return Err("'since' and 'until' must be in the years 1 to 9999");
        }
        let error = self.error.as_deref().unwrap_or_default();
        if error.contains('\0') {
            return Err("'error' must be text without NUL");
        }
        Ok(())
    }
}

/// A row of `sync_events`, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LedgerEntry {
    /// The event's id.
    pub event_id: String,
    /// Who liked or unliked.
    #[schema(value_type = i64)]
    pub user_id: UserId,
    /// The kind of resource.
    pub resource_type: String,
    /// Which one.
    pub resource_id: i64,
    /// `like` or `unlike`.
    pub action: String,
    /// How far it has come.
    pub status: String,
    /// Its place among the events of the pair.
    pub version: i64,
    /// Failed attempts.
    pub retry_count: i32,
    /// How many may fail before it is dead.
    pub max_retries: i32,
    /// Which due rows go first.
    pub priority: i32,
    /// Why the last attempt failed.
    pub error_message: Option<String>,
    /// When it is due, if it is open.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Until when a worker holds it.
    pub lease_until: Option<DateTime<Utc>>,
    /// The claim that holds it.
    pub fencing_token: i64,
    /// When it was recorded.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// When it was closed.
    pub processed_at: Option<DateTime<Utc>>,
}

/// A page of ledger rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerPage {
    /// The rows, newest first.
    pub entries: Vec<LedgerEntry>,
    /// Where the next page begins: after the row of this moment and id. It is there whenever older rows may
    /// match, also on a page with few rows or none.
    pub next: Option<(DateTime<Utc>, String)>,
}

impl LedgerPage {
    /// A page of at most `limit` rows, out of the first `limit + 1` of each way through the ledger; `end` is
    /// where they stopped looking, if not at the end of the ledger.
    #[must_use]
    pub(super) fn of(
        mut entries: Vec<LedgerEntry>,
        end: Option<(DateTime<Utc>, String)>,
        limit: usize,
    ) -> Self {
        entries.sort_by(|one, other| {
            (other.created_at, &other.event_id).cmp(&(one.created_at, &one.event_id))
        });
        if entries.len() <= limit {
            return Self { entries, next: end };
        }
        entries.truncate(limit);
        let last = entries.last();
        Self {
            next: last.map(|last| (last.created_at, last.event_id.clone())),
            entries,
        }
    }
}

/// The ledger at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LedgerHealth {
    /// Rows of each status. Without `completed` if nothing is known of their number.
    pub rows: BTreeMap<Status, i64>,
    /// Whether the number of completed rows is an estimate of the database: beyond 10,000 rows, counting them
    /// would take too long.
    pub completed_is_estimate: bool,
    /// Open rows that are due.
    pub due: i64,
    /// When the oldest open row was recorded.
    pub oldest_open_at: Option<DateTime<Utc>>,
    /// The most frequent errors of the last 10,000 failed and the last 10,000 dead rows, with how many rows have
    /// each.
    pub errors: Vec<ErrorCount>,
}

/// How many rows have an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ErrorCount {
    /// What it says.
    pub error_message: String,
    /// How many rows.
    pub rows: i64,
}

/// A row of `user_behaviors`, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BehaviorEntry {
    /// Who.
    pub user_id: UserId,
    /// The kind of resource.
    pub resource_type: String,
    /// Which one.
    pub resource_id: i64,
    /// What was done.
    pub behavior: String,
    /// Its place among the events of the pair.
    pub version: i64,
    /// Who said so.
    pub source: String,
    /// When it was done.
    pub behavior_time: DateTime<Utc>,
    /// Its place in the stream, if it came through one.
    pub stream_sequence: Option<i64>,
    /// When it was recorded.
    pub created_at: DateTime<Utc>,
}

/// An entry in an event's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HistoryEntry {
    /// What happened: a word of [`Step`](crate::domain::Step).
    pub step: String,
    /// Failed attempts by then.
    pub retry_count: i32,
    /// The claim that it happened under.
    pub fencing_token: i64,
    /// Why.
    pub error_message: Option<String>,
    /// Who did it, if somebody did.
    pub operator: Option<String>,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// All that the database knows of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// Its behavior.
    pub behavior: Option<BehaviorEntry>,
    /// Its ledger row.
    pub ledger: Option<LedgerEntry>,
    /// What happened to it, the first thing first.
    pub history: Vec<HistoryEntry>,
    /// What the read model holds of its pair.
    pub read_model: Option<VersionedState>,
}

/// What an operator does to ledger rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intervention {
    /// Which of the two.
    pub action: InterventionKind,
    /// Who does it.
    pub operator: String,
    /// Which due rows go first, of those that are tried again.
    pub priority: Priority,
    /// When.
    pub now: DateTime<Utc>,
}

/// The two things that an operator can do to a ledger row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InterventionKind {
    /// Failed and dead rows are due now, with all their attempts before them.
    Retry,
    /// Rows that are failed, dead, or under no lease are closed as dead, for this reason.
    Discard(String),
}

/// A job to be made.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// What it does.
    pub kind: JobKind,
    /// How, for whoever does it.
    pub spec: Value,
    /// Who asks for it.
    pub requested_by: String,
    /// There is one job of each slot only.
    pub slot: Option<String>,
    /// When.
    pub now: DateTime<Utc>,
}

/// A row of `jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// What it does.
    pub kind: JobKind,
    /// How far it has come.
    pub state: JobState,
    /// How it does it.
    pub spec: Value,
    /// Who asked for it.
    pub requested_by: String,
    /// How many rows there are to do, if that is known.
    pub total: Option<i64>,
    /// How many are done.
    pub done: i64,
    /// How many of those were changed.
    pub changed: i64,
    /// What came of it.
    pub result: Option<Value>,
    /// Why it could not be done.
    pub error_message: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last moved.
    pub updated_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// The claim that a worker holds; one with an older token changes nothing.
    #[serde(skip)]
    pub fencing_token: i64,
    /// Where the worker is, for the next one to go on from.
    #[serde(skip)]
    pub position: Option<String>,
}

/// What a worker reports of the job that it holds.
#[derive(Debug, Clone, Default)]
pub struct JobReport {
    /// How many rows there are to do.
    pub total: Option<i64>,
    /// How many are done.
    pub done: i64,
    /// How many of those were changed.
    pub changed: i64,
    /// The state it takes.
    pub state: Option<JobState>,
    /// What came of it.
    pub result: Option<Value>,
    /// Why it could not be done.
    pub error_message: Option<String>,
    /// Until when the worker goes on holding it.
    pub lease_until: Option<DateTime<Utc>>,
    /// Where it is; absent if it is where it was.
    pub position: Option<String>,
}

/// What one step of a job on a snapshot did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobStep {
    /// How many rows of the snapshot it has passed.
    pub passed: usize,
    /// The rows that it changed, as they were before.
    pub changed: Vec<LedgerRow>,
    /// Whether the job has come to its end.
    pub finished: bool,
}

/// A message in quarantine, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineEntry {
    /// The message.
    pub event: QuarantinedEvent,
    /// `republished` or `discarded`, once it is.
    pub resolution: Option<String>,
    /// Who did it.
    pub resolved_by: Option<String>,
    /// When.
    pub resolved_at: Option<DateTime<Utc>>,
}

/// What operators see and do; a part of [`Store`](super::Store).
pub trait Operations: Send + Sync {
    /// The ledger at a glance.
    fn ledger_health(&self, now: DateTime<Utc>) -> StoreFuture<'_, LedgerHealth>;

    /// Ledger rows, newest first, after the one of this moment and id. Where no index leads to the rows that
    /// match, it looks at 10,000 rows and answers where the next search goes on.
    fn search<'a>(
        &'a self,
        filter: &'a LedgerFilter,
        after: Option<(DateTime<Utc>, String)>,
        limit: usize,
    ) -> StoreFuture<'a, LedgerPage>;

    /// All that is known of an event.
    fn event_record<'a>(&'a self, event_id: &'a str) -> StoreFuture<'a, EventRecord>;

    /// Does something to these events, as far as their status allows; answers the rows that it was done
    /// to, as they were before.
    fn intervene<'a>(
        &'a self,
        event_ids: &'a [String],
        intervention: &'a Intervention,
    ) -> StoreFuture<'a, Vec<LedgerRow>>;

    /// How many rows of each status a job of this kind with this filter would take.
    fn count_matching<'a>(
        &'a self,
        kind: JobKind,
        filter: &'a LedgerFilter,
    ) -> StoreFuture<'a, BTreeMap<Status, i64>>;

    /// Makes a job; with a filter, on the rows that match it at this moment and no others. `None` if there
    /// is a job of the same slot.
    fn create_job<'a>(
        &'a self,
        job: &'a NewJob,
        filter: Option<&'a LedgerFilter>,
    ) -> StoreFuture<'a, Option<Job>>;

    /// A job.
    fn job<'a>(&'a self, id: &'a str) -> StoreFuture<'a, Option<Job>>;

    /// The last jobs, newest first; of one kind, if one is named.
    fn jobs(&self, kind: Option<JobKind>, limit: usize) -> StoreFuture<'_, Vec<Job>>;

    /// Takes a job that nobody is at; that one, if one is named.
    fn claim_job<'a>(
        &'a self,
        id: Option<&'a str>,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> StoreFuture<'a, Option<Job>>;

    /// Takes the next rows of a job's snapshot, `limit` of them, under its lock. `None` if the job is not
    /// this worker's any more.
    fn step_job<'a>(
        &'a self,
        job: &'a Job,
        intervention: &'a Intervention,
        limit: usize,
        until: DateTime<Utc>,
    ) -> StoreFuture<'a, Option<JobStep>>;

    /// Writes down how far a job has come. Answers whether it still is this worker's.
    fn report_job<'a>(
        &'a self,
        job: &'a Job,
        report: &'a JobReport,
        now: DateTime<Utc>,
    ) -> StoreFuture<'a, bool>;

    /// Ends a job; from then on it changes nothing. Answers it as it is then.
    fn cancel_job<'a>(&'a self, id: &'a str, now: DateTime<Utc>) -> StoreFuture<'a, Option<Job>>;

    /// Deletes jobs that ended before this moment, at most `limit` of them.
    fn prune_jobs(&self, before: DateTime<Utc>, limit: usize) -> StoreFuture<'_, usize>;

    /// Messages in quarantine, newest first, after the one of this moment and id; only those that are
    /// resolved or not, if it is said which.
    fn quarantine_entries(
        &self,
        resolved: Option<bool>,
        after: Option<(DateTime<Utc>, String)>,
        limit: usize,
    ) -> StoreFuture<'_, Vec<QuarantineEntry>>;

    /// A message in quarantine.
    fn quarantine_entry<'a>(&'a self, id: &'a str) -> StoreFuture<'a, Option<QuarantineEntry>>;

    /// Notes what became of a message. Answers whether nothing had become of it before.
    fn resolve_quarantined<'a>(
        &'a self,
        id: &'a str,
        resolution: &'a str,
        operator: &'a str,
        now: DateTime<Utc>,
    ) -> StoreFuture<'a, bool>;
}

/// The most rows that one job can take.
pub const JOB_LIMIT: usize = 1_000_000;
