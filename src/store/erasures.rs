//! Erasures: the fence that keeps the events of erased users and resources out, the mark that raises it, and the proofs.
//! Recording and quarantine ask the fence; `admin/erasures.rs` marks. `erase.rs` deletes the data.
//!
//! A mark raises the epoch. Recording reads it under a shared lock, so that an event is either recorded before the mark
//! commits, and deleted by the job, or sees the mark and is dropped.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{Nullable, Text, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use super::deployment::identity;
use super::dialect::Column::{Number, Text as AnyText, Word};
use super::error::StoreError;
use super::jobs::{self, JOB, NewJob};
use super::session::{IdRow, Session, Sql};
use super::statement::Param;
use super::text::word;
use super::time::InUtc;
use super::{Store, read, transact};
use crate::domain::erasure::{digest_of_resource, digest_of_user};
use crate::domain::{
    BehaviorEvent, DataSubject, Digest, ErasedKind, JobState, Names, Resource, ResourceType, UserId,
};

/// The erasures that this process knows of. Without any, each question costs the read of a flag.
#[derive(Debug, Default)]
pub struct Erasures {
    any: AtomicBool,
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    epoch: i64,
    deployment: Uuid,
    digests: HashSet<Digest>,
}

impl Erasures {
    /// Returns the epoch that this process knows: it rises with each mark and each end of an erasure.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.known().epoch
    }

    /// Returns whether this user is erased.
    #[must_use]
    pub fn has_user(&self, user_id: &UserId) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let known = self.known();
        let digest = digest_of_user(known.deployment, user_id);
        known.digests.contains(&digest)
    }

    /// Returns whether this resource is erased.
    #[must_use]
    pub fn has_resource(&self, resource: &Resource) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let known = self.known();
        let digest = digest_of_resource(known.deployment, resource);
        known.digests.contains(&digest)
    }

    /// Returns which of the two is erased, the user first.
    #[must_use]
    pub fn of(&self, user_id: &UserId, resource: &Resource) -> Option<ErasedKind> {
        if self.has_user(user_id) {
            return Some(ErasedKind::User);
        }
        self.has_resource(resource).then_some(ErasedKind::Resource)
    }

    /// Returns the positions of the events whose user or resource is erased.
    pub(super) fn of_events(&self, events: &[&BehaviorEvent]) -> BTreeMap<usize, ErasedKind> {
        if !self.any.load(Ordering::Acquire) {
            return BTreeMap::new();
        }
        let events = events.iter().enumerate();
        events
            .filter_map(|(place, event)| Some((place, self.of(&event.user_id, &event.resource)?)))
            .collect()
    }

    /// Returns whether a message names an erased user or resource. What is no JSON names none.
    pub(super) fn are_named_in(&self, payload: &[u8], names: &Names<'_>) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let Ok(json) = serde_json::from_slice::<Value>(payload) else {
            return false;
        };
        let mut named = names.in_json(&json).into_iter();
        named.any(|subject| match subject {
            DataSubject::User(user_id) => self.has_user(&user_id),
            DataSubject::Resource(resource) => self.has_resource(&resource),
        })
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads what is new at this epoch. An epoch below the known one is that of a restored backup.
    async fn catch_up<S: Session>(&self, session: &mut S, epoch: i64) -> Result<(), StoreError> {
        let before = self.epoch();
        if epoch == before {
            return Ok(());
        }
        let since = if epoch > before { before } else { 0 };
        let d = session.schema();
        let rows: Vec<IdRow> = session.load(SINCE.on(d), &[Param::Number(since)]).await?;
        let (deployment, _) = identity(session).await?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if since == 0 {
            known.digests.clear();
        }
        for row in &rows {
            let mut digest = Digest::default();
            hex::decode_to_slice(&row.id, &mut digest).map_err(|error| unreadable(&error))?;
            known.digests.insert(digest);
        }
        known.deployment = deployment.id;
        known.epoch = epoch;
        self.any.store(!known.digests.is_empty(), Ordering::Release);
        Ok(())
    }
}

const TABLE: &str = "likewise_erasures";

fn unreadable(reason: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unreadable {
        table: TABLE,
        reason: reason.to_string(),
    }
}

/// Locks out marks until the transaction ends, and brings the known erasures up to date.
pub(super) async fn share<S: Session>(
    session: &mut S,
    erasures: &Erasures,
) -> Result<(), StoreError> {
    let d = session.schema();
    if d.share_marks().is_some() {
        session.execute(SHARE_MARKS.on(d), &[]).await?;
    }
    let epoch = session.total(SHARED_EPOCH.on(d), &[]).await?;
    erasures.catch_up(session, epoch).await
}

