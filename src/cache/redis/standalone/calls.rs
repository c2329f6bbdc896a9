//! Packs events, settlements, and entries to open into calls of the script, many pairs in each.

use std::collections::BTreeMap;

use crate::cache::Settlement;
use crate::cache::redis::call::{Call, PAIRS_PER_CALL};
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

/// Returns calls that settle commits, each with its verb.
///
/// Usually one call settles both entries of a pair, and several resources. The users of a large commit are settled in parts, and
/// their count in one call after them. So an event that is applied meanwhile either finds its pair settled, or is in flight
/// when the count is settled.
pub(super) fn settle_calls(
    keys: &Keys,
    settlements: &BTreeMap<Resource, Settlement>,
) -> Vec<(&'static str, Call)> {
    let mut calls = Vec::new();
    let (mut call, mut pairs) = (Call::new(PAIRS_PER_CALL), 0);
    for (resource, settlement) in settlements {
        if settlement.states.len() > PAIRS_PER_CALL {
            let users = settle_users_calls(keys, resource, settlement);
            calls.extend(users.into_iter().map(|call| ("settle_users", call)));
            let count = Call::settle_count(keys, resource, settlement);
            calls.push(("settle_count", count));
            continue;
        }
        if pairs >= PAIRS_PER_CALL {
            let full = std::mem::replace(&mut call, Call::new(PAIRS_PER_CALL));
            calls.push(("settle", full));
            pairs = 0;
        }
        call.count(keys, resource);
        call.settled_count(settlement.count);
        call.size(settlement.states.len());
        for (user_id, state) in &settlement.states {
            call.user(keys, user_id);
            call.state(*state);
        }
        pairs += 1 + settlement.states.len();
    }
    if pairs > 0 {
        calls.push(("settle", call));
    }
    calls
}

/// Returns calls that settle the users of one resource.
fn settle_users_calls(keys: &Keys, resource: &Resource, settlement: &Settlement) -> Vec<Call> {
    let states: Vec<_> = settlement.states.iter().collect();
    let parts = states.chunks(PAIRS_PER_CALL).map(|part| {
        let mut call = Call::new(1 + part.len());
        call.resource(resource);
        for (user_id, state) in part {
            call.user(keys, user_id);
            call.state(**state);
        }
        call
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::domain::{Deployment, LikeCount};

    /// Other processes read the count between two calls.
    #[test]
    fn large_commit_settles_its_count_in_one_call() {
        let keys = Keys(Arc::new(Deployment {
            id: Uuid::nil(),
            generation: "a".to_owned(),
        }));
        let resource = Resource::video(7);
        for likes in [1, 64, 65, 1_000] {
            let states = (1..=likes).map(|user| {
                let state = VersionedState {
                    version: Version(user),
                    liked: true,
                };
                (user.into(), state)
            });
            let settlement = Settlement {
                states: states.collect(),
                count: Some(LikeCount::NEVER),
            };
            let calls = settle_calls(&keys, &BTreeMap::from([(resource.clone(), settlement)]));
            let count = keys.count(&resource).text();
            let of_count = calls.iter().filter(|(_, call)| call.first_key() == count);
            assert_eq!(of_count.count(), 1, "{likes} likes");
            assert!(
                calls
                    .iter()
                    .all(|(_, call)| call.keys() <= 1 + PAIRS_PER_CALL)
            );
        }
    }
}
