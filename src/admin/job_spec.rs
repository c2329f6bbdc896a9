//! What a request for a job may ask for, and the parameters that a job stores. `jobs.rs` creates jobs, `job_kinds.rs` runs them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ledger::reason_of_job;
use super::{AdminError, AdminService, check, quarantine, webhooks};
use crate::config::MOST_RETENTION_DAYS;
use crate::domain::{DataSubject, ErasedKind, Id, IdKind, JobKind, Resource, ResourceType};
use crate::store::{DeadLetterFilter, JobRows, LedgerFilter, LikesOf, QuarantineFilter};

/// The default and the largest number of rows that a job changes in a second.
const PER_SECOND: u32 = 1_000;
const MOST_PER_SECOND: u32 = 20_000;

const DAY: u64 = 86_400;

/// A request for a job.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    /// What the job does.
    pub kind: JobKind,
    /// The filter of the events to retry or discard; at least one condition.
    #[serde(default)]
    pub filter: Option<LedgerFilter>,
    /// The filter of the messages in quarantine to republish or discard; without conditions, all unresolved ones.
    #[serde(default)]
    pub messages: Option<QuarantineFilter>,
    /// The filter of the dead letters to retry or discard; without conditions, all of them.
    #[serde(default)]
    pub dead_letters: Option<DeadLetterFilter>,
    /// The reason for discarding rows.
    #[serde(default)]
    pub reason: Option<String>,
    /// The number of rows to retry or discard in a second; 1,000 if absent.
    #[serde(default)]
    pub per_second: Option<u32>,
    /// Only count the rows that would be retried, republished or discarded.
    #[serde(default)]
    pub dry_run: bool,
    /// Whether an audit repairs the differences.
    #[serde(default)]
    pub repair: bool,
    /// What to rebuild; everything if absent.
    #[serde(default)]
    pub what: Option<RebuildTarget>,
    /// The age in days at which completed ledger rows are pruned.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 36_500)]
    pub ledger_days: Option<u32>,
    /// The age in days at which behaviors that no read model needs are pruned.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 36_500)]
    pub behaviors_days: Option<u32>,
}

impl JobRequest {
    /// Returns a request for a job of this kind, without parameters.
    #[must_use]
    pub const fn new(kind: JobKind) -> Self {
        Self {
            kind,
            filter: None,
            messages: None,
            dead_letters: None,
            reason: None,
            per_second: None,
            dry_run: false,
            repair: false,
            what: None,
            ledger_days: None,
            behaviors_days: None,
        }
    }
}

/// What a rebuild rebuilds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RebuildTarget {
    /// Read models and counts.
    ReadModels,
    /// The cache.
    Cache,
    /// Both.
    All,
}

/// The parameters of a job: `jobs.spec`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Spec {
    /// Of a retry or a discard.
    Rows {
        filter: LedgerFilter,
        per_second: u32,
        reason: Option<String>,
    },
    /// Of messages in quarantine.
    Messages { messages: QuarantineFilter },
    /// Of dead letters.
    DeadLetters { dead_letters: DeadLetterFilter },
    /// Of an audit.
    Audit { repair: bool },
    /// Of a rebuild.
    Rebuild { what: RebuildTarget },
    /// Of voiding or restoring likes of a user.
    Likes { likes_of: LikesOf, reason: String },
    /// Of an erasure. Pruning, whose fields may all be absent, follows it.
    Erase {
        erase: ErasedKind,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user_id: Option<Id>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resource_type: Option<ResourceType>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resource_id: Option<Id>,
    },
    /// Of pruning, in seconds.
    Prune {
        ledger_after: Option<u64>,
        behaviors_after: Option<u64>,
    },
}

impl Spec {
    /// Returns the parameters of an erasure.
    pub(super) fn erase(subject: &DataSubject) -> Self {
        let (user_id, resource_id) = match subject {
            DataSubject::User(user_id) => (Some(user_id.clone()), None),
            DataSubject::Resource(resource) => (None, Some(resource.id.clone())),
        };
        Self::Erase {
            erase: subject.kind(),
            user_id,
            resource_type: subject.resource_type(),
            resource_id,
        }
    }

