//! The comparisons that show differences between tables, each written once: `audit.rs` runs them on a chunk,
//! `verify.rs` on whole tables.

use super::schema::{COUNTED_BEHAVIORS, Schema, likes_table};
use crate::domain::ResourceType;

/// The rows that a comparison covers.
#[derive(Clone, Copy)]
pub(super) enum Scope {
    /// All rows.
    All,
    /// The rows of a chunk. Parameters: the key before its first row, the key of its last row.
    Chunk(&'static Schema),
}

impl Scope {
    /// The condition on a column of event ids, with a trailing `AND`.
    fn events(self, column: &str) -> String {
        self.keys(column, |_, param| param.to_owned())
    }

    /// The condition on a column of users, with a trailing `AND`.
    fn users(self, column: &str) -> String {
        self.keys(column, Schema::user)
    }

    /// The condition on a column of resources, with a trailing `AND`.
    fn resources(self, column: &str) -> String {
        self.keys(column, Schema::resource)
    }

    fn keys(self, column: &str, read: fn(&Schema, &str) -> String) -> String {
        match self {
            Self::All => String::new(),
            Self::Chunk(schema) => {
                let (after, until) = (read(schema, "$1"), read(schema, "$2"));
                format!("{column} > {after} AND {column} <= {until} AND")
            }
        }
    }
}

/// A query for the rows that differ.
pub(super) struct Comparison {
    expected: String,
    found: String,
    /// The `FROM` clause and the following ones.
    from: String,
}

impl Comparison {
    fn new(expected: impl Into<String>, found: impl Into<String>, from: String) -> Self {
        Self {
            expected: expected.into(),
            found: found.into(),
            from,
        }
    }

    /// Selects all differences, with these columns as their key.
    pub(super) fn select(&self, key: &str) -> String {
        let Self {
            expected,
            found,
            from,
        } = self;
        format!("SELECT {key}, {expected} AS expected, {found} AS found FROM {from}")
    }

