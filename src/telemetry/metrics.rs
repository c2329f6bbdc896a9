//! The metrics of `GET /metrics`. Times are in seconds.

use std::hash::Hash;
use std::sync::atomic::AtomicU64;
use std::sync::{LazyLock, OnceLock};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::exponential_buckets;
use prometheus_client::registry::{Metric, Registry, Unit};

use super::dependency::Dependency;
use super::histogram::Histogram;
use super::http_series::{self, Durations, Requests};
pub(super) use super::labels::{
    ActionLabels, ActorLabels, FindingLabels, JobLabels, OriginLabels, OutageLabels, OutcomeLabels,
    PartLabels, PathLabels, ProblemLabels, ReceiverLabels, SeverityLabels, StateLabels,
    StatusLabels, StreamLabels,
};
use super::resolved::{AcceptedLikes, CacheReads};
use crate::domain::{JobKind, JobState, Origin, Status, Step};

/// Declares the metrics, in the order of `GET /metrics`. From each entry it makes a field of `Metrics` and registers it
/// under the field's name, with the doc comment as its help.
///
/// An entry is `name: type = initial value;`, without the value if it is the default of the type. A name that ends in
/// `_seconds` has that unit. Names of counters lack the `_total` that the exposition adds.
macro_rules! metrics {
    ($(
        $(#[doc = $help:literal])+
        $visibility:vis $name:ident: $type:ty $(= $initial:expr)?;
    )+) => {
        pub(super) struct Metrics {
            registry: Registry,
            $($(#[doc = $help])+ $visibility $name: $type,)+
        }

        impl Metrics {
            fn new() -> Self {
                let mut registry = Registry::with_prefix("likewise");
                Self {
                    $($name: registered(
                        &mut registry,
                        stringify!($name),
                        concat!($($help),+),
                        initial!($($initial)?),
                    ),)+
                    registry,
                }
            }
        }
    };
}

macro_rules! initial {
    () => {
        Default::default()
    };
    ($initial:expr) => {
        $initial
    };
}

metrics! {
    /// Likes and unlikes accepted with 2xx.
    pub(super) likes_accepted: AcceptedLikes;
    /// HTTP requests, by the template of their path, method and status.
    pub(super) http_requests: Requests;
    /// Time from the head of an HTTP request to the head of its answer, by route and method.
    pub(super) http_request_duration_seconds: Durations
        = Durations::new_with_constructor(http_series::durations);
    /// Items that reads asked the cache for, by whether it knew them.
    pub(super) cache_reads: CacheReads;
    /// Time from the acceptance of a like to the commit of its effect, where this process made the commit.
    pub(super) accepted_to_completed_seconds: Histogram = Histogram::new(COMPLETED_BOUNDS);
    /// Ledger rows by status, as one process of the deployment has counted them lately; beyond 10,000 rows, completed is an
    /// estimate.
    pub(super) ledger_rows: Family<StatusLabels, Gauge>
        = series(Status::ALL.map(|status| StatusLabels { status: status.as_str() }));
    /// Age of the oldest open ledger row when the rows were counted; 0 without open rows.
    pub(super) ledger_oldest_open_seconds: FloatGauge;
    /// Messages of the stream that no worker has acknowledged when the ledger rows were counted.
    pub(super) consumer_lag: Gauge;
    /// When the ledger rows were counted, since 1970; 0 before the first time.
    pub(super) ledger_counted_timestamp_seconds: Gauge;
    /// Time to accept a like, from request to response.
    pub(super) accept_seconds: Histogram = latency();
    /// Requests answered with the stored response of their Idempotency-Key.
    pub(super) requests_replayed: Counter;
    /// Requests answered with a problem, by its code.
    pub(super) problems: Family<ProblemLabels, Counter>;
    /// Events acknowledged by JetStream.
    pub(super) events_published: Counter;
    /// Messages with one or more events acknowledged by JetStream.
    pub(super) messages_published: Counter;
    /// Messages taken from the stream.
    pub(super) messages_taken: Counter;
    /// Messages taken from the stream that had been delivered before.
    pub(super) messages_redelivered: Counter;
    /// Messages taken from the stream that another database's processes accepted, and not recorded.
    pub(super) messages_of_other_deployments: Counter;
    /// Silent pulls that were restarted.
    pub(super) pulls_stalled: Counter;
    /// Messages put into quarantine, by who may write their subject: accepted ones are acknowledged events.
    pub(super) events_quarantined: Family<OriginLabels, Counter>
        = series([Origin::Accepted, Origin::Foreign].map(|origin| OriginLabels { origin: origin.as_str() }));
    /// Settings of the stream and its consumer that differ from the configured ones, by severity.
    stream_differences: Family<SeverityLabels, Gauge>
        = series(["warning", "error"].map(|severity| SeverityLabels { severity }));
    /// Behaviors committed to user_behaviors, by whether the read models followed in the same transaction or in a second
    /// step.
    pub(super) behaviors_recorded: Family<PathLabels, Counter>
        = series(["one_transaction", "two_step"].map(|path| PathLabels { path }));
    /// Events dropped because their user or resource is erased.
    pub(super) events_of_erased: Counter;
    /// Time to record one batch.
    pub(super) record_seconds: Histogram = latency();
    /// Ledger rows whose effect was committed to the read models.
    pub(super) ledger_rows_completed: Counter;
    /// Time to commit one batch to the read models.
    pub(super) sync_seconds: Histogram = latency();
    /// Failed attempts on ledger rows, by the next state of the row.
    pub(super) ledger_attempts_failed: Family<OutcomeLabels, Counter>
        = series(AFTER_FAILURE.map(|step| OutcomeLabels { outcome: step.as_str() }));
    /// Due or abandoned ledger rows claimed by this process.
    pub(super) ledger_rows_claimed: Counter;
    /// Recorded rows left to the retry scheduler because the sync publisher was full.
    pub(super) ledger_rows_left: Counter;
    /// Events that left the cache after they had been in flight for too long, by outcome.
    pub(super) cache_events_reconciled: Family<OutcomeLabels, Counter>
        = series(["stored", "lost"].map(|outcome| OutcomeLabels { outcome }));
    /// Panics, by actor.
    pub(super) actor_panics: Family<ActorLabels, Counter>;
    /// Restarts after a panic, by actor.
    pub(super) actor_restarts: Family<ActorLabels, Counter>;
    /// Failed calls to a dependency.
    pub(super) part_failures: Family<PartLabels, Counter> = series(parts());
    /// Whether a dependency failed several times in a row and is not called for a moment: 1 or 0.
    part_away: Family<PartLabels, Gauge> = series(parts());
    /// Masters of the Redis Cluster, by whether they answer: up or down; 0 without a cluster.
    cache_masters: Family<StateLabels, Gauge>
        = series(["up", "down"].map(|state| StateLabels { state }));
    /// Whether the latest calls of a kind failed, and the last one not long ago: 1 or 0.
    pub(super) failing: Family<OutageLabels, Gauge> = series(work_of_every_like());
    /// Rows that operators retried, discarded or republished.
    pub(super) operator_interventions: Family<ActionLabels, Counter>
        = series(["retried", "discarded", "republished"].map(|action| ActionLabels { action }));
    /// Jobs that ended in this process, by kind and state.
    pub(super) jobs_ended: Family<JobLabels, Counter> = series(ends_of_jobs());
    /// Lead of this process's clock over the database's; 0 with SQLite, which has no clock.
    pub(super) clock_skew_seconds: FloatGauge;
    /// Open streams of events, by what they tell: counts, or operators the state of the actors.
    pub(super) live_streams: Family<StreamLabels, Gauge>
        = series(["counts", "operators"].map(|kind| StreamLabels { kind }));
    /// Changed counts that this process announced on NATS.
    pub(super) counts_announced: Counter;
    /// Facts that a receiver took.
    pub(super) facts_delivered: Family<ReceiverLabels, Counter>;
    /// Failed attempts to deliver a fact to a receiver.
    pub(super) fact_attempts_failed: Family<ReceiverLabels, Counter>;
    /// Facts that wait for a receiver that this process delivers to, up to 100,000.
    facts_waiting: Family<ReceiverLabels, Gauge>;
    /// Dead letters of a receiver that this process delivers to, up to 100,000.
    facts_dead: Family<ReceiverLabels, Gauge>;
    /// Age of the oldest fact that waits for a receiver that this process delivers to.
    facts_oldest_seconds: Family<ReceiverLabels, FloatGauge>;
    /// Findings of the last audit in this process, by kind.
    audit_findings: Family<FindingLabels, Gauge>;
    /// End of the last audit in this process, since 1970; 0 if there was none.
    audit_ended_timestamp_seconds: Gauge;
}

pub(super) type FloatGauge = Gauge<f64, AtomicU64>;

pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// The findings of an audit.
pub(super) static FINDINGS: OnceLock<Vec<&'static str>> = OnceLock::new();

/// The upper bounds of the times from acceptance to completion, in seconds.
pub(super) const COMPLETED_BOUNDS: [f64; 27] = [
    0.001, 0.002, 0.003, 0.005, 0.007_5, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3,
    0.5, 0.75, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 60.0, 300.0, 1_800.0, 7_200.0,
];

/// The states of a ledger row after a failed attempt.
const AFTER_FAILURE: [Step; 3] = [Step::Waiting, Step::Failed, Step::Dead];

/// Registers a metric. The registry adds the unit to the name, and a full stop to the help.
fn registered<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    let help = help.trim().trim_end_matches('.');
    match name.strip_suffix("_seconds") {
        Some(name) => registry.register_with_unit(name, help, Unit::Seconds, metric.clone()),
        None => registry.register(name, help, metric.clone()),
    }
    metric
}

/// Returns a family that has the series of these labels from the start, with zeros.
fn series<L, M>(labels: impl IntoIterator<Item = L>) -> Family<L, M>
where
    L: Clone + Hash + Eq,
    M: Default,
{
    let family = Family::<L, M>::default();
    for labels in labels {
        drop(family.get_or_create(&labels));
    }
    family
}

/// Returns an empty histogram from 0.1 ms to 13 s.
fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 18))
}

