//! The fold of events into states and count changes: the newest event of each pair wins. The sync transaction calls it.

use std::collections::{BTreeMap, BTreeSet};

use super::behavior::{BehaviorEvent, Resource};
use super::id::UserId;
use super::pair_state::{Advanced, PairState};
use super::versioned_state::VersionedState;

/// A user and a resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// The resource, first, so that pairs sort by resource and workers lock in one order.
    pub resource: Resource,
    /// The user.
    pub user_id: UserId,
}

impl Pair {
    /// Returns the pair of an event.
    #[must_use]
    pub fn of(event: &BehaviorEvent) -> Self {
        Self {
            resource: event.resource.clone(),
            user_id: event.user_id.clone(),
        }
    }
}

/// The changes that a batch of events makes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fold {
    /// The state of every pair of the events, changed or not.
    pub states: BTreeMap<Pair, PairState>,
    /// The pairs to write: their stored state is older than the events.
    pub changed: Vec<Pair>,
    /// The change of each resource's like count, zero included.
    pub count_changes: BTreeMap<Resource, i64>,
    /// The stored states of the pairs whose `since` only the log tells.
    unclear: BTreeMap<Pair, PairState>,
}

impl Fold {
    /// Folds events into the stored states. Order and duplicates do not affect the result, once
    /// [`clarify`](Self::clarify) has had the log's states of the [`unclear`](Self::unclear) pairs.
    #[must_use]
    pub fn of(
        stored: impl Fn(&Pair) -> Option<PairState>,
        events: impl IntoIterator<Item = (Pair, VersionedState)>,
    ) -> Self {
        let mut events: Vec<_> = events.into_iter().collect();
        events.sort_unstable();
        let mut fold = Self::default();
        let mut of_pair = Vec::new();
        let mut events = events.into_iter().peekable();
        while let Some((pair, event)) = events.next() {
            of_pair.clear();
            of_pair.push(event);
            while let Some((_, event)) = events.next_if(|(next, _)| *next == pair) {
                of_pair.push(event);
            }
            let before = stored(&pair).unwrap_or(PairState::NEVER);
            let Advanced { state, is_exact } = before.advanced(&of_pair);
            if !is_exact {
                fold.unclear.insert(pair.clone(), before);
            } else if state != before {
                fold.changed.push(pair.clone());
            }
            *fold.count_changes.entry(pair.resource.clone()).or_default() +=
                state.weight() - before.weight();
            fold.states.insert(pair, state);
        }
        fold
    }

    /// Returns the pairs with late events, for which the stored state does not tell since when they are liked.
    #[must_use]
    pub fn unclear(&self) -> BTreeSet<Pair> {
        self.unclear.keys().cloned().collect()
    }

    /// Completes the states of the unclear pairs by the states that the log has of them, these events included.
    pub fn clarify(&mut self, logged: &BTreeMap<Pair, PairState>) {
        for (pair, before) in std::mem::take(&mut self.unclear) {
            let Some(state) = self.states.get_mut(&pair) else {
                continue;
            };
            // A log that lacks the newest event is damaged. The audit finds that.
            if let Some(logged) = logged.get(&pair)
                && logged.newest == state.newest
            {
                state.since = logged.since;
            }
            if *state != before {
                self.changed.push(pair);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::Version;

    fn event() -> impl Strategy<Value = (Pair, VersionedState)> {
        (1i64..4, 1i64..4, 1i64..30, any::<bool>()).prop_map(|(user_id, video, version, liked)| {
            let pair = Pair {
                resource: Resource::video(video),
                user_id: user_id.into(),
            };
            let version = Version(version);
            (pair, VersionedState { version, liked })
        })
    }

    fn history() -> impl Strategy<Value = Vec<(Pair, VersionedState)>> {
        prop::collection::vec(event(), 0..40)
    }

    /// The fold of a log, written down as it is defined.
    fn model(log: &[(Pair, VersionedState)]) -> BTreeMap<Pair, PairState> {
        let pairs: BTreeSet<&Pair> = log.iter().map(|(pair, _)| pair).collect();
        let state = |pair: &Pair| {
            let events = || {
                log.iter()
                    .filter(|(of, _)| of == pair)
                    .map(|(_, event)| *event)
            };
            let newest = events().max().expect("a pair of the log has an event");
            let unlike = events().filter(|event| !event.liked).max();
            let run = events().filter(|event| Some(*event) > unlike);
            let since = run.map(|like| like.version).min();
            PairState {
                since: since.unwrap_or(newest.version),
                ..PairState::begun_by(newest)
            }
        };
        pairs
            .into_iter()
            .map(|pair| (pair.clone(), state(pair)))
            .collect()
    }

    /// Applies batches one after the other, as the store does.
    fn store(
        batches: &[&[(Pair, VersionedState)]],
    ) -> (BTreeMap<Pair, PairState>, HashMap<Resource, i64>) {
        let mut log = Vec::new();
        let mut states: BTreeMap<Pair, PairState> = BTreeMap::new();
        let mut counts: HashMap<Resource, i64> = HashMap::new();
        for batch in batches {
            log.extend_from_slice(batch);
            let mut fold = Fold::of(|pair| states.get(pair).copied(), batch.iter().cloned());
            if !fold.unclear().is_empty() {
                fold.clarify(&model(&log));
            }
            for pair in &fold.changed {
                states.insert(pair.clone(), fold.states[pair]);
            }
            for (resource, change) in fold.count_changes {
                *counts.entry(resource).or_default() += change;
            }
        }
        (states, counts)
    }

    proptest! {
        #[test]
        fn fold_is_independent_of_order_duplicates_and_batching(
            (events, shuffled, size) in history().prop_flat_map(|events| {
                let twice: Vec<_> = events.iter().chain(&events).cloned().collect();
                (Just(events), Just(twice).prop_shuffle(), 1usize..20)
            })
        ) {
            let batches: Vec<_> = shuffled.chunks(size).collect();
            let (states, counts) = store(&batches);
            prop_assert_eq!(&states, &model(&events));
            prop_assert_eq!((states, counts), store(&[&events]));
        }

        #[test]
        fn events_in_order_need_no_log(events in history(), size in 1usize..20) {
            let mut events = events;
            events.sort_by_key(|(_, event)| *event);
            let mut states: BTreeMap<Pair, PairState> = BTreeMap::new();
            for batch in events.chunks(size) {
                let fold = Fold::of(|pair| states.get(pair).copied(), batch.iter().cloned());
                prop_assert!(fold.unclear().is_empty());
                states.extend(fold.states);
            }
            prop_assert_eq!(states, model(&events));
        }

        #[test]
        fn counts_equal_the_liked_pairs(events in history()) {
            let (states, counts) = store(&[&events]);
            for (resource, count) in counts {
                let liked = states.iter().filter(|(pair, state)| pair.resource == resource && state.newest.liked).count();
                prop_assert_eq!(count, liked as i64);
            }
        }

        #[test]
        fn older_event_changes_nothing(events in history()) {
            let (states, _) = store(&[&events]);
            let mut again = Fold::of(|pair| states.get(pair).copied(), events.clone());
            again.clarify(&model(&events));
            prop_assert!(again.changed.is_empty());
            prop_assert!(again.count_changes.values().all(|change| *change == 0));
        }
    }
}
