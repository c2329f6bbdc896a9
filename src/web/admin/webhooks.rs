//! `/admin/webhooks`: the receivers of webhooks and their dead letters.

use actix_web::HttpRequest;
use actix_web::web::{Data, Json};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::{AdminService, DeadLetterAction, DeadWebhook, WebhookReceiver};
use crate::store::DeadLetterFilter;
use crate::web::cursor;
use crate::web::extract::{Body, invalid_body, query};
use crate::web::operator::{Operator, OperatorHeader};
use crate::web::problem::Problem;

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
    /// How many at the most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
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
    responses((status = 200, body = DeadWebhooks), (status = 400))
)]
pub(super) async fn dead(
    admin: Data<AdminService>,
    request: HttpRequest,
) -> Result<Json<DeadWebhooks>, Problem> {
    let which: Which = query(&request)?;
    let limit = cursor::limit(which.limit, 100, 1_000)?;
    let after: Option<i64> = cursor::read(which.cursor.as_deref())?;
    let filter = DeadLetterFilter {
        receiver: which.receiver,
        ids: None,
    };
    let mut dead = admin
        .dead_webhooks(&filter, after.unwrap_or(0), limit + 1)
        .await?;
    let more = dead.len() > limit;
    dead.truncate(limit);
    let last = dead.last().filter(|_| more);
    let next_cursor = last.map(|last| cursor::write(&last.id));
    Ok(Json(DeadWebhooks { dead, next_cursor }))
}

/// Which dead letters are meant: those that match every given part, or all of them.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadLetters {
    /// Those of this receiver.
    receiver: Option<String>,
    /// Those with these ids.
    #[schema(min_items = 1, max_items = 1000)]
    ids: Option<Vec<i64>>,
    /// All of them.
    #[serde(default)]
    #[schema(default = false)]
    all: bool,
}

/// The most ids in one request.
const MOST_IDS: usize = 1_000;

impl DeadLetters {
    fn filter(self) -> Result<DeadLetterFilter, Problem> {
        let number = self.ids.as_ref().map(Vec::len);
        if number.is_some_and(|number| !(1..=MOST_IDS).contains(&number)) {
            return Err(invalid_body(&format!(
                "ids must be 1 to {MOST_IDS} numbers"
            )));
        }
        if number.is_none() && self.receiver.is_none() && !self.all {
            return Err(invalid_body(
                "the body must name dead letters by ids, by receiver or by \"all\": true",
            ));
        }
        Ok(DeadLetterFilter {
            receiver: self.receiver,
            ids: self.ids,
        })
    }
}

/// How many dead letters were changed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadLettersChanged {
    changed: usize,
}

/// Sends dead letters again, with all their attempts.
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

/// Deletes dead letters: their receiver never gets these facts.
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
    let filter = body.filter()?;
    let changed = admin
        .resolve_dead_webhooks(action, &filter, &operator.0)
        .await?;
    Ok(Json(DeadLettersChanged { changed }))
}
