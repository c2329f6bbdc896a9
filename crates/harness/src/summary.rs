//! The counted outcomes of a load. `drive` adds each outcome; the report and the benchmark read the sums.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use hyper::Method;

use crate::client::{Failure, Outcome};
use crate::refusal;
use crate::request::Request;

const LONGEST_LATENCY_MICROSECONDS: u64 = 3_600_000_000;

/// The counted outcomes of a load.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Requests answered with 2xx.
    pub accepted: u64,
    /// Requests that failed, by kind.
    pub failures: BTreeMap<Failure, u64>,
    /// The first status other than 2xx, with what its answer says; `None` if there is none.
    pub first_refusal: Option<String>,
    /// `PUT` requests sent, accepted or not.
    pub likes: u64,
    /// `DELETE` requests sent, accepted or not.
    pub unlikes: u64,
    /// From the start, with connections open, to the last outcome.
    pub elapsed: Duration,
    /// Microseconds from when a request was due to the end of its answer, for accepted requests. With a rate, a
    /// request is due at its slot in the schedule; without, when a connection is free.
    pub latency: Histogram<u64>,
    /// The same for likes and unlikes alone.
    pub write_latency: Histogram<u64>,
    /// Whether the load was stopped early.
    pub interrupted: bool,
}

impl Summary {
    pub(crate) fn new() -> Self {
        Self {
            accepted: 0,
            failures: BTreeMap::new(),
            first_refusal: None,
            likes: 0,
            unlikes: 0,
            elapsed: Duration::ZERO,
            latency: histogram(),
            write_latency: histogram(),
            interrupted: false,
        }
    }

    /// Requests that were not accepted.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// All requests.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.accepted + self.failed()
    }

    pub(crate) fn add(
        &mut self,
        request: &Request,
        outcome: &Outcome,
        body: &[u8],
        latency: Duration,
    ) {
        let is_write = [Method::PUT, Method::DELETE].contains(&request.method);
        if request.method == Method::PUT {
            self.likes += 1;
        } else if request.method == Method::DELETE {
            self.unlikes += 1;
        }
        match outcome {
            Ok(_) => {
                self.accepted += 1;
                let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
                self.latency.saturating_record(microseconds);
                if is_write {
                    self.write_latency.saturating_record(microseconds);
                }
            }
            Err(failure) => {
                *self.failures.entry(*failure).or_default() += 1;
                if let Failure::Status(_) = failure {
                    self.first_refusal
                        .get_or_insert_with(|| refusal::described(*failure, body));
                }
            }
        }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_LATENCY_MICROSECONDS, 3)
        .expect("constant bounds are valid")
}

#[cfg(test)]
mod tests {
    use hyper::{StatusCode, Uri};

    use super::*;

    fn request(method: Method) -> Request {
        Request {
            method,
            body: bytes::Bytes::new(),
            path: Uri::from_static("/v1/videos/7/like"),
            user_id: 1,
            video_id: None,
        }
    }

    #[test]
    fn requests_are_counted_once_and_failures_have_no_latency() {
        let mut summary = Summary::new();
        let (ok, busy) = (StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE);
        for method in [Method::PUT, Method::DELETE, Method::GET] {
            summary.add(&request(method), &Ok(ok), b"", Duration::from_millis(3));
        }
        for _ in 0..2 {
            let refused = Err(Failure::Status(busy));
            summary.add(&request(Method::PUT), &refused, b"", Duration::from_secs(9));
        }
        assert_eq!(
            (summary.sent(), summary.accepted, summary.failed()),
            (5, 3, 2)
        );
        assert_eq!((summary.likes, summary.unlikes), (3, 1));
        assert_eq!(summary.failures[&Failure::Status(busy)], 2);
        assert_eq!((summary.latency.len(), summary.write_latency.len()), (3, 2));
        assert!(summary.latency.max() < 4_000, "microseconds");
    }
}
