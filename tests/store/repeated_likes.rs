//! The time of a like: repeats keep it, an unlike ends it, and it follows from the events in any order of arrival.

use std::collections::BTreeMap;

use chrono::{TimeDelta, Utc};
use likewise::domain::{Action, BehaviorEvent, IdKind, LedgerRow, Resource, ResourceType, Version};
use likewise::store::Cursor;

use super::audit_and_prune::{audit, prune};
use super::fixture::{Bench, own};
use crate::support::database::Value;

matrix!(&[sqlite, mariadb, postgres]:
    repeated_like_keeps_its_time_and_place,
    every_order_of_events_gives_the_same_rows,
    pruned_likes_are_rebuilt_with_their_time,
);

static VIDEO: Resource = Resource::video(7);

/// Records and syncs a like or an unlike of the video.
fn send(bench: &Bench, user: i64, action: Action, version: i64) {
    let rows = bench.record(&[own(user.into(), VIDEO.clone(), action, version)]);
    bench.sync(&rows);
}

/// The users who like the video with the version of each like, newest first; read in pages of one.
fn likers(bench: &Bench) -> Vec<(i64, i64)> {
    let mut all = Vec::new();
    let mut after = Cursor::start(IdKind::Number);
    loop {
        let page = bench.ask(|store| store.likers(&VIDEO, &after, 1));
        let Some((pair, since)) = page.into_iter().next() else {
            return all;
        };
        all.push((pair.user_id.number().expect("a number"), since.0));
        after = Cursor {
            since,
            id: pair.user_id,
        };
    }
}

fn repeated_like_keeps_its_time_and_place(bench: &Bench) {
    let start = Utc::now().timestamp_micros();
    for user in 1..=3 {
        send(bench, user, Action::Like, start + user);
    }
    let before = [(3, start + 3), (2, start + 2), (1, start + 1)];
    assert_eq!(likers(bench), before);
    send(bench, 1, Action::Like, start + 10);
    send(bench, 2, Action::Like, start + 11);
    assert_eq!(likers(bench), before);
    let version = "SELECT version FROM video_likes WHERE user_id = 1";
    assert_eq!(bench.database().number(version), start + 10);
    // Two repeats of one batch, and an unlike with a like after it.
    let events = [
        own(3.into(), VIDEO.clone(), Action::Like, start + 20),
        own(3.into(), VIDEO.clone(), Action::Like, start + 21),
        own(1.into(), VIDEO.clone(), Action::Unlike, start + 22),
        own(1.into(), VIDEO.clone(), Action::Like, start + 23),
        own(1.into(), VIDEO.clone(), Action::Like, start + 24),
    ];
    let rows = bench.record(&events);
    assert_eq!(bench.sync(&rows).changed, []);
    let after = [(1, start + 23), (3, start + 3), (2, start + 2)];
    assert_eq!(likers(bench), after);
    let one = 1.into();
    let liked = bench.ask(|store| {
        let start = Cursor::start(IdKind::Number);
        async move { store.liked_by(&one, ResourceType::VIDEO, &start, 9).await }
    });
    assert_eq!(liked.len(), 1);
    assert_eq!(liked[0].1, Version(start + 23));
    bench.verified();
}

/// The versions of a history of four events, two of them equal.
const VERSIONS: [i64; 4] = [10, 20, 20, 30];

/// The sizes of the batches in which a history arrives.
const BATCHES: [&[usize]; 4] = [&[1, 1, 1, 1], &[1, 3], &[3, 1], &[2, 2]];

/// Every order of four places.
fn orders() -> Vec<Vec<usize>> {
    let mut orders = vec![vec![]];
    for place in 0..4 {
        orders = orders
            .iter()
            .flat_map(|order: &Vec<usize>| {
                (0..=order.len()).map(move |at| {
                    let mut order = order.clone();
                    order.insert(at, place);
                    order
                })
            })
            .collect();
    }
    orders
}

/// The row of a history: version, since, and whether it is liked.
fn row(actions: &[Action]) -> (i64, i64, bool) {
    let events = || actions.iter().zip(VERSIONS);
    let unlike = events()
        .filter(|(action, _)| !action.liked())
        .map(|(_, version)| version)
        .max()
        .unwrap_or(0);
    let run = events().filter(|(action, version)| action.liked() && *version > unlike);
    match run.map(|(_, version)| version).min() {
        Some(since) => (30, since, true),
        None => (30, 30, false),
    }
}

