//! `verify` finds each kind of difference, and no other.

use likewise::domain::{Action, BehaviorType, Resource};

use super::fixture::{Bench, comment, foreign, own};

matrix!(&[sqlite, mariadb, postgres]: each_planted_difference_is_found);

const EVENTS: &str = "each like event has one ledger row";
const LEDGER: &str = "each ledger row is completed or dead";
const FOLD: &str = "video_likes is the fold of user_behaviors";
const COMMENT_FOLD: &str = "comment_likes is the fold of user_behaviors";
const COUNTS: &str = "each video's like count is its number of likes not voided";
const COMMENT_COUNTS: &str = "each comment's like count is its number of likes not voided";

const BEHAVIOR_COUNTS: &str = "each video's counts by behavior are its recorded behaviors";

/// A table, damage to it in plain SQL, and each broken guarantee with a part of its report.
type Planted = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const PLANTED: [Planted; 19] = [
    (
        "video_likes",
        "DELETE FROM video_likes WHERE user_id = 1",
        &[(FOLD, "no row"), (COUNTS, "3 likes")],
    ),
    (
        "video_likes",
        "UPDATE video_likes SET deleted_at = created_at WHERE user_id = 1",
        &[(FOLD, "unlike of version"), (COUNTS, "3 likes")],
    ),
    (
        "comment_likes",
        "UPDATE comment_likes SET deleted_at = NULL WHERE user_id = 1",
        &[
            (COMMENT_FOLD, "like of version"),
            (COMMENT_COUNTS, "1 likes"),
        ],
    ),
    (
        "video_likes",
        "UPDATE video_likes SET version = version - 1 WHERE user_id = 2",
        &[(FOLD, "user 2, video 7")],
    ),
    (
        "video_likes",
        "UPDATE video_likes SET created_at = '2026-01-01 00:00:00' WHERE user_id = 2",
        &[(FOLD, "user 2, video 7")],
    ),
    (
        "video_likes",
        "INSERT INTO video_likes (user_id, video_id, version, created_at) \
         VALUES (99, 7, 5, '2026-01-01 00:00:00')",
        &[(FOLD, "user 99, video 7"), (COUNTS, "4 likes")],
    ),
    (
        "likewise_like_counts",
        "UPDATE likewise_like_counts SET like_count = like_count + 5 WHERE resource_type = 'video'",
        &[(COUNTS, "8 likes")],
    ),
    (
        "likewise_like_counts",
        "UPDATE likewise_like_counts SET like_count = -1 WHERE resource_type = 'comment'",
        &[(COMMENT_COUNTS, "-1 likes")],
    ),
    (
        "likewise_like_counts",
        "DELETE FROM likewise_like_counts WHERE resource_type = 'video'",
        &[(COUNTS, "no count")],
    ),
    (
        "sync_events",
        "DELETE FROM sync_events WHERE user_id = 3",
        &[(EVENTS, "none")],
    ),
    (
        "sync_events",
        "INSERT INTO sync_events (id, event_type, resource_type, resource_id, user_id, \
         action_type, status, version, retry_count, max_retries, priority, fencing_token, \
         created_at, updated_at, processed_at) VALUES ('orphan', 'video_like', 'video', 7, 98, \
         'like', 'completed', 5, 0, 10, 0, 1, '2026-01-01 00:00:00', '2026-01-01 00:00:00', \
         '2026-01-01 00:00:00')",
        &[(EVENTS, "orphan")],
    ),
    (
        "user_behaviors",
        "DELETE FROM user_behaviors WHERE user_id = 3",
        &[(EVENTS, "a recorded behavior"), (FOLD, "user 3, video 7")],
    ),
    (
        "sync_events",
        "UPDATE sync_events SET status = 'processing', processed_at = NULL WHERE user_id = 2",
        &[(LEDGER, "processing"), (FOLD, "user 2, video 7")],
    ),
    (
        "sync_events",
        "UPDATE sync_events SET processed_at = NULL WHERE user_id = 2",
        &[(LEDGER, "completed")],
    ),
    (
        "sync_events",
        "UPDATE sync_events SET status = 'dead' WHERE user_id = 2",
        &[(LEDGER, "dead"), (FOLD, "user 2, video 7")],
    ),
    (
        "sync_events",
        "UPDATE sync_events SET status = 'dead', error_message = 'why' WHERE user_id = 2",
        &[(FOLD, "user 2, video 7")],
    ),
    (
        "likewise_behavior_counts",
        "UPDATE likewise_behavior_counts SET behavior_count = 3",
        &[(BEHAVIOR_COUNTS, "3 views")],
    ),
    (
        "likewise_behavior_counts",
        "UPDATE likewise_behavior_counts SET pruned_count = 2",
        &[(BEHAVIOR_COUNTS, "3 views")],
    ),
    (
        "likewise_behavior_counts",
        "DELETE FROM likewise_behavior_counts",
        &[(BEHAVIOR_COUNTS, "0 views")],
    ),
];

