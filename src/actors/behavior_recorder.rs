//! Appends behaviors and their ledger rows, many in one transaction (group commit), answers whoever
//! asked once they are committed, and hands the ledger rows to the sync publisher.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Context, Handler};

use super::failures::bisect;
use super::kit::{ActorStats, Batcher, Envelope, Mailbox, spawn_batch, supervise_batching};
use super::sync_publisher::SyncPublisher;
use crate::config::RecorderOptions;
use crate::domain::{BehaviorEvent, FailureKind, LedgerRow};
use crate::messages::{NotRecorded, Record, Sync};
use crate::store::{Lease, Store};
use crate::telemetry::{BatchRecorded, Dependency, DependencyFailed, DependencyWorked, RowsLeft};

/// What the log calls recording.
const RECORDING: &str = "recording behaviors";

/// How long recorded rows wait for room in the sync publisher's mailbox.
const PATIENCE: Duration = Duration::from_secs(1);

/// The actor.
pub struct BehaviorRecorder {
    recording: Recording,
    batcher: Batcher<Envelope<Record>>,
}

impl BehaviorRecorder {
    /// Its name in the registry.
    pub const NAME: &'static str = "behavior_recorder";

    /// A recorder that hands on to this sync publisher.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        sync_publisher: Mailbox<SyncPublisher>,
        options: RecorderOptions,
        stats: Arc<ActorStats>,
    ) -> Self {
        Self {
            recording: Recording {
                store,
                sync_publisher,
                options,
                stats,
            },
            batcher: Batcher::new(options.largest_batch, options.lanes),
        }
    }

    fn flush(&mut self, context: &mut Context<Self>) {
        while let Some((batch, lane)) = self.batcher.next_batch() {
            let recording = self.recording.clone();
            spawn_batch(context, &self.recording.stats, lane, async move {
                recording.record(batch).await;
            });
        }
    }
}

supervise_batching!(BehaviorRecorder);

impl Handler<Envelope<Record>> for BehaviorRecorder {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Record>, context: &mut Self::Context) {
        self.batcher.push(envelope);
        self.flush(context);
    }
}

/// What the recorder does with a batch, without actix.
#[derive(Clone)]
struct Recording {
    store: Arc<Store>,
    sync_publisher: Mailbox<SyncPublisher>,
    options: RecorderOptions,
    stats: Arc<ActorStats>,
}

impl Recording {
    async fn record(&self, batch: Vec<Envelope<Record>>) {
        let outcome = bisect(&batch, async |part: &[Envelope<Record>]| {
            let events: Vec<&BehaviorEvent> = part
                .iter()
                .flat_map(|envelope| &envelope.body.events)
                .collect();
            let started = Instant::now();
            let lease = Lease {
                now: self.store.now(),
                duration: self.options.lease,
                max_retries: self.options.max_retries,
            };
            let recorded = self.store.record(&events, lease).await?;
            self.stats.progress(events.len());
            DependencyWorked {
                dependency: Dependency::Database,
                doing: RECORDING,
            }
            .emit();
            BatchRecorded {
                behaviors: events.len(),
                took: started.elapsed(),
            }
            .emit();
            Ok(recorded)
        })
        .await;

        let mut answers = vec![Ok(Vec::new()); batch.len()];
        for (part, error) in outcome.failed {
            self.stats.failed(&error);
            if error.is_news() {
                DependencyFailed {
                    dependency: Dependency::Database,
                    doing: RECORDING,
                    error: &error,
                }
                .emit();
            }
            let reason = error.to_string();
            answers[part].fill(Err(match error.kind() {
                FailureKind::Infrastructure => NotRecorded::Unavailable(reason),
                FailureKind::Rejected => NotRecorded::Rejected(reason),
                FailureKind::Invalid => NotRecorded::Refused(reason),
            }));
        }
        for (part, recorded) in &outcome.done {
            note_conflicts(&mut answers, &batch, part.clone(), &recorded.conflicts);
        }
        // Whoever asked is answered at once; the room is kept until the rows are handed on, so that a
        // sync publisher that cannot keep up slows down what comes in.
        let mut rooms = Vec::with_capacity(batch.len());
        for (envelope, answer) in batch.into_iter().zip(answers) {
            envelope.reply.send(answer);
            rooms.push(envelope.room);
        }
        for (_, recorded) in outcome.done {
            self.hand_on(recorded.rows).await;
        }
    }

    /// What the sync publisher has no room for after a while stays in the ledger, where the retry
    /// scheduler finds it once the lease has run out.
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

/// Notes conflicts of a part of the batch, which are counted through its events, in the answers to those who
/// sent them.
fn note_conflicts(
    answers: &mut [Result<Vec<usize>, NotRecorded>],
    batch: &[Envelope<Record>],
    part: Range<usize>,
    conflicts: &[usize],
) {
    let mut conflicts = conflicts.iter().copied().peekable();
    let mut first = 0;
    for envelope in part {
        let end = first + batch[envelope].body.events.len();
        while let Some(place) = conflicts.next_if(|place| *place < end) {
            if let Ok(answer) = &mut answers[envelope] {
                answer.push(place - first);
            }
        }
        first = end;
    }
}
