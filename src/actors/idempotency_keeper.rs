//! Keeps which requests came with an `Idempotency-Key` and what was answered, many in one transaction.

use std::sync::Arc;
use std::time::Duration;

use actix::{Context, Handler};

use super::kit::{Batcher, Parcel, Vitals, spawn_batch, supervise_batching};
use crate::messages::{Begin, End, NotKept};
use crate::store::{Store, StoreError};
use crate::telemetry::{Part, PartFailed};

/// How the keeper works.
#[derive(Debug, Clone, Copy)]
pub struct KeeperOptions {
    /// The most requests in one transaction.
    pub largest_batch: usize,
    /// How long a request is left to whoever works on it.
    pub lease: Duration,
}

/// The actor.
pub struct IdempotencyKeeper {
    keeping: Keeping,
    begins: Batcher<Parcel<Begin>>,
    ends: Batcher<Parcel<End>>,
}

impl IdempotencyKeeper {
    /// Its name in the registry.
    pub const NAME: &'static str = "idempotency_keeper";

    /// A keeper in this store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, options: KeeperOptions, vitals: Arc<Vitals>) -> Self {
        Self {
            keeping: Keeping {
                store,
                lease: options.lease,
                vitals,
            },
            // One at a time, so that batches grow under load.
            begins: Batcher::new(options.largest_batch, 1),
            ends: Batcher::new(options.largest_batch, 1),
        }
    }

    fn flush(&mut self, context: &mut Context<Self>) {
        let vitals = Arc::clone(&self.keeping.vitals);
        while let Some((batch, lane)) = self.begins.next_batch() {
            let keeping = self.keeping.clone();
            spawn_batch(context, &vitals, lane, async move {
                keeping.begin(batch).await;
            });
        }
        while let Some((batch, lane)) = self.ends.next_batch() {
            let keeping = self.keeping.clone();
            spawn_batch(context, &vitals, lane, async move {
                keeping.end(batch).await;
            });
        }
    }
}

supervise_batching!(IdempotencyKeeper);

impl Handler<Parcel<Begin>> for IdempotencyKeeper {
    type Result = ();

    fn handle(&mut self, parcel: Parcel<Begin>, context: &mut Self::Context) {
        self.begins.push(parcel);
        self.flush(context);
    }
}

impl Handler<Parcel<End>> for IdempotencyKeeper {
    type Result = ();

    fn handle(&mut self, parcel: Parcel<End>, context: &mut Self::Context) {
        self.ends.push(parcel);
        self.flush(context);
    }
}

/// What the keeper does with a batch, without actix.
#[derive(Clone)]
struct Keeping {
    store: Arc<dyn Store>,
    lease: Duration,
    vitals: Arc<Vitals>,
}

impl Keeping {
    async fn begin(&self, batch: Vec<Parcel<Begin>>) {
        let requests: Vec<_> = batch
            .iter()
            .map(|parcel| parcel.body.request.clone())
            .collect();
        let now = self.store.now();
        let begun = self
            .store
            .begin_requests(&requests, now, now + self.lease)
            .await;
        match begun {
            Ok(begun) => {
                self.vitals.progress(batch.len());
                for (parcel, begun) in batch.into_iter().zip(begun) {
                    parcel.reply.send(Ok(begun));
                }
            }
            Err(error) => {
                let failure = self.failed("looking up idempotency keys", &error);
                for parcel in batch {
                    parcel.reply.send(Err(failure.clone()));
                }
            }
        }
    }

    async fn end(&self, batch: Vec<Parcel<End>>) {
        let ended: Vec<_> = batch
            .iter()
            .map(|parcel| parcel.body.ended.clone())
            .collect();
        let kept = self.store.end_requests(&ended, self.store.now()).await;
        let kept = kept.map_err(|error| self.failed("keeping answers of requests", &error));
        if kept.is_ok() {
            self.vitals.progress(batch.len());
        }
        for parcel in batch {
            parcel.reply.send(kept.clone());
        }
    }

    fn failed(&self, doing: &'static str, error: &StoreError) -> NotKept {
        self.vitals.failed(error);
        if error.is_news() {
            PartFailed {
                part: Part::Database,
                doing,
                error,
            }
            .emit();
        }
        NotKept(error.to_string())
    }
}
