//! Lists, republishes and discards messages in quarantine.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{AdminError, AdminService};
use crate::domain::{OperationTarget, OperatorAction, Origin, Resolution, Version};
use crate::nats::{Broker, Incoming, decode, original_id};
use crate::store::{QuarantineEntry, QuarantineFilter};
use crate::telemetry::OperatorIntervened;

/// A message in quarantine, or an event of a batch as the message of a single event, as operators see it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct QuarantinedMessage {
    /// Its identity.
    pub id: Uuid,
    /// The place of its message in the stream.
    pub stream_sequence: i64,
    /// The subject it was published on.
    pub subject: String,
    /// Its header `Nats-Msg-Id`; of an event of a batch, the event's id.
    pub message_id: Option<String>,
    /// Its header `traceparent`; of an event of a batch, its place in its trace.
    pub traceparent: Option<String>,
    /// Why it could not be decoded.
    pub reason: String,
    /// When it was put into quarantine.
    pub created_at: DateTime<Utc>,
    /// Its bytes as text, with invalid UTF-8 replaced.
    pub payload: String,
    /// Its bytes in hexadecimal.
    pub payload_hex: String,
    /// How it was resolved.
    #[schema(value_type = Option<Resolution>)]
    pub resolution: Option<String>,
    /// The operator who resolved it.
    pub resolved_by: Option<String>,
    /// When it was resolved.
    pub resolved_at: Option<DateTime<Utc>>,
}

impl From<QuarantineEntry> for QuarantinedMessage {
    fn from(entry: QuarantineEntry) -> Self {
        let event = entry.event;
        Self {
            id: event.id,
            stream_sequence: event.stream_sequence,
            subject: event.subject,
            message_id: event.message_id,
            traceparent: event.trace.map(|trace| trace.to_string()),
            reason: event.reason,
            created_at: event.created_at,
            payload: String::from_utf8_lossy(&event.payload).into_owned(),
            payload_hex: hex::encode(&event.payload),
            resolution: entry.resolution,
            resolved_by: entry.resolved_by,
            resolved_at: entry.resolved_at,
        }
    }
}

impl AdminService {
    /// Returns messages in quarantine, newest first, that follow the message of this time and id; only the
    /// resolved or only the unresolved ones, if `resolved` is given.
    ///
    /// # Errors
    /// If the filter is invalid, or the database fails.
    pub async fn quarantine(
        &self,
        filter: &QuarantineFilter,
        resolved: Option<bool>,
        after: Option<(DateTime<Utc>, String)>,
        limit: usize,
    ) -> Result<Vec<QuarantinedMessage>, AdminError> {
        checked(filter)?;
        let entries = self
            .store()
            .quarantine_entries(filter, resolved, after, limit);
        Ok(entries.await?.into_iter().map(Into::into).collect())
    }

    /// Returns a message in quarantine.
    ///
    /// # Errors
    /// If it does not exist, or the database fails.
    pub async fn quarantined(&self, id: Uuid) -> Result<QuarantinedMessage, AdminError> {
        Ok(self.quarantine_entry(id).await?.into())
    }

    /// Publishes a message again as an event, with the body `mended` if it is given, on the subjects that it came
    /// from: an acknowledged event stays acknowledged and keeps its id, a foreign one stays foreign. Returns the
    /// event's id.
    ///
    /// # Errors
    /// If the message still cannot be decoded, would take the id of another acknowledged event, or was resolved
    /// before, or if there is no broker. Nothing changes then.
    pub async fn republish(
        &self,
        id: Uuid,
        mended: Option<&Value>,
        operator: &str,
    ) -> Result<Uuid, AdminError> {
        let entry = self.open_entry(id).await?;
        // Published before it is resolved: if resolving fails, the operator publishes the same event again.
        let event_id = self.publish_again(&entry, mended).await?;
        self.resolve(id, Resolution::Republished, operator).await?;
        Ok(event_id)
    }

