//! Calls of the script on one entry each, as a cluster needs them: groups the items of a batch by their entries, and remembers
//! their places. Called by `redis_cluster_cache.rs`.

use std::collections::HashMap;
use std::hash::Hash;

use super::redis_call::{Call, PAIRS_PER_CALL};
use super::redis_entry::Keys;
use crate::domain::{Pair, Resource, UserId};

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
pub(super) fn of_users<T>(
    keys: &Keys,
    items: &[(Pair, T)],
    add: impl Fn(&mut Call, &(Pair, T)),
) -> Vec<Placed> {
    let open = |call: &mut Call, user_id: &UserId| call.user(keys, user_id);
    by_entry(items, |pair| &pair.user_id, open, add)
}

/// Returns calls on the count entries of items that concern pairs. `add` adds the arguments of an item.
pub(super) fn of_counts<T>(
    keys: &Keys,
    items: &[(Pair, T)],
    add: impl Fn(&mut Call, &(Pair, T)),
) -> Vec<Placed> {
    let open = |call: &mut Call, resource: &Resource| call.count(keys, resource);
    by_entry(items, |pair| &pair.resource, open, add)
}

/// Gives each call the place of its number.
pub(super) fn placed(calls: impl Iterator<Item = Call>) -> Vec<Placed> {
    let placed = |(place, call)| Placed {
        call,
        places: vec![place],
    };
    calls.enumerate().map(placed).collect()
}
