//! `GET /v1/{resource_type}s/{id}/likes/count`: reads how many users like a resource, without a user.

use actix_web::web::{Data, Json};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{ResourceId, ResourceType};
use crate::likes::Likes;
use crate::web::auth::CountReader;
use crate::web::extract::ResourceInPath;
use crate::web::ids::Ids;
use crate::web::problem::Problem;

/// The like count of a resource.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LikeCount)]
pub(in crate::web) struct CountBody {
    resource_type: ResourceType,
    #[schema(value_type = i64)]
    resource_id: ResourceId,
    /// The number of users who like the resource.
    like_count: i64,
}

/// Reads how many users like a {resource_type}.
#[utoipa::path(
    get,
    path = "/v1/{resource_type}s/{id}/likes/count",
    tag = "likes",
    operation_id = "count_likes_of_{resource_type}",
    params(("id" = i64, Path, description = "The {resource_type}'s id", minimum = 1)),
    responses((status = 200, body = CountBody), (status = 400), (status = 410)),
    security(("counts" = []))
)]
pub(in crate::web) async fn count(
    likes: Data<Likes>,
    ids: Ids,
    _: CountReader,
    ResourceInPath(resource): ResourceInPath,
) -> Result<Json<CountBody>, Problem> {
    let like_count = likes.count(resource.clone()).await?;
    Ok(Json(CountBody {
        resource_type: resource.resource_type,
        resource_id: ids.shown(&resource.id),
        like_count,
    }))
}
