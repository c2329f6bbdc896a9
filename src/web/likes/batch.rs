//! `POST /v1/likes`: what a trusted service says that users did, many at a time.

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::{BehaviorType, Durability, Resource, ResourceType, UserId};
use crate::likes::{Accepted, LikeRequest, Likes, NotAccepted};
use crate::web::Problem;
use crate::web::auth::Caller;
use crate::web::extract::{AnyUser, Bytes, json};
use crate::web::idempotency::{IdempotencyKey, KeyHeader, KeyedResponse};
use crate::web::problem::ProblemBody;

/// The most behaviors of one request.
pub(in crate::web) const MOST_BEHAVIORS: usize = 1_000;

/// What users did. Each behavior is read by itself, so that one that cannot be read does not take the others
/// with it.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Behaviors)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Batch {
    /// What they did. One that is not as it should be is refused by itself.
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
    #[schema(minimum = 1)]
    resource_id: i64,
    behavior: BehaviorType,
}

/// What became of each behavior, in the order of the request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BehaviorResults)]
pub(in crate::web) struct BatchBody {
    /// How many were accepted.
    accepted: usize,
    /// How many were not.
    refused: usize,
    results: Vec<ResultBody>,
}

/// What became of one behavior.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BehaviorResult)]
#[serde(untagged)]
pub(in crate::web) enum ResultBody {
    /// It is durable.
    Accepted(AcceptedItem),
    /// It is not, and nothing was changed.
    Refused {
        /// The status that it would have been answered with alone.
        status: u16,
        /// Why.
        problem: ProblemBody,
    },
}

/// A behavior that is durable.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AcceptedBehavior)]
pub(in crate::web) struct AcceptedItem {
    /// Always 200.
    status: u16,
    event_id: Uuid,
    #[schema(value_type = i64)]
    user_id: UserId,
    resource_type: ResourceType,
    resource_id: i64,
    behavior: BehaviorType,
    /// Whether it changed the user's like; null if that cannot be told now, or it is about none.
    #[schema(required = true)]
    changed: Option<bool>,
    /// The like count with it; null if that cannot be told now, or it is about none.
    #[schema(required = true)]
    like_count: Option<i64>,
    durability: Durability,
    cached: bool,
}

/// Takes what users did from a trusted service, many behaviors at a time.
///
/// Each is accepted or refused by itself.
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
    AnyUser(caller): AnyUser,
    key: IdempotencyKey,
    Bytes(bytes): Bytes,
) -> Result<HttpResponse, Problem> {
    let batch: Batch = json(&bytes)?;
    let count = batch.behaviors.len();
    if !(1..=MOST_BEHAVIORS).contains(&count) {
        return Err(Problem::unprocessable(format!(
            "'behaviors' must have 1 to {MOST_BEHAVIORS} items, got {count}"
        )));
    }
    let read: Vec<_> = batch.behaviors.into_iter().map(asked).collect();
    let pipeline = Data::clone(&likes);
    let caller = Caller::name(&caller).into_owned();
    key.answer(
        &likes,
        (caller, &bytes),
        count,
        move |identity| async move {
            let asked = read.iter().filter_map(|one| one.as_ref().ok().copied());
            let accepted = pipeline.accept_all(asked.collect(), identity).await;
            settled(read, accepted)
        },
    )
    .await
}

fn asked(item: Value) -> Result<LikeRequest, Problem> {
    let item: BehaviorItem = serde_json::from_value(item)
        .map_err(|error| Problem::invalid_behavior(&error.to_string()))?;
    for (name, id) in [("user_id", item.user_id), ("resource_id", item.resource_id)] {
        if id <= 0 {
            return Err(Problem::invalid_behavior(&format!(
                "{name} must be a number from 1 on, got {id}"
            )));
        }
    }
    Ok(LikeRequest {
        user_id: item.user_id,
        resource: Resource {
            resource_type: item.resource_type,
            id: item.resource_id,
        },
        behavior: item.behavior,
    })
}

/// The answer: what was read, with what became of it. If nothing was accepted for a reason that may pass,
/// that is the answer to the whole request.
fn settled(
    read: Vec<Result<LikeRequest, Problem>>,
    accepted: Vec<Result<Accepted, NotAccepted>>,
) -> Result<KeyedResponse<BatchBody>, Problem> {
    let mut outcomes = accepted.into_iter();
    let mut results = Vec::with_capacity(read.len());
    let mut passing = None;
    let mut count = 0;
    for one in read {
        let outcome = one.and_then(|asked| {
            let missing = || Err(NotAccepted::Internal("there is no answer".into()));
            let accepted = outcomes.next().unwrap_or_else(missing)?;
            Ok((asked, accepted))
        });
        results.push(match outcome {
            Ok((asked, accepted)) => {
                count += 1;
                ResultBody::Accepted(accepted_item(asked, accepted))
            }
            Err(problem) => {
                let refused = ResultBody::Refused {
                    status: problem.status().as_u16(),
                    problem: problem.body(),
                };
                if problem.status().is_server_error() {
                    passing.get_or_insert(problem);
                }
                refused
            }
        });
    }
    let is_final = passing.is_none();
    match passing {
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

fn accepted_item(asked: LikeRequest, accepted: Accepted) -> AcceptedItem {
    AcceptedItem {
        status: 200,
        event_id: accepted.event_id,
        user_id: asked.user_id,
        resource_type: asked.resource.resource_type,
        resource_id: asked.resource.id,
        behavior: asked.behavior,
        changed: accepted.changed,
        like_count: accepted.like_count,
        durability: accepted.durability,
        cached: accepted.cached,
    }
}

impl Problem {
    /// One behavior of a batch is none.
    fn invalid_behavior(reason: &str) -> Self {
        Self::new(
            actix_web::http::StatusCode::BAD_REQUEST,
            "invalid_behavior",
            "Invalid behavior",
            reason.to_owned(),
        )
    }
}
