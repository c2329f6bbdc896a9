//! Export: pages of everything that the tables hold of a user. The web (`web/data/export.rs`) streams them as lines.

use diesel::prelude::QueryableByName;
use diesel::sql_types::{Integer, Nullable, Text};
use serde::Serialize;
use serde_json::{Value, json};

use super::dialect::Column::Word;
use super::erase::{
    EXAMINED, KEY_PAGE, KeyOf, KeyRow, LAST_FACT, QUARANTINE_PAGE, json_of, key_of, names,
};
use super::error::StoreError;
use super::event_record::HistoryEntry;
use super::examined::examine;
use super::jobs::{JOB_COLUMNS, JobRow};
use super::ledger::{ENTRY_COLUMNS, LedgerEntry};
use super::pair_row::PairRow;
use super::pair_states::{StateRow, state_columns};
use super::retention::ArchivedBehavior;
use super::schema::likes_table;
use super::session::{LikesSql, Session, Sql};
use super::statement::Param;
use super::{Store, quarantine, read};
use crate::domain::{DataSubject, Id, ResourceType, UserId, Version};

/// Where a page of an export begins. Each step reads a range of an index, or of a small table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportCursor {
    /// Behaviors with their ledger rows and history, after this one: resource type, resource, version, row.
    Behaviors(Option<(String, Id, i64, i64)>),
    /// The read model of the resource type at this place, after this resource.
    Likes(usize, Option<Id>),
    /// Idempotency keys, after this id.
    Keys(String),
    /// Messages in quarantine, after this id.
    Quarantine(String),
    /// Facts that wait for a receiver, or are dead, after this id.
    Facts(i64),
    /// Jobs about the user, after this id.
    Jobs(String),
}

impl ExportCursor {
    /// Returns the beginning.
    #[must_use]
    pub const fn start() -> Self {
        Self::Behaviors(None)
    }
}

/// A part of an export.
#[derive(Debug, Clone, Default)]
pub struct ExportPage {
    /// The lines: JSON objects with a field `kind`.
    pub lines: Vec<Value>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<ExportCursor>,
}

/// The rows of a page.
const ROWS: usize = 1_000;

/// The messages of a page, each of which may be large, and the keys with their answers.
const MESSAGES: usize = 50;
const KEYS: usize = 500;

impl Store {
    /// Returns a page of what the tables hold of a user. What is recorded meanwhile may be absent.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn export(
        &self,
        user_id: &UserId,
        at: &ExportCursor,
    ) -> Result<ExportPage, StoreError> {
        read!(self, self.inspect_timeout(), |session| page(
            session, user_id, at
        ))
    }
}

async fn page<S: Session>(
    session: &mut S,
    user_id: &UserId,
    at: &ExportCursor,
) -> Result<ExportPage, StoreError> {
    match at {
        ExportCursor::Behaviors(after) => behaviors(session, user_id, after.as_ref()).await,
        ExportCursor::Likes(place, after) => likes(session, user_id, *place, after.as_ref()).await,
        ExportCursor::Keys(after) => keys(session, user_id, after).await,
        ExportCursor::Quarantine(after) => quarantined(session, user_id, after).await,
        ExportCursor::Facts(after) => facts(session, user_id, *after).await,
        ExportCursor::Jobs(after) => jobs(session, user_id, after).await,
    }
}

/// Returns a line of this kind.
fn line(kind: &str, content: &impl Serialize) -> Value {
    let mut line = json!(content);
    line["kind"] = Value::from(kind);
    line
}

/// An entry of an event's history.
#[derive(Debug, Serialize, QueryableByName)]
struct HistoryLine {
    #[diesel(sql_type = Text)]
    event_id: String,
    #[serde(flatten)]
    #[diesel(embed)]
    entry: HistoryEntry,
}

