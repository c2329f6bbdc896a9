//! Voided likes do not count until they are restored, even if their user likes again. Every part of the data agrees.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{TimeDelta, Utc};
use likewise::domain::{Action, Id, IdKind, Moderation, Resource, ResourceType};
use likewise::store::{Cursor, Decision, LikesOf};
use rand::RngExt;

use super::audit_and_prune::{audit, prune};
use super::fixture::{Bench, comment, history, own};
use crate::support::database::Value;
use crate::support::seed;

matrix!(&[sqlite, mariadb, postgres]:
    voided_likes_count_again_after_their_restoration,
    voided_pair_stays_voided_through_new_likes,
    void_covers_exactly_the_filtered_likes,
    voided_likes_survive_pruning_and_a_rebuild,
    counts_are_exact_while_likes_are_voided,
);

const FRAUD: i64 = 1;

fn likes_of(user_id: i64) -> LikesOf {
    LikesOf {
        user_id: user_id.into(),
        resource_type: None,
        liked_after: None,
        liked_before: None,
    }
}

/// Decides about likes, two pairs at a time. Returns the number of changed likes.
#[track_caller]
fn moderate(bench: &Bench, moderation: Moderation, likes: &LikesOf) -> usize {
    let decision = Decision {
        moderation,
        likes,
        reason: "a click farm",
        operator: "ann",
    };
    let mut changed = 0;
    for resource_type in bench.with(|store| store.resource_types().clone()).iter() {
        if !likes.covers(resource_type) {
            continue;
        }
        let mut after = IdKind::Number.before_all();
        loop {
            let step = bench.ask(|store| store.moderate(decision, resource_type, &after, 2));
            changed += step.changed;
            // The answer has the counts as they are stored.
            for (resource, count) in &step.settled.counts {
                let stored = count_of(bench, resource);
                assert_eq!(stored, count.like_count, "{resource}");
            }
            match step.position {
                Some(position) => after = position,
                None => break,
            }
        }
    }
    changed
}

fn counted(bench: &Bench, moderation: Moderation, likes: &LikesOf) -> Vec<i64> {
    let counted = bench.ask(|store| store.count_moderated(moderation, likes));
    counted.into_values().collect()
}

fn count_of(bench: &Bench, resource: &Resource) -> i64 {
    bench.database().number(&format!(
        "SELECT like_count FROM likewise_like_counts WHERE resource_type = '{}' AND resource_id = {}",
        resource.resource_type, resource.id
    ))
}

/// The users who like a video, newest like first.
fn likers(bench: &Bench, video: i64) -> Vec<i64> {
    let (resource, start) = (Resource::video(video), Cursor::start(IdKind::Number));
    let page = bench.ask(|store| store.likers(&resource, &start, 50));
    let user = |id: &Id| id.number().expect("a number");
    page.iter().map(|(pair, _)| user(&pair.user_id)).collect()
}

/// The videos that a user likes.
fn liked_by(bench: &Bench, user: i64) -> Vec<i64> {
    let (user, start) = (Id::Number(user), Cursor::start(IdKind::Number));
    let page = bench.ask(|store| store.liked_by(&user, ResourceType::VIDEO, &start, 50));
    let video = |id: &Id| id.number().expect("a number");
    page.iter()
        .map(|(pair, _)| video(&pair.resource.id))
        .collect()
}

/// Every row of the read models, and the counts.
fn read_models(bench: &Bench) -> Vec<Vec<Vec<Value>>> {
    [
        "SELECT * FROM video_likes ORDER BY 1, 2",
        "SELECT * FROM comment_likes ORDER BY 1, 2",
        "SELECT resource_type, resource_id, like_count FROM likewise_like_counts ORDER BY 1, 2",
    ]
    .map(|sql| bench.database().rows(sql))
    .to_vec()
}

#[track_caller]
fn is_consistent(bench: &Bench) {
    bench.verified();
    assert_eq!(audit(bench, 3), []);
}

fn send(bench: &Bench, user: i64, resource: Resource, action: Action, version: i64) {
    bench.complete(&[own(user.into(), resource, action, version)]);
}

