//! Runs jobs, one at a time: under a lease that it prolongs with each step, so that another worker goes on
//! with the job of one that died.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::jobs::Spec;
use super::{
    AdminError, AdminService, Audit, AuditOptions, AuditState, CacheRebuild, Progress, Prune,
    PruneState, RebuildTarget, read_models,
};
use crate::config::{PruneOptions, UpkeepOptions};
use crate::domain::idempotency::KEPT_FOR;
use crate::domain::{FailureKind, JobKind, JobState, Priority};
use crate::store::{Intervention, InterventionKind, Job, JobReport, StoreError};
use crate::telemetry::{AuditEnded, Dependency, DependencyFailed, JobEnded, OperatorIntervened};

/// How long a job is its runner's own at first, and after each step on rows.
const LEASE: TimeDelta = TimeDelta::seconds(10);

/// How long it is after each step of an audit, a rebuild or pruning, which take longer.
const LONG_LEASE: TimeDelta = TimeDelta::seconds(120);

/// The most rows in one transaction.
const ROWS_AT_ONCE: usize = 500;

/// How many transactions a second a slow job is spread over.
const STEPS_PER_SECOND: usize = 4;

/// For each second of work, how many a job of the service rests.
const REST: f64 = 1.0;

/// How long jobs are kept after their end.
const KEPT: TimeDelta = TimeDelta::days(30);

/// How a job ended, for its runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobExit {
    /// It is done, or cannot be done.
    Finished,
    /// Somebody has cancelled it, or another worker has it.
    Lost,
    /// The runner was told to stop; the next one goes on.
    Stopped,
}

/// Where a job is: `jobs.position`. The next worker goes on from there.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Place {
    /// How often in a row the current step has failed.
    tries: u32,
    /// How far an audit has come, or a rebuild of the read models.
    audit: Option<AuditState>,
    /// Of a rebuild whose read models are done: how many rows it has rewritten, from how many behaviors.
    rebuilt: Option<(i64, i64)>,
    /// How far pruning has come.
    prune: Option<PruneState>,
}

/// Where a job is; at its beginning if that cannot be read.
fn place(job: &Job) -> Place {
    let position = job.position.as_deref().unwrap_or_default();
    serde_json::from_str(position).unwrap_or_default()
}

/// How often in a row a step may fail before its job does.
const MOST_TRIES: u32 = 5;

/// How long a job waits before it takes a step again that has failed once; twice as long after each more.
const PAUSE: Duration = Duration::from_secs(1);

/// The steps of one job: what is reported of them, and how often the current one has failed.
struct Steps<'a> {
    runner: &'a Runner,
    job: &'a Job,
    progress: Progress,
    changed: i64,
    tries: u32,
}

impl<'a> Steps<'a> {
    const fn of(runner: &'a Runner, job: &'a Job, tries: u32) -> Self {
        Self {
            runner,
            job,
            progress: Progress {
                stage: "",
                done: job.done.unsigned_abs(),
                total: match job.total {
                    Some(total) => total.unsigned_abs(),
                    None => 0,
                },
            },
            changed: job.changed,
            tries,
        }
    }

    /// Reports a step, and rests as long as it took. Answers how the job ended, if it is not to be gone on
    /// with.
    async fn done(
        &mut self,
        progress: Progress,
        changed: i64,
        place: &Place,
        started: Instant,
    ) -> Result<Option<JobExit>, AdminError> {
        (self.progress, self.changed, self.tries) = (progress, changed, 0);
        if !self.runner.hurried {
            self.runner.rest(started.elapsed().mul_f64(REST)).await;
        }
        self.report(place, None).await
    }

