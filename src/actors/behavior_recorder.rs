//! Appends behaviors and their ledger rows, many in one transaction (group commit), and answers each sender with the
//! outcome of its events once they are committed.
//!
//! While nothing is behind, the same transaction brings the read models up to the batch and completes its ledger rows, and
//! the sync publisher only settles the cache and announces counts. All other batches take two steps: the recorder commits
//! pending rows and hands them to the sync publisher. So do a batch with an event that is redelivered, recorded already or
//! rejected; and all batches while the sync publisher has no room, or after the infrastructure failed one transaction,
//! until a batch of the sync publisher succeeds.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actor_kit::{Actor, BatchActor, BatchLimits, Context, Envelope, Mailbox, Slot};

use super::failures::{bisect, database_failed, database_worked};
use super::sync_publisher::SyncPublisher;
use crate::config::RecorderOptions;
use crate::domain::{BehaviorEvent, ErasedKind, FailureKind, LedgerRow, Source};
use crate::messages::{Committed, NotRecorded, Record, Sync, SyncOutcome};
use crate::store::{Lease, Recorded, Store, StoreError};
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
        let answers = by_message(lengths, failures);
        // Senders are answered at once. The permits are kept until the rows are handed on, so that a sync publisher
        // that cannot keep up slows down the intake.
        let mut permits = Vec::with_capacity(batch.len());
        for (envelope, answer) in batch.into_iter().zip(answers) {
            envelope.reply.send(answer);
            permits.push(envelope.permit);
        }
        if let Some((slot, committed)) = committed.filter(|(_, committed)| committed.rows > 0) {
            slot.ask(committed);
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
    /// What one transaction has recorded and synced, for the sync publisher's reserved room.
    committed: Option<(Slot<SyncPublisher>, Committed)>,
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
                let (rows, settled) = (done.rows, done.settled);
                outcome.committed = Some((slot, Committed { rows, settled }));
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
        let recording = bisect(events, async |part: &[&BehaviorEvent]| {
            self.record(part).await
        })
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

/// The failures of the events at these places, which were not recorded for this reason.
fn not_recorded(
    places: Range<usize>,
    error: &StoreError,
) -> impl Iterator<Item = (usize, NotRecorded)> + use<> {
    let reason = error.to_string();
    let failure = match error.kind() {
        FailureKind::Infrastructure => NotRecorded::Unavailable(reason),
        FailureKind::Rejected => NotRecorded::Rejected(reason),
        FailureKind::Invalid => NotRecorded::Refused(reason),
    };
    places.map(move |place| (place, failure.clone()))
}

/// The failures of the events of the erased, in a part of the batch that starts at this place.
fn erased(
    start: usize,
    erased: &BTreeMap<usize, ErasedKind>,
) -> impl Iterator<Item = (usize, NotRecorded)> + use<'_> {
    let erased = erased.iter();
    erased.map(move |(place, kind)| (start + place, NotRecorded::Erased(*kind)))
}

/// Splits the failures of a batch, by their positions in it, into those of each message, by their positions in that.
fn by_message(
    lengths: impl Iterator<Item = usize>,
    mut failures: Vec<(usize, NotRecorded)>,
) -> Vec<Vec<(usize, NotRecorded)>> {
    failures.sort_by_key(|(place, _)| *place);
    let mut failures = failures.into_iter().peekable();
    let mut first = 0;
    lengths
        .map(|length| {
            let end = first + length;
            let mut of_message = Vec::new();
            while let Some((place, failure)) = failures.next_if(|(place, _)| *place < end) {
                of_message.push((place - first, failure));
            }
            first = end;
            of_message
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_gets_the_failures_of_its_events() {
        let refused = || NotRecorded::Refused("too long".into());
        let failures = vec![
            (5, refused()),
            (0, NotRecorded::Conflict),
            (3, NotRecorded::Conflict),
        ];
        let expected = [
            vec![(0, NotRecorded::Conflict)],
            vec![],
            vec![(1, NotRecorded::Conflict), (3, refused())],
        ];
        assert_eq!(by_message([2, 0, 4].into_iter(), failures), expected);
    }
}
