//! The contract of every cache.

use std::collections::BTreeMap;

use likewise::cache::{Cache, Settlement};
use likewise::domain::{Applied, LikeCount, Pair, Reading, Resource, Version, VersionedState};

use super::other_id_kinds::OtherIds;
use super::{HOUR, OnRedis, One, PLENTY, VIDEO, cache_on, count, in_process, known, mark, run};
use crate::support::servers::{Kind, Server};

/// Runs each of these on both caches, with numbers and with other kinds of ids.
macro_rules! on_both {
    ($($test:ident)*) => {
        mod memory {
            $(#[test] fn $test() {
                let cache = super::in_process(super::PLENTY);
                super::run(super::$test(&cache));
            })*
        }
        mod memory_other_ids {
            $(#[test] fn $test() {
                let cache = super::OtherIds(super::in_process(super::PLENTY));
                super::run(super::$test(&cache));
            })*
        }
        mod redis_other_ids {
            $(#[test] fn $test() {
                let server = super::Server::start(super::Kind::Redis);
                let cache = super::cache_on(&server, super::PLENTY, super::HOUR);
                super::run(super::$test(&super::OtherIds(cache)));
            })*
        }
        mod redis {
            $(#[test] fn $test() {
                let on_redis = super::OnRedis::start();
                super::run(super::$test(&on_redis.cache));
            })*
        }
    };
}

on_both! {
    unset_pair_is_unknown
    newest_event_wins
    unlike_wins_a_tie
    count_is_database_count_plus_in_flight
    settlements_apply_in_any_order
    unliked_resource_is_known_completely
    fill_read_before_a_change_is_rejected
    non_durable_event_is_reverted
    settlement_of_thousands_of_pairs_is_complete
    batches_answer_in_order
    empty_batch_has_empty_answer
    dropped_entry_is_unknown
    count_is_read_and_filled_without_a_user
    current_versions_are_stored_exactly
}

const COMMENT: Resource = Resource {
    resource_type: likewise::domain::ResourceType::COMMENT,
    id: likewise::domain::Id::Number(7),
};

fn number(id: &likewise::domain::Id) -> i64 {
    id.number().expect("a number")
}

async fn unset_pair_is_unknown(cache: &dyn Cache) {
    let one = One(cache);
    cache.ping().await.expect("it is there");
    assert_eq!(one.read(VIDEO, 1.into()).await, Reading::default());
    one.settle(VIDEO, &[(1.into(), mark(5, true))], Some(count(1, 1)))
        .await;
    assert_eq!(one.read(VIDEO, 1.into()).await, Reading::default());
    let applied = one.apply(VIDEO, 1.into(), mark(10, true)).await;
    assert_eq!(
        applied,
        Applied {
            changed: None,
            newer: None,
            like_count: None
        }
    );
    assert!(applied.needs_fill());
    let wanted = Reading {
        liked: Some(true),
        like_count: None,
    };
    assert_eq!(one.read(VIDEO, 1.into()).await, wanted);
    assert_eq!(one.read(VIDEO, 2.into()).await, Reading::default());
    assert_eq!(one.read(COMMENT, 1.into()).await, Reading::default());
    one.learn(VIDEO, 1.into(), mark(5, false), count(3, 9))
        .await;
    assert_eq!(one.read(VIDEO, 1.into()).await, known(true, 4));
    let other = Reading {
        liked: None,
        like_count: Some(4),
    };
    assert_eq!(one.read(VIDEO, 2.into()).await, other);
}

async fn newest_event_wins(cache: &dyn Cache) {
    let one = One(cache);
    one.learn(VIDEO, 1.into(), VersionedState::NEVER, LikeCount::NEVER)
        .await;
    let applied = |changed, newer: Option<i64>, like_count| Applied {
        changed,
        newer: newer.map(Version),
        like_count: Some(like_count),
    };
    for (event, wanted) in [
        (mark(10, true), applied(Some(true), None, 1)),
        (mark(11, true), applied(Some(false), None, 1)),
        (mark(10, false), applied(Some(false), Some(11), 1)),
        // A redelivery of the same event, as the worker settles it.
        (mark(11, true), applied(None, None, 1)),
        (mark(12, false), applied(Some(true), None, 0)),
        (mark(9, true), applied(Some(false), Some(12), 0)),
    ] {
        assert_eq!(one.apply(VIDEO, 1.into(), event).await, wanted, "{event:?}");
    }
    assert_eq!(one.read(VIDEO, 1.into()).await, known(false, 0));
}

