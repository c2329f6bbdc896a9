//! Groups waiting items into batches: while one batch is in flight the next gathers, so a lone item is not
//! delayed and a flood is grouped. Used by the host of every actor.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::envelope::{Envelope, Request};

/// The bounds of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// The largest weight of a batch. A heavier item goes alone.
    pub largest: usize,
    /// The number of batches that run at the same time.
    pub lanes: usize,
}

/// An item of a batch.
pub trait Weigh: Send {
    /// Returns its share of a batch, at least one.
    fn weight(&self) -> usize;
}

impl<M: Request> Weigh for Envelope<M> {
    fn weight(&self) -> usize {
        self.body.weight()
    }
}

/// Gathers items into batches of bounded weight, of which a bounded number is in flight. The mailbox bounds the
/// waiting items, because each envelope keeps its permit.
#[derive(Debug)]
pub(crate) struct Batcher<T> {
    waiting: VecDeque<T>,
    largest: usize,
    lanes: Arc<Semaphore>,
}

impl<T: Weigh> Batcher<T> {
    /// Returns an empty batcher with these limits.
    pub(crate) fn new(limits: BatchLimits) -> Self {
        Self {
            waiting: VecDeque::new(),
            largest: limits.largest,
            lanes: Arc::new(Semaphore::new(limits.lanes)),
        }
    }

    /// Adds an item.
    pub(crate) fn push(&mut self, item: T) {
        self.waiting.push_back(item);
    }

    /// Returns the next batch and the permit of its lane, if an item waits and a lane is free.
    pub(crate) fn next_batch(&mut self) -> Option<(Vec<T>, OwnedSemaphorePermit)> {
        if self.waiting.is_empty() {
            return None;
        }
        let lane = Arc::clone(&self.lanes).try_acquire_owned().ok()?;
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
        Some((batch, lane))
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
        let mut batcher = Batcher::new(BatchLimits {
            largest: 10,
            lanes: 1,
        });
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
