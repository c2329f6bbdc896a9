//! The actors of a process: starts them in the order of the flow, and drains them.

use std::sync::Arc;

use actix::{Actor, Context, Handler, Supervised};
use tokio::sync::Notify;

use super::connections::{Connections, admin};
use crate::actors::job_runner::StopRunning;
use crate::actors::kit::{
    ActorStats, InjectPanic, Mailbox, Registry, Supervisor, SupervisorPolicy,
};
use crate::actors::nats_subscriber::StopPulling;
use crate::actors::retry_scheduler::StopClaiming;
use crate::actors::{
    BehaviorRecorder, CacheWriter, EventPublisher, HealthMonitor, IdempotencyKeeper, JobRunner,
    NatsSubscriber, RetryScheduler, SyncPublisher,
};
use crate::admin::Runner;
use crate::config::Settings;
use crate::health::DependenciesUnavailable;
use crate::store::Reader;

/// The actors and how to reach them, in the order of the flow.
pub(super) struct Actors {
    pub(super) publisher: Option<Mailbox<EventPublisher>>,
    pub(super) subscriber: Option<Mailbox<NatsSubscriber>>,
    pub(super) recorder: Mailbox<BehaviorRecorder>,
    pub(super) keeper: Option<Mailbox<IdempotencyKeeper>>,
    pub(super) sync_publisher: Mailbox<SyncPublisher>,
    pub(super) cache_writer: Mailbox<CacheWriter>,
    pub(super) reader: Reader,
    pub(super) retry_scheduler: Option<Mailbox<RetryScheduler>>,
    /// Kept, for an actor that nobody can reach stops.
    pub(super) _health_monitor: Mailbox<HealthMonitor>,
    pub(super) gone: Arc<DependenciesUnavailable>,
    pub(super) job_runner: Option<Mailbox<JobRunner>>,
    pub(super) given_up: Arc<Notify>,
}

impl Actors {
    pub(super) fn start(
        settings: &Settings,
        connections: &Connections,
        registry: &Registry,
    ) -> Self {
        let given_up = Arc::new(Notify::new());
        let starter = Starter {
            policy: SupervisorPolicy::default(),
            capacity: settings.mailbox_capacity,
            registry,
            given_up: &given_up,
        };
        let store = || Arc::clone(&connections.store);
        let broker = connections.broker.as_ref();
        let reader = Reader::new(store(), settings.read_timeout);
        let cache_writer = starter.start(CacheWriter::NAME, |stats| {
            let cache = Arc::clone(&connections.cache);
            CacheWriter::new(cache, reader.clone(), settings.cache, stats)
        });
        let sync_publisher = starter.start(SyncPublisher::NAME, |stats| {
            let (cache_writer, broker) = (cache_writer.clone(), broker.cloned());
            SyncPublisher::new(store(), cache_writer, broker, settings.sync, stats)
        });
        let recorder = starter.start(BehaviorRecorder::NAME, |stats| {
            let sync_publisher = sync_publisher.clone();
            BehaviorRecorder::new(store(), sync_publisher, settings.recorder, stats)
        });
        let keeper = settings.role.is_api().then(|| {
            starter.start(IdempotencyKeeper::NAME, |stats| {
                IdempotencyKeeper::new(store(), settings.keeper, stats)
            })
        });
        let publisher = broker.filter(|_| settings.role.is_api()).map(|broker| {
            starter.start(EventPublisher::NAME, |stats| {
                EventPublisher::new(Arc::clone(broker), settings.publisher, stats)
            })
        });
        let subscriber = broker.filter(|_| settings.role.is_worker()).map(|broker| {
            starter.start(NatsSubscriber::NAME, |stats| {
                NatsSubscriber::new(
                    Arc::clone(broker),
                    recorder.clone(),
                    cache_writer.clone(),
                    store(),
                    settings.subscriber,
                    stats,
                )
            })
        });
        let retry_scheduler = settings.role.is_worker().then(|| {
            starter.start(RetryScheduler::NAME, |stats| {
                let sync_publisher = sync_publisher.clone();
                let cache_writer = cache_writer.clone();
                RetryScheduler::new(store(), sync_publisher, cache_writer, settings.retry, stats)
            })
        });
        let job_runner = settings.role.is_worker().then(|| {
            starter.start(JobRunner::NAME, |stats| {
                let runner = Runner::new(admin(settings, connections, &cache_writer));
                JobRunner::new(runner, settings.upkeep.clone(), stats)
            })
        });
        let gone = Arc::new(DependenciesUnavailable::default());
        let health_monitor = starter.start(HealthMonitor::NAME, |stats| {
            HealthMonitor::new(
                connections.probe(),
                reader.clone(),
                Arc::clone(&gone),
                stats,
            )
        });
        Self {
            publisher,
            subscriber,
            recorder,
            keeper,
            sync_publisher,
            cache_writer,
            reader,
            retry_scheduler,
            _health_monitor: health_monitor,
            gone,
            job_runner,
            given_up,
        }
    }

    pub(super) async fn drain(&self) {
        if let Some(job_runner) = &self.job_runner {
            // One that has stopped already runs nothing any more.
            let _ = job_runner.addr().send(StopRunning).await;
        }
        if let Some(retry_scheduler) = &self.retry_scheduler {
            retry_scheduler.addr().do_send(StopClaiming);
        }
        if let Some(subscriber) = &self.subscriber {
            // One that has stopped already pulls nothing any more.
            let _ = subscriber.addr().send(StopPulling).await;
        }
        if let Some(publisher) = &self.publisher {
            publisher.gauge().idle().await;
        }
        self.recorder.gauge().idle().await;
        if let Some(keeper) = &self.keeper {
            keeper.gauge().idle().await;
        }
        self.sync_publisher.gauge().idle().await;
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

/// Starts actors under supervisors, each with a mailbox, known to the registry.
struct Starter<'a> {
    policy: SupervisorPolicy,
    capacity: usize,
    registry: &'a Registry,
    given_up: &'a Arc<Notify>,
}

impl Starter<'_> {
    fn start<A>(&self, name: &'static str, build: impl FnOnce(Arc<ActorStats>) -> A) -> Mailbox<A>
    where
        A: Supervised + Actor<Context = Context<A>> + Handler<InjectPanic>,
    {
        let stats = self.registry.register(name);
        let actor = build(Arc::clone(&stats));
        let given_up = Arc::clone(self.given_up);
        let addr = Supervisor::start(self.policy, Arc::clone(&stats), given_up, |_| actor);
        let mailbox = Mailbox::new(name, addr, self.capacity);
        stats.watch_mailbox(mailbox.gauge());
        mailbox
    }
}