static SHARE_MARKS: Sql = Sql::new(|d| d.share_marks().unwrap_or_default().to_owned());

/// A statement of its own: what waited for a lock must read what was committed meanwhile.
static SHARED_EPOCH: Sql = Sql::new(|d| format!("{EPOCH}{}", d.for_share()));

const EPOCH: &str = "SELECT 'epoch' AS label, e.epoch AS total FROM likewise_erasure_epoch e \
    WHERE e.name = 'likewise'";

static CURRENT_EPOCH: Sql = Sql::new(|_| EPOCH.to_owned());

static LOCK_MARKS: Sql = Sql::new(|d| d.lock_marks().unwrap_or_default().to_owned());

static LOCKED_EPOCH: Sql = Sql::new(|d| format!("{EPOCH}{}", d.for_update("e")));

static RAISE_EPOCH: Sql = Sql::new(|_| {
    "UPDATE likewise_erasure_epoch SET epoch = epoch + 1 WHERE name = 'likewise'".to_owned()
});

/// Parameters: the epoch.
static SINCE: Sql =
    Sql::new(|_| "SELECT digest AS id FROM likewise_erasures WHERE epoch > $1".to_owned());

/// The proof of an erasure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// The digest of the erased, in hexadecimal.
    pub digest: String,
    /// Whether a user or a resource is erased.
    pub kind: ErasedKind,
    /// The type of a resource.
    pub resource_type: Option<ResourceType>,
    /// The epoch from which on every process keeps it out.
    pub epoch: i64,
    /// The job that deletes the data.
    pub job_id: String,
    /// Who asked for it.
    pub requested_by: String,
    /// When it was asked for.
    pub requested_at: DateTime<Utc>,
    /// When all data was deleted.
    pub finished_at: Option<DateTime<Utc>>,
    /// How much was deleted, by kind of data.
    pub deleted: Value,
}

/// A row of `likewise_erasures`.
#[derive(Debug, QueryableByName)]
struct ErasureRow {
    #[diesel(sql_type = Text)]
    digest: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Nullable<Text>)]
    resource_type: Option<String>,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    epoch: i64,
    #[diesel(sql_type = Text)]
    job_id: String,
    #[diesel(sql_type = Text)]
    requested_by: String,
    #[diesel(sql_type = Timestamp, deserialize_as = InUtc<NaiveDateTime>)]
    requested_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = InUtc<Option<NaiveDateTime>>)]
    finished_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Text)]
    deleted: String,
}

impl ErasureRow {
    fn erasure(self) -> Result<Erasure, StoreError> {
        let resource_type = self.resource_type.as_deref();
        Ok(Erasure {
            kind: word(&self.kind, TABLE)?,
            resource_type: resource_type.map(|one| word(one, TABLE)).transpose()?,
            deleted: serde_json::from_str(&self.deleted).map_err(|error| unreadable(&error))?,
            digest: self.digest,
            epoch: self.epoch,
            job_id: self.job_id,
            requested_by: self.requested_by,
            requested_at: self.requested_at,
            finished_at: self.finished_at,
        })
    }
}

impl Store {
    /// Returns the erasures that this process knows of.
    #[must_use]
    pub fn erasures(&self) -> &Erasures {
        &self.erasures
    }

    /// Learns of new erasures. Returns whether there are any.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn learn_erasures(&self) -> Result<bool, StoreError> {
        let before = self.erasures.epoch();
        read!(self, self.timeout, |session| learn(session, &self.erasures))?;
        Ok(self.erasures.epoch() != before)
    }

    /// Marks a subject as erased, in one transaction with the job that deletes its data. From its commit on, no event of
    /// the subject is recorded. If it is marked already, returns what is there, with a new job if the last one failed.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn mark_erased(
        &self,
        subject: &DataSubject,
        job: &NewJob,
    ) -> Result<Erasure, StoreError> {
        let marked = transact!(self, |session| mark(session, subject, job))?;
        self.learn_erasures().await?;
        Ok(marked)
    }

    /// Returns the proof with this digest.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn erasure(&self, digest: &str) -> Result<Option<Erasure>, StoreError> {
        read!(self, self.timeout, |session| first(session, digest))
    }

    /// Returns the digest of a subject, in hexadecimal.
    ///
    /// # Errors
    /// If the database, which has the id of the deployment, cannot be read.
    pub async fn digest(&self, subject: &DataSubject) -> Result<String, StoreError> {
        Ok(hex::encode(subject.digest(self.deployment().await?.id)))
    }
}

