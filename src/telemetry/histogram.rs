//! A histogram that costs two atomic additions an observation. That of `prometheus-client` takes a lock, which the threads
//! of the web server would share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Durations by their buckets. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Histogram(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    /// The upper bounds of the buckets, in nanoseconds, ascending.
    bounds: Vec<u64>,
    /// The observations in each bucket, and those above the last bound.
    counts: Vec<AtomicU64>,
    /// The sum of all observations, in nanoseconds.
    sum: AtomicU64,
}

impl Histogram {
    /// Returns a histogram with these upper bounds, in seconds, ascending.
    pub(crate) fn new(bounds: impl IntoIterator<Item = f64>) -> Self {
        let bounds: Vec<u64> = bounds
            .into_iter()
            .map(|bound| Duration::from_secs_f64(bound).as_nanos() as u64)
            .collect();
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Buckets {
            bounds,
            counts,
            sum: AtomicU64::new(0),
        }))
    }

    pub(crate) fn observe(&self, took: Duration) {
        let Buckets {
            bounds,
            counts,
            sum,
        } = &*self.0;
        let nanos = took.as_nanos() as u64;
        let bucket = bounds.partition_point(|bound| *bound < nanos);
        counts[bucket].fetch_add(1, Ordering::Relaxed);
        sum.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Returns the observations in each bucket; the last is that above the last bound.
    pub(crate) fn counts(&self) -> Vec<u64> {
        let counts = self.0.counts.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let counts = self.counts();
        let bounds = self.0.bounds.iter().map(|nanos| *nanos as f64 / 1e9);
        let buckets: Vec<_> = bounds
            .chain([f64::INFINITY])
            .zip(counts.iter().copied())
            .collect();
        let sum = self.0.sum.load(Ordering::Relaxed) as f64 / 1e9;
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn observation_counts_in_the_bucket_of_its_upper_bound() {
        let histogram = Histogram::new([0.001, 0.01]);
        for millis in [1, 2, 10, 11, 500] {
            histogram.observe(Duration::from_millis(millis));
        }
        assert_eq!(histogram.counts(), [1, 2, 2]);
        let mut registry = Registry::default();
        registry.register("took", "Durations", histogram);
        let mut text = String::new();
        encode(&mut text, &registry).expect("text");
        for line in [
            "took_bucket{le=\"0.001\"} 1\n",
            "took_bucket{le=\"0.01\"} 3\n",
            "took_bucket{le=\"+Inf\"} 5\n",
            "took_count 5\n",
            "took_sum 0.524\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }
}
