//! Every ledger row ends `completed` or `dead`, with the time, the number of attempts and the cause of a failure. No
//! row stays `processing` after a crash.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::support::checks::{everything_holds, open_rows, pipeline_drains};
use crate::support::database::{Database, Value};
use crate::support::http::Client;
use crate::support::redis_and_nats::Stack;
use crate::support::servers::Kind;
use crate::support::service::{Service, Setup};
use crate::support::{PATIENCE, until, until_equal, until_seen};

/// A row that a worker left behind.
struct Left {
    user: i64,
    status: &'static str,
    retry_count: i64,
    fencing_token: i64,
    /// When its lease expires or its next attempt is due, counted from now.
    due: TimeDelta,
}

const MAX_RETRIES: i64 = 3;
const VIDEO: i64 = 7;
const LONG_AGO: TimeDelta = TimeDelta::minutes(-5);
const FAR_AHEAD: TimeDelta = TimeDelta::hours(1);

impl Left {
    /// Writes the row and its behavior as the service would.
    fn write(&self, database: &Database) {
        let id = Uuid::now_v7();
        let now = Utc::now();
        let (user, version) = (self.user, now.timestamp_micros());
        let (now, due) = (time(now), time(now + self.due));
        let (lease, error) = match self.status {
            "failed" => ("NULL".to_owned(), "'an earlier failure'"),
            _ => (format!("'{due}'"), "NULL"),
        };
        let Self {
            status,
            retry_count,
            fencing_token,
            ..
        } = self;
        database.execute(&[
            &format!(
                "INSERT INTO user_behaviors (event_id, user_id, resource_type, resource_id, \
                 behavior_type, version, source, behavior_time, created_at) VALUES ('{id}', {user}, \
                 'video', {VIDEO}, 'like', {version}, 'likewise-api', '{now}', '{now}')"
            ),
            &format!(
                "INSERT INTO sync_events (id, event_type, resource_type, resource_id, user_id, \
                 action_type, status, version, retry_count, max_retries, priority, error_message, \
                 next_attempt_at, lease_until, fencing_token, created_at, updated_at) VALUES \
                 ('{id}', 'video_like', 'video', {VIDEO}, {user}, 'like', '{status}', {version}, \
                 {retry_count}, {MAX_RETRIES}, 0, {error}, '{due}', {lease}, {fencing_token}, \
                 '{now}', '{now}')"
            ),
        ]);
    }
}

fn time(moment: DateTime<Utc>) -> String {
    moment.format("%Y-%m-%d %H:%M:%S%.6f").to_string()
}

fn ledger_of(database: &Database, user: i64) -> Vec<Value> {
    let rows = database.rows(&format!(
        "SELECT status, retry_count, fencing_token, \
         CASE WHEN processed_at IS NULL THEN 'open' ELSE 'closed' END \
         FROM sync_events WHERE user_id = {user}"
    ));
    let [row] = rows.as_slice() else {
        panic!("user {user} has {} ledger rows", rows.len());
    };
    row.clone()
}

/// Checks a user's row: its status, retry count, fencing token and whether it is `open` or `closed`.
#[track_caller]
fn row_is(database: &Database, user: i64, expected: (&str, i64, i64, &str)) {
    let row = ledger_of(database, user);
    let found = (
        row[0].text(),
        row[1].number(),
        row[2].number(),
        row[3].text(),
    );
    assert_eq!(found, expected, "user {user}");
}

fn rounds_of_retry_scheduler(client: &Client) -> u64 {
    let actor = client.actor("retry_scheduler");
    actor.details["rounds"].as_u64().expect("a number")
}

matrix!([embedded, mariadb_stack, postgres_stack]: rows_of_a_dead_worker_are_finished);