async fn count_is_read_and_filled_without_a_user(cache: &dyn Cache) {
    let one = One(cache);
    assert_eq!(one.count(VIDEO).await, None);
    assert_eq!(one.count(COMMENT).await, None);
    let life = one.open(VIDEO).await;
    let alone = |like_count| Reading {
        liked: None,
        like_count: Some(like_count),
    };
    let filled = one.fill_count(life, VIDEO, count(3, 9)).await;
    assert_eq!(filled, Some(alone(3)));
    assert_eq!(one.read(VIDEO, 1.into()).await, alone(3));
    // A pair without a settled state makes the count uncertain.
    one.apply(VIDEO, 1.into(), mark(10, true)).await;
    assert_eq!(one.count(VIDEO).await, None);
    one.learn(VIDEO, 1.into(), mark(5, false), count(3, 9))
        .await;
    assert_eq!(one.count(VIDEO).await, Some(4));
    let stale = one.fill_count(u64::MAX, VIDEO, count(7, 10)).await;
    assert_eq!(stale, None);
    let life = one.open(COMMENT).await;
    let filled = one.fill_count(life, COMMENT, LikeCount::NEVER).await;
    assert_eq!(filled, Some(alone(0)));
    assert_eq!(one.read(COMMENT, 9.into()).await, known(false, 0));
    let counts = cache.counts(&[COMMENT, VIDEO, Resource::video(8)]).await;
    assert_eq!(counts.expect("an answer"), [Some(0), Some(4), None]);
    let none = cache.counts(&[]).await;
    assert_eq!(none.expect("an answer"), []);
}

async fn unlike_wins_a_tie(cache: &dyn Cache) {
    let one = One(cache);
    one.learn(VIDEO, 1.into(), VersionedState::NEVER, LikeCount::NEVER)
        .await;
    one.apply(VIDEO, 1.into(), mark(10, true)).await;
    let unliked = one.apply(VIDEO, 1.into(), mark(10, false)).await;
    assert_eq!((unliked.changed, unliked.newer), (Some(true), None));
    let liked = one.apply(VIDEO, 1.into(), mark(10, true)).await;
    assert_eq!(
        (liked.changed, liked.newer),
        (Some(false), Some(Version(10)))
    );
    assert_eq!(one.read(VIDEO, 1.into()).await, known(false, 0));
    one.settle(VIDEO, &[(1.into(), mark(10, true))], Some(count(1, 1)))
        .await;
    assert_eq!(one.read(VIDEO, 1.into()).await, known(false, 0));
    one.settle(VIDEO, &[(1.into(), mark(10, false))], Some(count(0, 2)))
        .await;
    assert_eq!(one.read(VIDEO, 1.into()).await, known(false, 0));
}

async fn count_is_database_count_plus_in_flight(cache: &dyn Cache) {
    let one = One(cache);
    one.learn(VIDEO, 1.into(), mark(5, true), count(10, 40))
        .await;
    one.learn(VIDEO, 2.into(), mark(6, false), count(10, 40))
        .await;
    assert_eq!(
        one.apply(VIDEO, 1.into(), mark(20, false)).await.like_count,
        Some(9)
    );
    assert_eq!(
        one.apply(VIDEO, 2.into(), mark(21, true)).await.like_count,
        Some(10)
    );
    one.settle(VIDEO, &[(2.into(), mark(21, true))], Some(count(11, 41)))
        .await;
    assert_eq!(one.read(VIDEO, 2.into()).await, known(true, 10));
    one.settle(VIDEO, &[(1.into(), mark(20, false))], Some(count(10, 42)))
        .await;
    assert_eq!(one.read(VIDEO, 1.into()).await, known(false, 10));
    // A count that this commit did not change arrives without a state, or not at all.
    one.settle(VIDEO, &[], Some(count(15, 43))).await;
    one.settle(VIDEO, &[], None).await;
    assert_eq!(one.read(VIDEO, 1.into()).await, known(false, 15));
}

async fn settlements_apply_in_any_order(cache: &dyn Cache) {
    let one = One(cache);
    one.learn(VIDEO, 1.into(), mark(5, true), count(1, 4)).await;
    one.settle(VIDEO, &[(1.into(), mark(30, true))], Some(count(3, 6)))
        .await;
    one.settle(VIDEO, &[(1.into(), mark(20, false))], Some(count(2, 5)))
        .await;
    assert_eq!(one.read(VIDEO, 1.into()).await, known(true, 3));
    let late = one.apply(VIDEO, 1.into(), mark(25, false)).await;
    assert_eq!(late.newer, Some(Version(30)));
}