/// Returns the statements that bring a table back from its copy. The position of behaviors is generated.
fn restored(table: &str) -> [String; 3] {
    let columns = match table {
        "user_behaviors" => {
            "event_id, user_id, resource_type, resource_id, behavior_type, \
            version, source, behavior_time, created_at"
        }
        _ => "*",
    };
    let names = if columns == "*" {
        ""
    } else {
        &format!("({columns})")
    };
    [
        format!("DELETE FROM {table}"),
        format!("INSERT INTO {table} {names} SELECT {columns} FROM kept"),
        "DROP TABLE kept".to_owned(),
    ]
}

fn each_planted_difference_is_found(bench: &Bench) {
    bench.verified();
    let video = Resource::video(7);
    bench.complete(&[
        own(1.into(), video.clone(), Action::Like, 11),
        own(2.into(), video.clone(), Action::Like, 12),
        own(3.into(), video.clone(), Action::Like, 13),
        own(4.into(), video.clone(), Action::Like, 14),
        own(4.into(), video.clone(), Action::Unlike, 15),
        own(5.into(), video.clone(), Action::Like, 16),
        own(5.into(), video, Action::Unlike, 16),
        own(1.into(), comment(7), Action::Unlike, 17),
    ]);
    let video = Resource::video(7);
    bench.record(&[foreign(6.into(), video, BehaviorType::View, 18, "feed")]);
    bench.verified();
    for (table, plant, broken) in PLANTED {
        bench.execute(&[
            &format!("CREATE TABLE kept AS SELECT * FROM {table}"),
            plant,
        ]);
        let verification = bench.ask(|store| store.verify(10));
        assert!(!verification.holds(), "{plant:?}: {verification:#?}");
        let checks = verification.checks.iter();
        let found: Vec<_> = checks.filter(|check| !check.holds()).collect();
        let promises: Vec<_> = found.iter().map(|check| check.promise.as_str()).collect();
        let expected: Vec<_> = broken.iter().map(|(promise, _)| *promise).collect();
        assert_eq!(promises, expected, "{plant:?}: {found:#?}");
        for (check, (_, said)) in found.iter().zip(broken) {
            assert_eq!(check.differences, 1, "{plant:?}: {found:#?}");
            let examples = format!("{:?}", check.examples);
            assert!(examples.contains(said), "{plant}: {said}: {examples}");
        }
        bench.execute(&restored(table).each_ref().map(String::as_str));
        bench.verified();
    }
    // The report has at most the requested number of examples, and counts all differences.
    bench.execute(&["UPDATE video_likes SET version = 1"]);
    let verification = bench.ask(|store| store.verify(2));
    let mut checks = verification.checks.iter();
    let fold = checks
        .find(|check| check.promise == FOLD)
        .expect("the check");
    assert_eq!((fold.differences, fold.examples.len()), (5, 2), "{fold:#?}");
}
