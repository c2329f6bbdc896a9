//! `POST /v1/likes`: accepts a batch of behaviors of any users from a trusted service.

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::{
    BehaviorType, Durability, Resource, ResourceId, ResourceType, TraceParent, UserId,
};
use crate::likes::{Accepted, LikeRequest, Likes, NotAccepted};
use crate::web::auth::AnyUser;
use crate::web::extract::{Bytes, json};
use crate::web::idempotency::{IdempotencyKey, KeyHeader, KeyedResponse};
use crate::web::ids::Ids;
use crate::web::problem::{Code, Problem, ProblemBody};
use crate::web::trace::Trace;

/// The most behaviors of a batch.
const MOST_BEHAVIORS: usize = 1_000;

/// A batch of behaviors. Each is parsed on its own, so that an invalid one does not affect the others.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Behaviors)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Batch {
    /// The behaviors. Each is accepted or refused on its own.
    #[schema(value_type = Vec<BehaviorItem>, min_items = 1, max_items = 1_000)]
    behaviors: Vec<Value>,
}

/// One behavior.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Behavior)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct BehaviorItem {
    #[schema(value_type = i64, minimum = 1)]
    user_id: UserId,
    resource_type: ResourceType,
    #[schema(value_type = i64, minimum = 1)]
    resource_id: ResourceId,
    behavior: BehaviorType,
}

/// The results, in the order of the request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BehaviorResults)]
pub(in crate::web) struct BatchBody {
    /// The number of accepted behaviors.
    accepted: usize,
    /// The number of refused behaviors.
    refused: usize,
    results: Vec<ResultBody>,
}

/// The result of one behavior.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BehaviorResult)]
#[serde(untagged)]
pub(in crate::web) enum ResultBody {
    /// It was accepted and is durable.
    Accepted(AcceptedItem),
    /// It was refused, and changed nothing.
    Refused {
        /// The status of the problem.
        status: u16,
        problem: ProblemBody,
    },
}

/// An accepted behavior, which is durable.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AcceptedBehavior)]
pub(in crate::web) struct AcceptedItem {
    /// Always 200.
    status: u16,
    event_id: Uuid,
    #[schema(value_type = i64)]
    user_id: UserId,
    resource_type: ResourceType,
    #[schema(value_type = i64)]
    resource_id: ResourceId,
    behavior: BehaviorType,
    /// Whether it changed the user's like; null if that is unknown, or the behavior concerns no like.
    #[schema(required = true)]
    changed: Option<bool>,
    /// The like count after it; null if that is uncertain, or the behavior concerns no like.
    #[schema(required = true)]
    like_count: Option<i64>,
    durability: Durability,
    cached: bool,
}

/// Accepts a batch of behaviors of any users from a trusted service.
///
/// Each is accepted or refused on its own.
#[utoipa::path(
    post,
    path = "/v1/likes",
    tag = "likes",
    operation_id = "accept_behaviors",
    params(KeyHeader),
    request_body = Batch,
    responses((status = 200, body = BatchBody), (status = 422)),
    security(())
)]
pub(in crate::web) async fn batch(
    likes: Data<Likes>,
    ids: Ids,
    AnyUser(caller): AnyUser,
    Trace(trace): Trace,
    key: IdempotencyKey,
    Bytes(bytes): Bytes,
) -> Result<HttpResponse, Problem> {
    let batch: Batch = json(&bytes)?;
    let count = batch.behaviors.len();
    if !(1..=MOST_BEHAVIORS).contains(&count) {
        let detail = format!("'behaviors' must have 1 to {MOST_BEHAVIORS} items, got {count}");
        return Err(Problem::new(Code::Unprocessable, detail));
    }
    let requests: Vec<_> = batch
        .behaviors
        .into_iter()
        .map(|item| like_request(item, trace, &likes, &ids))
        .collect();
    key.answer(
        likes.into_inner(),
        (caller, &bytes),
        count,
        move |likes, identity| async move {
            let valid = requests.iter().filter_map(|one| one.as_ref().ok().cloned());
            let accepted = likes.accept_all(valid.collect(), identity).await;
            answer(requests, accepted, &ids)
        },
    )
    .await
}

fn like_request(
    item: Value,
    trace: Option<TraceParent>,
    likes: &Likes,
    ids: &Ids,
) -> Result<LikeRequest, Problem> {
    let invalid = |reason: String| Problem::new(Code::InvalidBehavior, reason);
    let item: BehaviorItem =
        serde_json::from_value(item).map_err(|error| invalid(error.to_string()))?;
    let resource_type = likes.resource_types().served(item.resource_type);
    let user_id = ids.user(item.user_id);
    let id = ids.resource(item.resource_id);
    Ok(LikeRequest {
        user_id: user_id.map_err(|error| invalid(format!("user_id {error}")))?,
        resource: Resource {
            resource_type: resource_type.map_err(|error| invalid(error.to_string()))?,
            id: id.map_err(|error| invalid(format!("resource_id {error}")))?,
        },
        behavior: item.behavior,
        trace,
    })
}

/// The answer to a batch. If nothing was accepted and one of the problems is temporary, that problem is the answer
/// to the whole request.
fn answer(
    requests: Vec<Result<LikeRequest, Problem>>,
    accepted: Vec<Result<Accepted, NotAccepted>>,
    ids: &Ids,
) -> Result<KeyedResponse<BatchBody>, Problem> {
    let mut outcomes = accepted.into_iter();
    let mut results = Vec::with_capacity(requests.len());
    let mut temporary = None;
    let mut count = 0;
    for request in requests {
        let outcome = request.and_then(|request| {
            let missing = || Err(NotAccepted::Internal("the pipeline gave no answer".into()));
            let accepted = outcomes.next().unwrap_or_else(missing)?;
            Ok((request, accepted))
        });
        results.push(match outcome {
            Ok((request, accepted)) => {
                count += 1;
                ResultBody::Accepted(accepted_item(&request, accepted, ids))
            }
            Err(problem) => {
                let refused = ResultBody::Refused {
                    status: problem.status().as_u16(),
                    problem: problem.body(),
                };
                if problem.status().is_server_error() {
                    temporary.get_or_insert(problem);
                }
                refused
            }
        });
    }
    let is_final = temporary.is_none();
    match temporary {
        Some(problem) if count == 0 => Err(problem),
        _ => Ok(KeyedResponse {
            body: BatchBody {
                accepted: count,
                refused: results.len() - count,
                results,
            },
            is_final,
        }),
    }
}

fn accepted_item(request: &LikeRequest, accepted: Accepted, ids: &Ids) -> AcceptedItem {
    AcceptedItem {
        status: 200,
        event_id: accepted.event_id,
        user_id: ids.shown(&request.user_id),
        resource_type: request.resource.resource_type,
        resource_id: ids.shown(&request.resource.id),
        behavior: request.behavior,
        changed: accepted.changed,
        like_count: accepted.like_count,
        durability: accepted.durability,
        cached: accepted.cached,
    }
}
