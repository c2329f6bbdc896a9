//! Names of tables and columns that the statements of several files share.

use crate::domain::ResourceType;

/// The columns of a ledger row `e` that a worker needs: see [`StoredLedgerRow`](super::ledger_row::StoredLedgerRow).
pub(super) const LEDGER_COLUMNS: &str = "e.id, e.user_id, e.resource_type, e.resource_id, \
    e.action_type, e.status, e.version, e.retry_count, e.max_retries, e.fencing_token, \
    e.next_attempt_at";

/// Matches ledger rows `e` that this worker still holds: nobody has claimed them since, and they are open. The batch
/// `r` has their ids and fencing tokens.
pub(super) const HELD: &str = "e.id = r.event_id AND e.fencing_token = r.token \
    AND e.status IN ('pending', 'processing')";

/// Returns the read model's table of a resource type, and its column of the resource's id.
pub(super) const fn likes_table(resource_type: ResourceType) -> (&'static str, &'static str) {
    match resource_type {
        ResourceType::Video => ("video_likes", "video_id"),
        ResourceType::Comment => ("comment_likes", "comment_id"),
    }
}