async fn behaviors<S: Session>(
    session: &mut S,
    user_id: &UserId,
    after: Option<&(String, Id, i64, i64)>,
) -> Result<ExportPage, StoreError> {
    let d = session.schema();
    let mut at = after.cloned();
    let mut rows: Vec<ArchivedBehavior> = Vec::new();
    loop {
        if let Some((resource_type, resource_id, version, row)) = &at {
            let params = [
                user_id.into(),
                Param::Text(resource_type.clone()),
                resource_id.into(),
                Param::Number(*version),
                Param::Number(*row),
                Param::limit(ROWS - rows.len()),
            ];
            rows.extend(
                session
                    .load::<ArchivedBehavior>(BEHAVIORS.on(d), &params)
                    .await?,
            );
            if rows.len() == ROWS {
                break;
            }
        }
        // The next type, even one that is no longer served.
        let last = at.map_or_else(String::new, |(resource_type, ..)| resource_type);
        let params = [user_id.into(), Param::Text(last)];
        let next: Vec<NextType> = session.load(NEXT_TYPE.on(d), &params).await?;
        let Some(next) = next.into_iter().find_map(|row| row.id) else {
            break;
        };
        let first = d.kinds().resources.before_all();
        at = Some((next, first, i64::MIN, i64::MIN));
    }
    let ids: Vec<_> = rows.iter().map(|row| (&row.event_id,)).collect();
    let mut lines: Vec<Value> = rows.iter().map(|row| line("behavior", row)).collect();
    if !ids.is_empty() {
        let ids = [Param::rows(&ids)];
        let ledger: Vec<LedgerEntry> = session.load(LEDGER.on(d), &ids).await?;
        lines.extend(ledger.iter().map(|row| line("ledger_row", row)));
        let history: Vec<HistoryLine> = session.load(HISTORY.on(d), &ids).await?;
        lines.extend(history.iter().map(|entry| line("history_entry", entry)));
    }
    let last = rows.last().filter(|_| rows.len() == ROWS);
    let next = last.map(|last| {
        ExportCursor::Behaviors(Some((
            last.resource_type.clone(),
            last.resource_id.clone(),
            last.version,
            last.user_behavior_id,
        )))
    });
    Ok(ExportPage {
        lines,
        next: Some(next.unwrap_or(ExportCursor::Likes(0, None))),
    })
}

/// A resource type.
#[derive(Debug, QueryableByName)]
struct NextType {
    #[diesel(sql_type = Nullable<Text>)]
    id: Option<String>,
}

/// Parameters: the user, the resource type after which.
static NEXT_TYPE: Sql = Sql::new(|d| {
    format!(
        "SELECT MIN(b.resource_type) AS id FROM user_behaviors b WHERE b.user_id = {} \
         AND b.resource_type > $2",
        d.user("$1")
    )
});

/// A range of the index. Parameters: the user; resource type, resource, version and row of the last behavior; the most
/// rows.
static BEHAVIORS: Sql = Sql::new(|d| {
    let resource = d.resource("$3");
    format!(
        "SELECT b.user_behavior_id, b.event_id, b.user_id, b.resource_type, b.resource_id, \
         b.behavior_type, b.version, b.source, b.behavior_time, b.created_at \
         FROM user_behaviors b WHERE b.user_id = {} AND b.resource_type = $2 \
         AND b.resource_id >= {resource} AND (b.resource_id > {resource} OR b.version > $4 \
         OR (b.version = $4 AND b.user_behavior_id > $5)) \
         ORDER BY b.resource_id, b.version, b.user_behavior_id LIMIT $6",
        d.user("$1")
    )
});

/// Parameters: rows `(event_id)`.
static LEDGER: Sql = Sql::new(|d| {
    let (rows, join) = (d.rows("$1", &[Word("event_id")]), d.join());
    format!("SELECT {ENTRY_COLUMNS} FROM {rows} {join} sync_events e ON e.id = r.event_id")
});