    /// Reports that a step has failed, and waits before it is taken again. Answers how the job ended, if it is
    /// not to be gone on with.
    ///
    /// # Errors
    /// If the database is away, so that the next worker goes on; or if the step has failed too often.
    async fn failed(
        &mut self,
        error: AdminError,
        chunk: Option<usize>,
        place: &Place,
    ) -> Result<Option<JobExit>, AdminError> {
        let passes = match &error {
            AdminError::Store(StoreError::TimedOut(_)) => true,
            AdminError::Store(error) => {
                error.was_answered() && error.kind() != FailureKind::Invalid
            }
            AdminError::Cache(_) | AdminError::Broker(_) => true,
            _ => false,
        };
        if !passes {
            return Err(error);
        }
        self.tries += 1;
        let stage = match self.progress.stage {
            "" => "its first step".to_owned(),
            stage => format!("a step through the {stage}"),
        };
        if self.tries >= MOST_TRIES {
            return Err(AdminError::GivenUp(format!(
                "{stage} failed {MOST_TRIES} times in a row, and the job was given up: {error}"
            )));
        }
        let fewer = chunk.map_or_else(String::new, |chunk| format!(", with {chunk} rows at once"));
        let message = format!(
            "{stage} failed, and is tried again{fewer} ({} of {MOST_TRIES} times): {error}",
            self.tries
        );
        DependencyFailed {
            dependency: Dependency::Database,
            doing: "a step of a job",
            error: &message,
        }
        .emit();
        // A report that the database does not take shows that it is away: the next worker goes on.
        if let Some(ended) = self.report(place, Some(message)).await? {
            return Ok(Some(ended));
        }
        self.runner.rest(PAUSE * 2_u32.pow(self.tries - 1)).await;
        self.report_if_stopped(place).await
    }

    async fn report_if_stopped(&self, place: &Place) -> Result<Option<JobExit>, AdminError> {
        match self.runner.stopped.load(Ordering::Relaxed) {
            true => self.report(place, None).await,
            false => Ok(None),
        }
    }

    /// Writes down where the job is, which prolongs the lease.
    async fn report(
        &self,
        place: &Place,
        error_message: Option<String>,
    ) -> Result<Option<JobExit>, AdminError> {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let stopped = self.runner.stopped.load(Ordering::Relaxed);
        let place = Place {
            tries: self.tries,
            ..place.clone()
        };
        let now = self.runner.admin.store().now();
        let report = JobReport {
            total: Some(number(self.progress.total)),
            done: number(self.progress.done),
            changed: self.changed,
            error_message,
            // A job that is let go is anybody's at once.
            lease_until: Some(if stopped { now } else { now + LONG_LEASE }),
            position: Some(json!(place).to_string()),
            ..JobReport::default()
        };
        let store = self.runner.admin.store();
        if !store.report_job(self.job, &report, now).await? {
            return Ok(Some(JobExit::Lost));
        }
        Ok(stopped.then_some(JobExit::Stopped))
    }
}

/// Runs jobs.
pub struct Runner {
    admin: AdminService,
    stopped: AtomicBool,
    current: Mutex<Option<String>>,
    /// Whether jobs are done as fast as they go, which a command line is for.
    hurried: bool,
}

impl Runner {
    /// A runner of a service, which leaves time for likes.
    #[must_use]
    pub const fn new(admin: AdminService) -> Self {
        Self {
            admin,
            stopped: AtomicBool::new(false),
            current: Mutex::new(None),
            hurried: false,
        }
    }

    /// A runner of a command line, for whoever waits for it.
    #[must_use]
    pub fn hurried(admin: AdminService) -> Self {
        Self {
            hurried: true,
            ..Self::new(admin)
        }
    }

    /// Tells it to stop after the step that it is at.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// The job that it is at.
    #[must_use]
    pub fn current(&self) -> Option<String> {
        self.lock_current().clone()
    }

