//! Creates the jobs that are due by the schedule, and runs jobs, one at a time.

use std::sync::Arc;
use std::time::Duration;

use actor_kit::{Actor, Context, Schedule};

use crate::admin::Runner;
use crate::config::UpkeepOptions;
use crate::telemetry::{Dependency, DependencyFailed};

/// The time between two looks for jobs.
const INTERVAL: Duration = Duration::from_secs(1);

/// The actor.
pub struct JobRunner {
    runner: Runner,
    upkeep: UpkeepOptions,
    context: Context<Self>,
}

impl Actor for JobRunner {
    const NAME: &'static str = "job_runner";

    fn details(&self) -> serde_json::Value {
        serde_json::json!({ "job": self.runner.current() })
    }

    fn schedule(&self) -> Option<Schedule> {
        Some(Schedule {
            every: INTERVAL,
            at_once: false,
        })
    }

    async fn tick(self: Arc<Self>) {
        let run = async {
            self.runner.schedule(&self.upkeep).await?;
            self.runner.run_next(None, &mut |_| {}).await
        };
        match run.await {
            Ok(Some(_)) => self.context.progress(1),
            Ok(None) => {}
            Err(error) => {
                self.context.failed(&error);
                if error.is_news() {
                    DependencyFailed {
                        dependency: Dependency::Database,
                        doing: "running jobs",
                        error: &error,
                    }
                    .emit();
                }
            }
        }
    }

    /// Ends the running job after its current step. Another worker resumes it.
    fn stopping(&self) {
        self.runner.stop();
    }
}

impl JobRunner {
    /// Returns an actor that runs jobs with this runner.
    #[must_use]
    pub const fn new(runner: Runner, upkeep: UpkeepOptions, context: Context<Self>) -> Self {
        Self {
            runner,
            upkeep,
            context,
        }
    }
}
