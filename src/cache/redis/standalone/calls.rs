//! Packs events, settlements, and entries to open into calls of the script, many pairs in each.

use std::collections::BTreeMap;

use crate::cache::Settlement;
use crate::cache::redis::call::{Call, PAIRS_PER_CALL, parts};
use crate::cache::redis::keys::Keys;
use crate::domain::{Pair, Resource, UserId, Version, VersionedState};

/// Returns calls that apply events.
pub(super) fn apply_calls(keys: &Keys, events: &[(Pair, VersionedState)]) -> Vec<Call> {
    by_pairs(keys, events, |call, state| call.state(*state))
}

/// Returns calls that revert events.
pub(super) fn forget_calls(keys: &Keys, events: &[(Pair, Version)]) -> Vec<Call> {
    by_pairs(keys, events, |call, version| call.version(*version))
}

/// Returns calls on both entries of pairs. `add` adds the argument of an item.
fn by_pairs<T>(keys: &Keys, items: &[(Pair, T)], add: impl Fn(&mut Call, &T)) -> Vec<Call> {
    let call = |some: &[(Pair, T)]| {
        let mut call = Call::new(some.len());
        for (pair, item) in some {
            call.pair(keys, pair);
            add(&mut call, item);
        }
        call
    };
    items.chunks(PAIRS_PER_CALL).map(call).collect()
}

/// Returns calls that open entries: first those of users, then those of counts.
pub(super) fn open_calls(keys: &Keys, users: &[UserId], resources: &[Resource]) -> Vec<Call> {
    let users_calls = users.chunks(PAIRS_PER_CALL).map(|some| {
        let mut call = Call::new(some.len());
        call.size(some.len());
        some.iter().for_each(|user_id| call.user(keys, user_id));
        call
    });
    let counts_calls = resources.chunks(PAIRS_PER_CALL).map(|some| {
        let mut call = Call::new(some.len());
        call.size(0);
        some.iter().for_each(|resource| call.count(keys, resource));
        call
    });
    users_calls.chain(counts_calls).collect()
}

/// Returns calls that settle commits: for each resource its count and the pairs. One call settles both entries of a pair, so
/// that an event which is applied meanwhile either finds its pair settled, or is in flight when the count is settled.
pub(super) fn settle_calls(keys: &Keys, settlements: &BTreeMap<Resource, Settlement>) -> Vec<Call> {
    let mut calls = Vec::new();
    let (mut call, mut pairs) = (Call::new(PAIRS_PER_CALL), 0);
    for (resource, settlement) in settlements {
        let states: Vec<_> = settlement.states.iter().collect();
        for states in parts(&states) {
            if pairs >= PAIRS_PER_CALL {
                calls.push(std::mem::replace(&mut call, Call::new(PAIRS_PER_CALL)));
                pairs = 0;
            }
            call.count(keys, resource);
            call.settled_count(settlement.count);
            call.size(states.len());
            for (user_id, state) in states {
                call.user(keys, user_id);
                call.state(**state);
                pairs += 1;
            }
            pairs += 1;
        }
    }
    if pairs > 0 {
        calls.push(call);
    }
    calls
}
