//! The statements of repairs.

use super::Statement;
use crate::domain::ResourceType;
use crate::store::comparisons::{BROKEN, newest};
use crate::store::dialect::Column::{Number, Time, Word};
use crate::store::dialect::Dialect;
use crate::store::schema::likes_table;

/// The statements of repairs, for one dialect.
pub(in crate::store) struct MaintenanceStatements {
    /// Gives behaviors a completed ledger row. Parameters: rows `(event_id)`, now.
    pub(in crate::store) restore_ledger: Statement,
    /// Gives ledger rows their behavior. Parameters: rows `(event_id, happened_at)`.
    pub(in crate::store) restore_behaviors: Statement,
    /// Puts ledger rows into a state from which they come to their end. Parameters: rows `(event_id)`, now.
    pub(in crate::store) mend_ledger: Statement,
    /// The ledger rows of these events. Parameters: rows `(event_id)`.
    pub(in crate::store) ledger_rows: Statement,
    likes: Vec<LikesMaintenance>,
}

/// The statements over one resource type's read model.
pub(in crate::store) struct LikesMaintenance {
    /// What the events of pairs add up to. Parameters: rows `(resource_id, user_id)`.
    pub(in crate::store) fold: Statement,
    /// Parameters: rows `(resource_id, user_id)`.
    pub(in crate::store) delete: Statement,
    /// How many users like each resource. Parameters: rows `(resource_id)`.
    pub(in crate::store) count: Statement,
}

impl MaintenanceStatements {
    pub(in crate::store) fn new(d: &dyn Dialect) -> Self {
        let join = d.join();
        let now = d.time("$2");
        let ids = d.rows("$1", &[Word("event_id")]);
        Self {
            restore_ledger: format!(
                "INSERT INTO sync_events (id, event_type, resource_type, resource_id, user_id, \
                 action_type, status, version, retry_count, max_retries, priority, fencing_token, \
                 created_at, updated_at, processed_at) SELECT b.event_id, \
                 CONCAT(b.resource_type, '_like'), b.resource_type, b.resource_id, b.user_id, \
                 b.behavior_type, 'completed', b.version, 0, 0, 0, 1, b.created_at, {now}, {now} \
                 FROM {ids} {join} user_behaviors b ON b.event_id = r.event_id WHERE true {}",
                d.on_conflict("sync_events", &["id"], &[])
            )
            .into(),
            restore_behaviors: format!(
                "INSERT INTO user_behaviors (event_id, user_id, resource_type, resource_id, \
                 behavior_type, version, source, behavior_time, created_at) SELECT e.id, e.user_id, \
                 e.resource_type, e.resource_id, e.action_type, e.version, 'audit', r.happened_at, \
                 e.created_at FROM {} {join} sync_events e ON e.id = r.event_id WHERE true {}",
                d.rows("$1", &[Word("event_id"), Time("happened_at")]),
                d.on_conflict("user_behaviors", &["event_id"], &[])
            )
            .into(),
            mend_ledger: d
                .update(
                    "sync_events",
                    &ids,
                    &format!("e.id = r.event_id AND ({BROKEN})"),
                    // The status comes last: MySQL reads what it has set already.
                    &[
                        (
                            "next_attempt_at",
                            &format!(
                                "CASE WHEN e.status IN ('completed', 'dead') THEN NULL \
                                 ELSE COALESCE(e.next_attempt_at, {now}) END"
                            ),
                        ),
                        ("lease_until", "NULL"),
                        (
                            "processed_at",
                            "CASE WHEN e.status IN ('completed', 'dead') \
                             THEN COALESCE(e.processed_at, e.updated_at) END",
                        ),
                        (
                            "error_message",
                            "CASE WHEN e.status = 'dead' \
                             THEN COALESCE(e.error_message, 'the reason is not known') \
                             ELSE e.error_message END",
                        ),
                        ("fencing_token", "e.fencing_token + 1"),
                        ("updated_at", &now),
                        (
                            "status",
                            "CASE WHEN e.status IN ('pending', 'processing', 'failed', 'completed', \
                             'dead') THEN e.status ELSE 'failed' END",
                        ),
                    ],
                )
                .into(),
            ledger_rows: format!(
                "SELECT {} FROM {ids} {join} sync_events e ON e.id = r.event_id",
                crate::store::schema::LEDGER_COLUMNS
            )
            .into(),
            likes: ResourceType::ALL
                .into_iter()
                .map(|resource_type| LikesMaintenance::new(d, resource_type))
                .collect(),
        }
    }

    /// The statements over one resource type's read model.
    pub(in crate::store) fn likes(&self, resource_type: ResourceType) -> &LikesMaintenance {
        &self.likes[resource_type as usize]
    }
}

impl LikesMaintenance {
    fn new(d: &dyn Dialect, resource_type: ResourceType) -> Self {
        let (table, id) = likes_table(resource_type);
        let word = resource_type.as_str();
        let join = d.join();
        let pairs = d.rows("$1", &[Number("resource_id"), Number("user_id")]);
        Self {
            fold: format!(
                "SELECT n.user_id, n.resource_id, n.version, {} AS liked FROM {} \
                 WHERE n.place = 1",
                d.number("CASE WHEN n.behavior_type = 'like' THEN 1 ELSE 0 END"),
                newest(
                    resource_type,
                    &format!(
                        "{pairs} {join} user_behaviors b ON b.user_id = r.user_id \
                         AND b.resource_type = '{word}' AND b.resource_id = r.resource_id"
                    ),
                    ""
                )
            )
            .into(),
            delete: d
                .delete(
                    table,
                    &pairs,
                    &[("user_id", "r.user_id"), (id, "r.resource_id")],
                )
                .into(),
            count: format!(
                "SELECT r.resource_id, COUNT(l.user_id) AS total FROM {} LEFT JOIN {table} l \
                 ON l.{id} = r.resource_id AND l.deleted_at IS NULL GROUP BY r.resource_id",
                d.rows("$1", &[Number("resource_id")])
            )
            .into(),
        }
    }
}
