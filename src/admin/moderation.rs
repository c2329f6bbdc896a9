//! Voids and restores likes of a user, as after a fraud: voided likes do not count and are not listed among the likers,
//! but their user still sees them. Requested by `web/admin/` and `likewise users`, and run by `job_kinds`.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::jobs::JobAnswer;
use super::ledger::reason_of_job;
use super::{AdminError, AdminService, Job, Progress};
use crate::actors::cache_writer::{settle, settlements};
use crate::domain::{Id, JobKind, Moderation, ResourceType, Version};
use crate::live::announce;
use crate::store::{Decision, LikesOf, Moderated, Settled, is_storable};

/// The number of pairs in one transaction, which locks as many counts.
const PAIRS_AT_ONCE: usize = 200;

/// A request to void or restore likes of a user.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModerationRequest {
    /// The reason, for the record. A dry run needs none.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 500, example = "a click farm")]
    pub reason: Option<String>,
    /// Only likes of this type.
    #[serde(default)]
    pub resource_type: Option<ResourceType>,
    /// Only likes of this time or later.
    #[serde(default)]
    pub liked_after: Option<DateTime<Utc>>,
    /// Only likes before this time.
    #[serde(default)]
    pub liked_before: Option<DateTime<Utc>>,
    /// Only count the likes that would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// The likes that a dry run counted.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CountedLikes {
    /// Always true.
    pub dry_run: bool,
    /// The number of likes that the job would change.
    pub total: i64,
    /// The number of likes of each type.
    pub likes: BTreeMap<ResourceType, i64>,
}

/// The progress of a decision. Another process resumes from it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ModerationState {
    /// The remaining types, the current one first.
    types: VecDeque<ResourceType>,
    /// The last resource of the current type.
    after: Option<Id>,
    /// The number of changed likes of each type.
    pub(super) likes: BTreeMap<ResourceType, i64>,
}

/// A decision in progress.
pub(super) struct Moderate<'a> {
    admin: &'a AdminService,
    moderation: Moderation,
    likes: LikesOf,
    reason: String,
    operator: &'a str,
    state: ModerationState,
    total: i64,
    /// The last step, if the cache may not have its counts yet. Only then does the position advance: the worker that
    /// resumes the job repeats the step, which settles the counts again.
    unsettled: Option<Moderated>,
}

impl AdminService {
    /// Creates a job that voids or restores likes of a user, or counts those that it would change.
    ///
    /// # Errors
    /// If the request is invalid, the user is erased, or the database fails.
    pub async fn moderate(
        &self,
        moderation: Moderation,
        user_id: Id,
        request: ModerationRequest,
        operator: &str,
    ) -> Result<JobAnswer<CountedLikes>, AdminError> {
        if self.store().erasures().has_user(&user_id) {
            let reason = "the user was erased; nothing of it is kept".to_owned();
            return Err(AdminError::Conflict(reason));
        }
        let likes = self.likes_of(user_id, &request)?;
        let reason = reason_of_job(request.reason.as_deref(), request.dry_run)?;
        if request.dry_run {
            let likes = self.store().count_moderated(moderation, &likes).await?;
            return Ok(JobAnswer::Counted(CountedLikes {
                dry_run: true,
                total: likes.values().sum(),
                likes,
            }));
        }
        let spec = super::job_spec::Spec::Likes {
            likes_of: likes,
            reason: reason.unwrap_or_default(),
        };
        let job = self
            .create(moderation.into(), &spec, None, operator)
            .await?;
        Ok(JobAnswer::Created(job))
    }

