//! Delivers facts from the outbox to the stream and to webhooks. Each receiver is served by one process at a time, under a
//! lease, and none waits for another.

mod stream;
mod webhook;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actor_kit::{Actor, BatchActor, BatchLimits, Context, Envelope, Schedule};
use chrono::{DateTime, Utc};
use serde::Serialize;

use self::stream::StreamReceiver;
use self::webhook::WebhookReceiver;
use super::failures::{database_failed, database_worked};
use crate::config::FactsOptions;
use crate::messages::FactsCommitted;
use crate::nats::{Broker, NatsError};
use crate::store::{RowLease, Store, StoreError};
use crate::telemetry::{Dependency, DependencyFailed, FactsCounted};
use crate::webhooks::Webhook;

/// The action's name in logs.
const DELIVERING: &str = "delivering facts";

/// The interval between two looks at the outbox. Commits of this process are looked at without waiting for it.
const INTERVAL: Duration = Duration::from_millis(250);

/// The interval between two attempts to get a lease that another process holds.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The interval between two counts of the waiting facts.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// The actor.
pub struct FactPublisher {
    store: Arc<Store>,
    /// The name of this process in leases.
    holder: String,
    lease: Duration,
    receivers: Vec<Arc<Receiver>>,
    context: Context<Self>,
}

/// A receiver of facts.
struct Receiver {
    name: String,
    /// Whether facts may have been committed since the last look.
    is_due: AtomicBool,
    /// Locked while a delivery runs.
    held: tokio::sync::Mutex<Held>,
    report: Mutex<Report>,
}

/// What the running delivery owns.
struct Held {
    kind: ReceiverKind,
    lease: Option<RowLease>,
    /// When the lease was acquired, renewed or asked for.
    asked_at: Option<Instant>,
    counted_at: Option<Instant>,
}

enum ReceiverKind {
    Stream(StreamReceiver),
    Webhook(WebhookReceiver),
}

/// What operators see of a receiver.
#[derive(Debug, Clone, Default, Serialize)]
struct Report {
    receiver: String,
    /// Whether this process delivers to it.
    leased: bool,
    delivered: u64,
    waiting: i64,
    dead: i64,
    oldest_seconds: f64,
    last_error: Option<String>,
}

/// How one round of deliveries ended.
enum Round {
    /// The receiver took so many facts, and more may wait.
    Delivered(usize),
    /// Nothing is due.
    Idle,
    /// Another process delivers now.
    Lost,
    /// The receiver takes nothing now.
    Failed(String),
}

impl Actor for FactPublisher {
    const NAME: &'static str = "fact_publisher";

    fn details(&self) -> serde_json::Value {
        let reports: Vec<_> = self
            .receivers
            .iter()
            .map(|receiver| receiver.report().clone())
            .collect();
        serde_json::json!({ "receivers": reports })
    }

    fn schedule(&self) -> Option<Schedule> {
        Some(Schedule {
            every: INTERVAL,
            at_once: true,
        })
    }

    async fn tick(self: Arc<Self>) {
        self.look();
    }

    /// Releases the leases once running deliveries have ended, so that another process continues at once.
    fn stopping(&self) {
        for receiver in &self.receivers {
            let (store, receiver) = (Arc::clone(&self.store), Arc::clone(receiver));
            self.context.spawn(async move {
                let lease = receiver.held.lock().await.lease.take();
                if let Some(lease) = lease {
                    // A lease that cannot be released expires.
                    let _ = store.release_receiver(&lease).await;
                }
            });
        }
    }
}

impl BatchActor<FactsCommitted> for FactPublisher {
    type Item = Envelope<FactsCommitted>;

    fn limits(&self) -> BatchLimits {
        BatchLimits {
            largest: 1_024,
            lanes: 1,
            spare_lanes: 0,
        }
    }

    async fn run(self: Arc<Self>, batch: Vec<Envelope<FactsCommitted>>) {
        self.look();
        for envelope in batch {
            envelope.reply.send(());
        }
    }
}

