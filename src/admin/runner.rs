//! Runs jobs, one at a time, each under a lease: another worker resumes the job of a worker that died.
//! Called by the job runner (an actor) and by `likewise events retry` and `discard`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::json;

use super::held_job::{HeldJob, Interrupted, JobExit, LEASE};
use super::job_spec::Spec;
use super::pace::Pace;
use super::{AdminError, AdminService, Progress};
use crate::actors::job_runner::{Jobs, JobsFailed};
use crate::config::{PruneOptions, UpkeepOptions};
use crate::domain::{FailureKind, JobKind, JobState};
use crate::store::JobReport;
use crate::telemetry::JobEnded;

/// Runs jobs.
pub struct Runner {
    admin: AdminService,
    pace: Pace,
    current: Mutex<Option<String>>,
}

impl Runner {
    /// A runner of a service, which leaves time for likes.
    #[must_use]
    pub const fn new(admin: AdminService) -> Self {
        Self {
            admin,
            pace: Pace::new(false),
            current: Mutex::new(None),
        }
    }

    /// A runner of a command line, which runs at full speed.
    #[must_use]
    pub const fn hurried(admin: AdminService) -> Self {
        Self {
            admin,
            pace: Pace::new(true),
            current: Mutex::new(None),
        }
    }

    fn lock_current(&self) -> MutexGuard<'_, Option<String>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates the jobs that are due by the schedule. Each has a slot, so that one of several workers
    /// creates it.
    async fn schedule(&self, upkeep: &UpkeepOptions) -> Result<(), AdminError> {
        let now = self.admin.store().now().timestamp().unsigned_abs();
        if let Some(every) = upkeep.audit_every {
            let slot = format!("audit/{}/{}", every.as_secs(), now / every.as_secs().max(1));
            let spec = json!(Spec::Audit {
                repair: upkeep.audit_repair
            });
            self.admin.schedule(JobKind::Audit, spec, slot).await?;
        }
        // Without an age for rows too: the job also deletes old idempotency keys and old jobs.
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

    /// Claims the given job, or the oldest unclaimed one, and runs it. Returns `None` if there is none to
    /// claim. Calls `observe` after each step.
    ///
    /// # Errors
    /// If the database fails; another worker resumes the job when its lease expires.
    pub async fn run_next(
        &self,
        id: Option<&str>,
        observe: &mut dyn FnMut(Progress),
    ) -> Result<Option<JobExit>, AdminError> {
        let store = self.admin.store();
        let now = store.now();
        let Some(job) = store.claim_job(id, now, now + LEASE).await? else {
            return Ok(None);
        };
        *self.lock_current() = Some(job.id.clone());
        let mut held = HeldJob::new(&self.admin, &self.pace, &job, observe);
        let ran = held.run().await;
        let ran = match ran {
            Err(Interrupted::Failed(error)) if !is_retried(&error) => {
                let failed = JobReport {
                    total: job.total,
                    done: job.done,
                    changed: job.changed,
                    state: Some(JobState::Failed),
                    error_message: Some(error.to_string()),
                    ..JobReport::default()
                };
                held.write(&failed).await
            }
            ran => ran,
        };
        *self.lock_current() = None;
        match ran {
            Err(Interrupted::Failed(error)) => return Err(error),
            Err(Interrupted::Exit(exit)) => return Ok(Some(exit)),
            Ok(()) => {}
        }
        if let Some(job) = store.job(&job.id).await? {
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
        Ok(Some(JobExit::Finished))
    }
}

impl Jobs for Runner {
    async fn run_due(&self, upkeep: &UpkeepOptions) -> Result<bool, JobsFailed> {
        let run = async {
            self.schedule(upkeep).await?;
            self.run_next(None, &mut |_| {}).await
        };
        let ran = run.await.map_err(|error| JobsFailed {
            reason: error.to_string(),
            is_news: error.is_news(),
        })?;
        Ok(ran.is_some())
    }

    fn current(&self) -> Option<String> {
        self.lock_current().clone()
    }

    fn stop(&self) {
        self.pace.stop();
    }
}

/// Whether the database's error may be temporary, so that another worker resumes the job.
fn is_retried(error: &AdminError) -> bool {
    let error = error.of_store();
    error.is_some_and(|error| error.kind() != FailureKind::Invalid)
}
