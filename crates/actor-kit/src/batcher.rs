//! Groups waiting items into batches: while one batch is in flight the next gathers, so a lone item is not
//! delayed and a flood is grouped. Used by the host of every actor.
//!
//! A lane opens when an item arrives, but its batch is collected when its task first runs. Until then the host has
//! emptied its mailbox, so a burst is one batch.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use crate::envelope::{Envelope, Request};

/// How long a batch runs before a spare lane opens beside it.
pub(crate) const SLOW_AFTER: Duration = Duration::from_millis(10);

/// The bounds of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// The largest weight of a batch. A heavier item goes alone.
    pub largest: usize,
    /// The number of batches that run at the same time.
    pub lanes: usize,
    /// The number of further batches that run only if they must: while a full batch waits, or one beside each batch that
    /// has run for 10 ms. With fewer lanes a batch holds more, and with a spare one, a batch that hangs holds up no other.
    pub spare_lanes: usize,
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
pub(crate) struct Batcher<T>(Rc<RefCell<State<T>>>);

struct State<T> {
    limits: BatchLimits,
    slow_after: Duration,
    /// The items, each with its weight.
    waiting: VecDeque<(usize, T)>,
    /// The weight of all of them.
    weight: usize,
    /// The number of open lanes whose batch is not collected yet.
    collecting: usize,
    /// When the batches of the other open lanes were collected, oldest first.
    running: Vec<Instant>,
    /// When the host asks again, to check for a slow batch.
    ask_at: Option<Instant>,
}

/// What the host does next for the items that wait.
pub(crate) enum Step<T> {
    /// Runs a batch on this lane.
    Run(Lane<T>),
    /// Asks again after this time, when a spare lane may open.
    AskAfter(Duration),
    /// Nothing, until an item arrives or a batch ends.
    Rest,
}

impl<T: Weigh> Batcher<T> {
    /// Returns an empty batcher with these limits. A batch is slow after `slow_after`.
    pub(crate) fn new(limits: BatchLimits, slow_after: Duration) -> Self {
        Self(Rc::new(RefCell::new(State {
            limits,
            slow_after,
            waiting: VecDeque::new(),
            weight: 0,
            collecting: 0,
            running: Vec::new(),
            ask_at: None,
        })))
    }

    /// Adds an item.
    pub(crate) fn push(&self, item: T) {
        let weight = item.weight();
        let mut state = self.0.borrow_mut();
        // A heavier item fills a batch.
        let weight = weight.min(state.limits.largest).max(1);
        state.weight += weight;
        state.waiting.push_back((weight, item));
    }

    /// Opens a lane if items wait that no open lane is about to collect, and one may open.
    pub(crate) fn next_step(&self) -> Step<T> {
        let mut state = self.0.borrow_mut();
        let BatchLimits {
            largest,
            lanes,
            spare_lanes,
        } = state.limits;
        let (left, open) = (state.left(), state.collecting + state.running.len());
        if left == 0 || open >= lanes + spare_lanes {
            return Step::Rest;
        }
        if open >= lanes && left < largest {
            // A spare lane opens beside the oldest batch that has none beside it, once that is slow.
            let Some(collected) = state.running.get(open - lanes) else {
                return Step::Rest;
            };
            let (at, now) = (*collected + state.slow_after, Instant::now());
            if at > now {
                // One timer is enough.
                if state.ask_at.is_some_and(|ask| now < ask && ask <= at) {
                    return Step::Rest;
                }
                state.ask_at = Some(at);
                return Step::AskAfter(at - now);
            }
        }
        state.collecting += 1;
        Step::Run(Lane {
            state: Rc::downgrade(&self.0),
            collected: None,
        })
    }
}

impl<T> State<T> {
    /// The weight that no open lane is about to collect.
    fn left(&self) -> usize {
        let collected = self.collecting * self.limits.largest;
        self.weight.saturating_sub(collected)
    }

    fn collect(&mut self) -> Vec<T> {
        let mut weight = 0;
        let mut items = 0;
        for (of_item, _) in &self.waiting {
            if items > 0 && weight + of_item > self.limits.largest {
                break;
            }
            weight += of_item;
            items += 1;
        }
        self.weight -= weight;
        let batch = self.waiting.drain(..items);
        batch.map(|(_, item)| item).collect()
    }
}

/// The right to collect one batch and to run it, until it is dropped.
pub(crate) struct Lane<T> {
    /// Weak, because items that wait end with their actor.
    state: Weak<RefCell<State<T>>>,
    /// When the batch was collected.
    collected: Option<Instant>,
}

impl<T> Lane<T> {
    /// Takes the batch, once; `None` if the actor has ended.
    pub(crate) fn collect(&mut self) -> Option<Vec<T>> {
        let state = self.state.upgrade()?;
        let mut state = state.borrow_mut();
        let now = Instant::now();
        self.collected = Some(now);
        state.collecting -= 1;
        state.running.push(now);
        Some(state.collect())
    }

    /// Returns whether items wait that no open lane is about to collect.
    pub(crate) fn leaves_items(&self) -> bool {
        let state = self.state.upgrade();
        state.is_some_and(|state| state.borrow().left() > 0)
    }
}

