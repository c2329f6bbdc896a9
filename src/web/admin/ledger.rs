//! `/admin/ledger`: the ledger's health, search, an event's timeline, retry and discard.

use actix_web::HttpRequest;
use actix_web::web::{Data, Json};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::admin::{AdminService, Timeline};
use crate::domain::{Id, ResourceType, Status};
use crate::store::{LedgerEntry, LedgerFilter, LedgerHealth};
use crate::web::cursor::{self, After};
use crate::web::extract::{Body, UuidInPath};
use crate::web::ids::Ids;
use crate::web::operator::{Operator, OperatorHeader};
use crate::web::parameters::{number, query, time};
use crate::web::problem::Problem;

/// The ledger at a glance.
#[utoipa::path(
    get,
    path = "/admin/ledger",
    tag = "admin",
    operation_id = "show_ledger",
    responses((status = 200, body = LedgerHealth))
)]
pub(super) async fn summary(admin: Data<AdminService>) -> Result<Json<LedgerHealth>, Problem> {
    Ok(Json(admin.ledger_health().await?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    /// Only rows of this status.
    status: Option<Status>,
    /// Only rows about this kind of resource.
    resource_type: Option<ResourceType>,
    /// Only rows about a resource of this id.
    #[param(value_type = Option<i64>)]
    resource_id: Option<Id>,
    /// Only likes of this user.
    #[param(value_type = Option<i64>)]
    user_id: Option<Id>,
    /// Recorded at this moment or later.
    #[serde(default, deserialize_with = "time")]
    since: Option<DateTime<Utc>>,
    /// Recorded before this moment.
    #[serde(default, deserialize_with = "time")]
    until: Option<DateTime<Utc>>,
    /// A part of the error message, in small or capital letters.
    error: Option<String>,
    /// How many at the most.
    #[param(minimum = 1, maximum = 500, default = 50)]
    #[serde(default, deserialize_with = "number")]
    limit: Option<usize>,
    /// Where the page begins: `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Ledger rows, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LedgerPage)]
pub(super) struct Found {
    events: Vec<LedgerEntry>,
    /// The cursor of the next page; absent on the last page. A page with fewer rows than requested, or none, may
    /// have a next page: where no index finds the rows, one request reads 10,000 of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Ledger rows, newest first, page by page.
#[utoipa::path(
    get,
    path = "/admin/ledger/events",
    tag = "admin",
    operation_id = "search_events",
    params(Search),
    responses((status = 200, body = Found), (status = 400), (status = 422))
)]
pub(super) async fn search(
    admin: Data<AdminService>,
    ids: Ids,
    request: HttpRequest,
) -> Result<Json<Found>, Problem> {
    let search: Search = query(&request)?;
    let limit = cursor::limit(search.limit, 50, 500)?;
    let after: Option<After> = cursor::read(search.cursor.as_deref())?;
    let (resource_id, user_id) = ids.in_filter(search.resource_id, search.user_id)?;
    let filter = LedgerFilter {
        status: search.status,
        resource_type: search.resource_type,
        resource_id,
        user_id,
        since: search.since,
        until: search.until,
        error: search.error,
    };
    let page = admin.search(&filter, after.map(Into::into), limit).await?;
    let next_cursor = match page.next {
        Some((at, id)) => {
            let id = Uuid::parse_str(&id).map_err(|error| {
                Problem::internal(format!("the ledger has the id '{id}': {error}"))
            })?;
            Some(cursor::write(&After { at, id }))
        }
        None => None,
    };
    let entries = page.entries.into_iter();
    Ok(Json(Found {
        events: entries.map(|entry| ids.ledger_entry(entry)).collect(),
        next_cursor,
    }))
}

/// The timeline of an event, step by step.
#[utoipa::path(
    get,
    path = "/admin/ledger/events/{event_id}",
    tag = "admin",
    operation_id = "show_event",
    params(("event_id" = Uuid, Path, description = "The event's id")),
    responses((status = 200, body = Timeline), (status = 400), (status = 404))
)]
pub(super) async fn timeline(
    admin: Data<AdminService>,
    ids: Ids,
    UuidInPath(id): UuidInPath,
) -> Result<Json<Timeline>, Problem> {
    let mut timeline = admin.timeline(id).await?;
    timeline.ledger = timeline.ledger.map(|entry| ids.ledger_entry(entry));
    Ok(Json(timeline))
}

/// Retries a failed or dead event at once, with all its attempts.
#[utoipa::path(
    post,
    path = "/admin/ledger/events/{event_id}/retry",
    tag = "admin",
    operation_id = "retry_event",
    params(("event_id" = Uuid, Path, description = "The event's id"), OperatorHeader),
    responses((status = 200, body = LedgerEntry), (status = 400), (status = 404), (status = 409))
)]
pub(super) async fn retry(
    admin: Data<AdminService>,
    ids: Ids,
    UuidInPath(id): UuidInPath,
    operator: Operator,
) -> Result<Json<LedgerEntry>, Problem> {
    let entry = admin.retry(id, &operator.0).await?;
    Ok(Json(ids.ledger_entry(entry)))
}

/// The reason for a discard.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reason {
    /// For the record.
    #[schema(min_length = 1, max_length = 500, example = "the video is gone")]
    reason: String,
}

/// Closes an event as dead, for a reason.
#[utoipa::path(
    post,
    path = "/admin/ledger/events/{event_id}/discard",
    tag = "admin",
    operation_id = "discard_event",
    params(("event_id" = Uuid, Path, description = "The event's id"), OperatorHeader),
    request_body = Reason,
    responses(
        (status = 200, body = LedgerEntry),
        (status = 400),
        (status = 404),
        (status = 409),
        (status = 422)
    )
)]
pub(super) async fn discard(
    admin: Data<AdminService>,
    ids: Ids,
    UuidInPath(id): UuidInPath,
    operator: Operator,
    Body(body): Body<Reason>,
) -> Result<Json<LedgerEntry>, Problem> {
    let entry = admin.discard(id, &body.reason, &operator.0).await?;
    Ok(Json(ids.ledger_entry(entry)))
}
