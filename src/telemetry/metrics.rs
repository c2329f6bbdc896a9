//! The metrics of `GET /metrics`. Times are in seconds.

use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Labels of an accepted like.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct AcceptedLabels {
    pub(super) action: &'static str,
    pub(super) durability: &'static str,
    pub(super) cached: &'static str,
}

/// The stable code of a problem.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ProblemLabels {
    pub(super) code: &'static str,
}

/// An actor's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ActorLabels {
    pub(super) actor: &'static str,
}

/// How the recorder committed a batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PathLabels {
    pub(super) path: &'static str,
}

/// Whether another attempt follows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabels {
    pub(super) outcome: &'static str,
}

/// An operator's intervention.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ActionLabels {
    pub(super) action: &'static str,
}

/// A job's kind and final state.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct JobLabels {
    pub(super) kind: &'static str,
    pub(super) state: &'static str,
}

/// A kind of audit finding.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct FindingLabels {
    pub(super) finding: &'static str,
}

/// The failing operation, and its dependency.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutageLabels {
    pub(super) part: &'static str,
    pub(super) doing: &'static str,
}

/// A dependency.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PartLabels {
    pub(super) part: &'static str,
}

/// The origin of a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OriginLabels {
    pub(super) origin: &'static str,
}

/// A receiver of facts: the stream, or the URL of a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReceiverLabels {
    pub(super) receiver: String,
}

/// A kind of streams of events.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StreamLabels {
    pub(super) kind: &'static str,
}

/// The severity of a difference.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SeverityLabels {
    pub(super) severity: &'static str,
}

pub(super) struct Metrics {
    registry: Registry,
    pub(super) likes_accepted: Family<AcceptedLabels, Counter>,
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

pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

impl Metrics {
    fn new() -> Self {
        // From 0.1 ms to 13 s.
        let latency = || Histogram::new(exponential_buckets(0.0001, 2.0, 18));
        let mut metrics = Self {
            registry: Registry::with_prefix("likewise"),
            likes_accepted: Family::default(),
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
        metrics
    }

    /// Sets the findings of an audit, and resets all others to zero.
    pub(super) fn audit_ended(&self, findings: &[(&'static str, u64)]) {
        self.audit_findings.clear();
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

/// Returns every metric in the OpenMetrics text format.
#[must_use]
pub fn exposition() -> String {
    let mut text = String::new();
    if let Err(error) = encode(&mut text, &METRICS.registry) {
        unreachable!("writing to a string cannot fail: {error}");
    }
    text
}
