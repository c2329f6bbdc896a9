//! The metrics of `GET /metrics`. Times are in seconds.

use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::exponential_buckets;
use prometheus_client::registry::{Registry, Unit};

use super::dependency::Dependency;
use super::histogram::Histogram;
use super::http_series::{self, Durations, Requests};
pub(super) use super::labels::{
    AcceptedLabels, ActionLabels, ActorLabels, FindingLabels, JobLabels, OriginLabels,
    OutageLabels, OutcomeLabels, PartLabels, PathLabels, ProblemLabels, ReceiverLabels,
    ResultLabels, SeverityLabels, StateLabels, StatusLabels, StreamLabels,
};
use crate::domain::{Durability, JobKind, JobState, Origin, Status, Step};

pub(super) struct Metrics {
    registry: Registry,
    likes_accepted: Family<AcceptedLabels, Counter>,
    /// The series of `likes_accepted`, by `accepted_place`.
    accepted: [Counter; 8],
    pub(super) http_requests: Requests,
    pub(super) http_durations: Durations,
    cache_reads: Family<ResultLabels, Counter>,
    pub(super) cache_hits: Counter,
    pub(super) cache_misses: Counter,
    pub(super) completed_seconds: Histogram,
    pub(super) ledger_rows: Family<StatusLabels, Gauge>,
    pub(super) ledger_oldest: Gauge<f64, AtomicU64>,
    pub(super) consumer_lag: Gauge,
    pub(super) sampled_at: Gauge,
    pub(super) accept_seconds: Histogram,
    pub(super) requests_replayed: Counter,
    pub(super) problems: Family<ProblemLabels, Counter>,
    pub(super) events_published: Counter,
    pub(super) messages_published: Counter,
    pub(super) messages_taken: Counter,
    pub(super) messages_redelivered: Counter,
    pub(super) events_quarantined: Family<OriginLabels, Counter>,
    stream_differences: Family<SeverityLabels, Gauge>,
    pub(super) messages_of_others: Counter,
    pub(super) pulls_stalled: Counter,
    pub(super) behaviors_recorded: Family<PathLabels, Counter>,
    pub(super) events_of_erased: Counter,
    pub(super) record_seconds: Histogram,
    pub(super) rows_completed: Counter,
    pub(super) sync_seconds: Histogram,
    pub(super) attempts_failed: Family<OutcomeLabels, Counter>,
    pub(super) rows_claimed: Counter,
    pub(super) rows_left: Counter,
    pub(super) events_reconciled: Family<OutcomeLabels, Counter>,
    pub(super) panics: Family<ActorLabels, Counter>,
    pub(super) restarts: Family<ActorLabels, Counter>,
    pub(super) part_failures: Family<PartLabels, Counter>,
    pub(super) parts_away: Family<PartLabels, Gauge>,
    pub(super) cache_masters: Family<StateLabels, Gauge>,
    pub(super) outages: Family<OutageLabels, Gauge>,
    pub(super) interventions: Family<ActionLabels, Counter>,
    pub(super) jobs_ended: Family<JobLabels, Counter>,
    pub(super) clock_skew: Gauge<f64, AtomicU64>,
    pub(super) live_streams: Family<StreamLabels, Gauge>,
    pub(super) counts_announced: Counter,
    pub(super) facts_delivered: Family<ReceiverLabels, Counter>,
    pub(super) fact_attempts_failed: Family<ReceiverLabels, Counter>,
    facts_waiting: Family<ReceiverLabels, Gauge>,
    facts_dead: Family<ReceiverLabels, Gauge>,
    facts_oldest: Family<ReceiverLabels, Gauge<f64, AtomicU64>>,
    audit_findings: Family<FindingLabels, Gauge>,
    audit_ended: Gauge,
}