/// Parameters: rows `(event_id)`.
static HISTORY: Sql = Sql::new(|d| {
    let (rows, join) = (d.rows("$1", &[Word("event_id")]), d.join());
    format!(
        "SELECT h.event_id, h.step, h.retry_count, h.fencing_token, h.error_message, h.operator, \
         h.created_at FROM {rows} {join} likewise_sync_event_history h ON h.event_id = r.event_id \
         ORDER BY h.event_id, h.history_id"
    )
});

async fn likes<S: Session>(
    session: &mut S,
    user_id: &UserId,
    place: usize,
    after: Option<&Id>,
) -> Result<ExportPage, StoreError> {
    let d = session.schema();
    let Some(resource_type) = d.resource_types().iter().nth(place) else {
        return Ok(ExportPage {
            next: Some(ExportCursor::Keys(String::new())),
            ..ExportPage::default()
        });
    };
    let first = d.kinds().resources.before_all();
    let params = [
        user_id.into(),
        after.unwrap_or(&first).into(),
        Param::limit(ROWS),
    ];
    let rows: Vec<StateRow> = session.load(LIKES.on(d, resource_type), &params).await?;
    let states: Vec<_> = rows.iter().map(|row| row.state(resource_type)).collect();
    let lines = states.iter().map(|(pair, state)| {
        json!({
            "kind": "like",
            "user_id": pair.user_id,
            "resource_type": resource_type,
            "resource_id": pair.resource.id,
            "liked": state.newest.liked,
            "since": state.since.moment(),
            "voided_at": state.voided.map(Version::moment),
            "version": state.newest.version,
        })
    });
    let last = states.last().filter(|_| rows.len() == ROWS);
    Ok(ExportPage {
        lines: lines.collect(),
        next: Some(match last {
            Some((pair, _)) => ExportCursor::Likes(place, Some(pair.resource.id.clone())),
            None => ExportCursor::Likes(place + 1, None),
        }),
    })
}

/// Parameters: the user, the resource after which, the most rows.
static LIKES: LikesSql = LikesSql::new(|d, resource_type: ResourceType| {
    let (table, id) = likes_table(resource_type);
    format!(
        "SELECT {} FROM {table} l WHERE l.user_id = {} AND l.{id} > {} ORDER BY l.{id} LIMIT $3",
        state_columns(d, &id),
        d.user("$1"),
        d.resource("$2")
    )
});

async fn keys<S: Session>(
    session: &mut S,
    user_id: &UserId,
    after: &str,
) -> Result<ExportPage, StoreError> {
    let d = session.schema();
    let subject = DataSubject::User(user_id.clone());
    let params = [Param::Text(after.to_owned()), Param::limit(KEYS)];
    let rows: Vec<KeyRow> = session.load(KEY_PAGE.on(d), &params).await?;
    let mut lines = Vec::new();
    for row in &rows {
        let answer = row.answer.as_deref().and_then(json_of);
        let (key, answer) = match key_of(row, &subject, &names(d)) {
            KeyOf::Others => continue,
            KeyOf::Subject => (Some(&row.idempotency_key), answer),
            // Only the results of this user.
            KeyOf::Both(_) => {
                let mut results = answer.map(|mut answer| answer["results"].take());
                if let Some(Value::Array(results)) = &mut results {
                    results.retain(|item| subject.is_named_in(item, &names(d)));
                }
                (None, results)
            }
        };
        lines.push(json!({"kind": "idempotency_key", "key": key, "answer": answer}));
    }
    let last = rows.last().filter(|_| rows.len() == KEYS);
    Ok(ExportPage {
        lines,
        next: Some(match last {
            Some(last) => ExportCursor::Keys(last.id.clone()),
            None => ExportCursor::Quarantine(String::new()),
        }),
    })
}

