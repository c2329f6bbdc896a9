//! A locked, full, altered or partly migrated database makes no acknowledged event dead, however long it lasts. An event
//! that the database rejects is dead after `max_retries`.

use serde_json::json;

use crate::support::checks::{everything_holds, pipeline_drains, stored_once};
use crate::support::service::Setup;
use crate::support::{PATIENCE, until, until_seen};

const VIDEO: i64 = 7;
const USERS: std::ops::RangeInclusive<i64> = 10..=29;

/// Short time-outs, and no retries for a rejected event.
fn impatient(setup: Setup) -> Setup {
    setup
        .set("LIKEWISE_DATABASE_TIMEOUT_SECONDS", 2)
        .set("LIKEWISE_LEASE_SECONDS", 3)
        .set("LIKEWISE_MAX_RETRIES", 0)
}

matrix!([mariadb, postgres]: locked_table_makes_no_row_dead);

fn locked_table_makes_no_row_dead(setup: Setup) {
    let service = impatient(setup).start();
    let (client, database) = (service.client(), service.database());
    client.like(1, VIDEO);
    pipeline_drains(&service);

    let locked = database.hold_tables(&["video_likes"]);
    for user in USERS {
        assert_eq!(client.like(user, VIDEO).durability, "database");
    }
    let waiting = || {
        database.rows(
            "SELECT status, retry_count, fencing_token FROM sync_events WHERE user_id > 1 \
             ORDER BY fencing_token",
        )
    };
    until("each row to be tried several times", 3 * PATIENCE, || {
        let rows = waiting();
        // No worker claims a dead row, so its token rises no more.
        for row in &rows {
            assert_ne!(row[0].text(), "dead", "{row:?}");
        }
        match rows.first().map(|row| row[2].number()) {
            Some(token) if token > 3 => Ok(()),
            _ => Err(format!("{rows:?}")),
        }
    });
    for row in waiting() {
        assert!(["failed", "processing"].contains(&row[0].text()), "{row:?}");
        assert_eq!(row[1].number(), 0, "{row:?}");
    }
    // `/readyz` reports the failing call, and the log reports it once.
    let ready = client.get("/readyz").json();
    let failing = ready["failing"].as_array().expect("a list");
    let syncing = failing
        .iter()
        .find(|failing| failing["doing"] == "syncing ledger rows");
    let syncing = syncing.unwrap_or_else(|| panic!("{ready}"));
    assert!(syncing["rows"].as_u64() >= Some(20), "{ready}");
    let metrics = client.get("/metrics").text;
    for line in [
        "likewise_ledger_attempts_failed_total{outcome=\"waiting\"}",
        "likewise_failing{part=\"database\",doing=\"syncing ledger rows\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    let lines = service.logged("syncing ledger rows");
    assert!((1..=3).contains(&lines.len()), "{lines:#?}");

    drop(locked);
    until("the rows to complete", 3 * PATIENCE, || {
        let rows = waiting();
        let completed = rows.iter().all(|row| row[0].text() == "completed");
        if completed {
            Ok(())
        } else {
            Err(format!("{rows:?}"))
        }
    });
    let retries = "SELECT SUM(retry_count) FROM sync_events WHERE retry_count <> 0";
    let steps = "SELECT DISTINCT step FROM likewise_sync_event_history";
    assert_eq!(database.texts(steps), ["waiting"]);
    let counted = format!("SELECT COUNT(*) FROM ({retries} HAVING COUNT(*) > 0) AS counted");
    assert_eq!(database.number(&counted), 0);
    everything_holds(&service);
}

matrix!([mariadb, postgres]: missing_table_makes_no_row_dead);

fn missing_table_makes_no_row_dead(setup: Setup) {
    makes_no_row_dead(
        setup,
        "ALTER TABLE video_likes RENAME TO video_likes_away",
        "ALTER TABLE video_likes_away RENAME TO video_likes",
    );
}

matrix!([embedded, mariadb, postgres]: unknown_column_without_default_makes_no_row_dead);

fn unknown_column_without_default_makes_no_row_dead(setup: Setup) {
    makes_no_row_dead(
        setup,
        "ALTER TABLE video_likes ADD COLUMN tenant_id BIGINT NOT NULL",
        "ALTER TABLE video_likes DROP COLUMN tenant_id",
    );
}

/// Likes a video between these statements, of which the first makes the read model refuse every row.
fn makes_no_row_dead(setup: Setup, damage: &str, repair: &str) {
    let service = impatient(setup).start();
    let (client, database) = (service.client(), service.database());
    database.execute(&[damage]);
    client.like(2, VIDEO);
    let attempts = || {
        let rows = database.rows("SELECT fencing_token, status FROM sync_events");
        assert_ne!(rows[0][1].text(), "dead");
        rows[0][0].number()
    };
    until_seen("some attempts", attempts, |token| *token >= 3);
    let failing = client.get("/readyz").json()["failing"].to_string();
    assert!(failing.contains("syncing ledger rows"), "{failing}");
    database.execute(&[repair]);
    pipeline_drains(&service);
    let row = database.rows("SELECT status, retry_count FROM sync_events");
    assert_eq!((row[0][0].text(), row[0][1].number()), ("completed", 0));
    everything_holds(&service);
}

matrix!([mariadb_stack, postgres_stack]: unknown_column_without_default_quarantines_nothing);

fn unknown_column_without_default_quarantines_nothing(setup: Setup) {
    let service = impatient(setup).start();
    let (client, database) = (service.client(), service.database());
    database.execute(&["ALTER TABLE user_behaviors ADD COLUMN tenant_id BIGINT NOT NULL"]);
    let like = client.like(2, VIDEO);
    assert_eq!(like.durability, "broker");
    let errors = || client.actor("behavior_recorder").errors;
    until_seen("some attempts", errors, |errors| *errors >= 3);
    assert_eq!(database.count("likewise_quarantined_events"), 0);
    database.execute(&["ALTER TABLE user_behaviors DROP COLUMN tenant_id"]);
    pipeline_drains(&service);
    stored_once(database, [like.event_id.as_str()]);
    everything_holds(&service);
}

matrix!([mariadb, postgres]: broken_table_of_a_type_stops_only_its_type);

fn broken_table_of_a_type_stops_only_its_type(setup: Setup) {
    let service = setup.start();
    let (client, database) = (service.client(), service.database());
    database.execute(&["ALTER TABLE comment_likes RENAME TO comment_likes_away"]);
    let like = |kind: &str| json!({"user_id": 1, "resource_type": kind, "resource_id": VIDEO, "behavior": "like"});
    let batch = json!({"behaviors": [like("comment"), like("video")]});
    let accepted = client.post("/v1/likes", batch).ok();
    assert_eq!(accepted["accepted"], 2, "{accepted}");
    database.until_count("video_likes", 1);
    // Its first attempt succeeded.
    let failures = "likewise_sync_event_history h JOIN sync_events e ON e.id = h.event_id \
                    WHERE e.resource_type = 'video'";
    assert_eq!(database.count(failures), 0);
    let open = "SELECT resource_type FROM sync_events WHERE status <> 'completed'";
    assert_eq!(database.texts(open), ["comment"]);
    database.execute(&["ALTER TABLE comment_likes_away RENAME TO comment_likes"]);
    pipeline_drains(&service);
    let row = "SELECT status, retry_count FROM sync_events WHERE resource_type = 'comment'";
    assert_eq!(database.line(row), "completed 0");
    everything_holds(&service);
}

matrix!([mariadb, postgres]: event_rejected_by_a_trigger_is_dead_after_max_retries);

fn event_rejected_by_a_trigger_is_dead_after_max_retries(setup: Setup) {
    let service = impatient(setup).set("LIKEWISE_MAX_RETRIES", 1).start();
    let (client, database) = (service.client(), service.database());
    database.refuse_likes_of(2, "lock timeout, connection, shutdown");
    client.like(1, VIDEO);
    client.like(2, VIDEO);
    pipeline_drains(&service);
    let rows = database.rows("SELECT status, retry_count FROM sync_events ORDER BY user_id");
    let ended: Vec<_> = rows
        .iter()
        .map(|row| (row[0].text(), row[1].number()))
        .collect();
    assert_eq!(ended, [("completed", 0), ("dead", 2)]);
    everything_holds(&service);
}
