//! Claims ledger rows that are due: failed ones whose back-off is over, and abandoned ones whose lease
//! has run out. Hands them to the sync publisher.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use actix::{Actor, AsyncContext, Context, Handler, Supervised};
use futures_util::FutureExt;

use super::cache_writer::{CacheWriter, revert};
use super::kit::{ActorStats, Answer, InjectPanic, Mailbox, Turn, spawn_work};
use super::sync_publisher::SyncPublisher;
use crate::config::RetryOptions;
use crate::domain::LedgerRow;
use crate::messages::Sync;
use crate::store::{Claimed, Lease, Store};
use crate::telemetry::{Dependency, DependencyFailed, DependencyWorked, RowsClaimed};

/// What the log calls a claim.
const CLAIMING: &str = "claiming due ledger rows";

/// The actor.
pub struct RetryScheduler {
    round: Arc<Round>,
}

impl RetryScheduler {
    /// Its name in the registry.
    pub const NAME: &'static str = "retry_scheduler";

    /// A scheduler that hands on to this sync publisher, and takes dead events back through this cache
    /// writer.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        sync_publisher: Mailbox<SyncPublisher>,
        cache_writer: Mailbox<CacheWriter>,
        options: RetryOptions,
        stats: Arc<ActorStats>,
    ) -> Self {
        let round = Arc::new(Round {
            store,
            sync_publisher,
            cache_writer,
            options,
            stats,
            turn: Turn::default(),
            stopped: AtomicBool::new(false),
            rounds: AtomicU64::new(0),
        });
        let watched = Arc::downgrade(&round);
        round.stats.set_details(move || {
            let rounds = watched
                .upgrade()
                .map_or(0, |round| round.rounds.load(Ordering::Relaxed));
            serde_json::json!({
                "interval_ms": options.interval.as_millis() as u64,
                "rounds": rounds,
            })
        });
        Self { round }
    }

    fn tick(&self) {
        // One round at a time: while the last one still waits for the database, this tick is skipped.
        if self.round.stopped.load(Ordering::Relaxed) {
            return;
        }
        let Some(turn) = self.round.turn.take() else {
            return;
        };
        let round = Arc::clone(&self.round);
        spawn_work(Arc::clone(&self.round.stats), async move {
            let _turn = turn;
            round.claim().await;
        });
    }
}

impl Actor for RetryScheduler {
    type Context = Context<Self>;

    // Called at the start and after every restart, so that the schedule survives panics.
    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(self.round.options.interval, |actor, _| actor.tick());
    }
}

impl Supervised for RetryScheduler {}

impl Handler<InjectPanic> for RetryScheduler {
    type Result = ();

    fn handle(&mut self, _: InjectPanic, _: &mut Self::Context) {
        panic!("provoked by fault injection");
    }
}

/// Ends the schedule: no further claims. Sent at shutdown, before the mailboxes are drained.
#[derive(Debug)]
pub struct StopClaiming;

impl actix::Message for StopClaiming {
    type Result = ();
}

impl Handler<StopClaiming> for RetryScheduler {
    type Result = ();

    fn handle(&mut self, _: StopClaiming, _: &mut Self::Context) {
        self.round.stopped.store(true, Ordering::Relaxed);
    }
}

/// What the scheduler does at each tick, without actix.
struct Round {
    store: Arc<Store>,
    sync_publisher: Mailbox<SyncPublisher>,
    cache_writer: Mailbox<CacheWriter>,
    options: RetryOptions,
    stats: Arc<ActorStats>,
    turn: Turn,
    stopped: AtomicBool,
    rounds: AtomicU64,
}

impl Round {
    /// Claims until nothing is due or the sync publisher has no room. The room is taken before the
    /// claim, so that no row is held under a lease that nobody works on.
    async fn claim(self: &Arc<Self>) {
        loop {
            let Ok(slot) = self.sync_publisher.reserve(self.options.largest_claim) else {
                break;
            };
            let lease = Lease {
                now: self.store.now(),
                duration: self.options.lease,
                // A claimed row keeps the bound it was born with.
                max_retries: 0,
            };
            let claimed = match self.store.claim(lease, self.options.largest_claim).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    self.stats.failed(&error);
                    if error.is_news() {
                        DependencyFailed {
                            dependency: Dependency::Database,
                            doing: CLAIMING,
                            error: &error,
                        }
                        .emit();
                    }
                    break;
                }
            };
            DependencyWorked {
                dependency: Dependency::Database,
                doing: CLAIMING,
            }
            .emit();
            let Claimed { rows, dead } = claimed;
            let taken = rows.len() + dead.len();
            if taken == 0 {
                break;
            }
            self.stats.progress(taken);
            RowsClaimed {
                rows: rows.len(),
                dead: dead.len(),
            }
            .emit();
            revert(&self.cache_writer, &dead).await;
            if rows.is_empty() {
                continue;
            }
            let full = taken == self.options.largest_claim;
            let synced = slot.ask(Sync { rows: rows.clone() });
            let holding = Arc::clone(self).hold(rows, synced, lease);
            if !full {
                spawn_work(Arc::clone(&self.stats), holding.map(drop));
                break;
            }
            if !holding.await || self.stopped.load(Ordering::Relaxed) {
                break;
            }
        }
        self.rounds.fetch_add(1, Ordering::Relaxed);
    }

    /// Renews the lease on claimed rows until the sync publisher is done with them, so that only a worker
    /// that died or hangs loses them: an attempt may have to wait for its turn, and for locks. Answers whether
    /// the sync publisher has answered.
    async fn hold(
        self: Arc<Self>,
        rows: Vec<LedgerRow>,
        mut synced: Answer<()>,
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
            // Soon again after a failure: others take the rows when the lease has run out.
            wait = match self.store.renew(&rows, lease).await {
                Ok(()) => claimed.renew_every(),
                Err(error) => {
                    self.stats.failed(&error);
                    claimed.renew_every() / 5
                }
            };
        }
    }
}
