//! Groups what is waiting into batches: while one is in flight the next gathers, so a lone message is
//! not delayed and a flood is grouped. Used by every actor that writes.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::mailbox::{Envelope, Request};
use super::registry::ActorStats;
use super::supervisor::spawn_work;

/// Tells an actor that a lane is free, or that something was added to what waits.
#[derive(Debug)]
pub struct Flush;

impl Message for Flush {
    type Result = ();
}

/// A batch in flight: when it is done, or has panicked, its lane is freed and the actor told.
struct Flight<A: Actor<Context = Context<A>> + Handler<Flush>> {
    lane: Option<Lane>,
    addr: Addr<A>,
}

impl<A: Actor<Context = Context<A>> + Handler<Flush>> Drop for Flight<A> {
    fn drop(&mut self) {
        self.lane.take();
        self.addr.do_send(Flush);
    }
}

/// Runs the work of one batch beside the actor, and has the actor flush again once it is done.
pub fn spawn_batch<A: Actor<Context = Context<A>> + Handler<Flush>>(
    context: &Context<A>,
    stats: &Arc<ActorStats>,
    lane: Lane,
    work: impl Future<Output = ()> + 'static,
) {
    let flight = Flight {
        lane: Some(lane),
        addr: context.address(),
    };
    spawn_work(Arc::clone(stats), async move {
        work.await;
        drop(flight);
    });
}

/// Supervises an actor that has a method `flush(&mut self, &mut Context<Self>)`: it flushes when a lane
/// is freed and after a restart, and panics when provoked. `started` names a method that is called at
/// the start and after each restart: the place for intervals, which a restart cancels.
macro_rules! supervise_batching {
    ($actor:ty $(, started: $started:ident)?) => {
        impl actix::Actor for $actor {
            type Context = actix::Context<Self>;

            $(
                fn started(&mut self, context: &mut Self::Context) {
                    self.$started(context);
                }
            )?
        }

        impl actix::Supervised for $actor {
            fn restarting(&mut self, context: &mut Self::Context) {
                self.flush(context);
            }
        }

        impl actix::Handler<$crate::actors::kit::Flush> for $actor {
            type Result = ();

            fn handle(&mut self, _: $crate::actors::kit::Flush, context: &mut Self::Context) {
                self.flush(context);
            }
        }

        impl actix::Handler<$crate::actors::kit::InjectPanic> for $actor {
            type Result = ();

            fn handle(&mut self, _: $crate::actors::kit::InjectPanic, _: &mut Self::Context) {
                panic!("provoked by fault injection");
            }
        }
    };
}

pub(in crate::actors) use supervise_batching;

/// What can be put into a batch.
pub trait Weigh {
    /// How much of a batch it takes, at least one.
    fn weight(&self) -> usize;
}

impl<M: Request> Weigh for Envelope<M> {
    fn weight(&self) -> usize {
        self.body.weight()
    }
}

/// The right to have one batch in flight. Dropping it, even in a panic, lets the next batch go.
#[derive(Debug)]
pub struct Lane {
    _permit: OwnedSemaphorePermit,
}

/// Gathers what waits into batches of bounded weight, of which a bounded number is in flight. How much
/// can wait is bounded by the mailbox, whose room each envelope keeps.
#[derive(Debug)]
pub struct Batcher<T> {
    waiting: VecDeque<T>,
    largest: usize,
    lanes: Arc<Semaphore>,
}

impl<T: Weigh> Batcher<T> {
    /// Batches of at most `largest` weight, `lanes` of them in flight at once. What is heavier than
    /// `largest` goes alone.
    #[must_use]
    pub fn new(largest: usize, lanes: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            largest,
            lanes: Arc::new(Semaphore::new(lanes)),
        }
    }

    /// Adds to what waits.
    pub fn push(&mut self, item: T) {
        self.waiting.push_back(item);
    }

    /// The next batch, if something waits and a lane is free.
    pub fn next_batch(&mut self) -> Option<(Vec<T>, Lane)> {
        if self.waiting.is_empty() {
            return None;
        }
        let permit = Arc::clone(&self.lanes).try_acquire_owned().ok()?;
        let mut weight = 0;
        let mut items = 0;
        for item in &self.waiting {
            weight += item.weight();
            if items > 0 && weight > self.largest {
                break;
            }
            items += 1;
        }
        let batch = self.waiting.drain(..items).collect();
        Some((batch, Lane { _permit: permit }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weigh for usize {
        fn weight(&self) -> usize {
            *self
        }
    }

    fn batcher(items: impl IntoIterator<Item = usize>) -> Batcher<usize> {
        let mut batcher = Batcher::new(10, 1);
        for item in items {
            batcher.push(item);
        }
        batcher
    }

    #[test]
    fn next_batch_fills_while_one_is_in_flight() {
        let mut batcher = batcher([1]);
        let (first, lane) = batcher.next_batch().expect("a lone item goes at once");
        assert_eq!(first, [1]);
        batcher.push(2);
        batcher.push(3);
        assert!(batcher.next_batch().is_none());
        drop(lane);
        assert_eq!(batcher.next_batch().expect("the lane is free").0, [2, 3]);
    }

    #[test]
    fn batches_are_bounded_and_keep_order() {
        let mut batcher = batcher([4, 4, 4, 50, 1]);
        let batches: Vec<_> =
            std::iter::from_fn(|| batcher.next_batch().map(|(batch, _)| batch)).collect();
        assert_eq!(batches, [vec![4, 4], vec![4], vec![50], vec![1]]);
    }
}
