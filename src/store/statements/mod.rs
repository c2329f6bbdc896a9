//! Every statement of the store, written once and spelled out for one dialect at start.
//!
//! `$1`, `$2` ... stand for parameters; each statement's doc lists them in order. `rows` is a batch:
//! see [`Dialect::rows`](super::dialect::Dialect::rows).

use crate::domain::ResourceType;
mod bounded;
mod idempotency;
mod lists;
mod operations;

pub use bounded::Sample;
pub(super) use idempotency::IdempotencyStatements;
pub(super) use lists::ListsStatements;
pub(super) use operations::{COUNTED_EXACTLY, OperationsStatements};

use crate::store::dialect::Column::{self, Number, Text, Word};
use crate::store::dialect::Dialect;
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
    /// Those of what operators see and do.
    pub(super) operations: OperationsStatements,
    /// Those of requests that are done once.
    pub(super) idempotency: IdempotencyStatements,
    lists: Vec<ListsStatements>,
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
            operations: OperationsStatements::new(d),
            idempotency: IdempotencyStatements::new(d),
            lists: ResourceType::ALL
                .into_iter()
                .map(|resource_type| ListsStatements::new(d, resource_type))
                .collect(),
        }
    }

    /// The statements over one resource type's lists.
    pub(super) fn lists(&self, resource_type: ResourceType) -> &ListsStatements {
        &self.lists[resource_type as usize]
    }
}

/// Counts rows, with a label.
fn total(label: &str, from: &str) -> Statement {
    format!("SELECT {label} AS label, COUNT(*) AS total FROM {from}").into()
}
