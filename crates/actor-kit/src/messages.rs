//! The counters of one type of message of one actor.

use std::any::type_name;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

/// The percentiles cover the last one to two of these.
const WINDOW: Duration = Duration::from_secs(60);

/// The longest latency that a histogram distinguishes, in microseconds.
const LONGEST: u64 = 600_000_000;

/// The largest batch that a histogram distinguishes.
const LARGEST: u64 = 1_000_000;

/// The upper bounds of the latencies in [`MessageReport::latency_counts`], in microseconds.
pub const LATENCY_BOUNDS: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

/// The counters, written where the messages are handled.
#[derive(Debug)]
pub(crate) struct MessageStats {
    name: &'static str,
    received: AtomicU64,
    waiting: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    batches: AtomicU64,
    recent: Mutex<Recent>,
}

#[derive(Debug)]
struct Recent {
    latencies: Window,
    /// All latencies since the process started, by [`LATENCY_BOUNDS`], and their sum in microseconds.
    latency_counts: [u64; LATENCY_BOUNDS.len() + 1],
    latency_sum: u64,
    sizes: Window,
    /// The number of messages in running batches, and the batches with their starts.
    in_work: u64,
    next: u64,
    running: BTreeMap<u64, Instant>,
}

/// One type of message that an actor takes.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct MessageReport {
    /// The type.
    #[serde(rename = "type")]
    pub name: &'static str,
    /// Messages received since the process started.
    pub received: u64,
    /// Those answered with a success.
    pub done: u64,
    /// Those answered with a failure, or dropped without an answer.
    pub failed: u64,
    /// Messages that wait for a batch.
    pub waiting: u64,
    /// Batches begun since the process started.
    pub batches: u64,
    /// The batches that run now.
    pub running: RunningReport,
    /// Messages in a batch, over the last one to two minutes.
    pub batch_size: Percentiles,
    /// Milliseconds from arrival to answer, over the last one to two minutes.
    pub latency_ms: Percentiles,
    /// The answers since the process started, by the bucket of their latency ([`LATENCY_BOUNDS`]); the last is that above the
    /// last bound. Not part of the JSON.
    #[serde(skip)]
    pub latency_counts: Vec<u64>,
    /// The sum of all latencies since the process started. Not part of the JSON.
    #[serde(skip)]
    pub latency_sum: Duration,
}

/// Batches that run now.
#[derive(Debug, Clone, Copy, Serialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct RunningReport {
    /// The number of batches.
    pub batches: usize,
    /// The number of messages in them.
    pub messages: u64,
    /// How long the oldest has run, in milliseconds.
    pub oldest_ms: u64,
}

/// Percentiles; zero without values.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Percentiles {
    /// Half of the values are at most this.
    pub p50: f64,
    /// 95 of 100 values are at most this.
    pub p95: f64,
    /// 99 of 100 values are at most this.
    pub p99: f64,
    /// The largest value.
    pub max: f64,
}

impl MessageStats {
    pub(crate) fn of<M>() -> Self {
        let path = type_name::<M>();
        let now = Instant::now();
        Self {
            name: path.rsplit("::").next().unwrap_or(path),
            received: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            recent: Mutex::new(Recent {
                latencies: Window::new(LONGEST, now),
                latency_counts: [0; LATENCY_BOUNDS.len() + 1],
                latency_sum: 0,
                sizes: Window::new(LARGEST, now),
                in_work: 0,
                next: 0,
                running: BTreeMap::new(),
            }),
        }
    }

