//! Erasing: deletes what the tables hold of a user or a resource, in bounded transactions that each leave counts equal to
//! their rows. The job (`admin/erase.rs`) calls it; `erasures.rs` has kept new events out before.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::behavior_counts;
use super::dialect::Column::{Text as AnyText, Word};
use super::erasures::raise;
use super::error::StoreError;
use super::job_claims::held;
use super::jobs::{CANCEL, JOB_COLUMNS, Job, JobRow};
use super::pair_row::PairRow;
use super::read_models::{
    DELETE_COUNTS, drop_unused_counts, lock_counts, resource_rows, states, write_counts,
};
use super::repair::delete_likes;
use super::retention::{DELETE_BEHAVIORS, DELETE_HISTORY, DELETE_LEDGER, LAST_EXAMINED};
use super::schema::{Schema, likes_table};
use super::session::{IdRow, Param, Session, Sql};
use super::{Store, quarantine, read, transact};
use crate::domain::{DataSubject, LikeCount, Names, Pair, Resource};

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
    /// The resources whose cache entries may be stale.
    pub resources: BTreeSet<Resource>,
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

/// An event and its pair.
#[derive(Debug, QueryableByName)]
struct EventRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(embed)]
    pair: PairRow,
}

/// The parameter and the condition of the rows of a subject, in a table under this alias.
fn owned(d: &Schema, subject: &DataSubject, alias: &str, param: &str) -> (Param, String) {
    match subject {
        DataSubject::User(user_id) => (
            user_id.into(),
            format!("{alias}.user_id = {}", d.user(param)),
        ),
        DataSubject::Resource(resource) => (
            (&resource.id).into(),
            format!(
                "{alias}.resource_type = '{}' AND {alias}.resource_id = {}",
                resource.resource_type,
                d.resource(param)
            ),
        ),
    }
}

/// The number of rows that one step looks through to find those of a resource, or ledger rows.
pub(super) const EXAMINED: usize = 20_000;

async fn behaviors<S: Session>(
    session: &mut S,
    sweep: &Sweep,
    after: &str,
    limit: usize,
    now: DateTime<Utc>,
) -> Result<Swept, StoreError> {
    let d = session.schema();
    let (id, owned) = owned(d, &sweep.subject, "b", "$1");
    let columns = "b.event_id AS id, b.user_id, b.resource_type, b.resource_id";
    if let DataSubject::User(_) = sweep.subject {
        // In the order of the index. The pairs of a resource's type are neighbours, and so are the events of a pair.
        let statement = d.statement(format!(
            "SELECT {columns} FROM user_behaviors b WHERE {owned} \
             ORDER BY b.user_id, b.resource_type, b.resource_id, b.version LIMIT $2"
        ));
        let rows: Vec<EventRow> = session.load(&statement, &[id, Param::limit(limit)]).await?;
        let more = rows.len() == limit;
        let mut swept = remove(session, sweep, rows, now).await?;
        swept.position = more.then(String::new);
        return Ok(swept);
    }
    let after: i64 = after.parse().unwrap_or_default();
    let params = [Param::Number(after), Param::limit(EXAMINED)];
    let last = session.total(LAST_EXAMINED.on(d), &params).await?;
    if last <= after {
        return Ok(Swept::default());
    }
    let statement = d.statement(format!(
        "SELECT {columns} FROM user_behaviors b WHERE {owned} AND b.user_behavior_id > $2 \
         AND b.user_behavior_id <= $3 ORDER BY b.user_behavior_id LIMIT $4"
    ));
    let params = [
        id,
        Param::Number(after),
        Param::Number(last),
        Param::limit(limit),
    ];
    let rows: Vec<EventRow> = session.load(&statement, &params).await?;
    let more = rows.len() == limit;
    let mut swept = remove(session, sweep, rows, now).await?;
    swept.position = Some(if more { after } else { last }.to_string());
    Ok(swept)
}

