//! The steps of each kind of job: audit, rebuild, pruning, voiding, erasing; those of jobs on a snapshot of rows are in
//! `row_jobs`. Run by `held_job`. A new kind of job gets its steps here.

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::json;

use super::erase::Erase;
use super::held_job::{HeldJob, Interrupted, JobExit, JobPosition, Steps};
use super::job_spec::Spec;
use super::moderation::Moderate;
use super::{
    AdminError, Audit, AuditOptions, CacheRebuild, Progress, Prune, RebuildTarget, read_models,
};
use crate::config::PruneOptions;
use crate::domain::idempotency::KEPT_FOR;
use crate::store::LikesOf;
use crate::telemetry::AuditEnded;

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

impl Steps for Erase<'_> {
    async fn step(&mut self) -> Result<Option<Progress>, AdminError> {
        self.step().await
    }

    fn save(&self, position: &mut JobPosition) {
        position.erase = Some(self.state().clone());
    }

    fn changed(&self) -> Option<i64> {
        Some(i64::try_from(self.done()).unwrap_or(i64::MAX))
    }

    fn shrink(&mut self) -> Option<usize> {
        Some(self.shrink())
    }

    /// Someone waits for it.
    fn rest(&self) -> f64 {
        0.1
    }

    /// Nothing may be left out because a dependency is away.
    fn is_patient(&self) -> bool {
        true
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
            } => self.intervene(per_second, reason).await,
            Spec::Messages { .. } => self.resolve_messages().await,
            Spec::DeadLetters { .. } => self.resolve_dead_letters().await,
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
        let (dependencies, from) = (&admin.dependencies, self.position.prune);
        let mut prune = self
            .begin(|| Prune::begin(dependencies.clone(), options.clone(), from))
            .await?;
        self.work(&mut prune).await?;
        let store = admin.store();
        let old = prune.begun_at() - JOBS_KEPT_FOR;
        while store.prune_jobs(old, 10).await? > 0 {}
        let forgotten = prune.begun_at() - KEPT_FOR;
        while store.prune_requests(forgotten, 1_000).await? > 0 {}
        let (ledger_rows, behaviors) = (prune.ledger_rows(), prune.behaviors());
        let pruned = count(ledger_rows + behaviors);
        let result = json!({"ledger_rows": ledger_rows, "behaviors": behaviors});
        self.complete(pruned, pruned, result).await
    }
}
