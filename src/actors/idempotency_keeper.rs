//! Keeps which requests came with an `Idempotency-Key` and what was answered, many in one transaction.

use std::sync::Arc;
use std::time::Duration;

use actix::{Context, Handler};

use super::kit::{ActorStats, Batcher, Envelope, spawn_batch, supervise_batching};
use crate::config::KeeperOptions;
use crate::messages::{Begin, End, NotKept};
use crate::store::{Store, StoreError};
use crate::telemetry::{Dependency, DependencyFailed};

/// The actor.
pub struct IdempotencyKeeper {
    keeping: Keeping,
    begins: Batcher<Envelope<Begin>>,
    ends: Batcher<Envelope<End>>,
}

impl IdempotencyKeeper {
    /// Its name in the registry.
    pub const NAME: &'static str = "idempotency_keeper";

    /// A keeper in this store.
    #[must_use]
    pub fn new(store: Arc<Store>, options: KeeperOptions, stats: Arc<ActorStats>) -> Self {
        Self {
            keeping: Keeping {
                store,
                lease: options.lease,
                stats,
            },
            // One at a time, so that batches grow under load.
            begins: Batcher::new(options.largest_batch, 1),
            ends: Batcher::new(options.largest_batch, 1),
        }
    }

    fn flush(&mut self, context: &mut Context<Self>) {
        let stats = Arc::clone(&self.keeping.stats);
        while let Some((batch, lane)) = self.begins.next_batch() {
            let keeping = self.keeping.clone();
            spawn_batch(context, &stats, lane, async move {
                keeping.begin(batch).await;
            });
        }
        while let Some((batch, lane)) = self.ends.next_batch() {
            let keeping = self.keeping.clone();
            spawn_batch(context, &stats, lane, async move {
                keeping.end(batch).await;
            });
        }
    }
}

supervise_batching!(IdempotencyKeeper);

impl Handler<Envelope<Begin>> for IdempotencyKeeper {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Begin>, context: &mut Self::Context) {
        self.begins.push(envelope);
        self.flush(context);
    }
}

impl Handler<Envelope<End>> for IdempotencyKeeper {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<End>, context: &mut Self::Context) {
        self.ends.push(envelope);
        self.flush(context);
    }
}

/// What the keeper does with a batch, without actix.
#[derive(Clone)]
struct Keeping {
    store: Arc<Store>,
    lease: Duration,
    stats: Arc<ActorStats>,
}

impl Keeping {
    async fn begin(&self, batch: Vec<Envelope<Begin>>) {
        let requests: Vec<_> = batch
            .iter()
            .map(|envelope| envelope.body.request.clone())
            .collect();
        let now = self.store.now();
        let begun = self
            .store
            .begin_requests(&requests, now, now + self.lease)
            .await;
        match begun {
            Ok(begun) => {
                self.stats.progress(batch.len());
                for (envelope, begun) in batch.into_iter().zip(begun) {
                    envelope.reply.send(Ok(begun));
                }
            }
            Err(error) => {
                let failure = self.failed("looking up idempotency keys", &error);
                for envelope in batch {
                    envelope.reply.send(Err(failure.clone()));
                }
            }
        }
    }

    async fn end(&self, batch: Vec<Envelope<End>>) {
        let ended: Vec<_> = batch
            .iter()
            .map(|envelope| envelope.body.response.clone())
            .collect();
        let kept = self.store.end_requests(&ended, self.store.now()).await;
        let kept = kept.map_err(|error| self.failed("keeping answers of requests", &error));
        if kept.is_ok() {
            self.stats.progress(batch.len());
        }
        for envelope in batch {
            envelope.reply.send(kept.clone());
        }
    }

    fn failed(&self, doing: &'static str, error: &StoreError) -> NotKept {
        self.stats.failed(error);
        if error.is_news() {
            DependencyFailed {
                dependency: Dependency::Database,
                doing,
                error,
            }
            .emit();
        }
        NotKept(error.to_string())
    }
}
