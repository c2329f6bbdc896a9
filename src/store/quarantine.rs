//! Quarantine: messages that could not be decoded, and how operators resolved them. The subscriber writes it;
//! operators (`admin/quarantine.rs`) list and resolve.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamp};
use uuid::Uuid;

use super::dialect::Column::{Number, Text as AnyText, Word};
use super::erasures::{self, Erasures};
use super::error::StoreError;
use super::ledger_filter::Conditions;
use super::quarantine_filter::QuarantineFilter;
use super::schema::Schema;
use super::session::{Session, Sql};
use super::statement::{Param, Statement};
use super::text::id_text;
use super::{Store, read, transact};
use crate::domain::{Names, Resolution, TraceParent};

/// A message that could not be decoded or recorded, or an event of a batch as the message of a single event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinedEvent {
    /// Its identity: the same message, or event of a message, is quarantined once.
    pub id: Uuid,
    /// The sequence of its message in the stream.
    pub stream_sequence: i64,
    /// The subject it was published on.
    pub subject: String,
    /// Its header `Nats-Msg-Id`; of an event of a batch, the event's id.
    pub message_id: Option<String>,
    /// The trace in its headers; of an event of a batch that was decoded, the event's.
    pub trace: Option<TraceParent>,
    /// Why it could not be decoded.
    pub reason: String,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// When it was quarantined.
    pub created_at: DateTime<Utc>,
}

/// A message in quarantine, and its resolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineEntry {
    /// The message.
    pub event: QuarantinedEvent,
    /// `republished` or `discarded`, once it is resolved.
    pub resolution: Option<String>,
    /// The operator who resolved it.
    pub resolved_by: Option<String>,
    /// When it was resolved.
    pub resolved_at: Option<DateTime<Utc>>,
}

impl Store {
    /// Quarantines messages. A message that is in quarantine already stays as it is. Returns the positions of those that
    /// name an erased user or resource, which are not kept.
    ///
    /// # Errors
    /// If the database cannot be reached, or refuses the data.
    pub async fn quarantine(&self, events: &[QuarantinedEvent]) -> Result<Vec<usize>, StoreError> {
        transact!(self, |session| quarantine(session, events, &self.erasures))
    }

    /// Returns the last messages in quarantine, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn quarantined(&self, limit: usize) -> Result<Vec<QuarantinedEvent>, StoreError> {
        let params = [Param::limit(limit)];
        let entries = read!(self, self.timeout, |session| load(
            session,
            LAST.on(session.schema()),
            &params
        ))?;
        Ok(entries.into_iter().map(|entry| entry.event).collect())
    }

    /// Returns up to `limit` messages in quarantine, newest first, that follow the message of this time and id;
    /// only the resolved or only the unresolved ones, if `resolved` is given.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn quarantine_entries(
        &self,
        filter: &QuarantineFilter,
        resolved: Option<bool>,
        after: Option<(DateTime<Utc>, String)>,
        limit: usize,
    ) -> Result<Vec<QuarantineEntry>, StoreError> {
        let conditions = filter.conditions(self.schema, resolved);
        let (statement, params) = page(self.schema, conditions, after, limit);
        read!(self, self.timeout, |session| load(
            session, &statement, &params
        ))
    }

    /// Returns a message in quarantine.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn quarantine_entry(&self, id: &str) -> Result<Option<QuarantineEntry>, StoreError> {
        let key = [Param::Text(id.to_owned())];
        let entries = read!(self, self.timeout, |session| load(
            session,
            ENTRY.on(session.schema()),
            &key
        ))?;
        Ok(entries.into_iter().next())
    }

    /// Resolves a message. Returns whether it was unresolved before.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn resolve_quarantined(
        &self,
        id: &str,
        resolution: Resolution,
        operator: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        transact!(self, |session| resolve(
            session,
            (id, resolution, operator),
            now
        ))
    }
}

async fn quarantine<S: Session>(
    session: &mut S,
    events: &[QuarantinedEvent],
    erasures: &Erasures,
) -> Result<Vec<usize>, StoreError> {
    erasures::share(session, erasures).await?;
    let d = session.schema();
    let names = Names {
        kinds: d.kinds(),
        resource_types: d.resource_types(),
    };
    let insert = INSERT.on(d);
    let mut erased = Vec::new();
    for (place, event) in events.iter().enumerate() {
        if erasures.are_named_in(&event.payload, &names) {
            erased.push(place);
            continue;
        }
        let row = (
            id_text(event.id),
            event.stream_sequence,
            &event.subject,
            &event.message_id,
            event.trace,
            &event.reason,
            hex::encode(&event.payload),
        );
        let params = [Param::rows(&[row]), Param::time(event.created_at)];
        session.execute(insert, &params).await?;
    }
    Ok(erased)
}

/// Parameters: rows `(event_id, sequence, topic, message_id, traceparent, reason, payload)`, the payload in hexadecimal; now.
static INSERT: Sql = Sql::new(|d| {
    let rows = d.rows(
        "$1",
        &[
            Word("event_id"),
            Number("sequence"),
            AnyText("topic"),
            AnyText("message_id"),
            Word("traceparent"),
            AnyText("reason"),
            AnyText("payload"),
        ],
    );
    let (payload, now) = (d.unhex("r.payload"), d.time("$2"));
    let keep = d.on_conflict("likewise_quarantined_events", &["id"], &[]);
    format!(
        "INSERT INTO likewise_quarantined_events (id, stream_sequence, subject, message_id, \
         traceparent, reason, payload, created_at) SELECT r.event_id, r.sequence, r.topic, \
         r.message_id, r.traceparent, r.reason, {payload}, {now} FROM {rows} WHERE true {keep}"
    )
});

