//! `/admin/quarantine`: messages that are no events.

use actix_web::HttpRequest;
use actix_web::web::{Data, Json, Path};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Operator;
use crate::operations::{Desk, QuarantinedMessage};
use crate::web::Problem;
use crate::web::cursor::{self, After};
use crate::web::extract::{OptionalBody, query};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    resolved: Option<bool>,
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Messages {
    messages: Vec<QuarantinedMessage>,
    /// Where the next page begins; absent after the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// `GET /admin/quarantine`
pub(super) async fn list(
    desk: Data<Desk>,
    request: HttpRequest,
) -> Result<Json<Messages>, Problem> {
    let which: Which = query(&request)?;
    let limit = cursor::limit(which.limit, 20, 100)?;
    let after: Option<After> = cursor::read(which.cursor.as_deref())?;
    let mut messages = desk
        .quarantine(which.resolved, after.map(Into::into), limit + 1)
        .await?;
    let more = messages.len() > limit;
    messages.truncate(limit);
    let next_cursor = messages.last().filter(|_| more).map(|last| {
        cursor::write(&After {
            at: last.created_at,
            id: last.id.hyphenated().to_string(),
        })
    });
    Ok(Json(Messages {
        messages,
        next_cursor,
    }))
}

fn message_id(id: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(id)
        .map_err(|_| Problem::absent(format!("no message in quarantine has the id '{id:.40}'")))
}

/// `GET /admin/quarantine/{id}`
pub(super) async fn show(
    desk: Data<Desk>,
    id: Path<String>,
) -> Result<Json<QuarantinedMessage>, Problem> {
    Ok(Json(desk.quarantined(message_id(&id)?).await?))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mended {
    payload: Option<serde_json::Value>,
}

#[derive(Debug, Serialize)]
pub(super) struct Republished {
    event_id: Uuid,
}

/// `POST /admin/quarantine/{id}/republish`
pub(super) async fn republish(
    desk: Data<Desk>,
    id: Path<String>,
    operator: Operator,
    OptionalBody(body): OptionalBody<Mended>,
) -> Result<Json<Republished>, Problem> {
    let payload = body.unwrap_or_default().payload;
    let event_id = desk
        .republish(message_id(&id)?, payload.as_ref(), &operator.0)
        .await?;
    Ok(Json(Republished { event_id }))
}

/// `POST /admin/quarantine/{id}/discard`
pub(super) async fn discard(
    desk: Data<Desk>,
    id: Path<String>,
    operator: Operator,
) -> Result<Json<QuarantinedMessage>, Problem> {
    let id = message_id(&id)?;
    Ok(Json(desk.discard_quarantined(id, &operator.0).await?))
}
