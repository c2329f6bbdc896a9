//! A bounded mailbox in front of an actor. Every sender of a message uses it.
//!
//! Actix bounds each sender, not the mailbox, and a clone of an address is a new sender. Here every envelope
//! carries a permit, so the bound holds for all clones of a mailbox together. The envelope keeps the permit until
//! its work is done, so the depth counts waiting and running work.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix::Addr;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use crate::actor::{Actor, BatchActor};
use crate::host::{Host, Stop};

/// A typed message.
pub trait Request: Send + 'static {
    /// The answer; `()` if only the end of the work matters.
    type Reply: Send + 'static;

    /// Returns its share of the mailbox's capacity: the number of events in it, at least one.
    fn weight(&self) -> usize {
        1
    }
}

/// Why a mailbox refused a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The mailbox is full.
    #[error("the mailbox of {0} is full")]
    Full(&'static str),
    /// The actor has stopped for good.
    #[error("{0} has stopped")]
    Stopped(&'static str),
}

/// The actor dropped the message without an answer: it panicked or has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the actor gave no answer")]
pub struct Closed;

/// A message with its permit and its reply channel.
#[derive(Debug)]
pub struct Envelope<M: Request> {
    /// The message.
    pub body: M,
    /// Sends the answer.
    pub reply: Reply<M::Reply>,
    /// Its share of the mailbox's capacity, until it is dropped.
    pub permit: Permit,
}

impl<M: Request> actix::Message for Envelope<M> {
    type Result = ();
}

/// Sends the answer of one message. If the sender no longer waits, the answer is dropped.
#[derive(Debug)]
pub struct Reply<R>(Option<oneshot::Sender<R>>);

impl<R> Reply<R> {
    /// Answers.
    pub fn send(mut self, answer: R) {
        if let Some(sender) = self.0.take() {
            // A sender that no longer waits is no failure: the work is done.
            let _ = sender.send(answer);
        }
    }
}

/// The future answer. Dropping it does not cancel the work.
#[derive(Debug)]
pub struct Answer<R>(oneshot::Receiver<R>);

impl<R> Future for Answer<R> {
    type Output = Result<R, Closed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(|_| Closed)
    }
}

/// The fill level of a mailbox, shared by its clones and the registry.
#[derive(Debug)]
pub struct Gauge {
    name: &'static str,
    capacity: usize,
    permits: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
    idle: Notify,
}

/// The arrival times of the envelopes, oldest first. An entry is cleared when its envelope is done, and removed
/// once it is the oldest, so the front is always the arrival of the oldest envelope in work.
#[derive(Debug, Default)]
struct Waiting {
    arrivals: VecDeque<Option<Instant>>,
    first: u64,
}

impl Gauge {
    fn new(name: &'static str, capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            name,
            capacity,
            permits: Arc::new(Semaphore::new(capacity)),
            waiting: Mutex::default(),
            idle: Notify::new(),
        })
    }

    /// Returns the capacity, in weight.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Returns the reserved, waiting and running work, in weight.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.capacity - self.permits.available_permits()
    }

    /// Returns the age of the oldest envelope; `None` if there is none.
    #[must_use]
    pub fn oldest(&self) -> Option<Duration> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = waiting.arrivals.front().copied().flatten();
        oldest.map(|arrival| arrival.elapsed())
    }

    /// Waits until the mailbox is empty.
    pub async fn idle(&self) {
        loop {
            let notified = self.idle.notified();
            if self.depth() == 0 {
                return;
            }
            notified.await;
        }
    }

    fn arrive(&self) -> u64 {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.arrivals.push_back(Some(Instant::now()));
        waiting.first + waiting.arrivals.len() as u64 - 1
    }

    fn leave(&self, ticket: u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let index = (ticket - waiting.first) as usize;
        waiting.arrivals[index] = None;
        while let Some(None) = waiting.arrivals.front() {
            waiting.arrivals.pop_front();
            waiting.first += 1;
        }
    }
}

/// Weight taken from a mailbox, with or without an envelope. Dropping it returns the weight, and wakes tasks that
/// wait for the mailbox to be empty.
#[derive(Debug)]
struct Share {
    gauge: Arc<Gauge>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.permit.take();
        if self.gauge.depth() == 0 {
            self.gauge.idle.notify_waiters();
        }
    }
}

