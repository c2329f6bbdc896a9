//! Creates the jobs that are due by the schedule, and runs jobs, one at a time.

use std::sync::Arc;
use std::time::Duration;

use actor_kit::{Actor, Context, Schedule};

use crate::config::UpkeepOptions;
use crate::telemetry::{Dependency, DependencyFailed};

/// The time between two looks for jobs.
const INTERVAL: Duration = Duration::from_secs(1);

/// The jobs that an actor runs: see [`Runner`](crate::admin::Runner).
pub trait Jobs: Send + Sync + 'static {
    /// Creates the jobs that are due by the schedule, then runs the oldest job that no worker runs, upkeep last. Returns
    /// whether there was one.
    fn run_due(&self, upkeep: &UpkeepOptions) -> impl Future<Output = Result<bool, JobsFailed>>;

    /// Returns the id of the job that runs now.
    fn current(&self) -> Option<String>;

    /// Stops after the current step.
    fn stop(&self);
}

/// Jobs could not be created or run. Another worker resumes the one that ran.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct JobsFailed {
    /// Why.
    pub reason: String,
    /// Whether the probes of the dependencies do not report it.
    pub is_news: bool,
}

/// The actor.
pub struct JobRunner<J: Jobs> {
    jobs: J,
    upkeep: UpkeepOptions,
    context: Context<Self>,
}

impl<J: Jobs> Actor for JobRunner<J> {
    const NAME: &'static str = "job_runner";

    fn details(&self) -> serde_json::Value {
        serde_json::json!({ "job": self.jobs.current() })
    }

    fn schedule(&self) -> Option<Schedule> {
        Some(Schedule {
            every: INTERVAL,
            at_once: false,
        })
    }

    async fn tick(self: Arc<Self>) {
        match self.jobs.run_due(&self.upkeep).await {
            Ok(true) => self.context.progress(1),
            Ok(false) => {}
            Err(error) => {
                self.context.failed(&error);
                DependencyFailed {
                    dependency: Dependency::Database,
                    doing: "running jobs",
                    error: &error,
                }
                .emit_if(error.is_news);
            }
        }
    }

    /// Ends the running job after its current step. Another worker resumes it.
    fn stopping(&self) {
        self.jobs.stop();
    }
}

impl<J: Jobs> JobRunner<J> {
    /// Returns an actor that runs these jobs.
    #[must_use]
    pub const fn new(jobs: J, upkeep: UpkeepOptions, context: Context<Self>) -> Self {
        Self {
            jobs,
            upkeep,
            context,
        }
    }
}