/// Returns the dependencies that have series from the start. A receiver of webhooks has some from its first failure.
fn parts() -> [PartLabels; 3] {
    [Dependency::Database, Dependency::Cache, Dependency::Broker].map(|part| PartLabels {
        part: part.as_str(),
    })
}

/// Returns the calls that every like makes. Other calls have a series from their first failure.
fn work_of_every_like() -> [OutageLabels; 4] {
    [
        (Dependency::Database, "recording behaviors"),
        (Dependency::Database, "syncing ledger rows"),
        (Dependency::Cache, "applying events to the cache"),
        (Dependency::Broker, "publishing events"),
    ]
    .map(|(part, doing)| OutageLabels {
        part: part.as_str(),
        doing,
    })
}

fn ends_of_jobs() -> impl Iterator<Item = JobLabels> {
    JobKind::ALL.into_iter().flat_map(|kind| {
        let ends = JobState::ALL.into_iter().filter(|state| !state.is_open());
        ends.map(move |state| JobLabels {
            kind: kind.as_str(),
            state: state.as_str(),
        })
    })
}

impl Metrics {
    pub(super) const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Creates the series of problems and of the findings of an audit, with zeros.
    pub(super) fn declare_more(&self, codes: &[&'static str], findings: &[&'static str]) {
        for code in codes {
            drop(self.problems.get_or_create(&ProblemLabels { code }));
        }
        for finding in findings {
            drop(
                self.audit_findings
                    .get_or_create(&FindingLabels { finding }),
            );
        }
    }

