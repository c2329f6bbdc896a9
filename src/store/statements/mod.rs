//! Every statement of the store, written once and spelled out for one dialect at start.
//!
//! `$1`, `$2` ... stand for parameters; each statement's doc lists them in order. `rows` is a batch:
//! see [`Dialect::rows`](super::dialect::Dialect::rows).

use crate::domain::ResourceType;
mod bounded;
mod idempotency;
mod lists;
mod maintenance;
mod operations;

pub use bounded::Sample;
pub(super) use idempotency::IdempotencyStatements;
pub(super) use lists::ListsStatements;
pub(super) use maintenance::MaintenanceStatements;
pub(super) use operations::{COUNTED_EXACTLY, OperationsStatements};

use crate::store::dialect::Column::{self, Number, Text, Time, Word};
use crate::store::dialect::Dialect;
use crate::store::schema::{LEDGER_COLUMNS, likes_table};
pub(super) use crate::store::session::Statement;

/// Every statement, for one dialect.
pub(super) struct Statements {
    /// Reads counts. Parameters: rows `(resource_type, resource_id)`.
    pub(super) counts: Statement,
    /// As `counts`, and locks them until the transaction ends.
    pub(super) lock_counts: Statement,
    /// Gives resources their first count. Parameters: rows `(resource_type, resource_id)`, now.
    pub(super) insert_counts: Statement,
    /// Parameters: rows `(resource_type, resource_id, like_count, revision)`, now.
    pub(super) write_counts: Statement,
    /// Completes rows that this worker holds and that say what it holds of them. Parameters: rows of [`HELD_ROW`],
    /// now.
    pub(super) complete: Statement,
    /// The database's time, in microseconds since 1970; `None` if the database runs in the process.
    pub(super) clock: Option<Statement>,
    /// The ledger rows of these events that are completed. Parameters: rows `(event_id)`.
    pub(super) completed: Statement,
    /// Parameters: rows `(event_id, token, next_status, step, counted, due_at, error)`, now.
    pub(super) fail: Statement,
    /// Appends to the events' history what became of the attempts that [`fail`](Self::fail) ends, with the
    /// same parameters, before it.
    pub(super) fail_history: Statement,
    /// Appends to the events' history. Parameters: rows `(event_id, step, retry_count, token, error,
    /// operator)`, now.
    pub(super) history: Statement,
    /// Rows of one priority that are due, locked. Parameters: now, the most rows, the priority.
    pub(super) due: Statement,
    /// Parameters: rows `(event_id, next_status, attempts, due_at, leased_until, token, error)`, now.
    pub(super) claim: Statement,
    /// Those of the rows that a worker holds and no transaction has locked, locked. Parameters: rows
    /// `(event_id, token)`.
    pub(super) renewable: Statement,
    /// Parameters: rows `(event_id, token)`, now, the end of the lease.
    pub(super) renew: Statement,
    /// Closes rows as dead. Parameters: rows `(event_id, error)`, now.
    pub(super) mark_dead: Statement,
    /// The pairs of the last like events. Parameters: the most rows.
    pub(super) recent_pairs: Statement,
    /// Keeps messages. Parameters: rows of [`QUARANTINED`], now.
    pub(super) quarantine: Statement,
    /// The messages kept last. Parameters: the most rows.
    pub(super) quarantined: Statement,
    /// Looks into the tables that a like is recorded in, which only a database in working order has.
    pub(super) ping: Statement,
    /// How many ledger rows have not come to their end: all those that will be due some time.
    pub(super) open_rows: Statement,
    /// How many ledger rows have each status.
    pub(super) summary: Statement,
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
    /// What the read model holds. Parameters: rows `(resource_id, user_id)`.
    pub(super) states: Statement,
    /// Writes states. Parameters: rows `(resource_id, user_id, version, liked, happened_at)`.
    pub(super) upsert: Statement,
}

/// The columns of a ledger row that a worker holds, with what it says.
const HELD_ROW: [Column; 7] = [
    Word("event_id"),
    Number("token"),
    Number("user_id"),
    Word("resource_type"),
    Number("resource_id"),
    Word("action_type"),
    Number("version"),
];

/// The columns of a message in quarantine, its bytes spelled in hexadecimal.
const QUARANTINED: [Column; 6] = [
    Word("event_id"),
    Number("sequence"),
    Text("topic"),
    Text("message_id"),
    Text("reason"),
    Text("payload"),
];

