//! Reads: states, counts, pages of pairs, and the state of the ledger.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{TimeDelta, Utc};
use likewise::domain::{
    Action, BehaviorType, Id, Resource, ResourceType, Status, Version, VersionedState,
};
use likewise::store::{Store, Wanted};

use super::fixture::{Bench, comment, foreign, later, lease_at, own, pair};
use crate::support::database::Database;
use crate::support::until_seen;

matrix!(&[sqlite, mariadb, postgres]:
    missing_pairs_are_left_out,
    rows_of_users_are_loaded_with_pairs_of_others,
    pages_of_likes_follow_one_another,
    recently_recorded_pairs_are_found,
    recent_pairs_of_unserved_types_are_left_out,
    ledger_summary_counts_every_status,
    newest_version_is_found,
    server_clock_is_measured,
);

fn missing_pairs_are_left_out(bench: &Bench) {
    bench.ask(likewise::store::Store::ping);
    bench.complete(&[
        own(1.into(), Resource::video(7), Action::Like, 17),
        own(2.into(), comment(7), Action::Unlike, 18),
    ]);
    let wanted = BTreeSet::from([
        pair(1.into(), Resource::video(7)),
        pair(9.into(), Resource::video(7)),
        pair(1.into(), Resource::video(8)),
        pair(2.into(), comment(7)),
        pair(1.into(), comment(7)),
    ]);
    let found = bench.ask(|store| store.find(&wanted));
    let states = found.states.iter();
    let states: Vec<_> = states
        .map(|(pair, state)| (pair, state.version.0, state.liked))
        .collect();
    let unliked = pair(2.into(), comment(7));
    let liked = pair(1.into(), Resource::video(7));
    assert_eq!(states, [(&unliked, 18, false), (&liked, 17, true)]);
    let counts = found.counts.iter();
    let counts: Vec<_> = counts
        .map(|(of, count)| (of, count.like_count, count.revision))
        .collect();
    assert_eq!(counts, [(&comment(7), 0, 1), (&Resource::video(7), 1, 1)]);
    let nothing = BTreeSet::new();
    assert_eq!(bench.ask(|store| store.find(&nothing)), Default::default());
}

fn rows_of_users_are_loaded_with_pairs_of_others(bench: &Bench) {
    let video = Resource::video;
    bench.complete(&[
        own(1.into(), video(7), Action::Like, 17),
        own(1.into(), comment(7), Action::Unlike, 18),
        own(2.into(), video(7), Action::Like, 19),
        own(2.into(), video(8), Action::Like, 20),
        own(3.into(), comment(7), Action::Like, 21),
    ]);
    let wanted = Wanted {
        users: BTreeSet::from([Id::Number(1), Id::Number(9)]),
        pairs: BTreeSet::from([
            pair(2.into(), video(7)),
            pair(3.into(), comment(7)),
            pair(3.into(), video(7)),
        ]),
        resources: BTreeSet::from([video(7), comment(7), video(9)]),
    };
    let state = |version, liked| VersionedState {
        version: Version(version),
        liked,
    };
    let mut loaded = bench.ask(|store| store.load_entries(&wanted, 2));
    for rows in loaded.users.values_mut().flatten() {
        rows.sort_unstable();
    }
    let mut rows = vec![(video(7), state(17, true)), (comment(7), state(18, false))];
    rows.sort_unstable();
    let users = [
        (Id::Number(1), Some(rows)),
        (Id::Number(9), Some(Vec::new())),
    ];
    assert_eq!(loaded.users, BTreeMap::from(users));
    let states = [
        (pair(2.into(), video(7)), state(19, true)),
        (pair(3.into(), comment(7)), state(21, true)),
    ];
    assert_eq!(loaded.found.states, BTreeMap::from(states));
    let counts = loaded.found.counts.iter();
    let counts: BTreeMap<_, _> = counts
        .map(|(of, count)| (of.clone(), count.like_count))
        .collect();
    assert_eq!(counts, BTreeMap::from([(video(7), 2), (comment(7), 1)]));

    // A user with more rows than the limit has none.
    let limited = bench.ask(|store| store.load_entries(&wanted, 1));
    assert_eq!(limited.users[&Id::Number(1)], None);
    assert_eq!(limited.found, loaded.found);
    let without_users = Wanted {
        users: BTreeSet::new(),
        ..wanted
    };
    let found = bench.ask(|store| store.load_entries(&without_users, 2));
    assert_eq!(found.users, BTreeMap::new());
    assert_eq!(found.found, loaded.found);
}

