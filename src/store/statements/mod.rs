//! Every statement of the store, written once and spelled out for one dialect at start.
//!
//! `$1`, `$2` ... stand for parameters; each statement's doc lists them in order. `rows` is a batch:
//! see [`Dialect::rows`](super::dialect::Dialect::rows).

mod maintenance;

pub(super) use maintenance::MaintenanceStatements;

use crate::store::dialect::Column::{Number, Text, Word};
use crate::store::dialect::Dialect;
pub(super) use crate::store::session::Statement;

/// Every statement, for one dialect.
pub(super) struct Statements {
    /// Appends to the events' history. Parameters: rows `(event_id, step, retry_count, token, error,
    /// operator)`, now.
    pub(super) history: Statement,
    /// Those of audits, repairs and retention.
    pub(super) maintenance: MaintenanceStatements,
}

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
            maintenance: MaintenanceStatements::new(d),
        }
    }
}
