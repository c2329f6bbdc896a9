//! Applies recorded like events to read models, counts and ledger, many in one transaction, and then settles the cache
//! and announces the changed counts. It does the latter also for the batches that the recorder committed to the read models
//! itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actor_kit::{Actor, BatchActor, BatchLimits, Context, Envelope, Mailbox};

use super::cache_writer::{CacheWriter, revert, settle};
use super::fact_publisher::FactPublisher;
use super::failures::{bisect, database_failed, database_worked};
use crate::config::SyncOptions;
use crate::domain::{Backoff, FailureKind, LedgerRow, Pair, Verdict};
use crate::live::Announcer;
use crate::messages::{Committed, FactsCommitted, Sync, SyncOutcome};
use crate::store::{FailedAttempt, Settled, Store, StoreError};
use crate::telemetry::{AttemptsFailed, BatchSynced, LikesCompleted, RowsCompleted};

/// The actions' names in logs.
const RECORDING_FAILURES: &str = "recording failed attempts";
const READING_STATES: &str = "reading the stored states after failed attempts";

/// The waits between retries of these actions.
const TRY_AGAIN: Backoff = Backoff {
    base: Duration::from_millis(100),
    cap: Duration::from_secs(1),
};

/// The actor.
pub struct SyncPublisher {
    store: Arc<Store>,
    cache_writer: Mailbox<CacheWriter>,
    announcer: Arc<Announcer>,
    fact_publisher: Option<Mailbox<FactPublisher>>,
    options: SyncOptions,
    context: Context<Self>,
}

impl Actor for SyncPublisher {
    const NAME: &'static str = "sync_publisher";
}

impl BatchActor<Sync> for SyncPublisher {
    type Item = Envelope<Sync>;

    fn limits(&self) -> BatchLimits {
        BatchLimits {
            largest: self.options.largest_batch,
            lanes: self.options.lanes,
            spare_lanes: 0,
        }
    }

    async fn run(self: Arc<Self>, mut batch: Vec<Envelope<Sync>>) {
        let mut rows: Vec<LedgerRow> = batch
            .iter_mut()
            .flat_map(|envelope| std::mem::take(&mut envelope.body.rows))
            .collect();
        let read_model = |row: &LedgerRow| row.resource.resource_type;
        rows.sort_by_key(read_model);
        let outcome = bisect(&rows, read_model, async |part: &[LedgerRow]| {
            self.sync(part).await
        })
        .await;

        // The attempts of one cause share a transaction and a log line.
        let mut causes: BTreeMap<String, (StoreError, Vec<LedgerRow>)> = BTreeMap::new();
        for (part, error) in outcome.failed {
            let cause = causes.entry(error.to_string());
            let (_, failed) = cause.or_insert_with(|| (error, Vec::new()));
            failed.extend_from_slice(&rows[part]);
        }
        if causes.is_empty() {
            self.tell(settled_by(outcome.done)).await;
            answer(batch, SyncOutcome::Ended);
            return;
        }
        let is_infrastructure =
            |(error, _): &(StoreError, _)| error.kind() == FailureKind::Infrastructure;
        let reply = match causes.values().any(is_infrastructure) {
            true => SyncOutcome::Waiting,
            false => SyncOutcome::Ended,
        };
        // Runs beside the next batch, because it may last as long as an outage of the database. Meanwhile the retry
        // scheduler renews the lease of rows that it claimed.
        let failing = Arc::clone(&self);
        self.context.spawn(async move {
            for (error, failed) in causes.values() {
                failing.fail(failed, error).await;
            }
            answer(batch, reply);
        });
        self.tell(settled_by(outcome.done)).await;
    }
}

impl BatchActor<Committed> for SyncPublisher {
    type Item = Envelope<Committed>;

    fn limits(&self) -> BatchLimits {
        BatchLimits {
            largest: self.options.largest_batch,
            lanes: self.options.lanes,
            spare_lanes: 0,
        }
    }

    async fn run(self: Arc<Self>, batch: Vec<Envelope<Committed>>) {
        self.facts_committed();
        for envelope in batch {
            let Committed { rows, settled } = envelope.body;
            self.context.progress(rows);
            RowsCompleted { rows }.emit();
            self.tell([settled]).await;
            envelope.reply.send(());
        }
    }
}

