//! `likewise verify` finds and names every kind of difference.

use crate::support::checks::pipeline_drains;
use crate::support::service::Setup;

/// Damage in plain SQL, and its reversal.
struct Planted {
    name: &'static str,
    plant: &'static [&'static str],
    take_back: &'static [&'static str],
    /// Each broken guarantee, and the expected report.
    broken: &'static [(&'static str, &'static str)],
}

const EVENTS: &str = "each like event has one ledger row";
const LEDGER: &str = "each ledger row is completed or dead";
const FOLD: &str = "video_likes is the fold of user_behaviors";
const COUNTS: &str = "each video's like count is its number of likes not voided";

const PLANTED: [Planted; 12] = [
    Planted {
        name: "a lost row of the read model",
        plant: &[
            "CREATE TABLE kept AS SELECT * FROM video_likes WHERE user_id = 1",
            "DELETE FROM video_likes WHERE user_id = 1",
        ],
        take_back: &[
            "INSERT INTO video_likes SELECT * FROM kept",
            "DROP TABLE kept",
        ],
        broken: &[(FOLD, "no row"), (COUNTS, "3 likes")],
    },
    Planted {
        name: "a like that became an unlike",
        plant: &["UPDATE video_likes SET deleted_at = created_at WHERE user_id = 1"],
        take_back: &["UPDATE video_likes SET deleted_at = NULL WHERE user_id = 1"],
        broken: &[(FOLD, "unlike of version"), (COUNTS, "3 likes")],
    },
    Planted {
        name: "an older version",
        plant: &["UPDATE video_likes SET version = version - 1 WHERE user_id = 2"],
        take_back: &["UPDATE video_likes SET version = version + 1 WHERE user_id = 2"],
        broken: &[(FOLD, "user 2, video 7")],
    },
    Planted {
        name: "a like that nobody has sent",
        plant: &[
            "INSERT INTO video_likes (user_id, video_id, version, created_at) \
            VALUES (99, 7, 5, '2026-01-01 00:00:00')",
        ],
        take_back: &["DELETE FROM video_likes WHERE user_id = 99"],
        broken: &[(FOLD, "user 99, video 7"), (COUNTS, "4 likes")],
    },
    Planted {
        name: "a wrong count",
        plant: &[
            "UPDATE likewise_like_counts SET like_count = like_count + 5 WHERE resource_id = 7",
        ],
        take_back: &[
            "UPDATE likewise_like_counts SET like_count = like_count - 5 WHERE resource_id = 7",
        ],
        broken: &[(COUNTS, "8 likes")],
    },
    Planted {
        name: "a lost count",
        plant: &[
            "CREATE TABLE kept AS SELECT * FROM likewise_like_counts WHERE resource_id = 7",
            "DELETE FROM likewise_like_counts WHERE resource_id = 7",
        ],
        take_back: &[
            "INSERT INTO likewise_like_counts SELECT * FROM kept",
            "DROP TABLE kept",
        ],
        broken: &[(COUNTS, "no count")],
    },
    Planted {
        name: "a lost ledger row",
        plant: &[
            "CREATE TABLE kept AS SELECT * FROM sync_events WHERE user_id = 3",
            "DELETE FROM sync_events WHERE user_id = 3",
        ],
        take_back: &[
            "INSERT INTO sync_events SELECT * FROM kept",
            "DROP TABLE kept",
        ],
        broken: &[(EVENTS, "none")],
    },
    Planted {
        name: "a ledger row without a behavior",
        plant: &[
            "INSERT INTO sync_events (id, event_type, resource_type, resource_id, user_id, \
            action_type, status, version, retry_count, max_retries, priority, fencing_token, \
            created_at, updated_at, processed_at) VALUES ('orphan', 'video_like', 'video', 7, 98, \
            'like', 'completed', 5, 0, 10, 0, 1, '2026-01-01 00:00:00', '2026-01-01 00:00:00', \
            '2026-01-01 00:00:00')",
        ],
        take_back: &["DELETE FROM sync_events WHERE id = 'orphan'"],
        broken: &[(EVENTS, "orphan")],
    },
    Planted {
        name: "a lost behavior",
        plant: &[
            "CREATE TABLE kept AS SELECT * FROM user_behaviors WHERE user_id = 3",
            "DELETE FROM user_behaviors WHERE user_id = 3",
        ],
        take_back: &[
            "INSERT INTO user_behaviors SELECT * FROM kept",
            "DROP TABLE kept",
        ],
        broken: &[(EVENTS, "a recorded behavior"), (FOLD, "user 3, video 7")],
    },
    Planted {
        name: "a row stuck in processing",
        plant: &[
            "UPDATE sync_events SET status = 'processing', processed_at = NULL, \
            next_attempt_at = '2100-01-01 00:00:00', lease_until = '2100-01-01 00:00:00' \
            WHERE user_id = 2",
        ],
        take_back: &[
            "UPDATE sync_events SET status = 'completed', processed_at = updated_at, \
            next_attempt_at = NULL, lease_until = NULL WHERE user_id = 2",
        ],
        broken: &[(LEDGER, "processing"), (FOLD, "user 2, video 7")],
    },
    Planted {
        name: "a completed row that does not say when",
        plant: &["UPDATE sync_events SET processed_at = NULL WHERE user_id = 2"],
        take_back: &["UPDATE sync_events SET processed_at = updated_at WHERE user_id = 2"],
        broken: &[(LEDGER, "completed")],
    },
    Planted {
        name: "a dead row that does not say why",
        plant: &["UPDATE sync_events SET status = 'dead' WHERE user_id = 2"],
        take_back: &["UPDATE sync_events SET status = 'completed' WHERE user_id = 2"],
        broken: &[(LEDGER, "dead"), (FOLD, "user 2, video 7")],
    },
];

