//! Looks at the parts again and again, so that a like is refused at once while two of them are gone, and
//! measures how far the process's clock is from the database's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Supervised};

use super::kit::{ActorStats, InjectPanic, Turn, spawn_work};
use crate::domain::ClockWatch;
use crate::health::{DependenciesUnavailable, DependencyState, Probe};
use crate::store::Reader;
use crate::telemetry::{ClockMeasured, Dependency};

/// How often it looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// The actor.
pub struct HealthMonitor {
    probe: Probe,
    reader: Reader,
    gone: Arc<DependenciesUnavailable>,
    stats: Arc<ActorStats>,
    clock: Arc<Mutex<ClockWatch>>,
    turn: Turn,
}

impl HealthMonitor {
    /// Its name in the registry.
    pub const NAME: &'static str = "health_monitor";

    /// A monitor that keeps `gone` up to date, and tells this reader when the database answers.
    #[must_use]
    pub fn new(
        probe: Probe,
        reader: Reader,
        gone: Arc<DependenciesUnavailable>,
        stats: Arc<ActorStats>,
    ) -> Self {
        let watched = Arc::clone(&gone);
        let store = Arc::clone(&probe.store);
        stats.set_details(move || {
            let two = watched.two();
            let two = two.map(|(one, other)| [one.as_str(), other.as_str()]);
            serde_json::json!({
                "interval_ms": INTERVAL.as_millis() as u64,
                "refusing_likes_without": two,
                "clock_skew_ms": store.clock_skew().map(|skew| skew.num_milliseconds()),
            })
        });
        Self {
            probe,
            reader,
            gone,
            stats,
            clock: Arc::default(),
            turn: Turn::default(),
        }
    }

    fn look(&self) {
        // One look at a time: a part that hangs holds it up.
        let Some(turn) = self.turn.take() else {
            return;
        };
        let (probe, gone) = (self.probe.clone(), Arc::clone(&self.gone));
        let reader = self.reader.clone();
        let (stats, clock) = (Arc::clone(&self.stats), Arc::clone(&self.clock));
        spawn_work(Arc::clone(&self.stats), async move {
            let _turn = turn;
            let parts = probe.look().await;
            gone.note(&parts);
            let database = parts.get(Dependency::Database.as_str());
            if database.is_some_and(|database| database.state == DependencyState::Up) {
                reader.answers();
            }
            // A database that does not answer is the look's to report.
            if probe.store.measure_clock().await.is_ok()
                && let Some(skew) = probe.store.clock_skew()
            {
                let mut clock = clock.lock().unwrap_or_else(PoisonError::into_inner);
                ClockMeasured {
                    skew,
                    news: clock.note(skew),
                }
                .emit();
            }
            stats.progress(1);
        });
    }
}

impl Actor for HealthMonitor {
    type Context = Context<Self>;

    // Called at the start and after every restart, so that the schedule survives panics.
    fn started(&mut self, context: &mut Self::Context) {
        self.look();
        context.run_interval(INTERVAL, |actor, _| actor.look());
    }
}

impl Supervised for HealthMonitor {}

impl Handler<InjectPanic> for HealthMonitor {
    type Result = ();

    fn handle(&mut self, _: InjectPanic, _: &mut Self::Context) {
        panic!("provoked by fault injection");
    }
}