async fn unliked_resource_is_known_completely(cache: &dyn Cache) {
    let one = One(cache);
    one.learn(VIDEO, 1.into(), VersionedState::NEVER, LikeCount::NEVER)
        .await;
    assert_eq!(one.read(VIDEO, 1.into()).await, known(false, 0));
    assert_eq!(one.read(VIDEO, 99.into()).await, known(false, 0));
    one.settle(VIDEO, &[(50.into(), mark(10, true))], Some(count(1, 1)))
        .await;
    assert_eq!(one.read(VIDEO, 50.into()).await, known(true, 1));
    assert_eq!(one.read(VIDEO, 99.into()).await, known(false, 1));
    let applied = one.apply(VIDEO, 99.into(), mark(11, true)).await;
    assert_eq!((applied.changed, applied.like_count), (Some(true), Some(2)));
}

async fn fill_read_before_a_change_is_rejected(cache: &dyn Cache) {
    let one = One(cache);
    let life = one.open(VIDEO).await;
    assert_eq!(one.open(VIDEO).await, life, "nothing has changed");
    // A settlement arrives while a reader is on its way back from the database.
    one.settle(VIDEO, &[(1.into(), mark(10, true))], Some(count(1, 1)))
        .await;
    let filled = one.fill(
        life,
        VIDEO,
        1.into(),
        VersionedState::NEVER,
        LikeCount::NEVER,
    );
    assert_eq!(filled.await, None);
    assert_eq!(one.read(VIDEO, 1.into()).await, Reading::default());
    // The loss of the entry also makes the fill stale.
    let life = one.open(VIDEO).await;
    cache.drop_entries(&[VIDEO]).await.expect("an answer");
    let filled = one.fill(life, VIDEO, 1.into(), mark(10, true), count(1, 1));
    assert_eq!(filled.await, None);
    assert_ne!(one.open(VIDEO).await, life, "another life");
    let filled = one.fill(
        u64::MAX,
        VIDEO,
        1.into(),
        VersionedState::NEVER,
        LikeCount::NEVER,
    );
    assert_eq!(filled.await, None);
    assert_eq!(one.read(VIDEO, 1.into()).await, Reading::default());
}

async fn non_durable_event_is_reverted(cache: &dyn Cache) {
    let one = One(cache);
    one.learn(VIDEO, 1.into(), mark(5, true), count(1, 1)).await;
    one.apply(VIDEO, 1.into(), mark(10, false)).await;
    one.forget(VIDEO, 1.into(), 9).await;
    assert_eq!(
        one.read(VIDEO, 1.into()).await,
        known(false, 0),
        "another event"
    );
    one.forget(VIDEO, 1.into(), 10).await;
    assert_eq!(one.read(VIDEO, 1.into()).await, known(true, 1));
    // No reader has looked up this pair, and it hides the count until it is settled.
    one.apply(VIDEO, 2.into(), mark(11, true)).await;
    assert_eq!(one.read(VIDEO, 1.into()).await.like_count, None);
    one.forget(VIDEO, 2.into(), 11).await;
    assert_eq!(one.read(VIDEO, 1.into()).await, known(true, 1));
    assert_eq!(one.read(VIDEO, 2.into()).await.liked, None);
    one.forget(VIDEO, 3.into(), 11).await;
    one.forget(COMMENT, 1.into(), 11).await;
    assert_eq!(one.read(COMMENT, 1.into()).await, Reading::default());
}

async fn settlement_of_thousands_of_pairs_is_complete(cache: &dyn Cache) {
    const USERS: i64 = 3_333;
    let one = One(cache);
    one.learn(VIDEO, 1.into(), VersionedState::NEVER, LikeCount::NEVER)
        .await;
    let events: Vec<_> = (1..=USERS)
        .map(|user_id| {
            (
                Pair {
                    resource: VIDEO,
                    user_id: user_id.into(),
                },
                mark(user_id, true),
            )
        })
        .collect();
    let (first, _) = events.split_at(1_500);
    let applied = cache.apply(first).await.expect("answers");
    assert_eq!(applied.last().and_then(|last| last.like_count), Some(1_500));
    let settlement = Settlement {
        states: events
            .iter()
            .map(|(pair, mark)| (pair.user_id.clone(), *mark))
            .collect(),
        count: Some(count(USERS, 1)),
    };
    let settlements = BTreeMap::from([(VIDEO, settlement)]);
    cache.settle(&settlements).await.expect("an answer");
    let pairs: Vec<_> = events.iter().map(|(pair, _)| pair.clone()).collect();
    let readings = cache.read(&pairs).await.expect("answers");
    assert_eq!(readings.len(), pairs.len());
    assert!(
        readings
            .iter()
            .all(|reading| *reading == known(true, USERS))
    );
}

