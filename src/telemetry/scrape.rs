//! The metrics of the actors, the connections and the runtime. They are looked up at a scrape, so that they cost nothing in
//! between.

use std::time::Duration;

use actor_kit::{ActorReport, ActorState, LATENCY_BOUNDS};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::metrics::{ActorLabels, FloatGauge};

/// What is looked up at a scrape.
#[derive(Debug, Clone, Default)]
pub struct Scrape {
    /// The actors.
    pub actors: Vec<ActorReport>,
    /// The connections to the database.
    pub pools: Vec<PoolUse>,
    /// The runtime that the actors share.
    pub runtime: RuntimeUse,
    /// The role of the process.
    pub role: &'static str,
}

/// The use of a pool of connections.
#[derive(Debug, Clone, Copy)]
pub struct PoolUse {
    /// Its name.
    pub pool: &'static str,
    /// The most connections.
    pub most: usize,
    /// The connections that are open.
    pub open: usize,
    /// The open connections that are not in use.
    pub idle: usize,
    /// The callers that wait for a connection.
    pub waiting: usize,
}

/// The use of a tokio runtime.
#[derive(Debug, Clone, Copy, Default)]
pub struct RuntimeUse {
    /// Tasks that have not ended.
    pub tasks: usize,
    /// Tasks that wait to be run.
    pub queued: usize,
    /// The time in which tasks ran, since the start.
    pub busy: Duration,
}

impl RuntimeUse {
    /// Returns the use of a runtime.
    #[must_use]
    pub fn of(runtime: &tokio::runtime::Handle) -> Self {
        let metrics = runtime.metrics();
        let workers = 0..metrics.num_workers();
        Self {
            tasks: metrics.num_alive_tasks(),
            queued: metrics.global_queue_depth(),
            busy: workers
                .map(|worker| metrics.worker_total_busy_duration(worker))
                .sum(),
        }
    }
}

/// An actor and a type of message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MessageLabels {
    actor: &'static str,
    message: &'static str,
}

/// An actor, a type of message, and how it was answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnsweredLabels {
    actor: &'static str,
    message: &'static str,
    outcome: &'static str,
}

/// An actor and a state that it may have.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    actor: &'static str,
    state: &'static str,
}

/// A pool of connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabels {
    pool: &'static str,
}

/// A pool of connections, and the state of some of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConnectionLabels {
    pool: &'static str,
    state: &'static str,
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    role: &'static str,
}

const STATES: [ActorState; 8] = [
    ActorState::Starting,
    ActorState::Running,
    ActorState::Paused,
    ActorState::Stuck,
    ActorState::Restarting,
    ActorState::Failed,
    ActorState::Stopped,
    ActorState::Disabled,
];

/// A family of gauges that are set once.
fn gauges<L>(of: impl IntoIterator<Item = (L, f64)>) -> Family<L, FloatGauge>
where
    L: Clone + std::hash::Hash + Eq,
{
    let family = Family::<L, FloatGauge>::default();
    for (labels, value) in of {
        family.get_or_create(&labels).set(value);
    }
    family
}

/// A family of counters that are set once.
fn counters<L>(of: impl IntoIterator<Item = (L, u64)>) -> Family<L, Counter>
where
    L: Clone + std::hash::Hash + Eq,
{
    let family = Family::<L, Counter>::default();
    for (labels, value) in of {
        family.get_or_create(&labels).inc_by(value);
    }
    family
}

