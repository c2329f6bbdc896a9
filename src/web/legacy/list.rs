//! `GET /v1/action/list`: lists the videos that a user likes, by page number.

use actix_web::HttpRequest;
use actix_web::web::{Data, Json};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::envelope::Envelope;
use crate::domain::ResourceType;
use crate::likes::Likes;
use crate::web::auth::User;
use crate::web::moment::micros;
use crate::web::parameters::{number, query};
use crate::web::problem::{Code, Problem};

/// The most videos of a page.
const MOST: usize = 100;

/// The default number of videos of a page.
const PAGE_SIZE: usize = 20;

/// The most videos to skip: the database counts them one by one.
const DEEPEST: usize = 10_000;

/// The page. Other parameters are ignored.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::web) struct PageNumber {
    /// The number of the page; 10,000 videos can be skipped.
    #[param(minimum = 1, default = 1)]
    #[serde(default, deserialize_with = "number")]
    page_num: Option<usize>,
    /// The number of videos of a page.
    #[param(minimum = 1, maximum = 100, default = 20)]
    #[serde(default, deserialize_with = "number")]
    page_size: Option<usize>,
}

/// The videos that a user likes, the newest like first.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct ActionList {
    items: Vec<ActionItem>,
    /// The number of videos that the user likes.
    total: i64,
    page_num: usize,
    page_size: usize,
}

/// A video that the user likes.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct ActionItem {
    video_id: i64,
    #[serde(serialize_with = "micros")]
    liked_at: DateTime<Utc>,
}

/// Lists the videos that the user likes, the newest like first.
#[utoipa::path(
    get,
    path = "/v1/action/list",
    tag = "action",
    operation_id = "action_list",
    params(PageNumber),
    responses((status = 200, body = Envelope<ActionList>), (status = 400), (status = 410))
)]
pub(in crate::web) async fn list(
    likes: Data<Likes>,
    User(user_id): User,
    request: HttpRequest,
) -> Result<Json<Envelope<ActionList>>, Problem> {
    let page: PageNumber = query(&request)?;
    let page_num = page.page_num.unwrap_or(1);
    let page_size = page.page_size.unwrap_or(PAGE_SIZE);
    if page_num == 0 || !(1..=MOST).contains(&page_size) {
        let detail = format!(
            "'page_num' must be 1 or more and 'page_size' from 1 to {MOST}, got {page_num} and \
             {page_size}"
        );
        return Err(Problem::new(Code::InvalidParameter, detail));
    }
    let skipped = (page_num - 1).saturating_mul(page_size);
    if skipped > DEEPEST {
        let detail =
            format!("pages can skip {DEEPEST} videos; use /v1/users/me/likes for the rest");
        return Err(Problem::new(Code::InvalidParameter, detail));
    }
    let served = likes.resource_types().served(ResourceType::VIDEO);
    served.map_err(|error| Problem::new(Code::InvalidParameter, error.to_string()))?;
    let (liked, total) = likes
        .liked_page(user_id, ResourceType::VIDEO, skipped, page_size)
        .await?;
    let items = liked.iter().filter_map(|like| {
        Some(ActionItem {
            video_id: like.resource.id.number()?,
            liked_at: like.since.moment(),
        })
    });
    Ok(Json(Envelope::of(ActionList {
        items: items.collect(),
        total,
        page_num,
        page_size,
    })))
}
