//! `/admin/webhooks`: the receivers of webhooks and their dead letters.

use actix_web::HttpRequest;
use actix_web::web::{Data, Json, Path};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::{AdminService, DeadWebhook, WebhookReceiver};
use crate::domain::{Id, ResourceType};
use crate::store::{DeadLetterAction, DeadLetterFilter};
use crate::web::cursor;
use crate::web::extract::{Body, invalid_body};
use crate::web::ids::Ids;
use crate::web::operator::{Operator, OperatorHeader};
use crate::web::parameters::{number, query, time};
use crate::web::problem::{Code, Problem};

/// The receivers of webhooks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Webhooks {
    receivers: Vec<WebhookReceiver>,
}

/// The receivers of webhooks, with how many facts wait for each.
#[utoipa::path(
    get,
    path = "/admin/webhooks",
    tag = "admin",
    operation_id = "list_webhooks",
    responses((status = 200, body = Webhooks))
)]
pub(super) async fn list(admin: Data<AdminService>) -> Result<Json<Webhooks>, Problem> {
    let receivers = admin.webhooks().await?;
    Ok(Json(Webhooks { receivers }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Only those of this receiver.
    receiver: Option<String>,
    /// Only those about this kind of resource.
    resource_type: Option<ResourceType>,
    /// Only those about a resource of this id.
    #[param(value_type = Option<i64>)]
    resource_id: Option<Id>,
    /// Only those about likes of this user.
    #[param(value_type = Option<i64>)]
    user_id: Option<Id>,
    /// Dead since this moment or later.
    #[serde(default, deserialize_with = "time")]
    since: Option<DateTime<Utc>>,
    /// Dead since before this moment.
    #[serde(default, deserialize_with = "time")]
    until: Option<DateTime<Utc>>,
    /// A part of the last error, in small or capital letters.
    error: Option<String>,
    /// How many at the most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    #[serde(default, deserialize_with = "number")]
    limit: Option<usize>,
    /// Where the page begins: `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Dead letters, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadWebhooks {
    dead: Vec<DeadWebhook>,
    /// The cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Facts that a receiver of webhooks did not take, oldest first, page by page.
#[utoipa::path(
    get,
    path = "/admin/webhooks/dead",
    tag = "admin",
    operation_id = "list_dead_webhooks",
    params(Which),
    responses((status = 200, body = DeadWebhooks), (status = 400), (status = 422))
)]
pub(super) async fn dead(
    admin: Data<AdminService>,
    ids: Ids,
    request: HttpRequest,
) -> Result<Json<DeadWebhooks>, Problem> {
    let which: Which = query(&request)?;
    let limit = cursor::limit(which.limit, 100, 1_000)?;
    let after: Option<i64> = cursor::read(which.cursor.as_deref())?;
    let (resource_id, user_id) = ids.in_filter(which.resource_id, which.user_id)?;
    let filter = DeadLetterFilter {
        receiver: which.receiver,
        resource_type: which.resource_type,
        resource_id,
        user_id,
        since: which.since,
        until: which.until,
        error: which.error,
    };
    let mut dead = admin
        .dead_webhooks(&filter, after.unwrap_or(0), limit + 1)
        .await?;
    let more = dead.len() > limit;
    dead.truncate(limit);
    let last = dead.last().filter(|_| more);
    let next_cursor = last.map(|last| cursor::write(&last.id));
    let dead = dead.into_iter().map(|letter| shown(&ids, letter)).collect();
    Ok(Json(DeadWebhooks { dead, next_cursor }))
}

/// A dead letter.
#[utoipa::path(
    get,
    path = "/admin/webhooks/dead/{id}",
    tag = "admin",
    operation_id = "show_dead_webhook",
    params(("id" = i64, Path, description = "The dead letter's id")),
    responses((status = 200, body = DeadWebhook), (status = 404))
)]
pub(super) async fn show(
    admin: Data<AdminService>,
    ids: Ids,
    id: Path<String>,
) -> Result<Json<DeadWebhook>, Problem> {
    let number = id.parse().map_err(|_| {
        let detail = format!("there is no dead letter '{id:.40}'");
        Problem::new(Code::Absent, detail)
    })?;
    Ok(Json(shown(&ids, admin.dead_webhook(number).await?)))
}

/// Returns a dead letter with ids as responses show them.
fn shown(ids: &Ids, letter: DeadWebhook) -> DeadWebhook {
    DeadWebhook {
        user_id: ids.shown(&letter.user_id),
        resource_id: ids.shown(&letter.resource_id),
        ..letter
    }
}

/// Some dead letters. A job takes all that match a filter.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadLetters {
    /// Their ids.
    #[schema(min_items = 1, max_items = 1000)]
    ids: Vec<i64>,
}

/// The most ids in one request.
const MOST_IDS: usize = 1_000;

/// How many dead letters were changed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadLettersChanged {
    changed: usize,
}

/// Sends some dead letters again, with all their attempts.
#[utoipa::path(
    post,
    path = "/admin/webhooks/retry",
    tag = "admin",
    operation_id = "retry_dead_webhooks",
    params(OperatorHeader),
    request_body = DeadLetters,
    responses((status = 200, body = DeadLettersChanged), (status = 400), (status = 404))
)]
pub(super) async fn retry(
    admin: Data<AdminService>,
    operator: Operator,
    Body(body): Body<DeadLetters>,
) -> Result<Json<DeadLettersChanged>, Problem> {
    resolve(&admin, DeadLetterAction::Retry, body, &operator).await
}

/// Deletes some dead letters: their receiver never gets these facts.
#[utoipa::path(
    post,
    path = "/admin/webhooks/discard",
    tag = "admin",
    operation_id = "discard_dead_webhooks",
    params(OperatorHeader),
    request_body = DeadLetters,
    responses((status = 200, body = DeadLettersChanged), (status = 400), (status = 404))
)]
pub(super) async fn discard(
    admin: Data<AdminService>,
    operator: Operator,
    Body(body): Body<DeadLetters>,
) -> Result<Json<DeadLettersChanged>, Problem> {
    resolve(&admin, DeadLetterAction::Discard, body, &operator).await
}

async fn resolve(
    admin: &AdminService,
    action: DeadLetterAction,
    body: DeadLetters,
    operator: &Operator,
) -> Result<Json<DeadLettersChanged>, Problem> {
    let DeadLetters { ids } = body;
    if !(1..=MOST_IDS).contains(&ids.len()) {
        return Err(invalid_body(&format!(
            "ids must be 1 to {MOST_IDS} numbers"
        )));
    }
    let changed = admin
        .resolve_dead_webhooks(action, &ids, &operator.0)
        .await?;
    Ok(Json(DeadLettersChanged { changed }))
}