async fn quarantined<S: Session>(
    session: &mut S,
    user_id: &UserId,
    after: &str,
) -> Result<ExportPage, StoreError> {
    let d = session.schema();
    let subject = DataSubject::User(user_id.clone());
    let params = [Param::Text(after.to_owned()), Param::limit(MESSAGES)];
    let entries = quarantine::load(session, QUARANTINE_PAGE.on(d), &params).await?;
    let named = entries.iter().filter(|entry| {
        let named = subject.is_named_in_bytes(&entry.event.payload, &names(d));
        named == Some(true)
    });
    let lines = named.map(|entry| {
        json!({
            "kind": "quarantined_message",
            "id": entry.event.id,
            "subject": entry.event.subject,
            "reason": entry.event.reason,
            "created_at": entry.event.created_at,
            "payload": String::from_utf8_lossy(&entry.event.payload),
        })
    });
    let last = entries.last().filter(|_| entries.len() == MESSAGES);
    Ok(ExportPage {
        lines: lines.collect(),
        next: Some(match last {
            Some(last) => ExportCursor::Quarantine(last.event.id.hyphenated().to_string()),
            None => ExportCursor::Facts(0),
        }),
    })
}

async fn facts<S: Session>(
    session: &mut S,
    user_id: &UserId,
    after: i64,
) -> Result<ExportPage, StoreError> {
    let d = session.schema();
    let jobs = ExportCursor::Jobs(String::new());
    let Some(examined) = examine(session, &LAST_FACT, after, EXAMINED).await? else {
        return Ok(ExportPage {
            next: Some(jobs),
            ..ExportPage::default()
        });
    };
    let params = [
        user_id.into(),
        Param::Number(after),
        Param::Number(examined.last),
    ];
    let rows: Vec<FactLine> = session.load(FACTS.on(d), &params).await?;
    Ok(ExportPage {
        lines: rows.iter().map(|row| line("fact", row)).collect(),
        next: Some(examined.next.map_or(jobs, ExportCursor::Facts)),
    })
}

/// A fact that waits for a receiver, or is dead.
#[derive(Debug, Serialize, QueryableByName)]
struct FactLine {
    #[diesel(sql_type = Text)]
    receiver: String,
    #[diesel(sql_type = Text)]
    event_id: String,
    #[diesel(sql_type = Text)]
    fact: String,
    #[diesel(embed)]
    #[serde(flatten)]
    pair: PairRow,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Nullable<Text>)]
    last_error: Option<String>,
}

/// Parameters: the user, the id after which, the last id.
static FACTS: Sql = Sql::new(|d| {
    format!(
        "SELECT o.receiver, o.event_id, o.fact, o.user_id, o.resource_type, o.resource_id, \
         o.attempts, o.last_error FROM likewise_outbox o WHERE o.user_id = {} AND o.id > $2 \
         AND o.id <= $3 ORDER BY o.id",
        d.user("$1")
    )
});

async fn jobs<S: Session>(
    session: &mut S,
    user_id: &UserId,
    after: &str,
) -> Result<ExportPage, StoreError> {
    let d = session.schema();
    let subject = DataSubject::User(user_id.clone());
    let params = [Param::Text(after.to_owned()), Param::limit(MESSAGES)];
    let rows: Vec<JobRow> = session.load(JOB_PAGE.on(d), &params).await?;
    let is_last = rows.len() < MESSAGES;
    let mut page = ExportPage::default();
    for row in rows {
        let job = row.job()?;
        page.next = (!is_last).then(|| ExportCursor::Jobs(job.id.clone()));
        if subject.is_named_in(&job.spec, &names(d)) {
            page.lines.push(json!({
                "kind": "job",
                "id": job.id,
                "job": job.kind,
                "spec": job.spec,
                "created_at": job.created_at,
            }));
        }
    }
    Ok(page)
}

/// Parameters: the id after which, the most rows.
static JOB_PAGE: Sql = Sql::new(|_| {
    format!("SELECT {JOB_COLUMNS} FROM likewise_jobs j WHERE j.id > $1 ORDER BY j.id LIMIT $2")
});