/// Three users like five videos and a comment. The first has unliked one of the videos.
fn likes(bench: &Bench) {
    let mut events = Vec::new();
    for user in 1..=3 {
        for video in 1..=5 {
            let (resource, version) = (Resource::video(video), 100 + video);
            events.push(own(user.into(), resource, Action::Like, version));
        }
        events.push(own(user.into(), comment(9), Action::Like, 110));
    }
    events.push(own(FRAUD.into(), Resource::video(5), Action::Unlike, 200));
    bench.complete(&events);
}

fn voided_likes_count_again_after_their_restoration(bench: &Bench) {
    likes(bench);
    let before = read_models(bench);
    let all = likes_of(FRAUD);
    assert_eq!(counted(bench, Moderation::Void, &all), [1, 4]);
    assert_eq!(counted(bench, Moderation::Restore, &all), [0, 0]);
    assert_eq!(read_models(bench), before);

    assert_eq!(moderate(bench, Moderation::Void, &all), 5);
    let counts = [1, 5].map(|video| count_of(bench, &Resource::video(video)));
    assert_eq!((counts, count_of(bench, &comment(9))), ([2, 2], 2));
    assert_eq!(likers(bench, 1), [3, 2]);
    assert_eq!(liked_by(bench, FRAUD), [4, 3, 2, 1]);
    let total = bench.ask(|store| {
        let fraud = Id::Number(FRAUD);
        async move { store.liked_total(&fraud, ResourceType::VIDEO).await }
    });
    assert_eq!(total, 4);
    assert_eq!(counted(bench, Moderation::Void, &all), [0, 0]);
    assert_eq!(counted(bench, Moderation::Restore, &all), [1, 4]);
    is_consistent(bench);
    // The history has the operator and the reason.
    let record = "SELECT b.user_id, b.behavior_type, b.source, h.step, h.operator, h.error_message \
        FROM user_behaviors b JOIN likewise_sync_event_history h ON h.event_id = b.event_id";
    let words = ["void", "likewise-admin", "voided", "ann", "a click farm"];
    let entry = [vec![FRAUD.into()], words.map(Value::from).to_vec()].concat();
    assert_eq!(bench.database().rows(record), vec![entry; 5]);

    // Nothing is left to void.
    let voided = read_models(bench);
    assert_eq!(moderate(bench, Moderation::Void, &all), 0);
    assert_eq!(read_models(bench), voided);
    assert_eq!(moderate(bench, Moderation::Restore, &all), 5);
    assert_eq!(read_models(bench), before);
    is_consistent(bench);
    // The newest decision holds.
    assert_eq!(moderate(bench, Moderation::Void, &all), 5);
    is_consistent(bench);
    assert_eq!(moderate(bench, Moderation::Restore, &all), 5);
    assert_eq!(read_models(bench), before);
}

fn voided_pair_stays_voided_through_new_likes(bench: &Bench) {
    likes(bench);
    let all = likes_of(FRAUD);
    moderate(bench, Moderation::Void, &all);
    let video = |id| Resource::video(id);
    send(bench, FRAUD, video(1), Action::Unlike, 301);
    assert_eq!(count_of(bench, &video(1)), 2);
    send(bench, FRAUD, video(1), Action::Like, 302);
    send(bench, FRAUD, video(2), Action::Unlike, 303);
    assert_eq!([1, 2].map(|id| count_of(bench, &video(id))), [2, 2]);
    assert_eq!(liked_by(bench, FRAUD), [1, 4, 3]);
    // A like of another pair counts.
    send(bench, FRAUD, video(5), Action::Like, 304);
    send(bench, FRAUD, video(6), Action::Like, 305);
    assert_eq!([5, 6].map(|id| count_of(bench, &video(id))), [3, 1]);
    is_consistent(bench);
    // The unliked pair is restored too, and adds nothing.
    assert_eq!(counted(bench, Moderation::Restore, &all), [1, 4]);
    assert_eq!(moderate(bench, Moderation::Restore, &all), 5);
    assert_eq!([1, 2].map(|id| count_of(bench, &video(id))), [3, 2]);
    assert_eq!(likers(bench, 1), [1, 3, 2]);
    is_consistent(bench);
}

