//! `verify` finds each kind of difference, and no other.

use likewise::domain::{Action, Resource};

use super::fixture::{Bench, comment, own};

matrix!(&[sqlite, mariadb, postgres]: each_planted_difference_is_found);

const EVENTS: &str = "each like event has one ledger row";
const LEDGER: &str = "each ledger row is completed or dead";
const FOLD: &str = "video_likes is the fold of user_behaviors";
const COMMENT_FOLD: &str = "comment_likes is the fold of user_behaviors";
const COUNTS: &str = "each video's like count is its number of likes not voided";
const COMMENT_COUNTS: &str = "each comment's like count is its number of likes not voided";

/// Damage in plain SQL, its reversal, and each broken guarantee with the expected report.
type Planted = (
    &'static [&'static str],
    &'static [&'static str],
    &'static [(&'static str, &'static str)],
);

const PLANTED: [Planted; 15] = [
    (
        &[
            "CREATE TABLE kept AS SELECT * FROM video_likes WHERE user_id = 1",
            "DELETE FROM video_likes WHERE user_id = 1",
        ],
        &[
            "INSERT INTO video_likes SELECT * FROM kept",
            "DROP TABLE kept",
        ],
        &[(FOLD, "no row"), (COUNTS, "3 likes")],
    ),
    (
        &["UPDATE video_likes SET deleted_at = created_at WHERE user_id = 1"],
        &["UPDATE video_likes SET deleted_at = NULL WHERE user_id = 1"],
        &[(FOLD, "unlike of version"), (COUNTS, "3 likes")],
    ),
    (
        &["UPDATE comment_likes SET deleted_at = NULL WHERE user_id = 1"],
        &["UPDATE comment_likes SET deleted_at = created_at WHERE user_id = 1"],
        &[
            (COMMENT_FOLD, "like of version"),
            (COMMENT_COUNTS, "1 likes"),
        ],
    ),
    (
        &["UPDATE video_likes SET version = version - 1 WHERE user_id = 2"],
        &["UPDATE video_likes SET version = version + 1 WHERE user_id = 2"],
        &[(FOLD, "user 2, video 7")],
    ),
    (
        &[
            "CREATE TABLE kept AS SELECT * FROM video_likes WHERE user_id = 2",
            "UPDATE video_likes SET created_at = '2026-01-01 00:00:00' WHERE user_id = 2",
        ],
        &[
            "DELETE FROM video_likes WHERE user_id = 2",
            "INSERT INTO video_likes SELECT * FROM kept",
            "DROP TABLE kept",
        ],
        &[(FOLD, "user 2, video 7")],
    ),
    (
        &[
            "INSERT INTO video_likes (user_id, video_id, version, created_at) \
           VALUES (99, 7, 5, '2026-01-01 00:00:00')",
        ],
        &["DELETE FROM video_likes WHERE user_id = 99"],
        &[(FOLD, "user 99, video 7"), (COUNTS, "4 likes")],
    ),
    (
        &[
            "UPDATE likewise_like_counts SET like_count = like_count + 5 WHERE resource_type = 'video'",
        ],
        &[
            "UPDATE likewise_like_counts SET like_count = like_count - 5 WHERE resource_type = 'video'",
        ],
        &[(COUNTS, "8 likes")],
    ),
    (
        &["UPDATE likewise_like_counts SET like_count = -1 WHERE resource_type = 'comment'"],
        &["UPDATE likewise_like_counts SET like_count = 0 WHERE resource_type = 'comment'"],
        &[(COMMENT_COUNTS, "-1 likes")],
    ),
    (
        &[
            "CREATE TABLE kept AS SELECT * FROM likewise_like_counts WHERE resource_type = 'video'",
            "DELETE FROM likewise_like_counts WHERE resource_type = 'video'",
        ],
        &[
            "INSERT INTO likewise_like_counts SELECT * FROM kept",
            "DROP TABLE kept",
        ],
        &[(COUNTS, "no count")],
    ),
    (
        &[
            "CREATE TABLE kept AS SELECT * FROM sync_events WHERE user_id = 3",
            "DELETE FROM sync_events WHERE user_id = 3",
        ],
        &[
            "INSERT INTO sync_events SELECT * FROM kept",
            "DROP TABLE kept",
        ],
        &[(EVENTS, "none")],
    ),
    (
        &[
            "CREATE TABLE kept AS SELECT * FROM user_behaviors WHERE user_id = 3",
            "DELETE FROM user_behaviors WHERE user_id = 3",
        ],
        &[
            "INSERT INTO user_behaviors (event_id, user_id, resource_type, resource_id, \
             behavior_type, version, source, behavior_time, created_at) SELECT event_id, user_id, \
             resource_type, resource_id, behavior_type, version, source, behavior_time, \
             created_at FROM kept",
            "DROP TABLE kept",
        ],
        &[(EVENTS, "a recorded behavior"), (FOLD, "user 3, video 7")],
    ),
    (
        &["UPDATE sync_events SET status = 'processing', processed_at = NULL WHERE user_id = 2"],
        &[
            "UPDATE sync_events SET status = 'completed', processed_at = updated_at \
           WHERE user_id = 2",
        ],
        &[(LEDGER, "processing"), (FOLD, "user 2, video 7")],
    ),
    (
        &["UPDATE sync_events SET processed_at = NULL WHERE user_id = 2"],
        &["UPDATE sync_events SET processed_at = updated_at WHERE user_id = 2"],
        &[(LEDGER, "completed")],
    ),
    (
        &["UPDATE sync_events SET status = 'dead' WHERE user_id = 2"],
        &["UPDATE sync_events SET status = 'completed' WHERE user_id = 2"],
        &[(LEDGER, "dead"), (FOLD, "user 2, video 7")],
    ),
    (
        &["UPDATE sync_events SET status = 'dead', error_message = 'why' WHERE user_id = 2"],
        &["UPDATE sync_events SET status = 'completed', error_message = NULL WHERE user_id = 2"],
        &[(FOLD, "user 2, video 7")],
    ),
];

