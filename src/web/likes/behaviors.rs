//! `GET /v1/{resource_type}s/{id}/behaviors/count` and `POST /v1/behaviors/count`: read how many views, shares and comments
//! resources have, without a user.

use actix_web::web::{Data, Json};
use serde::Serialize;
use utoipa::ToSchema;

use super::status::Status;
use crate::domain::{BehaviorCounts, Resource, ResourceId, ResourceType};
use crate::likes::Likes;
use crate::web::auth::CountReader;
use crate::web::extract::{Body, ResourceInPath};
use crate::web::ids::Ids;
use crate::web::problem::Problem;

/// The counts by behavior of a resource.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ResourceBehaviors)]
pub(in crate::web) struct BehaviorsBody {
    resource_type: ResourceType,
    #[schema(value_type = i64)]
    resource_id: ResourceId,
    counts: BehaviorCounts,
}

impl BehaviorsBody {
    fn new(resource: &Resource, counts: BehaviorCounts, ids: &Ids) -> Self {
        Self {
            resource_type: resource.resource_type,
            resource_id: ids.shown(&resource.id),
            counts,
        }
    }
}

/// The counts by behavior of the items of a page, in the order of the request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PageBehaviors)]
pub(in crate::web) struct PageBehaviorsBody {
    items: Vec<BehaviorsBody>,
}

/// Reads how many behaviors of each type a {resource_type} has, besides likes.
#[utoipa::path(
    get,
    path = "/v1/{resource_type}s/{id}/behaviors/count",
    tag = "likes",
    operation_id = "count_behaviors_of_{resource_type}",
    params(("id" = i64, Path, description = "The {resource_type}'s id", minimum = 1)),
    responses((status = 200, body = BehaviorsBody), (status = 400), (status = 410)),
    security(("counts" = []))
)]
pub(in crate::web) async fn count(
    likes: Data<Likes>,
    ids: Ids,
    _: CountReader,
    ResourceInPath(resource): ResourceInPath,
) -> Result<Json<BehaviorsBody>, Problem> {
    let resources = [resource];
    let counts = likes.behavior_counts(&resources).await?;
    let [resource] = &resources;
    let counts = counts.first().copied().unwrap_or_default();
    Ok(Json(BehaviorsBody::new(resource, counts, &ids)))
}

/// Reads how many behaviors of each type the items of a page have, besides likes.
#[utoipa::path(
    post,
    path = "/v1/behaviors/count",
    tag = "likes",
    operation_id = "count_behaviors",
    request_body = Status,
    responses((status = 200, body = PageBehaviorsBody), (status = 400), (status = 422)),
    security(("counts" = []))
)]
pub(in crate::web) async fn count_all(
    likes: Data<Likes>,
    ids: Ids,
    _: CountReader,
    Body(page): Body<Status>,
) -> Result<Json<PageBehaviorsBody>, Problem> {
    let resources = page.resources(&likes, &ids)?;
    let counts = likes.behavior_counts(&resources).await?;
    let items = resources.iter().zip(counts);
    let items = items.map(|(resource, counts)| BehaviorsBody::new(resource, counts, &ids));
    Ok(Json(PageBehaviorsBody {
        items: items.collect(),
    }))
}
