//! The statements of audits, repairs and retention.

use super::{RESOURCE, Statement, total};
use crate::domain::ResourceType;
use crate::store::dialect::Column::{Number, Time, Word};
use crate::store::dialect::Dialect;
use crate::store::schema::likes_table;
use crate::store::statements::LikesStatements;

/// The statements of audits, repairs and retention, for one dialect.
pub(in crate::store) struct MaintenanceStatements {
    /// What there is under event ids. Parameters: rows `(event_id)`.
    pub(in crate::store) journaled: Statement,
    /// About how many rows `user_behaviors`, `sync_events` and `like_counts` have.
    pub(in crate::store) sizes: [Statement; 3],
    /// How many behaviors a chunk has. Parameters: the user before, the last user.
    pub(in crate::store) behaviors_between: Statement,
    /// How many ledger rows a chunk has. Parameters: the id before, the last id.
    pub(in crate::store) ledger_between: Statement,
    /// How many counts a chunk has. Parameters: the resource before, the last one, the type.
    pub(in crate::store) counts_between: Statement,
    /// Which of these events are in quarantine, and why. Parameters: rows `(event_id)`.
    pub(in crate::store) quarantined_events: Statement,
    /// The user some rows further on. Parameters: the user before, how many rows.
    pub(in crate::store) user_bound: Statement,
    /// The event id some rows further on. Parameters: the id before, how many rows.
    pub(in crate::store) ledger_bound: Statement,
    /// The resource some rows further on. Parameters: the resource before, how many rows, the type.
    pub(in crate::store) count_bound: Statement,
    /// Like events without a ledger row. Parameters: the user before, the last user.
    pub(in crate::store) audit_behaviors: Statement,
    /// Ledger rows without a behavior, or in a state that cannot be. Parameters: the id before, the last id.
    pub(in crate::store) audit_ledger: Statement,
    /// Gives behaviors a completed ledger row. Parameters: rows `(event_id)`, now.
    pub(in crate::store) restore_ledger: Statement,
    /// Gives ledger rows their behavior. Parameters: rows `(event_id, happened_at)`.
    pub(in crate::store) restore_behaviors: Statement,
    /// Puts ledger rows into a state from which they come to their end. Parameters: rows `(event_id)`, now.
    pub(in crate::store) mend_ledger: Statement,
    /// The ledger rows of these events. Parameters: rows `(event_id)`.
    pub(in crate::store) ledger_rows: Statement,
    /// The pairs that have an open ledger row. Parameters: rows `(resource_type, resource_id, user_id)`.
    pub(in crate::store) open_pairs: Statement,
    /// How many rows are overdue. Parameters: since when.
    pub(in crate::store) overdue: Statement,
    /// Notes how far a table was pruned, never back. Parameters: rows `(table)`, before when.
    pub(in crate::store) note_pruned: Statement,
    /// The oldest completed ledger rows, locked. Parameters: recorded before when, the most rows.
    pub(in crate::store) prunable_ledger: Statement,
    /// Parameters: rows `(event_id)`.
    pub(in crate::store) delete_ledger: Statement,
    /// Parameters: rows `(event_id)`.
    pub(in crate::store) delete_history: Statement,
    /// Parameters: rows `(event_id)`.
    pub(in crate::store) delete_behaviors: Statement,
    /// The last of some rows. Parameters: after which, how many.
    pub(in crate::store) behavior_bound: Statement,
    /// Behaviors that no promise needs. Parameters: after which, up to which, recorded before when.
    pub(in crate::store) prunable_behaviors: Statement,
    likes: Vec<LikesMaintenance>,
}

