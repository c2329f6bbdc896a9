//! `PUT`, `DELETE` and `GET /v1/{resource_type}s/{id}/like`: likes, unlikes and reads one like.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Payload};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::{BehaviorType, Durability, ResourceId, ResourceType, UserId};
use crate::likes::{Accepted, LikeRequest, Likes};
use crate::web::auth::{Caller, User, Visitor};
use crate::web::extract::{ResourceInPath, read_body};
use crate::web::idempotency::{IdempotencyKey, KeyHeader, KeyedResponse};
use crate::web::ids::Ids;
use crate::web::problem::Problem;
use crate::web::trace::Trace;

/// The response to `PUT` and `DELETE`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AcceptedLike)]
pub(in crate::web) struct AcceptedBody {
    /// The id of the event; `/admin/ledger/events/{event_id}` shows its progress.
    event_id: Uuid,
    resource_type: ResourceType,
    #[schema(value_type = i64)]
    resource_id: ResourceId,
    #[schema(value_type = i64)]
    user_id: UserId,
    /// Whether the user likes the resource now.
    liked: bool,
    /// Whether the request changed the like; null if that is unknown.
    #[schema(required = true)]
    changed: Option<bool>,
    /// The number of users who like the resource now; null if that is uncertain.
    #[schema(required = true)]
    like_count: Option<i64>,
    durability: Durability,
    /// Whether the cache has the like.
    cached: bool,
}

impl AcceptedBody {
    /// The response to this request.
    pub(in crate::web) fn of(request: &LikeRequest, accepted: Accepted, ids: &Ids) -> Self {
        Self {
            event_id: accepted.event_id,
            resource_type: request.resource.resource_type,
            resource_id: ids.shown(&request.resource.id),
            user_id: ids.shown(&request.user_id),
            liked: request.behavior == BehaviorType::Like,
            changed: accepted.changed,
            like_count: accepted.like_count,
            durability: accepted.durability,
            cached: accepted.cached,
        }
    }
}

/// The response to `GET`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Like)]
pub(in crate::web) struct LikeBody {
    resource_type: ResourceType,
    #[schema(value_type = i64)]
    resource_id: ResourceId,
    /// Null without a user.
    #[schema(value_type = Option<i64>, required = true)]
    user_id: Option<UserId>,
    /// Whether the user likes the resource; null without a user.
    #[schema(required = true)]
    liked: Option<bool>,
    /// The number of users who like the resource; null if that is uncertain.
    #[schema(required = true)]
    like_count: Option<i64>,
}

/// Likes a {resource_type}.
///
/// An answered like is durable. Sending the request again changes nothing.
#[utoipa::path(
    put,
    path = "/v1/{resource_type}s/{id}/like",
    tag = "likes",
    operation_id = "like_{resource_type}",
    params(("id" = i64, Path, description = "The {resource_type}'s id", minimum = 1), KeyHeader),
    responses((status = 200, body = AcceptedBody), (status = 410))
)]
pub(in crate::web) async fn like(
    likes: Data<Likes>,
    ids: Ids,
    User(user_id): User,
    ResourceInPath(resource): ResourceInPath,
    Trace(trace): Trace,
    key: IdempotencyKey,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let request = LikeRequest {
        user_id,
        resource,
        behavior: BehaviorType::Like,
        trace,
    };
    accept(likes, ids, request, key, payload).await
}

/// Unlikes a {resource_type}.
///
/// An answered unlike is durable. Sending the request again changes nothing.
#[utoipa::path(
    delete,
    path = "/v1/{resource_type}s/{id}/like",
    tag = "likes",
    operation_id = "unlike_{resource_type}",
    params(("id" = i64, Path, description = "The {resource_type}'s id", minimum = 1), KeyHeader),
    responses((status = 200, body = AcceptedBody), (status = 410))
)]
pub(in crate::web) async fn unlike(
    likes: Data<Likes>,
    ids: Ids,
    User(user_id): User,
    ResourceInPath(resource): ResourceInPath,
    Trace(trace): Trace,
    key: IdempotencyKey,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let request = LikeRequest {
        user_id,
        resource,
        behavior: BehaviorType::Unlike,
        trace,
    };
    accept(likes, ids, request, key, payload).await
}

async fn accept(
    likes: Data<Likes>,
    ids: Ids,
    request: LikeRequest,
    key: IdempotencyKey,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let body = read_body(payload).await?;
    answer_like(likes, ids, request, key, &body, |accepted| accepted).await
}

/// Accepts a behavior and responds with what `show` makes of the result. `body` is that of the HTTP request.
pub(in crate::web) async fn answer_like<T: Serialize + 'static>(
    likes: Data<Likes>,
    ids: Ids,
    request: LikeRequest,
    key: IdempotencyKey,
    body: &[u8],
    show: impl FnOnce(AcceptedBody) -> T + 'static,
) -> Result<HttpResponse, Problem> {
    let caller = Caller::User(request.user_id.clone());
    key.answer(
        likes.into_inner(),
        (caller, body),
        1,
        move |likes, identity| async move {
            let accepted = likes.accept(request.clone(), identity).await?;
            Ok(KeyedResponse {
                body: show(AcceptedBody::of(&request, accepted, &ids)),
                is_final: true,
            })
        },
    )
    .await
}

/// Reads whether the user likes a {resource_type}, and how many users do.
///
/// Without a user, `user_id` and `liked` are null.
#[utoipa::path(
    get,
    path = "/v1/{resource_type}s/{id}/like",
    tag = "likes",
    operation_id = "read_like_of_{resource_type}",
    params(("id" = i64, Path, description = "The {resource_type}'s id", minimum = 1)),
    responses((status = 200, body = LikeBody), (status = 400), (status = 410)),
    security(("visitor" = []))
)]
pub(in crate::web) async fn read(
    likes: Data<Likes>,
    ids: Ids,
    Visitor(user_id): Visitor,
    ResourceInPath(resource): ResourceInPath,
) -> Result<Json<LikeBody>, Problem> {
    let like = likes.read(user_id.as_ref(), resource.clone()).await?;
    Ok(Json(LikeBody {
        resource_type: resource.resource_type,
        resource_id: ids.shown(&resource.id),
        user_id: user_id.map(|user_id| ids.shown(&user_id)),
        liked: like.liked,
        like_count: like.like_count,
    }))
}