const RESOURCE: [Column; 2] = [Word("resource_type"), Number("resource_id")];

impl Statements {
    pub(super) fn new(d: &'static dyn Dialect) -> Self {
        let join = d.join();
        let now = d.time("$2");
        let lease_end = d.time("$3");
        let resource = d.rows("$1", &RESOURCE);
        let event = d.rows("$1", &[Word("event_id")]);
        let counts = format!(
            "SELECT c.resource_type, c.resource_id, c.like_count, c.revision FROM {resource} \
             {join} like_counts c ON c.resource_type = r.resource_type \
             AND c.resource_id = r.resource_id"
        );
        let held = d.rows("$1", &[Word("event_id"), Number("token")]);
        let failed = d.rows(
            "$1",
            &[
                Word("event_id"),
                Number("token"),
                Word("next_status"),
                Word("step"),
                Number("counted"),
                Time("due_at"),
                Text("error"),
            ],
        );
        let closed_at = format!("CASE WHEN r.next_status = 'dead' THEN {now} END");
        Self {
            clock: d
                .clock_micros()
                .map(|clock| format!("SELECT 'clock' AS label, {clock} AS total").into()),
            completed: format!(
                "SELECT {LEDGER_COLUMNS} FROM {event} {join} sync_events e ON e.id = r.event_id \
                 WHERE e.status = 'completed'"
            )
            .into(),
            lock_counts: format!(
                "{counts} ORDER BY c.resource_type, c.resource_id{}",
                d.for_update("c")
            )
            .into(),
            counts: counts.into(),
            insert_counts: format!(
                "INSERT INTO like_counts (resource_type, resource_id, like_count, revision, \
                 updated_at) SELECT r.resource_type, r.resource_id, 0, 0, {now} FROM {resource} \
                 WHERE true {}",
                d.on_conflict("like_counts", &["resource_type", "resource_id"], &[])
            )
            .into(),
            write_counts: format!(
                "INSERT INTO like_counts (resource_type, resource_id, like_count, revision, \
                 updated_at) SELECT r.resource_type, r.resource_id, r.like_count, r.revision, \
                 {now} FROM {} WHERE true {}",
                d.rows(
                    "$1",
                    &[
                        Word("resource_type"),
                        Number("resource_id"),
                        Number("like_count"),
                        Number("revision"),
                    ]
                ),
                d.on_conflict(
                    "like_counts",
                    &["resource_type", "resource_id"],
                    &[
                        ("like_count", d.incoming("like_count")),
                        ("revision", d.incoming("revision")),
                        ("updated_at", d.incoming("updated_at")),
                    ]
                )
            )
            .into(),
            complete: d
                .update(
                    "sync_events",
                    &d.rows("$1", &HELD_ROW),
                    &format!("{HELD} AND {HELD_CONTENT}"),
                    &[
                        ("status", "'completed'"),
                        ("processed_at", &now),
                        ("updated_at", &now),
                        ("next_attempt_at", "NULL"),
                        ("lease_until", "NULL"),
                    ],
                )
                .into(),
            fail_history: format!(
                "INSERT INTO sync_event_history (event_id, step, retry_count, fencing_token, \
                 error_message, created_at) SELECT r.event_id, r.step, e.retry_count + r.counted, \
                 r.token, r.error, {now} FROM {failed} {join} sync_events e ON {HELD}"
            )
            .into(),
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
            fail: d
                .update(
                    "sync_events",
                    &failed,
                    HELD,
                    &[
                        ("status", "r.next_status"),
                        ("retry_count", "e.retry_count + r.counted"),
                        ("error_message", "r.error"),
                        ("next_attempt_at", "r.due_at"),
                        ("lease_until", "NULL"),
                        ("updated_at", &now),
                        ("processed_at", &closed_at),
                    ],
                )
                .into(),
            due: format!(
                "SELECT {LEDGER_COLUMNS} FROM sync_events e WHERE e.priority = $3 \
                 AND e.next_attempt_at <= {} ORDER BY e.next_attempt_at LIMIT $2{}",
                d.time("$1"),
                d.skip_locked("e")
            )
            .into(),
            claim: d
                .update(
                    "sync_events",
                    &d.rows(
                        "$1",
                        &[
                            Word("event_id"),
                            Word("next_status"),
                            Number("attempts"),
                            Time("due_at"),
                            Time("leased_until"),
                            Number("token"),
                            Text("error"),
                        ],
                    ),
                    "e.id = r.event_id",
                    &[
                        ("status", "r.next_status"),
                        ("retry_count", "r.attempts"),
                        ("next_attempt_at", "r.due_at"),
                        ("lease_until", "r.leased_until"),
                        ("fencing_token", "r.token"),
                        ("error_message", "COALESCE(r.error, e.error_message)"),
                        ("updated_at", &now),
                        ("processed_at", &closed_at),
                    ],
                )
                .into(),
            renewable: format!(
                "SELECT {LEDGER_COLUMNS} FROM {held} {join} sync_events e ON {HELD}{}",
                d.skip_locked("e")
            )
            .into(),
            renew: d
                .update(
                    "sync_events",
                    &held,
                    HELD,
                    &[
                        ("next_attempt_at", &lease_end),
                        ("lease_until", &lease_end),
                        ("updated_at", &now),
                    ],
                )
                .into(),
            mark_dead: d
                .update(
                    "sync_events",
                    &d.rows("$1", &[Word("event_id"), Text("error")]),
                    "e.id = r.event_id",
                    &[
                        ("status", "'dead'"),
                        ("error_message", "r.error"),
                        ("next_attempt_at", "NULL"),
                        ("lease_until", "NULL"),
                        ("fencing_token", "e.fencing_token + 1"),
                        ("updated_at", &now),
                        ("processed_at", &now),
                    ],
                )
                .into(),
            recent_pairs: "SELECT user_id, resource_type, resource_id FROM user_behaviors \
                 WHERE behavior_type IN ('like', 'unlike') \
                 ORDER BY user_behavior_id DESC LIMIT $1"
                .to_owned()
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
            ping: total(
                "'ping'",
                "(SELECT b.event_id FROM user_behaviors b \
                 LEFT JOIN sync_events e ON e.id = b.event_id LIMIT 1) AS one",
            ),
            open_rows: total("'open'", &d.open_rows()),
            summary: total("status", "sync_events GROUP BY status"),
            operations: OperationsStatements::new(d),
            maintenance: MaintenanceStatements::new(d),
            idempotency: IdempotencyStatements::new(d),
            likes: ResourceType::ALL
                .into_iter()
                .map(|resource_type| LikesStatements::new(d, resource_type))
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

/// Matches ledger rows that this worker still holds: nobody has claimed them since, and they are open.
const HELD: &str = "e.id = r.event_id AND e.fencing_token = r.token \
    AND e.status IN ('pending', 'processing')";

/// Matches ledger rows that say what the batch says of them.
const HELD_CONTENT: &str = "e.user_id = r.user_id AND e.resource_type = r.resource_type \
    AND e.resource_id = r.resource_id AND e.action_type = r.action_type AND e.version = r.version";

impl LikesStatements {
    fn new(d: &dyn Dialect, resource_type: ResourceType) -> Self {
        let (table, id) = likes_table(resource_type);
        let join = d.join();
        Self {
            states: format!(
                "SELECT l.user_id, l.{id} AS resource_id, l.version, \
                 {} AS liked FROM {} {join} {table} l ON l.user_id = r.user_id AND l.{id} = r.resource_id",
                d.number("CASE WHEN l.deleted_at IS NULL THEN 1 ELSE 0 END"),
                d.rows("$1", &[Number("resource_id"), Number("user_id")])
            )
            .into(),
            upsert: format!(
                "INSERT INTO {table} (user_id, {id}, version, created_at, deleted_at) \
                 SELECT r.user_id, r.resource_id, r.version, r.happened_at, \
                 CASE WHEN r.liked = 1 THEN NULL ELSE r.happened_at END FROM {} WHERE true {}",
                d.rows(
                    "$1",
                    &[
                        Number("resource_id"),
                        Number("user_id"),
                        Number("version"),
                        Number("liked"),
                        Time("happened_at"),
                    ]
                ),
                d.on_conflict(
                    table,
                    &["user_id", id],
                    &[
                        (
                            "created_at",
                            format!(
                                "CASE WHEN {} IS NULL THEN {} ELSE {table}.created_at END",
                                d.incoming("deleted_at"),
                                d.incoming("created_at")
                            )
                        ),
                        ("deleted_at", d.incoming("deleted_at")),
                        ("version", d.incoming("version")),
                    ]
                )
            )
            .into(),
        }
    }
}

/// Counts rows, with a label.
fn total(label: &str, from: &str) -> Statement {
    format!("SELECT {label} AS label, COUNT(*) AS total FROM {from}").into()
}