    /// Returns the failed attempts on ledger rows.
    pub(super) fn total_failed(&self) -> u64 {
        let count = |step: Step| {
            let outcome = step.as_str();
            self.ledger_attempts_failed
                .get_or_create(&OutcomeLabels { outcome })
                .get()
        };
        AFTER_FAILURE.into_iter().map(count).sum()
    }

    /// Sets how many masters of the cache's Redis Cluster answer, and how many do not.
    pub(super) fn masters_seen(&self, up: usize, down: usize) {
        for (state, masters) in [("up", up), ("down", down)] {
            let gauge = self.cache_masters.get_or_create(&StateLabels { state });
            gauge.set(i64::try_from(masters).unwrap_or(i64::MAX));
        }
    }

    /// Sets the findings of an audit, and all others to zero.
    pub(super) fn audit_ended(&self, findings: &[(&'static str, u64)]) {
        for known in FINDINGS.get().into_iter().flatten() {
            let labels = FindingLabels { finding: known };
            self.audit_findings.get_or_create(&labels).set(0);
        }
        for (finding, found) in findings {
            let gauge = self
                .audit_findings
                .get_or_create(&FindingLabels { finding });
            gauge.set(i64::try_from(*found).unwrap_or(i64::MAX));
        }
        self.audit_ended_timestamp_seconds
            .set(chrono::Utc::now().timestamp());
    }

    /// Sets how many facts wait for a receiver, how many are dead, and the age of the oldest in seconds; `None` if this
    /// process does not deliver to it.
    pub(super) fn facts_counted(&self, receiver: &str, counted: Option<(i64, i64, f64)>) {
        let labels = ReceiverLabels {
            receiver: receiver.to_owned(),
        };
        let Some((waiting, dead, oldest)) = counted else {
            self.facts_waiting.remove(&labels);
            self.facts_dead.remove(&labels);
            self.facts_oldest_seconds.remove(&labels);
            return;
        };
        self.facts_waiting.get_or_create(&labels).set(waiting);
        self.facts_dead.get_or_create(&labels).set(dead);
        self.facts_oldest_seconds.get_or_create(&labels).set(oldest);
    }

    /// Sets the number of differing stream settings.
    pub(super) fn stream_compared(&self, warnings: usize, errors: usize) {
        for (severity, differences) in [("warning", warnings), ("error", errors)] {
            let labels = SeverityLabels { severity };
            let gauge = self.stream_differences.get_or_create(&labels);
            gauge.set(i64::try_from(differences).unwrap_or(i64::MAX));
        }
    }

    /// Sets whether a dependency is not called for a moment.
    pub(super) fn dependency_away(&self, dependency: Dependency, away: bool) {
        let labels = PartLabels {
            part: dependency.as_str(),
        };
        self.part_away.get_or_create(&labels).set(i64::from(away));
    }
}
