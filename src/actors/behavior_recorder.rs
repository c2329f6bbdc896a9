//! Appends behaviors and their ledger rows, many in one transaction (group commit), answers each sender with the
//! outcome of its events once they are committed, and hands the ledger rows to the sync publisher.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actor_kit::{Actor, BatchActor, BatchLimits, Context, Envelope, Mailbox};

use super::failures::{bisect, database_failed, database_worked};
use super::sync_publisher::SyncPublisher;
use crate::config::RecorderOptions;
use crate::domain::{BehaviorEvent, FailureKind, LedgerRow};
use crate::messages::{NotRecorded, Record, Sync};
use crate::store::{Lease, Recorded, Store, StoreError};
use crate::telemetry::{BatchRecorded, EventsOfErased, RowsLeft};

/// The action's name in logs.
const RECORDING: &str = "recording behaviors";

/// How long recorded rows wait for room in the sync publisher's mailbox.
const PATIENCE: Duration = Duration::from_secs(1);

/// The actor.
pub struct BehaviorRecorder {
    store: Arc<Store>,
    sync_publisher: Mailbox<SyncPublisher>,
    options: RecorderOptions,
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
        let outcome = bisect(&events, async |part: &[&BehaviorEvent]| {
            self.record(part).await
        })
        .await;

        let mut failures = Vec::new();
        for (part, error) in &outcome.failed {
            database_failed(&self.context, RECORDING, error);
            let reason = error.to_string();
            let failure = match error.kind() {
                FailureKind::Infrastructure => NotRecorded::Unavailable(reason),
                FailureKind::Rejected => NotRecorded::Rejected(reason),
                FailureKind::Invalid => NotRecorded::Refused(reason),
            };
            failures.extend(part.clone().map(|place| (place, failure.clone())));
        }
        for (part, recorded) in &outcome.done {
            let places = recorded.conflicts.iter().map(|place| part.start + place);
            failures.extend(places.map(|place| (place, NotRecorded::Conflict)));
            let erased = recorded.erased.iter();
            failures.extend(
                erased.map(|(place, kind)| (part.start + place, NotRecorded::Erased(*kind))),
            );
        }
        let lengths = batch.iter().map(|envelope| envelope.body.events.len());
        let answers = by_message(lengths, failures);
        // Senders are answered at once. The permits are kept until the rows are handed on, so that a sync publisher
        // that cannot keep up slows down the intake.
        let mut permits = Vec::with_capacity(batch.len());
        for (envelope, answer) in batch.into_iter().zip(answers) {
            envelope.reply.send(answer);
            permits.push(envelope.permit);
        }
        for (_, recorded) in outcome.done {
            self.hand_on(recorded.rows).await;
        }
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
            context,
        }
    }

    /// Records events in one transaction.
    async fn record(&self, events: &[&BehaviorEvent]) -> Result<Recorded, StoreError> {
        let started = Instant::now();
        let lease = Lease {
            now: self.store.now(),
            duration: self.options.lease,
            max_retries: self.options.max_retries,
        };
        let recorded = self.store.record(events, lease).await?;
        self.context.progress(events.len());
        database_worked(RECORDING);
        if !recorded.erased.is_empty() {
            EventsOfErased {
                events: recorded.erased.len(),
            }
            .emit();
        }
        BatchRecorded {
            behaviors: events.len() - recorded.erased.len(),
            took: started.elapsed(),
        }
        .emit();
        Ok(recorded)
    }

    /// Hands rows to the sync publisher. Rows that find no room in time stay in the ledger, and the retry scheduler
    /// claims them once their lease expires.
    async fn hand_on(&self, rows: Vec<LedgerRow>) {
        if rows.is_empty() {
            return;
        }
        let count = rows.len();
        let handing_on = self.sync_publisher.ask_or_wait(Sync { rows });
        if !matches!(tokio::time::timeout(PATIENCE, handing_on).await, Ok(Ok(_))) {
            RowsLeft { rows: count }.emit();
        }
    }
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