    fn lock_current(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the jobs that are due by the schedule. Each has a slot, so that of several workers one makes
    /// it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn schedule(&self, upkeep: &UpkeepOptions) -> Result<(), AdminError> {
        let now = Utc::now().timestamp().unsigned_abs();
        if let Some(every) = upkeep.audit_every {
            let slot = format!("audit/{}/{}", every.as_secs(), now / every.as_secs().max(1));
            let spec = json!(Spec::Audit {
                repair: upkeep.audit_repair
            });
            self.admin.schedule(JobKind::Audit, spec, slot).await?;
        }
        // It comes also when nothing is pruned by age: it deletes old keys and jobs.
        let PruneOptions {
            ledger_after,
            behaviors_after,
            ..
        } = upkeep.prune;
        let spec = json!(Spec::Prune {
            ledger_after: ledger_after.map(|age| age.as_secs()),
            behaviors_after: behaviors_after.map(|age| age.as_secs()),
        });
        let slot = format!("prune/{}", now / 86_400);
        self.admin.schedule(JobKind::Prune, spec, slot).await?;
        Ok(())
    }

    /// Takes a job that nobody is at, and runs it to its end; that one, if one is named. `None` if there is
    /// none. `observe` is told how far it has come, in rows done and in all.
    ///
    /// # Errors
    /// If the database fails; the job is gone on with when its lease has run out.
    pub async fn run_next(
        &self,
        id: Option<&str>,
        observe: &mut dyn FnMut(Progress),
    ) -> Result<Option<JobExit>, AdminError> {
        let now = self.admin.store().now();
        let claimed = self
            .admin
            .store()
            .claim_job(id, now, now + LONG_LEASE)
            .await?;
        let Some(job) = claimed else {
            return Ok(None);
        };
        *self.lock_current() = Some(job.id.clone());
        let outcome = self.run(&job, observe).await;
        *self.lock_current() = None;
        let ended = match outcome {
            Ok(ended) => ended,
            // The database may be back soon, and then the job is gone on with.
            Err(error)
                if error
                    .of_store()
                    .is_some_and(|error| error.kind() != crate::domain::FailureKind::Invalid) =>
            {
                return Err(error);
            }
            Err(error) => {
                let report = JobReport {
                    total: job.total,
                    done: job.done,
                    changed: job.changed,
                    state: Some(JobState::Failed),
                    error_message: Some(error.to_string()),
                    ..JobReport::default()
                };
                self.report(&job, &report).await?;
                JobExit::Finished
            }
        };
        if ended == JobExit::Finished
            && let Some(job) = self.admin.store().job(&job.id).await?
        {
            JobEnded {
                id: &job.id,
                kind: job.kind.as_str(),
                state: job.state.as_str(),
                done: job.done,
                changed: job.changed,
                error: job.error_message.as_deref(),
            }
            .emit();
        }
        Ok(Some(ended))
    }

    async fn run(
        &self,
        job: &Job,
        observe: &mut dyn FnMut(Progress),
    ) -> Result<JobExit, AdminError> {
        let spec: Spec = serde_json::from_value(job.spec.clone())
            .map_err(|error| AdminError::Invalid(format!("the job cannot be read: {error}")))?;
        match spec {
            Spec::Rows {
                per_second, reason, ..
            } => self.run_rows(job, per_second, reason, observe).await,
            Spec::Audit { repair } => self.run_audit(job, repair, observe).await,
            Spec::Rebuild { what } => self.run_rebuild(job, what, observe).await,
            Spec::Prune {
                ledger_after,
                behaviors_after,
            } => {
                let options = PruneOptions {
                    ledger_after: ledger_after.map(Duration::from_secs),
                    behaviors_after: behaviors_after.map(Duration::from_secs),
                    archive: self.admin.prune.archive.clone(),
                };
                self.run_prune(job, options, observe).await
            }
        }
    }