    /// Publishes the event of an unresolved message, with the body `mended` if it is given. Returns its id.
    ///
    /// # Errors
    /// As [`republish`](Self::republish).
    pub(super) async fn publish_again(
        &self,
        entry: &QuarantineEntry,
        mended: Option<&Value>,
    ) -> Result<Uuid, AdminError> {
        let payload = mended.map_or_else(
            || entry.event.payload.clone(),
            |json| json.to_string().into_bytes(),
        );
        let incoming = Incoming {
            subject: &entry.event.subject,
            body: &payload,
            sequence: u64::try_from(entry.event.stream_sequence).unwrap_or_default(),
            trace: entry.event.trace,
        };
        let event = decode(
            &incoming,
            Version::at(self.store().now()),
            self.store().resource_types(),
            self.store().id_kinds(),
        )
        .map_err(|reason| AdminError::Invalid(format!("the message is not an event: {reason}")))?;
        let original = entry.event.message_id.as_deref().and_then(original_id);
        if let Some(original) = original
            && Origin::of(incoming.subject) == Origin::Accepted
            && original != event.event_id
        {
            return Err(AdminError::Invalid(format!(
                "the message is the acknowledged event {original}, so its event_id cannot become {}",
                event.event_id
            )));
        }
        let published = self.publisher()?.republish(&event, entry.event.id).await;
        published.map_err(|error| AdminError::Unavailable(error.to_string()))?;
        Ok(event.event_id)
    }

    /// Returns the broker that messages are published to again.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn publisher(&self) -> Result<&Arc<Broker>, AdminError> {
        self.broker().ok_or_else(|| {
            AdminError::Unavailable("there is no NATS to publish to (LIKEWISE_NATS_URL)".to_owned())
        })
    }

    /// Discards a message. The database keeps it for the record.
    ///
    /// # Errors
    /// If it does not exist or was resolved before, or the database fails.
    pub async fn discard_quarantined(
        &self,
        id: Uuid,
        operator: &str,
    ) -> Result<QuarantinedMessage, AdminError> {
        self.open_entry(id).await?;
        self.resolve(id, Resolution::Discarded, operator).await?;
        self.quarantined(id).await
    }

    async fn quarantine_entry(&self, id: Uuid) -> Result<QuarantineEntry, AdminError> {
        let text = id.hyphenated().to_string();
        let entry = self.store().quarantine_entry(&text).await?;
        entry.ok_or_else(|| {
            AdminError::NotFound(format!("no message in quarantine has the id {id}"))
        })
    }

    async fn open_entry(&self, id: Uuid) -> Result<QuarantineEntry, AdminError> {
        let entry = self.quarantine_entry(id).await?;
        match &entry.resolution {
            None => Ok(entry),
            Some(resolution) => Err(already(id, resolution)),
        }
    }

    async fn resolve(
        &self,
        id: Uuid,
        resolution: Resolution,
        operator: &str,
    ) -> Result<(), AdminError> {
        let action = match resolution {
            Resolution::Republished => OperatorAction::Republish,
            Resolution::Discarded => OperatorAction::Discard,
        };
        let text = id.hyphenated().to_string();
        let store = self.store();
        let resolved = store
            .resolve_quarantined(&text, resolution, operator, store.now())
            .await?;
        if !resolved {
            return Err(already(id, "resolved"));
        }
        OperatorIntervened {
            operator,
            action: resolution.as_str(),
            rows: 1,
        }
        .emit();
        let target = (OperationTarget::QuarantinedMessage, text.as_str());
        self.note(operator, action, target).await;
        Ok(())
    }
}

/// Rejects a filter that not every database accepts.
pub(super) fn checked(filter: &QuarantineFilter) -> Result<(), AdminError> {
    let invalid = |reason: &str| AdminError::Invalid(reason.to_owned());
    filter.check().map_err(invalid)
}

fn already(id: Uuid, resolution: &str) -> AdminError {
    AdminError::Conflict(format!("message {id} was {resolution} before"))
}