fn each_planted_difference_is_found(bench: &Bench) {
    bench.verified();
    let video = Resource::video(7);
    let rows = bench.record(&[
        own(1.into(), video.clone(), Action::Like, 11),
        own(2.into(), video.clone(), Action::Like, 12),
        own(3.into(), video.clone(), Action::Like, 13),
        own(4.into(), video.clone(), Action::Like, 14),
        own(4.into(), video.clone(), Action::Unlike, 15),
        own(5.into(), video.clone(), Action::Like, 16),
        own(5.into(), video, Action::Unlike, 16),
        own(1.into(), comment(7), Action::Unlike, 17),
    ]);
    bench.sync(&rows);
    bench.verified();
    for (plant, take_back, broken) in PLANTED {
        bench.database().execute(plant);
        let verification = bench.ask(|store| store.verify(10));
        assert!(!verification.holds(), "{plant:?}: {verification:#?}");
        let found: Vec<_> = verification
            .checks
            .iter()
            .filter(|check| !check.holds())
            .collect();
        let promises: Vec<_> = found.iter().map(|check| check.promise.as_str()).collect();
        let expected: Vec<_> = broken.iter().map(|(promise, _)| *promise).collect();
        assert_eq!(promises, expected, "{plant:?}: {found:#?}");
        for (check, (_, said)) in found.iter().zip(broken) {
            assert_eq!(check.differences, 1, "{plant:?}: {found:#?}");
            let examples = format!("{:?}", check.examples);
            assert!(
                examples.contains(said),
                "{plant:?}: {said} is not in {examples}"
            );
        }
        bench.database().execute(take_back);
        bench.verified();
    }
    // The report has at most the requested number of examples, and counts all differences.
    bench
        .database()
        .execute(&["UPDATE video_likes SET version = 1"]);
    let verification = bench.ask(|store| store.verify(2));
    let fold = verification
        .checks
        .iter()
        .find(|check| check.promise == FOLD);
    let fold = fold.expect("the check");
    assert_eq!((fold.differences, fold.examples.len()), (5, 2), "{fold:#?}");
}
