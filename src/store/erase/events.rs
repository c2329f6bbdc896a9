//! Erasing events with the rows of the read models: behaviors, ledger rows, history, likes and counts.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::{EXAMINED, Erased, Sweep, Swept, note};
use crate::domain::{DataSubject, EntryId, Pair, Resource};
use crate::store::behavior_counts;
use crate::store::dialect::Column::Word;
use crate::store::error::StoreError;
use crate::store::examined::{examine, has_more};
use crate::store::like_counts::{
    DELETE_COUNTS, drop_unused_counts, lock_counts, resource_rows, write_counts,
};
use crate::store::migrate::include_former_types;
use crate::store::pair_row::PairRow;
use crate::store::pair_states::states;
use crate::store::repair::delete_likes;
use crate::store::retention::{DELETE_BEHAVIORS, DELETE_HISTORY, DELETE_LEDGER, LAST_EXAMINED};
use crate::store::schema::{Schema, likes_table};
use crate::store::session::{IdRow, Session, Sql};
use crate::store::statement::Param;

/// An event and its pair.
#[derive(Debug, QueryableByName)]
struct EventRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(embed)]
    pair: PairRow,
}

/// The parameter and the condition of the rows of a subject, in a table under this alias.
pub(super) fn owned(
    d: &Schema,
    subject: &DataSubject,
    alias: &str,
    param: &str,
) -> (Param, String) {
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

pub(super) async fn behaviors<S: Session>(
    session: &mut S,
    sweep: &Sweep,
    after: &str,
    limit: usize,
    now: DateTime<Utc>,
) -> Result<Swept, StoreError> {
    include_former_types(session).await?;
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
    let Some(examined) = examine(session, &LAST_EXAMINED, after, EXAMINED).await? else {
        return Ok(Swept::default());
    };
    let statement = d.statement(format!(
        "SELECT {columns} FROM user_behaviors b WHERE {owned} AND b.user_behavior_id > $2 \
         AND b.user_behavior_id <= $3 ORDER BY b.user_behavior_id LIMIT $4"
    ));
    let params = [
        id,
        Param::Number(after),
        Param::Number(examined.last),
        Param::limit(limit),
    ];
    let rows: Vec<EventRow> = session.load(&statement, &params).await?;
    let next = match rows.len() == limit {
        true => Some(after),
        false => examined.next,
    };
    let mut swept = remove(session, sweep, rows, now).await?;
    swept.position = next.map(|next| next.to_string());
    Ok(swept)
}

pub(super) async fn likes<S: Session>(
    session: &mut S,
    sweep: &Sweep,
    limit: usize,
    now: DateTime<Utc>,
) -> Result<Swept, StoreError> {
    include_former_types(session).await?;
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
        swept.entries.insert(EntryId::Count(resource.clone()));
    }
    Ok(swept)
}

/// The last of some ids, and their number.
#[derive(Debug, QueryableByName)]
struct LastRow {
    #[diesel(sql_type = Nullable<Text>)]
    id: Option<String>,
    #[diesel(sql_type = BigInt)]
    examined: i64,
}

pub(super) async fn ledger<S: Session>(
    session: &mut S,
    sweep: &Sweep,
    after: &str,
    limit: usize,
    now: DateTime<Utc>,
) -> Result<Swept, StoreError> {
    include_former_types(session).await?;
    let d = session.schema();
    let from = || Param::Text(after.to_owned());
    let params = [from(), Param::limit(EXAMINED)];
    let last: Vec<LastRow> = session.load(LAST_LEDGER.on(d), &params).await?;
    let found = last
        .into_iter()
        .find_map(|row| Some((row.id?, row.examined)));
    let Some((last, examined)) = found else {
        return Ok(Swept::default());
    };
    let (id, owned) = owned(d, &sweep.subject, "e", "$1");
    let statement = d.statement(format!(
        "SELECT e.id, e.user_id, e.resource_type, e.resource_id FROM sync_events e \
         WHERE {owned} AND e.id > $2 AND e.id <= $3 ORDER BY e.id LIMIT $4"
    ));
    let params = [id, from(), Param::Text(last.clone()), Param::limit(limit)];
    let rows: Vec<EventRow> = session.load(&statement, &params).await?;
    let next = match rows.len() == limit {
        true => Some(after.to_owned()),
        false => has_more(examined, EXAMINED).then_some(last),
    };
    let mut swept = remove(session, sweep, rows, now).await?;
    swept.position = next;
    Ok(swept)
}

/// Parameters: the id after which, the most rows.
static LAST_LEDGER: Sql = Sql::new(|d| {
    format!(
        "SELECT MAX(e.id) AS id, {} AS examined \
         FROM (SELECT id FROM sync_events WHERE id > $1 ORDER BY id LIMIT $2) e",
        d.number("COUNT(*)")
    )
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
    // A malformed type has no read model, and must not keep the rest from being erased.
    let pairs = rows.iter();
    let pairs: BTreeSet<Pair> = pairs
        .filter_map(|row| row.pair.pair("user_behaviors").ok())
        .collect();
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
    let mut locked = lock_counts(session, &counted, now).await?;
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
    let changed = write_counts(session, &mut locked, &changes, now).await?;
    drop_unused_counts(session, &counted).await?;
    if !ids.is_empty() {
        let params = [Param::rows(&rows)];
        erased.behaviors = session.execute(DELETE_BEHAVIORS.on(d), &params).await? as u64;
    }
    note(session, &sweep.digest, erased).await?;
    let changed = changed.into_iter().filter_map(|resource| {
        let count = locked.counts.get(&resource).copied()?;
        Some((resource, count))
    });
    Ok(Swept {
        rows: ids.len().max(stored.len()),
        likes: erased.likes,
        changed: changed.collect(),
        entries: pairs.iter().flat_map(EntryId::of_pair).collect(),
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
