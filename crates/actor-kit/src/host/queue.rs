//! The queue of one type of message, and its batches in flight.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use actix::{Addr, AsyncContext, Message, WeakAddr};

use super::{Context, Host};
use crate::actor::{Actor, BatchActor};
use crate::batcher::{BatchLimits, Batcher, Lane, SLOW_AFTER, Step};
use crate::envelope::Request;
use crate::messages::MessageStats;

/// A queue of one type of message.
pub(super) trait Queue<A: Actor>: Any {
    /// Returns the counters of its messages.
    fn stats(&self) -> &Arc<MessageStats>;

    /// Starts a batch on each lane that may open while items wait.
    fn flush(&mut self, actor: &Arc<A>, context: &Context<A>, own: &actix::Context<Host<A>>);
}

pub(super) struct MessageQueue<A: BatchActor<M>, M: Request> {
    batcher: Batcher<A::Item>,
    stats: Arc<MessageStats>,
}

impl<A: BatchActor<M>, M: Request> MessageQueue<A, M> {
    pub(super) fn new(limits: BatchLimits, stats: Arc<MessageStats>) -> Self {
        let batcher = Batcher::new(limits, SLOW_AFTER);
        Self { batcher, stats }
    }

    pub(super) fn push(&mut self, item: A::Item) {
        self.stats.queued();
        self.batcher.push(item);
    }

    /// Starts the task that collects a batch and runs it.
    fn start(
        &self,
        lane: Lane<A::Item>,
        actor: &Arc<A>,
        context: &Context<A>,
        host: Addr<Host<A>>,
    ) {
        let flight = Flight {
            lane,
            host,
            message: PhantomData::<M>,
        };
        let (actor, stats) = (Arc::clone(actor), Arc::clone(&self.stats));
        context.spawn(async move {
            let mut flight = flight;
            let Some(batch) = flight.collect() else {
                return;
            };
            let _running = stats.begin(batch.len());
            actor.run(batch).await;
        });
    }

    /// Flushes the queue after this time. A timer of the actor would not survive its restart.
    fn flush_after(wait: Duration, host: WeakAddr<Host<A>>) {
        actix::spawn(async move {
            tokio::time::sleep(wait).await;
            if let Some(host) = host.upgrade() {
                host.do_send(Flush::<M>(PhantomData));
            }
        });
    }
}

impl<A: BatchActor<M>, M: Request> Queue<A> for MessageQueue<A, M> {
    fn stats(&self) -> &Arc<MessageStats> {
        &self.stats
    }

    fn flush(&mut self, actor: &Arc<A>, context: &Context<A>, own: &actix::Context<Host<A>>) {
        if context.stats().is_paused() {
            return;
        }
        loop {
            match self.batcher.next_step() {
                Step::Run(lane) => self.start(lane, actor, context, own.address()),
                Step::AskAfter(wait) => Self::flush_after(wait, own.address().downgrade()),
                Step::Rest => return,
            }
        }
    }
}

/// A lane may open for this type of message.
pub(super) struct Flush<M>(PhantomData<M>);

impl<M: Request> Message for Flush<M> {
    type Result = ();
}

/// A batch in flight, from the opening of its lane. Dropping it, even in a panic, frees the lane and flushes the queue: the
/// host, on the same thread, takes the message afterwards.
struct Flight<A: BatchActor<M>, M: Request> {
    lane: Lane<A::Item>,
    /// Keeps the actor until nothing waits, even if its mailboxes are dropped.
    host: Addr<Host<A>>,
    message: PhantomData<M>,
}

impl<A: BatchActor<M>, M: Request> Flight<A, M> {
    /// Takes the batch; `None` if the actor has ended.
    fn collect(&mut self) -> Option<Vec<A::Item>> {
        let batch = self.lane.collect()?;
        if self.lane.leaves_items() {
            self.host.do_send(Flush::<M>(PhantomData));
        }
        Some(batch)
    }
}

