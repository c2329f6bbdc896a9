//! A message on its way to an actor: with its permit, and the channel for its answer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::gauge::Permit;

/// A typed message.
pub trait Request: Send + 'static {
    /// The answer; `()` if only the end of the work matters.
    type Reply: Send + 'static;

    /// Returns its share of the mailbox's capacity: the number of events in it, at least one.
    fn weight(&self) -> usize {
        1
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

/// Sends the answer of one message. If the sender no longer waits, the answer is dropped.
#[derive(Debug)]
pub struct Reply<R>(pub(crate) Option<oneshot::Sender<R>>);

impl<R> Reply<R> {
    /// Answers.
    pub fn send(mut self, answer: R) {
        if let Some(sender) = self.0.take() {
            // The sender may no longer wait. The work is done, so this is not a failure.
            let _ = sender.send(answer);
        }
    }
}

/// The future answer. Dropping it does not cancel the work.
#[derive(Debug)]
pub struct Answer<R>(pub(crate) oneshot::Receiver<R>);

impl<R> Future for Answer<R> {
    type Output = Result<R, Closed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(|_| Closed)
    }
}
