//! A bounded mailbox in front of an actor. Every sender of a message uses it.
//!
//! Actix bounds each sender, not the mailbox, and a clone of an address is a new sender. Here every envelope
//! carries a permit, so the bound holds for all clones of a mailbox together. The envelope keeps the permit until
//! its work is done, so the depth counts waiting and running work. Room that is reserved is taken too, but is no
//! depth until its message is sent.

use std::future::Future;
use std::sync::Arc;

use actix::Addr;
use tokio::sync::oneshot;

use crate::actor::{Actor, BatchActor};
use crate::envelope::{Answer, Envelope, Reply, Request};
use crate::gauge::{Gauge, Permit, Share};
use crate::host::{Host, Stop};
use crate::stats::ActorStats;
use crate::waits::wait_for;

/// Why a mailbox refused a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The mailbox is full.
    #[error("the mailbox of {0} is full")]
    Full(&'static str),
    /// An operator has paused the actor. Only senders that wait for room may still send.
    #[error("{0} is paused by an operator")]
    Paused(&'static str),
    /// The actor has stopped for good.
    #[error("{0} has stopped")]
    Stopped(&'static str),
}

/// The cheap handle in front of an actor. An actor whose mailboxes are all dropped stops.
pub struct Mailbox<A: Actor> {
    inner: Arc<Inner<A>>,
}

/// Shared by the clones of a mailbox and its reservations, because a clone of an actix address allocates.
struct Inner<A: Actor> {
    addr: Addr<Host<A>>,
    gauge: Arc<Gauge>,
    stats: Arc<ActorStats>,
}

impl<A: Actor> Clone for Mailbox<A> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<A: Actor> Mailbox<A> {
    pub(crate) fn new(addr: Addr<Host<A>>, capacity: usize, stats: Arc<ActorStats>) -> Self {
        let gauge = Gauge::new(capacity);
        stats.watch_mailbox(&gauge);
        Self {
            inner: Arc::new(Inner { addr, gauge, stats }),
        }
    }

    /// Returns its fill level.
    #[must_use]
    pub fn gauge(&self) -> &Arc<Gauge> {
        &self.inner.gauge
    }

    /// Ends the actor's ticks at once. The future is ready when its running ticks, batches and spawned work have
    /// ended; it need not be awaited.
    pub fn stop(&self) -> impl Future<Output = ()> + use<A> {
        let (sender, stopped) = oneshot::channel();
        self.inner.addr.do_send(Stop(sender));
        async move {
            // A dropped actor has stopped.
            let _ = stopped.await;
        }
    }

    /// Reserves room for a message of this weight, without waiting. A message heavier than the capacity takes
    /// all of it.
    ///
    /// # Errors
    /// If there is not enough room, or the actor is paused or has stopped.
    pub fn reserve(&self, weight: usize) -> Result<Slot<A>, Refused> {
        if self.inner.stats.is_paused() {
            return Err(Refused::Paused(A::NAME));
        }
        let share = self.inner.gauge.try_take(weight);
        self.slot(share.ok_or(Refused::Full(A::NAME))?)
    }

    /// Waits for room for a message of this weight, and reserves it.
    ///
    /// # Errors
    /// If the actor has stopped.
    pub async fn reserve_or_wait(&self, weight: usize) -> Result<Slot<A>, Refused> {
        let _waiting = wait_for(A::NAME);
        let share = self.inner.gauge.take(weight).await;
        self.slot(share.map_err(|_| Refused::Stopped(A::NAME))?)
    }

    /// Sends a message, without waiting for room.
    ///
    /// # Errors
    /// If there is not enough room, or the actor is paused or has stopped.
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

    fn slot(&self, share: Share) -> Result<Slot<A>, Refused> {
        if !self.inner.addr.connected() {
            return Err(Refused::Stopped(A::NAME));
        }
        Ok(Slot {
            mailbox: self.clone(),
            share,
        })
    }
}

/// Reserved room in a mailbox for one message. Dropping it returns the room.
pub struct Slot<A: Actor> {
    mailbox: Mailbox<A>,
    share: Share,
}

impl<A: Actor> Slot<A> {
    /// Sends the message. The actor works on it whether or not the answer is awaited.
    pub fn ask<M: Request>(self, body: M) -> Answer<M::Reply>
    where
        A: BatchActor<M>,
    {
        let Self { mailbox, share } = self;
        let (sender, receiver) = oneshot::channel();
        let (ticket, arrived) = share.gauge.arrive(share.weight);
        let waiting = wait_for(A::NAME);
        mailbox.inner.addr.do_send(Envelope {
            body,
            reply: Reply::new(sender, arrived),
            permit: Permit { share, ticket },
        });
        Answer::new(receiver, waiting)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

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
                spare_lanes: 0,
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

        /// Answers this many envelopes, once they have arrived.
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
    async fn reserved_room_is_no_depth_until_its_message_is_sent() {
        let bench = Bench::new(10);
        let gauge = bench.mailbox.gauge();
        let fill = || (gauge.depth(), gauge.reserved());
        let slot = bench.mailbox.reserve(8).expect("room");
        assert_eq!(fill(), (0, 8));
        assert!(bench.mailbox.reserve(3).is_err());
        let answer = slot.ask(Work(8));
        assert_eq!(fill(), (8, 0));
        bench.finish(1).await;
        assert_eq!(answer.await, Ok(8));
        gauge.idle().await;
        assert_eq!(fill(), (0, 0));
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
