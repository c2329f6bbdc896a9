//! What an actor implements, and what it sees of its host.

use std::any::Any;
use std::future::{Future, ready};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use actix::WeakAddr;
use futures_util::FutureExt;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::batcher::Weigh;
use crate::host::{Host, Requeue};
use crate::mailbox::{Envelope, Request};
use crate::registry::ActorStats;

/// An actor. Its state is shared by the work that runs at the same time, and by readers of its details.
pub trait Actor: Send + Sync + Sized + 'static {
    /// The name in reports, logs and errors.
    const NAME: &'static str;

    /// Returns facts that only this actor knows, as a JSON object, for its report.
    fn details(&self) -> serde_json::Value {
        serde_json::json!({})
    }

    /// Returns when [`tick`](Self::tick) runs; `None` if never. The schedule survives restarts.
    fn schedule(&self) -> Option<Schedule> {
        None
    }

    /// Does the periodic work. While one tick runs, further ticks are skipped.
    fn tick(self: Arc<Self>) -> impl Future<Output = ()> + 'static {
        ready(())
    }

    /// Called once no further tick starts, to end the one that runs.
    fn stopping(&self) {}
}

/// An actor that takes messages of type `M`, in batches.
pub trait BatchActor<M: Request>: Actor {
    /// The element of a batch: the envelope, or a type that also stands for other work of the same kind.
    type Item: From<Envelope<M>> + Weigh + 'static;

    /// Returns the bounds of the batches of this message.
    fn limits(&self) -> BatchLimits;

    /// Works on one batch and answers its envelopes. An envelope that is dropped without an answer, also by a
    /// panic, is [`Closed`](crate::Closed) for its sender.
    fn run(self: Arc<Self>, batch: Vec<Self::Item>) -> impl Future<Output = ()> + 'static;
}

/// The bounds of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// The largest weight of a batch. A heavier item goes alone.
    pub largest: usize,
    /// The number of batches that run at the same time.
    pub lanes: usize,
}

/// When ticks start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The time from one tick to the next.
    pub every: Duration,
    /// Whether one tick also starts with the actor, and after each restart.
    pub at_once: bool,
}

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

    /// Returns whether the actor starts no further work of its own.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Relaxed)
    }

    /// Returns whether a tick runs.
    #[must_use]
    pub fn is_ticking(&self) -> bool {
        self.shared.tick.available_permits() == 0
    }

    /// Runs work beside the actor, so that a restart does not cut it off. A panic in it is counted and reported.
    pub fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        let running = Running::start(&self.shared);
        actix::spawn(async move {
            if let Err(payload) = AssertUnwindSafe(work).catch_unwind().await {
                running.0.stats.panicked(message_of(payload.as_ref()));
            }
        });
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

    pub(crate) fn start_tick(&self) -> Option<OwnedSemaphorePermit> {
        if self.is_stopping() {
            return None;
        }
        Arc::clone(&self.shared.tick).try_acquire_owned().ok()
    }

    pub(crate) fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
    }

    /// Waits until no spawned work runs.
    pub(crate) async fn idle(&self) {
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

pub(crate) fn message_of(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