    /// Returns the likes that a request is about.
    fn likes_of(&self, user_id: Id, request: &ModerationRequest) -> Result<LikesOf, AdminError> {
        let invalid = |reason: &str| Err(AdminError::Invalid(reason.to_owned()));
        if let Some(resource_type) = request.resource_type {
            let served = self.store().resource_types().served(resource_type);
            served.map_err(|error| AdminError::Invalid(error.to_string()))?;
        }
        let (after, before) = (request.liked_after, request.liked_before);
        if [after, before]
            .into_iter()
            .flatten()
            .any(|at| !is_storable(at))
        {
            return invalid(
                "'liked_after' and 'liked_before' must be times that a database stores",
            );
        }
        if after
            .zip(before)
            .is_some_and(|(after, before)| after >= before)
        {
            return invalid("'liked_after' must be earlier than 'liked_before'");
        }
        Ok(LikesOf {
            user_id,
            resource_type: request.resource_type,
            liked_after: after,
            liked_before: before,
        })
    }

    /// Settles the counts in the cache and announces the changed ones, as after a sync.
    async fn tell_counts(&self, settled: &Settled) -> Result<(), AdminError> {
        announce(self.broker(), settled).await;
        if let Some(cache_writer) = &self.cache_writer {
            settle(cache_writer, settled.clone()).await;
        } else if let Some(cache) = &self.dependencies.cache {
            let (settlements, _) = settlements(std::iter::once(settled));
            cache
                .settle(&settlements, Version::at(self.store().now()))
                .await?;
        }
        Ok(())
    }
}

impl<'a> Moderate<'a> {
    /// Starts or resumes the decision of a job.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) async fn begin(
        admin: &'a AdminService,
        job: &'a Job,
        likes: LikesOf,
        reason: String,
        from: Option<ModerationState>,
    ) -> Result<Self, AdminError> {
        let moderation = match job.kind {
            JobKind::Restore => Moderation::Restore,
            _ => Moderation::Void,
        };
        let store = admin.store();
        let types = store.resource_types().iter();
        let state = from.unwrap_or_else(|| ModerationState {
            types: types.filter(|each| likes.covers(*each)).collect(),
            after: None,
            likes: BTreeMap::new(),
        });
        let left = store.count_moderated(moderation, &likes).await?;
        Ok(Self {
            total: state.likes.values().chain(left.values()).sum(),
            admin,
            moderation,
            likes,
            reason,
            operator: &job.requested_by,
            state,
            unsettled: None,
        })
    }

    /// The state from which another process can resume.
    pub(super) const fn state(&self) -> &ModerationState {
        &self.state
    }

    /// The number of likes that it changed.
    pub(super) fn changed(&self) -> i64 {
        self.state.likes.values().sum()
    }

    /// Decides about the next pairs. Returns `None` after the last ones.
    ///
    /// # Errors
    /// If the database or the cache fails. The next step settles the cache again.
    pub(super) async fn step(&mut self) -> Result<Option<Progress>, AdminError> {
        self.settle().await?;
        let Some(resource_type) = self.state.types.front().copied() else {
            return Ok(None);
        };
        let store = self.admin.store();
        let decision = Decision {
            moderation: self.moderation,
            likes: &self.likes,
            reason: &self.reason,
            operator: self.operator,
        };
        let start = store.id_kinds().resources.before_all();
        let after = self.state.after.as_ref().unwrap_or(&start);
        let step = store.moderate(decision, resource_type, after, PAIRS_AT_ONCE);
        let moderated = step.await?;
        *self.state.likes.entry(resource_type).or_default() += moderated.changed as i64;
        self.unsettled = Some(moderated);
        self.settle().await?;
        let done = self.changed().unsigned_abs();
        Ok(Some(Progress {
            stage: "likes",
            done,
            total: self.total.unsigned_abs().max(done),
        }))
    }

    /// Settles the counts of the last step, unless the cache has them, and advances.
    async fn settle(&mut self) -> Result<(), AdminError> {
        if let Some(step) = &self.unsettled {
            self.admin.tell_counts(&step.settled).await?;
            self.state.after.clone_from(&step.position);
            if step.position.is_none() {
                self.state.types.pop_front();
            }
            self.unsettled = None;
        }
        Ok(())
    }
}
