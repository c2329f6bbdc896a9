//! What an actor implements.

use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

use crate::batcher::{BatchLimits, Weigh};
use crate::envelope::{Envelope, Request};

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

/// When ticks start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The time from one tick to the next.
    pub every: Duration,
    /// Whether one tick also starts with the actor, and after each restart.
    pub at_once: bool,
}