impl SyncPublisher {
    /// Returns a sync publisher that settles through this cache writer, announces through this announcer, and tells this
    /// fact publisher of commits.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        cache_writer: Mailbox<CacheWriter>,
        announcer: Arc<Announcer>,
        fact_publisher: Option<Mailbox<FactPublisher>>,
        options: SyncOptions,
        context: Context<Self>,
    ) -> Self {
        Self {
            store,
            cache_writer,
            announcer,
            fact_publisher,
            options,
            context,
        }
    }

    /// Syncs rows in one transaction.
    async fn sync(&self, rows: &[LedgerRow]) -> Result<Settled, StoreError> {
        let started = Instant::now();
        let settled = self.store.sync(rows, self.store.now()).await?;
        self.context.progress(rows.len());
        self.facts_committed();
        database_worked(AttemptsFailed::SYNCING);
        let now = self.store.now().timestamp_micros();
        // Other services seldom draw such ids. A row does not name its source.
        let accepted = rows
            .iter()
            .filter(|row| row.event_id.get_version_num() == 7);
        LikesCompleted {
            ages: accepted.map(|row| now - row.version.0),
        }
        .emit();
        BatchSynced {
            rows: rows.len(),
            counts_changed: settled.changed.len(),
            took: started.elapsed(),
        }
        .emit();
        Ok(settled)
    }

    /// Tells the fact publisher of a commit.
    fn facts_committed(&self) {
        if let Some(fact_publisher) = &self.fact_publisher {
            // A full mailbox holds earlier messages of the same kind.
            let _ = fact_publisher.ask(FactsCommitted);
        }
    }

    /// Settles the cache and announces counts after a commit.
    async fn tell(&self, commits: impl IntoIterator<Item = Settled>) {
        for settled in commits {
            self.announcer.announce(&settled);
            settle(&self.cache_writer, settled).await;
        }
    }

    /// Records failed attempts, and retries that while the infrastructure fails: an attempt that is not recorded would
    /// count as abandoned by its worker.
    async fn fail(&self, rows: &[LedgerRow], error: &StoreError) {
        let now = self.store.now();
        let attempts: Vec<_> = rows
            .iter()
            .map(|row| FailedAttempt {
                row: row.clone(),
                verdict: Verdict::after_failure(
                    error.kind(),
                    row,
                    now,
                    &self.options.backoff,
                    rand::random(),
                ),
                error: error.to_string(),
            })
            .collect();
        self.context.failed(error);
        if let Some(first) = attempts.first() {
            AttemptsFailed {
                first: first.row.event_id,
                trace: first.row.trace,
                rows: attempts.len(),
                step: first.verdict.step(),
                kind: error.kind(),
                error,
            }
            .emit();
        }
        let written = self.insist(RECORDING_FAILURES, async || {
            self.store.fail(&attempts, now).await
        });
        if written.await.is_none() {
            return;
        }
        let dead = attempts
            .iter()
            .filter(|attempt| attempt.verdict == Verdict::Dead)
            .map(|attempt| &attempt.row);
        revert(&self.cache_writer, dead).await;
        if error.kind() == FailureKind::Infrastructure {
            self.settle_stored(rows, error).await;
        }
    }

    /// Settles the cache from the database after this error. A commit whose answer was lost completed the rows, so no later
    /// attempt settles them.
    async fn settle_stored(&self, rows: &[LedgerRow], error: &StoreError) {
        let pairs: BTreeSet<Pair> = rows.iter().map(LedgerRow::pair).collect();
        let find = async || self.store.find(&pairs).await;
        let found = match error {
            // The database has answered. Its table may stay broken for days, and other rows need the mailbox.
            StoreError::Unusable(_) => find().await.ok(),
            _ => self.insist(READING_STATES, find).await,
        };
        if let Some(found) = found {
            settle(&self.cache_writer, found.into()).await;
        }
    }

    /// Retries a call while the infrastructure fails; `None` if the call fails otherwise.
    async fn insist<T>(
        &self,
        doing: &'static str,
        call: impl AsyncFn() -> Result<T, StoreError>,
    ) -> Option<T> {
        let mut tries = 0;
        loop {
            let error = match call().await {
                Ok(done) => {
                    database_worked(doing);
                    return Some(done);
                }
                Err(error) => error,
            };
            database_failed(&self.context, doing, &error);
            if error.kind() != FailureKind::Infrastructure {
                return None;
            }
            tries += 1;
            tokio::time::sleep(TRY_AGAIN.draw(tries)).await;
        }
    }
}

fn settled_by(done: Vec<(Range<usize>, Settled)>) -> impl Iterator<Item = Settled> {
    done.into_iter().map(|(_, settled)| settled)
}

fn answer(batch: Vec<Envelope<Sync>>, outcome: SyncOutcome) {
    for envelope in batch {
        envelope.reply.send(outcome);
    }
}
