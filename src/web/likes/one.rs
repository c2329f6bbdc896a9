//! `PUT`, `DELETE` and `GET` of one like, of a video or a comment.

use actix_web::web::{Data, Json, Payload};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::{Action, Resource, ResourceType, UserId};
use crate::likes::Likes;
use crate::messages::Durability;
use crate::web::Problem;
use crate::web::extract::{Liked, User, whole};

/// The answer to `PUT` and `DELETE`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AcceptedLike)]
pub(in crate::web) struct AcceptedBody {
    event_id: Uuid,
    resource_type: ResourceType,
    resource_id: i64,
    #[schema(value_type = i64)]
    user_id: UserId,
    liked: bool,
    changed: Option<bool>,
    like_count: Option<i64>,
    durability: Durability,
    cached: bool,
}

/// The answer to `GET`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Like)]
pub(in crate::web) struct LikeBody {
    resource_type: ResourceType,
    resource_id: i64,
    #[schema(value_type = i64)]
    user_id: UserId,
    liked: bool,
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
    params(("id" = i64, Path, description = "The {resource_type}'s id", minimum = 1)),
    responses((status = 200, body = AcceptedBody))
)]
pub(in crate::web) async fn like(
    likes: Data<Likes>,
    User(user_id): User,
    Liked(resource): Liked,
    payload: Payload,
) -> Result<Json<AcceptedBody>, Problem> {
    accept(&likes, user_id, resource, Action::Like, payload).await
}

/// Takes the like of a {resource_type} back.
///
/// Once it is answered it is durable. To send it again changes nothing.
#[utoipa::path(
    delete,
    path = "/v1/{resource_type}s/{id}/like",
    tag = "likes",
    operation_id = "unlike_{resource_type}",
    params(("id" = i64, Path, description = "The {resource_type}'s id", minimum = 1)),
    responses((status = 200, body = AcceptedBody))
)]
pub(in crate::web) async fn unlike(
    likes: Data<Likes>,
    User(user_id): User,
    Liked(resource): Liked,
    payload: Payload,
) -> Result<Json<AcceptedBody>, Problem> {
    accept(&likes, user_id, resource, Action::Unlike, payload).await
}

async fn accept(
    likes: &Likes,
    user_id: UserId,
    resource: Resource,
    action: Action,
    payload: Payload,
) -> Result<Json<AcceptedBody>, Problem> {
    whole(payload).await?;
    let accepted = likes.accept(user_id, resource, action).await?;
    Ok(Json(AcceptedBody {
        event_id: accepted.event_id,
        resource_type: resource.resource_type,
        resource_id: resource.id,
        user_id,
        liked: action.liked(),
        changed: accepted.changed,
        like_count: accepted.like_count,
        durability: accepted.durability,
        cached: accepted.cached,
    }))
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