    async fn run_rows(
        &self,
        job: &Job,
        per_second: u32,
        reason: Option<String>,
        observe: &mut dyn FnMut(Progress),
    ) -> Result<JobExit, AdminError> {
        let discards = job.kind == JobKind::Discard;
        let action = match reason {
            Some(reason) if discards => InterventionKind::Discard(reason),
            _ => InterventionKind::Retry,
        };
        let limit = (per_second as usize / STEPS_PER_SECOND).clamp(1, ROWS_AT_ONCE);
        let mut done = job.done;
        // What was claimed for long is held for short from here on.
        let held = JobReport {
            total: job.total,
            done: job.done,
            changed: job.changed,
            lease_until: Some(self.admin.store().now() + LEASE),
            ..JobReport::default()
        };
        if !self
            .admin
            .store()
            .report_job(job, &held, self.admin.store().now())
            .await?
        {
            return Ok(JobExit::Lost);
        }
        loop {
            let started = Instant::now();
            let now = self.admin.store().now();
            let intervention = Intervention {
                action: action.clone(),
                operator: job.requested_by.clone(),
                priority: Priority::Bulk,
                now,
            };
            let step = self
                .admin
                .store()
                .step_job(job, &intervention, limit, now + LEASE)
                .await?;
            let Some(step) = step else {
                return Ok(JobExit::Lost);
            };
            OperatorIntervened {
                operator: &job.requested_by,
                action: if discards { "discarded" } else { "retried" },
                rows: step.changed.len(),
            }
            .emit();
            if discards {
                self.admin.forget(&step.changed).await?;
            }
            done += i64::try_from(step.passed).unwrap_or(0);
            observe(Progress {
                stage: "events",
                done: done.unsigned_abs(),
                total: job.total.unwrap_or(done).unsigned_abs(),
            });
            if step.finished {
                return Ok(JobExit::Finished);
            }
            if self.stopped.load(Ordering::Relaxed) {
                return Ok(JobExit::Stopped);
            }
            let share = Duration::from_secs_f64(step.passed as f64 / f64::from(per_second));
            tokio::time::sleep(share.saturating_sub(started.elapsed())).await;
        }
    }

    async fn run_audit(
        &self,
        job: &Job,
        repair: bool,
        observe: &mut dyn FnMut(Progress),
    ) -> Result<JobExit, AdminError> {
        let place: Place = place(job);
        let mut steps = Steps::of(self, job, place.tries);
        let options = AuditOptions::new(repair);
        let dependencies = self.admin.dependencies.clone();
        let mut audit = loop {
            match Audit::begin(dependencies.clone(), options, place.audit.clone()).await {
                Ok(audit) => break audit,
                Err(error) => {
                    if let Some(ended) = steps.failed(error, None, &place).await? {
                        return Ok(ended);
                    }
                }
            }
        };
        let walked = self.walk(&mut audit, &mut steps, &place, observe).await?;
        if let Some(ended) = walked {
            return Ok(ended);
        }
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
        let done = report.checked.behaviors + report.checked.ledger_rows + report.checked.counts;
        let mended = i64::try_from(report.mended()).unwrap_or(i64::MAX);
        self.finish(job, done, mended, json!(report)).await
    }

    async fn run_rebuild(
        &self,
        job: &Job,
        what: RebuildTarget,
        observe: &mut dyn FnMut(Progress),
    ) -> Result<JobExit, AdminError> {
        let mut place: Place = place(job);
        let mut steps = Steps::of(self, job, place.tries);
        let dependencies = self.admin.dependencies.clone();
        if what != RebuildTarget::Cache && place.rebuilt.is_none() {
            let mut rebuild = loop {
                match read_models(dependencies.clone(), place.audit.clone()).await {
                    Ok(rebuild) => break rebuild,
                    Err(error) => {
                        if let Some(ended) = steps.failed(error, None, &place).await? {
                            return Ok(ended);
                        }
                    }
                }
            };
            let walked = self.walk(&mut rebuild, &mut steps, &place, observe).await?;
            if let Some(ended) = walked {
                return Ok(ended);
            }
            let report = rebuild.finish().await?;
            let rewritten = i64::try_from(report.mended()).unwrap_or(i64::MAX);
            place = Place {
                rebuilt: Some((rewritten, report.checked.behaviors)),
                ..Place::default()
            };
        }
        let (rewritten, behaviors) = place.rebuilt.unwrap_or_default();
        let mut entries = 0;
        if what != RebuildTarget::ReadModels {
            let mut rebuild = CacheRebuild::begin(dependencies);
            loop {
                let started = Instant::now();
                let progress = match rebuild.step().await {
                    Ok(Some(progress)) => progress,
                    Ok(None) => break,
                    Err(error) => match steps.failed(error, None, &place).await? {
                        Some(ended) => return Ok(ended),
                        None => continue,
                    },
                };
                observe(progress);
                entries = progress.done;
                let ended = steps.done(progress, rewritten, &place, started).await?;
                if let Some(ended) = ended {
                    return Ok(ended);
                }
            }
        }
        let result = json!({
            "behaviors": behaviors,
            "rows_rewritten": rewritten,
            "cache_entries_dropped": entries,
        });
        self.finish(job, behaviors, rewritten, result).await
    }

