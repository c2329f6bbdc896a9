//! Duplicates, reordering, crashes between any two steps and concurrent workers lead to the state that the newest
//! version of each user and video sets.

use chrono::{NaiveDateTime, TimeDelta, Utc};
use insta::assert_json_snapshot;

use crate::support::checks::{
    diary_is_kept, everything_holds, pipeline_drains, reads_equal_database,
};
use crate::support::crowd::{Crowd, Diary};
use crate::support::database::Database;
use crate::support::http::{Accepted, Answer, Like};
use crate::support::service::Setup;
use crate::support::{redacted, seed};

fn like_of(user_id: i64, resource_id: i64, liked: bool, like_count: i64) -> Like {
    Like {
        resource_type: "video".into(),
        resource_id,
        user_id,
        liked,
        like_count: Some(like_count),
    }
}

#[test]
fn like_and_unlike_are_two_events_and_one_state() {
    let service = Setup::new().start();
    let (client, database) = (service.client(), service.database());
    assert_eq!(client.read(42, 7), like_of(42, 7, false, 0));

    let answer = client.try_like("PUT", 42, 7).expect("an answer");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_json_snapshot!(redacted(answer.json(), &["event_id"]), @r#"
    {
      "cached": true,
      "changed": true,
      "durability": "database",
      "event_id": "[event_id]",
      "like_count": 1,
      "liked": true,
      "resource_id": 7,
      "resource_type": "video",
      "user_id": 42
    }
    "#);
    let liked = client_answer(&answer, 42, 7, true);
    assert_eq!((liked.changed, liked.like_count), (Some(true), Some(1)));

    pipeline_drains(&service);
    assert_eq!(client.read(42, 7), like_of(42, 7, true, 1));
    let id = liked.event_id.as_str();
    let behavior = "SELECT event_id, user_id, resource_type, resource_id, behavior_type, source \
        FROM user_behaviors";
    let expected = format!("{id} 42 video 7 like likewise-api");
    assert_eq!(database.line(behavior), expected);
    let ledger = "SELECT id, event_type, resource_type, resource_id, user_id, action_type, status, \
        retry_count, max_retries, priority, fencing_token, error_message, next_attempt_at, \
        lease_until FROM sync_events";
    let expected = format!("{id} video_like video 7 42 like completed 0 10 0 1 NULL NULL NULL");
    assert_eq!(database.line(ledger), expected);
    let of_one_version = "user_behaviors b \
        JOIN sync_events e ON e.id = b.event_id AND e.version = b.version \
        JOIN video_likes l ON l.user_id = b.user_id AND l.video_id = b.resource_id \
        AND l.version = b.version";
    assert_eq!(database.count(of_one_version), 1);
    let like = "SELECT user_id, video_id, deleted_at FROM video_likes";
    assert_eq!(database.line(like), "42 7 NULL");
    let count = "SELECT resource_type, resource_id, like_count FROM likewise_like_counts";
    assert_eq!(database.line(count), "video 7 1");
    for column in ["behavior_time", "created_at"] {
        is_now_in_utc(database, "user_behaviors", column);
    }
    for column in ["created_at", "updated_at", "processed_at"] {
        is_now_in_utc(database, "sync_events", column);
    }
    is_now_in_utc(database, "video_likes", "created_at");

    let again = client.like(42, 7);
    assert!(again.liked);
    assert_eq!((again.changed, again.like_count), (Some(false), Some(1)));
    assert_ne!(again.event_id, liked.event_id);

    let answer = client.try_like("DELETE", 42, 7).expect("an answer");
    let unliked = client_answer(&answer, 42, 7, false);
    assert_eq!((unliked.changed, unliked.like_count), (Some(true), Some(0)));
    pipeline_drains(&service);
    assert_eq!(client.read(42, 7), like_of(42, 7, false, 0));
    is_now_in_utc(database, "video_likes", "deleted_at");
    assert_eq!(database.line(count), "video 7 0");
    // Behaviors, ledger rows, likes of videos and of comments, counts, quarantined events and keys.
    let sizes: Vec<_> = database.sizes().into_iter().map(|(_, rows)| rows).collect();
    assert_eq!(sizes, [3, 3, 1, 0, 1, 0, 0]);
    everything_holds(&service);
}

#[track_caller]
fn client_answer(answer: &Answer, user: i64, video: i64, liked: bool) -> Accepted {
    let accepted: Accepted = answer.has_status(200).read();
    assert_eq!((accepted.user_id, accepted.resource_id), (user, video));
    assert_eq!((accepted.liked, accepted.cached), (liked, true));
    assert_eq!(accepted.resource_type, "video");
    assert_eq!(accepted.durability, "database");
    let id: uuid::Uuid = accepted.event_id.parse().expect("a UUID");
    assert_eq!(id.get_version_num(), 7);
    accepted
}

#[track_caller]
fn is_now_in_utc(database: &Database, table: &str, column: &str) {
    let sql = format!("SELECT CAST({column} AS CHAR(30)) FROM {table}");
    for time in database.texts(&sql) {
        let parsed = NaiveDateTime::parse_from_str(time.trim(), "%Y-%m-%d %H:%M:%S%.f");
        let parsed = parsed.unwrap_or_else(|error| panic!("{table}.{column} = '{time}': {error}"));
        let age = Utc::now().naive_utc() - parsed;
        assert!(
            age.abs() < TimeDelta::minutes(2),
            "{table}.{column} = {time}: {age}"
        );
    }
}

#[test]
fn repeated_like_changes_nothing() {
    let service = Setup::new().start();
    let client = service.client();
    for user in 1..=3 {
        client.like(user, 1);
    }
    pipeline_drains(&service);
    for _ in 0..5 {
        let again = client.like(2, 1);
        assert_eq!((again.changed, again.like_count), (Some(false), Some(3)));
    }
    assert_eq!(client.unlike(2, 1).changed, Some(true));
    for _ in 0..5 {
        let again = client.unlike(2, 1);
        assert_eq!((again.changed, again.like_count), (Some(false), Some(2)));
    }
    pipeline_drains(&service);
    let counts = "SELECT like_count FROM likewise_like_counts WHERE resource_id = 1";
    assert_eq!(service.database().number(counts), 2);
    everything_holds(&service);
}

#[test]
fn late_older_like_is_ignored() {
    let service = Setup::new().start();
    let (client, database) = (service.client(), service.database());
    client.like(42, 7);
    client.unlike(42, 7);
    pipeline_drains(&service);
    // As if the like had been lost: its ledger row is open again, and abandoned.
    database.execute(&[
        "UPDATE sync_events SET status = 'pending', processed_at = NULL, \
        next_attempt_at = '2020-01-01 00:00:00', lease_until = '2020-01-01 00:00:00' \
        WHERE action_type = 'like'",
    ]);
    pipeline_drains(&service);
    let done_twice = "SELECT fencing_token FROM sync_events WHERE action_type = 'like'";
    assert_eq!(database.number(done_twice), 2);
    assert_eq!(database.count("video_likes WHERE deleted_at IS NULL"), 0);
    assert_eq!(client.read(42, 7), like_of(42, 7, false, 0));
    everything_holds(&service);
}

matrix!([embedded, mariadb_stack, postgres]: lost_claim_cannot_close_the_row);

fn lost_claim_cannot_close_the_row(setup: Setup) {
    let service = setup.start();
    let (client, database) = (service.client(), service.database());
    database.claim_for_another_worker(42);
    client.like(42, 7);
    // A later event shows that the worker has processed both.
    client.like(43, 8);
    database.until_count("sync_events WHERE status = 'completed'", 1);
    let ledger = "SELECT status, fencing_token, processed_at FROM sync_events WHERE user_id = 42";
    assert_eq!(database.line(ledger), "processing 2 NULL");
    assert_eq!(database.count("video_likes WHERE user_id = 42"), 0);

    // The other worker dies too. The next worker that claims the row completes it.
    database.execute(&[
        "UPDATE sync_events SET next_attempt_at = '2020-01-01 00:00:00', \
        lease_until = '2020-01-01 00:00:00' WHERE user_id = 42",
    ]);
    pipeline_drains(&service);
    let ledger = "SELECT status, fencing_token FROM sync_events WHERE user_id = 42";
    assert_eq!(database.line(ledger), "completed 3");
    assert_eq!(client.read(42, 7), like_of(42, 7, true, 1));
    everything_holds(&service);
}

matrix!([embedded, mariadb, postgres]: several_workers_process_each_event_once);

fn several_workers_process_each_event_once(setup: Setup) {
    let mut rng = seed::rng("several_workers");
    // The lease is so short that workers take rows from each other.
    let first = setup.set("LIKEWISE_LEASE_SECONDS", 3).start();
    let second = first.setup().beside().start();
    let crowd = |first_user| Crowd {
        first_user,
        threads: 3,
        users: 10,
        videos: 5,
    };
    let of_first = crowd(1).start(&first, &mut rng);
    let of_second = crowd(1_001).start(&second, &mut rng);
    of_first.wait_for(300);
    of_second.wait_for(300);
    let mut diary = Diary::default();
    diary.extend(of_first.stop());
    diary.extend(of_second.stop());
    first.setup().verify(60).holds();
    diary_is_kept(first.database(), &diary);
    // Each process has a cache of its own. A new process must ask the database.
    let setup = first.stop();
    second.stop();
    reads_equal_database(&setup.start());
}
