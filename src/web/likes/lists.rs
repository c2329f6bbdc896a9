//! Who likes a resource, and what a user likes: newest first, page after page.

use actix_web::HttpRequest;
use actix_web::web::{Data, Json};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::domain::{Resource, ResourceType, UserId, Version};
use crate::likes::{Likes, Listed, Place};
use crate::store::Cursor;
use crate::web::Problem;
use crate::web::cursor::{self, LIMIT, MOST, PageQuery};
use crate::web::extract::{Guest, Liked, Owner, query};
use crate::web::moment::micros;

/// The last like of a page of likers.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AfterLiker {
    version: i64,
    user_id: UserId,
}

/// Who likes a resource.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LikersPage)]
pub(in crate::web) struct LikersBody {
    resource_type: ResourceType,
    resource_id: i64,
    likes: Vec<LikerBody>,
    /// Where the next page begins; absent after the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// One who does.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Liker)]
pub(in crate::web) struct LikerBody {
    #[schema(value_type = i64)]
    user_id: UserId,
    #[serde(serialize_with = "micros")]
    liked_at: DateTime<Utc>,
}

/// Who likes a {resource_type}, the newest like first, page by page.
#[utoipa::path(
    get,
    path = "/v1/{resource_type}s/{id}/likes",
    tag = "likes",
    operation_id = "list_likers_of_{resource_type}",
    params(("id" = i64, Path, description = "The {resource_type}'s id", minimum = 1), PageQuery),
    responses((status = 200, body = LikersBody), (status = 400)),
    security(())
)]
pub(in crate::web) async fn likers(
    likes: Data<Likes>,
    _: Guest,
    Liked(resource): Liked,
    request: HttpRequest,
) -> Result<Json<LikersBody>, Problem> {
    let page: PageQuery = query(&request)?;
    let limit = cursor::limit(page.limit, LIMIT, MOST)?;
    let after: Option<AfterLiker> = cursor::read(page.cursor.as_deref())?;
    let after = after.map(|after| Cursor {
        version: Version(after.version),
        id: after.user_id,
    });
    let page = likes.likers(resource, after, limit).await?;
    let next_cursor = page.last().map(|last| {
        cursor::write(&AfterLiker {
            version: last.version.0,
            user_id: last.user_id,
        })
    });
    let likers = page.items.iter().map(|like| LikerBody {
        user_id: like.user_id,
        liked_at: like.version.moment(),
    });
    Ok(Json(LikersBody {
        resource_type: resource.resource_type,
        resource_id: resource.id,
        likes: likers.collect(),
        next_cursor,
    }))
}

/// Which likes, and which page of them.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct LikedQuery {
    /// Only resources of this type.
    resource_type: Option<ResourceType>,
    /// How many at the most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<usize>,
    /// Where the page begins: `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The last like of a page of a user's likes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AfterLike {
    version: i64,
    resource_type: ResourceType,
    resource_id: i64,
}

impl From<&Listed> for AfterLike {
    fn from(like: &Listed) -> Self {
        Self {
            version: like.version.0,
            resource_type: like.resource.resource_type,
            resource_id: like.resource.id,
        }
    }
}

impl From<AfterLike> for Place {
    fn from(after: AfterLike) -> Self {
        Self {
            version: Version(after.version),
            resource: Resource {
                resource_type: after.resource_type,
                id: after.resource_id,
            },
        }
    }
}

/// What a user likes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LikedPage)]
pub(in crate::web) struct LikedBody {
    #[schema(value_type = i64)]
    user_id: UserId,
    likes: Vec<LikedItemBody>,
    /// Where the next page begins; absent after the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// One resource that they like.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LikedResource)]
pub(in crate::web) struct LikedItemBody {
    resource_type: ResourceType,
    resource_id: i64,
    #[serde(serialize_with = "micros")]
    liked_at: DateTime<Utc>,
}

/// What a user likes, the newest like first, page by page. It is shown to that user alone.
#[utoipa::path(
    get,
    path = "/v1/users/{id}/likes",
    tag = "likes",
    operation_id = "list_likes_of_user",
    params(
        (
            "id" = String,
            Path,
            description = "The user's id; or `me`, whom the token or `X-User-Id` names",
            pattern = "^(me|[1-9][0-9]{0,17})$"
        ),
        LikedQuery
    ),
    responses((status = 200, body = LikedBody), (status = 400)),
    security((), ("user" = []))
)]
pub(in crate::web) async fn liked_by(
    likes: Data<Likes>,
    Owner(user_id): Owner,
    request: HttpRequest,
) -> Result<Json<LikedBody>, Problem> {
    let page: LikedQuery = query(&request)?;
    let limit = cursor::limit(page.limit, LIMIT, MOST)?;
    let after: Option<AfterLike> = cursor::read(page.cursor.as_deref())?;
    let page = likes
        .liked_by(user_id, page.resource_type, after.map(Into::into), limit)
        .await?;
    let next_cursor = page
        .last()
        .map(|last| cursor::write(&AfterLike::from(last)));
    let liked = page.items.iter().map(|like| LikedItemBody {
        resource_type: like.resource.resource_type,
        resource_id: like.resource.id,
        liked_at: like.version.moment(),
    });
    Ok(Json(LikedBody {
        user_id,
        likes: liked.collect(),
        next_cursor,
    }))
}