impl<A: BatchActor<M>, M: Request> Drop for Flight<A, M> {
    fn drop(&mut self) {
        self.host.do_send(Flush::<M>(PhantomData));
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Mutex;

    use super::*;
    use crate::testing::{starter, until};
    use crate::{Answer, Closed, Envelope, Mailbox, Starter};

    /// Is answered, unless it hangs.
    struct Work {
        weight: usize,
        hangs: bool,
    }

    impl Request for Work {
        type Reply = ();

        fn weight(&self) -> usize {
            self.weight
        }
    }

    const QUICK: Work = Work {
        weight: 1,
        hangs: false,
    };

    const HANGING: Work = Work {
        weight: 1,
        hangs: true,
    };

    /// Notes the size of each batch at its start.
    struct Noting {
        limits: BatchLimits,
        sizes: Arc<Mutex<Vec<usize>>>,
    }

    impl Actor for Noting {
        const NAME: &'static str = "noting";
    }

    impl BatchActor<Work> for Noting {
        type Item = Envelope<Work>;

        fn limits(&self) -> BatchLimits {
            self.limits
        }

        async fn run(self: Arc<Self>, batch: Vec<Envelope<Work>>) {
            self.sizes.lock().expect("sizes").push(batch.len());
            if batch.iter().any(|envelope| envelope.body.hangs) {
                pending::<()>().await;
            }
            for envelope in batch {
                envelope.reply.send(());
            }
        }
    }

    struct Bench {
        starter: Starter,
        mailbox: Mailbox<Noting>,
        sizes: Arc<Mutex<Vec<usize>>>,
    }

    impl Bench {
        fn new(lanes: usize, spare_lanes: usize) -> Self {
            let limits = BatchLimits {
                largest: 100,
                lanes,
                spare_lanes,
            };
            let starter = starter(1_000);
            let sizes = Arc::<Mutex<Vec<usize>>>::default();
            let mailbox = starter.start(|_: Context<Noting>| Noting {
                limits,
                sizes: Arc::clone(&sizes),
            });
            Self {
                starter,
                mailbox,
                sizes,
            }
        }

        fn send(&self, work: Work) -> Answer<()> {
            self.mailbox.ask(work).expect("room")
        }

        fn has_begun(&self, sizes: &[usize]) -> bool {
            *self.sizes.lock().expect("sizes") == sizes
        }
    }

    #[actix::test]
    async fn burst_on_an_idle_actor_is_one_batch() {
        let bench = Bench::new(2, 0);
        for round in 1..=2 {
            let answers: Vec<_> = (0..40).map(|_| bench.send(QUICK)).collect();
            for answer in answers {
                assert_eq!(answer.await, Ok(()));
            }
            assert!(bench.has_begun(&[40_usize, 40][..round]), "round {round}");
        }
    }

    #[actix::test]
    async fn lone_message_starts_at_once() {
        let bench = Bench::new(1, 1);
        let _hanging = bench.send(HANGING);
        // Turns of the thread, without any time between.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(bench.has_begun(&[1]));
    }

    #[actix::test]
    async fn spare_lane_opens_when_a_batch_hangs() {
        let bench = Bench::new(1, 1);
        let _hanging = bench.send(HANGING);
        until(|| bench.has_begun(&[1])).await;
        let answers = [bench.send(QUICK), bench.send(QUICK)];
        until(|| bench.has_begun(&[1, 2])).await;
        for answer in answers {
            assert_eq!(answer.await, Ok(()));
        }
    }

    #[actix::test]
    async fn spare_lane_opens_after_a_restart_too() {
        let bench = Bench::new(1, 1);
        let _hanging = bench.send(HANGING);
        until(|| bench.has_begun(&[1])).await;
        let _waiting = bench.send(QUICK);
        assert_eq!(bench.starter.registry.restart(Noting::NAME), Ok(()));
        until(|| bench.has_begun(&[1, 1])).await;
    }

    #[actix::test]
    async fn what_does_not_fit_starts_on_another_lane() {
        let bench = Bench::new(3, 0);
        let heavy = || Work {
            weight: 60,
            hangs: true,
        };
        let _hanging = [heavy(), heavy(), heavy()].map(|work| bench.send(work));
        until(|| bench.has_begun(&[1, 1, 1])).await;
    }

    #[actix::test]
    async fn waiting_message_is_closed_when_its_actor_is_given_up() {
        let bench = Bench::new(1, 0);
        let _hanging = bench.send(HANGING);
        until(|| bench.has_begun(&[1])).await;
        let waiting = bench.send(QUICK);
        for _ in 0..3 {
            assert_eq!(bench.starter.registry.inject_panic(Noting::NAME), Ok(()));
        }
        bench.starter.given_up.notified().await;
        let closed = tokio::time::timeout(Duration::from_secs(120), waiting).await;
        assert_eq!(closed, Ok(Err(Closed)));
    }
}
