//! A job under this worker's lease: reports each step, which renews the lease, repeats a step that failed,
//! and notices that the job is lost or the runner stopped. The steps themselves are in `job_kinds`.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::moderation::ModerationState;
use super::pace::Pace;
use super::{AdminError, AdminService, AuditState, EraseState, Progress, PruneState};
use crate::domain::{FailureKind, JobState};
use crate::store::{Job, JobReport, StoreError};
use crate::telemetry::{Dependency, DependencyFailed};

/// How long a job is leased by a claim and by each step of an audit, a rebuild or pruning.
pub(super) const LEASE: TimeDelta = TimeDelta::seconds(120);

/// How long a job of the service rests, for each second of work.
const REST: f64 = 1.0;

/// How long a job is left that waits for a dependency.
pub(super) const POSTPONED: TimeDelta = TimeDelta::seconds(5);

/// The age up to which a job that no worker has claimed may still find a free one: longer than the pause between two looks.
const CLAIMED_WITHIN: TimeDelta = TimeDelta::seconds(2);

/// How often in a row a step may fail before its job fails.
const MOST_TRIES: u32 = 5;

/// The pause before a failed step is repeated; it doubles with each further failure.
const PAUSE: Duration = Duration::from_secs(1);

/// Where a job is: `jobs.position`. The next worker resumes from there.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct JobPosition {
    /// How often in a row the current step has failed.
    tries: u32,
    /// The position of an audit, or of a rebuild of the read models.
    pub(super) audit: Option<AuditState>,
    /// After a rebuild of the read models: the number of rows rewritten, and of behaviors read.
    pub(super) rebuilt: Option<(i64, i64)>,
    /// The position of pruning.
    pub(super) prune: Option<PruneState>,
    /// The position of voiding or restoring likes.
    pub(super) moderation: Option<ModerationState>,
    /// The position of an erasure.
    pub(super) erase: Option<EraseState>,
}

/// The outcome of running a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobExit {
    /// The job is completed or failed.
    Finished,
    /// An operator cancelled the job, or another worker claimed it.
    Lost,
    /// The runner was told to stop, or the job waits or makes way for another. The next worker resumes it.
    Stopped,
}

/// Why a job does not go on here.
pub(super) enum Interrupted {
    /// It is lost or stopped.
    Exit(JobExit),
    /// It failed.
    Failed(AdminError),
}

impl<E: Into<AdminError>> From<E> for Interrupted {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Work that a job does in bounded steps.
pub(super) trait Steps {
    /// Does the next step; `None` if there is none left. A step that failed is repeated by the next call.
    async fn step(&mut self) -> Result<Option<Progress>, AdminError>;

    /// Stores the position of the work.
    fn save(&self, position: &mut JobPosition);

    /// The number of rows changed so far; `None` if the steps do not change any.
    fn changed(&self) -> Option<i64> {
        None
    }

    /// Makes the following steps smaller after one that failed. Returns the new number of rows in a step, if
    /// it varies.
    fn shrink(&mut self) -> Option<usize> {
        None
    }

    /// How long the job rests after a step, for each second of work.
    fn rest(&self) -> f64 {
        REST
    }

    /// Whether the job waits for a cache or a broker that is away, however long that takes.
    fn is_patient(&self) -> bool {
        false
    }
}

/// A job that this worker has claimed.
pub(super) struct HeldJob<'a> {
    pub(super) admin: &'a AdminService,
    pub(super) pace: &'a Pace,
    pub(super) job: &'a Job,
    pub(super) position: JobPosition,
    pub(super) changed: i64,
    progress: Progress,
    observe: &'a mut dyn FnMut(Progress),
}

impl<'a> HeldJob<'a> {
    /// Resumes the job at its position; at its beginning if that cannot be read.
    pub(super) fn new(
        admin: &'a AdminService,
        pace: &'a Pace,
        job: &'a Job,
        observe: &'a mut dyn FnMut(Progress),
    ) -> Self {
        let position = job.position.as_deref().unwrap_or_default();
        Self {
            admin,
            pace,
            job,
            position: serde_json::from_str(position).unwrap_or_default(),
            changed: job.changed,
            progress: Progress {
                stage: "",
                done: job.done.unsigned_abs(),
                total: job.total.unwrap_or_default().unsigned_abs(),
            },
            observe,
        }
    }

    /// Shows the progress to the observer.
    pub(super) fn show(&mut self, progress: Progress) {
        (self.observe)(progress);
        self.progress = progress;
    }

    /// Does all steps of the work.
    pub(super) async fn work(&mut self, work: &mut impl Steps) -> Result<(), Interrupted> {
        loop {
            let started = Instant::now();
            let stepped = work.step().await;
            work.save(&mut self.position);
            match stepped {
                Ok(None) => return Ok(()),
                Ok(Some(progress)) => {
                    self.show(progress);
                    self.changed = work.changed().unwrap_or(self.changed);
                    self.position.tries = 0;
                    let rest = started.elapsed().mul_f64(work.rest());
                    self.pace.leave_time(rest).await;
                    if self.makes_way().await? {
                        self.report_until(None, self.admin.store().now()).await?;
                        return Err(Interrupted::Exit(JobExit::Stopped));
                    }
                    self.report(None).await?;
                }
                Err(error @ (AdminError::Cache(_) | AdminError::Broker(_)))
                    if work.is_patient() =>
                {
                    return self.postpone(&error).await;
                }
                Err(error) => self.failed(error, work.shrink()).await?,
            }
        }
    }