fn every_order_of_events_gives_the_same_rows(bench: &Bench) {
    let action = |like: bool| if like { Action::Like } else { Action::Unlike };
    let mut expected = BTreeMap::new();
    // The batches of each way to cut a history: the n-th batches of all users arrive together.
    let mut arriving: Vec<Vec<Vec<BehaviorEvent>>> = Vec::new();
    let mut user = 0;
    for sizes in BATCHES {
        let mut batches = vec![Vec::new(); sizes.len()];
        for history in 0..16 {
            let actions: Vec<_> = (0..4).map(|n| action(history >> n & 1 == 1)).collect();
            for order in orders() {
                user += 1;
                expected.insert(user, row(&actions));
                let mut events = order.iter().map(|place| {
                    own(
                        user.into(),
                        VIDEO.clone(),
                        actions[*place],
                        VERSIONS[*place],
                    )
                });
                for (batch, size) in batches.iter_mut().zip(sizes) {
                    batch.extend(events.by_ref().take(*size));
                }
            }
        }
        arriving.push(batches);
    }
    let mut all: Vec<LedgerRow> = Vec::new();
    for batch in arriving.into_iter().flatten() {
        let rows = bench.record(&batch);
        bench.sync(&rows);
        all.extend(rows);
    }
    let read = || {
        let rows = bench.database().rows(
            "SELECT user_id, version, created_at, deleted_at FROM video_likes ORDER BY user_id",
        );
        let row = |row: &Vec<Value>| {
            let at = row[2].text().strip_prefix("1970-01-01 00:00:00.0000");
            let at = at.expect("a moment of the history").parse::<i64>();
            let liked = matches!(row[3], Value::Null);
            assert!(liked || row[3] == row[2], "{row:?}");
            (
                row[0].number(),
                (row[1].number(), at.expect("a number"), liked),
            )
        };
        rows.iter().map(row).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(read(), expected);
    // Duplicates change nothing.
    all.reverse();
    for batch in all.chunks(1_000) {
        assert_eq!(bench.sync(batch).changed, []);
    }
    assert_eq!(read(), expected);
    bench.verified();
}

fn pruned_likes_are_rebuilt_with_their_time(bench: &Bench) {
    const OLD: &str = "UPDATE user_behaviors SET created_at = '2020-01-01 00:00:00'";
    /// The events of a user, and the versions that stay.
    type History = (&'static [(Action, i64)], &'static [i64]);
    let histories: [History; 4] = [
        (&[(Action::Like, 11)], &[11]),
        (
            &[(Action::Like, 11), (Action::Like, 12), (Action::Like, 13)],
            &[11, 13],
        ),
        (
            &[
                (Action::Like, 10),
                (Action::Unlike, 11),
                (Action::Like, 12),
                (Action::Unlike, 13),
                (Action::Like, 14),
                (Action::Like, 15),
                (Action::Like, 16),
            ],
            &[13, 14, 16],
        ),
        (
            &[
                (Action::Like, 10),
                (Action::Unlike, 11),
                (Action::Unlike, 12),
            ],
            &[12],
        ),
    ];
    for (user, (history, _)) in (1..).zip(histories) {
        let event =
            |(action, version): &(Action, i64)| own(user.into(), VIDEO.clone(), *action, *version);
        let rows = bench.record(&history.iter().map(event).collect::<Vec<_>>());
        bench.sync(&rows);
    }
    let read = || {
        bench
            .database()
            .rows("SELECT * FROM video_likes ORDER BY user_id")
    };
    let before = read();
    bench.database().execute(&[OLD]);
    assert_eq!(prune(bench, Utc::now() - TimeDelta::days(30)), 7);
    for (user, (_, kept)) in (1..).zip(histories) {
        let sql =
            format!("SELECT version FROM user_behaviors WHERE user_id = {user} ORDER BY version");
        let rows = bench.database().rows(&sql);
        let versions: Vec<_> = rows.iter().map(|row| row[0].number()).collect();
        assert_eq!(versions, kept, "user {user}");
    }
    bench.verified();
    bench.database().execute(&[
        "DELETE FROM video_likes",
        "DELETE FROM likewise_like_counts",
    ]);
    assert!(!audit(bench, 10).is_empty());
    assert_eq!(read(), before);
    // An event older than the pruned ones changes nothing.
    send(bench, 3, Action::Like, 9);
    assert_eq!(read(), before);
    bench.verified();
}
