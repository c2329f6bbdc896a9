//! `/admin/history`: what the deployment did lately.

use actix_web::HttpRequest;
use actix_web::web::{Data, Json};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::admin::{AdminError, AdminService, History};
use crate::web::parameters::{number, query, time};
use crate::web::problem::{Code, Problem};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// The start, within the last 24 hours; by default an hour ago.
    #[param(nullable = false)]
    #[serde(default, deserialize_with = "time")]
    since: Option<DateTime<Utc>>,
    /// The length of each point in seconds, a multiple of ten; by default the least one that makes at most 360 points.
    #[param(nullable = false, minimum = 10, maximum = 3600)]
    #[serde(default, deserialize_with = "number")]
    step: Option<i64>,
}

/// Throughput, times from acceptance to completion, ledger and consumer lag of the last hour, for charts.
///
/// Every process writes its part every ten seconds to the database, where it is kept for a day, so the history survives
/// restarts. A point without data has null figures.
#[utoipa::path(
    get,
    path = "/admin/history",
    tag = "admin",
    operation_id = "show_history",
    params(Which),
    responses((status = 200, body = History), (status = 400))
)]
pub(super) async fn show(
    admin: Data<AdminService>,
    request: HttpRequest,
) -> Result<Json<History>, Problem> {
    let which: Which = query(&request)?;
    match admin.history(which.since, which.step).await {
        Ok(history) => Ok(Json(history)),
        Err(AdminError::Invalid(detail)) => Err(Problem::new(Code::InvalidParameter, detail)),
        Err(error) => Err(error.into()),
    }
}