async fn likes<S: Session>(
    session: &mut S,
    sweep: &Sweep,
    limit: usize,
    now: DateTime<Utc>,
) -> Result<Swept, StoreError> {
    let d = session.schema();
    for resource_type in d.resource_types().iter() {
        let (table, id) = likes_table(resource_type);
        let (key, owned) = match &sweep.subject {
            DataSubject::User(user_id) => (user_id, format!("l.user_id = {}", d.user("$1"))),
            DataSubject::Resource(resource) if resource.resource_type == resource_type => {
                (&resource.id, format!("l.{id} = {}", d.resource("$1")))
            }
            DataSubject::Resource(_) => continue,
        };
        let statement = d.statement(format!(
            "SELECT l.user_id, '{resource_type}' AS resource_type, l.{id} AS resource_id \
             FROM {table} l WHERE {owned} LIMIT $2"
        ));
        let params = [key.into(), Param::limit(limit)];
        let rows: Vec<PairRow> = session.load(&statement, &params).await?;
        if rows.is_empty() {
            continue;
        }
        let pairs: BTreeSet<Pair> = rows
            .iter()
            .map(|row| row.pair("likes"))
            .collect::<Result<_, _>>()?;
        let mut swept = delete(session, sweep, &[], &pairs, now).await?;
        swept.position = Some(String::new());
        return Ok(swept);
    }
    let mut swept = Swept::default();
    if let DataSubject::Resource(resource) = &sweep.subject {
        let params = [resource_rows(&BTreeSet::from([resource.clone()]))];
        let by_behavior = behavior_counts::delete(session, resource).await?;
        let counts = session.execute(DELETE_COUNTS.on(d), &params).await? + by_behavior;
        let erased = Erased {
            counts: counts as u64,
            ..Erased::default()
        };
        note(session, &sweep.digest, erased).await?;
        swept.rows = counts;
        swept.resources.insert(resource.clone());
    }
    Ok(swept)
}

/// The last of some ids.
#[derive(Debug, QueryableByName)]
struct LastRow {
    #[diesel(sql_type = Nullable<Text>)]
    id: Option<String>,
}

async fn ledger<S: Session>(
    session: &mut S,
    sweep: &Sweep,
    after: &str,
    limit: usize,
    now: DateTime<Utc>,
) -> Result<Swept, StoreError> {
    let d = session.schema();
    let after = || Param::Text(after.to_owned());
    let params = [after(), Param::limit(EXAMINED)];
    let last: Vec<LastRow> = session.load(LAST_LEDGER.on(d), &params).await?;
    let Some(last) = last.into_iter().find_map(|row| row.id) else {
        return Ok(Swept::default());
    };
    let (id, owned) = owned(d, &sweep.subject, "e", "$1");
    let statement = d.statement(format!(
        "SELECT e.id, e.user_id, e.resource_type, e.resource_id FROM sync_events e \
         WHERE {owned} AND e.id > $2 AND e.id <= $3 ORDER BY e.id LIMIT $4"
    ));
    let params = [id, after(), Param::Text(last.clone()), Param::limit(limit)];
    let rows: Vec<EventRow> = session.load(&statement, &params).await?;
    let more = rows.len() == limit;
    let mut swept = remove(session, sweep, rows, now).await?;
    swept.position = Some(match (more, after()) {
        (true, Param::Text(after)) => after,
        _ => last,
    });
    Ok(swept)
}

/// Parameters: the id after which, the most rows.
static LAST_LEDGER: Sql = Sql::new(|_| {
    "SELECT MAX(e.id) AS id FROM (SELECT id FROM sync_events WHERE id > $1 ORDER BY id LIMIT $2) e"
        .to_owned()
});

