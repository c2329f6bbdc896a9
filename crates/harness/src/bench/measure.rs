//! One measurement: requests to a running service, the CPU time of each process meanwhile, and when the work was done.

use std::cell::RefCell;
use std::num::NonZeroU32;
use std::time::Duration;

use hdrhistogram::Histogram;
use hyper::Method;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::failure::BenchError;
use super::service::{Service, used_between};
use crate::client::Outcome;
use crate::drive::{Observer, Options, drive};
use crate::process::Usage;
use crate::request::Request;
use crate::summary::Summary;

/// How often the number of completed likes is read while the delay of their completion is measured.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What was measured.
pub(super) struct Measured {
    pub(super) load: Summary,
    /// From the first request until the last like was completed; `None` for requests that are done once they are
    /// answered.
    pub(super) completed_after: Option<Duration>,
    /// What each process has used for these requests alone, except that its peak of memory is of all its life.
    pub(super) usage: Vec<(String, Usage)>,
    /// Microseconds from the answer to a like until it was seen completed, if that was measured.
    pub(super) completion: Option<Histogram<u64>>,
}

impl Measured {
    pub(super) fn cpu(&self) -> Duration {
        self.usage.iter().map(|(_, usage)| usage.cpu).sum()
    }

    /// CPU time of all processes for each request, in microseconds.
    pub(super) fn cpu_us(&self) -> f64 {
        self.per_request(self.cpu())
    }

    pub(super) fn per_request(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / self.load.accepted.max(1) as f64
    }
}

/// Sends requests as fast as they are answered, all of which must be accepted, and waits until the likes among them are
/// completed.
pub(super) async fn measure(
    service: &Service,
    concurrency: u16,
    requests: impl IntoIterator<Item = Request>,
) -> Result<Measured, BenchError> {
    let earlier = service.completed().await?;
    let before = service.usage()?;
    let load = load(service, concurrency, None, requests, &Nothing).await?;
    let answered = Instant::now();
    let likes = load.likes + load.unlikes;
    let mut completed_after = None;
    if likes > 0 && service.contestant.stores() {
        let completed = service.until_completed(earlier + likes).await?;
        completed_after = Some(load.elapsed + (completed - answered));
    }
    Ok(Measured {
        completed_after,
        usage: used_between(&before, service.usage()?),
        load,
        completion: None,
    })
}

/// Sends requests that nothing has to complete, or not yet.
pub(super) async fn measure_answers(
    service: &Service,
    concurrency: u16,
    requests: impl IntoIterator<Item = Request>,
) -> Result<Measured, BenchError> {
    let before = service.usage()?;
    let load = load(service, concurrency, None, requests, &Nothing).await?;
    Ok(Measured {
        completed_after: None,
        usage: used_between(&before, service.usage()?),
        load,
        completion: None,
    })
}

/// Sends requests on a fixed schedule (open loop): a request's latency counts from its place in the schedule, so a server
/// that stalls does not slow the load down. Observes when likes are completed.
pub(super) async fn measure_at_rate(
    service: &Service,
    concurrency: u16,
    rate: NonZeroU32,
    requests: impl IntoIterator<Item = Request>,
) -> Result<Measured, BenchError> {
    let earlier = service.completed().await?;
    let before = service.usage()?;
    let answers = Answers::default();
    let seen = RefCell::new(Vec::new());
    let looking = async {
        loop {
            sleep(LOOK_EVERY).await;
            match service.completed().await {
                Ok(completed) => seen
                    .borrow_mut()
                    .push((Instant::now(), completed - earlier)),
                Err(error) => break error,
            }
        }
    };
    let load = async {
        let load = load(service, concurrency, Some(rate), requests, &answers).await?;
        let likes = load.likes + load.unlikes;
        if likes > 0 && service.contestant.stores() {
            let completed = service.until_completed(earlier + likes).await?;
            seen.borrow_mut().push((completed, likes));
        }
        Ok::<_, BenchError>(load)
    };
    let load = tokio::select! {
        load = load => load?,
        failed = looking => return Err(failed),
    };
    let usage = used_between(&before, service.usage()?);
    let likes = load.likes + load.unlikes;
    Ok(Measured {
        completed_after: None,
        usage,
        completion: (likes > 0).then(|| delays(&answers.0.borrow(), &seen.borrow())),
        load,
    })
}

/// The times of the answers to likes.
#[derive(Default)]
struct Answers(RefCell<Vec<Instant>>);

