//! The actix actor that every [`Actor`] runs in: it gathers messages into batches, runs batches and ticks, and
//! panics on request. Its [`Context`] is what the actor sees of it.

mod context;
mod queue;

use std::any::{Any, TypeId};
use std::sync::Arc;
use std::time::Duration;

use actix::{ActorContext, AsyncContext, Handler, Message, Supervised};
use tokio::sync::oneshot;

pub use self::context::Context;
use self::queue::{Flush, MessageQueue, Queue};
use crate::actor::{Actor, BatchActor};
use crate::envelope::{Envelope, Request};
use crate::stats::ActorStats;

/// Holds one actor, and a queue for each type of message that it has taken.
pub(crate) struct Host<A: Actor> {
    actor: Arc<A>,
    context: Context<A>,
    /// Found by the type of the message. There are a few, so a scan is faster than a hash.
    queues: Vec<(TypeId, Box<dyn Queue<A>>)>,
}

impl<A: Actor> Host<A> {
    pub(crate) fn new(actor: Arc<A>, context: Context<A>) -> Self {
        Self {
            actor,
            context,
            queues: Vec::new(),
        }
    }

    fn tick(&self) {
        let Some(permit) = self.context.start_tick() else {
            return;
        };
        let actor = Arc::clone(&self.actor);
        let tick = Tick::begin(self.context.stats());
        self.context.spawn(async move {
            let (_permit, _tick) = (permit, tick);
            actor.tick().await;
        });
    }

    /// Adds items to the queue at this position.
    fn enqueue<M: Request>(
        &mut self,
        position: usize,
        items: impl IntoIterator<Item = A::Item>,
        own: &actix::Context<Self>,
    ) where
        A: BatchActor<M>,
    {
        let (_, queue) = &mut self.queues[position];
        let any: &mut dyn Any = queue.as_mut();
        if let Some(queue) = any.downcast_mut::<MessageQueue<A, M>>() {
            for item in items {
                queue.push(item);
            }
        }
        queue.flush(&self.actor, &self.context, own);
    }

    /// The position of the queue of these messages.
    fn queue<M: Request>(&mut self) -> usize
    where
        A: BatchActor<M>,
    {
        self.position::<M>().unwrap_or_else(|| {
            let stats = self.context.stats().watch_messages::<M>();
            let queue = MessageQueue::<A, M>::new(self.actor.limits(), stats);
            self.queues.push((TypeId::of::<M>(), Box::new(queue)));
            self.queues.len() - 1
        })
    }

    fn position<M: Request>(&self) -> Option<usize> {
        let wanted = TypeId::of::<M>();
        self.queues.iter().position(|(held, _)| *held == wanted)
    }

    fn flush(&mut self, own: &actix::Context<Self>) {
        for (_, queue) in &mut self.queues {
            queue.flush(&self.actor, &self.context, own);
        }
    }
}

impl<A: Actor> actix::Actor for Host<A> {
    type Context = actix::Context<Self>;

    // Actix calls this after each restart too, which cancels intervals.
    fn started(&mut self, own: &mut Self::Context) {
        let Some(schedule) = self.actor.schedule() else {
            return;
        };
        if schedule.at_once {
            self.tick();
        }
        own.run_interval(schedule.every, |host, _| host.tick());
    }
}

impl<A: Actor> Supervised for Host<A> {
    fn restarting(&mut self, own: &mut Self::Context) {
        self.flush(own);
    }
}

impl<A: BatchActor<M>, M: Request> Handler<Envelope<M>> for Host<A> {
    type Result = ();

    fn handle(&mut self, mut envelope: Envelope<M>, own: &mut Self::Context) {
        let queue = self.queue::<M>();
        envelope.count(self.queues[queue].1.stats());
        self.enqueue::<M>(queue, [envelope.into()], own);
    }
}

/// Adds items to a queue from inside the actor.
pub(crate) struct Requeue<A: BatchActor<M>, M: Request>(pub(crate) Vec<A::Item>);

impl<A: BatchActor<M>, M: Request> Message for Requeue<A, M>
where
    A::Item: Send,
{
    type Result = ();
}

impl<A: BatchActor<M>, M: Request> Handler<Requeue<A, M>> for Host<A> {
    type Result = ();

    fn handle(&mut self, Requeue(items): Requeue<A, M>, own: &mut Self::Context) {
        let queue = self.queue::<M>();
        self.enqueue::<M>(queue, items, own);
    }
}

impl<A: BatchActor<M>, M: Request> Handler<Flush<M>> for Host<A> {
    type Result = ();

    fn handle(&mut self, _: Flush<M>, own: &mut Self::Context) {
        if let Some(position) = self.position::<M>() {
            let (_, queue) = &mut self.queues[position];
            queue.flush(&self.actor, &self.context, own);
        }
    }
}

/// Restarts the actor.
pub(crate) struct Restart;

impl Message for Restart {
    type Result = ();
}

impl<A: Actor> Handler<Restart> for Host<A> {
    type Result = ();

    fn handle(&mut self, _: Restart, own: &mut Self::Context) {
        // The supervisor restarts an actor that stops.
        own.stop();
    }
}

/// Starts what waited while the actor was paused.
pub(crate) struct Resume;

impl Message for Resume {
    type Result = ();
}

impl<A: Actor> Handler<Resume> for Host<A> {
    type Result = ();

    fn handle(&mut self, _: Resume, own: &mut Self::Context) {
        self.flush(own);
        if self
            .actor
            .schedule()
            .is_some_and(|schedule| schedule.at_once)
        {
            self.tick();
        }
    }
}

/// Blocks the thread while it is handled. Sent only where fault injection is enabled.
pub(crate) struct InjectBlock(pub(crate) Duration);

impl Message for InjectBlock {
    type Result = ();
}

impl<A: Actor> Handler<InjectBlock> for Host<A> {
    type Result = ();

    fn handle(&mut self, InjectBlock(length): InjectBlock, _: &mut Self::Context) {
        std::thread::sleep(length);
    }
}

/// Panics while it is handled. Sent only where fault injection is enabled.
pub(crate) struct InjectPanic;

impl Message for InjectPanic {
    type Result = ();
}

impl<A: Actor> Handler<InjectPanic> for Host<A> {
    type Result = ();

    fn handle(&mut self, _: InjectPanic, _: &mut Self::Context) {
        panic!("provoked by fault injection");
    }
}

/// Ends the ticks. Answered once no spawned work runs.
pub(crate) struct Stop(pub(crate) oneshot::Sender<()>);

impl Message for Stop {
    type Result = ();
}

impl<A: Actor> Handler<Stop> for Host<A> {
    type Result = ();

    fn handle(&mut self, Stop(stopped): Stop, _: &mut Self::Context) {
        self.context.stop();
        self.actor.stopping();
        let context = self.context.clone();
        actix::spawn(async move {
            context.idle().await;
            // The sender need not wait.
            let _ = stopped.send(());
        });
    }
}

/// A tick that runs, until it is dropped.
struct Tick(Arc<ActorStats>);

impl Tick {
    fn begin(stats: &Arc<ActorStats>) -> Self {
        stats.tick_began();
        Self(Arc::clone(stats))
    }
}

impl Drop for Tick {
    fn drop(&mut self) {
        self.0.tick_ended();
    }
}
