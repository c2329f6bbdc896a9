//! Stores many completed likes at once, with SQL that runs in the database. Their keys are as scattered as those of real
//! likes, so that pages of indexes are as full.

use super::ToolError;
use super::tables::Tables;
use crate::cli::Failure;
use crate::config::Settings;

/// The rows of one statement.
const AT_ONCE: u64 = 250_000;
/// The numbers of the hot video's likes begin here; those of other likes are smaller.
const HOT_FIRST: u64 = 4_000_000_000;
/// The video that the benchmark reads as the hot one.
const HOT_VIDEO: u64 = 7_000_000_001;

/// Stores this number of likes, each of another pair, and the likes of the hot video unless it has some.
pub(super) async fn fill(settings: &Settings, rows: u64, hot: u64) -> Result<(), Failure> {
    let mut tables = Tables::open(settings).await?;
    let scattered = Likes {
        user: "(1 + s.seq * 7919 % 1000003)".to_owned(),
        video: "(1 + s.seq * 104729 % 99991)".to_owned(),
        of: "video_id < 1000000".to_owned(),
    };
    scattered.store(&mut tables, 1, rows).await?;
    let known = format!(
        "SELECT '' AS label, COUNT(*) AS one, COUNT(*) AS two FROM video_likes WHERE video_id = {HOT_VIDEO}"
    );
    if hot > 0 && tables.number(&known).await? == 0 {
        let hot_likes = Likes {
            // Every other user likes it.
            user: format!("(2 * (s.seq - {HOT_FIRST} + 1))"),
            video: HOT_VIDEO.to_string(),
            of: format!("video_id = {HOT_VIDEO}"),
        };
        hot_likes.store(&mut tables, HOT_FIRST, hot).await?;
    }
    if rows + hot > 0 {
        tables.analyze().await?;
    }
    Ok(())
}

/// Likes as SQL: their users and videos are made of a number `s.seq`.
struct Likes {
    user: String,
    video: String,
    /// Matches their videos.
    of: String,
}

impl Likes {
    async fn store(&self, tables: &mut Tables, first: u64, count: u64) -> Result<(), ToolError> {
        let (mut next, end) = (first, first + count);
        while next < end {
            let last = (next + AT_ONCE).min(end) - 1;
            for statement in self.statements(tables, next, last) {
                tables.execute(&statement).await?;
            }
            next = last + 1;
        }
        if count == 0 {
            return Ok(());
        }
        let now = match tables {
            Tables::Sqlite(_) => "'2026-01-01 00:00:00.000000'",
            Tables::Mysql(_) | Tables::Postgres(_) => "'2026-01-01 00:00:00'",
        };
        let counts = format!(
            "INSERT INTO likewise_like_counts (resource_type, resource_id, like_count, revision, updated_at) \
             SELECT 'video', video_id, COUNT(*), 1, {now} FROM video_likes WHERE {} GROUP BY video_id",
            self.of
        );
        tables.execute(&counts).await
    }

    fn statements(&self, tables: &Tables, first: u64, last: u64) -> [String; 3] {
        let (numbers, id, at) = match tables {
            Tables::Sqlite(_) => (
                format!(
                    "(WITH RECURSIVE n(seq) AS (SELECT {first} UNION ALL SELECT seq + 1 FROM n \
                     WHERE seq < {last}) SELECT seq FROM n) AS s"
                ),
                "printf('%08x-0000-7000-8000-%012x', s.seq, s.seq)",
                "strftime('%Y-%m-%d %H:%M:%f000', 1700000000 + s.seq / 1000.0, 'unixepoch')",
            ),
            Tables::Mysql(_) => (
                format!("(SELECT CAST(seq AS SIGNED) AS seq FROM seq_{first}_to_{last}) AS s"),
                "LOWER(CONCAT(LPAD(HEX(s.seq), 8, '0'), '-0000-7000-8000-', LPAD(HEX(s.seq), 12, '0')))",
                "DATE_ADD('2023-11-14 22:13:20.000000', INTERVAL s.seq * 1000 MICROSECOND)",
            ),
            Tables::Postgres(_) => (
                format!("generate_series({first}::bigint, {last}::bigint) AS s(seq)"),
                "lpad(to_hex(s.seq), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(s.seq), 12, '0')",
                "TIMESTAMP '2023-11-14 22:13:20' + s.seq * INTERVAL '1 millisecond'",
            ),
        };
        let version = "1700000000000000 + s.seq * 1000";
        let Self { user, video, .. } = self;
        [
            format!(
                "INSERT INTO user_behaviors (event_id, user_id, resource_type, resource_id, behavior_type, version, \
                 source, behavior_time, created_at) SELECT {id}, {user}, 'video', {video}, 'like', {version}, \
                 'likewise-api', {at}, {at} FROM {numbers}"
            ),
            format!(
                "INSERT INTO sync_events (id, event_type, resource_type, resource_id, user_id, action_type, status, \
                 version, retry_count, max_retries, priority, fencing_token, created_at, updated_at, processed_at) \
                 SELECT {id}, 'video_like', 'video', {video}, {user}, 'like', 'completed', {version}, 0, 5, 0, 1, \
                 {at}, {at}, {at} FROM {numbers}"
            ),
            format!(
                "INSERT INTO video_likes (user_id, video_id, version, created_at) \
                 SELECT {user}, {video}, {version}, {at} FROM {numbers}"
            ),
        ]
    }
}
