//! A bounded mailbox in front of an actor.
//!
//! Actix bounds each sender, not the mailbox, and a clone of an address is a new sender. Here every
//! envelope carries a permit instead, so that the bound holds however often the mailbox is cloned, and
//! the envelope keeps it until its work is done: the depth counts what waits and what is being worked
//! on. Used by everything that sends a message to an actor.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

/// A typed message, and what answers it.
pub trait Request: Send + 'static {
    /// The answer; `()` for messages that only ask for something to happen.
    type Reply: Send + 'static;

    /// How much of the mailbox's capacity it takes: the number of events it carries, at least one.
    fn weight(&self) -> usize {
        1
    }
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The mailbox is full.
    #[error("the mailbox of {0} is full")]
    Full(&'static str),
    /// The actor has stopped for good.
    #[error("{0} has stopped")]
    Stopped(&'static str),
}

/// The actor dropped the message without an answer: it panicked over it or has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the actor gave no answer")]
pub struct Closed;

/// A message on its way, with the room it takes and the way back.
#[derive(Debug)]
pub struct Envelope<M: Request> {
    /// The message.
    pub body: M,
    /// Where the answer goes.
    pub reply: Reply<M::Reply>,
    /// The room it takes, until it is dropped.
    pub room: Room,
}

impl<M: Request> actix::Message for Envelope<M> {
    type Result = ();
}

/// The way back of a envelope. Whoever asked may have gone away; then the answer is dropped.
#[derive(Debug)]
pub struct Reply<R>(Option<oneshot::Sender<R>>);

impl<R> Reply<R> {
    /// Answers.
    pub fn send(mut self, answer: R) {
        if let Some(sender) = self.0.take() {
            // An asker who no longer listens is no failure: the work is done all the same.
            let _ = sender.send(answer);
        }
    }
}

/// An answer that is on its way. Dropping it does not cancel the work.
#[derive(Debug)]
pub struct Answer<R>(oneshot::Receiver<R>);

impl<R> Future for Answer<R> {
    type Output = Result<R, Closed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(|_| Closed)
    }
}

/// How full a mailbox is, shared by its clones and the registry.
#[derive(Debug)]
pub struct Gauge {
    name: &'static str,
    capacity: usize,
    permits: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
    idle: Notify,
}

/// When each envelope arrived, oldest first. A slot is cleared when its envelope is done, and leaves once
/// it is the oldest, so the front is always the arrival of the oldest envelope that is not done.
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

    /// The most it can hold, in weight.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// What it holds now, in weight: waiting, reserved or being worked on.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.capacity - self.permits.available_permits()
    }

    /// How long the oldest envelope has been there; `None` if there is none.
    #[must_use]
    pub fn oldest(&self) -> Option<Duration> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = waiting.arrivals.front().copied().flatten();
        oldest.map(|arrival| arrival.elapsed())
    }

    /// Waits until it holds nothing.
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

/// Weight taken of a mailbox, with or without a envelope in it. Dropping it gives the weight back, and
/// tells who waits for the mailbox to be idle.
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

/// The room that one envelope takes in a mailbox. Dropping it gives the room back.
#[derive(Debug)]
pub struct Room {
    share: Share,
    ticket: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.share.gauge.leave(self.ticket);
    }
}

/// The cheap handle in front of an actor.
pub struct Mailbox<A: Actor> {
    addr: Addr<A>,
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
    /// A mailbox of this capacity, in weight, for the actor of this name.
    #[must_use]
    pub fn new(name: &'static str, addr: Addr<A>, capacity: usize) -> Self {
        Self {
            addr,
            gauge: Gauge::new(name, capacity),
        }
    }

    /// How full it is.
    #[must_use]
    pub const fn gauge(&self) -> &Arc<Gauge> {
        &self.gauge
    }

    /// The actor's bare address, for what carries no work: the supervisor's own signals.
    #[must_use]
    pub const fn addr(&self) -> &Addr<A> {
        &self.addr
    }

    /// Takes room for a message of this weight, without waiting. What does not fit in an empty
    /// mailbox takes all of it.
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

    /// Takes room for a message of this weight, and waits for it if need be.
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

    /// Sends a message, if there is room for it now.
    ///
    /// # Errors
    /// If there is not, or the actor has stopped.
    pub fn ask<M: Request>(&self, body: M) -> Result<Answer<M::Reply>, Refused>
    where
        A: Handler<Envelope<M>>,
        A::Context: ToEnvelope<A, Envelope<M>>,
    {
        Ok(self.reserve(body.weight())?.ask(body))
    }

