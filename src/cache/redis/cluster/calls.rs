//! Calls of the script on one entry each, as a cluster needs them: groups the items of a batch by their entries, and remembers
//! their places.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use super::taken::TakenEvent;
use crate::cache::redis::call::{Call, PAIRS_PER_CALL};
use crate::cache::redis::keys::Keys;
use crate::cache::{CountFilling, Filling, Settlement, UserFilling};
use crate::domain::{Pair, Resource, UserId, Version, VersionedState};

/// A call of the script on one entry, and the places of what it answers.
pub(super) struct Placed {
    pub(super) call: Call,
    pub(super) places: Vec<usize>,
}

/// Groups items by their keys, in the order of their first appearance. Returns the places of the items.
fn grouped<K: Eq + Hash + Copy>(keys: impl Iterator<Item = K>) -> Vec<(K, Vec<usize>)> {
    let mut groups: Vec<(K, Vec<usize>)> = Vec::new();
    let mut numbers: HashMap<K, usize> = HashMap::new();
    for (place, key) in keys.enumerate() {
        let number = *numbers.entry(key).or_insert_with(|| {
            groups.push((key, Vec::new()));
            groups.len() - 1
        });
        groups[number].1.push(place);
    }
    groups
}

/// Returns calls on entries of items that concern pairs: `entry` tells which entry of a pair, `open` adds its key to a call, and
/// `add` the arguments of an item.
fn by_entry<'a, T, K: Eq + Hash + 'a>(
    items: &'a [(Pair, T)],
    entry: impl Fn(&'a Pair) -> &'a K,
    open: impl Fn(&mut Call, &K),
    add: impl Fn(&mut Call, &(Pair, T)),
) -> Vec<Placed> {
    let mut calls = Vec::new();
    for (entry, places) in grouped(items.iter().map(|(pair, _)| entry(pair))) {
        for places in places.chunks(PAIRS_PER_CALL) {
            let mut call = Call::new(places.len());
            open(&mut call, entry);
            for place in places {
                add(&mut call, &items[*place]);
            }
            let places = places.to_vec();
            calls.push(Placed { call, places });
        }
    }
    calls
}

/// Returns calls on the user entries of items that concern pairs. `add` adds the arguments of an item.
fn of_users<T>(
    keys: &Keys,
    items: &[(Pair, T)],
    add: impl Fn(&mut Call, &(Pair, T)),
) -> Vec<Placed> {
    let open = |call: &mut Call, user_id: &UserId| call.user(keys, user_id);
    by_entry(items, |pair| &pair.user_id, open, add)
}

/// Returns calls on the count entries of items that concern pairs. `add` adds the arguments of an item.
fn of_counts<T>(
    keys: &Keys,
    items: &[(Pair, T)],
    add: impl Fn(&mut Call, &(Pair, T)),
) -> Vec<Placed> {
    let open = |call: &mut Call, resource: &Resource| call.count(keys, resource);
    by_entry(items, |pair| &pair.resource, open, add)
}

/// Gives each call the place of its number.
fn placed(calls: impl Iterator<Item = Call>) -> Vec<Placed> {
    let placed = |(place, call)| Placed {
        call,
        places: vec![place],
    };
    calls.enumerate().map(placed).collect()
}

/// Returns calls on the user entries of pairs, with the resource and the state of each.
pub(super) fn user_states(keys: &Keys, states: &[(Pair, VersionedState)]) -> Vec<Placed> {
    of_users(keys, states, |call, (pair, state)| {
        call.resource(&pair.resource);
        call.state(*state);
    })
}

/// Returns calls that let events join their counts, after their user entries took them.
pub(super) fn join_calls(
    keys: &Keys,
    events: &[(Pair, VersionedState)],
    taken: &[TakenEvent],
) -> Vec<Placed> {
    let counted: Vec<_> = events
        .iter()
        .zip(taken)
        .map(|((pair, state), taken)| (pair.clone(), (*state, taken)))
        .collect();
    of_counts(keys, &counted, |call, (pair, (state, taken))| {
        call.user_id(&pair.user_id);
        call.state(*state);
        call.arg(&taken.base);
        call.arg(taken.opens_count());
    })
}

/// Returns calls that let events leave their counts, by the states that their user entries hold as settled.
pub(super) fn leave_calls(keys: &Keys, settled: &[(Pair, String)]) -> Vec<Placed> {
    of_counts(keys, settled, |call, (pair, state)| {
        call.user_id(&pair.user_id);
        call.arg(state);
    })
}

/// Returns calls that settle the user entries of commits.
pub(super) fn settle_user_calls(
    keys: &Keys,
    settlements: &BTreeMap<Resource, Settlement>,
) -> Vec<Placed> {
    let mut states = Vec::new();
    for (resource, settlement) in settlements {
        for (user_id, state) in &settlement.states {
            let (resource, user_id) = (resource.clone(), user_id.clone());
            states.push((Pair { resource, user_id }, *state));
        }
    }
    user_states(keys, &states)
}

/// Returns calls that settle the count entries of commits.
pub(super) fn settle_count_calls(
    keys: &Keys,
    settlements: &BTreeMap<Resource, Settlement>,
) -> Vec<Call> {
    let calls = settlements.iter();
    let calls = calls.map(|(resource, settlement)| Call::settle_count(keys, resource, settlement));
    calls.collect()
}

/// Returns calls that revert events in their user entries.
pub(super) fn forget_in_user_calls(keys: &Keys, events: &[(Pair, Version)]) -> Vec<Placed> {
    of_users(keys, events, |call, (pair, version)| {
        call.resource(&pair.resource);
        call.version(*version);
    })
}

/// Returns calls that remove reverted events from their count entries.
pub(super) fn forget_in_count_calls(keys: &Keys, events: &[(Pair, Version)]) -> Vec<Placed> {
    of_counts(keys, events, |call, (pair, version)| {
        call.user_id(&pair.user_id);
        call.version(*version);
    })
}

/// Returns calls that open entries, each in the place of its entry: first those of users, then those of counts.
pub(super) fn open_calls(keys: &Keys, users: &[UserId], resources: &[Resource]) -> Vec<Placed> {
    let user = |user_id: &UserId| {
        let mut call = Call::new(1);
        call.size(1);
        call.user(keys, user_id);
        call
    };
    let count = |resource: &Resource| {
        let mut call = Call::new(1);
        call.size(0);
        call.count(keys, resource);
        call
    };
    let calls = users.iter().map(user);
    placed(calls.chain(resources.iter().map(count)))
}

/// Returns calls that fill entries, each in the place of its filling: first those of users, then those of counts.
pub(super) fn fill_calls(keys: &Keys, filling: &Filling) -> Vec<Placed> {
    let user = |filling: &UserFilling| {
        let mut call = Call::new(filling.rows.len());
        call.size(1);
        call.size(0);
        call.user_filling(keys, filling);
        call
    };
    let count = |filling: &CountFilling| {
        let mut call = Call::new(2);
        call.size(0);
        call.size(1);
        call.count_filling(keys, filling);
        call
    };
    let calls = filling.users.iter().map(user);
    placed(calls.chain(filling.counts.iter().map(count)))
}
