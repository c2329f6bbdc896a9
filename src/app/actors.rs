//! The actors of a process: starts them in the order of the flow, and drains them.

use std::sync::Arc;

use actor_kit::{Actor, Mailbox, Registry, Starter};
use tokio::sync::Notify;

use super::connections::{Connections, admin};
use crate::actors::probe::DependenciesUnavailable;
use crate::actors::{
    BehaviorRecorder, CacheWriter, EventPublisher, FactPublisher, HealthMonitor, HistoryKeeper,
    IdempotencyKeeper, JobRunner, NatsSubscriber, RESTARTS, RetryScheduler, SyncPublisher,
};
use crate::admin::Runner;
use crate::config::Settings;
use crate::live::Announcer;
use crate::store::{OperationQueue, Reader};
use crate::webhooks::Webhook;

/// The mailboxes of the actors, in the order of the flow.
pub(super) struct Actors {
    pub(super) publisher: Option<Mailbox<EventPublisher>>,
    pub(super) subscriber: Option<Mailbox<NatsSubscriber>>,
    pub(super) recorder: Mailbox<BehaviorRecorder>,
    pub(super) keeper: Option<Mailbox<IdempotencyKeeper>>,
    pub(super) sync_publisher: Mailbox<SyncPublisher>,
    pub(super) cache_writer: Mailbox<CacheWriter>,
    pub(super) fact_publisher: Option<Mailbox<FactPublisher>>,
    pub(super) reader: Reader,
    pub(super) retry_scheduler: Option<Mailbox<RetryScheduler>>,
    /// Kept because an actor without a mailbox stops.
    pub(super) _health_monitor: Mailbox<HealthMonitor>,
    pub(super) _history_keeper: Mailbox<HistoryKeeper>,
    pub(super) gone: Arc<DependenciesUnavailable>,
    pub(super) job_runner: Option<Mailbox<JobRunner<Runner>>>,
    pub(super) given_up: Arc<Notify>,
}

