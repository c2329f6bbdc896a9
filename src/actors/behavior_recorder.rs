//! Appends behaviors and their ledger rows, many in one transaction (group commit), and answers each sender with the
//! outcome of its events once they are committed. A sender that asks for the effect of the commit is answered once the cache
//! is settled too.
//!
//! While nothing is behind, the same transaction brings the read models up to the batch and completes its ledger rows, and
//! the sync publisher only settles the cache and announces counts. All other batches take two steps: the recorder commits
//! pending rows and hands them to the sync publisher. So do a batch with an event that is redelivered, recorded already or
//! rejected; and all batches while the sync publisher has no room, or after the infrastructure failed one transaction,
//! until a batch of the sync publisher succeeds.

mod answers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actor_kit::{Actor, Answer, BatchActor, BatchLimits, Context, Envelope, Mailbox, Slot};

use self::answers::{by_message, erased, not_recorded};
use super::failures::{bisect, database_failed, database_worked};
use super::sync_publisher::SyncPublisher;
use crate::config::RecorderOptions;
use crate::domain::{
    BehaviorEvent, CommitEffect, ErasedKind, FailureKind, LedgerRow, Pair, Source,
};
use crate::messages::{Committed, NotRecorded, Record, RecordOutcome, Sync, SyncOutcome};
use crate::store::{Lease, Recorded, RecordedAndSynced, Store, StoreError};
use crate::telemetry::{
    BatchRecorded, EventsOfErased, LikesCompleted, OneTransactionFailed, RecordPath, RowsLeft,
};

/// The action's name in logs.
const RECORDING: &str = "recording behaviors";

/// How long recorded rows wait for room in the sync publisher's mailbox.
const PATIENCE: Duration = Duration::from_secs(1);

/// The actor.
pub struct BehaviorRecorder {
    store: Arc<Store>,
    sync_publisher: Mailbox<SyncPublisher>,
    options: RecorderOptions,
    /// Whether the last attempt at one transaction met a failure of the infrastructure, such as a locked read model, and no
    /// batch of the sync publisher has shown since that it is over.
    is_behind: AtomicBool,
    context: Context<Self>,
}

impl Actor for BehaviorRecorder {
    const NAME: &'static str = "behavior_recorder";
}

impl BatchActor<Record> for BehaviorRecorder {
    type Item = Envelope<Record>;

    fn limits(&self) -> BatchLimits {
        BatchLimits {
            largest: self.options.largest_batch,
            lanes: self.options.lanes,
            spare_lanes: 0,
        }
    }

    async fn run(self: Arc<Self>, batch: Vec<Envelope<Record>>) {
        let events: Vec<&BehaviorEvent> = batch
            .iter()
            .flat_map(|envelope| &envelope.body.events)
            .collect();
        let redelivered = batch.iter().any(|envelope| envelope.body.redelivered);
        let mut outcome = match self.slot(&events, redelivered) {
            Some(slot) => self.record_and_sync(&events, slot).await,
            None => Outcome::default(),
        };
        if outcome.takes_two_steps() {
            outcome = self.record_in_parts(&events, outcome.commit_unknown).await;
        }
        let Outcome {
            failures,
            committed,
            rows,
            commit_unknown,
            ..
        } = outcome;
        let lost: Vec<LedgerRow> = failures
            .iter()
            .filter(|(_, failure)| commit_unknown && matches!(failure, NotRecorded::Unavailable(_)))
            .filter_map(|(place, _)| LedgerRow::born(events[*place], self.options.max_retries))
            .collect();
        let lengths = batch.iter().map(|envelope| envelope.body.events.len());
        let failures = by_message(lengths, failures);
        // Senders that wait for no settlement are answered at once. The permits are kept until the rows are handed on, so that
        // a sync publisher that cannot keep up slows down the intake.
        let mut permits = Vec::with_capacity(batch.len());
        let mut unsettled = Vec::new();
        for (envelope, failures) in batch.into_iter().zip(failures) {
            let Record {
                events,
                asks_effect,
                ..
            } = &envelope.body;
            let event = events.first().filter(|_| *asks_effect);
            let event = event.filter(|_| failures.is_empty());
            match event.and_then(|event| committed.as_ref()?.1.effect_on(&Pair::of(event))) {
                Some(effect) => unsettled.push((envelope, effect)),
                None => {
                    envelope.reply.send(RecordOutcome {
                        failures,
                        ..RecordOutcome::default()
                    });
                    permits.push(envelope.permit);
                }
            }
        }
        if let Some((slot, done)) = committed.filter(|(_, done)| done.rows > 0) {
            let RecordedAndSynced { rows, settled, .. } = done;
            let settlement = slot.ask(Committed { rows, settled });
            self.answer_settled(unsettled, settlement);
        }
        for rows in rows {
            self.hand_on(rows).await;
        }
        self.settle_lost(lost);
    }
}

