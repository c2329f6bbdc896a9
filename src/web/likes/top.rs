//! `GET /v1/{resource_type}s/top`: lists the most liked resources.

use actix_web::HttpRequest;
use actix_web::web::{Data, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{Resource, ResourceId, ResourceType};
use crate::likes::{Liked, Likes};
use crate::web::auth::CountReader;
use crate::web::cursor::{self, LIMIT, MOST, PageQuery};
use crate::web::extract::TypeInPath;
use crate::web::ids::Ids;
use crate::web::parameters::query;
use crate::web::problem::Problem;

/// The cursor: the last resource of a page.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AfterLiked {
    like_count: i64,
    resource_id: ResourceId,
}

/// The most liked resources.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TopPage)]
pub(in crate::web) struct TopBody {
    resource_type: ResourceType,
    resources: Vec<TopItemBody>,
    /// The cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// A resource and its like count.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TopResource)]
pub(in crate::web) struct TopItemBody {
    #[schema(value_type = i64)]
    resource_id: ResourceId,
    like_count: i64,
}

/// Lists the most liked {resource_type}s, page by page.
#[utoipa::path(
    get,
    path = "/v1/{resource_type}s/top",
    tag = "likes",
    operation_id = "list_top_{resource_type}s",
    params(PageQuery),
    responses((status = 200, body = TopBody), (status = 400)),
    security(("counts" = []))
)]
pub(in crate::web) async fn top(
    likes: Data<Likes>,
    ids: Ids,
    _: CountReader,
    TypeInPath(resource_type): TypeInPath,
    request: HttpRequest,
) -> Result<Json<TopBody>, Problem> {
    let page: PageQuery = query(&request)?;
    let limit = cursor::limit(page.limit, LIMIT, MOST)?;
    let after: Option<AfterLiked> = cursor::read(page.cursor.as_deref())?;
    let after = after
        .map(|after| {
            let id = ids.resource_in_cursor(after.resource_id)?;
            Ok::<_, Problem>(Liked {
                resource: Resource { resource_type, id },
                like_count: after.like_count,
            })
        })
        .transpose()?;
    let page = likes.most_liked(resource_type, after, limit).await?;
    let next_cursor = page.last().map(|last| {
        cursor::write(&AfterLiked {
            like_count: last.like_count,
            resource_id: last.resource.id.clone(),
        })
    });
    let items = page.items.iter().map(|liked| TopItemBody {
        resource_id: ids.shown(&liked.resource.id),
        like_count: liked.like_count,
    });
    Ok(Json(TopBody {
        resource_type,
        resources: items.collect(),
        next_cursor,
    }))
}