fn rows_of_a_dead_worker_are_finished(setup: Setup) {
    let left = |user, status, retry_count, fencing_token, due| Left {
        user,
        status,
        retry_count,
        fencing_token,
        due,
    };
    setup.run(&["migrate"]).exits(0);
    for row in [
        left(1, "pending", 0, 1, LONG_AGO),
        left(2, "processing", 0, 4, LONG_AGO),
        left(3, "failed", MAX_RETRIES, 4, LONG_AGO),
        left(4, "processing", MAX_RETRIES, 4, LONG_AGO),
        left(11, "pending", 0, 1, FAR_AHEAD),
        left(12, "processing", 1, 4, FAR_AHEAD),
        left(13, "failed", 1, 4, FAR_AHEAD),
    ] {
        row.write(setup.database());
    }
    let service = setup.start();
    let (client, database) = (service.client(), service.database());
    until_equal("the abandoned rows to be closed", 3, || open_rows(database));
    // An attempt that was abandoned midway counts as failed; the others do not count.
    row_is(database, 1, ("completed", 0, 2, "closed"));
    row_is(database, 2, ("completed", 1, 5, "closed"));
    row_is(database, 3, ("completed", MAX_RETRIES, 5, "closed"));
    row_is(database, 4, ("dead", MAX_RETRIES + 1, 5, "closed"));
    let reason = database.texts("SELECT error_message FROM sync_events WHERE status = 'dead'");
    assert!(reason[0].contains("lease ran out"), "{reason:?}");

    // After two more rounds, rows under the leases of other workers are unchanged.
    let rounds = rounds_of_retry_scheduler(&client);
    let now = || rounds_of_retry_scheduler(&client);
    until_seen("two more rounds of the retry scheduler", now, |now| {
        *now >= rounds + 2
    });
    row_is(database, 11, ("pending", 0, 1, "open"));
    row_is(database, 12, ("processing", 1, 4, "open"));
    row_is(database, 13, ("failed", 1, 4, "open"));

    let users = "SELECT user_id FROM video_likes WHERE deleted_at IS NULL ORDER BY user_id";
    assert_eq!(database.rows(users), [[1.into()], [2.into()], [3.into()]]);
    assert_eq!(client.read(1, VIDEO).like_count, Some(3));

    // When their leases expire, these rows are completed like the others.
    let due = time(Utc::now() + LONG_AGO);
    database.execute(&[&format!(
        "UPDATE sync_events SET next_attempt_at = '{due}', lease_until = '{due}' \
         WHERE next_attempt_at IS NOT NULL"
    )]);
    pipeline_drains(&service);
    // The cache is settled after the commit that closes the rows.
    until_equal("the cache to count all of them", Some(6), || {
        client.read(1, VIDEO).like_count
    });
    everything_holds(&service);
}

/// Makes every attempt on a ledger row fail while the read model is missing.
fn take_read_model_away(service: &Service) {
    service
        .database()
        .execute(&["ALTER TABLE video_likes RENAME TO video_likes_away"]);
}

fn bring_read_model_back(service: &Service) {
    service
        .database()
        .execute(&["ALTER TABLE video_likes_away RENAME TO video_likes"]);
}

matrix!([embedded, mariadb, postgres]: failed_attempt_is_explained_and_retried);

fn failed_attempt_is_explained_and_retried(setup: Setup) {
    let service = setup.start();
    let (client, database) = (service.client(), service.database());
    client.like(1, VIDEO);
    pipeline_drains(&service);
    take_read_model_away(&service);
    let accepted = client.like(2, VIDEO);
    assert_eq!(accepted.durability, "database");
    until_seen(
        "an attempt to fail",
        || ledger_of(database, 2),
        |row| row[0].text() == "failed",
    );
    let reasons = database.texts("SELECT error_message FROM sync_events WHERE user_id = 2");
    assert!(reasons[0].contains("video_likes"), "{reasons:?}");
    assert!(database.count("sync_events WHERE status = 'failed'") <= 1);
    let statuses = database.texts("SELECT DISTINCT status FROM sync_events");
    assert_eq!(statuses.len(), 2, "{statuses:?}");

    bring_read_model_back(&service);
    pipeline_drains(&service);
    let row = ledger_of(database, 2);
    assert_eq!((row[0].text(), row[3].text()), ("completed", "closed"));
    client.until_read(2, VIDEO, (true, Some(2)));
    everything_holds(&service);
}

#[test]
fn row_that_fails_too_often_is_dead_and_reverted() {
    let service = Setup::new().set("LIKEWISE_MAX_RETRIES", 0).start();
    let (client, database) = (service.client(), service.database());
    client.like(1, VIDEO);
    pipeline_drains(&service);
    take_read_model_away(&service);
    client.like(2, VIDEO);
    client.unlike(1, VIDEO);
    pipeline_drains(&service);
    bring_read_model_back(&service);
    row_is(database, 2, ("dead", 1, 1, "closed"));
    let reasons = database.texts("SELECT error_message FROM sync_events WHERE status = 'dead'");
    assert_eq!(reasons.len(), 2);
    assert!(reasons.iter().all(|reason| reason.contains("video_likes")));

    client.until_read(1, VIDEO, (true, Some(1)));
    client.until_read(2, VIDEO, (false, Some(1)));
    everything_holds(&service);
}

#[test]
fn event_that_kills_its_workers_is_dead_and_reverted() {
    const USER: i64 = 42;
    let service = Setup::new().start();
    let (client, database) = (service.client(), service.database());
    client.like(1, VIDEO);
    pipeline_drains(&service);
    // Another worker holds the row, and the cache shows the event as pending.
    database.claim_for_another_worker(USER);
    let accepted = client.like(USER, VIDEO);
    let answer = (accepted.changed, accepted.like_count);
    assert_eq!(answer, (Some(true), Some(2)));
    assert_eq!(client.read(USER, VIDEO).like_count, Some(2));
    // That worker dies, as those before it did.
    database.execute(&[&format!(
        "UPDATE sync_events SET retry_count = max_retries, \
         next_attempt_at = '2020-01-01 00:00:00', lease_until = '2020-01-01 00:00:00' \
         WHERE user_id = {USER}"
    )]);
    pipeline_drains(&service);
    assert_eq!(ledger_of(database, USER)[0].text(), "dead");
    client.until_read(USER, VIDEO, (false, Some(1)));
    everything_holds(&service);
}