/// The share of a mailbox that one envelope takes. Dropping it returns the share.
#[derive(Debug)]
pub struct Permit {
    share: Share,
    ticket: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.share.gauge.leave(self.ticket);
    }
}

/// The cheap handle in front of an actor. An actor whose mailboxes are all dropped stops.
pub struct Mailbox<A: Actor> {
    addr: Addr<Host<A>>,
    gauge: Arc<Gauge>,
}

impl<A: Actor> Clone for Mailbox<A> {
    fn clone(&self) -> Self {
        Self {
            addr: self.addr.clone(),
            gauge: Arc::clone(&self.gauge),
        }
    }
}

impl<A: Actor> Mailbox<A> {
    pub(crate) fn new(addr: Addr<Host<A>>, capacity: usize) -> Self {
        Self {
            addr,
            gauge: Gauge::new(A::NAME, capacity),
        }
    }

    /// Returns its fill level.
    #[must_use]
    pub const fn gauge(&self) -> &Arc<Gauge> {
        &self.gauge
    }

    /// Ends the actor's ticks at once. The future is ready when its running ticks, batches and spawned work have
    /// ended; it need not be awaited.
    pub fn stop(&self) -> impl Future<Output = ()> + use<A> {
        let (sender, stopped) = oneshot::channel();
        self.addr.do_send(Stop(sender));
        async move {
            // An actor that is gone has stopped.
            let _ = stopped.await;
        }
    }

    /// Reserves room for a message of this weight, without waiting. A message heavier than the capacity takes
    /// all of it.
    ///
    /// # Errors
    /// If there is not enough room, or the actor has stopped.
    pub fn reserve(&self, weight: usize) -> Result<Slot<A>, Refused> {
        let permits = Arc::clone(&self.gauge.permits);
        let permit = permits
            .try_acquire_many_owned(self.permits_for(weight))
            .map_err(|_| Refused::Full(self.gauge.name))?;
        self.slot(permit)
    }

    /// Waits for room for a message of this weight, and reserves it.
    ///
    /// # Errors
    /// If the actor has stopped.
    pub async fn reserve_or_wait(&self, weight: usize) -> Result<Slot<A>, Refused> {
        let permits = Arc::clone(&self.gauge.permits);
        let permit = permits
            .acquire_many_owned(self.permits_for(weight))
            .await
            .map_err(|_| Refused::Stopped(self.gauge.name))?;
        self.slot(permit)
    }

    /// Sends a message, without waiting for room.
    ///
    /// # Errors
    /// If there is not enough room, or the actor has stopped.
    pub fn ask<M: Request>(&self, body: M) -> Result<Answer<M::Reply>, Refused>
    where
        A: BatchActor<M>,
    {
        Ok(self.reserve(body.weight())?.ask(body))
    }

    /// Waits for room for a message, and sends it.
    ///
    /// # Errors
    /// If the actor has stopped.
    pub async fn ask_or_wait<M: Request>(&self, body: M) -> Result<Answer<M::Reply>, Refused>
    where
        A: BatchActor<M>,
    {
        Ok(self.reserve_or_wait(body.weight()).await?.ask(body))
    }

    fn permits_for(&self, weight: usize) -> u32 {
        u32::try_from(weight.clamp(1, self.gauge.capacity)).unwrap_or(u32::MAX)
    }

    fn slot(&self, permit: OwnedSemaphorePermit) -> Result<Slot<A>, Refused> {
        let share = Share {
            gauge: Arc::clone(&self.gauge),
            permit: Some(permit),
        };
        if !self.addr.connected() {
            return Err(Refused::Stopped(self.gauge.name));
        }
        Ok(Slot {
            addr: self.addr.clone(),
            share,
        })
    }
}

/// Reserved room in a mailbox for one message. Dropping it returns the room.
pub struct Slot<A: Actor> {
    addr: Addr<Host<A>>,
    share: Share,
}

