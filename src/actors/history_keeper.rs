//! Writes what this process did into the history of the deployment, every ten seconds, and has one process at a time count
//! what all share: the rows of the ledger and the messages that wait in the stream (docs/adr/0052).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actor_kit::{Actor, Context, Schedule};
use chrono::{DateTime, TimeDelta, Utc};

use crate::nats::Broker;
use crate::store::{DeploymentCounts, OperationQueue, ProcessCounts, Store, StoreError};
use crate::telemetry::{Figures, LedgerCounted};

/// The length of an interval, in seconds.
pub const INTERVAL_SECONDS: i64 = 10;

/// How long the history is kept.
pub const KEPT: TimeDelta = TimeDelta::days(1);

/// The time between two looks at the clock. An interval is written within a second of its end.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The most intervals that wait for the database: an hour.
const MOST_WAITING: usize = 360;

/// Counting takes at most this share of the time: after a count that took a second, the next one waits a minute.
const REST: f64 = 60.0;

/// The longest wait for NATS.
const BROKER_TIMEOUT: Duration = Duration::from_secs(2);

/// The actor.
pub struct HistoryKeeper {
    store: Arc<Store>,
    broker: Option<Arc<Broker>>,
    operations: OperationQueue,
    process: String,
    state: Mutex<State>,
    written: AtomicU64,
    context: Context<Self>,
}

/// The current interval, and those before that are not written.
struct State {
    slot: DateTime<Utc>,
    since: Instant,
    before: Figures,
    waiting: VecDeque<(DateTime<Utc>, ProcessCounts)>,
}

impl Actor for HistoryKeeper {
    const NAME: &'static str = "history_keeper";

    fn details(&self) -> serde_json::Value {
        serde_json::json!({
            "interval_seconds": INTERVAL_SECONDS,
            "written": self.written.load(Ordering::Relaxed),
            "waiting": self.lock().waiting.len(),
        })
    }

    fn schedule(&self) -> Option<Schedule> {
        Some(Schedule {
            every: LOOK_EVERY,
            at_once: true,
        })
    }

    async fn tick(self: Arc<Self>) {
        let ended = self.end_interval();
        if ended.is_some() {
            // The probe reports a database that does not answer, and the intervals wait.
            if let Err(error) = self.write().await
                && error.is_news()
            {
                self.context.failed(&error);
            }
            // The operations have been logged, and wait.
            let _ = self.operations.write().await;
            self.context.progress(1);
        }
    }
}

impl HistoryKeeper {
    /// Returns a keeper for this process, which also writes the operations that wait for the database.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        broker: Option<Arc<Broker>>,
        operations: OperationQueue,
        process: &str,
        context: Context<Self>,
    ) -> Self {
        let slot = slot_of(store.now());
        Self {
            store,
            broker,
            operations,
            process: process.to_owned(),
            state: Mutex::new(State {
                slot,
                since: Instant::now(),
                before: Figures::now(),
                waiting: VecDeque::new(),
            }),
            written: AtomicU64::new(0),
            context,
        }
    }

    /// Ends the current interval if its time is over. Returns its start then.
    fn end_interval(&self) -> Option<DateTime<Utc>> {
        let slot = slot_of(self.store.now());
        let mut state = self.lock();
        // The database's clock may have been set back: the interval goes on until it has passed its end.
        if slot <= state.slot {
            return None;
        }
        let figures = Figures::now();
        let did = figures.since(&state.before);
        let counts = ProcessCounts {
            seconds: state.since.elapsed().as_secs_f64(),
            accepted: did.accepted,
            completed: did.completed,
            failed: did.failed,
            latencies: did.latencies,
        };
        let ended = std::mem::replace(&mut state.slot, slot);
        state.since = Instant::now();
        state.before = figures;
        if state.waiting.len() == MOST_WAITING {
            state.waiting.pop_front();
        }
        state.waiting.push_back((ended, counts));
        Some(ended)
    }

    /// Writes the intervals that have ended, and counts what all processes share, if no other process does.
    async fn write(&self) -> Result<(), StoreError> {
        let waiting: Vec<_> = self.lock().waiting.iter().cloned().collect();
        self.store.note_history(&self.process, &waiting).await?;
        self.lock().waiting.drain(..waiting.len());
        self.written
            .fetch_add(waiting.len() as u64, Ordering::Relaxed);
        let now = self.store.now();
        let last = self.store.last_counts(now - TimeDelta::hours(1)).await?;
        if last.as_ref().is_none_or(|last| is_due(last, now))
            && let Some((slot, _)) = waiting.last()
            && self.store.claim_history(*slot, &self.process).await?
        {
            let counts = self.count().await?;
            let keep_from = now - KEPT;
            self.store.set_history(*slot, &counts, keep_from).await?;
            self.report(&counts);
        } else if let Some(last) = last {
            self.report(&last);
        }
        Ok(())
    }

    /// Counts the rows of the ledger and the messages that wait in the stream.
    async fn count(&self) -> Result<DeploymentCounts, StoreError> {
        let started = Instant::now();
        let counts = self.store.ledger_counts().await?;
        let took_seconds = started.elapsed().as_secs_f64();
        let now = self.store.now();
        let age = counts.oldest_open_at.map(|oldest| now - oldest);
        Ok(DeploymentCounts {
            counted_by: self.process.clone(),
            counted_at: Some(now),
            took_seconds,
            ledger: counts.rows,
            oldest_open_seconds: age.map(|age| age.as_seconds_f64().max(0.0)),
            consumer_lag: self.lag().await,
        })
    }

    /// Returns the messages that no worker has acknowledged; `None` without NATS.
    async fn lag(&self) -> Option<u64> {
        let broker = self
            .broker
            .as_ref()
            .filter(|broker| broker.is_connected())?;
        // The check of the stream reports what is wrong.
        let backlog = tokio::time::timeout(BROKER_TIMEOUT, broker.backlog()).await;
        backlog.ok()?.ok()
    }

    fn report(&self, counts: &DeploymentCounts) {
        LedgerCounted {
            at: counts.counted_at.unwrap_or_default(),
            rows: &counts.ledger,
            oldest_seconds: counts.oldest_open_seconds,
            lag: counts.consumer_lag,
        }
        .emit();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the start of the interval of this time.
fn slot_of(now: DateTime<Utc>) -> DateTime<Utc> {
    let seconds = now.timestamp().div_euclid(INTERVAL_SECONDS) * INTERVAL_SECONDS;
    DateTime::from_timestamp(seconds, 0).unwrap_or_default()
}

/// Returns whether enough time has passed since the last count.
fn is_due(last: &DeploymentCounts, now: DateTime<Utc>) -> bool {
    let age = last.counted_at.map_or(TimeDelta::MAX, |at| now - at);
    age.as_seconds_f64() >= last.took_seconds * REST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 7).expect("a time")
    }

    #[test]
    fn interval_starts_at_a_multiple_of_its_length() {
        assert_eq!(slot_of(at(1_700_000_009)).timestamp(), 1_700_000_000);
        assert_eq!(slot_of(at(1_700_000_010)).timestamp(), 1_700_000_010);
        assert_eq!(slot_of(at(-1)).timestamp(), -10);
    }

    #[test]
    fn slow_count_is_repeated_less_often() {
        let last = |took_seconds| DeploymentCounts {
            counted_at: Some(at(1_000)),
            took_seconds,
            ..DeploymentCounts::default()
        };
        assert!(is_due(&last(0.01), at(1_010)));
        assert!(!is_due(&last(1.0), at(1_059)));
        assert!(is_due(&last(1.0), at(1_060)));
    }
}
