//! The record of one event: its behavior, ledger row, history and read model. Operators read it for a timeline.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Timestamp};
use serde::Serialize;

use super::error::StoreError;
use super::ids::AnyId;
use super::ledger::{ENTRY_COLUMNS, LedgerEntry};
use super::pair_states;
use super::session::{Session, Sql};
use super::statement::Param;
use super::time::InUtc;
use super::{Store, read};
use crate::domain::{Id, Pair, Resource, ResourceType, VersionedState};

/// A row of `user_behaviors`, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, QueryableByName)]
pub struct BehaviorEntry {
    /// The user.
    #[diesel(sql_type = AnyId)]
    pub user_id: Id,
    /// The kind of resource.
    #[diesel(sql_type = Text)]
    pub resource_type: String,
    /// The resource's id.
    #[diesel(sql_type = AnyId)]
    pub resource_id: Id,
    /// The type of behavior.
    #[diesel(sql_type = Text, column_name = behavior_type)]
    pub behavior: String,
    /// Its place among the events of the pair.
    #[diesel(sql_type = BigInt)]
    pub version: i64,
    /// Its source.
    #[diesel(sql_type = Text)]
    pub source: String,
    /// When it happened.
    #[diesel(sql_type = Timestamp, deserialize_as = InUtc<NaiveDateTime>)]
    pub behavior_time: DateTime<Utc>,
    /// Its sequence in the stream, if it came through one.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub stream_sequence: Option<i64>,
    /// When it was recorded.
    #[diesel(sql_type = Timestamp, deserialize_as = InUtc<NaiveDateTime>)]
    pub created_at: DateTime<Utc>,
}

/// An entry in an event's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, QueryableByName)]
pub struct HistoryEntry {
    /// The step: a word of [`Step`](crate::domain::Step).
    #[diesel(sql_type = Text)]
    pub step: String,
    /// Failed attempts by then.
    #[diesel(sql_type = Integer)]
    pub retry_count: i32,
    /// The fencing token of the claim.
    #[diesel(sql_type = BigInt)]
    pub fencing_token: i64,
    /// The error or the reason.
    #[diesel(sql_type = Nullable<Text>)]
    pub error_message: Option<String>,
    /// The operator, if an operator did it.
    #[diesel(sql_type = Nullable<Text>)]
    pub operator: Option<String>,
    /// When it happened.
    #[diesel(sql_type = Timestamp, deserialize_as = InUtc<NaiveDateTime>)]
    pub created_at: DateTime<Utc>,
}

/// Everything that the database knows of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// Its behavior.
    pub behavior: Option<BehaviorEntry>,
    /// Its ledger row.
    pub ledger: Option<LedgerEntry>,
    /// Its history, oldest entry first.
    pub history: Vec<HistoryEntry>,
    /// The state of its pair in the read model.
    pub read_model: Option<VersionedState>,
}

impl Store {
    /// Returns everything that the database knows of an event.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn event_record(&self, event_id: &str) -> Result<EventRecord, StoreError> {
        read!(self, self.timeout, |session| event_record(
            session, event_id
        ))
    }
}

/// The most entries of an event's history that are read.
const MOST_HISTORY: usize = 1_000;

async fn event_record<S: Session>(
    session: &mut S,
    event_id: &str,
) -> Result<EventRecord, StoreError> {
    let d = session.schema();
    let params = [Param::Text(event_id.to_owned()), Param::limit(MOST_HISTORY)];
    let behaviors: Vec<BehaviorEntry> = session.load(BEHAVIOR.on(d), &params[..1]).await?;
    let behavior = behaviors.into_iter().next();
    let ledger: Vec<LedgerEntry> = session.load(LEDGER_ROW.on(d), &params[..1]).await?;
    let ledger = ledger.into_iter().next();
    let history = session.load(HISTORY.on(d), &params).await?;
    let pair = match (&behavior, &ledger) {
        (Some(one), _) => Some((&one.resource_type, &one.resource_id, &one.user_id)),
        (None, Some(one)) => Some((&one.resource_type, &one.resource_id, &one.user_id)),
        (None, None) => None,
    };
    let mut read_model = None;
    if let Some((resource_type, resource_id, user_id)) = pair
        && let Ok(resource_type) = resource_type.parse::<ResourceType>()
    {
        let resource = Resource {
            resource_type,
            id: resource_id.clone(),
        };
        let pair = Pair {
            resource,
            user_id: user_id.clone(),
        };
        let states = pair_states::states(session, &BTreeSet::from([pair])).await?;
        read_model = states.into_iter().next().map(|(_, state)| state.newest);
    }
    Ok(EventRecord {
        behavior,
        ledger,
        history,
        read_model,
    })
}

/// Parameters: the event's id.
static BEHAVIOR: Sql = Sql::new(|_| {
    "SELECT user_id, resource_type, resource_id, behavior_type, version, source, behavior_time, \
     stream_sequence, created_at FROM user_behaviors WHERE event_id = $1"
        .to_owned()
});

/// Parameters: the event's id.
static LEDGER_ROW: Sql =
    Sql::new(|_| format!("SELECT {ENTRY_COLUMNS} FROM sync_events e WHERE e.id = $1"));

/// Parameters: the event's id, the most entries.
static HISTORY: Sql = Sql::new(|_| {
    "SELECT step, retry_count, fencing_token, error_message, operator, created_at \
     FROM likewise_sync_event_history WHERE event_id = $1 ORDER BY history_id LIMIT $2"
        .to_owned()
});
