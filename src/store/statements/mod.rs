//! Every statement of the store, written once and spelled out for one dialect at start.
//!
//! `$1`, `$2` ... stand for parameters; each statement's doc lists them in order. `rows` is a batch:
//! see [`Dialect::rows`](super::dialect::Dialect::rows).

use crate::domain::ResourceType;
use crate::domain::origin::ACCEPTED;
mod bounded;
mod idempotency;
mod lists;
mod maintenance;
mod operations;

pub use bounded::Sample;
pub(super) use idempotency::IdempotencyStatements;
pub(super) use lists::ListsStatements;
pub(super) use maintenance::{LEDGER, MaintenanceStatements};
pub(super) use operations::{COUNTED_EXACTLY, OperationsStatements};

use self::maintenance::UNLISTED;
use crate::store::dialect::Column::{self, Number, Text, Word};
use crate::store::dialect::Dialect;
use crate::store::read_models::RESOURCE;
use crate::store::schema::likes_table;
pub(super) use crate::store::session::Statement;

/// Every statement, for one dialect.
pub(super) struct Statements {
    /// Appends to the events' history. Parameters: rows `(event_id, step, retry_count, token, error,
    /// operator)`, now.
    pub(super) history: Statement,
    /// Keeps messages. Parameters: rows of [`QUARANTINED`], now.
    pub(super) quarantine: Statement,
    /// The messages kept last. Parameters: the most rows.
    pub(super) quarantined: Statement,
    /// How many ledger rows have not come to their end: all those that will be due some time.
    pub(super) open_rows: Statement,
    /// How many ledger rows have each status.
    pub(super) summary: Statement,
    /// How many behaviors are like events.
    pub(super) like_behaviors: Statement,
    /// How many ledger rows there are.
    pub(super) ledger_rows: Statement,
    /// Like events without a ledger row. Parameters: the most differences to show.
    pub(super) verify_unlisted: Statement,
    /// Ledger rows without a behavior. Parameters: the most differences to show.
    pub(super) verify_unfounded: Statement,
    /// Ledger rows that have not come to their end. Parameters: the most differences to show.
    pub(super) verify_open: Statement,
    /// Acknowledged events in quarantine that nobody has resolved. Parameters: the most differences to show.
    pub(super) verify_quarantine: Statement,
    /// How many messages are or were in quarantine.
    pub(super) quarantine_rows: Statement,
    /// Those of what operators see and do.
    pub(super) operations: OperationsStatements,
    /// Those of audits, repairs and retention.
    pub(super) maintenance: MaintenanceStatements,
    /// Those of requests that are done once.
    pub(super) idempotency: IdempotencyStatements,
    likes: Vec<LikesStatements>,
    lists: Vec<ListsStatements>,
}

/// The statements over one resource type's read model, which is a table of its own.
pub(super) struct LikesStatements {
    /// How many pairs have a row.
    pub(super) rows: Statement,
    /// How many pairs are liked.
    pub(super) liked: Statement,
    /// How many resources have a count.
    pub(super) counted: Statement,
    /// Pairs that are not what their events add up to. Parameters: the most differences to show.
    pub(super) verify_fold: Statement,
    /// Pairs that no event explains. Parameters: the most differences to show.
    pub(super) verify_strays: Statement,
    /// Counts that are not the number of liked rows. Parameters: the most differences to show.
    pub(super) verify_counts: Statement,
    /// Resources with likes but no count. Parameters: the most differences to show.
    pub(super) verify_uncounted: Statement,
}

/// The columns of a message in quarantine, its bytes spelled in hexadecimal.
const QUARANTINED: [Column; 6] = [
    Word("event_id"),
    Number("sequence"),
    Text("topic"),
    Text("message_id"),
    Text("reason"),
    Text("payload"),
];

