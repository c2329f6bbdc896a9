//! `GET /v1/action/list`

use actix_web::HttpRequest;
use actix_web::web::{Data, Json};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::envelope::Envelope;
use crate::domain::ResourceType;
use crate::likes::Likes;
use crate::web::Problem;
use crate::web::extract::{Reader, query};
use crate::web::moment::micros;

/// The most videos on a page.
const MOST: usize = 100;

/// The videos on a page if it is not said how many.
const PAGE_SIZE: usize = 20;

/// How many videos are passed over at the most: the database counts them one by one.
const DEEPEST: usize = 10_000;

/// Which page; the first is 1. Other parameters do not matter.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::web) struct PageNumber {
    /// Which page. They go 10,000 videos deep.
    #[param(minimum = 1, default = 1)]
    page_num: Option<usize>,
    /// How many videos a page has.
    #[param(minimum = 1, maximum = 100, default = 20)]
    page_size: Option<usize>,
}

/// The videos that a user likes, the newest like first.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct ActionList {
    items: Vec<ActionItem>,
    /// How many videos the user likes.
    total: i64,
    page_num: usize,
    page_size: usize,
}

/// One of them.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct ActionItem {
    video_id: i64,
    #[serde(serialize_with = "micros")]
    liked_at: DateTime<Utc>,
}

/// The videos that the user likes, the newest like first.
#[utoipa::path(
    get,
    path = "/v1/action/list",
    tag = "action",
    operation_id = "action_list",
    params(PageNumber),
    responses((status = 200, body = Envelope<ActionList>), (status = 400))
)]
pub(in crate::web) async fn list(
    likes: Data<Likes>,
    Reader(user_id): Reader,
    request: HttpRequest,
) -> Result<Json<Envelope<ActionList>>, Problem> {
    let page: PageNumber = query(&request)?;
    let page_num = page.page_num.unwrap_or(1);
    let page_size = page.page_size.unwrap_or(PAGE_SIZE);
    if page_num == 0 || !(1..=MOST).contains(&page_size) {
        return Err(Problem::invalid_parameter(format!(
            "'page_num' must be from 1 on and 'page_size' from 1 to {MOST}, got {page_num} and \
             {page_size}"
        )));
    }
    let passed = (page_num - 1).saturating_mul(page_size);
    if passed > DEEPEST {
        return Err(Problem::invalid_parameter(format!(
            "pages go {DEEPEST} videos deep; /v1/users/me/likes goes on from there"
        )));
    }
    let (liked, total) = likes
        .liked_page(user_id, ResourceType::Video, passed, page_size)
        .await?;
    let items = liked.iter().map(|like| ActionItem {
        video_id: like.resource.id,
        liked_at: like.version.moment(),
    });
    Ok(Json(Envelope::of(ActionList {
        items: items.collect(),
        total,
        page_num,
        page_size,
    })))
}
