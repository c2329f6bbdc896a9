//! A message on its way to an actor: with its permit, and the channel for its answer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::gauge::Permit;
use crate::messages::MessageStats;
use crate::waits::Waiting;

/// A typed message.
pub trait Request: Send + 'static {
    /// The answer; `()` if only the end of the work matters.
    type Reply: Send + 'static;

    /// Returns its share of the mailbox's capacity: the number of events in it, at least one.
    fn weight(&self) -> usize {
        1
    }

    /// Returns whether this answer reports a failure. Reports count the message as failed then.
    fn is_failure(_: &Self::Reply) -> bool {
        false
    }
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

impl<M: Request> Envelope<M> {
    /// Counts the message and its answer.
    pub(crate) fn count(&mut self, stats: &Arc<MessageStats>) {
        stats.received();
        self.reply.counted = Some((Arc::clone(stats), M::is_failure));
    }
}

/// Sends the answer of one message. If the sender no longer waits, the answer is dropped.
pub struct Reply<R> {
    sender: Option<oneshot::Sender<R>>,
    arrived: Instant,
    /// Where the answer is counted, and whether as a failure.
    counted: Option<Counted<R>>,
}

type Counted<R> = (Arc<MessageStats>, fn(&R) -> bool);

impl<R> Reply<R> {
    pub(crate) const fn new(sender: oneshot::Sender<R>, arrived: Instant) -> Self {
        Self {
            sender: Some(sender),
            arrived,
            counted: None,
        }
    }

    /// Answers.
    pub fn send(mut self, answer: R) {
        if let Some((stats, is_failure)) = self.counted.take() {
            stats.answered(self.arrived, is_failure(&answer));
        }
        if let Some(sender) = self.sender.take() {
            // The sender may no longer wait. The work is done, so this is not a failure.
            let _ = sender.send(answer);
        }
    }
}

impl<R> Drop for Reply<R> {
    fn drop(&mut self) {
        if let Some((stats, _)) = self.counted.take() {
            stats.answered(self.arrived, true);
        }
    }
}

impl<R> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

/// The future answer. Dropping it does not cancel the work.
#[derive(Debug)]
pub struct Answer<R> {
    receiver: oneshot::Receiver<R>,
    /// Shows that the actor whose work this is waits.
    _waiting: Option<Waiting>,
}

impl<R> Answer<R> {
    pub(crate) const fn new(receiver: oneshot::Receiver<R>, waiting: Option<Waiting>) -> Self {
        Self {
            receiver,
            _waiting: waiting,
        }
    }
}

impl<R> Future for Answer<R> {
    type Output = Result<R, Closed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let receiver = Pin::new(&mut self.receiver);
        receiver.poll(context).map_err(|_| Closed)
    }
}
