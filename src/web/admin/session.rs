//! `GET /admin/session`: who the caller is, and what it may do.

use actix_web::HttpRequest;
use actix_web::web::{Data, Json};
use serde::Serialize;
use utoipa::ToSchema;

use super::faults::FaultInjection;
use crate::web::auth::{Auth, Caller, Scope, caller};
use crate::web::problem::Problem;

/// The caller of `/admin`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Session {
    /// The name in records of what the caller does, unless `X-Operator` adds one.
    operator: String,
    /// The scopes of the caller that concern `/admin`.
    #[schema(example = json!(["admin:read", "admin:operate"]))]
    scopes: Vec<&'static str>,
    /// Whether `/admin` is unauthenticated.
    unauthenticated: bool,
    /// Whether faults may be injected.
    fault_injection: bool,
}

/// Who the caller is, and what it may do.
#[utoipa::path(
    get,
    path = "/admin/session",
    tag = "admin",
    operation_id = "show_session",
    responses((status = 200, body = Session))
)]
pub(super) async fn show(
    auth: Data<Auth>,
    fault_injection: Data<FaultInjection>,
    request: HttpRequest,
) -> Result<Json<Session>, Problem> {
    let caller = caller(&request)?;
    let admin = Scope::ALL.into_iter().filter(|scope| scope.is_admin());
    let allowed = admin.filter(|scope| auth.authorize_admin(&caller, *scope).is_ok());
    Ok(Json(Session {
        operator: caller.name().into_owned(),
        scopes: allowed.map(Scope::as_str).collect(),
        unauthenticated: matches!(caller, Caller::Anonymous),
        fault_injection: fault_injection.0,
    }))
}