matrix!([embedded, mariadb, postgres]: bad_row_fails_alone);

matrix!([mariadb, postgres]: row_rejected_by_a_trigger_fails_alone);

/// The error of a user's trigger does not reveal its class, so only retries can tell.
fn row_rejected_by_a_trigger_fails_alone(setup: Setup) {
    let setup = setup.set("LIKEWISE_MAX_RETRIES", 0);
    rejected_row_fails_alone(setup, Database::refuse_likes_of);
}

fn bad_row_fails_alone(setup: Setup) {
    // SQLite triggers cannot raise a constraint's error code.
    let setup = match setup.database() {
        Database::Sqlite(_) => setup.set("LIKEWISE_MAX_RETRIES", 0),
        _ => setup,
    };
    rejected_row_fails_alone(setup, Database::constrain_likes_of);
}

fn rejected_row_fails_alone(setup: Setup, refuse: fn(&Database, i64, &str)) {
    const BAD: i64 = 13;
    let service = setup.start();
    let (client, database) = (service.client(), service.database());
    // The message of a trigger decides nothing.
    let message = "deadlock, connection lost: refused by a test";
    refuse(database, BAD, message);

    // While the first event cannot be stored, the others gather into one batch.
    let held = database.hold_writes();
    let mut likes = Vec::new();
    for (waiting, user) in (10..=15).enumerate() {
        let own = service.client();
        likes.push(std::thread::spawn(move || own.like(user, VIDEO)));
        client.until_depth("behavior_recorder", waiting as u64 + 1);
    }
    drop(held);
    for like in likes {
        like.join().expect("an accepted like");
    }
    pipeline_drains(&service);
    row_is(database, BAD, ("dead", 1, 1, "closed"));
    let reasons = database.texts("SELECT error_message FROM sync_events WHERE status = 'dead'");
    assert_eq!(reasons.len(), 1);
    assert!(reasons[0].contains("refused by a test"), "{reasons:?}");
    for user in (10..=15).filter(|user| *user != BAD) {
        row_is(database, user, ("completed", 0, 1, "closed"));
    }
    let count = format!("SELECT like_count FROM likewise_like_counts WHERE resource_id = {VIDEO}");
    assert_eq!(database.number(&count), 5);
    client.until_read(BAD, VIDEO, (false, Some(5)));
    everything_holds(&service);
}

/// With any number of workers, one worker claims a row, and none before it is due.
#[test]
fn twelve_workers_retry_a_failing_event_once_an_interval() {
    const BAD: i64 = 13;
    const RETRIES: i64 = 3;
    let stack = Stack::start();
    let database = Database::hosted(Kind::MariaDb);
    let start = |role: &str| {
        let setup = stack.setup().on(&database);
        let setup = setup.set("LIKEWISE_MAX_RETRIES", RETRIES);
        setup.start_as(&["serve", "--role", role])
    };
    let api = start("api");
    let workers: Vec<_> = (0..12).map(|_| start("worker")).collect();
    // A table without transactions, so a rollback of the attempt keeps the entry.
    database.execute(&[
        "CREATE TABLE attempts (at DATETIME(6) NOT NULL) ENGINE = MyISAM",
        &format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON video_likes FOR EACH ROW \
             IF NEW.user_id = {BAD} THEN INSERT INTO attempts VALUES (UTC_TIMESTAMP(6)); \
             SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no likes today'; END IF"
        ),
    ]);
    // Alone, because splitting a batch takes more attempts.
    api.client().like(BAD, VIDEO);
    until("the failing event to be dead", 2 * PATIENCE, || {
        let dead = database.count("sync_events WHERE status = 'dead'");
        (dead == 1).then_some(()).ok_or("not dead yet")
    });
    // The first attempt was to record and sync in one transaction. One worker made each other attempt, and recorded it
    // once.
    assert_eq!(database.count("attempts"), 1 + RETRIES + 1);
    let history = "SELECT step, retry_count, fencing_token FROM likewise_sync_event_history \
        ORDER BY history_id";
    for (row, n) in database.rows(history).iter().zip(1..=RETRIES + 1) {
        let step = if n > RETRIES { "dead" } else { "failed" };
        assert_eq!(*row, [step.into(), n.into(), n.into()]);
    }
    assert_eq!(database.count("likewise_sync_event_history"), RETRIES + 1);
    drop(workers);
}