impl Statements {
    pub(super) fn new(d: &'static dyn Dialect) -> Self {
        let now = d.time("$2");
        Self {
            history: format!(
                "INSERT INTO sync_event_history (event_id, step, retry_count, fencing_token, \
                 error_message, operator, created_at) SELECT r.event_id, r.step, r.retry_count, \
                 r.token, r.error, r.operator, {now} FROM {}",
                d.rows(
                    "$1",
                    &[
                        Word("event_id"),
                        Word("step"),
                        Number("retry_count"),
                        Number("token"),
                        Text("error"),
                        Text("operator"),
                    ]
                )
            )
            .into(),
            quarantine: format!(
                "INSERT INTO quarantined_events (id, stream_sequence, subject, message_id, reason, \
                 payload, created_at) SELECT r.event_id, r.sequence, r.topic, r.message_id, \
                 r.reason, {}, {now} FROM {} WHERE true {}",
                d.unhex("r.payload"),
                d.rows("$1", &QUARANTINED),
                d.on_conflict("quarantined_events", &["id"], &[])
            )
            .into(),
            quarantined: format!(
                "SELECT id, stream_sequence, subject, message_id, reason, {} AS payload, \
                 created_at FROM quarantined_events ORDER BY created_at DESC, \
                 stream_sequence DESC LIMIT $1",
                d.hex("payload")
            )
            .into(),
            open_rows: total("'open'", &d.open_rows()),
            summary: total("status", "sync_events GROUP BY status"),
            like_behaviors: total(
                "'behaviors'",
                "user_behaviors WHERE behavior_type IN ('like', 'unlike')",
            ),
            ledger_rows: total("'ledger'", "sync_events"),
            verify_unlisted: differences(
                "b.event_id",
                "'one ledger row'",
                "'none'",
                &format!(
                    "user_behaviors b LEFT JOIN sync_events e ON e.id = b.event_id \
                     WHERE e.id IS NULL AND {UNLISTED}"
                ),
            ),
            verify_unfounded: differences(
                "e.id",
                "'a recorded behavior'",
                "'none'",
                "sync_events e LEFT JOIN user_behaviors b ON b.event_id = e.id \
                 WHERE b.event_id IS NULL",
            ),
            verify_open: differences(
                "e.id",
                "'completed or dead, with the time, and the reason if dead'",
                "CONCAT(e.status, ', failed attempts: ', e.retry_count, ', error: ', \
                 COALESCE(e.error_message, 'none'))",
                "sync_events e WHERE e.status NOT IN ('completed', 'dead') \
                 OR e.processed_at IS NULL OR (e.status = 'dead' AND e.error_message IS NULL)",
            ),
            verify_quarantine: differences(
                "CONCAT('event ', COALESCE(q.message_id, q.id))",
                "'recorded'",
                "CONCAT('in quarantine: ', q.reason)",
                // Each database has an index for exactly this condition.
                &format!(
                    "quarantined_events q WHERE q.resolved_at IS NULL AND q.subject LIKE '{ACCEPTED}.%' \
                     ORDER BY q.created_at"
                ),
            ),
            quarantine_rows: total("'quarantine'", "quarantined_events"),
            operations: OperationsStatements::new(d),
            maintenance: MaintenanceStatements::new(d),
            idempotency: IdempotencyStatements::new(d),
            likes: ResourceType::ALL
                .into_iter()
                .map(LikesStatements::new)
                .collect(),
            lists: ResourceType::ALL
                .into_iter()
                .map(|resource_type| ListsStatements::new(d, resource_type))
                .collect(),
        }
    }

    /// The statements over one resource type's read model.
    pub(super) fn likes(&self, resource_type: ResourceType) -> &LikesStatements {
        &self.likes[resource_type as usize]
    }

    /// The statements over one resource type's lists.
    pub(super) fn lists(&self, resource_type: ResourceType) -> &ListsStatements {
        &self.lists[resource_type as usize]
    }
}

impl LikesStatements {
    /// Behaviors that the read models show: like events that are completed. One without a ledger row has
    /// lost it, or it was pruned.
    const EFFECTIVE: &str = "b.behavior_type IN ('like', 'unlike') \
        AND COALESCE(e.status, 'completed') = 'completed'";

