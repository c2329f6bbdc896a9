//! The steps of each kind of job: retry and discard of ledger rows, audit, rebuild, pruning, voiding. Run by
//! `held_job`. A new kind of job gets its steps here.

use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use serde_json::json;

use super::erase::Erase;
use super::held_job::{HeldJob, Interrupted, JobExit, JobPosition, Steps};
use super::jobs::Spec;
use super::moderation::Moderate;
use super::{
    AdminError, Audit, AuditOptions, CacheRebuild, Progress, Prune, RebuildTarget, read_models,
};
use crate::config::PruneOptions;
use crate::domain::idempotency::KEPT_FOR;
use crate::domain::{JobKind, Priority};
use crate::store::{Intervention, InterventionKind, JobReport, LikesOf};
use crate::telemetry::AuditEnded;

/// How long a job on rows is leased by each of its short steps.
const ROWS_LEASE: TimeDelta = TimeDelta::seconds(10);

/// The most rows in one transaction.
const ROWS_AT_ONCE: usize = 500;

/// The number of transactions a second that a slow job is spread over.
const STEPS_PER_SECOND: usize = 4;

/// How long jobs are kept after their end.
const JOBS_KEPT_FOR: TimeDelta = TimeDelta::days(30);

impl Steps for Audit {
    async fn step(&mut self) -> Result<Option<Progress>, AdminError> {
        self.step().await
    }

    fn save(&self, position: &mut JobPosition) {
        position.audit = Some(self.checkpoint().clone());
    }

    fn shrink(&mut self) -> Option<usize> {
        Some(self.shrink())
    }
}

impl Steps for CacheRebuild {
    async fn step(&mut self) -> Result<Option<Progress>, AdminError> {
        self.step().await
    }

    // The cache is rebuilt as a whole each time.
    fn save(&self, _: &mut JobPosition) {}
}

impl Steps for Prune {
    async fn step(&mut self) -> Result<Option<Progress>, AdminError> {
        self.step().await
    }

    fn save(&self, position: &mut JobPosition) {
        position.prune = Some(*self.state());
    }

    fn changed(&self) -> Option<i64> {
        Some(count(self.ledger_rows() + self.behaviors()))
    }
}

fn count(rows: u64) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

impl Steps for Moderate<'_> {
    async fn step(&mut self) -> Result<Option<Progress>, AdminError> {
        self.step().await
    }

    fn save(&self, position: &mut JobPosition) {
        position.moderation = Some(self.state().clone());
    }

    fn changed(&self) -> Option<i64> {
        Some(self.changed())
    }
}

