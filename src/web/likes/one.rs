//! `PUT`, `DELETE` and `GET` of one like, of a video or a comment.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Payload};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::{BehaviorType, Durability, ResourceType, UserId};
use crate::likes::{Accepted, LikeRequest, Likes};
use crate::web::Problem;
use crate::web::auth::Caller;
use crate::web::extract::{Liked, User, whole};
use crate::web::idempotency::{IdempotencyKey, KeyHeader, KeyedResponse};

/// The answer to `PUT` and `DELETE`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AcceptedLike)]
pub(in crate::web) struct AcceptedBody {
    /// The event that carries it; `/admin/ledger/events/{event_id}` shows how far it has come.
    event_id: Uuid,
    resource_type: ResourceType,
    resource_id: i64,
    #[schema(value_type = i64)]
    user_id: UserId,
    /// Whether the user likes it from now on.
    liked: bool,
    /// Whether that is a change; null if it cannot be told now.
    #[schema(required = true)]
    changed: Option<bool>,
    /// How many users like it now; null if it cannot be told for certain.
    #[schema(required = true)]
    like_count: Option<i64>,
    durability: Durability,
    /// Whether the cache has it.
    cached: bool,
}

impl AcceptedBody {
    /// The answer to who asked for this.
    pub(in crate::web) fn of(asked: LikeRequest, accepted: Accepted) -> Self {
        Self {
            event_id: accepted.event_id,
            resource_type: asked.resource.resource_type,
            resource_id: asked.resource.id,
            user_id: asked.user_id,
            liked: asked.behavior == BehaviorType::Like,
            changed: accepted.changed,
            like_count: accepted.like_count,
            durability: accepted.durability,
            cached: accepted.cached,
        }
    }
}

/// The answer to `GET`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Like)]
pub(in crate::web) struct LikeBody {
    resource_type: ResourceType,
    resource_id: i64,
    #[schema(value_type = i64)]
    user_id: UserId,
    /// Whether the user likes it.
    liked: bool,
    /// How many users do; null if it cannot be told for certain.
    #[schema(required = true)]
    like_count: Option<i64>,
}

/// Likes a {resource_type}.
///
/// Once it is answered it is durable. To send it again changes nothing.
#[utoipa::path(
    put,
    path = "/v1/{resource_type}s/{id}/like",
    tag = "likes",
    operation_id = "like_{resource_type}",
    params(("id" = i64, Path, description = "The {resource_type}'s id", minimum = 1), KeyHeader),
    responses((status = 200, body = AcceptedBody))
)]
pub(in crate::web) async fn like(
    likes: Data<Likes>,
    User(user_id): User,
    Liked(resource): Liked,
    key: IdempotencyKey,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let asked = LikeRequest {
        user_id,
        resource,
        behavior: BehaviorType::Like,
    };
    accept(&likes, asked, key, payload).await
}

/// Takes the like of a {resource_type} back.
///
/// Once it is answered it is durable. To send it again changes nothing.
#[utoipa::path(
    delete,
    path = "/v1/{resource_type}s/{id}/like",
    tag = "likes",
    operation_id = "unlike_{resource_type}",
    params(("id" = i64, Path, description = "The {resource_type}'s id", minimum = 1), KeyHeader),
    responses((status = 200, body = AcceptedBody))
)]
pub(in crate::web) async fn unlike(
    likes: Data<Likes>,
    User(user_id): User,
    Liked(resource): Liked,
    key: IdempotencyKey,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let asked = LikeRequest {
        user_id,
        resource,
        behavior: BehaviorType::Unlike,
    };
    accept(&likes, asked, key, payload).await
}

async fn accept(
    likes: &Data<Likes>,
    asked: LikeRequest,
    key: IdempotencyKey,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let body = whole(payload).await?;
    let caller = Caller::User(asked.user_id).name().into_owned();
    let pipeline = Data::clone(likes);
    key.answer(likes, (caller, &body), 1, move |identity| async move {
        let accepted = pipeline.accept(asked, identity).await?;
        Ok(KeyedResponse {
            body: AcceptedBody::of(asked, accepted),
            is_final: true,
        })
    })
    .await
}

/// Whether the user likes a {resource_type}, and how many users do.
#[utoipa::path(
    get,
    path = "/v1/{resource_type}s/{id}/like",
    tag = "likes",
    operation_id = "read_like_of_{resource_type}",
    params(("id" = i64, Path, description = "The {resource_type}'s id", minimum = 1)),
    responses((status = 200, body = LikeBody), (status = 400))
)]
pub(in crate::web) async fn read(
    likes: Data<Likes>,
    User(user_id): User,
    Liked(resource): Liked,
) -> Result<Json<LikeBody>, Problem> {
    let like = likes.read(user_id, resource).await?;
    Ok(Json(LikeBody {
        resource_type: resource.resource_type,
        resource_id: resource.id,
        user_id,
        liked: like.liked,
        like_count: like.like_count,
    }))
}
