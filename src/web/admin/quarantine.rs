//! `/admin/quarantine`: lists, republishes and discards messages that could not be decoded.

use actix_web::HttpRequest;
use actix_web::web::{Data, Json};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::admin::{AdminService, QuarantinedMessage};
use crate::store::QuarantineFilter;
use crate::web::cursor::{self, After};
use crate::web::extract::{OptionalBody, UuidInPath};
use crate::web::operator::{Operator, OperatorHeader};
use crate::web::parameters::{number, query, time};
use crate::web::problem::Problem;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Only resolved messages, or only unresolved ones.
    resolved: Option<bool>,
    /// A part of the reason, in small or capital letters.
    reason: Option<String>,
    /// A part of the subject, in small or capital letters.
    subject: Option<String>,
    /// Quarantined at this moment or later.
    #[serde(default, deserialize_with = "time")]
    since: Option<DateTime<Utc>>,
    /// Quarantined before this moment.
    #[serde(default, deserialize_with = "time")]
    until: Option<DateTime<Utc>>,
    /// How many at the most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    #[serde(default, deserialize_with = "number")]
    limit: Option<usize>,
    /// Where the page begins: `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Messages in quarantine, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = QuarantinePage)]
pub(super) struct Messages {
    messages: Vec<QuarantinedMessage>,
    /// The cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Messages that could not be decoded, newest first, page by page.
#[utoipa::path(
    get,
    path = "/admin/quarantine",
    tag = "admin",
    operation_id = "list_quarantine",
    params(Which),
    responses((status = 200, body = Messages), (status = 400), (status = 422))
)]
pub(super) async fn list(
    admin: Data<AdminService>,
    request: HttpRequest,
) -> Result<Json<Messages>, Problem> {
    let which: Which = query(&request)?;
    let limit = cursor::limit(which.limit, 20, 100)?;
    let after: Option<After> = cursor::read(which.cursor.as_deref())?;
    let filter = QuarantineFilter {
        reason: which.reason,
        subject: which.subject,
        since: which.since,
        until: which.until,
    };
    let mut messages = admin
        .quarantine(&filter, which.resolved, after.map(Into::into), limit + 1)
        .await?;
    let more = messages.len() > limit;
    messages.truncate(limit);
    let next_cursor = messages.last().filter(|_| more).map(|last| {
        cursor::write(&After {
            at: last.created_at,
            id: last.id,
        })
    });
    Ok(Json(Messages {
        messages,
        next_cursor,
    }))
}

/// A message in quarantine.
#[utoipa::path(
    get,
    path = "/admin/quarantine/{id}",
    tag = "admin",
    operation_id = "show_quarantined",
    params(("id" = Uuid, Path, description = "The message's id")),
    responses((status = 200, body = QuarantinedMessage), (status = 400), (status = 404))
)]
pub(super) async fn show(
    admin: Data<AdminService>,
    UuidInPath(id): UuidInPath,
) -> Result<Json<QuarantinedMessage>, Problem> {
    Ok(Json(admin.quarantined(id).await?))
}

/// A repaired message.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Mended {
    /// The event to publish in its place; the original message if absent.
    payload: Option<serde_json::Value>,
}

/// The event that a message was published as.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Republished {
    /// The event's id.
    event_id: Uuid,
}

/// Publishes a message again as an event, with the payload of the body if it is given.
#[utoipa::path(
    post,
    path = "/admin/quarantine/{id}/republish",
    tag = "admin",
    operation_id = "republish_quarantined",
    params(("id" = Uuid, Path, description = "The message's id"), OperatorHeader),
    request_body = Option<Mended>,
    responses(
        (status = 200, body = Republished),
        (status = 400),
        (status = 404),
        (status = 409),
        (status = 422)
    )
)]
pub(super) async fn republish(
    admin: Data<AdminService>,
    UuidInPath(id): UuidInPath,
    operator: Operator,
    OptionalBody(body): OptionalBody<Mended>,
) -> Result<Json<Republished>, Problem> {
    let payload = body.unwrap_or_default().payload;
    let event_id = admin.republish(id, payload.as_ref(), &operator.0).await?;
    Ok(Json(Republished { event_id }))
}

/// Discards a message. The database keeps it for the record.
#[utoipa::path(
    post,
    path = "/admin/quarantine/{id}/discard",
    tag = "admin",
    operation_id = "discard_quarantined",
    params(("id" = Uuid, Path, description = "The message's id"), OperatorHeader),
    responses(
        (status = 200, body = QuarantinedMessage),
        (status = 400),
        (status = 404),
        (status = 409)
    )
)]
pub(super) async fn discard(
    admin: Data<AdminService>,
    UuidInPath(id): UuidInPath,
    operator: Operator,
) -> Result<Json<QuarantinedMessage>, Problem> {
    Ok(Json(admin.discard_quarantined(id, &operator.0).await?))
}