/// Deletes events with the read models of their pairs.
async fn remove<S: Session>(
    session: &mut S,
    sweep: &Sweep,
    rows: Vec<EventRow>,
    now: DateTime<Utc>,
) -> Result<Swept, StoreError> {
    if rows.is_empty() {
        return Ok(Swept::default());
    }
    let pairs: BTreeSet<Pair> = rows
        .iter()
        .map(|row| row.pair.pair("user_behaviors"))
        .collect::<Result<_, _>>()?;
    let ids: Vec<String> = rows.into_iter().map(|row| row.id).collect();
    delete(session, sweep, &ids, &pairs, now).await
}

/// Deletes these events, and the rows of these pairs, under the locks of the live pipeline: a worker that syncs one of the
/// pairs has committed before, or finds its ledger row gone.
async fn delete<S: Session>(
    session: &mut S,
    sweep: &Sweep,
    ids: &[String],
    pairs: &BTreeSet<Pair>,
    now: DateTime<Utc>,
) -> Result<Swept, StoreError> {
    let d = session.schema();
    let resources: BTreeSet<Resource> = pairs.iter().map(|pair| pair.resource.clone()).collect();
    let served = |resource: &&Resource| {
        d.resource_types()
            .iter()
            .any(|one| one == resource.resource_type)
    };
    let rows: Vec<_> = ids.iter().map(|id| (id,)).collect();
    // These counts first, as where behaviors are recorded.
    behavior_counts::subtract(session, &rows, now).await?;
    let counted: BTreeSet<Resource> = resources.iter().filter(served).cloned().collect();
    let mut counts = lock_counts(session, &counted, now).await?;
    let mut erased = Erased::default();
    if !ids.is_empty() {
        let params = [Param::rows(&rows)];
        erased.history_entries = session.execute(DELETE_HISTORY.on(d), &params).await? as u64;
        erased.ledger_rows = session.execute(DELETE_LEDGER.on(d), &params).await? as u64;
        delete_from_snapshots(session, ids).await?;
    }
    let stored = states(session, pairs).await?;
    let mut changes: BTreeMap<Resource, i64> = BTreeMap::new();
    for (pair, state) in &stored {
        *changes.entry(pair.resource.clone()).or_default() -= state.weight();
    }
    changes.retain(|_, change| *change != 0);
    let stored_pairs: Vec<&Pair> = stored.iter().map(|(pair, _)| pair).collect();
    erased.likes = delete_likes(session, &stored_pairs).await? as u64;
    let changed = write_counts(session, &mut counts, &changes, now).await?;
    drop_unused_counts(session, &counted).await?;
    if !ids.is_empty() {
        let params = [Param::rows(&rows)];
        erased.behaviors = session.execute(DELETE_BEHAVIORS.on(d), &params).await? as u64;
    }
    note(session, &sweep.digest, erased).await?;
    let changed = changed.into_iter().filter_map(|resource| {
        let count = counts.get(&resource).copied()?;
        Some((resource, count))
    });
    Ok(Swept {
        rows: ids.len().max(stored.len()),
        changed: changed.collect(),
        resources,
        ..Swept::default()
    })
}

/// Deletes events from the snapshots of jobs, which are few and found by the job first.
async fn delete_from_snapshots<S: Session>(
    session: &mut S,
    ids: &[String],
) -> Result<(), StoreError> {
    let d = session.schema();
    let jobs: Vec<IdRow> = session.load(SNAPSHOT_JOBS.on(d), &[]).await?;
    for job in &jobs {
        let rows: Vec<_> = ids.iter().map(|id| (&job.id, id)).collect();
        session
            .execute(DELETE_SNAPSHOTS.on(d), &[Param::rows(&rows)])
            .await?;
    }
    Ok(())
}

static SNAPSHOT_JOBS: Sql = Sql::new(|_| {
    "SELECT id FROM likewise_jobs WHERE kind IN ('retry', 'discard') AND total > 0".to_owned()
});

/// Parameters: rows `(job_id, event_id)`.
static DELETE_SNAPSHOTS: Sql = Sql::new(|d| {
    let rows = d.rows("$1", &[Word("job_id"), Word("event_id")]);
    let key = [("job_id", "r.job_id"), ("event_id", "r.event_id")];
    d.delete("likewise_job_events", &rows, &key)
});

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

