//! `/admin/ledger`: how far the events have come, and what can be done about them.

use actix_web::HttpRequest;
use actix_web::web::{Data, Json, Path};
use serde::{Deserialize, Serialize};

use super::{Operator, event_id};
use crate::operations::{Desk, Timeline};
use crate::store::{LedgerEntry, LedgerFilter, LedgerHealth};
use crate::web::Problem;
use crate::web::cursor::{self, After};
use crate::web::extract::{Body, query};

/// `GET /admin/ledger`
pub(super) async fn summary(desk: Data<Desk>) -> Result<Json<LedgerHealth>, Problem> {
    Ok(Json(desk.ledger_health().await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Search {
    status: Option<crate::domain::Status>,
    resource_type: Option<crate::domain::ResourceType>,
    resource_id: Option<i64>,
    user_id: Option<i64>,
    since: Option<chrono::DateTime<chrono::Utc>>,
    until: Option<chrono::DateTime<chrono::Utc>>,
    error: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Found {
    events: Vec<LedgerEntry>,
    /// Where the next page begins; absent after the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// `GET /admin/ledger/events`
pub(super) async fn search(desk: Data<Desk>, request: HttpRequest) -> Result<Json<Found>, Problem> {
    let search: Search = query(&request)?;
    let limit = cursor::limit(search.limit, 50, 500)?;
    let after: Option<After> = cursor::read(search.cursor.as_deref())?;
    let filter = LedgerFilter {
        status: search.status,
        resource_type: search.resource_type,
        resource_id: search.resource_id,
        user_id: search.user_id,
        since: search.since,
        until: search.until,
        error: search.error,
    };
    // One more than is shown tells whether there is another page.
    let mut events = desk
        .search(&filter, after.map(Into::into), limit + 1)
        .await?;
    let more = events.len() > limit;
    events.truncate(limit);
    let next_cursor = events.last().filter(|_| more).map(|last| {
        cursor::write(&After {
            at: last.created_at,
            id: last.event_id.clone(),
        })
    });
    Ok(Json(Found {
        events,
        next_cursor,
    }))
}

/// `GET /admin/ledger/events/{event_id}`
pub(super) async fn timeline(
    desk: Data<Desk>,
    id: Path<String>,
) -> Result<Json<Timeline>, Problem> {
    Ok(Json(desk.timeline(event_id(&id)?).await?))
}

/// `POST /admin/ledger/events/{event_id}/retry`
pub(super) async fn retry(
    desk: Data<Desk>,
    id: Path<String>,
    operator: Operator,
) -> Result<Json<LedgerEntry>, Problem> {
    Ok(Json(desk.retry(event_id(&id)?, &operator.0).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reason {
    reason: String,
}

/// `POST /admin/ledger/events/{event_id}/discard`
pub(super) async fn discard(
    desk: Data<Desk>,
    id: Path<String>,
    operator: Operator,
    Body(body): Body<Reason>,
) -> Result<Json<LedgerEntry>, Problem> {
    let id = event_id(&id)?;
    Ok(Json(desk.discard(id, &body.reason, &operator.0).await?))
}
