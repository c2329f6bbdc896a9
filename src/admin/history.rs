//! What the deployment did lately, as points of equal distance: `GET /admin/history`.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::{AdminError, AdminService};
use crate::actors::history_keeper::{INTERVAL_SECONDS, KEPT};
use crate::domain::Status;
use crate::store::{HistoryRow, ProcessCounts};
use crate::telemetry::percentile;

/// The length of the history without `since`.
const DEFAULT: TimeDelta = TimeDelta::hours(1);

/// The most points of an answer.
const MOST_POINTS: i64 = 1_000;

/// The most points of an answer without `step`.
const USUAL_POINTS: i64 = 360;

/// The time in which every process has written an interval after its end.
const SETTLED_AFTER: TimeDelta = TimeDelta::seconds(3);

/// What the deployment did, from the oldest point to the newest.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct History {
    /// The start of the first point.
    pub since: DateTime<Utc>,
    /// The end of the last point.
    pub until: DateTime<Utc>,
    /// The length of each point, in seconds.
    pub step_seconds: i64,
    /// The points, without a gap.
    pub points: Vec<HistoryPoint>,
}

/// What the deployment did in one step. A figure is null if no process has recorded it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct HistoryPoint {
    /// The start of the step.
    pub at: DateTime<Utc>,
    /// The number of processes that recorded it.
    pub processes: usize,
    /// Likes and unlikes accepted a second, by all processes.
    #[schema(required = true)]
    pub accepted_per_second: Option<f64>,
    /// Ledger rows completed a second, by all processes.
    #[schema(required = true)]
    pub completed_per_second: Option<f64>,
    /// Failed attempts on ledger rows a second, by all processes.
    #[schema(required = true)]
    pub failed_per_second: Option<f64>,
    /// The time from the acceptance of a like to the commit of its effect; null without likes.
    #[schema(required = true)]
    pub accepted_to_completed_ms: Option<CompletionTimes>,
    /// The ledger rows of each status at the end of the step; `completed` is an estimate beyond 10,000 rows.
    #[schema(required = true)]
    pub ledger: Option<BTreeMap<Status, i64>>,
    /// The age of the oldest open ledger row, in seconds; 0 without open rows.
    #[schema(required = true)]
    pub oldest_open_seconds: Option<f64>,
    /// The messages of the stream that no worker had acknowledged; null without NATS.
    #[schema(required = true)]
    pub consumer_lag: Option<u64>,
}

/// Times from acceptance to completion, in milliseconds, within a bucket's width of about a third.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct CompletionTimes {
    /// Half of the likes were completed within this time.
    pub p50: f64,
    /// 95 of 100 likes were.
    pub p95: f64,
    /// 99 of 100 likes were.
    pub p99: f64,
}

impl AdminService {
    /// Returns what the deployment did since this time, in steps of this many seconds; by default for an hour, in steps of
    /// ten seconds or more.
    ///
    /// # Errors
    /// If the time is not within the last day, the step is no multiple of ten seconds or makes more than 1,000 points, or
    /// the database fails.
    pub async fn history(
        &self,
        since: Option<DateTime<Utc>>,
        step_seconds: Option<i64>,
    ) -> Result<History, AdminError> {
        let now = self.store().now();
        let invalid = |reason: String| Err(AdminError::Invalid(reason));
        let until = floor(now - SETTLED_AFTER, INTERVAL_SECONDS);
        let since = since.unwrap_or(now - DEFAULT);
        if since > now || since < now - KEPT - TimeDelta::minutes(1) {
            return invalid("'since' must be a time within the last 24 hours".to_owned());
        }
        let length = (until - since).num_seconds().max(0);
        let step = step_seconds.unwrap_or_else(|| {
            let least = length.div_euclid(USUAL_POINTS).max(1);
            (least + INTERVAL_SECONDS - 1) / INTERVAL_SECONDS * INTERVAL_SECONDS
        });
        if step < INTERVAL_SECONDS || step % INTERVAL_SECONDS != 0 || step > 3_600 {
            return invalid(format!(
                "'step' must be a multiple of {INTERVAL_SECONDS} from {INTERVAL_SECONDS} to 3600 seconds, got {step}"
            ));
        }
        if length / step > MOST_POINTS {
            return invalid(format!(
                "steps of {step} seconds make more than {MOST_POINTS} points; give a longer 'step' or a later 'since'"
            ));
        }
        let since = floor(since, step);
        let rows = self.store().history(since, until).await?;
        Ok(History {
            since,
            until,
            step_seconds: step,
            points: points(&rows, since, until, step),
        })
    }
}

/// Returns the start of the step that contains this time.
fn floor(time: DateTime<Utc>, step: i64) -> DateTime<Utc> {
    let seconds = time.timestamp().div_euclid(step) * step;
    DateTime::from_timestamp(seconds, 0).unwrap_or_default()
}

fn points(
    rows: &[HistoryRow],
    since: DateTime<Utc>,
    until: DateTime<Utc>,
    step: i64,
) -> Vec<HistoryPoint> {
    let mut rows = rows.iter().peekable();
    let mut points = Vec::new();
    let mut at = since;
    while at < until {
        let end = at + TimeDelta::seconds(step);
        let mut point = Step::default();
        while let Some(row) = rows.next_if(|row| slot(row) < end) {
            point.add(row);
        }
        points.push(point.end(at));
        at = end;
    }
    points
}