async fn facts<S: Session>(
    session: &mut S,
    sweep: &Sweep,
    after: &str,
) -> Result<Swept, StoreError> {
    let d = session.schema();
    let after: i64 = after.parse().unwrap_or_default();
    let params = [Param::Number(after), Param::limit(EXAMINED)];
    let last = session.total(LAST_FACT.on(d), &params).await?;
    if last <= after {
        return Ok(Swept::default());
    }
    let (id, owned) = owned(d, &sweep.subject, "likewise_outbox", "$1");
    let statement = d.statement(format!(
        "DELETE FROM likewise_outbox WHERE {owned} AND likewise_outbox.id > $2 \
         AND likewise_outbox.id <= $3"
    ));
    let params = [id, Param::Number(after), Param::Number(last)];
    let rows = session.execute(&statement, &params).await?;
    let erased = Erased {
        facts: rows as u64,
        ..Erased::default()
    };
    note(session, &sweep.digest, erased).await?;
    Ok(Swept {
        rows,
        position: Some(last.to_string()),
        ..Swept::default()
    })
}

/// Parameters: the id after which, the most rows.
pub(super) static LAST_FACT: Sql = Sql::new(|d| {
    format!(
        "SELECT 'last' AS label, {} AS total FROM (SELECT id FROM likewise_outbox \
         WHERE id > $1 ORDER BY id LIMIT $2) o",
        d.number("COALESCE(MAX(o.id), 0)")
    )
});

async fn quarantined<S: Session>(
    session: &mut S,
    sweep: &Sweep,
    after: &str,
    limit: usize,
) -> Result<Swept, StoreError> {
    let d = session.schema();
    let params = [Param::Text(after.to_owned()), Param::limit(limit)];
    let entries = quarantine::load(session, QUARANTINE_PAGE.on(d), &params).await?;
    let mut swept = Swept::default();
    let mut named = Vec::new();
    for entry in &entries {
        let id = entry.event.id.hyphenated().to_string();
        match sweep
            .subject
            .is_named_in_bytes(&entry.event.payload, &names(d))
        {
            Some(true) => named.push((id.clone(),)),
            Some(false) => {}
            None => swept.unreadable += 1,
        }
        swept.position = Some(id);
    }
    if !named.is_empty() {
        let params = [Param::rows(&named)];
        swept.rows = session.execute(DELETE_QUARANTINED.on(d), &params).await?;
        let erased = Erased {
            quarantined_messages: swept.rows as u64,
            ..Erased::default()
        };
        note(session, &sweep.digest, erased).await?;
    }
    Ok(swept)
}

/// Parameters: the id after which, the most rows.
pub(super) static QUARANTINE_PAGE: Sql = Sql::new(|d| {
    format!(
        "{} WHERE q.id > $1 ORDER BY q.id LIMIT $2",
        quarantine::messages(d)
    )
});

/// Parameters: rows `(message)`.
static DELETE_QUARANTINED: Sql = Sql::new(|d| {
    let rows = d.rows("$1", &[Word("message")]);
    d.delete("likewise_quarantined_events", &rows, &[("id", "r.message")])
});

/// An idempotency key with its caller and the stored answer.
#[derive(Debug, QueryableByName)]
pub(super) struct KeyRow {
    #[diesel(sql_type = Text)]
    pub(super) id: String,
    #[diesel(sql_type = Text)]
    pub(super) caller: String,
    #[diesel(sql_type = Text)]
    pub(super) idempotency_key: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) answer: Option<String>,
}

