//! Writes many rows at once, with SQL that runs in the database.

use crate::support::database::Database;

/// The number of rows of one statement.
const AT_ONCE: i64 = 250_000;

/// Adds completed likes, and then this many open or dead rows: a quarter each pending and due, processing under a
/// lease, failed, and dead. The rows are a millisecond apart and end about now, the open ones last.
pub fn fill(database: &Database, completed: i64, others: i64) {
    let all = completed + others;
    let mut first = 1;
    while first <= all {
        let last = (first + AT_ONCE - 1).min(all);
        for statement in statements(database, (first, last), completed, all) {
            database.execute(&[&statement]);
        }
        first = last + 1;
    }
    database.execute(&[
        "INSERT INTO likewise_like_counts (resource_type, resource_id, like_count, revision, \
        updated_at) SELECT 'video', video_id, COUNT(*), 1, '2026-01-01 00:00:00' \
        FROM video_likes GROUP BY video_id",
    ]);
    analyze(database);
}

/// Adds this many views beside the likes of [`fill`], each of the video of one of them, by users of their own.
pub fn add_views(database: &Database, views: i64) {
    database.execute(&[
        &format!(
            "INSERT INTO user_behaviors (event_id, user_id, resource_type, resource_id, behavior_type, \
             version, source, behavior_time, created_at) SELECT CONCAT('f', SUBSTR(event_id, 2)), \
             -user_id, resource_type, resource_id, 'view', version, source, behavior_time, created_at \
             FROM user_behaviors WHERE user_behavior_id <= {views}"
        ),
        "INSERT INTO likewise_behavior_counts (resource_type, resource_id, behavior_type, \
        behavior_count, pruned_count, updated_at) SELECT resource_type, resource_id, behavior_type, \
        COUNT(*), 0, '2026-01-01 00:00:00' FROM user_behaviors WHERE behavior_type = 'view' \
        GROUP BY resource_type, resource_id, behavior_type",
    ]);
    analyze(database);
}

fn analyze(database: &Database) {
    match database {
        Database::MariaDb(_) => database.execute(&["ANALYZE TABLE user_behaviors, sync_events, \
            video_likes, likewise_like_counts, likewise_behavior_counts, likewise_job_events"]),
        _ => database.execute(&["ANALYZE"]),
    }
}

/// The user and the video of a row, by its number. Each user has a hundred likes.
const USER: &str = "(s.seq / 100 + 1)";
const VIDEO: &str = "(s.seq % 100003 + 1)";

fn statements(
    database: &Database,
    (first, last): (i64, i64),
    completed: i64,
    all: i64,
) -> [String; 3] {
    let (numbers, id, user) = match database {
        Database::Sqlite(_) => (
            format!(
                "(WITH RECURSIVE n(seq) AS (SELECT {first} UNION ALL SELECT seq + 1 FROM n \
                 WHERE seq < {last}) SELECT seq FROM n) AS s"
            ),
            "printf('%08x-0000-7000-8000-%012x', s.seq, s.seq)",
            USER.to_owned(),
        ),
        Database::MariaDb(_) => (
            format!("seq_{first}_to_{last} AS s"),
            "LOWER(CONCAT(LPAD(HEX(s.seq), 8, '0'), '-0000-7000-8000-', LPAD(HEX(s.seq), 12, '0')))",
            USER.replace('/', "DIV"),
        ),
        Database::Postgres(_) => (
            format!("generate_series({first}::bigint, {last}::bigint) AS s(seq)"),
            "lpad(to_hex(s.seq), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(s.seq), 12, '0')",
            USER.to_owned(),
        ),
    };
    // The last row was recorded a minute ago.
    let moment = |database: &Database| match database {
        Database::Sqlite(_) => format!(
            "strftime('%Y-%m-%d %H:%M:%f000', 'now', ((s.seq - {all}) / 1000.0 - 60) || ' seconds')"
        ),
        Database::MariaDb(_) => format!(
            "DATE_ADD(UTC_TIMESTAMP(6), INTERVAL (CAST(s.seq AS SIGNED) - {all}) * 1000 - 60000000 MICROSECOND)"
        ),
        Database::Postgres(_) => format!(
            "(now() AT TIME ZONE 'UTC') + (s.seq - {all}) * INTERVAL '1 millisecond' \
             - INTERVAL '1 minute'"
        ),
    };
    let at = moment(database);
    let version = "1700000000000000 + s.seq * 1000";
    let since = match database {
        Database::Sqlite(_) => {
            "strftime('%Y-%m-%d %H:%M:%f000', 1700000000 + s.seq / 1000.0, 'unixepoch')"
        }
        Database::MariaDb(_) => {
            "DATE_ADD('2023-11-14 22:13:20', INTERVAL s.seq * 1000 MICROSECOND)"
        }
        Database::Postgres(_) => {
            "TIMESTAMP '2023-11-14 22:13:20' + s.seq * INTERVAL '1 millisecond'"
        }
    };
    let status = format!(
        "CASE WHEN s.seq <= {completed} THEN 'completed' WHEN s.seq % 4 = 0 THEN 'pending' \
         WHEN s.seq % 4 = 1 THEN 'processing' WHEN s.seq % 4 = 2 THEN 'failed' ELSE 'dead' END"
    );
    let open = format!("s.seq > {completed} AND s.seq % 4 <> 3");
    let far = match database {
        Database::Sqlite(_) => "'2037-01-01 00:00:00.000000'",
        Database::MariaDb(_) => "CAST('2037-01-01 00:00:00' AS DATETIME(6))",
        Database::Postgres(_) => "TIMESTAMP '2037-01-01 00:00:00'",
    };
    [
        format!(
            "INSERT INTO user_behaviors (event_id, user_id, resource_type, resource_id, behavior_type, \
             version, source, behavior_time, created_at) SELECT {id}, {user}, 'video', {VIDEO}, \
             'like', {version}, 'bulk', {at}, {at} FROM {numbers}"
        ),
        format!(
            "INSERT INTO sync_events (id, event_type, resource_type, resource_id, user_id, \
             action_type, status, version, retry_count, max_retries, priority, error_message, \
             next_attempt_at, lease_until, fencing_token, created_at, updated_at, processed_at) \
             SELECT {id}, 'video_like', 'video', {VIDEO}, {user}, 'like', {status}, {version}, 0, 5, \
             0, CASE WHEN s.seq > {completed} AND s.seq % 4 >= 2 THEN 'lock wait' END, \
             CASE WHEN {open} THEN CASE WHEN s.seq % 4 = 1 THEN {far} ELSE {at} END END, \
             CASE WHEN {open} AND s.seq % 4 = 1 THEN {far} END, 1, {at}, {at}, \
             CASE WHEN {open} THEN NULL ELSE {at} END FROM {numbers}"
        ),
        format!(
            "INSERT INTO video_likes (user_id, video_id, version, created_at) \
             SELECT {user}, {VIDEO}, {version}, {since} FROM {numbers} WHERE s.seq <= {completed}"
        ),
    ]
}
