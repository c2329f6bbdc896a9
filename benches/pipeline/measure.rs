//! One measurement: a service that has just been started, under load until all that it was sent is done.

use std::time::Duration;

use harness::process::{self, Usage};
use harness::{Observer, Options, Outcome, Request, Summary, drive};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::failure::Failure;
use crate::likes::Likes;
use crate::service::Service;

/// What to measure a service with.
pub(crate) struct Plan<'a> {
    pub(crate) likes: &'a Likes,
    pub(crate) warm_up: u64,
    pub(crate) concurrency: u16,
    /// The longest that a measurement may take, warm-up and verification included.
    pub(crate) limit: Duration,
}

pub(crate) struct Measured {
    pub(crate) load: Summary,
    /// From the first request until the last one's work was done.
    pub(crate) completed_after: Duration,
    /// What each process has used for these requests alone, except that its peak of memory is of all its life.
    pub(crate) usage: Vec<(&'static str, Usage)>,
}

/// Measures a service, and checks its promises if it makes any.
pub(crate) async fn measure(service: Service, plan: &Plan<'_>) -> Result<Measured, Failure> {
    timeout(plan.limit, measure_to_the_end(service, plan))
        .await
        .unwrap_or(Err(Failure::TooLong(plan.limit)))
}

async fn measure_to_the_end(service: Service, plan: &Plan<'_>) -> Result<Measured, Failure> {
    let warm_up = plan.likes.warm_up(&service.target, plan.warm_up);
    let warmed = load(&service, plan.concurrency, warm_up).await?.accepted;
    if let Some(ledger) = &service.ledger {
        ledger.completed(warmed).await?;
    }

    let before = usage(&service)?;
    let requests = plan.likes.requests(&service.target)?;
    let load = load(&service, plan.concurrency, requests).await?;
    let answered = Instant::now();
    let mut completed = answered;
    if let Some(ledger) = &service.ledger {
        ledger.completed(warmed + load.accepted).await?;
        completed = Instant::now();
    }
    let usage = used_since(before, &service)?;

    if let Some(ledger) = &service.ledger {
        completed = ledger.verify().await?.closed.unwrap_or(completed);
    }
    Ok(Measured {
        completed_after: load.elapsed + (completed - answered),
        load,
        usage,
    })
}

/// Measures requests that are done once they are answered.
pub(crate) async fn measure_reads(
    service: &Service,
    concurrency: u16,
    requests: impl IntoIterator<Item = Request>,
) -> Result<Measured, Failure> {
    let before = usage(service)?;
    let load = load(service, concurrency, requests).await?;
    Ok(Measured {
        completed_after: load.elapsed,
        usage: used_since(before, service)?,
        load,
    })
}

/// Sends requests, all of which must be accepted.
pub(crate) async fn load(
    service: &Service,
    concurrency: u16,
    requests: impl IntoIterator<Item = Request>,
) -> Result<Summary, Failure> {
    let (stop, stopped) = watch::channel(false);
    let stop = StopAtFailure(stop);
    let options = Options {
        observer: Some(&stop),
        stop: Some(stopped),
        ..Options::new(service.target.clone(), concurrency)
    };
    let summary = drive(requests, options).await;
    if summary.failed() == 0 {
        return Ok(summary);
    }
    let kinds: Vec<_> = summary
        .failures
        .iter()
        .map(|(failure, count)| format!("{failure} ({count})"))
        .collect();
    Err(Failure::Requests {
        failed: summary.failed(),
        sent: summary.sent(),
        kinds: kinds.join(", "),
    })
}

fn usage(service: &Service) -> Result<Vec<(&'static str, Usage)>, Failure> {
    let processes = service.processes.iter();
    let own = processes.map(|process| Ok((process.name(), process.usage()?)));
    let servers = service.servers.iter();
    let others = servers.map(|(name, server)| Ok((*name, process::usage(server.id())?)));
    own.chain(others).collect()
}

fn used_since(
    before: Vec<(&'static str, Usage)>,
    service: &Service,
) -> Result<Vec<(&'static str, Usage)>, Failure> {
    let mut used = usage(service)?;
    for ((_, after), (_, before)) in used.iter_mut().zip(before) {
        after.cpu -= before.cpu;
    }
    Ok(used)
}

/// One failed request spoils a measurement, so no more are sent after it.
struct StopAtFailure(watch::Sender<bool>);

impl Observer for StopAtFailure {
    fn answered(&self, _: &Request, outcome: &Outcome, _: &[u8]) {
        if outcome.is_err() {
            self.0.send_replace(true);
        }
    }
}