    /// A derived table `n`: the effective events of each pair, the newest with `place` 1; between equal
    /// versions 'unlike' sorts last and wins. `from` provides the behaviors as `b`.
    fn newest(resource_type: ResourceType, from: &str, condition: &str) -> String {
        format!(
            "(SELECT b.user_id, b.resource_id, b.version, b.behavior_type, ROW_NUMBER() OVER \
             (PARTITION BY b.user_id, b.resource_id ORDER BY b.version DESC, b.behavior_type DESC) \
             AS place FROM {from} LEFT JOIN sync_events e ON e.id = b.event_id \
             WHERE {condition} b.resource_type = '{resource_type}' AND {}) n",
            Self::EFFECTIVE
        )
    }

    fn new(resource_type: ResourceType) -> Self {
        let (table, id) = likes_table(resource_type);
        let word = resource_type.as_str();
        let newest = Self::newest(resource_type, "user_behaviors b", "");
        let action = "CASE WHEN l.deleted_at IS NULL THEN 'like' ELSE 'unlike' END";
        Self {
            rows: total("'rows'", table),
            liked: total("'liked'", &format!("{table} WHERE deleted_at IS NULL")),
            counted: total(
                "'counts'",
                &format!("like_counts WHERE resource_type = '{word}'"),
            ),
            verify_fold: differences(
                &format!("CONCAT('user ', n.user_id, ', {word} ', n.resource_id)"),
                "CONCAT(n.behavior_type, ' of version ', n.version)",
                &format!(
                    "CASE WHEN l.user_id IS NULL THEN 'no row' \
                     ELSE CONCAT({action}, ' of version ', l.version) END"
                ),
                &format!(
                    "{newest} LEFT JOIN {table} l ON l.user_id = n.user_id \
                     AND l.{id} = n.resource_id WHERE n.place = 1 AND (l.user_id IS NULL \
                     OR l.version <> n.version OR {action} <> n.behavior_type)"
                ),
            ),
            verify_strays: differences(
                &format!("CONCAT('user ', l.user_id, ', {word} ', l.{id})"),
                "'no row'",
                "CONCAT('a row of version ', l.version)",
                &format!(
                    "{table} l LEFT JOIN {newest} ON n.user_id = l.user_id \
                     AND n.resource_id = l.{id} AND n.place = 1 WHERE n.user_id IS NULL"
                ),
            ),
            verify_counts: differences(
                &format!("CONCAT('{word} ', c.resource_id)"),
                "CONCAT(COALESCE(l.likes, 0), ' likes')",
                "CONCAT(c.like_count, ' likes')",
                &format!(
                    "like_counts c LEFT JOIN (SELECT {id} AS resource_id, COUNT(*) AS likes \
                     FROM {table} WHERE deleted_at IS NULL GROUP BY {id}) l \
                     ON l.resource_id = c.resource_id WHERE c.resource_type = '{word}' \
                     AND c.like_count <> COALESCE(l.likes, 0)"
                ),
            ),
            verify_uncounted: differences(
                &format!("CONCAT('{word} ', l.{id})"),
                "CONCAT(COUNT(*), ' likes')",
                "'no count'",
                &format!(
                    "{table} l LEFT JOIN like_counts c ON c.resource_type = '{word}' \
                     AND c.resource_id = l.{id} WHERE c.resource_id IS NULL GROUP BY l.{id}"
                ),
            ),
        }
    }
}

/// Counts rows, with a label.
fn total(label: &str, from: &str) -> Statement {
    format!("SELECT {label} AS label, COUNT(*) AS total FROM {from}").into()
}

/// The first rows that are not as they should be, each with how many there are in all.
fn differences(subject: &str, expected: &str, found: &str, from: &str) -> Statement {
    format!(
        "SELECT {subject} AS subject, {expected} AS expected, {found} AS found, \
         COUNT(*) OVER () AS total FROM {from} LIMIT $1"
    )
    .into()
}