async fn keys<S: Session>(
    session: &mut S,
    sweep: &Sweep,
    after: &str,
    limit: usize,
) -> Result<Swept, StoreError> {
    let d = session.schema();
    let params = [Param::Text(after.to_owned()), Param::limit(limit)];
    let rows: Vec<KeyRow> = session.load(KEY_PAGE.on(d), &params).await?;
    let (mut owned, mut shared) = (Vec::new(), Vec::new());
    for row in &rows {
        match key_of(row, &sweep.subject, &names(d)) {
            KeyOf::Others => {}
            KeyOf::Subject => owned.push((&row.id,)),
            KeyOf::Both(answer) => shared.push((&row.id, answer)),
        }
    }
    let mut erased = Erased::default();
    if !owned.is_empty() {
        let params = [Param::rows(&owned)];
        erased.idempotency_keys = session.execute(DELETE_KEYS.on(d), &params).await? as u64;
    }
    if !shared.is_empty() {
        session
            .execute(REDACT_KEYS.on(d), &[Param::rows(&shared)])
            .await?;
        erased.redacted_answers = shared.len() as u64;
    }
    note(session, &sweep.digest, erased).await?;
    Ok(Swept {
        rows: owned.len() + shared.len(),
        position: rows.last().map(|row| row.id.clone()),
        ..Swept::default()
    })
}

/// Whose a key is.
pub(super) enum KeyOf {
    /// Of others alone.
    Others,
    /// Of the subject alone.
    Subject,
    /// Of a batch that names others too, with the answer in which the subject is replaced.
    Both(String),
}

/// Tells whose a key is: by its caller, who may be a user, and by whom the stored answer names.
pub(super) fn key_of(row: &KeyRow, subject: &DataSubject, names: &Names<'_>) -> KeyOf {
    if let DataSubject::User(_) = subject
        && row.caller == subject.to_string()
    {
        return KeyOf::Subject;
    }
    let Some(mut answer) = row.answer.as_deref().and_then(json_of) else {
        return KeyOf::Others;
    };
    if !subject.is_named_in(&answer, names) {
        return KeyOf::Others;
    }
    let Some(results) = answer["results"].as_array_mut() else {
        return KeyOf::Subject;
    };
    let named = |item: &Value| subject.is_named_in(item, names);
    if results.iter().all(named) {
        return KeyOf::Subject;
    }
    for item in results.iter_mut().filter(|item| named(item)) {
        *item = refused(subject);
    }
    KeyOf::Both(answer.to_string())
}

/// The result of a behavior of an erased subject, as the API answers it.
fn refused(subject: &DataSubject) -> Value {
    let kind = subject.kind().as_str();
    json!({"status": 410, "problem": {
        "type": format!("urn:likewise:problem:{kind}_erased"),
        "title": "Erased",
        "status": 410,
        "detail": format!("the {kind} was erased"),
        "code": format!("{kind}_erased"),
    }})
}