/// What became of a batch.
#[derive(Default)]
struct Outcome {
    /// The positions of the events that are not recorded.
    failures: Vec<(usize, NotRecorded)>,
    /// What one transaction has recorded and synced, and the sync publisher's reserved room for it.
    committed: Option<(Slot<SyncPublisher>, RecordedAndSynced)>,
    /// The pending ledger rows of the first of two steps, a list for each transaction.
    rows: Vec<Vec<LedgerRow>>,
    /// Whether one transaction failed: it, or an attempt before it, may have committed without an answer.
    commit_unknown: bool,
    /// Whether the database could not be reached, so that another attempt would fail too.
    is_unreachable: bool,
}

impl Outcome {
    /// Returns whether one transaction was not tried, or could not do it.
    const fn takes_two_steps(&self) -> bool {
        self.committed.is_none() && !self.is_unreachable
    }
}

impl BehaviorRecorder {
    /// Returns a recorder that hands ledger rows to this sync publisher.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        sync_publisher: Mailbox<SyncPublisher>,
        options: RecorderOptions,
        context: Context<Self>,
    ) -> Self {
        Self {
            store,
            sync_publisher,
            options,
            is_behind: AtomicBool::new(false),
            context,
        }
    }

    /// Returns room for the sync publisher's message if one transaction may record and sync this batch: nothing is behind.
    fn slot(&self, events: &[&BehaviorEvent], redelivered: bool) -> Option<Slot<SyncPublisher>> {
        if redelivered || self.is_behind.load(Ordering::Relaxed) {
            return None;
        }
        // Without room, the read models would run ahead of the cache.
        let likes = events.iter().filter(|event| event.action().is_some());
        self.sync_publisher.reserve(likes.count()).ok()
    }

    /// Records and syncs events in one transaction.
    async fn record_and_sync(
        &self,
        events: &[&BehaviorEvent],
        slot: Slot<SyncPublisher>,
    ) -> Outcome {
        let started = Instant::now();
        let recorded = self.store.record_and_sync(events, self.lease()).await;
        let mut outcome = Outcome::default();
        match recorded {
            Ok(done) => {
                let path = RecordPath::OneTransaction;
                self.recorded(events.len(), &done.erased, path, started);
                self.completed(events);
                outcome.failures = erased(0, &done.erased).collect();
                outcome.committed = Some((slot, done));
            }
            Err(error) if error.was_answered() || matches!(error, StoreError::TimedOut(_)) => {
                let is_infrastructure = error.kind() == FailureKind::Infrastructure;
                self.is_behind
                    .fetch_or(is_infrastructure, Ordering::Relaxed);
                outcome.commit_unknown = true;
                OneTransactionFailed {
                    events: events.len(),
                    error: &error,
                }
                .emit();
            }
            Err(error) => {
                database_failed(&self.context, RECORDING, &error);
                let places = 0..events.len();
                outcome.failures = not_recorded(places, &error).collect();
                outcome.commit_unknown = matches!(error, StoreError::Unavailable(_));
                outcome.is_unreachable = true;
            }
        }
        outcome
    }

    /// Records events for the sync publisher, in one transaction, or in several if the database rejects an event.
    async fn record_in_parts(&self, events: &[&BehaviorEvent], commit_unknown: bool) -> Outcome {
        // The tables of this step are of all resource types.
        let recording = bisect(
            events,
            |_| (),
            async |part: &[&BehaviorEvent]| self.record(part).await,
        )
        .await;
        let mut outcome = Outcome {
            commit_unknown,
            ..Outcome::default()
        };
        for (part, error) in recording.failed {
            database_failed(&self.context, RECORDING, &error);
            outcome.failures.extend(not_recorded(part, &error));
        }
        for (part, recorded) in recording.done {
            let places = recorded.conflicts.iter().map(|place| part.start + place);
            let conflicts = places.map(|place| (place, NotRecorded::Conflict));
            outcome.failures.extend(conflicts);
            outcome
                .failures
                .extend(erased(part.start, &recorded.erased));
            outcome.rows.push(recorded.rows);
        }
        outcome
    }

    /// Returns the lease on new ledger rows.
    fn lease(&self) -> Lease {
        Lease {
            now: self.store.now(),
            duration: self.options.lease,
            max_retries: self.options.max_retries,
        }
    }

    /// Reports a commit.
    fn recorded(
        &self,
        events: usize,
        erased: &BTreeMap<usize, ErasedKind>,
        path: RecordPath,
        started: Instant,
    ) {
        self.context.progress(events);
        database_worked(RECORDING);
        if !erased.is_empty() {
            EventsOfErased {
                events: erased.len(),
            }
            .emit();
        }
        BatchRecorded {
            behaviors: events - erased.len(),
            path,
            took: started.elapsed(),
        }
        .emit();
    }

    /// Reports how long ago the likes of a commit were accepted.
    fn completed(&self, events: &[&BehaviorEvent]) {
        let now = self.store.now().timestamp_micros();
        let accepted = events
            .iter()
            .filter(|event| event.source == Source::Api && event.action().is_some());
        LikesCompleted {
            ages: accepted.map(|event| now - event.version.0),
        }
        .emit();
    }

    /// Records events in one transaction.
    async fn record(&self, events: &[&BehaviorEvent]) -> Result<Recorded, StoreError> {
        let started = Instant::now();
        let recorded = self.store.record(events, self.lease()).await?;
        self.recorded(events.len(), &recorded.erased, RecordPath::TwoStep, started);
        Ok(recorded)
    }

    /// Answers senders with the effects of the commit after the cache is settled. A settlement takes too long while the cache
    /// writer is paused, or while it or the sync publisher waits for its restart. The answers tell that, because the cache
    /// may still show less.
    fn answer_settled(
        &self,
        unsettled: Vec<(Envelope<Record>, CommitEffect)>,
        settlement: Answer<()>,
    ) {
        if unsettled.is_empty() {
            return;
        }
        let within = self.options.settled_within;
        self.context.spawn(async move {
            let settled = tokio::time::timeout(within, settlement).await;
            let is_settled = matches!(settled, Ok(Ok(())));
            for (envelope, effect) in unsettled {
                envelope.reply.send(RecordOutcome {
                    failures: Vec::new(),
                    effect: Some(effect),
                    is_settled,
                });
            }
        });
    }

    /// Hands rows to the sync publisher. Rows that find no room in time stay in the ledger, and the retry scheduler
    /// claims them once their lease expires.
    async fn hand_on(self: &Arc<Self>, rows: Vec<LedgerRow>) {
        if rows.is_empty() {
            return;
        }
        let count = rows.len();
        let handing_on = self.sync_publisher.ask_or_wait(Sync { rows });
        let Ok(Ok(answer)) = tokio::time::timeout(PATIENCE, handing_on).await else {
            RowsLeft { rows: count }.emit();
            return;
        };
        if self.is_behind.load(Ordering::Relaxed) {
            let recorder = Arc::clone(self);
            self.context.spawn(async move {
                if matches!(answer.await, Ok(SyncOutcome::Ended)) {
                    recorder.is_behind.store(false, Ordering::Relaxed);
                }
            });
        }
    }

    /// Has the cache settled by the database's state for events of a transaction whose commit may have succeeded without an
    /// answer: no later attempt does so. The sync publisher finds their ledger rows completed, or none.
    fn settle_lost(self: &Arc<Self>, rows: Vec<LedgerRow>) {
        if rows.is_empty() {
            return;
        }
        let recorder = Arc::clone(self);
        self.context.spawn(async move {
            // A sync publisher stops only in a shutdown. The next worker settles the last events.
            let _ = recorder.sync_publisher.ask_or_wait(Sync { rows }).await;
        });
    }
}