    /// Returns the rows of a job on a snapshot; `None` for other jobs.
    pub(super) fn rows(&self) -> Option<JobRows<'_>> {
        match self {
            Self::Rows { filter, .. } => Some(JobRows::Events(filter)),
            Self::Messages { messages } => Some(JobRows::Messages(messages)),
            Self::DeadLetters { dead_letters } => Some(JobRows::DeadLetters(dead_letters)),
            _ => None,
        }
    }

    /// Returns what an erasure erases; `None` for other jobs.
    pub(super) fn subject(&self) -> Option<DataSubject> {
        let Self::Erase {
            user_id,
            resource_type,
            resource_id,
            ..
        } = self
        else {
            return None;
        };
        let resource = resource_type.zip(resource_id.clone());
        let resource = resource.map(|(resource_type, id)| Resource { resource_type, id });
        let user = user_id.clone().map(DataSubject::User);
        user.or(resource.map(DataSubject::Resource))
    }
}

impl AdminService {
    /// Returns the parameters of the requested job.
    ///
    /// # Errors
    /// If the request is invalid.
    pub(super) fn spec(&self, request: &JobRequest) -> Result<Spec, AdminError> {
        use JobKind::{
            Audit, Discard, DiscardMessages, DiscardWebhooks, Erase, Prune, Rebuild, Republish,
            Restore, Retry, RetryWebhooks, Void,
        };
        let invalid = |reason: &str| Err(AdminError::Invalid(reason.to_owned()));
        let fields: [(&str, bool, &[JobKind]); 9] = [
            ("filter", request.filter.is_some(), &[Retry, Discard]),
            (
                "messages",
                request.messages.is_some(),
                &[Republish, DiscardMessages],
            ),
            (
                "dead_letters",
                request.dead_letters.is_some(),
                &[RetryWebhooks, DiscardWebhooks],
            ),
            (
                "per_second",
                request.per_second.is_some(),
                &[Retry, Discard],
            ),
            ("reason", request.reason.is_some(), &[Discard]),
            ("repair", request.repair, &[Audit]),
            ("what", request.what.is_some(), &[Rebuild]),
            ("ledger_days", request.ledger_days.is_some(), &[Prune]),
            ("behaviors_days", request.behaviors_days.is_some(), &[Prune]),
        ];
        let stray =
            |(_, given, kinds): &&(_, bool, &[JobKind])| *given && !kinds.contains(&request.kind);
        if let Some((field, ..)) = fields.iter().find(stray) {
            return invalid(&format!("a job of kind {} has no '{field}'", request.kind));
        }
        match request.kind {
            Retry | Discard => {
                let filter = request.filter.clone().unwrap_or_default();
                let (resource_id, user_id) =
                    self.of_kinds("filter", filter.resource_id, filter.user_id)?;
                let filter = LedgerFilter {
                    resource_id,
                    user_id,
                    ..filter
                };
                check(&filter)?;
                if filter == LedgerFilter::default() {
                    return invalid(
                        "'filter' must name at least one of status, resource_type, resource_id, \
                         user_id, since, until and error",
                    );
                }
                let per_second = request.per_second.unwrap_or(PER_SECOND);
                if !(1..=MOST_PER_SECOND).contains(&per_second) {
                    return invalid(&format!("'per_second' must be from 1 to {MOST_PER_SECOND}"));
                }
                let reason = match request.kind {
                    Discard => reason_of_job(request.reason.as_deref(), request.dry_run)?,
                    _ => None,
                };
                Ok(Spec::Rows {
                    filter,
                    per_second,
                    reason,
                })
            }
            Republish | DiscardMessages => {
                let Some(messages) = request.messages.clone() else {
                    return invalid("'messages' must be a filter; {} matches all of them");
                };
                quarantine::checked(&messages)?;
                if request.kind == Republish {
                    self.publisher()?;
                }
                Ok(Spec::Messages { messages })
            }
            RetryWebhooks | DiscardWebhooks => {
                let Some(filter) = request.dead_letters.clone() else {
                    return invalid("'dead_letters' must be a filter; {} matches all of them");
                };
                webhooks::checked(&filter)?;
                let DeadLetterFilter {
                    resource_id,
                    user_id,
                    ..
                } = filter.clone();
                let (resource_id, user_id) = self.of_kinds("dead_letters", resource_id, user_id)?;
                let dead_letters = DeadLetterFilter {
                    resource_id,
                    user_id,
                    ..filter
                };
                Ok(Spec::DeadLetters { dead_letters })
            }
            Audit => Ok(Spec::Audit {
                repair: request.repair,
            }),
            Rebuild => Ok(Spec::Rebuild {
                what: request.what.unwrap_or(RebuildTarget::All),
            }),
            Prune => self.prune_spec(request),
            Void | Restore => invalid(&format!(
                "likes are voided and restored by POST /admin/users/{{id}}/likes/{}",
                request.kind
            )),
            Erase => invalid(
                "an erasure is asked for with DELETE /v1/users/{id} or DELETE /v1/{type}s/{id}",
            ),
        }
    }

