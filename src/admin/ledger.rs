//! One event: tried again, or discarded.

use uuid::Uuid;

use super::{AdminError, AdminService};
use crate::domain::Priority;
use crate::store::{Intervention, InterventionKind, LedgerEntry};
use crate::telemetry::OperatorIntervened;

/// The longest reason, in characters.
const LONGEST_REASON: usize = 500;

impl AdminService {
    /// Has an event tried again at once, with all its attempts before it.
    ///
    /// # Errors
    /// If it is not there, or is neither failed nor dead.
    pub async fn retry(&self, event_id: Uuid, operator: &str) -> Result<LedgerEntry, AdminError> {
        self.intervene(event_id, InterventionKind::Retry, operator)
            .await
    }

    /// Closes an event as dead, for this reason.
    ///
    /// # Errors
    /// If it is not there, is completed, or a worker has it right now.
    pub async fn discard(
        &self,
        event_id: Uuid,
        reason: &str,
        operator: &str,
    ) -> Result<LedgerEntry, AdminError> {
        let reason = checked_reason(Some(reason))?;
        self.intervene(event_id, InterventionKind::Discard(reason), operator)
            .await
    }

    async fn intervene(
        &self,
        event_id: Uuid,
        action: InterventionKind,
        operator: &str,
    ) -> Result<LedgerEntry, AdminError> {
        let id = event_id.hyphenated().to_string();
        let discards = matches!(action, InterventionKind::Discard(_));
        let intervention = Intervention {
            action,
            operator: operator.to_owned(),
            priority: Priority::Urgent,
            now: self.store().now(),
        };
        let rows = self
            .store()
            .intervene(std::slice::from_ref(&id), &intervention)
            .await?;
        let entry = self.store().event_record(&id).await?.ledger;
        let Some(entry) = entry else {
            return Err(self.no_such_event(&id).await);
        };
        if rows.is_empty() {
            return Err(AdminError::Conflict(format!(
                "event {id} is {}; {}",
                entry.status,
                match (discards, entry.status.as_str()) {
                    (_, "completed") =>
                        "what is completed can be neither tried again nor discarded",
                    (true, _) => "a worker has it right now; ask again when its lease has run out",
                    (false, _) => "it is tried without being asked for",
                }
            )));
        }
        OperatorIntervened {
            operator,
            action: if discards { "discarded" } else { "retried" },
            rows: rows.len(),
        }
        .emit();
        if discards {
            self.forget(&rows).await?;
        }
        Ok(entry)
    }

    /// What to say of an event that the database does not know.
    pub(super) async fn no_such_event(&self, id: &str) -> AdminError {
        let waiting = match self.broker() {
            Some(broker) => match broker.backlog().await {
                Ok(0) => "; nothing waits in the stream".to_owned(),
                Ok(waiting) => {
                    format!("; {waiting} messages wait in the stream, and it may be one of them")
                }
                Err(error) => format!("; it may wait in the stream, but {error}"),
            },
            None => String::new(),
        };
        AdminError::NotFound(format!("no event {id} has been recorded{waiting}"))
    }
}

/// The reason to discard something, which must be given.
pub(super) fn checked_reason(reason: Option<&str>) -> Result<String, AdminError> {
    let reason = reason.map(str::trim).unwrap_or_default();
    let length = reason.chars().count();
    if length == 0 || length > LONGEST_REASON || reason.contains('\0') {
        return Err(AdminError::Invalid(format!(
            "'reason' must say in 1 to {LONGEST_REASON} characters why it is discarded"
        )));
    }
    Ok(reason.to_owned())
}