    /// Returns whether this job is upkeep for which another job waits. An operator's command line runs only its own job.
    async fn makes_way(&self) -> Result<bool, Interrupted> {
        if self.pace.is_hurried() || !self.job.kind.is_upkeep() {
            return Ok(false);
        }
        let store = self.admin.store();
        Ok(store.has_waiting_job(store.now() - CLAIMED_WITHIN).await?)
    }

    /// Leaves the job for a while, with the reason, so that other jobs run meanwhile.
    async fn postpone(&self, error: &AdminError) -> Result<(), Interrupted> {
        let stage = self.progress.stage;
        let message = format!("the job waits, at its step through the {stage}: {error}");
        let until = self.admin.store().now() + POSTPONED;
        self.report_until(Some(message), until).await?;
        Err(Interrupted::Exit(JobExit::Stopped))
    }

    /// Calls `begin` until it succeeds; a failure counts as one of a step.
    pub(super) async fn begin<T, F>(&mut self, begin: impl Fn() -> F) -> Result<T, Interrupted>
    where
        F: Future<Output = Result<T, AdminError>>,
    {
        loop {
            match begin().await {
                Ok(begun) => return Ok(begun),
                Err(error) => self.failed(error, None).await?,
            }
        }
    }

    /// Reports that a step failed, and waits before it is repeated.
    ///
    /// # Errors
    /// If the database is away, so that the next worker resumes; or if the step has failed too often.
    async fn failed(&mut self, error: AdminError, rows: Option<usize>) -> Result<(), Interrupted> {
        let may_pass = match &error {
            AdminError::Store(StoreError::TimedOut(_)) => true,
            AdminError::Store(error) => {
                error.was_answered() && error.kind() != FailureKind::Invalid
            }
            AdminError::Cache(_) | AdminError::Broker(_) => true,
            _ => false,
        };
        if !may_pass {
            return Err(error.into());
        }
        self.position.tries += 1;
        let tries = self.position.tries;
        let stage = match self.progress.stage {
            "" => "its first step".to_owned(),
            stage => format!("a step through the {stage}"),
        };
        if tries >= MOST_TRIES {
            let message =
                format!("{stage} failed {MOST_TRIES} times in a row, so the job failed: {error}");
            return Err(AdminError::GivenUp(message).into());
        }
        let fewer = rows.map_or_else(String::new, |rows| format!(", with {rows} rows at once"));
        let message = format!(
            "{stage} failed and is retried{fewer} (failure {tries} of {MOST_TRIES}): {error}"
        );
        DependencyFailed {
            dependency: Dependency::Database,
            doing: "a step of a job",
            error: &message,
        }
        .emit();
        // The database is away if it does not accept this report either: the next worker resumes.
        self.report(Some(message)).await?;
        self.pace.rest(PAUSE * 2_u32.pow(tries - 1)).await;
        if self.pace.is_stopped() {
            self.report(None).await?;
        }
        Ok(())
    }

    /// Stores the job's position, which renews the lease; or ends the lease if the runner is stopped.
    async fn report(&self, error_message: Option<String>) -> Result<(), Interrupted> {
        let stopped = self.pace.is_stopped();
        let now = self.admin.store().now();
        let until = if stopped { now } else { now + LEASE };
        self.report_until(error_message, until).await?;
        match stopped {
            true => Err(Interrupted::Exit(JobExit::Stopped)),
            false => Ok(()),
        }
    }

    /// Stores the job's position with a new end of the lease.
    async fn report_until(
        &self,
        error_message: Option<String>,
        lease_until: DateTime<Utc>,
    ) -> Result<(), Interrupted> {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let report = JobReport {
            total: Some(number(self.progress.total)),
            done: number(self.progress.done),
            changed: self.changed,
            error_message,
            lease_until: Some(lease_until),
            position: Some(json!(self.position).to_string()),
            ..JobReport::default()
        };
        self.write(&report).await
    }

    /// Completes the job with its result.
    pub(super) async fn complete(
        &self,
        done: i64,
        changed: i64,
        result: serde_json::Value,
    ) -> Result<(), Interrupted> {
        let completed = JobReport {
            total: Some(done),
            done,
            changed,
            state: Some(JobState::Completed),
            result: Some(result),
            ..JobReport::default()
        };
        self.write(&completed).await
    }

    /// Writes a report, unless the job is lost.
    pub(super) async fn write(&self, report: &JobReport) -> Result<(), Interrupted> {
        let store = self.admin.store();
        match store.report_job(self.job, report, store.now()).await? {
            true => Ok(()),
            false => Err(Interrupted::Exit(JobExit::Lost)),
        }
    }
}
