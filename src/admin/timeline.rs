//! Where is my like? What happened to one event, step by step.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{AdminError, AdminService};
use crate::domain::Step;
use crate::store::{EventRecord, HistoryEntry, LedgerEntry};

/// What happened to one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Timeline {
    /// The event's id.
    pub event_id: String,
    /// Its ledger row; absent for a behavior that is no like event, and for one that was pruned.
    pub ledger: Option<LedgerEntry>,
    /// What happened, the first thing first.
    pub timeline: Vec<Moment>,
    /// What the read model holds of the user and the resource now.
    pub read_model: Option<ReadModel>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Moment {
    /// When; absent if it was not written down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<DateTime<Utc>>,
    /// What.
    pub step: String,
    /// Where it came from, if it is `accepted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Its place in the stream, if it is `published`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_sequence: Option<i64>,
    /// Which attempt it was, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// The claim that it happened under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fencing_token: Option<i64>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
}

/// What a read model holds of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct ReadModel {
    /// Whether the user likes the resource.
    pub liked: bool,
    /// The version of the event that says so.
    pub version: i64,
    /// How that event stands to this one.
    pub shows: Shows,
}

/// How the event that a read model shows stands to the one that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shows {
    /// It is this one, or one of the same version.
    This,
    /// It is newer: this one is superseded.
    Newer,
    /// It is older: this one has had no effect yet.
    Older,
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
        // An operator's step is no attempt, and an infrastructure failure is not counted as one.
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
    /// What happened to an event.
    ///
    /// # Errors
    /// If the database does not know it.
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
            ..Moment::new(Some(behavior.behavior_time), "accepted")
        });
        if let Some(sequence) = behavior.stream_sequence {
            timeline.push(Moment {
                stream_sequence: Some(sequence),
                ..Moment::new(None, "published")
            });
        }
        timeline.push(Moment::new(Some(behavior.created_at), "recorded"));
    }
    timeline.extend(history.into_iter().map(Moment::from));
    if let Some(ledger) = &ledger
        && ledger.status == "completed"
    {
        timeline.push(Moment {
            attempt: Some(ledger.retry_count + 1),
            fencing_token: Some(ledger.fencing_token),
            ..Moment::new(ledger.processed_at, "completed")
        });
    }
    Timeline {
        event_id,
        ledger,
        timeline,
        read_model: read_model.zip(version).map(|(mark, version)| ReadModel {
            liked: mark.liked,
            version: mark.version.0,
            shows: match mark.version.0.cmp(&version) {
                std::cmp::Ordering::Equal => Shows::This,
                std::cmp::Ordering::Greater => Shows::Newer,
                std::cmp::Ordering::Less => Shows::Older,
            },
        }),
    }
}
