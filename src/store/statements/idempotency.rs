//! The statements of requests that are done once.

use super::Statement;
use crate::store::dialect::Column::{self, Number, Text, Time, Word};
use crate::store::dialect::Dialect;

/// The statements over `idempotency_keys`.
pub(in crate::store) struct IdempotencyStatements {
    /// Takes keys that nobody has used. Parameters: rows of [`REQUEST`], now, the end of the lease.
    pub(in crate::store) insert: Statement,
    /// What is kept of these keys, locked. Parameters: rows `(request_id)`.
    pub(in crate::store) kept: Statement,
    /// Takes keys that are free again. Parameters: rows `(request_id, fingerprint, event_id, version,
    /// holder, first_seen)`, the end of the lease.
    pub(in crate::store) take: Statement,
    /// Keeps answers. Parameters: rows `(request_id, holder, answer)`, now.
    pub(in crate::store) end: Statement,
    /// Old keys. Parameters: the moment before which they came, the most rows.
    pub(in crate::store) prunable: Statement,
    /// Forgets keys. Parameters: rows `(request_id)`.
    pub(in crate::store) delete: Statement,
}

/// The columns of a request.
const REQUEST: [Column; 6] = [
    Word("request_id"),
    Text("caller"),
    Text("request_key"),
    Word("fingerprint"),
    Word("event_id"),
    Number("version"),
];

impl IdempotencyStatements {
    pub(super) fn new(d: &dyn Dialect) -> Self {
        const TABLE: &str = "idempotency_keys";
        let ids = d.rows("$1", &[Word("request_id")]);
        let second = d.time("$2");
        Self {
            insert: format!(
                "INSERT INTO {TABLE} (id, caller, idempotency_key, fingerprint, event_id, version, \
                 holder, lease_until, created_at) SELECT r.request_id, r.caller, r.request_key, \
                 r.fingerprint, r.event_id, r.version, r.event_id, {}, {second} FROM {} \
                 WHERE true {}",
                d.time("$3"),
                d.rows("$1", &REQUEST),
                d.on_conflict(TABLE, &["id"], &[])
            )
            .into(),
            kept: format!(
                "SELECT k.id, k.fingerprint, k.event_id, k.version, k.holder, k.lease_until, \
                 k.answer, k.created_at FROM {ids} {} {TABLE} k ON k.id = r.request_id{}",
                d.join(),
                d.for_update("k")
            )
            .into(),
            take: d
                .update(
                    TABLE,
                    &d.rows(
                        "$1",
                        &[
                            Word("request_id"),
                            Word("fingerprint"),
                            Word("event_id"),
                            Number("version"),
                            Word("holder"),
                            Time("first_seen"),
                        ],
                    ),
                    "e.id = r.request_id",
                    &[
                        ("fingerprint", "r.fingerprint"),
                        ("event_id", "r.event_id"),
                        ("version", "r.version"),
                        ("holder", "r.holder"),
                        ("created_at", "r.first_seen"),
                        ("answer", "NULL"),
                        ("lease_until", &second),
                    ],
                )
                .into(),
            end: d
                .update(
                    TABLE,
                    &d.rows("$1", &[Word("request_id"), Word("holder"), Text("answer")]),
                    "e.id = r.request_id AND e.holder = r.holder",
                    &[("answer", "r.answer"), ("lease_until", &second)],
                )
                .into(),
            prunable: format!(
                "SELECT id AS bound FROM {TABLE} WHERE created_at < {} LIMIT $2",
                d.time("$1")
            )
            .into(),
            delete: d.delete(TABLE, &ids, &[("id", "r.request_id")]).into(),
        }
    }
}
