//! A bounded mailbox in front of an actor. Every sender of a message uses it.
//!
//! Actix bounds each sender, not the mailbox, and a clone of an address is a new sender. Here every envelope
//! carries a permit, so the bound holds for all clones of a mailbox together. The envelope keeps the permit until
//! its work is done, so the depth counts waiting and running work. Room that is reserved is taken too, but is no
//! depth until its message is sent.

use std::future::Future;
use std::sync::Arc;

use actix::Addr;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

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
    addr: Addr<Host<A>>,
    gauge: Arc<Gauge>,
    stats: Arc<ActorStats>,
}

impl<A: Actor> Clone for Mailbox<A> {
    fn clone(&self) -> Self {
        Self {
            addr: self.addr.clone(),
            gauge: Arc::clone(&self.gauge),
            stats: Arc::clone(&self.stats),
        }
    }
}

impl<A: Actor> Mailbox<A> {
    pub(crate) fn new(addr: Addr<Host<A>>, capacity: usize, stats: Arc<ActorStats>) -> Self {
        let gauge = Gauge::new(A::NAME, capacity);
        stats.watch_mailbox(&gauge);
        Self { addr, gauge, stats }
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
        if self.stats.is_paused() {
            return Err(Refused::Paused(self.gauge.name));
        }
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
        let _waiting = wait_for(self.gauge.name);
        let permit = permits
            .acquire_many_owned(self.permits_for(weight))
            .await
            .map_err(|_| Refused::Stopped(self.gauge.name))?;
        self.slot(permit)
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

    fn permits_for(&self, weight: usize) -> u32 {
        u32::try_from(weight.clamp(1, self.gauge.capacity())).unwrap_or(u32::MAX)
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
        let (ticket, arrived) = self.share.gauge.arrive(self.share.weight());
        let waiting = wait_for(A::NAME);
        self.addr.do_send(Envelope {
            body,
            reply: Reply::new(sender, arrived),
            permit: Permit {
                share: self.share,
                ticket,
            },
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