    /// Selects the first differences, each with the number of all. Parameters: the limit.
    pub(super) fn examples(&self, subject: &str) -> String {
        let select = self.select(&format!("COUNT(*) OVER () AS total, {subject} AS subject"));
        format!("{select} LIMIT $1")
    }
}

/// Counts rows.
pub(super) fn count(from: &str) -> String {
    format!("SELECT 'rows' AS label, COUNT(*) AS total FROM {from}")
}

/// Like events that need a ledger row: those that were not imported, recorded after the time of the last pruning.
const LISTED: &str = "b.behavior_type IN ('like', 'unlike') AND b.import_id IS NULL AND NOT EXISTS (\
    SELECT 1 FROM likewise_retention p WHERE p.pruned_table = 'sync_events' \
    AND b.created_at < p.pruned_before)";

/// Like events `b` without a ledger row, by user.
pub(super) fn missing_ledger_rows(scope: Scope) -> Comparison {
    let bounds = scope.users("b.user_id");
    let from = format!(
        "user_behaviors b LEFT JOIN sync_events e ON e.id = b.event_id \
         WHERE {bounds} e.id IS NULL AND {LISTED}"
    );
    Comparison::new("'one ledger row'", "'none'", from)
}

/// Ledger rows `e` without a behavior, by id.
pub(super) fn missing_behaviors(scope: Scope) -> Comparison {
    let bounds = scope.events("e.id");
    let from = format!(
        "sync_events e LEFT JOIN user_behaviors b ON b.event_id = e.id \
         WHERE {bounds} b.event_id IS NULL"
    );
    Comparison::new("'a recorded behavior'", "'none'", from)
}

/// Matches ledger rows `e` in a state that no transition leads to.
pub(super) const BROKEN: &str = "(e.status IN ('pending', 'processing', 'failed') \
    AND e.next_attempt_at IS NULL) \
    OR (e.status IN ('completed', 'dead') \
    AND (e.next_attempt_at IS NOT NULL OR e.processed_at IS NULL)) \
    OR (e.status = 'dead' AND e.error_message IS NULL) \
    OR e.status NOT IN ('pending', 'processing', 'failed', 'completed', 'dead')";

/// Broken ledger rows `e`, by id.
pub(super) fn broken_ledger_rows(scope: Scope) -> Comparison {
    Comparison::new(
        "'due some time while it is open; closed with the time, and the reason if dead'",
        "CONCAT(e.status, ', due ', \
         CASE WHEN e.next_attempt_at IS NULL THEN 'never' ELSE 'some time' END, \
         CASE WHEN e.processed_at IS NULL THEN ', not closed' ELSE ', closed' END)",
        format!("sync_events e WHERE {} ({BROKEN})", scope.events("e.id")),
    )
}

/// Ledger rows `e` that are not closed.
pub(super) fn open_ledger_rows() -> Comparison {
    Comparison::new(
        "'completed or dead, with the time, and the reason if dead'",
        "CONCAT(e.status, ', failed attempts: ', e.retry_count, ', error: ', \
         COALESCE(e.error_message, 'none'))",
        "sync_events e WHERE e.status NOT IN ('completed', 'dead') \
         OR e.processed_at IS NULL OR (e.status = 'dead' AND e.error_message IS NULL)"
            .to_owned(),
    )
}

/// Matches behaviors `b`, with their ledger row `e`, that the read models show: completed like events. A like
/// event without a ledger row was imported, lost the row, or the row was pruned.
const EFFECTIVE: &str = "(b.behavior_type IN ('like', 'unlike') \
    AND COALESCE(e.status, 'completed') = 'completed')";

/// A derived table `n`: the fold of the effective events of each pair and of the decisions about it, which is a
/// [`PairState`](crate::domain::PairState). Between equal versions the unlike is newer, and so is the restoration. `from`
/// provides the behaviors as `b`.
pub(super) fn folded(resource_type: ResourceType, from: &str, bounds: &str) -> String {
    const VERSION: &str = "MAX(CASE WHEN b.behavior_type IN ('like', 'unlike') THEN b.version END)";
    // The oldest like after the newest unlike; NULL if the pair is not liked.
    const SINCE: &str = "MIN(CASE WHEN b.behavior_type = 'like' \
        AND (b.unliked IS NULL OR b.version > b.unliked) THEN b.version END)";
    const VOIDED: &str = "MAX(CASE WHEN b.behavior_type = 'void' \
        AND (b.restored IS NULL OR b.version > b.restored) THEN b.version END)";
    let newest = |behavior_type: &str| {
        format!(
            "MAX(CASE WHEN b.behavior_type = '{behavior_type}' THEN b.version END) \
             OVER (PARTITION BY b.user_id, b.resource_id)"
        )
    };
    let (unliked, restored) = (newest("unlike"), newest("restore"));
    format!(
        "(SELECT b.user_id, b.resource_id, {VERSION} AS version, \
         CASE WHEN {SINCE} IS NULL THEN 'unlike' ELSE 'like' END AS behavior_type, \
         COALESCE({SINCE}, {VERSION}) AS since, {VOIDED} AS voided \
         FROM (SELECT b.user_id, b.resource_id, b.version, b.behavior_type, \
         {unliked} AS unliked, {restored} AS restored \
         FROM {from} LEFT JOIN sync_events e ON e.id = b.event_id \
         WHERE {bounds} b.resource_type = '{resource_type}' \
         AND ({EFFECTIVE} OR b.behavior_type IN ('void', 'restore'))) b \
         GROUP BY b.user_id, b.resource_id HAVING {VERSION} IS NOT NULL) n"
    )
}

/// Matches read model rows that count.
pub(super) const COUNTED: &str = "deleted_at IS NULL AND voided_at IS NULL";

/// The action that a read model row `l` shows.
const ACTION: &str = "CASE WHEN l.deleted_at IS NULL THEN 'like' ELSE 'unlike' END";

/// Pairs `n` whose read model row is missing or differs from the fold of their events, by user.
pub(super) fn wrong_likes(d: &Schema, resource_type: ResourceType, scope: Scope) -> Comparison {
    let (table, id) = likes_table(resource_type);
    let folded = folded(resource_type, "user_behaviors b", &scope.users("b.user_id"));
    let (since, voided) = (d.micros("l.created_at"), d.micros("l.voided_at"));
    let shown = |voided: &str| {
        format!("CASE WHEN {voided} IS NULL THEN '' ELSE CONCAT(', voided at ', {voided}) END")
    };
    let (expected, found) = (shown("n.voided"), shown(&voided));
    Comparison::new(
        format!(
            "CONCAT(n.behavior_type, ' of version ', n.version, ', since ', n.since, {expected})"
        ),
        format!(
            "CASE WHEN l.user_id IS NULL THEN 'no row' ELSE CONCAT({ACTION}, ' of version ', \
             l.version, ', since ', {since}, {found}) END"
        ),
        format!(
            "{folded} LEFT JOIN {table} l ON l.user_id = n.user_id AND l.{id} = n.resource_id \
             WHERE l.user_id IS NULL OR l.version <> n.version \
             OR {ACTION} <> n.behavior_type OR {since} <> n.since \
             OR COALESCE({voided}, 0) <> COALESCE(n.voided, 0)"
        ),
    )
}

/// Read model rows `l` without an effective event, by user.
pub(super) fn stray_likes(resource_type: ResourceType, scope: Scope) -> Comparison {
    let (table, id) = likes_table(resource_type);
    let bounds = scope.users("l.user_id");
    Comparison::new(
        "'no row'",
        format!("CONCAT({ACTION}, ' of version ', l.version)"),
        format!(
            "{table} l WHERE {bounds} NOT EXISTS (\
             SELECT 1 FROM user_behaviors b LEFT JOIN sync_events e ON e.id = b.event_id \
             WHERE b.user_id = l.user_id AND b.resource_type = '{resource_type}' \
             AND b.resource_id = l.{id} AND {EFFECTIVE})"
        ),
    )
}

/// Counts `c` that differ from the number of rows that count, by resource.
pub(super) fn wrong_counts(resource_type: ResourceType, scope: Scope) -> Comparison {
    let (table, id) = likes_table(resource_type);
    let (of_likes, of_counts) = (scope.resources(&id), scope.resources("c.resource_id"));
    let found = match scope {
        Scope::All => "CONCAT(c.like_count, ' likes')",
        // Audit reports are read by operators, to whom a negative number of likes makes no sense.
        Scope::Chunk(_) => {
            "CASE WHEN c.like_count < 0 THEN 'a count below zero' \
             ELSE CONCAT(c.like_count, ' likes') END"
        }
    };
    Comparison::new(
        "CONCAT(COALESCE(l.likes, 0), ' likes')",
        found,
        format!(
            "likewise_like_counts c LEFT JOIN (SELECT {id} AS resource_id, COUNT(*) AS likes \
             FROM {table} WHERE {of_likes} {COUNTED} GROUP BY {id}) l \
             ON l.resource_id = c.resource_id WHERE {of_counts} \
             c.resource_type = '{resource_type}' AND c.like_count <> COALESCE(l.likes, 0)"
        ),
    )
}

/// Resources without a count that read model rows `l` belong to. By user, because no index has all rows of a
/// resource, liked or not.
pub(super) fn missing_counts(resource_type: ResourceType, scope: Scope) -> Comparison {
    let (table, id) = likes_table(resource_type);
    let bounds = scope.users("l.user_id");
    Comparison::new(
        format!(
            "CONCAT((SELECT COUNT(*) FROM {table} x WHERE x.{id} = l.{id} \
             AND {COUNTED}), ' likes')"
        ),
        "'no count'",
        format!(
            "{table} l LEFT JOIN likewise_like_counts c ON c.resource_type = '{resource_type}' \
             AND c.resource_id = l.{id} WHERE {bounds} c.resource_id IS NULL GROUP BY l.{id}"
        ),
    )
}

/// Counts by behavior `n`, by resource, that differ from the number of recorded behaviors with those that retention has
/// deleted.
pub(super) fn wrong_behavior_counts(
    d: &Schema,
    resource_type: ResourceType,
    scope: Scope,
) -> Comparison {
    let id = d.counted_resource();
    let (of_counts, of_behaviors) = (scope.resources("c.resource_id"), scope.resources(id));
    let sum = |column: &str| d.number(&format!("SUM(k.{column})"));
    let (recorded, counted) = (sum("recorded"), sum("counted"));
    Comparison::new(
        "CONCAT(n.recorded, ' ', n.behavior_type, 's')",
        "CONCAT(n.counted, ' ', n.behavior_type, 's')",
        format!(
            "(SELECT k.resource_id, k.behavior_type, {recorded} AS recorded, {counted} AS counted \
             FROM (SELECT c.resource_id, c.behavior_type, c.pruned_count AS recorded, \
             c.behavior_count AS counted FROM likewise_behavior_counts c \
             WHERE {of_counts} c.resource_type = '{resource_type}' \
             UNION ALL SELECT {id} AS resource_id, b.behavior_type, COUNT(*) AS recorded, \
             0 AS counted FROM user_behaviors b WHERE {of_behaviors} \
             b.resource_type = '{resource_type}' AND {COUNTED_BEHAVIORS} \
             GROUP BY {id}, b.behavior_type) k GROUP BY k.resource_id, k.behavior_type) n \
             WHERE n.recorded <> n.counted"
        ),
    )
}
