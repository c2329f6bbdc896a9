//! Makes the jobs that are due by the schedule, and runs jobs, one at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Supervised};

use super::kit::{ActorStats, InjectPanic, Turn, spawn_work};
use crate::admin::Runner;
use crate::config::UpkeepOptions;
use crate::telemetry::{Dependency, DependencyFailed};

/// How often it looks for jobs.
const INTERVAL: Duration = Duration::from_secs(1);

/// The actor.
pub struct JobRunner {
    round: Arc<Round>,
}

impl JobRunner {
    /// Its name in the registry.
    pub const NAME: &'static str = "job_runner";

    /// An actor that has jobs run by this runner.
    #[must_use]
    pub fn new(runner: Runner, upkeep: UpkeepOptions, stats: Arc<ActorStats>) -> Self {
        let round = Arc::new(Round {
            runner,
            upkeep,
            stats,
            turn: Turn::default(),
            stopped: AtomicBool::new(false),
        });
        let watched = Arc::downgrade(&round);
        round.stats.set_details(move || {
            let current = watched.upgrade().and_then(|round| round.runner.current());
            serde_json::json!({ "job": current })
        });
        Self { round }
    }

    fn tick(&self) {
        // One round at a time: while a job is run, this tick is skipped.
        if self.round.stopped.load(Ordering::Relaxed) {
            return;
        }
        let Some(turn) = self.round.turn.take() else {
            return;
        };
        let round = Arc::clone(&self.round);
        spawn_work(Arc::clone(&self.round.stats), async move {
            let _turn = turn;
            round.run().await;
        });
    }
}

impl Actor for JobRunner {
    type Context = Context<Self>;

    // Called at the start and after every restart, so that the schedule survives panics.
    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(INTERVAL, |actor, _| actor.tick());
    }
}

impl Supervised for JobRunner {}

impl Handler<InjectPanic> for JobRunner {
    type Result = ();

    fn handle(&mut self, _: InjectPanic, _: &mut Self::Context) {
        panic!("provoked by fault injection");
    }
}

/// Ends the job after its step, for another worker to go on with; answers once it is let go. Sent at
/// shutdown.
#[derive(Debug)]
pub struct StopRunning;

impl actix::Message for StopRunning {
    type Result = ();
}

impl Handler<StopRunning> for JobRunner {
    type Result = actix::ResponseFuture<()>;

    fn handle(&mut self, _: StopRunning, _: &mut Self::Context) -> Self::Result {
        let round = Arc::clone(&self.round);
        round.stopped.store(true, Ordering::Relaxed);
        round.runner.stop();
        Box::pin(async move {
            while round.turn.is_taken() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
    }
}

/// What the actor does at each tick, without actix.
struct Round {
    runner: Runner,
    upkeep: UpkeepOptions,
    stats: Arc<ActorStats>,
    turn: Turn,
    stopped: AtomicBool,
}

impl Round {
    async fn run(&self) {
        let run = async {
            self.runner.schedule(&self.upkeep).await?;
            self.runner.run_next(None, &mut |_| {}).await
        };
        match run.await {
            Ok(Some(_)) => self.stats.progress(1),
            Ok(None) => {}
            Err(error) => {
                self.stats.failed(&error);
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
}