fn json_of(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

/// Parameters: the id after which, the most rows.
pub(super) static KEY_PAGE: Sql = Sql::new(|_| {
    "SELECT k.id, k.caller, k.idempotency_key, k.answer FROM likewise_idempotency_keys k \
     WHERE k.id > $1 ORDER BY k.id LIMIT $2"
        .to_owned()
});

/// Parameters: rows `(request_id)`.
static DELETE_KEYS: Sql = Sql::new(|d| {
    let rows = d.rows("$1", &[Word("request_id")]);
    d.delete(
        "likewise_idempotency_keys",
        &rows,
        &[("id", "r.request_id")],
    )
});

/// The id, a hash of caller and key, stays, so that the request is still answered once. Parameters: rows
/// `(request_id, answer)`.
static REDACT_KEYS: Sql = Sql::new(|d| {
    d.update(
        "likewise_idempotency_keys",
        &d.rows("$1", &[Word("request_id"), AnyText("answer")]),
        "e.id = r.request_id",
        &[("answer", "r.answer"), ("idempotency_key", "'erased'")],
    )
});

async fn jobs<S: Session>(
    session: &mut S,
    sweep: &Sweep,
    own: &str,
    after: &str,
    limit: usize,
    now: DateTime<Utc>,
) -> Result<Swept, StoreError> {
    let d = session.schema();
    let params = [Param::Text(after.to_owned()), Param::limit(limit)];
    let rows: Vec<JobRow> = session.load(JOB_PAGE.on(d), &params).await?;
    let mut swept = Swept::default();
    for row in rows {
        let mut job = row.job()?;
        swept.position = Some(job.id.clone());
        let is_about = sweep.subject.redact(&mut job.spec);
        let mut changed = is_about;
        if let Some(result) = &mut job.result {
            changed |= sweep.subject.redact(result);
        }
        if changed && job.id != own {
            let mut error = job.error_message.unwrap_or_default();
            sweep.subject.redact_text(&mut error);
            if let Value::String(reason) = &mut job.spec["reason"] {
                sweep.subject.redact_text(reason);
            }
            if is_about && job.state.is_open() && job.kind.is_of_user() {
                let params = [Param::Text(job.id.clone()), Param::time(now)];
                session.execute(CANCEL.on(d), &params).await?;
            }
            let params = [
                Param::Text(job.id),
                Param::Text(job.spec.to_string()),
                Param::Text(job.result.map(|json| json.to_string()).unwrap_or_default()),
                Param::Text(error),
            ];
            session.execute(REDACT_JOB.on(d), &params).await?;
            swept.rows += 1;
        }
    }
    let erased = Erased {
        redacted_jobs: swept.rows as u64,
        ..Erased::default()
    };
    note(session, &sweep.digest, erased).await?;
    Ok(swept)
}

/// Parameters: the id after which, the most rows.
static JOB_PAGE: Sql = Sql::new(|d| {
    format!(
        "SELECT {JOB_COLUMNS} FROM likewise_jobs j WHERE j.id > $1 ORDER BY j.id LIMIT $2{}",
        d.for_update("j")
    )
});

/// Parameters: the job's id, the spec, the result and the error, or empty texts.
static REDACT_JOB: Sql = Sql::new(|_| {
    "UPDATE likewise_jobs SET spec = $2, result = NULLIF($3, ''), error_message = NULLIF($4, '') \
     WHERE id = $1"
        .to_owned()
});

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

/// Forgets the places of imports that are a row of the subject. Those imports begin anew, and find their events recorded.
async fn forget_places<S: Session>(session: &mut S, sweep: &Sweep) -> Result<(), StoreError> {
    let d = session.schema();
    let open: Vec<PlaceRow> = session.load(OPEN_PLACES.on(d), &[]).await?;
    let id = sweep.subject.id().text();
    for row in open {
        let named = json_of(&row.position).is_some_and(|place| has_text(&place, &id));
        if named {
            let params = [Param::Number(row.import_id)];
            session.execute(FORGET_PLACE.on(d), &params).await?;
        }
    }
    Ok(())
}

fn has_text(json: &Value, text: &str) -> bool {
    match json {
        Value::String(found) => found == text,
        Value::Array(items) => items.iter().any(|item| has_text(item, text)),
        Value::Object(fields) => fields.values().any(|value| has_text(value, text)),
        _ => false,
    }
}

/// An import that has not ended.
#[derive(Debug, QueryableByName)]
struct PlaceRow {
    #[diesel(sql_type = BigInt)]
    import_id: i64,
    #[diesel(sql_type = Text)]
    position: String,
}

static OPEN_PLACES: Sql = Sql::new(|d| {
    let lock = d.for_update("i");
    format!(
        "SELECT i.import_id, i.position FROM likewise_imports i WHERE i.finished_at IS NULL{lock}"
    )
});

/// Parameters: the import's number.
static FORGET_PLACE: Sql =
    Sql::new(|_| "UPDATE likewise_imports SET position = '' WHERE import_id = $1".to_owned());

/// Parameters: the digest, now.
static SET_FINISHED: Sql = Sql::new(|d| {
    format!(
        "UPDATE likewise_erasures SET finished_at = {} WHERE digest = $1",
        d.time("$2")
    )
});
