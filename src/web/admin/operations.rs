//! `/admin/operations`: what operators did.

use actix_web::HttpRequest;
use actix_web::web::{Data, Json};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::{AdminService, OperationReport};
use crate::domain::{OperationTarget, OperatorAction};
use crate::store::OperationFilter;
use crate::web::cursor::{self, After};
use crate::web::parameters::{number, query};
use crate::web::problem::{Code, Problem};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Only operations of this kind.
    #[param(nullable = false, inline)]
    action: Option<OperatorAction>,
    /// Only operations on this kind of target.
    #[param(nullable = false, inline)]
    target_type: Option<OperationTarget>,
    /// Only operations on the target with this name or id.
    #[param(nullable = false, max_length = 255)]
    target: Option<String>,
    /// Only operations of this operator.
    #[param(nullable = false, max_length = 255)]
    operator: Option<String>,
    /// Only operations on actors of the process with this id.
    #[param(nullable = false, max_length = 64)]
    process: Option<String>,
    /// How many at the most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    #[serde(default, deserialize_with = "number")]
    limit: Option<usize>,
    /// Where the page begins: `next_cursor` of the page before.
    cursor: Option<String>,
}

/// What operators did, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OperationPage)]
pub(super) struct Operations {
    operations: Vec<OperationReport>,
    /// The cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// What operators did, newest first, page by page.
///
/// Each pause, resume and restart of an actor, each job, each retry, discard and republication, with the operator, the
/// target, the time and the result.
#[utoipa::path(
    get,
    path = "/admin/operations",
    tag = "admin",
    operation_id = "list_operations",
    params(Which),
    responses((status = 200, body = Operations), (status = 400))
)]
pub(super) async fn list(
    admin: Data<AdminService>,
    request: HttpRequest,
) -> Result<Json<Operations>, Problem> {
    let which: Which = query(&request)?;
    let limit = cursor::limit(which.limit, 50, 200)?;
    let after: Option<After> = cursor::read(which.cursor.as_deref())?;
    for (name, text, most) in [
        ("target", &which.target, 255),
        ("operator", &which.operator, 255),
        ("process", &which.process, 64),
    ] {
        let is_name = |text: &String| text.chars().count() <= most && !text.contains('\0');
        if !text.as_ref().is_none_or(is_name) {
            let detail = format!("'{name}' must have at most {most} characters, and not NUL");
            return Err(Problem::new(Code::InvalidParameter, detail));
        }
    }
    // Not every database compares a column of ASCII with any text.
    if which.process.as_ref().is_some_and(|id| !id.is_ascii()) {
        let detail = "'process' must be ASCII";
        return Err(Problem::new(Code::InvalidParameter, detail));
    }
    let filter = OperationFilter {
        action: which.action,
        target_type: which.target_type,
        target: which.target,
        operator: which.operator,
        process: which.process,
    };
    let mut operations = admin
        .operations(&filter, after.map(Into::into), limit + 1)
        .await?;
    let more = operations.len() > limit;
    operations.truncate(limit);
    let next_cursor = operations.last().filter(|_| more).map(|last| {
        cursor::write(&After {
            at: last.created_at,
            id: last.id,
        })
    });
    Ok(Json(Operations {
        operations,
        next_cursor,
    }))
}