impl FactPublisher {
    /// Returns a publisher to the stream of this broker and to these webhooks. `holder` names this process.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        broker: Option<Arc<Broker>>,
        webhooks: Vec<Webhook>,
        options: &FactsOptions,
        holder: String,
        context: Context<Self>,
    ) -> Self {
        let mut receivers = Vec::new();
        if let (Some(broker), Some(stream)) = (broker, options.stream.clone()) {
            let ids_as_text = options.ids_as_text;
            let stream = StreamReceiver::new(broker, stream, ids_as_text);
            receivers.push(Receiver::new(
                StreamReceiver::NAME.to_owned(),
                ReceiverKind::Stream(stream),
            ));
        }
        if let Some(webhook_options) = &options.webhooks {
            for webhook in webhooks {
                let name = webhook.name().to_owned();
                let webhook = WebhookReceiver::new(webhook, webhook_options.clone());
                receivers.push(Receiver::new(name, ReceiverKind::Webhook(webhook)));
            }
        }
        Self {
            store,
            holder,
            lease: options.lease,
            receivers,
            context,
        }
    }

    /// Starts a delivery to each receiver that none runs to.
    fn look(self: &Arc<Self>) {
        for receiver in &self.receivers {
            receiver.is_due.store(true, Ordering::Relaxed);
            if receiver.held.try_lock().is_ok() {
                let (publisher, receiver) = (Arc::clone(self), Arc::clone(receiver));
                self.context.spawn(async move {
                    if let Ok(mut held) = receiver.held.try_lock() {
                        publisher.deliver(&receiver, &mut held).await;
                    }
                });
            }
        }
    }

    /// Delivers until nothing is due.
    async fn deliver(&self, receiver: &Receiver, held: &mut Held) {
        while receiver.is_due.swap(false, Ordering::Relaxed) && !self.context.is_stopping() {
            match self.round(receiver, held).await {
                Ok(Round::Delivered(facts)) => {
                    self.context.progress(facts);
                    let mut report = receiver.report();
                    report.delivered += facts as u64;
                    report.last_error = None;
                    receiver.is_due.store(true, Ordering::Relaxed);
                }
                Ok(Round::Idle) => database_worked(DELIVERING),
                Ok(Round::Lost) => held.lease = None,
                Ok(Round::Failed(error)) => {
                    self.context.failed(&error);
                    receiver.report().last_error = Some(error);
                    break;
                }
                Err(error) => {
                    database_failed(&self.context, DELIVERING, &error);
                    break;
                }
            }
        }
        self.count(receiver, held).await;
    }

    async fn round(&self, receiver: &Receiver, held: &mut Held) -> Result<Round, StoreError> {
        let Some(lease) = self.lease(receiver, held).await? else {
            return Ok(Round::Idle);
        };
        match &mut held.kind {
            ReceiverKind::Stream(stream) => stream.round(&self.store, &lease).await,
            ReceiverKind::Webhook(webhook) => webhook.round(&self.store, &lease).await,
        }
    }

    /// Returns the lease of a receiver: the one that this process holds, or a new one; `None` if another process holds it.
    async fn lease(
        &self,
        receiver: &Receiver,
        held: &mut Held,
    ) -> Result<Option<RowLease>, StoreError> {
        let asked = held.asked_at.map(|asked| asked.elapsed());
        if let Some(lease) = &held.lease {
            if asked.is_some_and(|asked| asked < self.lease / 3) {
                return Ok(Some(lease.clone()));
            }
            held.asked_at = Some(Instant::now());
            if self.store.renew_receiver(lease).await? {
                return Ok(Some(lease.clone()));
            }
            held.lease = None;
        } else if asked.is_some_and(|asked| asked < TRY_AGAIN) {
            return Ok(None);
        }
        held.asked_at = Some(Instant::now());
        held.lease = self
            .store
            .lease_receiver(&receiver.name, &self.holder, self.lease)
            .await?;
        if let ReceiverKind::Stream(stream) = &mut held.kind {
            stream.forget();
        }
        Ok(held.lease.clone())
    }

    /// Counts the facts that wait for a receiver, if this process delivers to it and a count is due. One is due at once
    /// when the lease comes or goes.
    async fn count(&self, receiver: &Receiver, held: &mut Held) {
        let is_leased = held.lease.is_some();
        let was_leased = std::mem::replace(&mut receiver.report().leased, is_leased);
        let counted_at = held.counted_at.filter(|_| was_leased == is_leased);
        if counted_at.is_some_and(|counted| counted.elapsed() < COUNT_EVERY) {
            return;
        }
        held.counted_at = Some(Instant::now());
        let counted = match is_leased {
            false => None,
            true => match self.store.backlog(&receiver.name).await {
                Ok(backlog) => Some(backlog),
                Err(_) => return,
            },
        };
        let counted = counted.map(|backlog| {
            let age = |since: DateTime<Utc>| (self.store.now() - since).as_seconds_f64().max(0.0);
            let oldest = backlog.oldest_at.map_or(0.0, age);
            (backlog.waiting, backlog.dead, oldest)
        });
        FactsCounted {
            receiver: &receiver.name,
            counted,
        }
        .emit();
        let mut report = receiver.report();
        (report.waiting, report.dead, report.oldest_seconds) = counted.unwrap_or_default();
    }
}

impl Receiver {
    fn new(name: String, kind: ReceiverKind) -> Arc<Self> {
        let report = Report {
            receiver: name.clone(),
            ..Report::default()
        };
        Arc::new(Self {
            name,
            is_due: AtomicBool::new(true),
            held: tokio::sync::Mutex::new(Held {
                kind,
                lease: None,
                asked_at: None,
                counted_at: None,
            }),
            report: Mutex::new(report),
        })
    }

    fn report(&self) -> std::sync::MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs a failure of NATS once per outage.
fn broker_failed(error: &NatsError) -> Round {
    DependencyFailed {
        dependency: Dependency::Broker,
        doing: DELIVERING,
        error,
    }
    .emit();
    Round::Failed(error.to_string())
}