#[test]
fn every_kind_of_difference_is_reported() {
    let service = Setup::new().start();
    let client = service.client();
    for user in 1..=4 {
        client.like(user, 7);
    }
    client.unlike(4, 7);
    pipeline_drains(&service);
    let setup = service.stop();
    setup.verify(0).holds();

    for planted in PLANTED {
        let name = planted.name;
        setup.database().execute(planted.plant);
        let verified = setup.verify(0);
        assert_eq!(verified.code, Some(1), "{name}: {verified:#?}");
        assert_eq!(verified.report["holds"], false, "{name}: {verified:#?}");
        let broken = verified.broken();
        let promises: Vec<_> = broken.iter().map(|(promise, _)| promise.as_str()).collect();
        let expected: Vec<_> = planted.broken.iter().map(|(promise, _)| *promise).collect();
        assert_eq!(promises, expected, "{name}: {broken:#?}");
        for ((_, examples), (_, said)) in broken.iter().zip(planted.broken) {
            let examples = examples.to_string();
            assert!(
                examples.contains(said),
                "{name}: {said} is not in {examples}"
            );
        }
        let for_people = setup.run(&["verify", "--wait", "0"]);
        assert_eq!(for_people.code, Some(1), "{name}: {for_people:?}");
        for (promise, said) in planted.broken {
            let shown = for_people.stdout.contains(promise) && for_people.stdout.contains(said);
            assert!(shown, "{name}: {for_people:?}");
        }

        setup.database().execute(planted.take_back);
        setup.verify(0).holds();
    }
}

#[test]
fn verify_waits_for_open_ledger_rows() {
    let service = Setup::new().set("LIKEWISE_LEASE_SECONDS", 3).start();
    service.client().like(1, 1);
    pipeline_drains(&service);
    let setup = service.kill();
    setup.database().execute(&[
        "UPDATE sync_events SET status = 'pending', processed_at = NULL, \
         next_attempt_at = '2020-01-01 00:00:00', lease_until = '2020-01-01 00:00:00'",
    ]);
    let verified = setup.verify(0);
    assert_eq!(verified.code, Some(1), "{verified:?}");

    let waiting = setup.launch(&["verify", "--wait", "30"]);
    let service = setup.start();
    let ran = waiting.finish();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    drop(service);
}

#[test]
fn missing_database_is_named_and_not_created() {
    let setup = Setup::new();
    let ran = setup.run(&["verify"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("there is no file"), "{ran:?}");
    assert!(ran.stderr.contains("likewise.db"), "{ran:?}");
    assert!(!setup.folder().join("likewise.db").exists());
}