async fn batches_answer_in_order(cache: &dyn Cache) {
    let one = One(cache);
    let pairs: Vec<_> = (1..=20)
        .map(|id| Pair {
            resource: Resource::video(id),
            user_id: (100 + id).into(),
        })
        .collect();
    for pair in &pairs {
        one.learn(
            pair.resource.clone(),
            pair.user_id.clone(),
            mark(5, false),
            count(number(&pair.resource.id), 1),
        )
        .await;
    }
    let events: Vec<_> = pairs
        .iter()
        .map(|pair| (pair.clone(), mark(10, true)))
        .collect();
    let applied = cache.apply(&events).await.expect("answers");
    let readings = cache.read(&pairs).await.expect("answers");
    for ((pair, applied), reading) in pairs.iter().zip(applied).zip(readings) {
        assert_eq!(applied.like_count, Some(number(&pair.resource.id) + 1));
        assert_eq!(reading, known(true, number(&pair.resource.id) + 1));
    }
    // Two events of one pair in one batch, and a version between theirs.
    let twice = [
        (pairs[0].clone(), mark(12, false)),
        (pairs[0].clone(), mark(11, true)),
    ];
    let applied = cache.apply(&twice).await.expect("answers");
    assert_eq!(applied[0].newer, None);
    assert_eq!(applied[1].newer, Some(Version(12)));
}

async fn empty_batch_has_empty_answer(cache: &dyn Cache) {
    assert!(cache.read(&[]).await.expect("an answer").is_empty());
    assert!(cache.apply(&[]).await.expect("an answer").is_empty());
    assert!(cache.open(&[]).await.expect("an answer").is_empty());
    assert!(cache.fill(&[]).await.expect("an answer").is_empty());
    cache.settle(&BTreeMap::new()).await.expect("an answer");
    cache.forget(&[]).await.expect("an answer");
    cache.drop_entries(&[]).await.expect("an answer");
    assert!(!cache.restarted().await.expect("an answer"));
    assert!(!cache.restarted().await.expect("an answer"));
}

async fn dropped_entry_is_unknown(cache: &dyn Cache) {
    let one = One(cache);
    for resource in [VIDEO, COMMENT, Resource::video(8)] {
        one.learn(resource, 1.into(), mark(5, true), count(1, 1))
            .await;
    }
    let dropped = [COMMENT, Resource::video(8), Resource::video(9)];
    cache.drop_entries(&dropped).await.expect("an answer");
    assert_eq!(one.read(COMMENT, 1.into()).await, Reading::default());
    assert_eq!(
        one.read(Resource::video(8), 1.into()).await,
        Reading::default()
    );
    assert_eq!(one.read(VIDEO, 1.into()).await, known(true, 1));
    cache.clear().await.expect("an answer");
    assert_eq!(one.read(VIDEO, 1.into()).await, Reading::default());
    cache.clear().await.expect("nothing is left to clear");
}

async fn current_versions_are_stored_exactly(cache: &dyn Cache) {
    // Microseconds of the year 2255: Lua would print them with an exponent.
    const LATEST: i64 = (1 << 53) - 2;
    let one = One(cache);
    one.learn(VIDEO, 1.into(), mark(LATEST - 1, true), count(1, 1))
        .await;
    let older = one.apply(VIDEO, 1.into(), mark(LATEST - 2, false)).await;
    assert_eq!(older.newer, Some(Version(LATEST - 1)));
    let newer = one.apply(VIDEO, 1.into(), mark(LATEST, false)).await;
    assert_eq!((newer.newer, newer.changed), (None, Some(true)));
    let older = one.apply(VIDEO, 1.into(), mark(LATEST - 1, true)).await;
    assert_eq!(older.newer, Some(Version(LATEST)));
    // The largest ids.
    one.learn(
        Resource::video(i64::MAX),
        i64::MAX.into(),
        mark(1, true),
        count(1, 1),
    )
    .await;
    assert_eq!(
        one.read(Resource::video(i64::MAX), i64::MAX.into()).await,
        known(true, 1)
    );
}
