//! Stores the requests with an `Idempotency-Key` and their answers, many in one transaction.

use std::sync::Arc;

use actor_kit::{Actor, BatchActor, BatchLimits, Context, Envelope};

use super::failures::database_failed;
use crate::config::KeeperOptions;
use crate::messages::{Begin, End, NotKept};
use crate::store::{Store, StoreError};

/// The actor.
pub struct IdempotencyKeeper {
    store: Arc<Store>,
    options: KeeperOptions,
    context: Context<Self>,
}

impl Actor for IdempotencyKeeper {
    const NAME: &'static str = "idempotency_keeper";
}

impl BatchActor<Begin> for IdempotencyKeeper {
    type Item = Envelope<Begin>;

    fn limits(&self) -> BatchLimits {
        self.one_at_a_time()
    }

    async fn run(self: Arc<Self>, batch: Vec<Envelope<Begin>>) {
        let requests: Vec<_> = batch
            .iter()
            .map(|envelope| envelope.body.request.clone())
            .collect();
        let now = self.store.now();
        let lease = now + self.options.lease;
        match self.store.start_requests(&requests, now, lease).await {
            Ok(begun) => {
                self.context.progress(batch.len());
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
}

impl BatchActor<End> for IdempotencyKeeper {
    type Item = Envelope<End>;

    fn limits(&self) -> BatchLimits {
        self.one_at_a_time()
    }

    async fn run(self: Arc<Self>, batch: Vec<Envelope<End>>) {
        let ended: Vec<_> = batch
            .iter()
            .map(|envelope| envelope.body.response.clone())
            .collect();
        let kept = self.store.store_responses(&ended, self.store.now()).await;
        let kept = kept.map_err(|error| self.failed("storing answers of requests", &error));
        if kept.is_ok() {
            self.context.progress(batch.len());
        }
        for envelope in batch {
            envelope.reply.send(kept.clone());
        }
    }
}

impl IdempotencyKeeper {
    /// Returns a keeper that stores keys in this store.
    #[must_use]
    pub fn new(store: Arc<Store>, options: KeeperOptions, context: Context<Self>) -> Self {
        Self {
            store,
            options,
            context,
        }
    }

    /// Runs one batch at a time, so that batches grow under load.
    const fn one_at_a_time(&self) -> BatchLimits {
        BatchLimits {
            largest: self.options.largest_batch,
            lanes: 1,
            spare_lanes: 0,
        }
    }

    fn failed(&self, doing: &'static str, error: &StoreError) -> NotKept {
        database_failed(&self.context, doing, error);
        NotKept(error.to_string())
    }
}