impl HeldJob<'_> {
    /// Runs the job to its end.
    pub(super) async fn run(&mut self) -> Result<(), Interrupted> {
        let spec: Spec = serde_json::from_value(self.job.spec.clone())
            .map_err(|error| AdminError::Invalid(format!("the job cannot be read: {error}")))?;
        match spec {
            Spec::Rows {
                per_second, reason, ..
            } => self.change_rows(per_second, reason).await,
            Spec::Audit { repair } => self.audit(repair).await,
            Spec::Rebuild { what } => self.rebuild(what).await,
            Spec::Likes { likes_of, reason } => self.moderate(likes_of, reason).await,
            Spec::Erase { .. } => self.erase(&spec).await,
            Spec::Prune {
                ledger_after,
                behaviors_after,
            } => {
                self.prune(PruneOptions {
                    ledger_after: ledger_after.map(Duration::from_secs),
                    behaviors_after: behaviors_after.map(Duration::from_secs),
                    archive: self.admin.prune.archive.clone(),
                })
                .await
            }
        }
    }

    /// Retries or discards the rows of the job's snapshot, at most `per_second` a second.
    async fn change_rows(
        &mut self,
        per_second: u32,
        reason: Option<String>,
    ) -> Result<(), Interrupted> {
        let (job, admin) = (self.job, self.admin);
        let store = admin.store();
        let action = match reason {
            Some(reason) if job.kind == JobKind::Discard => InterventionKind::Discard(reason),
            _ => InterventionKind::Retry,
        };
        let limit = (per_second as usize / STEPS_PER_SECOND).clamp(1, ROWS_AT_ONCE);
        // From the long lease of the claim to the short one of the steps.
        self.write(&JobReport {
            total: job.total,
            done: job.done,
            changed: job.changed,
            lease_until: Some(store.now() + ROWS_LEASE),
            ..JobReport::default()
        })
        .await?;
        let mut done = job.done.unsigned_abs();
        loop {
            let started = Instant::now();
            let now = store.now();
            let intervention = Intervention {
                action: action.clone(),
                operator: job.requested_by.clone(),
                priority: Priority::Bulk,
                now,
            };
            let step = store
                .step_job(job, &intervention, limit, now + ROWS_LEASE)
                .await?;
            let Some(step) = step else {
                return Err(Interrupted::Exit(JobExit::Lost));
            };
            admin.intervened(&intervention, &step.changed).await?;
            done += step.passed as u64;
            self.show(Progress {
                stage: "events",
                done,
                total: job.total.map_or(done, i64::unsigned_abs),
            });
            if step.finished {
                return Ok(());
            }
            if self.pace.is_stopped() {
                return Err(Interrupted::Exit(JobExit::Stopped));
            }
            let share = Duration::from_secs_f64(step.passed as f64 / f64::from(per_second));
            tokio::time::sleep(share.saturating_sub(started.elapsed())).await;
        }
    }

    async fn audit(&mut self, repair: bool) -> Result<(), Interrupted> {
        let options = AuditOptions::new(repair);
        let dependencies = &self.admin.dependencies;
        let from = self.position.audit.clone();
        let mut audit = self
            .begin(|| Audit::begin(dependencies.clone(), options, from.clone()))
            .await?;
        self.work(&mut audit).await?;
        let report = audit.finish().await?;
        AuditEnded {
            found: report.found(),
            mended: report.mended(),
            findings: report
                .findings
                .iter()
                .map(|(finding, tally)| (finding.as_str(), tally.found))
                .collect(),
        }
        .emit();
        let checked = report.checked;
        let done =
            checked.behaviors + checked.ledger_rows + checked.counts + checked.behavior_counts;
        self.complete(done, count(report.mended()), json!(report))
            .await
    }

    async fn rebuild(&mut self, what: RebuildTarget) -> Result<(), Interrupted> {
        let dependencies = &self.admin.dependencies;
        if what != RebuildTarget::Cache && self.position.rebuilt.is_none() {
            let from = self.position.audit.clone();
            let mut rebuild = self
                .begin(|| read_models(dependencies.clone(), from.clone()))
                .await?;
            self.work(&mut rebuild).await?;
            let report = rebuild.finish().await?;
            self.position.audit = None;
            self.position.rebuilt = Some((count(report.mended()), report.checked.behaviors));
        }
        let (rewritten, behaviors) = self.position.rebuilt.unwrap_or_default();
        self.changed = rewritten;
        let mut cache = CacheRebuild::begin(dependencies.clone());
        if what != RebuildTarget::ReadModels {
            self.work(&mut cache).await?;
        }
        let result = json!({
            "behaviors": behaviors,
            "rows_rewritten": rewritten,
            "cache_entries_dropped": cache.dropped(),
        });
        self.complete(behaviors, rewritten, result).await
    }

    async fn moderate(&mut self, likes: LikesOf, reason: String) -> Result<(), Interrupted> {
        let (admin, job) = (self.admin, self.job);
        let from = self.position.moderation.clone();
        let begin = || Moderate::begin(admin, job, likes.clone(), reason.clone(), from.clone());
        let mut moderate = self.begin(begin).await?;
        self.work(&mut moderate).await?;
        let changed = moderate.changed();
        let result = json!({"likes": moderate.state().likes});
        self.complete(changed, changed, result).await
    }

    async fn erase(&mut self, spec: &Spec) -> Result<(), Interrupted> {
        let Some(subject) = spec.subject() else {
            let reason = "the job does not say whom it erases".to_owned();
            return Err(AdminError::Invalid(reason).into());
        };
        let (admin, id) = (self.admin, &self.job.id);
        let from = self.position.erase.clone();
        let mut erase = self
            .begin(|| Erase::begin(admin, &subject, id, from.clone()))
            .await?;
        self.work(&mut erase).await?;
        let result = erase.result().await?;
        let store = admin.store();
        match store
            .finish_erasure(erase.sweep(), self.job, &result)
            .await?
        {
            true => Ok(()),
            false => Err(Interrupted::Exit(JobExit::Lost)),
        }
    }

    async fn prune(&mut self, options: PruneOptions) -> Result<(), Interrupted> {
        let admin = self.admin;
        admin.check_behaviors_age(options.behaviors_after)?;
        let from = self.position.prune;
        let mut prune = Prune::begin(admin.dependencies.clone(), options, from);
        self.work(&mut prune).await?;
        let store = admin.store();
        let old = Utc::now() - JOBS_KEPT_FOR;
        while store.prune_jobs(old, 10).await? > 0 {}
        let forgotten = Utc::now() - KEPT_FOR;
        while store.prune_requests(forgotten, 1_000).await? > 0 {}
        let (ledger_rows, behaviors) = (prune.ledger_rows(), prune.behaviors());
        let pruned = count(ledger_rows + behaviors);
        let result = json!({"ledger_rows": ledger_rows, "behaviors": behaviors});
        self.complete(pruned, pruned, result).await
    }
}
