//! Erasing: deletes what the tables hold of a user or a resource, in bounded transactions that each leave counts equal to
//! their rows. The job (`admin/erase.rs`) calls it; `erasures.rs` has kept new events out before.

mod events;
mod jobs;
mod keys;
mod messages;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use self::events::{behaviors, ledger, likes};
use self::jobs::{forget_places, history, jobs};
use self::keys::keys;
use self::messages::{facts, quarantined};
use super::erasures::raise;
use super::error::StoreError;
use super::job_claims::held;
use super::jobs::Job;
use super::schema::Schema;
use super::session::{IdRow, Session, Sql};
use super::statement::Param;
use super::{Store, read, transact};
use crate::domain::{DataSubject, EntryId, LikeCount, Names, Resource};

pub(super) use self::keys::{KEY_PAGE, KeyOf, KeyRow, key_of};
pub(super) use self::messages::{LAST_FACT, QUARANTINE_PAGE};

/// How much an erasure deleted, by kind of data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Erased {
    /// Rows of `user_behaviors`.
    pub behaviors: u64,
    /// Rows of `sync_events`.
    pub ledger_rows: u64,
    /// Entries of the history of those.
    pub history_entries: u64,
    /// Rows of the read models, liked or unliked.
    pub likes: u64,
    /// Like counts and counts by behavior of an erased resource.
    pub counts: u64,
    /// Messages in quarantine.
    pub quarantined_messages: u64,
    /// Idempotency keys with their stored answers.
    pub idempotency_keys: u64,
    /// Stored answers to batches, from which only the parts of the erased were removed.
    pub redacted_answers: u64,
    /// Jobs from whose parameters and results the erased was removed.
    pub redacted_jobs: u64,
    /// Entries in the history of other events from whose reasons the erased was removed.
    pub redacted_reasons: u64,
    /// Messages of the stream.
    pub stream_messages: u64,
    /// Messages of the streams, of events or facts, that the server overwrote. It only deleted the others.
    pub messages_overwritten: u64,
    /// Facts that waited for a receiver, and messages of the stream of facts.
    pub facts: u64,
    /// Entries of the cache.
    pub cache_entries: u64,
}

impl std::ops::AddAssign for Erased {
    fn add_assign(&mut self, other: Self) {
        self.behaviors += other.behaviors;
        self.ledger_rows += other.ledger_rows;
        self.history_entries += other.history_entries;
        self.likes += other.likes;
        self.counts += other.counts;
        self.quarantined_messages += other.quarantined_messages;
        self.idempotency_keys += other.idempotency_keys;
        self.redacted_answers += other.redacted_answers;
        self.redacted_jobs += other.redacted_jobs;
        self.redacted_reasons += other.redacted_reasons;
        self.stream_messages += other.stream_messages;
        self.messages_overwritten += other.messages_overwritten;
        self.facts += other.facts;
        self.cache_entries += other.cache_entries;
    }
}

/// What is erased, and the digest of its proof.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// The user or the resource.
    pub subject: DataSubject,
    /// The digest, in hexadecimal.
    pub digest: String,
}

/// The outcome of one step.
#[derive(Debug, Clone, Default)]
pub struct Swept {
    /// The number of rows that it deleted or changed.
    pub rows: usize,
    /// The number of likes that it deleted: see [`Erased::likes`].
    pub likes: u64,
    /// The cache entries that may be stale.
    pub entries: BTreeSet<EntryId>,
    /// The counts that changed.
    pub changed: Vec<(Resource, LikeCount)>,
    /// The position after which the next step continues; `None` after the last one.
    pub position: Option<String>,
    /// The number of rows that no step can read, and so cannot tell whom they name.
    pub unreadable: usize,
}

