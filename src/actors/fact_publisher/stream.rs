//! Delivers facts to the stream: publishes a batch, awaits the acknowledgements, and deletes what is acknowledged.

use std::sync::Arc;

use super::{DELIVERING, Round, broker_failed};
use crate::config::FactStreamOptions;
use crate::nats::{Broker, NatsError, Published};
use crate::store::{OutboxRow, RowLease, Store, StoreError};
use crate::telemetry::{Dependency, DependencyWorked, FactStreamDiffers, FactsDelivered};

/// The limit of the facts published before the first acknowledgement is awaited.
const LARGEST_BATCH: usize = 500;

/// The stream.
pub(super) struct StreamReceiver {
    broker: Arc<Broker>,
    options: FactStreamOptions,
    ids_as_text: bool,
    /// The sequence at which the stream ends, if nothing has failed since it was read under this lease.
    last: Option<u64>,
    /// The limit of the facts in the next batch.
    batch: usize,
    /// The differences that the log has reported.
    said: Vec<String>,
}

impl StreamReceiver {
    /// The name of the receiver.
    pub(super) const NAME: &'static str = FactStreamOptions::RECEIVER;

    pub(super) const fn new(
        broker: Arc<Broker>,
        options: FactStreamOptions,
        ids_as_text: bool,
    ) -> Self {
        Self {
            broker,
            options,
            ids_as_text,
            last: None,
            batch: LARGEST_BATCH,
            said: Vec::new(),
        }
    }

    /// Forgets where the stream ends: another process may have published.
    pub(super) const fn forget(&mut self) {
        self.last = None;
    }

    /// Publishes the next batch. Reads where the stream ends, then renews the lease, then publishes: whatever a successor
    /// publishes comes after the renewal, so the stream ends elsewhere then and refuses this batch.
    pub(super) async fn round(
        &mut self,
        store: &Store,
        lease: &RowLease,
    ) -> Result<Round, StoreError> {
        let last = match self.last {
            Some(last) => last,
            None => match self.broker.facts_stream(&self.options).await {
                Ok((last, differences)) => {
                    self.differ(differences);
                    last
                }
                Err(error) => return Ok(broker_failed(&error)),
            },
        };
        self.last = Some(last);
        let rows = store.outbox(Self::NAME, 0, self.batch).await?;
        if rows.is_empty() {
            return Ok(Round::Idle);
        }
        if !store.renew_receiver(lease).await? {
            return Ok(Round::Lost);
        }
        let (stored, failure) = self.publish(&rows, last).await;
        if stored > 0 {
            let ids: Vec<_> = rows[..stored].iter().map(|row| row.id).collect();
            store.delivered(&ids).await?;
            FactsDelivered {
                receiver: Self::NAME,
                facts: stored,
            }
            .emit();
        }
        if let Some(error) = failure {
            return Ok(broker_failed(&error));
        }
        DependencyWorked {
            dependency: Dependency::Broker,
            doing: DELIVERING,
        }
        .emit();
        Ok(Round::Delivered(stored))
    }

    /// Publishes facts. Returns how many of them, from the first on, the stream holds, and a failure that the next round
    /// cannot mend.
    async fn publish(&mut self, rows: &[OutboxRow], last: u64) -> (usize, Option<NatsError>) {
        self.last = None;
        let mut sent = Vec::with_capacity(rows.len());
        let mut failure = None;
        for (expected, row) in (last..).zip(rows) {
            let publish = self
                .broker
                .publish_fact(&row.fact, self.ids_as_text, expected);
            match publish.await {
                Ok(publish) => sent.push(publish),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let (mut stored, mut end) = (0, last);
        let mut is_as_expected = true;
        for (index, publish) in sent.into_iter().enumerate() {
            match publish.acknowledged().await {
                // The stream ended where this fact expected it, so it holds those before, even without an
                // acknowledgement.
                Published::Stored(sequence) if is_as_expected => {
                    stored = index + 1;
                    end = sequence;
                }
                Published::Repeated => {
                    if stored == index {
                        stored = index + 1;
                    }
                    is_as_expected = false;
                }
                Published::Stored(_) | Published::Overtaken => is_as_expected = false,
                Published::Failed(error) => failure = failure.or(Some(error)),
            }
        }
        if stored == rows.len() && failure.is_none() {
            self.last = Some(end);
        }
        // A fact that the stream holds already does not move its end, so the stream refuses those behind it. One at a
        // time passes them.
        self.batch = match is_as_expected {
            true => LARGEST_BATCH,
            false => 1,
        };
        (stored, failure)
    }

    /// Logs settings that differ, when they change.
    fn differ(&mut self, differences: Vec<String>) {
        if differences != self.said && !differences.is_empty() {
            FactStreamDiffers {
                stream: &self.options.name,
                differences: &differences,
            }
            .emit();
        }
        self.said = differences;
    }
}