impl<A: Actor> Slot<A> {
    /// Sends the message. The actor works on it whether or not the answer is awaited.
    pub fn ask<M: Request>(self, body: M) -> Answer<M::Reply>
    where
        A: BatchActor<M>,
    {
        let (sender, receiver) = oneshot::channel();
        let ticket = self.share.gauge.arrive();
        self.addr.do_send(Envelope {
            body,
            reply: Reply(Some(sender)),
            permit: Permit {
                share: self.share,
                ticket,
            },
        });
        Answer(receiver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BatchLimits;
    use crate::testing::{starter, until};

    struct Work(u32);

    impl Request for Work {
        type Reply = u32;

        fn weight(&self) -> usize {
            self.0 as usize
        }
    }

    /// Keeps its envelopes until the test finishes them.
    struct Slow(Arc<Mutex<Vec<Envelope<Work>>>>);

    impl Actor for Slow {
        const NAME: &'static str = "slow";
    }

    impl BatchActor<Work> for Slow {
        type Item = Envelope<Work>;

        fn limits(&self) -> BatchLimits {
            BatchLimits {
                largest: 1,
                lanes: 1,
            }
        }

        async fn run(self: Arc<Self>, batch: Vec<Envelope<Work>>) {
            self.0.lock().expect("kept envelopes").extend(batch);
        }
    }

    struct Bench {
        mailbox: Mailbox<Slow>,
        kept: Arc<Mutex<Vec<Envelope<Work>>>>,
    }

    impl Bench {
        fn new(capacity: usize) -> Self {
            let kept = Arc::<Mutex<Vec<_>>>::default();
            let mailbox = starter(capacity).start(|_| Slow(Arc::clone(&kept)));
            Self { mailbox, kept }
        }

        /// Answers so many envelopes, once they have arrived.
        async fn finish(&self, count: usize) {
            until(|| self.kept.lock().expect("kept envelopes").len() == count).await;
            for envelope in self.kept.lock().expect("kept envelopes").drain(..) {
                let answer = envelope.body.0;
                envelope.reply.send(answer);
            }
        }
    }

    #[actix::test]
    async fn cloned_mailboxes_share_one_capacity() {
        let Bench { mailbox, .. } = Bench::new(4);
        let taken = (0..100)
            .filter(|_| mailbox.clone().ask(Work(1)).is_ok())
            .count();
        assert_eq!(taken, 4);
        assert_eq!(mailbox.gauge().depth(), 4);
    }

    #[actix::test]
    async fn capacity_counts_weight_and_work_in_progress() {
        let bench = Bench::new(10);
        assert!(bench.mailbox.ask(Work(8)).is_ok());
        assert!(bench.mailbox.ask(Work(3)).is_err());
        assert_eq!(bench.mailbox.gauge().depth(), 8);
        bench.finish(1).await;
        assert_eq!(bench.mailbox.gauge().depth(), 0);
        assert!(bench.mailbox.ask(Work(1_000)).is_ok());
        assert_eq!(bench.mailbox.gauge().depth(), 10);
    }

    #[actix::test]
    async fn oldest_wait_is_that_of_the_oldest_open_envelope() {
        let bench = Bench::new(10);
        assert_eq!(bench.mailbox.gauge().oldest(), None);
        let first = bench.mailbox.ask(Work(1)).expect("room");
        let second = bench.mailbox.ask(Work(2)).expect("room");
        assert!(bench.mailbox.gauge().oldest().is_some());
        let idle = bench.mailbox.gauge().idle();
        bench.finish(2).await;
        assert_eq!((first.await, second.await), (Ok(1), Ok(2)));
        idle.await;
        assert_eq!(bench.mailbox.gauge().oldest(), None);
    }

    #[actix::test]
    async fn dropped_caller_does_not_cancel_the_work() {
        let bench = Bench::new(10);
        drop(bench.mailbox.ask(Work(1)).expect("room"));
        bench.finish(1).await;
    }

    #[actix::test]
    async fn unused_reservation_leaves_the_mailbox_idle() {
        let Bench { mailbox, .. } = Bench::new(10);
        let slot = mailbox.reserve(10).expect("room");
        let idle = mailbox.gauge().idle();
        let (idled, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(5), idle), async {
            drop(slot);
        });
        assert_eq!(idled, Ok(()));
    }

    #[actix::test]
    async fn waiting_for_capacity_ends_when_it_is_free() {
        let bench = Bench::new(1);
        let first = bench.mailbox.ask(Work(1)).expect("room");
        let (second, ()) = tokio::join!(bench.mailbox.ask_or_wait(Work(1)), bench.finish(1));
        assert_eq!(first.await, Ok(1));
        assert!(second.is_ok());
    }
}