/// Returns the metrics of the actors, the pools and the runtime.
pub(super) fn looked_up(scrape: &Scrape) -> Registry {
    let mut registry = Registry::with_prefix("likewise");
    let running = || {
        let actors = scrape.actors.iter();
        actors.filter(|actor| actor.state != ActorState::Disabled)
    };
    let mailboxes = |value: fn(&ActorReport) -> f64| {
        gauges(running().map(move |actor| (ActorLabels { actor: actor.name }, value(actor))))
    };
    registry.register(
        "mailbox_depth",
        "Events that wait in a mailbox or are worked on",
        mailboxes(|actor| actor.mailbox.depth as f64),
    );
    registry.register(
        "mailbox_reserved",
        "Room in a mailbox that is reserved for events that have not arrived",
        mailboxes(|actor| actor.mailbox.reserved as f64),
    );
    registry.register(
        "mailbox_capacity",
        "The most events in a mailbox, with the room that is reserved",
        mailboxes(|actor| actor.mailbox.capacity as f64),
    );
    registry.register_with_unit(
        "mailbox_oldest",
        "Age of the oldest event in a mailbox",
        Unit::Seconds,
        mailboxes(|actor| actor.mailbox.oldest_ms as f64 / 1_000.0),
    );
    registry.register(
        "actor_state",
        "Whether an actor is in a state: 1 or 0",
        gauges(scrape.actors.iter().flat_map(|actor| {
            STATES.map(|state| {
                let labels = StateLabels {
                    actor: actor.name,
                    state: state.as_str(),
                };
                (labels, f64::from(u8::from(actor.state == state)))
            })
        })),
    );
    let messages =
        || running().flat_map(|actor| actor.messages.iter().map(move |one| (actor.name, one)));
    registry.register(
        "actor_messages_received",
        "Messages that an actor received, by type",
        counters(messages().map(|(actor, one)| {
            let message = one.name;
            (MessageLabels { actor, message }, one.received)
        })),
    );
    registry.register(
        "actor_messages_answered",
        "Messages that an actor answered, by type and outcome",
        counters(messages().flat_map(|(actor, one)| {
            [("done", one.done), ("failed", one.failed)].map(|(outcome, number)| {
                let message = one.name;
                let labels = AnsweredLabels {
                    actor,
                    message,
                    outcome,
                };
                (labels, number)
            })
        })),
    );
    registry.register(
        "actor_batches",
        "Batches that an actor began, by type of message",
        counters(messages().map(|(actor, one)| {
            let message = one.name;
            (MessageLabels { actor, message }, one.batches)
        })),
    );
    registry.register_collector(Box::new(MessageDurations::of(scrape)));
    let pools = |value: fn(&PoolUse) -> usize| {
        gauges(scrape.pools.iter().map(move |pool| {
            let labels = PoolLabels { pool: pool.pool };
            (labels, value(pool) as f64)
        }))
    };
    registry.register(
        "database_connections",
        "Open connections to the database, by pool and state",
        gauges(scrape.pools.iter().flat_map(|pool| {
            [
                ("idle", pool.idle),
                ("used", pool.open.saturating_sub(pool.idle)),
            ]
            .map(|(state, number)| {
                let pool = pool.pool;
                (ConnectionLabels { pool, state }, number as f64)
            })
        })),
    );
    registry.register(
        "database_connections_max",
        "The most connections of a pool",
        pools(|pool| pool.most),
    );
    registry.register(
        "database_connections_awaited",
        "Callers that wait for a connection of a pool",
        pools(|pool| pool.waiting),
    );
    let RuntimeUse {
        tasks,
        queued,
        busy,
    } = scrape.runtime;
    registry.register(
        "runtime_tasks",
        "Tasks of the actors' runtime that have not ended",
        ConstGauge::new(tasks as f64),
    );
    registry.register(
        "runtime_queue_depth",
        "Tasks that wait to be run by the actors' runtime",
        ConstGauge::new(queued as f64),
    );
    registry.register_with_unit(
        "runtime_busy",
        "Time in which the actors' runtime ran tasks",
        Unit::Seconds,
        ConstCounter::new(busy.as_secs_f64()),
    );
    let build = BuildLabels {
        version: env!("CARGO_PKG_VERSION"),
        role: scrape.role,
    };
    registry.register(
        "build_info",
        "The version of Likewise and the role of the process; always 1",
        gauges([(build, 1.0)]),
    );
    registry
}

/// The latencies of messages, which the actors have counted.
#[derive(Debug)]
struct MessageDurations(Vec<(MessageLabels, Vec<u64>, Duration)>);

impl MessageDurations {
    fn of(scrape: &Scrape) -> Self {
        let mut durations = Vec::new();
        for actor in &scrape.actors {
            for one in &actor.messages {
                let labels = MessageLabels {
                    actor: actor.name,
                    message: one.name,
                };
                durations.push((labels, one.latency_counts.clone(), one.latency_sum));
            }
        }
        Self(durations)
    }
}

impl Collector for MessageDurations {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let encoder = encoder.encode_descriptor(
            "actor_message_duration",
            "Time from the arrival of a message to its answer, by actor and type",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        self.encode_all(encoder)
    }
}

impl MessageDurations {
    fn encode_all(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        for (labels, counts, sum) in &self.0 {
            let bounds = LATENCY_BOUNDS.iter().map(|micros| *micros as f64 / 1e6);
            let buckets: Vec<_> = bounds
                .chain([f64::INFINITY])
                .zip(counts.iter().copied())
                .collect();
            encoder
                .encode_family(labels)?
                .encode_histogram::<NoLabelSet>(
                    sum.as_secs_f64(),
                    counts.iter().sum(),
                    &buckets,
                    None,
                )?;
        }
        Ok(())
    }
}
