//! Lists the receivers of webhooks and their dead letters, and retries or discards dead letters.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{AdminError, AdminService};
use crate::config::FactStreamOptions;
use crate::domain::{Fact, FactKind, Id, OperationTarget, OperatorAction, ResourceType};
use crate::store::{DeadLetter, DeadLetterAction, DeadLetterFilter};
use crate::telemetry::OperatorIntervened;

/// A receiver of webhooks.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WebhookReceiver {
    /// Its URL without the secret parts.
    pub receiver: String,
    /// Whether the settings of this process name it. Facts for other receivers are not sent.
    pub configured: bool,
    /// The number of facts that wait for it.
    pub waiting: i64,
    /// The number of its dead letters.
    pub dead: i64,
    /// When the oldest waiting fact was committed.
    pub oldest_at: Option<DateTime<Utc>>,
}

/// A fact that its receiver did not take.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DeadWebhook {
    /// Its id.
    pub id: i64,
    /// The receiver's URL without the secret parts.
    pub receiver: String,
    /// The id of the event that changed the pair.
    pub event_id: Uuid,
    /// The change.
    pub fact: FactKind,
    /// The user.
    #[schema(value_type = i64)]
    pub user_id: Id,
    /// The type of the resource.
    pub resource_type: ResourceType,
    /// The resource.
    #[schema(value_type = i64)]
    pub resource_id: Id,
    /// The like count of the resource after the commit.
    pub like_count: i64,
    /// The version of the event.
    pub version: i64,
    /// When the change was committed.
    pub created_at: DateTime<Utc>,
    /// Its place in its trace (W3C Trace Context); null without one.
    pub traceparent: Option<String>,
    /// The number of failed attempts.
    pub attempts: i32,
    /// What failed last.
    pub last_error: Option<String>,
    /// When it became a dead letter.
    pub dead_at: DateTime<Utc>,
}

impl From<DeadLetter> for DeadWebhook {
    fn from(letter: DeadLetter) -> Self {
        let Fact {
            event_id,
            kind,
            pair,
            like_count,
            version,
            trace,
        } = letter.row.fact;
        Self {
            id: letter.row.id,
            receiver: letter.receiver,
            event_id,
            fact: kind,
            user_id: pair.user_id,
            resource_type: pair.resource.resource_type,
            resource_id: pair.resource.id,
            like_count,
            version: version.0,
            created_at: letter.created_at,
            traceparent: trace.map(|trace| trace.to_string()),
            attempts: letter.row.attempts,
            last_error: letter.last_error,
            dead_at: letter.dead_at,
        }
    }
}

impl AdminService {
    /// Returns the configured receivers of webhooks, and others that facts wait for.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn webhooks(&self) -> Result<Vec<WebhookReceiver>, AdminError> {
        let is_webhook = |receiver: &str| receiver != FactStreamOptions::RECEIVER;
        let configured = self.store().fact_receivers();
        let mut receivers: Vec<_> = configured
            .iter()
            .filter(|receiver| is_webhook(receiver))
            .map(|receiver| WebhookReceiver {
                receiver: receiver.clone(),
                configured: true,
                waiting: 0,
                dead: 0,
                oldest_at: None,
            })
            .collect();
        for totals in self.store().receivers().await? {
            if !is_webhook(&totals.receiver) {
                continue;
            }
            let known = receivers
                .iter()
                .position(|known| known.receiver == totals.receiver);
            let position = known.unwrap_or(receivers.len());
            let counted = WebhookReceiver {
                configured: known.is_some(),
                receiver: totals.receiver,
                waiting: totals.waiting,
                dead: totals.dead,
                oldest_at: totals.oldest_at,
            };
            match receivers.get_mut(position) {
                Some(known) => *known = counted,
                None => receivers.push(counted),
            }
        }
        Ok(receivers)
    }

    /// Returns up to `limit` dead letters in the order in which they were committed, after this id.
    ///
    /// # Errors
    /// If the filter is invalid, or the database fails.
    pub async fn dead_webhooks(
        &self,
        filter: &DeadLetterFilter,
        after: i64,
        limit: usize,
    ) -> Result<Vec<DeadWebhook>, AdminError> {
        checked(filter)?;
        let letters = self.store().dead_letters(filter, after, limit).await?;
        Ok(letters.into_iter().map(Into::into).collect())
    }

    /// Returns a dead letter.
    ///
    /// # Errors
    /// If it does not exist, or the database fails.
    pub async fn dead_webhook(&self, id: i64) -> Result<DeadWebhook, AdminError> {
        let letter = self.store().dead_letter(id).await?;
        letter
            .map(Into::into)
            .ok_or_else(|| AdminError::NotFound(format!("there is no dead letter {id}")))
    }

    /// Retries or discards the dead letters with these ids. Returns how many.
    ///
    /// # Errors
    /// If none of them exists, or the database fails.
    pub async fn resolve_dead_webhooks(
        &self,
        action: DeadLetterAction,
        ids: &[i64],
        operator: &str,
    ) -> Result<usize, AdminError> {
        let changed = self.store().change_dead_letters(action, ids).await?.len();
        if changed == 0 {
            return Err(AdminError::NotFound(format!(
                "no dead letter has one of the ids {ids:?}"
            )));
        }
        OperatorIntervened {
            operator,
            action: done(action),
            rows: changed,
        }
        .emit();
        let action = match action {
            DeadLetterAction::Retry => OperatorAction::Retry,
            DeadLetterAction::Discard => OperatorAction::Discard,
        };
        let target = format!("ids {ids:?}");
        self.note(operator, action, (OperationTarget::DeadLetters, &target))
            .await;
        Ok(changed)
    }
}

/// Returns what the log says of an action.
pub(super) const fn done(action: DeadLetterAction) -> &'static str {
    match action {
        DeadLetterAction::Retry => "retried",
        DeadLetterAction::Discard => "discarded",
    }
}

/// Rejects a filter that not every database accepts.
pub(super) fn checked(filter: &DeadLetterFilter) -> Result<(), AdminError> {
    let invalid = |reason: &str| AdminError::Invalid(reason.to_owned());
    filter.check().map_err(invalid)
}