async fn learn<S: Session>(session: &mut S, erasures: &Erasures) -> Result<(), StoreError> {
    let epoch = session
        .total(CURRENT_EPOCH.on(session.schema()), &[])
        .await?;
    erasures.catch_up(session, epoch).await
}

async fn first<S: Session>(session: &mut S, digest: &str) -> Result<Option<Erasure>, StoreError> {
    let params = [Param::Text(digest.to_owned())];
    let rows: Vec<ErasureRow> = session.load(READ.on(session.schema()), &params).await?;
    rows.into_iter().next().map(ErasureRow::erasure).transpose()
}

/// Waits for the transactions that record, and locks them out until this one ends. Returns the epoch.
async fn lock<S: Session>(session: &mut S) -> Result<i64, StoreError> {
    let d = session.schema();
    if d.lock_marks().is_some() {
        session.execute(LOCK_MARKS.on(d), &[]).await?;
    }
    session.total(LOCKED_EPOCH.on(d), &[]).await
}

/// Raises the epoch, so that every process looks again.
pub(super) async fn raise<S: Session>(session: &mut S) -> Result<i64, StoreError> {
    let epoch = lock(session).await?;
    session
        .execute(RAISE_EPOCH.on(session.schema()), &[])
        .await?;
    Ok(epoch + 1)
}

async fn mark<S: Session>(
    session: &mut S,
    subject: &DataSubject,
    job: &NewJob,
) -> Result<Erasure, StoreError> {
    let d = session.schema();
    lock(session).await?;
    let (deployment, _) = identity(session).await?;
    let digest = hex::encode(subject.digest(deployment.id));
    if let Some(mut found) = first(session, &digest).await? {
        let key = [Param::Text(found.job_id.clone())];
        let last = jobs::first(session, JOB.on(d), &key).await?;
        let is_stuck = |state| matches!(state, JobState::Failed | JobState::Cancelled);
        if found.finished_at.is_none() && last.is_none_or(|last| is_stuck(last.state)) {
            found.job_id = created(session, job).await?;
            let params = [Param::Text(digest), Param::Text(found.job_id.clone())];
            session.execute(SET_JOB.on(d), &params).await?;
        }
        return Ok(found);
    }
    let epoch = raise(session).await?;
    let job_id = created(session, job).await?;
    let row = (
        &digest,
        subject.kind().as_str(),
        subject.resource_type().map(ResourceType::as_str),
        epoch,
        &job_id,
        &job.requested_by,
        "{}",
    );
    let params = [Param::rows(&[row]), Param::time(job.now)];
    session.execute(INSERT.on(d), &params).await?;
    let marked = first(session, &digest).await?;
    marked.ok_or_else(|| unreadable(&"the new row is missing"))
}

async fn created<S: Session>(session: &mut S, job: &NewJob) -> Result<String, StoreError> {
    let created = jobs::create(session, job, None).await?;
    let created = created.ok_or_else(|| unreadable(&"its job was not created"))?;
    Ok(created.id)
}

/// Parameters: the digest.
static READ: Sql = Sql::new(|_| {
    "SELECT digest, kind, resource_type, epoch, job_id, requested_by, requested_at, finished_at, \
     deleted FROM likewise_erasures WHERE digest = $1"
        .to_owned()
});

/// Parameters: the digest, the job's id.
static SET_JOB: Sql =
    Sql::new(|_| "UPDATE likewise_erasures SET job_id = $2 WHERE digest = $1".to_owned());

/// Parameters: rows `(digest, subject_kind, resource_type, epoch, job_id, requested_by, deleted)`, now.
static INSERT: Sql = Sql::new(|d| {
    let rows = d.rows(
        "$1",
        &[
            Word("digest"),
            Word("subject_kind"),
            Word("resource_type"),
            Number("epoch"),
            Word("job_id"),
            AnyText("requested_by"),
            AnyText("deleted"),
        ],
    );
    format!(
        "INSERT INTO likewise_erasures (digest, kind, resource_type, epoch, job_id, requested_by, \
         requested_at, deleted) SELECT r.digest, r.subject_kind, r.resource_type, r.epoch, r.job_id, \
         r.requested_by, {}, r.deleted FROM {rows} WHERE true {}",
        d.time("$2"),
        d.on_conflict("likewise_erasures", &["digest"], &[])
    )
});