impl Store {
    /// Returns about how many behaviors there are to erase or, for a resource, to look through.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn erasable(&self, subject: &DataSubject) -> Result<i64, StoreError> {
        let (sql, params) = match subject {
            DataSubject::User(user_id) => (
                format!(
                    "SELECT 'rows' AS label, COUNT(*) AS total FROM user_behaviors WHERE user_id = {}",
                    self.schema.user("$1")
                ),
                vec![user_id.into()],
            ),
            DataSubject::Resource(_) => (self.schema.estimate("user_behaviors"), Vec::new()),
        };
        let statement = self.schema.statement(sql);
        let total = read!(self, self.inspect_timeout(), |session| session
            .total(&statement, &params))?;
        Ok(total.max(0))
    }

    /// Erases up to `limit` behaviors with their ledger rows, history and read models. A user's are found by an index. For
    /// a resource, the step looks through the next rows of the table after this position.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn erase_behaviors(
        &self,
        sweep: &Sweep,
        after: &str,
        limit: usize,
    ) -> Result<Swept, StoreError> {
        let now = self.now();
        transact!(self, |session| behaviors(session, sweep, after, limit, now))
    }

    /// Erases up to `limit` rows of the read models without behaviors.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn erase_likes(&self, sweep: &Sweep, limit: usize) -> Result<Swept, StoreError> {
        let now = self.now();
        transact!(self, |session| likes(session, sweep, limit, now))
    }

    /// Erases ledger rows without behaviors, from which an audit would restore the behaviors. Looks through the next rows
    /// of the table after this position.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn erase_ledger(
        &self,
        sweep: &Sweep,
        after: &str,
        limit: usize,
    ) -> Result<Swept, StoreError> {
        let now = self.now();
        transact!(self, |session| ledger(session, sweep, after, limit, now))
    }

    /// Erases facts that wait for a receiver, or are dead. Looks through the next rows of the table after this position.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn erase_facts(&self, sweep: &Sweep, after: &str) -> Result<Swept, StoreError> {
        transact!(self, |session| facts(session, sweep, after))
    }

    /// Erases the next messages in quarantine that name the subject, after this position.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn erase_quarantine(
        &self,
        sweep: &Sweep,
        after: &str,
        limit: usize,
    ) -> Result<Swept, StoreError> {
        transact!(self, |session| quarantined(session, sweep, after, limit))
    }

    /// Erases the next idempotency keys that belong to the subject, after this position. Of an answer that names others
    /// too, erases only the parts of the subject.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn erase_keys(
        &self,
        sweep: &Sweep,
        after: &str,
        limit: usize,
    ) -> Result<Swept, StoreError> {
        transact!(self, |session| keys(session, sweep, after, limit))
    }

    /// Removes the subject from the parameters and results of the next jobs after this position, except this one. Cancels
    /// open jobs about its likes.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn erase_from_jobs(
        &self,
        sweep: &Sweep,
        own: &str,
        after: &str,
        limit: usize,
    ) -> Result<Swept, StoreError> {
        let now = self.now();
        transact!(self, |session| jobs(session, sweep, own, after, limit, now))
    }

    /// Removes the subject from the reasons in the next entries of the history after this position.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn erase_from_history(
        &self,
        sweep: &Sweep,
        after: &str,
    ) -> Result<Swept, StoreError> {
        transact!(self, |session| history(session, sweep, after))
    }

    /// Adds to the proof how much was deleted outside the database.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn note_erased(&self, digest: &str, erased: Erased) -> Result<(), StoreError> {
        transact!(self, |session| note(session, digest, erased))
    }

    /// Ends an erasure, in one transaction: completes the job, whose parameters and position no longer have the id, dates
    /// the proof, and raises the epoch. Returns whether this worker still held the job.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn finish_erasure(
        &self,
        sweep: &Sweep,
        job: &Job,
        result: &Value,
    ) -> Result<bool, StoreError> {
        let now = self.now();
        transact!(self, |session| finish(session, sweep, job, result, now))
    }
}

/// The number of rows that one step looks through to find those of a resource, or ledger rows.
pub(super) const EXAMINED: usize = 20_000;

/// Adds to the numbers of the proof.
async fn note<S: Session>(session: &mut S, digest: &str, erased: Erased) -> Result<(), StoreError> {
    if erased == Erased::default() {
        return Ok(());
    }
    let d = session.schema();
    let key = || Param::Text(digest.to_owned());
    let rows: Vec<IdRow> = session.load(LOCK_DELETED.on(d), &[key()]).await?;
    let stored = rows.first().map_or("{}", |row| &row.id);
    let mut total: Erased = serde_json::from_str(stored).unwrap_or_default();
    total += erased;
    let params = [key(), Param::Text(json!(total).to_string())];
    session.execute(SET_DELETED.on(d), &params).await.map(drop)
}

/// Parameters: the digest.
static LOCK_DELETED: Sql = Sql::new(|d| {
    format!(
        "SELECT x.deleted AS id FROM likewise_erasures x WHERE x.digest = $1{}",
        d.for_update("x")
    )
});

/// Parameters: the digest, the numbers.
static SET_DELETED: Sql =
    Sql::new(|_| "UPDATE likewise_erasures SET deleted = $2 WHERE digest = $1".to_owned());

pub(super) fn names(d: &'static Schema) -> Names<'static> {
    Names {
        kinds: d.kinds(),
        resource_types: d.resource_types(),
    }
}

pub(super) fn json_of(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

async fn finish<S: Session>(
    session: &mut S,
    sweep: &Sweep,
    job: &Job,
    result: &Value,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    if held(session, job).await?.is_none() {
        return Ok(false);
    }
    let d = session.schema();
    let mut spec = job.spec.clone();
    sweep.subject.redact(&mut spec);
    let key = || Param::Text(sweep.digest.clone());
    let rows: Vec<IdRow> = session.load(LOCK_DELETED.on(d), &[key()]).await?;
    let deleted = rows.first().and_then(|row| json_of(&row.id));
    let mut result = result.clone();
    result["deleted"] = deleted.unwrap_or_default();
    let params = [
        Param::Text(job.id.clone()),
        Param::time(now),
        Param::Text(spec.to_string()),
        Param::Text(result.to_string()),
    ];
    session.execute(COMPLETE.on(d), &params).await?;
    let params = [key(), Param::time(now)];
    session.execute(SET_FINISHED.on(d), &params).await?;
    forget_places(session, sweep).await?;
    raise(session).await?;
    Ok(true)
}

/// Parameters: the job's id, now, the redacted spec, the result.
static COMPLETE: Sql = Sql::new(|d| {
    let now = d.time("$2");
    format!(
        "UPDATE likewise_jobs SET state = 'completed', spec = $3, result = $4, position = NULL, \
         error_message = NULL, updated_at = {now}, finished_at = {now}, lease_until = NULL, total = done WHERE id = $1"
    )
});

/// Parameters: the digest, now.
static SET_FINISHED: Sql = Sql::new(|d| {
    format!(
        "UPDATE likewise_erasures SET finished_at = {} WHERE digest = $1",
        d.time("$2")
    )
});