/// The upper bounds of the times from acceptance to completion, in seconds.
pub(super) const COMPLETED_BOUNDS: [f64; 27] = [
    0.001, 0.002, 0.003, 0.005, 0.007_5, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3,
    0.5, 0.75, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 60.0, 300.0, 1_800.0, 7_200.0,
];

/// The place of a series in `Metrics::accepted`.
const fn accepted_place(is_like: bool, durability: Durability, cached: bool) -> usize {
    let by_broker = matches!(durability, Durability::Broker);
    is_like as usize + 2 * by_broker as usize + 4 * cached as usize
}

const fn accepted_labels(place: usize) -> AcceptedLabels {
    let durability = match place & 2 {
        0 => Durability::Database,
        _ => Durability::Broker,
    };
    AcceptedLabels {
        action: if place & 1 == 0 { "unlike" } else { "like" },
        durability: durability.as_str(),
        cached: if place & 4 == 0 { "false" } else { "true" },
    }
}

/// The findings of an audit.
pub(super) static FINDINGS: std::sync::OnceLock<Vec<&'static str>> = std::sync::OnceLock::new();

pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

impl Metrics {
    fn new() -> Self {
        // From 0.1 ms to 13 s.
        let latency = || Histogram::new(exponential_buckets(0.0001, 2.0, 18));
        let likes_accepted = Family::<AcceptedLabels, Counter>::default();
        let cache_reads = Family::<ResultLabels, Counter>::default();
        let cache_read = |result| cache_reads.get_or_create_owned(&ResultLabels { result });
        let mut metrics = Self {
            registry: Registry::with_prefix("likewise"),
            accepted: std::array::from_fn(|place| {
                likes_accepted.get_or_create_owned(&accepted_labels(place))
            }),
            likes_accepted,
            http_requests: Requests::default(),
            http_durations: Durations::new_with_constructor(http_series::durations),
            cache_hits: cache_read("hit"),
            cache_misses: cache_read("miss"),
            cache_reads,
            completed_seconds: Histogram::new(COMPLETED_BOUNDS),
            ledger_rows: Family::default(),
            ledger_oldest: Gauge::default(),
            consumer_lag: Gauge::default(),
            sampled_at: Gauge::default(),
            accept_seconds: latency(),
            requests_replayed: Counter::default(),
            problems: Family::default(),
            events_published: Counter::default(),
            messages_published: Counter::default(),
            messages_taken: Counter::default(),
            messages_redelivered: Counter::default(),
            events_quarantined: Family::default(),
            stream_differences: Family::default(),
            messages_of_others: Counter::default(),
            pulls_stalled: Counter::default(),
            behaviors_recorded: Family::default(),
            events_of_erased: Counter::default(),
            record_seconds: latency(),
            rows_completed: Counter::default(),
            sync_seconds: latency(),
            attempts_failed: Family::default(),
            rows_claimed: Counter::default(),
            rows_left: Counter::default(),
            events_reconciled: Family::default(),
            panics: Family::default(),
            restarts: Family::default(),
            part_failures: Family::default(),
            parts_away: Family::default(),
            cache_masters: Family::default(),
            outages: Family::default(),
            interventions: Family::default(),
            jobs_ended: Family::default(),
            clock_skew: Gauge::default(),
            live_streams: Family::default(),
            counts_announced: Counter::default(),
            facts_delivered: Family::default(),
            fact_attempts_failed: Family::default(),
            facts_waiting: Family::default(),
            facts_dead: Family::default(),
            facts_oldest: Family::default(),
            audit_findings: Family::default(),
            audit_ended: Gauge::default(),
        };
        let mut registry = std::mem::take(&mut metrics.registry);
        registry.register(
            "likes_accepted",
            "Likes and unlikes accepted with 2xx",
            metrics.likes_accepted.clone(),
        );
        registry.register(
            "http_requests",
            "HTTP requests, by the template of their path, method and status",
            metrics.http_requests.clone(),
        );
        registry.register_with_unit(
            "http_request_duration",
            "Time from the head of an HTTP request to the head of its answer, by route and method",
            Unit::Seconds,
            metrics.http_durations.clone(),
        );
        registry.register(
            "cache_reads",
            "Items that reads asked the cache for, by whether it knew them",
            metrics.cache_reads.clone(),
        );
        registry.register_with_unit(
            "accepted_to_completed",
            "Time from the acceptance of a like to the commit of its effect, where this process made the commit",
            Unit::Seconds,
            metrics.completed_seconds.clone(),
        );
        registry.register(
            "ledger_rows",
            "Ledger rows by status, as one process of the deployment has counted them lately; beyond 10,000 rows, completed is an estimate",
            metrics.ledger_rows.clone(),
        );
        registry.register_with_unit(
            "ledger_oldest_open",
            "Age of the oldest open ledger row when the rows were counted; 0 without open rows",
            Unit::Seconds,
            metrics.ledger_oldest.clone(),
        );
        registry.register(
            "consumer_lag",
            "Messages of the stream that no worker has acknowledged when the ledger rows were counted",
            metrics.consumer_lag.clone(),
        );
        registry.register_with_unit(
            "ledger_counted_timestamp",
            "When the ledger rows were counted, since 1970; 0 before the first time",
            Unit::Seconds,
            metrics.sampled_at.clone(),
        );
        registry.register_with_unit(
            "accept",
            "Time to accept a like, from request to response",
            Unit::Seconds,
            metrics.accept_seconds.clone(),
        );
        registry.register(
            "requests_replayed",
            "Requests answered with the stored response of their Idempotency-Key",
            metrics.requests_replayed.clone(),
        );
        registry.register(
            "problems",
            "Requests answered with a problem, by its code",
            metrics.problems.clone(),
        );
        for (name, help, counter) in [
            (
                "events_published",
                "Events acknowledged by JetStream",
                &metrics.events_published,
            ),
            (
                "messages_published",
                "Messages with one or more events acknowledged by JetStream",
                &metrics.messages_published,
            ),
            (
                "messages_taken",
                "Messages taken from the stream",
                &metrics.messages_taken,
            ),
            (
                "messages_redelivered",
                "Messages taken from the stream that had been delivered before",
                &metrics.messages_redelivered,
            ),
            (
                "messages_of_other_deployments",
                "Messages taken from the stream that another database's processes accepted, and not recorded",
                &metrics.messages_of_others,
            ),
            (
                "pulls_stalled",
                "Silent pulls that were restarted",
                &metrics.pulls_stalled,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "events_quarantined",
            "Messages put into quarantine, by who may write their subject: accepted ones are \
             acknowledged events",
            metrics.events_quarantined.clone(),
        );
        registry.register(
            "stream_differences",
            "Settings of the stream and its consumer that differ from the configured ones, by severity",
            metrics.stream_differences.clone(),
        );
        registry.register(
            "behaviors_recorded",
            "Behaviors committed to user_behaviors, by whether the read models followed in the same transaction or in a second step",
            metrics.behaviors_recorded.clone(),
        );
        registry.register(
            "events_of_erased",
            "Events dropped because their user or resource is erased",
            metrics.events_of_erased.clone(),
        );
        registry.register_with_unit(
            "record",
            "Time to record one batch",
            Unit::Seconds,
            metrics.record_seconds.clone(),
        );
        registry.register(
            "ledger_rows_completed",
            "Ledger rows whose effect was committed to the read models",
            metrics.rows_completed.clone(),
        );
        registry.register_with_unit(
            "sync",
            "Time to commit one batch to the read models",
            Unit::Seconds,
            metrics.sync_seconds.clone(),
        );
        registry.register(
            "ledger_attempts_failed",
            "Failed attempts on ledger rows, by the next state of the row",
            metrics.attempts_failed.clone(),
        );
        registry.register(
            "ledger_rows_claimed",
            "Due or abandoned ledger rows claimed by this process",
            metrics.rows_claimed.clone(),
        );
        registry.register(
            "ledger_rows_left",
            "Recorded rows left to the retry scheduler because the sync publisher was full",
            metrics.rows_left.clone(),
        );
        registry.register(
            "cache_events_reconciled",
            "Events that left the cache after they had been in flight for too long, by outcome",
            metrics.events_reconciled.clone(),
        );
        registry.register("actor_panics", "Panics, by actor", metrics.panics.clone());
        registry.register(
            "actor_restarts",
            "Restarts after a panic, by actor",
            metrics.restarts.clone(),
        );
        registry.register(
            "part_failures",
            "Failed calls to a dependency",
            metrics.part_failures.clone(),
        );
        registry.register(
            "part_away",
            "Whether a dependency failed several times in a row and is not called for a moment: 1 or 0",
            metrics.parts_away.clone(),
        );
        registry.register(
            "cache_masters",
            "Masters of the Redis Cluster, by whether they answer: up or down; 0 without a cluster",
            metrics.cache_masters.clone(),
        );
        registry.register(
            "failing",
            "Whether the latest calls of a kind failed: 1 or 0",
            metrics.outages.clone(),
        );
        registry.register(
            "operator_interventions",
            "Rows that operators retried, discarded or republished",
            metrics.interventions.clone(),
        );
        registry.register(
            "jobs_ended",
            "Jobs that ended in this process, by kind and state",
            metrics.jobs_ended.clone(),
        );
        registry.register_with_unit(
            "clock_skew",
            "Lead of this process's clock over the database's; 0 with SQLite, which has no clock",
            Unit::Seconds,
            metrics.clock_skew.clone(),
        );
        registry.register(
            "live_streams",
            "Open streams of events, by what they tell: counts, or operators the state of the actors",
            metrics.live_streams.clone(),
        );
        registry.register(
            "counts_announced",
            "Changed counts that this process announced on NATS",
            metrics.counts_announced.clone(),
        );
        for (name, help, family) in [
            (
                "facts_delivered",
                "Facts that a receiver took",
                &metrics.facts_delivered,
            ),
            (
                "fact_attempts_failed",
                "Failed attempts to deliver a fact to a receiver",
                &metrics.fact_attempts_failed,
            ),
        ] {
            registry.register(name, help, family.clone());
        }
        for (name, help, family) in [
            (
                "facts_waiting",
                "Facts that wait for a receiver that this process delivers to, up to 100,000",
                &metrics.facts_waiting,
            ),
            (
                "facts_dead",
                "Dead letters of a receiver that this process delivers to, up to 100,000",
                &metrics.facts_dead,
            ),
        ] {
            registry.register(name, help, family.clone());
        }
        registry.register_with_unit(
            "facts_oldest",
            "Age of the oldest fact that waits for a receiver that this process delivers to",
            Unit::Seconds,
            metrics.facts_oldest.clone(),
        );
        registry.register(
            "audit_findings",
            "Findings of the last audit in this process, by kind",
            metrics.audit_findings.clone(),
        );
        registry.register_with_unit(
            "audit_ended_timestamp",
            "End of the last audit in this process, since 1970; 0 if there was none",
            Unit::Seconds,
            metrics.audit_ended.clone(),
        );
        metrics.registry = registry;
        metrics.declare();
        metrics
    }

    pub(super) const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Creates the series whose labels are known from the start, with zeros.
    fn declare(&self) {
        for path in ["one_transaction", "two_step"] {
            drop(self.behaviors_recorded.get_or_create(&PathLabels { path }));
        }
        for step in [Step::Waiting, Step::Failed, Step::Dead] {
            let outcome = step.as_str();
            drop(
                self.attempts_failed
                    .get_or_create(&OutcomeLabels { outcome }),
            );
        }
        for outcome in ["stored", "lost"] {
            drop(
                self.events_reconciled
                    .get_or_create(&OutcomeLabels { outcome }),
            );
        }
        for origin in [Origin::Accepted, Origin::Foreign] {
            let origin = origin.as_str();
            drop(
                self.events_quarantined
                    .get_or_create(&OriginLabels { origin }),
            );
        }
        for part in [Dependency::Database, Dependency::Cache, Dependency::Broker] {
            let part = part.as_str();
            drop(self.part_failures.get_or_create(&PartLabels { part }));
            self.part_away(part, false);
        }
        // The work of every like. Other calls have a series from their first failure.
        for (part, doing) in [
            (Dependency::Database, "recording behaviors"),
            (Dependency::Database, "syncing ledger rows"),
            (Dependency::Cache, "applying events to the cache"),
            (Dependency::Broker, "publishing events"),
        ] {
            let part = part.as_str();
            drop(self.outages.get_or_create(&OutageLabels { part, doing }));
        }
        for kind in ["counts", "operators"] {
            drop(self.live_streams.get_or_create(&StreamLabels { kind }));
        }
        for action in ["retried", "discarded", "republished"] {
            drop(self.interventions.get_or_create(&ActionLabels { action }));
        }
        for kind in JobKind::ALL {
            for state in JobState::ALL.into_iter().filter(|state| !state.is_open()) {
                drop(self.jobs_ended.get_or_create(&JobLabels {
                    kind: kind.as_str(),
                    state: state.as_str(),
                }));
            }
        }
        for status in Status::ALL {
            let status = status.as_str();
            self.ledger_rows
                .get_or_create(&StatusLabels { status })
                .set(0);
        }
        self.masters_seen(0, 0);
        self.stream_compared(0, 0);
    }

    /// Sets how many masters of the cache's Redis Cluster answer, and how many do not.
    pub(super) fn masters_seen(&self, up: usize, down: usize) {
        for (state, masters) in [("up", up), ("down", down)] {
            let gauge = self.cache_masters.get_or_create(&StateLabels { state });
            gauge.set(i64::try_from(masters).unwrap_or(i64::MAX));
        }
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

    /// Counts an accepted like. Resolves no labels, because every like is counted.
    pub(super) fn accepted(
        &self,
        is_like: bool,
        durability: Durability,
        cached: bool,
        took: Duration,
    ) {
        self.accepted[accepted_place(is_like, durability, cached)].inc();
        self.accept_seconds.observe(took);
    }

    /// Returns the likes and unlikes accepted.
    pub(super) fn total_accepted(&self) -> u64 {
        self.accepted.iter().map(Counter::get).sum()
    }

    /// Returns the failed attempts on ledger rows.
    pub(super) fn total_failed(&self) -> u64 {
        let steps = [Step::Waiting, Step::Failed, Step::Dead].map(Step::as_str);
        let count = |outcome| {
            self.attempts_failed
                .get_or_create(&OutcomeLabels { outcome })
                .get()
        };
        steps.into_iter().map(count).sum()
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
        self.audit_ended.set(chrono::Utc::now().timestamp());
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
            self.facts_oldest.remove(&labels);
            return;
        };
        self.facts_waiting.get_or_create(&labels).set(waiting);
        self.facts_dead.get_or_create(&labels).set(dead);
        self.facts_oldest.get_or_create(&labels).set(oldest);
    }

    /// Sets the number of differing stream settings.
    pub(super) fn stream_compared(&self, warnings: usize, errors: usize) {
        for (severity, differences) in [("warning", warnings), ("error", errors)] {
            let labels = SeverityLabels { severity };
            let gauge = self.stream_differences.get_or_create(&labels);
            gauge.set(i64::try_from(differences).unwrap_or(i64::MAX));
        }
    }

    /// Sets whether a dependency is down.
    pub(super) fn part_away(&self, part: &'static str, away: bool) {
        let gauge = self.parts_away.get_or_create(&PartLabels { part });
        gauge.set(i64::from(away));
    }
}
