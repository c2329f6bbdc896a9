//! The counters of every like and every read. Their labels are fixed, so that counting looks no series up.

use std::fmt;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;

use crate::domain::Durability;

/// Accepted likes, by whether they are likes or unlikes, whether the broker or the database has them, and whether the cache
/// has them. Clones share the counters.
#[derive(Debug, Clone, Default)]
pub(super) struct AcceptedLikes([[[Counter; 2]; 2]; 2]);

impl AcceptedLikes {
    /// Counts a like or unlike.
    pub(super) fn count(&self, is_like: bool, durability: Durability, cached: bool) {
        let by_broker = durability == Durability::Broker;
        self.0[usize::from(is_like)][usize::from(by_broker)][usize::from(cached)].inc();
    }

    /// Returns the number of likes and unlikes.
    pub(super) fn total(&self) -> u64 {
        let counters = self.0.as_flattened().as_flattened();
        counters.iter().map(Counter::get).sum()
    }
}

impl EncodeMetric for AcceptedLikes {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (counters, action) in self.0.iter().zip(["unlike", "like"]) {
            for (counters, durability) in counters.iter().zip(["database", "broker"]) {
                for (counter, cached) in counters.iter().zip(["false", "true"]) {
                    let labels = [
                        ("action", action),
                        ("durability", durability),
                        ("cached", cached),
                    ];
                    counter.encode(encoder.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

/// Items that reads asked the cache for. Clones share the counters.
#[derive(Debug, Clone, Default)]
pub(super) struct CacheReads {
    pub(super) hits: Counter,
    pub(super) misses: Counter,
}

impl EncodeMetric for CacheReads {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (counter, result) in [(&self.hits, "hit"), (&self.misses, "miss")] {
            let labels = [("result", result)];
            counter.encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn accepted_likes_count_under_their_labels() {
        let likes = AcceptedLikes::default();
        let mut registry = Registry::default();
        registry.register("likes", "Likes", likes.clone());
        let (mut number, mut total) = (0_u64, 0);
        for (is_like, action) in [(true, "like"), (false, "unlike")] {
            for durability in [Durability::Broker, Durability::Database] {
                for cached in [false, true] {
                    number += 1;
                    total += number;
                    for _ in 0..number {
                        likes.count(is_like, durability, cached);
                    }
                    let mut text = String::new();
                    encode(&mut text, &registry).expect("text");
                    let durability = durability.as_str();
                    let line = format!(
                        "likes_total{{action=\"{action}\",durability=\"{durability}\",cached=\"{cached}\"}} {number}\n"
                    );
                    assert!(text.contains(&line), "{line}{text}");
                }
            }
        }
        assert_eq!(likes.total(), total);
    }
}
