//! The contract of every cache.

use std::collections::BTreeMap;

use likewise::cache::{Cache, CountFilling, Filled, Filling, Settlement, UserFilling};
use likewise::domain::{
    Applied, CountFill, Coverage, DataSubject, EntryId, EntryView, LikeCount, OVERDUE_AFTER, Pair,
    Reading, Resource, Version, VersionedState,
};

use super::other_id_kinds::OtherIds;
use super::{
    HOUR, NOW, OnRedis, One, PLENTY, VIDEO, cache_on, cache_on_cluster, count, entries, in_process,
    known, mark, run,
};
use crate::support::redis_cluster::RedisCluster;
use crate::support::servers::{Kind, Server};

/// Runs each of these on all caches, with numbers and with other kinds of ids.
macro_rules! on_all {
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
        mod cluster {
            $(#[test] fn $test() {
                let cluster = super::RedisCluster::shared();
                let cache = super::cache_on_cluster(&cluster, super::PLENTY);
                super::run(super::$test(&cache));
            })*
        }
        mod cluster_other_ids {
            $(#[test] fn $test() {
                let cluster = super::RedisCluster::shared();
                let cache = super::cache_on_cluster(&cluster, super::PLENTY);
                super::run(super::$test(&super::OtherIds(cache)));
            })*
        }
    };
}