impl<T> Drop for Lane<T> {
    fn drop(&mut self) {
        let Some(state) = self.state.upgrade() else {
            return;
        };
        let mut state = state.borrow_mut();
        let Some(collected) = self.collected else {
            state.collecting -= 1;
            return;
        };
        // Batches of the same moment are alike.
        let place = state.running.iter().position(|other| *other == collected);
        if let Some(place) = place {
            state.running.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    const ONE_LANE: BatchLimits = BatchLimits {
        largest: 10,
        lanes: 1,
        spare_lanes: 0,
    };

    const WITH_A_SPARE: BatchLimits = BatchLimits {
        spare_lanes: 1,
        ..ONE_LANE
    };

    impl Weigh for usize {
        fn weight(&self) -> usize {
            *self
        }
    }

    fn batcher(
        limits: BatchLimits,
        slow_after: Duration,
        items: impl IntoIterator<Item = usize>,
    ) -> Batcher<usize> {
        let batcher = Batcher::new(limits, slow_after);
        for item in items {
            batcher.push(item);
        }
        batcher
    }

    fn open_lane(batcher: &Batcher<usize>) -> Option<Lane<usize>> {
        match batcher.next_step() {
            Step::Run(lane) => Some(lane),
            Step::AskAfter(_) | Step::Rest => None,
        }
    }

    /// Opens a lane and collects its batch.
    fn next_batch(batcher: &Batcher<usize>) -> Option<(Vec<usize>, Lane<usize>)> {
        let mut lane = open_lane(batcher)?;
        let batch = lane.collect()?;
        Some((batch, lane))
    }

    #[test]
    fn next_batch_fills_while_one_is_in_flight() {
        let batcher = batcher(ONE_LANE, Duration::ZERO, [1]);
        let (first, lane) = next_batch(&batcher).expect("a lone item goes at once");
        assert_eq!(first, [1]);
        batcher.push(2);
        batcher.push(3);
        assert!(
            matches!(batcher.next_step(), Step::Rest),
            "no lane is spare"
        );
        drop(lane);
        assert_eq!(next_batch(&batcher).expect("the lane is free").0, [2, 3]);
    }

    #[test]
    fn batches_are_bounded_and_keep_order() {
        let batcher = batcher(ONE_LANE, HOUR, [4, 4, 4, 50, 1]);
        let batches: Vec<_> =
            std::iter::from_fn(|| next_batch(&batcher).map(|(batch, _)| batch)).collect();
        assert_eq!(batches, [vec![4, 4], vec![4], vec![50], vec![1]]);
    }

    #[test]
    fn items_join_a_lane_that_has_not_collected() {
        let two = BatchLimits {
            lanes: 2,
            ..ONE_LANE
        };
        let batcher = batcher(two, HOUR, [6]);
        let mut first = open_lane(&batcher).expect("a lane");
        batcher.push(4);
        assert!(open_lane(&batcher).is_none(), "one batch holds both");
        batcher.push(6);
        let mut second = open_lane(&batcher).expect("more than a batch waits");
        assert_eq!(first.collect(), Some(vec![6, 4]));
        assert!(!first.leaves_items(), "the other lane takes the rest");
        batcher.push(5);
        assert_eq!(second.collect(), Some(vec![6]));
        assert!(second.leaves_items());
    }

    #[test]
    fn lane_that_collects_nothing_is_free_again() {
        let batcher = batcher(ONE_LANE, HOUR, [1]);
        drop(open_lane(&batcher).expect("a lane"));
        assert_eq!(next_batch(&batcher).expect("a lane").0, [1]);
    }

    #[test]
    fn spare_lane_opens_beside_a_slow_batch() {
        let slow = batcher(WITH_A_SPARE, Duration::ZERO, [1]);
        let _first = next_batch(&slow).expect("a lane");
        assert!(open_lane(&slow).is_none(), "nothing waits");
        slow.push(2);
        let (second, lane) = next_batch(&slow).expect("the spare lane");
        assert_eq!(second, [2]);
        slow.push(3);
        assert!(open_lane(&slow).is_none(), "both lanes are open");
        drop(lane);
        assert_eq!(next_batch(&slow).expect("the spare lane").0, [3]);
    }

    #[test]
    fn spare_lane_stays_closed_beside_a_quick_batch() {
        let quick = batcher(WITH_A_SPARE, HOUR, [1]);
        let _first = next_batch(&quick).expect("a lane");
        assert!(matches!(quick.next_step(), Step::Rest), "nothing waits");
        quick.push(2);
        let Step::AskAfter(wait) = quick.next_step() else {
            panic!("the batch may become slow");
        };
        assert!(wait <= HOUR && wait > HOUR / 2, "{wait:?}");
        quick.push(3);
        let step = quick.next_step();
        assert!(matches!(step, Step::Rest), "one timer is enough");
    }

    #[test]
    fn spare_lane_opens_for_a_full_batch() {
        let quick = batcher(WITH_A_SPARE, HOUR, [1]);
        let _first = next_batch(&quick).expect("a lane");
        quick.push(9);
        assert!(open_lane(&quick).is_none());
        quick.push(1);
        let (second, _lane) = next_batch(&quick).expect("the spare lane");
        assert_eq!(second, [9, 1]);
        quick.push(10);
        let step = quick.next_step();
        assert!(matches!(step, Step::Rest), "both lanes are open");
    }

    #[test]
    fn items_that_wait_end_with_their_actor() {
        let batcher = batcher(ONE_LANE, HOUR, [1]);
        let mut lane = open_lane(&batcher).expect("a lane");
        drop(batcher);
        assert_eq!(lane.collect(), None);
        assert!(!lane.leaves_items());
    }
}