    async fn run_prune(
        &self,
        job: &Job,
        options: PruneOptions,
        observe: &mut dyn FnMut(Progress),
    ) -> Result<JobExit, AdminError> {
        self.admin.check_behaviors_age(options.behaviors_after)?;
        let place: Place = place(job);
        let mut steps = Steps::of(self, job, place.tries);
        let mut prune = Prune::begin(self.admin.dependencies.clone(), options, place.prune);
        loop {
            let started = Instant::now();
            let here = Place {
                prune: Some(*prune.state()),
                ..Place::default()
            };
            let progress = match prune.step().await {
                Ok(Some(progress)) => progress,
                Ok(None) => break,
                Err(error) => match steps.failed(error, None, &here).await? {
                    Some(ended) => return Ok(ended),
                    None => continue,
                },
            };
            observe(progress);
            let pruned = i64::try_from(progress.done).unwrap_or(i64::MAX);
            let here = Place {
                prune: Some(*prune.state()),
                ..Place::default()
            };
            if let Some(ended) = steps.done(progress, pruned, &here, started).await? {
                return Ok(ended);
            }
        }
        let old = Utc::now() - KEPT;
        while self.admin.store().prune_jobs(old, 10).await? > 0 {}
        let forgotten = Utc::now() - KEPT_FOR;
        while self.admin.store().prune_requests(forgotten, 1_000).await? > 0 {}
        let (ledger_rows, behaviors) = (prune.ledger_rows(), prune.behaviors());
        let pruned = i64::try_from(ledger_rows + behaviors).unwrap_or(i64::MAX);
        let result = json!({"ledger_rows": ledger_rows, "behaviors": behaviors});
        self.finish(job, pruned, pruned, result).await
    }

    /// Takes an audit or a rebuild to its end. Answers how it ended, if that was before.
    async fn walk(
        &self,
        audit: &mut Audit,
        steps: &mut Steps<'_>,
        place: &Place,
        observe: &mut dyn FnMut(Progress),
    ) -> Result<Option<JobExit>, AdminError> {
        loop {
            let started = Instant::now();
            let stepped = audit.step().await;
            let here = Place {
                audit: Some(audit.checkpoint().clone()),
                ..place.clone()
            };
            let ended = match stepped {
                Ok(Some(progress)) => {
                    observe(progress);
                    steps.done(progress, 0, &here, started).await?
                }
                Ok(None) => return Ok(None),
                Err(error) => {
                    let chunk = audit.shrink();
                    steps.failed(error, Some(chunk), &here).await?
                }
            };
            if ended.is_some() {
                return Ok(ended);
            }
        }
    }

    /// Rests, unless it is told to stop.
    async fn rest(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.stopped.load(Ordering::Relaxed) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(Duration::from_millis(200))).await;
        }
    }

    async fn finish(
        &self,
        job: &Job,
        done: i64,
        changed: i64,
        result: serde_json::Value,
    ) -> Result<JobExit, AdminError> {
        let report = JobReport {
            total: Some(done),
            done,
            changed,
            state: Some(JobState::Completed),
            result: Some(result),
            ..JobReport::default()
        };
        self.report(job, &report).await
    }

    async fn report(&self, job: &Job, report: &JobReport) -> Result<JobExit, AdminError> {
        let now: DateTime<Utc> = self.admin.store().now();
        Ok(
            match self.admin.store().report_job(job, report, now).await? {
                true => JobExit::Finished,
                false => JobExit::Lost,
            },
        )
    }
}