    pub(crate) fn received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one more item that waits for a batch.
    pub(crate) fn queued(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a message that arrived at this time as done or failed.
    pub(crate) fn answered(&self, arrived: Instant, failed: bool) {
        let counter = if failed { &self.failed } else { &self.done };
        counter.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let latency = now.saturating_duration_since(arrived).as_micros() as u64;
        let bucket = LATENCY_BOUNDS.partition_point(|bound| *bound < latency);
        let mut recent = self.recent();
        recent.latencies.record(latency, now);
        recent.latency_counts[bucket] += 1;
        recent.latency_sum += latency;
    }

    /// Counts a batch as running until the returned value is dropped.
    pub(crate) fn begin(self: &Arc<Self>, messages: usize) -> RunningBatch {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_sub(messages as u64, Ordering::Relaxed);
        let (messages, now) = (messages as u64, Instant::now());
        let mut recent = self.recent();
        recent.sizes.record(messages, now);
        recent.in_work += messages;
        let id = recent.next;
        recent.next += 1;
        recent.running.insert(id, now);
        drop(recent);
        RunningBatch {
            stats: Arc::clone(self),
            id,
            messages,
        }
    }

    pub(crate) fn report(&self) -> MessageReport {
        let mut recent = self.recent();
        let now = Instant::now();
        let oldest = recent.running.first_key_value();
        let oldest = oldest.map_or(Duration::ZERO, |(_, started)| started.elapsed());
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        MessageReport {
            name: self.name,
            received: count(&self.received),
            done: count(&self.done),
            failed: count(&self.failed),
            waiting: count(&self.waiting),
            batches: count(&self.batches),
            running: RunningReport {
                batches: recent.running.len(),
                messages: recent.in_work,
                oldest_ms: oldest.as_millis() as u64,
            },
            batch_size: recent.sizes.percentiles(now, 1.0),
            latency_ms: recent.latencies.percentiles(now, 1_000.0),
            latency_counts: recent.latency_counts.to_vec(),
            latency_sum: Duration::from_micros(recent.latency_sum),
        }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch that runs, until it is dropped.
#[derive(Debug)]
pub(crate) struct RunningBatch {
    stats: Arc<MessageStats>,
    id: u64,
    messages: u64,
}

impl Drop for RunningBatch {
    fn drop(&mut self) {
        let mut recent = self.stats.recent();
        recent.running.remove(&self.id);
        recent.in_work -= self.messages;
    }
}

/// The values of the present minute and of the one before.
#[derive(Debug)]
struct Window {
    current: Histogram<u32>,
    previous: Histogram<u32>,
    since: Instant,
}

impl Window {
    fn new(largest: u64, now: Instant) -> Self {
        let empty = || match Histogram::new_with_bounds(1, largest, 2) {
            Ok(empty) => empty,
            Err(error) => unreachable!("the bounds are constants: {error}"),
        };
        Self {
            current: empty(),
            previous: empty(),
            since: now,
        }
    }

    fn record(&mut self, value: u64, now: Instant) {
        self.advance(now);
        self.current.saturating_record(value);
    }

    fn advance(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age < WINDOW {
            return;
        }
        std::mem::swap(&mut self.current, &mut self.previous);
        self.current.reset();
        if age >= 2 * WINDOW {
            self.previous.reset();
        }
        self.since = now;
    }

    fn percentiles(&mut self, now: Instant, unit: f64) -> Percentiles {
        self.advance(now);
        let mut both = self.previous.clone();
        // Both have the same bounds.
        let _ = both.add(&self.current);
        if both.is_empty() {
            return Percentiles::default();
        }
        let at = |quantile| both.value_at_quantile(quantile) as f64 / unit;
        Percentiles {
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            max: both.max() as f64 / unit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_forget_values_after_two_windows() {
        let start = Instant::now();
        let mut window = Window::new(LONGEST, start);
        for value in 1..=100 {
            window.record(value * 1_000, start);
        }
        let now = window.percentiles(start, 1_000.0);
        assert!((now.p50 - 50.0).abs() < 1.0, "{now:?}");
        assert!((now.p99 - 99.0).abs() < 1.5, "{now:?}");
        let later = window.percentiles(start + WINDOW, 1_000.0);
        assert!((later.max - 100.0).abs() < 1.5, "{later:?}");
        let latest = window.percentiles(start + 2 * WINDOW, 1_000.0);
        assert!(latest.max.abs() < f64::EPSILON, "{latest:?}");
    }

    #[test]
    fn waiting_messages_are_neither_in_work_nor_answered() {
        let stats = Arc::new(MessageStats::of::<u8>());
        for _ in 0..5 {
            stats.received();
            stats.queued();
        }
        let batch = stats.begin(3);
        let report = stats.report();
        assert_eq!((report.waiting, report.running.messages), (2, 3));
        assert_eq!((report.name, report.batches), ("u8", 1));
        for failed in [false, false, true] {
            stats.answered(Instant::now(), failed);
        }
        drop(batch);
        let report = stats.report();
        assert_eq!((report.done, report.failed, report.waiting), (2, 1, 2));
        assert_eq!(report.running.batches, 0);
    }
}
