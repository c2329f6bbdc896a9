//! The actix actor that every [`Actor`] runs in: it gathers messages into batches, runs batches and ticks, and
//! panics on request.

use std::any::{Any, TypeId};
use std::marker::PhantomData;
use std::sync::Arc;

use actix::{Addr, AsyncContext, Handler, Message, Supervised};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::actor::{Actor, BatchActor, Context};
use crate::batcher::Batcher;
use crate::mailbox::{Envelope, Request};

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
        self.context.spawn(async move {
            let _permit = permit;
            actor.tick().await;
        });
    }

    fn enqueue<M: Request>(&mut self, items: impl IntoIterator<Item = A::Item>, own: &Addr<Self>)
    where
        A: BatchActor<M>,
    {
        let queue = match self.position::<M>() {
            Some(position) => position,
            None => {
                let limits = self.actor.limits();
                let queue: Box<dyn Queue<A>> = Box::new(MessageQueue::<A, M>(Batcher::new(limits)));
                self.queues.push((TypeId::of::<M>(), queue));
                self.queues.len() - 1
            }
        };
        let (_, queue) = &mut self.queues[queue];
        let any: &mut dyn Any = queue.as_mut();
        if let Some(MessageQueue(batcher)) = any.downcast_mut::<MessageQueue<A, M>>() {
            for item in items {
                batcher.push(item);
            }
        }
        queue.flush(&self.actor, &self.context, own);
    }

    fn position<M: Request>(&self) -> Option<usize> {
        let wanted = TypeId::of::<M>();
        self.queues.iter().position(|(held, _)| *held == wanted)
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
        for (_, queue) in &mut self.queues {
            queue.flush(&self.actor, &self.context, &own.address());
        }
    }
}

impl<A: BatchActor<M>, M: Request> Handler<Envelope<M>> for Host<A> {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<M>, own: &mut Self::Context) {
        self.enqueue::<M>([envelope.into()], &own.address());
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
        self.enqueue::<M>(items, &own.address());
    }
}

/// A lane of this message's batches is free.
struct Flush<M>(PhantomData<M>);

impl<M: Request> Message for Flush<M> {
    type Result = ();
}

impl<A: BatchActor<M>, M: Request> Handler<Flush<M>> for Host<A> {
    type Result = ();

    fn handle(&mut self, _: Flush<M>, own: &mut Self::Context) {
        if let Some(position) = self.position::<M>() {
            let (_, queue) = &mut self.queues[position];
            queue.flush(&self.actor, &self.context, &own.address());
        }
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

/// A queue of one type of message.
trait Queue<A: Actor>: Any {
    /// Starts a batch on each free lane while items wait.
    fn flush(&mut self, actor: &Arc<A>, context: &Context<A>, own: &Addr<Host<A>>);
}

struct MessageQueue<A: BatchActor<M>, M: Request>(Batcher<A::Item>);

impl<A: BatchActor<M>, M: Request> Queue<A> for MessageQueue<A, M> {
    fn flush(&mut self, actor: &Arc<A>, context: &Context<A>, own: &Addr<Host<A>>) {
        while let Some((batch, lane)) = self.0.next_batch() {
            let flight = Flight {
                lane: Some(lane),
                host: own.clone(),
                message: PhantomData::<M>,
            };
            let actor = Arc::clone(actor);
            context.spawn(async move {
                actor.run(batch).await;
                drop(flight);
            });
        }
    }
}

/// A batch in flight. Dropping it, even in a panic, frees its lane and flushes the queue.
struct Flight<A: BatchActor<M>, M: Request> {
    lane: Option<OwnedSemaphorePermit>,
    host: Addr<Host<A>>,
    message: PhantomData<M>,
}

impl<A: BatchActor<M>, M: Request> Drop for Flight<A, M> {
    fn drop(&mut self) {
        self.lane.take();
        self.host.do_send(Flush::<M>(PhantomData));
    }
}