impl Observer for Answers {
    fn answered(&self, request: &Request, outcome: &Outcome, _: &[u8]) {
        if outcome.is_ok() && request.method != Method::GET && request.method != Method::POST {
            self.0.borrow_mut().push(Instant::now());
        }
    }
}

struct Nothing;

impl Observer for Nothing {
    fn answered(&self, _: &Request, _: &Outcome, _: &[u8]) {}
}

/// Computes the delay from each answer until its like was seen completed, as if likes were completed in the order of
/// their answers. The interval of the looks bounds its precision.
fn delays(answers: &[Instant], seen: &[(Instant, u64)]) -> Histogram<u64> {
    let mut delays = histogram();
    let mut completed = 0;
    for (at, count) in seen {
        let count = usize::try_from(*count)
            .unwrap_or(usize::MAX)
            .min(answers.len());
        for answer in answers.get(completed..count).unwrap_or_default() {
            let delay = at.saturating_duration_since(*answer).as_micros();
            delays.saturating_record(u64::try_from(delay).unwrap_or(u64::MAX).max(1));
        }
        completed = completed.max(count);
    }
    delays
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("constant bounds are valid")
}

async fn load(
    service: &Service,
    concurrency: u16,
    rate: Option<NonZeroU32>,
    requests: impl IntoIterator<Item = Request>,
    observer: &dyn Observer,
) -> Result<Summary, BenchError> {
    let (stop, stopped) = watch::channel(false);
    let observer = StopAtFailure { stop, observer };
    let options = Options {
        rate,
        observer: Some(&observer),
        stop: Some(stopped),
        ..Options::new(service.target.clone(), concurrency)
    };
    let summary = drive(requests, options).await;
    if summary.failed() == 0 {
        return Ok(summary);
    }
    Err(BenchError::Requests {
        failed: summary.failed(),
        sent: summary.sent(),
        why: why_failed(&summary),
    })
}

/// Describes the failures of a load: how many there are of each kind, and what the first refusal says.
fn why_failed(summary: &Summary) -> String {
    let kinds = summary.failures.iter();
    let kinds: Vec<_> = kinds
        .map(|(failure, count)| format!("{failure} ({count})"))
        .collect();
    let kinds = kinds.join(", ");
    match &summary.first_refusal {
        Some(refusal) => format!("{kinds}; the first refusal: {refusal}"),
        None => kinds,
    }
}

/// One failed request spoils a measurement, so no more are sent after it.
struct StopAtFailure<'a> {
    stop: watch::Sender<bool>,
    observer: &'a dyn Observer,
}

impl Observer for StopAtFailure<'_> {
    fn answered(&self, request: &Request, outcome: &Outcome, body: &[u8]) {
        if outcome.is_err() {
            self.stop.send_replace(true);
        }
        self.observer.answered(request, outcome, body);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::StatusCode;

    use super::*;
    use crate::client::Failure;
    use crate::request::Target;

    #[test]
    fn failed_load_shows_what_the_first_refusal_says() {
        let target: Target = "http://localhost".parse().expect("valid");
        let request = Request::to(&target, Method::GET, "/v1", 1, Bytes::new());
        let mut summary = Summary::new();
        let busy = Failure::Status(StatusCode::SERVICE_UNAVAILABLE);
        for (failure, body) in [
            (Failure::TimedOut, ""),
            (busy, r#"{"title":"Overloaded","detail":"try again"}"#),
            (busy, r#"{"title":"Unavailable"}"#),
        ] {
            summary.add(&request, &Err(failure), body.as_bytes(), Duration::ZERO);
        }
        assert_eq!(
            why_failed(&summary),
            "HTTP 503 Service Unavailable (2), timed out (1); \
             the first refusal: HTTP 503 Service Unavailable: Overloaded: try again"
        );
    }

    #[test]
    fn completion_delays_are_matched_in_the_order_of_answers() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let answers = [at(0), at(10), at(20), at(30)];
        // Nothing, then one, then the rest.
        let seen = [(at(5), 0), (at(50), 1), (at(130), 4)];
        let delays = delays(&answers, &seen);
        let (least, most) = (delays.min(), delays.max());
        assert_eq!(delays.len(), 4);
        assert!((49_900..=50_100).contains(&least), "{least}");
        assert!((119_000..=121_000).contains(&most), "{most}");
    }
}
