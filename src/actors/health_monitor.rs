//! Probes the dependencies twice a second, so that a like is refused at once while two of them are unavailable, and
//! measures the offset of the process's clock from the database's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actor_kit::{Actor, Context, Schedule};

use crate::actors::probe::{DependenciesUnavailable, DependencyState, Probe};
use crate::domain::ClockWatch;
use crate::store::Reader;
use crate::telemetry::{ClockMeasured, Dependency};

/// The time between two probes.
const INTERVAL: Duration = Duration::from_millis(500);

/// The actor.
pub struct HealthMonitor {
    probe: Probe,
    reader: Reader,
    gone: Arc<DependenciesUnavailable>,
    clock: Mutex<ClockWatch>,
    context: Context<Self>,
}

impl Actor for HealthMonitor {
    const NAME: &'static str = "health_monitor";

    fn details(&self) -> serde_json::Value {
        let two = self.gone.two();
        let two = two.map(|(one, other)| [one.as_str(), other.as_str()]);
        let skew = self.probe.store.clock_skew();
        serde_json::json!({
            "interval_ms": INTERVAL.as_millis() as u64,
            "refusing_likes_without": two,
            "clock_skew_ms": skew.map(|skew| skew.num_milliseconds()),
        })
    }

    fn schedule(&self) -> Option<Schedule> {
        Some(Schedule {
            every: INTERVAL,
            at_once: true,
        })
    }

    async fn tick(self: Arc<Self>) {
        let dependencies = self.probe.look().await;
        self.gone.note(&dependencies);
        let database = dependencies.get(Dependency::Database.as_str());
        if database.is_some_and(|database| database.state == DependencyState::Up) {
            self.reader.answers();
        }
        // The probe reports a database that does not answer.
        if self.probe.store.measure_clock().await.is_ok()
            && let Some(skew) = self.probe.store.clock_skew()
        {
            let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
            ClockMeasured {
                skew,
                news: clock.note(skew),
            }
            .emit();
        }
        self.learn_erasures().await;
        self.context.progress(1);
    }
}

impl HealthMonitor {
    /// Learns of new erasures. The entries of a cache in this process end with each.
    async fn learn_erasures(&self) {
        // The probe reports a database that does not answer.
        if let Ok(true) = self.probe.store.learn_erasures().await
            && !self.probe.cache.is_shared()
        {
            // A cache in this process cannot fail.
            let _ = self.probe.cache.clear().await;
        }
    }

    /// Returns a monitor that keeps `gone` up to date, and informs this reader when the database answers.
    #[must_use]
    pub fn new(
        probe: Probe,
        reader: Reader,
        gone: Arc<DependenciesUnavailable>,
        context: Context<Self>,
    ) -> Self {
        Self {
            probe,
            reader,
            gone,
            clock: Mutex::default(),
            context,
        }
    }
}