fn pages_of_likes_follow_one_another(bench: &Bench) {
    let mut events = Vec::new();
    for user in [1, 2, i64::MAX] {
        for id in [1, 5, i64::MAX] {
            let action = match id {
                5 => Action::Unlike,
                _ => Action::Like,
            };
            events.push(own(user.into(), Resource::video(id), action, 17 + user % 5));
        }
    }
    events.push(own(3.into(), comment(1), Action::Like, 17));
    bench.complete(&events);
    let mut after = (Id::Number(0), Id::Number(0));
    let mut read = Vec::new();
    loop {
        let page =
            bench.ask(|store| store.likes_after(ResourceType::VIDEO, (&after.0, &after.1), 2));
        let Some((last, _)) = page.last() else {
            break;
        };
        assert!(page.len() <= 2);
        after = (last.user_id.clone(), last.resource.id.clone());
        read.extend(page);
    }
    assert_eq!(read.len(), 9);
    for (event, (found, state)) in events.iter().zip(&read) {
        assert_eq!(*found, pair(event.user_id.clone(), event.resource.clone()));
        assert_eq!(state.version, event.version);
        assert_eq!(state.liked, event.behavior == BehaviorType::Like);
    }
    let none = Id::Number(0);
    let comments = bench.ask(|store| store.likes_after(ResourceType::COMMENT, (&none, &none), 10));
    assert_eq!(comments.len(), 1);
}

fn recently_recorded_pairs_are_found(bench: &Bench) {
    let video = Resource::video;
    let event = |user, video| own(user, video, Action::Like, 17);
    bench.record(&[event(1.into(), video(1))]);
    bench.record(&[event(2.into(), comment(2))]);
    bench.record(&[event(3.into(), video(3))]);
    let view = foreign(4.into(), video(4), BehaviorType::View, 17, "legacy");
    bench.record(&[view]);
    let last = |limit| bench.ask(|store| store.recent_pairs(limit));
    let expected = [pair(3.into(), video(3)), pair(2.into(), comment(2))];
    assert_eq!(last(2), expected.into());
    assert_eq!(last(100).len(), 3);
    assert!(last(0).is_empty());
}

fn recent_pairs_of_unserved_types_are_left_out(bench: &Bench) {
    let likes = [1, 2, 3].map(|user| own(user.into(), Resource::video(7), Action::Like, 17));
    bench.complete(&likes);
    bench.execute(&[
        "UPDATE sync_events SET resource_type = 'song' WHERE user_id = 2",
        "UPDATE sync_events SET resource_type = 'No type' WHERE user_id = 3",
    ]);
    let recent = bench.ask(|store| store.recent_pairs(100));
    assert_eq!(recent, [pair(1.into(), Resource::video(7))].into());
}

fn ledger_summary_counts_every_status(bench: &Bench) {
    let summary = || bench.ask(Store::ledger_summary);
    let open = || bench.ask(Store::open_rows);
    assert_eq!((open(), summary()), (0, BTreeMap::new()));
    let event = |user| own(user, Resource::video(1), Action::Like, 17);
    let rows = bench.record(&[event(1.into()), event(2.into()), event(3.into())]);
    assert_eq!((open(), summary()), (3, [(Status::Pending, 3)].into()));
    bench.sync(&rows[..1]);
    bench.ask(|store| store.claim(lease_at(later()), 1));
    let each = [Status::Pending, Status::Processing, Status::Completed];
    let expected = each.map(|status| (status, 1)).into();
    assert_eq!((open(), summary()), (2, expected));
}

fn newest_version_is_found(bench: &Bench) {
    let newest = |limit| bench.ask(|store| store.newest_version(limit));
    assert_eq!(newest(10), Version::NEVER);
    for version in [5, 900, 17] {
        let video = Resource::video(1);
        bench.record(&[own(version.into(), video, Action::Like, version)]);
    }
    assert_eq!(newest(10), Version(900));
    assert_eq!(newest(1), Version(17));
}

fn server_clock_is_measured(bench: &Bench) {
    let is_sqlite = matches!(bench.database(), Database::Sqlite(_));
    // An answer that took too long measures nothing.
    let measured = || {
        bench.ask(likewise::store::Store::measure_clock);
        bench.ask(|store| Box::pin(async { Ok(store.clock_skew()) }))
    };
    let is_known = |skew: &Option<TimeDelta>| skew.is_none() == is_sqlite;
    let skew = until_seen("the clock to be measured", measured, is_known);
    // Store and database share one machine and its clock.
    let tolerance = TimeDelta::seconds(2);
    let is_small = skew.is_none_or(|skew| skew.abs() < tolerance);
    assert!(is_small, "{skew:?}");
    let before = Utc::now();
    let now = bench.ask(|store| Box::pin(async { Ok(store.now()) }));
    assert!(
        before - tolerance < now && now < Utc::now() + tolerance,
        "{now}"
    );
}
