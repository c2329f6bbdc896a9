//! `POST /v1/likes/status`: reads the likes of the items of a page.

use actix_web::web::{Data, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{Resource, ResourceId, ResourceType, UserId};
use crate::likes::{Like, Likes};
use crate::web::auth::Visitor;
use crate::web::extract::{Body, invalid_body};
use crate::web::ids::Ids;
use crate::web::problem::{Code, Problem};

/// The most items of a request.
const MOST_ITEMS: usize = 500;

/// The items of a page.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = PageItems)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Status {
    #[schema(min_items = 1, max_items = 500)]
    items: Vec<Item>,
}

/// An item of a page.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = PageItem)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Item {
    resource_type: ResourceType,
    #[schema(value_type = i64, minimum = 1)]
    resource_id: ResourceId,
}

/// The user's likes, in the order of the items.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PageLikes)]
pub(in crate::web) struct StatusBody {
    /// Null without a user.
    #[schema(value_type = Option<i64>, required = true)]
    user_id: Option<UserId>,
    items: Vec<ItemBody>,
}

/// The like of one item.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PageLike)]
pub(in crate::web) struct ItemBody {
    resource_type: ResourceType,
    #[schema(value_type = i64)]
    resource_id: ResourceId,
    /// Whether the user likes the item; null without a user.
    #[schema(required = true)]
    liked: Option<bool>,
    /// The number of users who like the item; null if that is uncertain.
    #[schema(required = true)]
    like_count: Option<i64>,
}

/// Reads which items of a page the user likes, and how many users like each.
///
/// Without a user, `user_id` and each `liked` are null.
#[utoipa::path(
    post,
    path = "/v1/likes/status",
    tag = "likes",
    operation_id = "read_likes",
    request_body = Status,
    responses((status = 200, body = StatusBody), (status = 400), (status = 410), (status = 422)),
    security(("visitor" = []))
)]
pub(in crate::web) async fn status(
    likes: Data<Likes>,
    ids: Ids,
    Visitor(user_id): Visitor,
    Body(status): Body<Status>,
) -> Result<Json<StatusBody>, Problem> {
    let resources = status.resources(&likes, &ids)?;
    let is_erased = |resource: &Resource| likes.erasures().has_resource(resource);
    let kept: Vec<Resource> = resources
        .iter()
        .filter(|one| !is_erased(one))
        .cloned()
        .collect();
    let mut read = likes.read_all(user_id.as_ref(), &kept).await?.into_iter();
    let items = resources.iter().map(|resource| {
        // Without a look-up, which would create an entry of the cache.
        let nobody = Like {
            liked: user_id.as_ref().map(|_| false),
            like_count: Some(0),
        };
        let known = if is_erased(resource) {
            None
        } else {
            read.next()
        };
        let like = known.unwrap_or(nobody);
        ItemBody {
            resource_type: resource.resource_type,
            resource_id: ids.shown(&resource.id),
            liked: like.liked,
            like_count: like.like_count,
        }
    });
    let items = items.collect();
    Ok(Json(StatusBody {
        user_id: user_id.map(|user_id| ids.shown(&user_id)),
        items,
    }))
}

impl Status {
    /// Returns the resources of the items.
    ///
    /// # Errors
    /// If there are too few or too many, or the deployment does not accept one.
    pub(super) fn resources(self, likes: &Likes, ids: &Ids) -> Result<Vec<Resource>, Problem> {
        let count = self.items.len();
        if !(1..=MOST_ITEMS).contains(&count) {
            let detail = format!("'items' must have 1 to {MOST_ITEMS} items, got {count}");
            return Err(Problem::new(Code::Unprocessable, detail));
        }
        self.items
            .into_iter()
            .enumerate()
            .map(|(index, item)| item.resource(index, likes, ids))
            .collect()
    }
}

impl Item {
    fn resource(self, index: usize, likes: &Likes, ids: &Ids) -> Result<Resource, Problem> {
        let resource_type = likes.resource_types().served(self.resource_type);
        let id = ids.resource(self.resource_id);
        Ok(Resource {
            resource_type: resource_type
                .map_err(|error| invalid_body(&format!("items[{index}].resource_type: {error}")))?,
            id: id.map_err(|error| {
                let detail = format!("items[{index}].resource_id {error}");
                Problem::new(Code::Unprocessable, detail)
            })?,
        })
    }
}
