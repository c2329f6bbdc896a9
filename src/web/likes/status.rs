//! `POST /v1/likes/status`: what a user likes of the items of a page.

use actix_web::web::{Data, Json};
use serde::{Deserialize, Serialize};

use crate::domain::{Resource, ResourceType, UserId};
use crate::likes::Likes;
use crate::web::Problem;
use crate::web::extract::{Body, Reader};

/// The most items of one request.
pub(in crate::web) const MOST_ITEMS: usize = 500;

/// The items of a page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Status {
    items: Vec<Item>,
}

/// One of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Item {
    resource_type: ResourceType,
    resource_id: i64,
}

/// The user's likes, in the order of the items.
#[derive(Debug, Serialize)]
pub(in crate::web) struct StatusBody {
    user_id: UserId,
    items: Vec<ItemBody>,
}

/// The like of one item.
#[derive(Debug, Serialize)]
pub(in crate::web) struct ItemBody {
    resource_type: ResourceType,
    resource_id: i64,
    liked: bool,
    like_count: Option<i64>,
}

/// `POST /v1/likes/status`
pub(in crate::web) async fn status(
    likes: Data<Likes>,
    Reader(user_id): Reader,
    Body(status): Body<Status>,
) -> Result<Json<StatusBody>, Problem> {
    let count = status.items.len();
    if !(1..=MOST_ITEMS).contains(&count) {
        return Err(Problem::unprocessable(format!(
            "'items' must have 1 to {MOST_ITEMS} items, got {count}"
        )));
    }
    let resources: Vec<Resource> = status
        .items
        .into_iter()
        .enumerate()
        .map(|(index, item)| item.resource(index))
        .collect::<Result<_, _>>()?;
    let read = likes.read_all(user_id, &resources).await?;
    let items = resources.iter().zip(read).map(|(resource, like)| ItemBody {
        resource_type: resource.resource_type,
        resource_id: resource.id,
        liked: like.liked,
        like_count: like.like_count,
    });
    Ok(Json(StatusBody {
        user_id,
        items: items.collect(),
    }))
}

impl Item {
    fn resource(self, index: usize) -> Result<Resource, Problem> {
        if self.resource_id > 0 {
            return Ok(Resource {
                resource_type: self.resource_type,
                id: self.resource_id,
            });
        }
        Err(Problem::unprocessable(format!(
            "items[{index}].resource_id must be a number from 1 on, got {}",
            self.resource_id
        )))
    }
}
