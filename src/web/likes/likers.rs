//! `GET /v1/{resource_type}s/{id}/likes`: lists the users who like a resource, the newest like first.

use actix_web::HttpRequest;
use actix_web::web::{Data, Json};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{ResourceId, ResourceType, UserId, Version};
use crate::likes::Likes;
use crate::store::Cursor;
use crate::web::auth::PublicReader;
use crate::web::cursor::{self, LIMIT, MOST, PageQuery};
use crate::web::extract::ResourceInPath;
use crate::web::ids::Ids;
use crate::web::moment::micros;
use crate::web::parameters::query;
use crate::web::problem::Problem;

/// The cursor: the last like of a page.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AfterLiker {
    since: i64,
    user_id: UserId,
}

/// The users who like a resource.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LikersPage)]
pub(in crate::web) struct LikersBody {
    resource_type: ResourceType,
    #[schema(value_type = i64)]
    resource_id: ResourceId,
    likes: Vec<LikerBody>,
    /// The cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// A user who likes the resource.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Liker)]
pub(in crate::web) struct LikerBody {
    #[schema(value_type = i64)]
    user_id: UserId,
    #[serde(serialize_with = "micros")]
    liked_at: DateTime<Utc>,
}

/// Lists the users who like a {resource_type}, the newest like first, page by page.
#[utoipa::path(
    get,
    path = "/v1/{resource_type}s/{id}/likes",
    tag = "likes",
    operation_id = "list_likers_of_{resource_type}",
    params(("id" = i64, Path, description = "The {resource_type}'s id", minimum = 1), PageQuery),
    responses((status = 200, body = LikersBody), (status = 400), (status = 410)),
    security(("lists" = []))
)]
pub(in crate::web) async fn likers(
    likes: Data<Likes>,
    ids: Ids,
    _: PublicReader,
    ResourceInPath(resource): ResourceInPath,
    request: HttpRequest,
) -> Result<Json<LikersBody>, Problem> {
    let page: PageQuery = query(&request)?;
    let limit = cursor::limit(page.limit, LIMIT, MOST)?;
    let after: Option<AfterLiker> = cursor::read(page.cursor.as_deref())?;
    let after = after
        .map(|after| {
            let id = ids.user_in_cursor(after.user_id)?;
            Ok::<_, Problem>(Cursor {
                since: Version(after.since),
                id,
            })
        })
        .transpose()?;
    let page = likes.likers(resource.clone(), after, limit).await?;
    let next_cursor = page.last().map(|last| {
        cursor::write(&AfterLiker {
            since: last.since.0,
            user_id: last.user_id.clone(),
        })
    });
    let likers = page.items.iter().map(|like| LikerBody {
        user_id: ids.shown(&like.user_id),
        liked_at: like.since.moment(),
    });
    Ok(Json(LikersBody {
        resource_type: resource.resource_type,
        resource_id: ids.shown(&resource.id),
        likes: likers.collect(),
        next_cursor,
    }))
}
