//! `GET /v1/users/{id}/likes`: lists the resources that a user likes, the newest like first.

use actix_web::HttpRequest;
use actix_web::web::{Data, Json};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::domain::{Resource, ResourceId, ResourceType, UserId, Version};
use crate::likes::{Likes, Listed, Place};
use crate::web::auth::Owner;
use crate::web::cursor::{self, LIMIT, MOST};
use crate::web::ids::Ids;
use crate::web::moment::micros;
use crate::web::parameters::{number, query};
use crate::web::problem::{Code, Problem};

/// The filter and the page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct LikedQuery {
    /// Only resources of this type.
    resource_type: Option<ResourceType>,
    /// The most entries.
    #[param(minimum = 1, maximum = 200, default = 50)]
    #[serde(default, deserialize_with = "number")]
    limit: Option<usize>,
    /// `next_cursor` of the page before; absent for the first page.
    cursor: Option<String>,
}

/// The cursor: the last like of a page.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AfterLike {
    since: i64,
    resource_type: ResourceType,
    resource_id: ResourceId,
}

impl From<&Listed> for AfterLike {
    fn from(like: &Listed) -> Self {
        Self {
            since: like.since.0,
            resource_type: like.resource.resource_type,
            resource_id: like.resource.id.clone(),
        }
    }
}

impl AfterLike {
    fn place(self, ids: &Ids) -> Result<Place, Problem> {
        Ok(Place {
            since: Version(self.since),
            resource: Resource {
                resource_type: self.resource_type,
                id: ids.resource_in_cursor(self.resource_id)?,
            },
        })
    }
}

/// The resources that a user likes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LikedPage)]
pub(in crate::web) struct LikedBody {
    #[schema(value_type = i64)]
    user_id: UserId,
    likes: Vec<LikedItemBody>,
    /// The cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// A resource that the user likes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LikedResource)]
pub(in crate::web) struct LikedItemBody {
    resource_type: ResourceType,
    #[schema(value_type = i64)]
    resource_id: ResourceId,
    #[serde(serialize_with = "micros")]
    liked_at: DateTime<Utc>,
}

/// Lists the resources that a user likes, the newest like first, page by page. Only the user may read it.
#[utoipa::path(
    get,
    path = "/v1/users/{id}/likes",
    tag = "likes",
    operation_id = "list_likes_of_user",
    params(
        (
            "id" = String,
            Path,
            description = "The user's id; or `me`, the user of the token or of `X-User-Id`",
            pattern = "^(me|[1-9][0-9]{0,17})$"
        ),
        LikedQuery
    ),
    responses((status = 200, body = LikedBody), (status = 400), (status = 410)),
    security(("owner" = []))
)]
pub(in crate::web) async fn liked_by(
    likes: Data<Likes>,
    ids: Ids,
    Owner(user_id): Owner,
    request: HttpRequest,
) -> Result<Json<LikedBody>, Problem> {
    let page: LikedQuery = query(&request)?;
    let limit = cursor::limit(page.limit, LIMIT, MOST)?;
    if let Some(resource_type) = page.resource_type {
        let served = likes.resource_types().served(resource_type);
        served.map_err(|error| Problem::new(Code::InvalidParameter, error.to_string()))?;
    }
    let after: Option<AfterLike> = cursor::read(page.cursor.as_deref())?;
    let after = after.map(|after| after.place(&ids)).transpose()?;
    let page = likes
        .liked_by(user_id.clone(), page.resource_type, after, limit)
        .await?;
    let next_cursor = page
        .last()
        .map(|last| cursor::write(&AfterLike::from(last)));
    let liked = page.items.iter().map(|like| LikedItemBody {
        resource_type: like.resource.resource_type,
        resource_id: ids.shown(&like.resource.id),
        liked_at: like.since.moment(),
    });
    Ok(Json(LikedBody {
        user_id: ids.shown(&user_id),
        likes: liked.collect(),
        next_cursor,
    }))
}
