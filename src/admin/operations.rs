//! The record of what operators do. Each use case of an operator notes its operation after it is done; those on actors are
//! carried out here, because they work without the database and are noted when it answers.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{AdminError, AdminService};
use crate::actors::process_reports::{ActorAction, CommandFailed, Operated, ProcessReports};
use crate::domain::{OperationResult, OperationTarget, OperatorAction};
use crate::store::{Operation, OperationFilter, OperationQueue};
use crate::telemetry::OperationsUnwritten;

/// The longest target and name of an operator, in characters, as every database stores them.
const LONGEST: usize = 255;

/// Something that an operator did.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Operation)]
pub struct OperationReport {
    /// Its id.
    pub id: Uuid,
    /// Who did it.
    pub operator: String,
    /// What was done.
    pub action: OperatorAction,
    /// What it was done to.
    pub target_type: OperationTarget,
    /// The name or the id of it.
    pub target: String,
    /// The id of the process that has the actor; null for what all processes share.
    #[schema(required = true)]
    pub process: Option<String>,
    /// What came of it.
    pub result: OperationResult,
    /// Why it failed; null if it did not.
    #[schema(required = true)]
    pub detail: Option<String>,
    /// When it was done.
    pub created_at: DateTime<Utc>,
}

impl From<Operation> for OperationReport {
    fn from(operation: Operation) -> Self {
        Self {
            id: operation.id,
            operator: operation.operator,
            action: operation.action,
            target_type: operation.target_type,
            target: operation.target,
            process: operation.process,
            result: operation.result,
            detail: operation.detail,
            created_at: operation.created_at,
        }
    }
}

/// Returns an operation that is done.
fn done(
    operator: &str,
    action: OperatorAction,
    (target_type, target): (OperationTarget, &str),
    now: DateTime<Utc>,
) -> Operation {
    let limited = |text: &str| text.chars().take(LONGEST).collect();
    Operation {
        id: Uuid::now_v7(),
        operator: limited(operator),
        action,
        target_type,
        target: limited(target),
        process: None,
        result: OperationResult::Done,
        detail: None,
        created_at: now,
    }
}

impl AdminService {
    /// Returns up to `limit` operations, newest first, that follow the operation of this time and id.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn operations(
        &self,
        filter: &OperationFilter,
        after: Option<(DateTime<Utc>, String)>,
        limit: usize,
    ) -> Result<Vec<OperationReport>, AdminError> {
        let operations = self.store().operations(filter, after, limit).await?;
        Ok(operations.into_iter().map(Into::into).collect())
    }

    /// Notes what an operator did. A failure is logged: the rows that were changed name the operator too.
    pub(super) async fn note(
        &self,
        operator: &str,
        action: OperatorAction,
        target: (OperationTarget, &str),
    ) {
        let store = self.store();
        let operation = done(operator, action, target, store.now());
        if let Err(error) = store.note_operations(&[operation]).await {
            OperationsUnwritten {
                operations: 1,
                dropped: true,
                error: &error,
            }
            .emit();
        }
    }
}

/// Carries out what operators do to actors, of this process and of others, and notes it.
#[derive(Clone)]
pub struct ActorOperations {
    queue: OperationQueue,
    reports: Arc<ProcessReports>,
}

impl ActorOperations {
    /// Returns the operations on the actors of these processes, which are noted through this queue.
    #[must_use]
    pub const fn new(queue: OperationQueue, reports: Arc<ProcessReports>) -> Self {
        Self { queue, reports }
    }

    /// Carries out an action on an actor of this process, or of the process with this id. Works without the database:
    /// the operation is then noted when it answers again.
    ///
    /// # Errors
    /// If the process or the actor is unknown, the actor does not run there, or the process does not answer.
    pub async fn operate(
        &self,
        process: Option<&str>,
        actor: &str,
        action: ActorAction,
        operator: &str,
    ) -> Result<Operated, CommandFailed> {
        let process = process.unwrap_or_else(|| self.reports.own_id());
        let outcome = self
            .reports
            .operate(Some(process), actor, action, operator)
            .await;
        let (result, detail) = match &outcome {
            Ok(operated) if operated.changed => (OperationResult::Done, None),
            Ok(_) => (OperationResult::Unchanged, None),
            Err(CommandFailed::NoAnswer(reason)) => {
                let detail = format!("the process did not answer: {reason}");
                (OperationResult::Failed, Some(detail))
            }
            Err(CommandFailed::NotRunning) => {
                let detail = "the actor does not run in the process".to_owned();
                (OperationResult::Failed, Some(detail))
            }
            // No actor was addressed, so there is nothing to note.
            Err(CommandFailed::UnknownProcess | CommandFailed::UnknownActor) => return outcome,
        };
        let action = match action {
            ActorAction::Pause => OperatorAction::Pause,
            ActorAction::Resume => OperatorAction::Resume,
            ActorAction::Restart => OperatorAction::Restart,
        };
        let target = (OperationTarget::Actor, actor);
        let now = self.queue.store().now();
        self.queue.push(Operation {
            process: Some(process.to_owned()),
            result,
            detail,
            ..done(operator, action, target, now)
        });
        if let Err(error) = self.queue.write().await {
            OperationsUnwritten {
                operations: self.queue.len(),
                dropped: false,
                error: &error,
            }
            .emit();
        }
        outcome
    }
}