const fn slot(row: &HistoryRow) -> DateTime<Utc> {
    match row {
        HistoryRow::Process(slot, _) | HistoryRow::Deployment(slot, _) => *slot,
    }
}

/// The rows of one step.
#[derive(Default)]
struct Step {
    /// The rates of each interval, summed over the processes.
    rates: BTreeMap<DateTime<Utc>, Rates>,
    latencies: Vec<u64>,
    point: HistoryPoint,
}

#[derive(Default)]
struct Rates {
    processes: usize,
    accepted: f64,
    completed: f64,
    failed: f64,
}

impl Step {
    fn add(&mut self, row: &HistoryRow) {
        match row {
            HistoryRow::Process(slot, counts) => self.add_process(*slot, counts),
            HistoryRow::Deployment(_, counts) if counts.counted_at.is_some() => {
                let rows = |status| counts.ledger.get(&status).copied().unwrap_or(0);
                let all = Status::ALL.map(|status| (status, rows(status)));
                self.point.ledger = Some(all.into_iter().collect());
                self.point.oldest_open_seconds = Some(counts.oldest_open_seconds.unwrap_or(0.0));
                self.point.consumer_lag = counts.consumer_lag;
            }
            HistoryRow::Deployment(..) => {}
        }
    }

    fn add_process(&mut self, slot: DateTime<Utc>, counts: &ProcessCounts) {
        let rates = self.rates.entry(slot).or_default();
        // An interval ends up to a second late, and the next one then has less. A process that hung has one long interval.
        let usual = INTERVAL_SECONDS as f64;
        let seconds = match counts.seconds < 2.0 * usual {
            true => usual,
            false => counts.seconds,
        };
        let a_second = |number: u64| number as f64 / seconds;
        rates.processes += 1;
        rates.accepted += a_second(counts.accepted);
        rates.completed += a_second(counts.completed);
        rates.failed += a_second(counts.failed);
        if self.latencies.len() < counts.latencies.len() {
            self.latencies.resize(counts.latencies.len(), 0);
        }
        for (sum, count) in self.latencies.iter_mut().zip(&counts.latencies) {
            *sum += count;
        }
    }

    fn end(self, at: DateTime<Utc>) -> HistoryPoint {
        let Self {
            rates,
            latencies,
            mut point,
        } = self;
        let intervals = rates.len() as f64;
        let mean = |rate: fn(&Rates) -> f64| {
            let mean = rates.values().map(rate).sum::<f64>() / intervals;
            (!rates.is_empty()).then_some((mean * 1_000.0).round() / 1_000.0)
        };
        let millis = |share| percentile(&latencies, share).map(|seconds| seconds * 1_000.0);
        point.at = at;
        point.processes = rates.values().map(|one| one.processes).max().unwrap_or(0);
        point.accepted_per_second = mean(|one| one.accepted);
        point.completed_per_second = mean(|one| one.completed);
        point.failed_per_second = mean(|one| one.failed);
        point.accepted_to_completed_ms = millis(0.5)
            .zip(millis(0.95))
            .zip(millis(0.99))
            .map(|((p50, p95), p99)| CompletionTimes { p50, p95, p99 });
        point
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::DeploymentCounts;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("a time")
    }

    fn did(slot: i64, seconds: f64, accepted: u64) -> HistoryRow {
        let counts = ProcessCounts {
            seconds,
            accepted,
            ..ProcessCounts::default()
        };
        HistoryRow::Process(at(slot), counts)
    }

    #[test]
    fn processes_add_up_and_missing_intervals_are_null() {
        let rows = [
            did(100, 10.0, 50),
            did(100, 10.0, 30),
            did(120, 20.0, 40),
            HistoryRow::Deployment(
                at(120),
                DeploymentCounts {
                    counted_at: Some(at(131)),
                    ledger: [(Status::Failed, 3)].into(),
                    ..DeploymentCounts::default()
                },
            ),
        ];
        let points = points(&rows, at(100), at(140), 10);
        let rates: Vec<_> = points.iter().map(|one| one.accepted_per_second).collect();
        assert_eq!(rates, [Some(8.0), None, Some(2.0), None]);
        let processes: Vec<_> = points.iter().map(|one| one.processes).collect();
        assert_eq!(processes, [2, 0, 1, 0]);
        let ledger = points[2].ledger.as_ref().expect("counts");
        assert_eq!((ledger[&Status::Failed], ledger[&Status::Dead]), (3, 0));
        assert_eq!(points[0].ledger, None);
        assert_eq!(points[2].oldest_open_seconds, Some(0.0));
    }

    #[test]
    fn longer_step_has_the_mean_rate() {
        let rows = [did(100, 10.0, 50), did(110, 10.0, 70)];
        let points = points(&rows, at(100), at(130), 30);
        assert_eq!(points.len(), 1);
        assert_eq!(points[0].accepted_per_second, Some(6.0));
    }
}