impl Actors {
    pub(super) fn start(
        settings: &Settings,
        connections: &Connections,
        webhooks: Vec<Webhook>,
        process: &str,
        operations: &OperationQueue,
        registry: &Registry,
        announcer: &Arc<Announcer>,
    ) -> Self {
        let starter = Starter {
            registry: registry.clone(),
            policy: RESTARTS,
            capacity: settings.mailbox_capacity,
            given_up: Arc::default(),
        };
        let store = || Arc::clone(&connections.store);
        let broker = connections.broker.as_ref();
        let reader = Reader::new(store(), settings.read_timeout);
        let cache_writer = starter.start(|context| {
            let cache = Arc::clone(&connections.cache);
            let broker = broker.cloned();
            CacheWriter::new(cache, reader.clone(), broker, settings.cache, context)
        });
        let (no_api, no_worker) = (
            "the role of this process is worker",
            "the role of this process is api",
        );
        let no_broker = "LIKEWISE_NATS_URL is not set";
        let has_facts = !settings.facts.receivers().is_empty();
        let fact_publisher = (has_facts && settings.role.is_worker()).then(|| {
            let (broker, holder) = (broker.cloned(), process.to_owned());
            let facts = &settings.facts;
            starter.start(|context| {
                FactPublisher::new(store(), broker, webhooks, facts, holder, context)
            })
        });
        disable_unless(
            registry,
            fact_publisher.as_ref(),
            match has_facts {
                true => no_worker,
                false => "facts have no receivers",
            },
        );
        let sync_publisher = starter.start(|context| {
            SyncPublisher::new(
                store(),
                cache_writer.clone(),
                Arc::clone(announcer),
                fact_publisher.clone(),
                settings.sync,
                context,
            )
        });
        let recorder = starter.start(|context| {
            let sync_publisher = sync_publisher.clone();
            BehaviorRecorder::new(store(), sync_publisher, settings.recorder, context)
        });
        let keeper = settings.role.is_api().then(|| {
            starter.start(|context| IdempotencyKeeper::new(store(), settings.keeper, context))
        });
        disable_unless(registry, keeper.as_ref(), no_api);
        let publisher = broker.filter(|_| settings.role.is_api()).map(|broker| {
            starter.start(|context| {
                EventPublisher::new(Arc::clone(broker), settings.publisher, context)
            })
        });
        disable_unless(
            registry,
            publisher.as_ref(),
            match broker {
                Some(_) => no_api,
                None => no_broker,
            },
        );
        let subscriber = broker.filter(|_| settings.role.is_worker()).map(|broker| {
            starter.start(|context| {
                NatsSubscriber::new(
                    Arc::clone(broker),
                    recorder.clone(),
                    cache_writer.clone(),
                    store(),
                    settings.subscriber,
                    context,
                )
            })
        });
        disable_unless(
            registry,
            subscriber.as_ref(),
            match broker {
                Some(_) => no_worker,
                None => no_broker,
            },
        );
        let retry_scheduler = settings.role.is_worker().then(|| {
            starter.start(|context| {
                let sync_publisher = sync_publisher.clone();
                let cache_writer = cache_writer.clone();
                RetryScheduler::new(
                    store(),
                    sync_publisher,
                    cache_writer,
                    settings.retry,
                    context,
                )
            })
        });
        disable_unless(registry, retry_scheduler.as_ref(), no_worker);
        let job_runner = settings.role.is_worker().then(|| {
            starter.start(|context| {
                let runner = Runner::new(admin(settings, connections, &cache_writer));
                JobRunner::new(runner, settings.upkeep.clone(), context)
            })
        });
        disable_unless(registry, job_runner.as_ref(), no_worker);
        let gone = Arc::new(DependenciesUnavailable::default());
        let health_monitor = starter.start(|context| {
            HealthMonitor::new(
                connections.probe.clone(),
                reader.clone(),
                Arc::clone(&gone),
                context,
            )
        });
        let history_keeper = starter.start(|context| {
            let operations = operations.clone();
            HistoryKeeper::new(store(), broker.cloned(), operations, process, context)
        });
        Self {
            publisher,
            subscriber,
            recorder,
            keeper,
            sync_publisher,
            cache_writer,
            fact_publisher,
            reader,
            retry_scheduler,
            _health_monitor: health_monitor,
            _history_keeper: history_keeper,
            gone,
            job_runner,
            given_up: starter.given_up,
        }
    }

    pub(super) async fn drain(&self) {
        if let Some(job_runner) = &self.job_runner {
            job_runner.stop().await;
        }
        if let Some(retry_scheduler) = &self.retry_scheduler {
            // Not awaited, because a claim may wait for the database. The sync publisher drains the claimed rows.
            drop(retry_scheduler.stop());
        }
        if let Some(subscriber) = &self.subscriber {
            subscriber.stop().await;
        }
        if let Some(publisher) = &self.publisher {
            publisher.gauge().idle().await;
        }
        self.recorder.gauge().idle().await;
        if let Some(keeper) = &self.keeper {
            keeper.gauge().idle().await;
        }
        self.sync_publisher.gauge().idle().await;
        if let Some(fact_publisher) = &self.fact_publisher {
            // Facts that are not delivered stay in the outbox.
            fact_publisher.stop().await;
        }
        self.cache_writer.gauge().idle().await;
    }

    pub(super) fn depth(&self) -> usize {
        let publishing = self.publisher.as_ref();
        let keeping = self.keeper.as_ref();
        publishing.map_or(0, |publisher| publisher.gauge().depth())
            + keeping.map_or(0, |keeper| keeper.gauge().depth())
            + self.recorder.gauge().depth()
            + self.sync_publisher.gauge().depth()
            + self.cache_writer.gauge().depth()
    }
}

/// Lists an actor that this process does not run, with the reason.
fn disable_unless<A: Actor>(registry: &Registry, actor: Option<&Mailbox<A>>, reason: &str) {
    if actor.is_none() {
        registry.disabled(A::NAME, reason);
    }
}