on_all! {
    unset_pair_is_unknown
    newest_event_wins
    unlike_wins_a_tie
    count_is_database_count_plus_in_flight
    settlements_apply_in_any_order
    filled_user_is_known_completely
    large_user_is_known_by_pairs
    fill_read_before_a_change_is_rejected
    fill_after_a_commit_counts_no_event_twice
    non_durable_event_is_reverted
    event_joins_the_count_once
    answer_that_needs_a_fill_opens_its_entries
    event_joins_with_the_fill_it_waited_for
    settlement_of_thousands_of_pairs_is_complete
    batches_answer_in_order
    empty_batch_has_empty_answer
    dropped_entry_is_unknown
    count_is_read_and_filled_without_a_user
    current_versions_are_stored_exactly
    overdue_events_are_reported_oldest_first
    entries_are_listed_shown_and_searched
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
    let unknown = Applied {
        changed: None,
        newer: None,
        like_count: None,
    };
    let applied = one.apply(VIDEO, 1.into(), mark(10, true)).await;
    assert_eq!(applied, unknown);
    assert!(applied.needs_fill());
    let wanted = Reading {
        liked: Some(true),
        ..Reading::default()
    };
    assert_eq!(one.read(VIDEO, 1.into()).await, wanted);
    assert_eq!(one.read(VIDEO, 2.into()).await, Reading::default());
    assert_eq!(one.read(COMMENT, 1.into()).await, Reading::default());
    one.learn(VIDEO, 1.into(), mark(5, false), count(3, 9))
        .await;
    // The filled entries tell the difference of the event, which joins the count when it is applied again.
    assert_eq!(one.read(VIDEO, 1.into()).await, known(true, 3));
    let again = one.apply(VIDEO, 1.into(), mark(10, true)).await;
    assert_eq!(again.like_count, Some(4));
    assert_eq!(one.read(VIDEO, 1.into()).await, known(true, 4));
    let other = Reading {
        liked: None,
        ..known(true, 4)
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
        // The same event again.
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
    let (_, life) = one.open(VIDEO, 1.into()).await;
    assert!(!one.fill_count(Some(3), VIDEO, count(7, 10)).await);
    assert!(one.fill_count(life, VIDEO, count(3, 9)).await);
    let alone = Reading {
        liked: None,
        ..known(true, 3)
    };
    assert_eq!(one.read(VIDEO, 1.into()).await, alone);
    let (_, life) = one.open(VIDEO, 1.into()).await;
    assert_eq!(life, None, "a known count has no lifetime");
    assert!(one.fill_count(life, VIDEO, count(9, 8)).await);
    assert_eq!(one.count(VIDEO).await, Some(3), "an older revision");
    assert!(one.fill_count(life, VIDEO, count(4, 10)).await);
    let three = [COMMENT, VIDEO, Resource::video(8)];
    let counts = cache.read(None, &three, NOW).await.expect("an answer");
    let counts: Vec<_> = counts
        .iter()
        .map(|one| (one.liked, one.like_count))
        .collect();
    assert_eq!(counts, [(None, None), (None, Some(4)), (None, None)]);
    let none = cache.read(None, &[], NOW).await;
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
    // Two events of one user in two commits, settled in order and then the other way round.
    for resource in [COMMENT, Resource::video(8)] {
        one.learn(
            resource.clone(),
            2.into(),
            VersionedState::NEVER,
            LikeCount::NEVER,
        )
        .await;
        one.apply(resource.clone(), 2.into(), mark(40, true)).await;
        one.apply(resource.clone(), 2.into(), mark(41, false)).await;
        let mut commits = [
            ([(2.into(), mark(40, true))], count(1, 1)),
            ([(2.into(), mark(41, false))], count(0, 2)),
        ];
        if resource == COMMENT {
            commits.reverse();
        }
        for (states, count) in commits {
            one.settle(resource.clone(), &states, Some(count)).await;
            assert_eq!(one.read(resource.clone(), 2.into()).await, known(false, 0));
        }
    }
}

async fn filled_user_is_known_completely(cache: &dyn Cache) {
    let one = One(cache);
    one.learn(VIDEO, 1.into(), VersionedState::NEVER, LikeCount::NEVER)
        .await;
    one.learn(VIDEO, 2.into(), mark(5, true), LikeCount::NEVER)
        .await;
    assert_eq!(one.read(VIDEO, 1.into()).await, known(false, 0));
    // A resource that no reader has looked up.
    let other = one.read(Resource::video(99), 1.into()).await;
    assert_eq!((other.liked, other.like_count), (Some(false), None));
    one.settle(VIDEO, &[(1.into(), mark(10, true))], Some(count(2, 2)))
        .await;
    assert_eq!(one.read(VIDEO, 1.into()).await, known(true, 2));
    let applied = one.apply(VIDEO, 2.into(), mark(11, false)).await;
    assert_eq!((applied.changed, applied.like_count), (Some(true), Some(1)));
}

async fn large_user_is_known_by_pairs(cache: &dyn Cache) {
    let one = One(cache);
    let (life, count_life) = one.open(VIDEO, 1.into()).await;
    assert!(one.fill_count(count_life, VIDEO, count(5, 5)).await);
    let rows = [(VIDEO, mark(5, true)), (COMMENT, VersionedState::NEVER)];
    let filled = one.fill_user(life, 1.into(), Coverage::Partial, &rows);
    assert!(filled.await);
    let opened = cache.open(&[1.into()], &[]).await.expect("an answer");
    assert_eq!(opened.users[0].1, Coverage::Partial);
    assert_eq!(one.read(VIDEO, 1.into()).await, known(true, 5));
    assert_eq!(one.read(COMMENT, 1.into()).await.liked, Some(false));
    assert_eq!(one.read(Resource::video(8), 1.into()).await.liked, None);
    // A commit on a pair that the entry lacks may be newer than a read in progress.
    let (life, _) = one.open(Resource::video(8), 1.into()).await;
    one.settle(Resource::video(8), &[(1.into(), mark(9, true))], None)
        .await;
    let rows = [(Resource::video(8), VersionedState::NEVER)];
    let filled = one.fill_user(life, 1.into(), Coverage::Partial, &rows);
    assert!(!filled.await);
}

async fn fill_read_before_a_change_is_rejected(cache: &dyn Cache) {
    let one = One(cache);
    let lives = one.open(VIDEO, 1.into()).await;
    assert_eq!(
        one.open(VIDEO, 1.into()).await,
        lives,
        "nothing has changed"
    );
    // A settlement arrives while a reader is on its way back from the database.
    one.settle(VIDEO, &[(1.into(), mark(10, true))], Some(count(1, 1)))
        .await;
    let none = || one.fill_user(lives.0, 1.into(), Coverage::Complete, &[]);
    assert!(!none().await);
    assert!(!one.fill_count(lives.1, VIDEO, LikeCount::NEVER).await);
    assert_eq!(one.read(VIDEO, 1.into()).await, Reading::default());
    // The loss of the entries also makes the fill stale.
    let lives = one.open(VIDEO, 1.into()).await;
    let both = entries(VIDEO, 1.into());
    cache.drop_entries(&both).await.expect("an answer");
    let fill = || one.fill_user(lives.0, 1.into(), Coverage::Complete, &[]);
    assert!(!fill().await);
    assert!(!one.fill_count(lives.1, VIDEO, count(1, 1)).await);
    let again = one.open(VIDEO, 1.into()).await;
    assert!(again.0 != lives.0 && again.1 != lives.1, "other lives");
    assert!(!fill().await);
    assert!(!one.fill_count(lives.1, VIDEO, count(1, 1)).await);
    assert_eq!(one.read(VIDEO, 1.into()).await, Reading::default());
}

async fn fill_after_a_commit_counts_no_event_twice(cache: &dyn Cache) {
    let one = One(cache);
    one.learn(VIDEO, 1.into(), VersionedState::NEVER, count(7, 3))
        .await;
    one.apply(VIDEO, 1.into(), mark(10, true)).await;
    assert_eq!(one.count(VIDEO).await, Some(8));
    // A reader loads the count after the commit of the event, whose settlement is on its way.
    let filling = Filling {
        counts: vec![CountFilling {
            resource: VIDEO,
            incarnation: 0,
            count: count(8, 4),
        }],
        ..Filling::default()
    };
    let filled = cache.fill_and_apply(&filling, NOW).await.expect("answers");
    assert_eq!(filled.counts, [CountFill::Kept]);
    assert_eq!(one.count(VIDEO).await, Some(8));
    one.settle(VIDEO, &[(1.into(), mark(10, true))], Some(count(8, 4)))
        .await;
    assert_eq!(one.count(VIDEO).await, Some(8));
    let filled = one.fill_count(None, VIDEO, count(9, 5));
    assert!(filled.await, "nothing is in flight");
    assert_eq!(one.count(VIDEO).await, Some(9));
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
    assert_eq!(one.read(VIDEO, 1.into()).await, known(true, 1), "as before");
    // Only the database knows the version of the pair.
    let applied = one.apply(VIDEO, 1.into(), mark(20, false)).await;
    assert_eq!((applied.changed, applied.like_count), (None, None));
    one.forget(VIDEO, 1.into(), 20).await;
    assert_eq!(one.read(VIDEO, 1.into()).await.liked, None);
    one.learn(VIDEO, 1.into(), mark(5, true), count(1, 1)).await;
    assert_eq!(one.read(VIDEO, 1.into()).await, known(true, 1));
    // No reader has filled the entry of this user.
    one.apply(VIDEO, 2.into(), mark(11, true)).await;
    one.forget(VIDEO, 2.into(), 11).await;
    assert_eq!(one.read(VIDEO, 2.into()).await.liked, None);
    one.forget(VIDEO, 3.into(), 11).await;
    one.forget(COMMENT, 1.into(), 11).await;
    assert_eq!(one.read(VIDEO, 1.into()).await, known(true, 1));
    // A settled event stays.
    one.settle(VIDEO, &[(1.into(), mark(12, false))], Some(count(0, 2)))
        .await;
    one.forget(VIDEO, 1.into(), 12).await;
    assert_eq!(one.read(VIDEO, 1.into()).await, known(false, 0));
}

async fn event_joins_the_count_once(cache: &dyn Cache) {
    let one = One(cache);
    one.learn(VIDEO, 1.into(), VersionedState::NEVER, count(7, 3))
        .await;
    for _ in 0..3 {
        let applied = one.apply(VIDEO, 1.into(), mark(10, true)).await;
        assert_eq!(applied.like_count, Some(8));
    }
    one.settle(VIDEO, &[(1.into(), mark(10, true))], Some(count(8, 4)))
        .await;
    // The settlement arrived before this call.
    let late = one.apply(VIDEO, 1.into(), mark(10, true)).await;
    assert_eq!(late.like_count, Some(8));
    // A settlement that arrives before the event is applied at all.
    one.settle(VIDEO, &[(1.into(), mark(20, false))], Some(count(7, 5)))
        .await;
    let late = one.apply(VIDEO, 1.into(), mark(20, false)).await;
    assert_eq!((late.newer, late.like_count), (None, Some(7)));
    assert_eq!(one.read(VIDEO, 1.into()).await, known(false, 7));
}

async fn settlement_of_thousands_of_pairs_is_complete(cache: &dyn Cache) {
    const USERS: i64 = 3_333;
    let one = One(cache);
    let pair = |user_id: i64| Pair {
        resource: VIDEO,
        user_id: user_id.into(),
    };
    one.learn(VIDEO, 1.into(), VersionedState::NEVER, LikeCount::NEVER)
        .await;
    for user_id in 2..=USERS {
        let lives = one.open(VIDEO, user_id.into()).await;
        let filled = one.fill_user(lives.0, user_id.into(), Coverage::Complete, &[]);
        assert!(filled.await);
    }
    let events: Vec<_> = (1..=USERS)
        .map(|user_id| (pair(user_id), mark(user_id, true)))
        .collect();
    let (first, _) = events.split_at(1_500);
    let applied = cache.apply(first, NOW).await.expect("answers");
    assert_eq!(applied.last().and_then(|last| last.like_count), Some(1_500));
    let settlement = Settlement {
        states: events
            .iter()
            .map(|(pair, mark)| (pair.user_id.clone(), *mark))
            .collect(),
        count: Some(count(USERS, 1)),
    };
    let settlements = BTreeMap::from([(VIDEO, settlement)]);
    cache.settle(&settlements, NOW).await.expect("an answer");
    for user_id in 1..=USERS {
        assert_eq!(one.read(VIDEO, user_id.into()).await, known(true, USERS));
    }
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
    let applied = cache.apply(&events, NOW).await.expect("answers");
    for (pair, applied) in pairs.iter().zip(applied) {
        let wanted = number(&pair.resource.id) + 1;
        assert_eq!(applied.like_count, Some(wanted));
        let reading = one.read(pair.resource.clone(), pair.user_id.clone()).await;
        assert_eq!(reading, known(true, wanted));
    }
    let resources: Vec<_> = pairs.iter().map(|pair| pair.resource.clone()).collect();
    let page = cache.read(Some(&105.into()), &resources, NOW).await;
    for (resource, reading) in resources.iter().zip(page.expect("answers")) {
        let id = number(&resource.id);
        assert_eq!(reading, known(id == 5, id + 1));
    }
    // Two events of one pair in one batch, and a version between theirs.
    let twice = [
        (pairs[0].clone(), mark(12, false)),
        (pairs[0].clone(), mark(11, true)),
    ];
    let applied = cache.apply(&twice, NOW).await.expect("answers");
    assert_eq!(applied[0].newer, None);
    assert_eq!(applied[1].newer, Some(Version(12)));
}

async fn answer_that_needs_a_fill_opens_its_entries(cache: &dyn Cache) {
    let one = One(cache);
    let events = [1, 2].map(|user: i64| {
        let user_id = user.into();
        let resource = VIDEO;
        (Pair { resource, user_id }, mark(10, true))
    });
    let answers = cache.apply_and_open(&events[..1], NOW).await;
    let (applied, opened) = answers.expect("an answer")[0];
    assert!(applied.needs_fill());
    let opened = opened.expect("opened entries");
    assert_eq!(opened.user.1, Coverage::Unfilled);
    assert_eq!(
        (opened.user.0, opened.count),
        one.open(VIDEO, 1.into()).await
    );
    let filled = one.fill_user(opened.user.0, 1.into(), Coverage::Complete, &[]);
    assert!(filled.await);
    let filled = one.fill_count(opened.count, VIDEO, count(3, 9));
    assert!(filled.await);
    // Now only the user is missing.
    let answers = cache.apply_and_open(&events[1..], NOW).await;
    let (applied, opened) = answers.expect("an answer")[0];
    assert!(applied.needs_fill());
    assert_eq!(opened.expect("opened entries").count, None);
    let known = [(events[0].0.clone(), mark(11, false))];
    let answers = cache.apply_and_open(&known, NOW).await;
    assert_eq!(answers.expect("an answer")[0].1, None);
}

async fn event_joins_with_the_fill_it_waited_for(cache: &dyn Cache) {
    // More than one call of a script takes.
    let events: Vec<_> = (1..=150)
        .map(|user: i64| {
            let pair = Pair {
                resource: Resource::video(user % 7),
                user_id: user.into(),
            };
            (pair, mark(user, true))
        })
        .collect();
    let opened = cache.apply_and_open(&events, NOW).await.expect("answers");
    let mut filling = Filling {
        events: events.clone(),
        ..Filling::default()
    };
    let mut counted = std::collections::BTreeSet::new();
    for ((pair, _), (_, opened)) in events.iter().zip(opened) {
        let opened = opened.expect("opened entries");
        // One entry changed since it was opened.
        let is_stale = pair.user_id == 9.into();
        filling.users.push(UserFilling {
            user_id: pair.user_id.clone(),
            incarnation: opened.user.0 + u64::from(is_stale) * 1_000_000,
            coverage: Coverage::Complete,
            rows: Vec::new(),
        });
        if counted.insert(pair.resource.clone()) {
            filling.counts.push(CountFilling {
                resource: pair.resource.clone(),
                incarnation: opened.count.expect("an unknown count"),
                count: count(100, 5),
            });
        }
    }
    let filled = cache.fill_and_apply(&filling, NOW).await.expect("answers");
    let are_taken = filled.counts.iter().all(|fill| *fill == CountFill::Taken);
    assert!(are_taken, "{:?}", filled.counts);
    for (place, applied) in filled.applied.iter().enumerate() {
        assert_eq!(applied.is_none(), place == 8, "event {place}");
        assert_eq!(filled.users[place], place != 8, "user {place}");
    }
    let last = filled.applied[149].expect("an answer");
    // Of the users of this video, 22 came first or are this one.
    assert_eq!(last.like_count, Some(122));
    let one = One(cache);
    assert_eq!(
        one.count(Resource::video(2)).await,
        Some(121),
        "without the stale one"
    );
}

async fn empty_batch_has_empty_answer(cache: &dyn Cache) {
    let user_id = 1.into();
    let read = cache.read(Some(&user_id), &[], NOW).await;
    assert!(read.expect("an answer").is_empty());
    assert!(cache.apply(&[], NOW).await.expect("an answer").is_empty());
    let opened = cache.open(&[], &[]).await.expect("an answer");
    assert!(opened.users.is_empty() && opened.counts.is_empty());
    let filled = cache.fill_and_apply(&Filling::default(), NOW).await;
    assert_eq!(filled.expect("an answer"), Filled::default());
    cache
        .settle(&BTreeMap::new(), NOW)
        .await
        .expect("an answer");
    cache.forget(&[], NOW).await.expect("an answer");
    cache.drop_entries(&[]).await.expect("an answer");
    assert!(!cache.restarted().await.expect("an answer"));
    assert!(!cache.restarted().await.expect("an answer"));
}

async fn dropped_entry_is_unknown(cache: &dyn Cache) {
    let one = One(cache);
    for resource in [VIDEO, COMMENT] {
        one.learn(resource, 1.into(), mark(5, true), count(1, 1))
            .await;
    }
    let dropped = [EntryId::Count(COMMENT), EntryId::Count(Resource::video(9))];
    cache.drop_entries(&dropped).await.expect("an answer");
    assert_eq!(one.count(COMMENT).await, None);
    assert_eq!(one.read(VIDEO, 1.into()).await, known(true, 1));
    let dropped = [EntryId::User(1.into()), EntryId::User(2.into())];
    cache.drop_entries(&dropped).await.expect("an answer");
    assert_eq!(one.read(VIDEO, 1.into()).await.liked, None);
    assert_eq!(one.count(VIDEO).await, Some(1));
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
    // The largest ids, and the last moment that a database stores.
    let last = Version::LAST.0;
    one.learn(
        Resource::video(i64::MAX),
        i64::MAX.into(),
        mark(last, true),
        count(1, 1),
    )
    .await;
    assert_eq!(
        one.read(Resource::video(i64::MAX), i64::MAX.into()).await,
        known(true, 1)
    );
    let older = one.apply(
        Resource::video(i64::MAX),
        i64::MAX.into(),
        mark(last - 1, false),
    );
    assert_eq!(older.await.newer, Some(Version(last)));
}

async fn overdue_events_are_reported_oldest_first(cache: &dyn Cache) {
    let one = One(cache);
    let second = 1_000_000;
    let age = i64::try_from(OVERDUE_AFTER.as_secs()).expect("seconds");
    let at = |seconds: i64| Version((100 + seconds) * second);
    for user in 1..=3 {
        one.learn(VIDEO, user.into(), VersionedState::NEVER, LikeCount::NEVER)
            .await;
        let event = (
            Pair {
                resource: VIDEO,
                user_id: user.into(),
            },
            mark(at(4 - user).0, true),
        );
        cache.apply(&[event], at(3)).await.expect("an answer");
    }
    let is_overdue = async |user: i64, now| {
        let read = cache.read(Some(&user.into()), &[VIDEO], now).await;
        read.expect("an answer")[0].is_overdue
    };
    assert!(!is_overdue(3, at(1 + age)).await);
    assert!(is_overdue(3, at(2 + age)).await);
    let before = at(3);
    let overdue = async |limit| {
        let found = cache.overdue(&VIDEO, before, limit, at(50)).await;
        found.expect("an answer")
    };
    assert_eq!(overdue(9).await, [(3.into(), at(1)), (2.into(), at(2))]);
    assert_eq!(overdue(1).await, [(3.into(), at(1))]);
    one.forget(VIDEO, 3.into(), at(1).0).await;
    let settled = [(2.into(), mark(at(2).0, true))];
    one.settle(VIDEO, &settled, Some(count(1, 1))).await;
    assert_eq!(overdue(9).await, []);
    assert_eq!(one.count(VIDEO).await, Some(2));
    assert!(
        cache
            .overdue(&COMMENT, before, 9, at(50))
            .await
            .expect("an answer")
            .is_empty()
    );
}

async fn entries_are_listed_shown_and_searched(cache: &dyn Cache) {
    let one = One(cache);
    one.learn(VIDEO, 1.into(), mark(5, true), count(1, 1)).await;
    one.learn(COMMENT, 2.into(), VersionedState::NEVER, LikeCount::NEVER)
        .await;
    one.apply(COMMENT, 2.into(), mark(10, true)).await;
    let (mut listed, mut cursor) = (std::collections::BTreeSet::new(), Some(0));
    while let Some(from) = cursor {
        let page = cache.scan(from, 10).await.expect("a page");
        listed.extend(page.entries);
        cursor = page.cursor;
    }
    let all: Vec<EntryId> = listed.into_iter().collect();
    let (users, counts) = (EntryId::User, EntryId::Count);
    let wanted = [
        users(1.into()),
        users(2.into()),
        counts(VIDEO),
        counts(COMMENT),
    ];
    let wanted: std::collections::BTreeSet<_> = wanted.into_iter().collect();
    assert_eq!(all, wanted.into_iter().collect::<Vec<_>>());
    let views = cache.inspect(&all).await.expect("an answer");
    for (entry, view) in all.iter().zip(views) {
        match (entry, view.expect("it exists")) {
            (EntryId::User(_), EntryView::User(view)) => {
                assert_eq!((view.unreadable, view.pairs.len()), (None, 1));
                assert_eq!(view.coverage, Coverage::Complete);
            }
            (EntryId::Count(resource), EntryView::Count(view)) => {
                let size = usize::from(*resource == COMMENT);
                assert_eq!(view.unreadable, None);
                assert_eq!((view.size, view.in_flight.len()), (size, size));
                assert_eq!(view.sum, view.in_flight.len() as i64);
            }
            (entry, view) => panic!("{entry:?}: {view:?}"),
        }
    }
    let missing = cache.inspect(&[EntryId::User(9.into())]).await;
    assert_eq!(missing.expect("an answer"), [None]);
    for (subject, named) in [
        (
            DataSubject::User(2.into()),
            [users(2.into()), counts(COMMENT)],
        ),
        (
            DataSubject::Resource(VIDEO),
            [users(1.into()), counts(VIDEO)],
        ),
    ] {
        let found = cache.name(&all, &subject).await.expect("an answer");
        let found = all.iter().zip(found).filter(|(_, named)| *named);
        let found: Vec<&EntryId> = found.map(|(entry, _)| entry).collect();
        assert_eq!(found, named.iter().collect::<Vec<_>>(), "{subject:?}");
    }
}