/// The statements over one resource type's read model.
pub(in crate::store) struct LikesMaintenance {
    /// Pairs that are not what their events add up to. Parameters: the user before, the last user.
    pub(in crate::store) audit_likes: Statement,
    /// Counts that are not the number of liked rows. Parameters: the resource before, the last one.
    pub(in crate::store) audit_counts: Statement,
    /// Resources without a count that users have liked or unliked. Parameters: the user before, the last user.
    pub(in crate::store) audit_uncounted: Statement,
    /// What the events of pairs add up to. Parameters: rows `(resource_id, user_id)`.
    pub(in crate::store) fold: Statement,
    /// Parameters: rows `(resource_id, user_id)`.
    pub(in crate::store) delete: Statement,
    /// How many users like each resource. Parameters: rows `(resource_id)`.
    pub(in crate::store) count: Statement,
}

/// The name of the ledger in `retention`.
pub(in crate::store) const LEDGER: &str = "sync_events";

/// Ledger rows that nothing leads to, or that nothing leads away from.
const BROKEN: &str = "(e.status IN ('pending', 'processing', 'failed') AND e.next_attempt_at IS NULL) \
    OR (e.status IN ('completed', 'dead') \
    AND (e.next_attempt_at IS NOT NULL OR e.processed_at IS NULL)) \
    OR (e.status = 'dead' AND e.error_message IS NULL) \
    OR e.status NOT IN ('pending', 'processing', 'failed', 'completed', 'dead')";

/// Counts the rows of a chunk.
fn between(rows: &str) -> Statement {
    total("'rows'", rows)
}

