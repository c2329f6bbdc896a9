//! The fold of events into states and count changes: the newest event of each pair wins. The sync transaction calls it.

use std::collections::BTreeMap;

use super::behavior::{BehaviorEvent, Resource};
use super::id::UserId;
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
    pub states: BTreeMap<Pair, VersionedState>,
    /// The pairs to write: their stored state is older than the events.
    pub changed: Vec<Pair>,
    /// The change of each resource's like count, zero included.
    pub count_changes: BTreeMap<Resource, i64>,
}

impl Fold {
    /// Folds events into the stored states. Order and duplicates do not affect the result.
    #[must_use]
    pub fn of(
        stored: impl Fn(&Pair) -> Option<VersionedState>,
        events: impl IntoIterator<Item = (Pair, VersionedState)>,
    ) -> Self {
        let mut newest: BTreeMap<Pair, VersionedState> = BTreeMap::new();
        for (pair, state) in events {
            newest
                .entry(pair)
                .and_modify(|held| *held = state.max(*held))
                .or_insert(state);
        }
        let mut fold = Self::default();
        for (pair, state) in newest {
            let before = stored(&pair).unwrap_or(VersionedState::NEVER);
            let after = state.max(before);
            if after > before {
                fold.changed.push(pair.clone());
            }
            *fold.count_changes.entry(pair.resource.clone()).or_default() +=
                after.weight() - before.weight();
            fold.states.insert(pair, after);
        }
        fold
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

    /// Applies batches one after the other, as the store does.
    fn store(
        batches: &[&[(Pair, VersionedState)]],
    ) -> (HashMap<Pair, VersionedState>, HashMap<Resource, i64>) {
        let mut states: HashMap<Pair, VersionedState> = HashMap::new();
        let mut counts: HashMap<Resource, i64> = HashMap::new();
        for batch in batches {
            let fold = Fold::of(|pair| states.get(pair).copied(), batch.iter().cloned());
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
            (events, shuffled, cut) in history().prop_flat_map(|events| {
                let twice: Vec<_> = events.iter().chain(&events).cloned().collect();
                let length = twice.len();
                (Just(events), Just(twice).prop_shuffle(), 0..=length)
            })
        ) {
            let (left, right) = shuffled.split_at(cut);
            prop_assert_eq!(store(&[&events]), store(&[left, right]));
        }

        #[test]
        fn counts_equal_the_liked_pairs(events in history()) {
            let (states, counts) = store(&[&events]);
            for (resource, count) in counts {
                let liked = states.iter().filter(|(pair, state)| pair.resource == resource && state.liked).count();
                prop_assert_eq!(count, liked as i64);
            }
        }

        #[test]
        fn older_event_changes_nothing(events in history()) {
            let (states, _) = store(&[&events]);
            let again = Fold::of(|pair| states.get(pair).copied(), events);
            prop_assert!(again.changed.is_empty());
            prop_assert!(again.count_changes.values().all(|change| *change == 0));
        }
    }
}