fn void_covers_exactly_the_filtered_likes(bench: &Bench) {
    likes(bench);
    let at = |version: i64| Some(likewise::domain::Version(version).moment());
    let comments = LikesOf {
        resource_type: Some(ResourceType::COMMENT),
        ..likes_of(FRAUD)
    };
    assert_eq!(counted(bench, Moderation::Void, &comments), [1]);
    assert_eq!(moderate(bench, Moderation::Void, &comments), 1);
    let some = LikesOf {
        liked_after: at(102),
        liked_before: at(104),
        ..likes_of(FRAUD)
    };
    assert_eq!(counted(bench, Moderation::Void, &some), [0, 2]);
    assert_eq!(moderate(bench, Moderation::Void, &some), 2);
    let counts = [1, 2, 3, 4, 5].map(|video| count_of(bench, &Resource::video(video)));
    assert_eq!(counts, [3, 2, 2, 3, 2]);
    is_consistent(bench);
    assert_eq!(moderate(bench, Moderation::Restore, &likes_of(FRAUD)), 3);
    assert_eq!(moderate(bench, Moderation::Void, &likes_of(77)), 0);
    is_consistent(bench);
}

fn voided_likes_survive_pruning_and_a_rebuild(bench: &Bench) {
    likes(bench);
    let all = likes_of(FRAUD);
    for moderation in [Moderation::Void, Moderation::Restore, Moderation::Void] {
        moderate(bench, moderation, &all);
    }
    let one = LikesOf {
        liked_before: Some(likewise::domain::Version(102).moment()),
        ..all
    };
    assert_eq!(moderate(bench, Moderation::Restore, &one), 1);
    let before = read_models(bench);
    bench
        .database()
        .execute(&["UPDATE user_behaviors SET created_at = '2020-01-01 00:00:00'"]);
    // The superseded decisions and the like before the unlike.
    let pruned = prune(bench, Utc::now() - TimeDelta::days(30));
    assert_eq!(pruned, 2 * 5 + 1 + 1);
    is_consistent(bench);
    bench.database().execute(&[
        "DELETE FROM video_likes",
        "DELETE FROM comment_likes",
        "DELETE FROM likewise_like_counts",
    ]);
    assert!(!audit(bench, 3).is_empty());
    assert_eq!(read_models(bench), before);
    is_consistent(bench);
}

/// Users like and unlike while the likes of one of them are voided and restored.
fn counts_are_exact_while_likes_are_voided(bench: &Bench) {
    let mut rng = seed::rng("counts_are_exact_while_likes_are_voided");
    let events = history(600, &mut rng);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = events
            .chunks(300)
            .map(|part| {
                scope.spawn(move || {
                    let worker = Bench::on(bench.database());
                    for batch in part.chunks(10) {
                        worker.complete(batch);
                    }
                })
            })
            .collect();
        let ended = &ended;
        let operator = scope.spawn(move || {
            let operator = Bench::on(bench.database());
            let mut changed = 0;
            // Quick workers may end before the operator finds a like.
            while !ended.load(Ordering::Relaxed) || changed == 0 {
                let user = rng.random_range(1..=3);
                let moderation = match rng.random_bool(0.6) {
                    true => Moderation::Void,
                    false => Moderation::Restore,
                };
                let decision = Decision {
                    moderation,
                    likes: &likes_of(user),
                    reason: "a test",
                    operator: "ann",
                };
                let start = IdKind::Number.before_all();
                for resource_type in [ResourceType::VIDEO, ResourceType::COMMENT] {
                    let step =
                        operator.ask(|store| store.moderate(decision, resource_type, &start, 9));
                    changed += step.changed;
                }
            }
            changed
        });
        for worker in workers {
            worker.join().expect("a worker");
        }
        ended.store(true, Ordering::Relaxed);
        assert!(operator.join().expect("an operator") > 0);
    });
    is_consistent(bench);
    bench.had_no_deadlock();
    // The counts of the resources are those of the liked pairs, once all are restored.
    for user in 1..=3 {
        moderate(bench, Moderation::Restore, &likes_of(user));
    }
    let liked =
        "SELECT video_id, COUNT(*) FROM video_likes WHERE deleted_at IS NULL GROUP BY video_id";
    let counts = "SELECT resource_id, like_count FROM likewise_like_counts \
        WHERE resource_type = 'video' AND like_count > 0";
    let read = |sql: &str| {
        let rows = bench.database().rows(sql);
        let row = |row: &Vec<Value>| (row[0].number(), row[1].number());
        rows.iter().map(row).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(read(liked), read(counts));
    is_consistent(bench);
}