    /// Sends a message as soon as there is room for it.
    ///
    /// # Errors
    /// If the actor has stopped.
    pub async fn ask_or_wait<M: Request>(&self, body: M) -> Result<Answer<M::Reply>, Refused>
    where
        A: Handler<Envelope<M>>,
        A::Context: ToEnvelope<A, Envelope<M>>,
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

/// Room taken in a mailbox for a message that is about to be sent. Dropping it gives the room back.
pub struct Slot<A: Actor> {
    addr: Addr<A>,
    share: Share,
}

impl<A: Actor> Slot<A> {
    /// Sends the message. From here on it is the actor's, whether or not the answer is awaited.
    pub fn ask<M: Request>(self, body: M) -> Answer<M::Reply>
    where
        A: Handler<Envelope<M>>,
        A::Context: ToEnvelope<A, Envelope<M>>,
    {
        let (sender, receiver) = oneshot::channel();
        let ticket = self.share.gauge.arrive();
        self.addr.do_send(Envelope {
            body,
            reply: Reply(Some(sender)),
            room: Room {
                share: self.share,
                ticket,
            },
        });
        Answer(receiver)
    }
}

#[cfg(test)]
mod tests {
    use actix::Context;

    use super::*;

    struct Work(u32);

    impl Request for Work {
        type Reply = u32;

        fn weight(&self) -> usize {
            self.0 as usize
        }
    }

    /// Keeps what it is sent until it is told to finish.
    #[derive(Default)]
    struct Slow(Vec<Envelope<Work>>);

    impl Actor for Slow {
        type Context = Context<Self>;
    }

    impl Handler<Envelope<Work>> for Slow {
        type Result = ();

        fn handle(&mut self, envelope: Envelope<Work>, _: &mut Self::Context) {
            self.0.push(envelope);
        }
    }

    struct Finish;

    impl actix::Message for Finish {
        type Result = usize;
    }

    impl Handler<Finish> for Slow {
        type Result = usize;

        fn handle(&mut self, _: Finish, _: &mut Self::Context) -> usize {
            let done = self.0.len();
            for envelope in self.0.drain(..) {
                let answer = envelope.body.0;
                envelope.reply.send(answer);
            }
            done
        }
    }

    fn mailbox(capacity: usize) -> Mailbox<Slow> {
        Mailbox::new("slow", Slow::default().start(), capacity)
    }

    #[actix::test]
    async fn cloned_mailboxes_share_one_capacity() {
        let mailbox = mailbox(4);
        let taken = (0..100)
            .filter(|_| mailbox.clone().ask(Work(1)).is_ok())
            .count();
        assert_eq!(taken, 4);
        assert_eq!(mailbox.gauge().depth(), 4);
    }

    #[actix::test]
    async fn capacity_counts_weight_and_work_in_progress() {
        let mailbox = mailbox(10);
        assert!(mailbox.ask(Work(8)).is_ok());
        assert!(mailbox.ask(Work(3)).is_err());
        assert_eq!(mailbox.gauge().depth(), 8);
        assert_eq!(mailbox.addr().send(Finish).await, Ok(1));
        assert_eq!(mailbox.gauge().depth(), 0);
        assert!(mailbox.ask(Work(1_000)).is_ok());
        assert_eq!(mailbox.gauge().depth(), 10);
    }

    #[actix::test]
    async fn oldest_wait_is_that_of_the_oldest_open_envelope() {
        let mailbox = mailbox(10);
        assert_eq!(mailbox.gauge().oldest(), None);
        let first = mailbox.ask(Work(1)).expect("room");
        let second = mailbox.ask(Work(2)).expect("room");
        assert!(mailbox.gauge().oldest().is_some());
        let idle = mailbox.gauge().idle();
        assert_eq!(mailbox.addr().send(Finish).await, Ok(2));
        assert_eq!((first.await, second.await), (Ok(1), Ok(2)));
        idle.await;
        assert_eq!(mailbox.gauge().oldest(), None);
    }

    #[actix::test]
    async fn dropped_caller_does_not_cancel_the_work() {
        let mailbox = mailbox(10);
        drop(mailbox.ask(Work(1)).expect("room"));
        assert_eq!(mailbox.addr().send(Finish).await, Ok(1));
    }

    #[actix::test]
    async fn unused_reservation_leaves_the_mailbox_idle() {
        let mailbox = mailbox(10);
        let slot = mailbox.reserve(10).expect("room");
        let idle = mailbox.gauge().idle();
        let (idled, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(5), idle), async {
            drop(slot);
        });
        assert_eq!(idled, Ok(()));
    }

    #[actix::test]
    async fn waiting_for_capacity_ends_when_it_is_free() {
        let mailbox = mailbox(1);
        let first = mailbox.ask(Work(1)).expect("room");
        let (second, done) = tokio::join!(mailbox.ask_or_wait(Work(1)), async {
            mailbox.addr().send(Finish).await
        });
        assert_eq!(done, Ok(1));
        assert_eq!(first.await, Ok(1));
        assert!(second.is_ok());
    }
}