/// Loads messages in quarantine.
pub(super) async fn load<S: Session>(
    session: &mut S,
    statement: &Statement,
    params: &[Param],
) -> Result<Vec<QuarantineEntry>, StoreError> {
    let rows: Vec<QuarantineRow> = session.load(statement, params).await?;
    rows.into_iter().map(QuarantineRow::entry).collect()
}

/// A row of `likewise_quarantined_events`.
#[derive(Debug, QueryableByName)]
struct QuarantineRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = BigInt)]
    stream_sequence: i64,
    #[diesel(sql_type = Text)]
    subject: String,
    #[diesel(sql_type = Nullable<Text>)]
    message_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    traceparent: Option<String>,
    #[diesel(sql_type = Text)]
    reason: String,
    #[diesel(sql_type = Text)]
    payload: String,
    #[diesel(sql_type = Timestamp)]
    created_at: NaiveDateTime,
    #[diesel(sql_type = Nullable<Text>)]
    resolution: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    resolved_by: Option<String>,
    #[diesel(sql_type = Nullable<Timestamp>)]
    resolved_at: Option<NaiveDateTime>,
}

impl QuarantineRow {
    fn entry(self) -> Result<QuarantineEntry, StoreError> {
        let unreadable = |reason: String| StoreError::Unreadable {
            table: "likewise_quarantined_events",
            reason,
        };
        let event = QuarantinedEvent {
            id: Uuid::parse_str(&self.id).map_err(|error| unreadable(error.to_string()))?,
            stream_sequence: self.stream_sequence,
            subject: self.subject,
            message_id: self.message_id,
            trace: self.traceparent.as_deref().and_then(TraceParent::parse),
            reason: self.reason,
            payload: hex::decode(&self.payload).map_err(|error| unreadable(error.to_string()))?,
            created_at: self.created_at.and_utc(),
        };
        Ok(QuarantineEntry {
            event,
            resolution: self.resolution,
            resolved_by: self.resolved_by,
            resolved_at: self.resolved_at.map(|time| time.and_utc()),
        })
    }
}

/// The messages, without a condition.
pub(super) fn messages(d: &Schema) -> String {
    format!(
        "SELECT q.id, q.stream_sequence, q.subject, q.message_id, q.traceparent, q.reason, {} AS payload, \
         q.created_at, q.resolution, q.resolved_by, q.resolved_at FROM likewise_quarantined_events q",
        d.hex("q.payload")
    )
}

/// Parameters: the most rows.
static LAST: Sql = Sql::new(|d| {
    let messages = messages(d);
    format!("{messages} ORDER BY q.created_at DESC, q.stream_sequence DESC LIMIT $1")
});

/// Parameters: the id.
static ENTRY: Sql = Sql::new(|d| format!("{} WHERE q.id = $1", messages(d)));

/// As [`ENTRY`], and locks the message until the transaction ends.
static LOCK: Sql = Sql::new(|d| format!("{} WHERE q.id = $1{}", messages(d), d.for_update("q")));

/// A page of the messages under these conditions, newest first.
fn page(
    d: &Schema,
    mut conditions: Conditions,
    after: Option<(DateTime<Utc>, String)>,
    limit: usize,
) -> (Statement, Vec<Param>) {
    if let Some((time, id)) = after {
        let time = conditions.param(Param::time(time));
        let (time, id) = (d.time(&time), conditions.text(id));
        conditions.and(format!(
            "(q.created_at < {time} OR (q.created_at = {time} AND q.id < {id}))"
        ));
    }
    let limit = conditions.param(Param::limit(limit));
    let sql = format!(
        "{} WHERE {} ORDER BY q.created_at DESC, q.id DESC LIMIT {limit}",
        messages(d),
        conditions.sql()
    );
    (d.statement(sql), conditions.params)
}

/// Resolves those of these messages that are unresolved. Returns their ids.
pub(super) async fn resolve_all<S: Session>(
    session: &mut S,
    ids: &[String],
    (resolution, operator): (Resolution, &str),
    now: DateTime<Utc>,
) -> Result<BTreeSet<String>, StoreError> {
    let mut resolved = BTreeSet::new();
    for id in ids {
        if resolve(session, (id, resolution, operator), now).await? {
            resolved.insert(id.clone());
        }
    }
    Ok(resolved)
}

async fn resolve<S: Session>(
    session: &mut S,
    (id, resolution, operator): (&str, Resolution, &str),
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let d = session.schema();
    let key = [Param::Text(id.to_owned())];
    let entries = load(session, LOCK.on(d), &key).await?;
    let is_open = entries.iter().any(|entry| entry.resolution.is_none());
    if is_open {
        let params = [
            Param::Text(id.to_owned()),
            Param::time(now),
            Param::Text(resolution.as_str().to_owned()),
            Param::Text(operator.to_owned()),
        ];
        session.execute(RESOLVE.on(d), &params).await?;
    }
    Ok(is_open)
}

/// Parameters: the id, now, the resolution, the operator.
static RESOLVE: Sql = Sql::new(|d| {
    let now = d.time("$2");
    format!(
        "UPDATE likewise_quarantined_events SET resolved_at = {now}, resolution = $3, \
         resolved_by = $4 WHERE id = $1"
    )
});
