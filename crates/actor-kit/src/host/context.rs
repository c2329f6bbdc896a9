//! What an actor sees of its host: its statistics, work beside its batches, and its own queues.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use actix::WeakAddr;
use futures_util::FutureExt;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::{Host, Requeue};
use crate::actor::{Actor, BatchActor};
use crate::envelope::Request;
use crate::panics::message_of;
use crate::stats::ActorStats;

/// An actor's access to its host: statistics, work beside its batches, and its own queues.
pub struct Context<A: Actor> {
    shared: Arc<Shared>,
    addr: WeakAddr<Host<A>>,
}

impl<A: Actor> Clone for Context<A> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            addr: self.addr.clone(),
        }
    }
}

struct Shared {
    stats: Arc<ActorStats>,
    stopping: AtomicBool,
    /// The number of spawned futures that have not ended.
    running: AtomicUsize,
    idle: Notify,
    tick: Arc<Semaphore>,
}

impl<A: Actor> Context<A> {
    pub(crate) fn new(stats: Arc<ActorStats>, addr: WeakAddr<Host<A>>) -> Self {
        let shared = Shared {
            stats,
            stopping: AtomicBool::new(false),
            running: AtomicUsize::new(0),
            idle: Notify::new(),
            tick: Arc::new(Semaphore::new(1)),
        };
        Self {
            shared: Arc::new(shared),
            addr,
        }
    }

    /// Counts events as done.
    pub fn progress(&self, events: usize) {
        self.shared.stats.progress(events);
    }

    /// Counts a failed attempt, and keeps its message as the last error.
    pub fn failed(&self, error: &(impl ToString + ?Sized)) {
        self.shared.stats.failed(error.to_string());
    }

    /// Returns whether the actor starts no further work of its own, because it stops or is paused.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Relaxed) || self.shared.stats.is_paused()
    }

    /// Returns whether a tick runs.
    #[must_use]
    pub fn is_ticking(&self) -> bool {
        self.shared.tick.available_permits() == 0
    }

    /// Runs work beside the actor, so that a restart does not cut it off. A panic in it is counted and reported.
    pub fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        let running = Running::start(&self.shared);
        let waits = Arc::clone(&self.shared.stats.waits);
        actix::spawn(waits.run(async move {
            let stats = &running.0.stats;
            let mut work = pin!(AssertUnwindSafe(work).catch_unwind());
            let worked = poll_fn(|context| {
                let _turn = stats.turn();
                work.as_mut().poll(context)
            });
            if let Err(payload) = worked.await {
                stats.panicked(message_of(payload.as_ref()));
            }
        }));
    }

    /// Adds items to this actor's own queue of `M`. They need no room in the mailbox: the envelopes in them keep
    /// their permits.
    pub fn requeue<M: Request>(&self, items: Vec<A::Item>)
    where
        A: BatchActor<M>,
    {
        // An actor without an address has stopped, and dropping the items tells their senders.
        if let Some(addr) = self.addr.upgrade() {
            addr.do_send(Requeue::<A, M>(items));
        }
    }

    /// Returns the actor's statistics.
    pub(super) fn stats(&self) -> &Arc<ActorStats> {
        &self.shared.stats
    }

    pub(super) fn start_tick(&self) -> Option<OwnedSemaphorePermit> {
        if self.is_stopping() {
            return None;
        }
        Arc::clone(&self.shared.tick).try_acquire_owned().ok()
    }

    pub(super) fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
    }

    /// Waits until no spawned work runs.
    pub(super) async fn idle(&self) {
        loop {
            let notified = self.shared.idle.notified();
            if self.shared.running.load(Ordering::Relaxed) == 0 {
                return;
            }
            notified.await;
        }
    }
}

/// Counts as running work until it is dropped.
struct Running(Arc<Shared>);

impl Running {
    fn start(shared: &Arc<Shared>) -> Self {
        shared.running.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}