impl MaintenanceStatements {
    pub(in crate::store) fn new(d: &dyn Dialect) -> Self {
        let join = d.join();
        let now = d.time("$2");
        let ids = d.rows("$1", &[Word("event_id")]);
        let delete = |table: &str, column: &str| -> Statement {
            d.delete(table, &ids, &[(column, "r.event_id")]).into()
        };
        let columns = "b.user_behavior_id, b.event_id, b.user_id, b.resource_type, b.resource_id, \
             b.behavior_type, b.version, b.source, b.behavior_time, b.created_at";
        Self {
            journaled: format!(
                "SELECT r.event_id, COUNT(DISTINCT b.user_behavior_id) AS behaviors, \
                 COUNT(DISTINCT e.id) AS ledger_rows, MAX(e.status) AS status FROM {ids} \
                 LEFT JOIN user_behaviors b ON b.event_id = r.event_id \
                 LEFT JOIN sync_events e ON e.id = r.event_id GROUP BY r.event_id"
            )
            .into(),
            sizes: ["user_behaviors", "sync_events", "like_counts"]
                .map(|table| d.estimate(table).into()),
            behaviors_between: between("user_behaviors WHERE user_id > $1 AND user_id <= $2"),
            ledger_between: between("sync_events WHERE id > $1 AND id <= $2"),
            counts_between: between(
                "like_counts WHERE resource_type = $3 AND resource_id > $1 AND resource_id <= $2",
            ),
            quarantined_events: format!(
                "SELECT r.event_id AS subject, 'recorded' AS expected, \
                 CONCAT('in quarantine: ', q.reason) AS found, COUNT(*) OVER () AS total \
                 FROM {ids} {join} quarantined_events q ON q.message_id LIKE CONCAT(r.event_id, '%')"
            )
            .into(),
            user_bound: "SELECT user_id AS bound FROM user_behaviors WHERE user_id > $1 \
                 ORDER BY user_id LIMIT 1 OFFSET $2"
                .to_owned()
                .into(),
            ledger_bound: "SELECT id AS bound FROM sync_events WHERE id > $1 \
                 ORDER BY id LIMIT 1 OFFSET $2"
                .to_owned()
                .into(),
            count_bound: "SELECT resource_id AS bound FROM like_counts WHERE resource_type = $3 \
                 AND resource_id > $1 ORDER BY resource_id LIMIT 1 OFFSET $2"
                .to_owned()
                .into(),
            audit_behaviors: format!(
                "SELECT b.event_id, 'missing_ledger_row' AS finding, 'one ledger row' AS expected, \
                 'none' AS found FROM user_behaviors b LEFT JOIN sync_events e ON e.id = b.event_id \
                 WHERE b.user_id > $1 AND b.user_id <= $2 AND e.id IS NULL AND {UNLISTED}"
            )
            .into(),
            audit_ledger: format!(
                "SELECT e.id AS event_id, 'missing_behavior' AS finding, \
                 'a recorded behavior' AS expected, 'none' AS found FROM sync_events e \
                 LEFT JOIN user_behaviors b ON b.event_id = e.id \
                 WHERE e.id > $1 AND e.id <= $2 AND b.event_id IS NULL \
                 UNION ALL SELECT e.id, 'broken_ledger_row', \
                 'due some time while it is open; closed with the time, and the reason if dead', \
                 CONCAT(e.status, ', due ', \
                 CASE WHEN e.next_attempt_at IS NULL THEN 'never' ELSE 'some time' END, \
                 CASE WHEN e.processed_at IS NULL THEN ', not closed' ELSE ', closed' END) \
                 FROM sync_events e WHERE e.id > $1 AND e.id <= $2 AND ({BROKEN})"
            )
            .into(),
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
            open_pairs: format!(
                "SELECT DISTINCT b.user_id, b.resource_type, b.resource_id FROM {} \
                 {join} user_behaviors b ON b.user_id = r.user_id \
                 AND b.resource_type = r.resource_type AND b.resource_id = r.resource_id \
                 {join} sync_events e ON e.id = b.event_id \
                 WHERE e.status IN ('pending', 'processing', 'failed')",
                d.rows("$1", &[RESOURCE[0], RESOURCE[1], Number("user_id")])
            )
            .into(),
            overdue: total(
                "'overdue'",
                &format!("{} WHERE e.next_attempt_at < {}", d.open_rows(), d.time("$1")),
            ),
            note_pruned: format!(
                "INSERT INTO retention (pruned_table, pruned_before) \
                 SELECT r.pruned_table, {now} FROM {} WHERE true {}",
                d.rows("$1", &[Word("pruned_table")]),
                d.on_conflict(
                    "retention",
                    &["pruned_table"],
                    &[(
                        "pruned_before",
                        format!(
                            "CASE WHEN {new} > retention.pruned_before THEN {new} \
                             ELSE retention.pruned_before END",
                            new = d.incoming("pruned_before")
                        )
                    )]
                )
            )
            .into(),
            prunable_ledger: format!(
                "SELECT e.id AS bound FROM sync_events e WHERE {} AND e.created_at < {} \
                 AND e.status = 'completed' ORDER BY e.created_at LIMIT $2{}",
                d.walk_of_completed(),
                d.time("$1"),
                d.skip_locked("e")
            )
            .into(),
            delete_ledger: delete("sync_events", "id"),
            delete_history: delete("sync_event_history", "event_id"),
            delete_behaviors: delete("user_behaviors", "event_id"),
            behavior_bound: format!(
                "SELECT {} AS bound FROM (SELECT user_behavior_id FROM user_behaviors \
                 WHERE user_behavior_id > $1 ORDER BY user_behavior_id LIMIT $2) b",
                d.number("COALESCE(MAX(b.user_behavior_id), 0)")
            )
            .into(),
            // A newer completed event supersedes; one still on its way may yet end dead. Of two equal
            // versions neither does, so that both stay.
            prunable_behaviors: format!(
                "SELECT {columns} FROM user_behaviors b LEFT JOIN sync_events e \
                 ON e.id = b.event_id WHERE b.user_behavior_id > $1 AND b.user_behavior_id <= $2 \
                 AND b.created_at < {} AND (b.behavior_type NOT IN ('like', 'unlike') \
                 OR (COALESCE(e.status, 'completed') = 'completed' AND EXISTS (\
                 SELECT 1 FROM user_behaviors n LEFT JOIN sync_events f ON f.id = n.event_id \
                 WHERE n.user_id = b.user_id AND n.resource_type = b.resource_type \
                 AND n.resource_id = b.resource_id AND n.version > b.version \
                 AND n.behavior_type IN ('like', 'unlike') \
                 AND COALESCE(f.status, 'completed') = 'completed')))",
                d.time("$3")
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

/// Like events that must have a ledger row: those that are younger than what was pruned.
pub(super) const UNLISTED: &str = "b.behavior_type IN ('like', 'unlike') AND NOT EXISTS (\
    SELECT 1 FROM retention p WHERE p.pruned_table = 'sync_events' \
    AND b.created_at < p.pruned_before)";

impl LikesMaintenance {
    fn new(d: &dyn Dialect, resource_type: ResourceType) -> Self {
        let (table, id) = likes_table(resource_type);
        let word = resource_type.as_str();
        let join = d.join();
        let action = "CASE WHEN l.deleted_at IS NULL THEN 'like' ELSE 'unlike' END";
        let effective = LikesStatements::EFFECTIVE;
        let newest = LikesStatements::newest(
            resource_type,
            "user_behaviors b",
            "b.user_id > $1 AND b.user_id <= $2 AND",
        );
        let pairs = d.rows("$1", &[Number("resource_id"), Number("user_id")]);
        Self {
            audit_likes: format!(
                "SELECT n.user_id, n.resource_id, \
                 CONCAT(n.behavior_type, ' of version ', n.version) AS expected, \
                 CASE WHEN l.user_id IS NULL THEN 'no row' \
                 ELSE CONCAT({action}, ' of version ', l.version) END AS found \
                 FROM {newest} LEFT JOIN {table} l ON l.user_id = n.user_id \
                 AND l.{id} = n.resource_id WHERE n.place = 1 AND (l.user_id IS NULL \
                 OR l.version <> n.version OR {action} <> n.behavior_type) \
                 UNION ALL SELECT l.user_id, l.{id}, 'no row', \
                 CONCAT({action}, ' of version ', l.version) FROM {table} l \
                 WHERE l.user_id > $1 AND l.user_id <= $2 AND NOT EXISTS (\
                 SELECT 1 FROM user_behaviors b LEFT JOIN sync_events e ON e.id = b.event_id \
                 WHERE b.user_id = l.user_id AND b.resource_type = '{word}' \
                 AND b.resource_id = l.{id} AND {effective})"
            )
            .into(),
            audit_counts: format!(
                "SELECT c.resource_id, {} AS expected, c.like_count AS found \
                 FROM like_counts c LEFT JOIN (SELECT {id} AS resource_id, COUNT(*) AS likes \
                 FROM {table} WHERE deleted_at IS NULL AND {id} > $1 AND {id} <= $2 GROUP BY {id}) l \
                 ON l.resource_id = c.resource_id WHERE c.resource_type = '{word}' \
                 AND c.resource_id > $1 AND c.resource_id <= $2 \
                 AND c.like_count <> COALESCE(l.likes, 0)",
                d.number("COALESCE(l.likes, 0)")
            )
            .into(),
            audit_uncounted: format!(
                "SELECT l.{id} AS resource_id, {} AS expected, {} AS found FROM {table} l \
                 LEFT JOIN like_counts c ON c.resource_type = '{word}' AND c.resource_id = l.{id} \
                 WHERE l.user_id > $1 AND l.user_id <= $2 AND c.resource_id IS NULL GROUP BY l.{id}",
                d.number(&format!(
                    "(SELECT COUNT(*) FROM {table} x WHERE x.{id} = l.{id} AND x.deleted_at IS NULL)"
                )),
                d.number("NULL")
            )
            .into(),
            fold: format!(
                "SELECT n.user_id, n.resource_id, n.version, {} AS liked FROM {} \
                 WHERE n.place = 1",
                d.number("CASE WHEN n.behavior_type = 'like' THEN 1 ELSE 0 END"),
                LikesStatements::newest(
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
                .delete(table, &pairs, &[("user_id", "r.user_id"), (id, "r.resource_id")])
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