    /// Returns ids of a resource and of a user as those of the database's kinds: JSON may have numbers as text.
    fn of_kinds(
        &self,
        field: &str,
        resource_id: Option<Id>,
        user_id: Option<Id>,
    ) -> Result<(Option<Id>, Option<Id>), AdminError> {
        let kinds = self.store().id_kinds();
        let check = |name: &str, kind: IdKind, id: Option<Id>| {
            let checked = id.map(|id| kind.check(id)).transpose();
            checked.map_err(|error| AdminError::Invalid(format!("'{name}' of '{field}' {error}")))
        };
        Ok((
            check("resource_id", kinds.resources, resource_id)?,
            check("user_id", kinds.users, user_id)?,
        ))
    }

    fn prune_spec(&self, request: &JobRequest) -> Result<Spec, AdminError> {
        let given = [request.ledger_days, request.behaviors_days];
        if given
            .iter()
            .flatten()
            .any(|days| !(1..=MOST_RETENTION_DAYS).contains(days))
        {
            return Err(AdminError::Invalid(format!(
                "'ledger_days' and 'behaviors_days' must be from 1 to {MOST_RETENTION_DAYS}"
            )));
        }
        let [ledger_after, behaviors_after] =
            given.map(|days| days.map(|days| u64::from(days) * DAY));
        if ledger_after.is_none() && behaviors_after.is_none() {
            return Err(AdminError::Invalid(
                "set 'ledger_days', 'behaviors_days' or both".to_owned(),
            ));
        }
        self.check_behaviors_age(behaviors_after.map(Duration::from_secs))?;
        Ok(Spec::Prune {
            ledger_after,
            behaviors_after,
        })
    }

    /// Checks the age at which behaviors are pruned: a redelivered event must find its behavior.
    ///
    /// # Errors
    /// If the stream keeps messages for longer.
    pub fn check_behaviors_age(&self, age: Option<Duration>) -> Result<(), AdminError> {
        if let (Some(age), Some(kept)) = (age, self.stream_max_age)
            && age < kept
        {
            return Err(AdminError::Invalid(format!(
                "behaviors must be kept for at least {} days: until then the stream may redeliver an \
                 event again (LIKEWISE_NATS_MAX_AGE_SECONDS)",
                kept.as_secs().div_ceil(DAY)
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use utoipa::PartialSchema;

    use super::*;

    /// An attribute takes literals only.
    #[test]
    fn documented_ages_are_the_accepted_ones() {
        let schema = serde_json::to_value(JobRequest::schema()).expect("JSON");
        for field in ["ledger_days", "behaviors_days"] {
            let days = &schema["properties"][field];
            assert_eq!(days["minimum"].as_f64(), Some(1.0), "{days}");
            let most = f64::from(MOST_RETENTION_DAYS);
            assert_eq!(days["maximum"].as_f64(), Some(most), "{days}");
        }
    }
}
