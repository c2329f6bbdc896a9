//! Retries or discards one event.

use uuid::Uuid;

use super::{AdminError, AdminService};
use crate::actors::cache_writer::revert;
use crate::domain::{EntryId, LedgerRow, OperationTarget, OperatorAction, Priority};
use crate::store::{Intervention, InterventionKind, LedgerEntry};
use crate::telemetry::OperatorIntervened;

/// The longest reason, in characters.
const LONGEST_REASON: usize = 500;

impl AdminService {
    /// Retries an event at once, with all its attempts.
    ///
    /// # Errors
    /// If the event does not exist, or is neither failed nor dead.
    pub async fn retry(&self, event_id: Uuid, operator: &str) -> Result<LedgerEntry, AdminError> {
        self.intervene(event_id, InterventionKind::Retry, operator)
            .await
    }

    /// Closes an event as dead, for this reason.
    ///
    /// # Errors
    /// If the event does not exist, is completed, or a worker holds it.
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
                match (&intervention.action, entry.status.as_str()) {
                    (_, "completed") => "a completed event can be neither retried nor discarded",
                    (InterventionKind::Discard(_), _) =>
                        "a worker holds it now; try again when its lease expires",
                    (InterventionKind::Retry, _) => "it is due and will be tried anyway",
                }
            )));
        }
        self.intervened(&intervention, &rows).await?;
        let action = match intervention.action {
            InterventionKind::Retry => OperatorAction::Retry,
            InterventionKind::Discard(_) => OperatorAction::Discard,
        };
        self.note(operator, action, (OperationTarget::Event, &id))
            .await;
        Ok(entry)
    }

    /// Logs an intervention in these rows, and reverts discarded events in the cache, which would count them as pending
    /// forever.
    pub(super) async fn intervened(
        &self,
        intervention: &Intervention,
        rows: &[LedgerRow],
    ) -> Result<(), AdminError> {
        let discards = matches!(intervention.action, InterventionKind::Discard(_));
        OperatorIntervened {
            operator: &intervention.operator,
            action: if discards { "discarded" } else { "retried" },
            rows: rows.len(),
        }
        .emit();
        match &self.cache_writer {
            _ if !discards => {}
            Some(cache_writer) => revert(cache_writer, rows).await,
            None => {
                let pairs = rows.iter().map(LedgerRow::pair);
                let entries: Vec<_> = pairs.flat_map(|pair| EntryId::of_pair(&pair)).collect();
                self.dependencies.drop_entries(&entries).await?;
            }
        }
        Ok(())
    }

    /// The error for an event that is not in the database: it may still be in the stream.
    pub(super) async fn no_such_event(&self, id: &str) -> AdminError {
        let waiting = match self.broker() {
            Some(broker) => match broker.backlog().await {
                Ok(0) => "; no message waits in the stream".to_owned(),
                Ok(waiting) => {
                    format!("; it may be one of {waiting} messages that wait in the stream")
                }
                Err(error) => format!("; it may wait in the stream, but {error}"),
            },
            None => String::new(),
        };
        AdminError::NotFound(format!("no event {id} has been recorded{waiting}"))
    }
}

/// Returns the reason for a job, which only a dry run may lack.
pub(super) fn reason_of_job(
    reason: Option<&str>,
    dry_run: bool,
) -> Result<Option<String>, AdminError> {
    match reason {
        None if dry_run => Ok(None),
        reason => checked_reason(reason).map(Some),
    }
}

/// Returns the reason for an intervention, which is required.
pub(super) fn checked_reason(reason: Option<&str>) -> Result<String, AdminError> {
    let reason = reason.map(str::trim).unwrap_or_default();
    let length = reason.chars().count();
    if length == 0 || length > LONGEST_REASON || reason.contains('\0') {
        return Err(AdminError::Invalid(format!(
            "'reason' must give the reason in 1 to {LONGEST_REASON} characters"
        )));
    }
    Ok(reason.to_owned())
}
