//! Claims ledger rows that are due: failed ones whose back-off is over, and abandoned ones whose lease has expired.
//! Hands them to the sync publisher. Reports rows that no process claims, because none serves their resource type.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use actor_kit::{Actor, Answer, Context, Mailbox, Schedule};
use chrono::TimeDelta;
use futures_util::FutureExt;

use super::cache_writer::{CacheWriter, revert};
use super::failures::{database_failed, database_worked};
use super::sync_publisher::SyncPublisher;
use crate::config::RetryOptions;
use crate::domain::LedgerRow;
use crate::messages::{Sync, SyncOutcome};
use crate::store::{Claimed, Lease, Store};
use crate::telemetry::{RowsClaimed, RowsUnreadable, RowsUnserved};

/// The action's name in logs.
const CLAIMING: &str = "claiming due ledger rows";

/// The number of rounds from one look for rows that no process claims to the next: ten seconds.
const LOOK_EVERY: u64 = 20;

/// How long a row must have been due until every worker that serves its resource type has had time to claim it.
const UNCLAIMED: TimeDelta = TimeDelta::seconds(10);

/// The actor.
pub struct RetryScheduler {
    store: Arc<Store>,
    sync_publisher: Mailbox<SyncPublisher>,
    cache_writer: Mailbox<CacheWriter>,
    options: RetryOptions,
    rounds: AtomicU64,
    /// The resource types that the log has reported as served by no worker.
    unserved: Mutex<BTreeSet<String>>,
    context: Context<Self>,
}

impl Actor for RetryScheduler {
    const NAME: &'static str = "retry_scheduler";

    fn details(&self) -> serde_json::Value {
        serde_json::json!({
            "interval_ms": self.options.interval.as_millis() as u64,
            "rounds": self.rounds.load(Ordering::Relaxed),
        })
    }

    fn schedule(&self) -> Option<Schedule> {
        Some(Schedule {
            every: self.options.interval,
            at_once: false,
        })
    }

    async fn tick(self: Arc<Self>) {
        let is_idle = self.claim().await;
        let rounds = self.rounds.fetch_add(1, Ordering::Relaxed);
        // While this process has rows to claim, others may be late too.
        if is_idle && rounds.is_multiple_of(LOOK_EVERY) {
            self.report_unserved().await;
        }
    }
}

impl RetryScheduler {
    /// Returns a scheduler that hands rows to this sync publisher, and reverts dead events through this cache
    /// writer.
    #[must_use]
    pub const fn new(
        store: Arc<Store>,
        sync_publisher: Mailbox<SyncPublisher>,
        cache_writer: Mailbox<CacheWriter>,
        options: RetryOptions,
        context: Context<Self>,
    ) -> Self {
        Self {
            store,
            sync_publisher,
            cache_writer,
            options,
            rounds: AtomicU64::new(0),
            unserved: Mutex::new(BTreeSet::new()),
            context,
        }
    }

    /// Claims until nothing is due or the sync publisher has no room. The room is reserved before the claim, so
    /// that each claimed row is worked on during its lease. Returns whether nothing more was due.
    async fn claim(self: &Arc<Self>) -> bool {
        loop {
            let Ok(slot) = self.sync_publisher.reserve(self.options.largest_claim) else {
                return false;
            };
            let lease = Lease {
                now: self.store.now(),
                duration: self.options.lease,
                // A claimed row keeps the number of retries that it was recorded with.
                max_retries: 0,
            };
            let claimed = match self.store.claim(lease, self.options.largest_claim).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    database_failed(&self.context, CLAIMING, &error);
                    return false;
                }
            };
            database_worked(CLAIMING);
            let Claimed {
                rows,
                dead,
                unreadable,
            } = claimed;
            let taken = rows.len() + dead.len() + unreadable.len();
            if taken == 0 {
                return true;
            }
            self.context.progress(taken);
            RowsClaimed {
                rows: rows.len(),
                dead: dead.len(),
            }
            .emit();
            if let Some((first, error)) = unreadable.first() {
                RowsUnreadable {
                    rows: unreadable.len(),
                    first,
                    error,
                }
                .emit();
            }
            revert(&self.cache_writer, &dead).await;
            if rows.is_empty() {
                continue;
            }
            let full = taken >= self.options.largest_claim;
            let synced = slot.ask(Sync { rows: rows.clone() });
            let holding = Arc::clone(self).hold(rows, synced, lease);
            if !full {
                self.context.spawn(holding.map(drop));
                return true;
            }
            if !holding.await || self.context.is_stopping() {
                return false;
            }
        }
    }

    /// Reports a resource type whose due rows no worker has claimed, once.
    async fn report_unserved(&self) {
        let before = self.store.now() - UNCLAIMED;
        // The next claim reports a database that does not answer.
        let Ok(found) = self.store.unserved_type(before).await else {
            return;
        };
        let mut reported = self.unserved.lock().unwrap_or_else(PoisonError::into_inner);
        match found {
            None => reported.clear(),
            Some(resource_type) if reported.contains(&resource_type) => {}
            Some(resource_type) => {
                RowsUnserved {
                    resource_type: &resource_type,
                }
                .emit();
                reported.insert(resource_type);
            }
        }
    }

    /// Renews the lease on claimed rows until the sync publisher answers, so that only a worker that died or hangs
    /// loses them: an attempt may have to wait for a lane, and for locks. Returns whether the sync publisher has
    /// answered.
    async fn hold(
        self: Arc<Self>,
        rows: Vec<LedgerRow>,
        mut synced: Answer<SyncOutcome>,
        claimed: Lease,
    ) -> bool {
        let mut wait = claimed.renew_every();
        loop {
            if let Ok(synced) = tokio::time::timeout(wait, &mut synced).await {
                return synced.is_ok();
            }
            let lease = Lease {
                now: self.store.now(),
                ..claimed
            };
            // After a failure the next attempt follows soon: other workers claim the rows when the lease expires.
            wait = match self.store.renew(&rows, lease).await {
                Ok(()) => claimed.renew_every(),
                Err(error) => {
                    self.context.failed(&error);
                    claimed.renew_every() / 5
                }
            };
        }
    }
}
