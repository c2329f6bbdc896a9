//! The timeline of one event: acceptance, recording, attempts, interventions, completion.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use uuid::Uuid;

use super::{AdminError, AdminService};
use crate::domain::{Step, TraceParent};
use crate::store::{EventRecord, HistoryEntry, LedgerEntry};

/// The timeline of one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Timeline {
    /// The event's id.
    pub event_id: String,
    /// Its ledger row; absent if the behavior is not a like event, or the row was pruned.
    pub ledger: Option<LedgerEntry>,
    /// The id of the trace that its caller or publisher sent; absent without one, and without a ledger row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Its steps, oldest first.
    pub timeline: Vec<Moment>,
    /// The current state of the user and the resource in the read model.
    pub read_model: Option<ReadModel>,
}

/// One step in a timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Moment {
    /// When it happened; absent if that is not recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<DateTime<Utc>>,
    /// The step.
    #[schema(schema_with = step_schema)]
    pub step: String,
    /// The source of the event, if the step is `accepted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The sequence of its message in the stream, if the step is `published`. The events of a batch share it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_sequence: Option<i64>,
    /// The number of the attempt, if the step is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// The fencing token of the claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fencing_token: Option<i64>,
    /// The error or the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// The operator, if an operator did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
}

/// The state of a pair in a read model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct ReadModel {
    /// Whether the user likes the resource.
    pub liked: bool,
    /// The version of the event that set this state.
    pub version: i64,
    /// Whether that event is this one.
    pub shows: Shows,
}

/// Which event a read model shows, in relation to the event of the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shows {
    /// This event, or one of the same version.
    This,
    /// A newer event: this one is superseded.
    Newer,
    /// An older event: this one has had no effect yet.
    Older,
}

/// The steps of an event that its history does not hold.
const ACCEPTED: &str = "accepted";
const PUBLISHED: &str = "published";
const RECORDED: &str = "recorded";
const COMPLETED: &str = "completed";

fn step_schema() -> Object {
    let others = [ACCEPTED, PUBLISHED, RECORDED, COMPLETED];
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(others.into_iter().chain(Step::ALL.map(Step::as_str))))
        .build()
}

impl Moment {
    fn new(at: Option<DateTime<Utc>>, step: &str) -> Self {
        Self {
            at,
            step: step.to_owned(),
            source: None,
            stream_sequence: None,
            attempt: None,
            fencing_token: None,
            error_message: None,
            operator: None,
        }
    }
}

impl From<HistoryEntry> for Moment {
    fn from(entry: HistoryEntry) -> Self {
        // Neither interventions nor infrastructure failures count as attempts.
        let is_counted = entry.operator.is_none() && entry.step != Step::Waiting.as_str();
        Self {
            attempt: is_counted.then_some(entry.retry_count),
            fencing_token: Some(entry.fencing_token),
            error_message: entry.error_message,
            operator: entry.operator,
            ..Self::new(Some(entry.created_at), &entry.step)
        }
    }
}

impl AdminService {
    /// Returns the timeline of an event.
    ///
    /// # Errors
    /// If the event is not recorded, or the database fails.
    pub async fn timeline(&self, event_id: Uuid) -> Result<Timeline, AdminError> {
        let id = event_id.hyphenated().to_string();
        let record = self.store().event_record(&id).await?;
        if record.behavior.is_none() && record.ledger.is_none() {
            return Err(self.no_such_event(&id).await);
        }
        Ok(timeline(id, record))
    }
}

fn timeline(event_id: String, record: EventRecord) -> Timeline {
    let EventRecord {
        behavior,
        ledger,
        history,
        read_model,
    } = record;
    let mut timeline = Vec::new();
    let version = behavior
        .as_ref()
        .map(|behavior| behavior.version)
        .or_else(|| ledger.as_ref().map(|ledger| ledger.version));
    if let Some(behavior) = behavior {
        timeline.push(Moment {
            source: Some(behavior.source),
            ..Moment::new(Some(behavior.behavior_time), ACCEPTED)
        });
        if let Some(sequence) = behavior.stream_sequence {
            timeline.push(Moment {
                stream_sequence: Some(sequence),
                ..Moment::new(None, PUBLISHED)
            });
        }
        timeline.push(Moment::new(Some(behavior.created_at), RECORDED));
    }
    timeline.extend(history.into_iter().map(Moment::from));
    if let Some(ledger) = &ledger
        && ledger.status == "completed"
    {
        timeline.push(Moment {
            attempt: Some(ledger.retry_count + 1),
            fencing_token: Some(ledger.fencing_token),
            ..Moment::new(ledger.processed_at, COMPLETED)
        });
    }
    let traceparent = ledger.as_ref().and_then(|row| row.traceparent.as_deref());
    Timeline {
        event_id,
        trace_id: traceparent
            .and_then(TraceParent::parse)
            .map(|trace| trace.trace_id()),
        ledger,
        timeline,
        read_model: read_model.zip(version).map(|(state, version)| ReadModel {
            liked: state.liked,
            version: state.version.0,
            shows: match state.version.0.cmp(&version) {
                std::cmp::Ordering::Equal => Shows::This,
                std::cmp::Ordering::Greater => Shows::Newer,
                std::cmp::Ordering::Less => Shows::Older,
            },
        }),
    }
}
