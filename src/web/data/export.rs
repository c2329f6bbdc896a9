//! `GET /v1/users/{id}/export`: streams everything that is held of a user, page by page, so that memory stays bounded.

use std::io;
use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::web::{Bytes, Data};
use futures_util::stream;
use serde_json::json;

use crate::admin::{AdminError, AdminService};
use crate::domain::UserId;
use crate::store::{ExportCursor, ExportPage, StoreError};
use crate::web::auth::DataOwner;
use crate::web::problem::Problem;

/// The media type of JSON lines, as one of text, which generators of clients support.
const JSON_LINES: &str = "text/x-ndjson";

/// Streams everything that is held of a user, as JSON lines.
///
/// Each line is an object whose `kind` is `behavior`, `ledger_row`, `history_entry`, `like`, `idempotency_key`,
/// `quarantined_message`, `fact`, `job` or, on the last line, `end`. Without a line `end`, the export is incomplete.
#[utoipa::path(
    get,
    path = "/v1/users/{id}/export",
    tag = "data",
    operation_id = "export_user",
    params((
        "id" = String,
        Path,
        description = "The user's id; or `me`, the user of the token or of `X-User-Id`",
        pattern = "^(me|[1-9][0-9]{0,17})$"
    )),
    responses(
        (status = 200, content_type = "text/x-ndjson", body = String),
        (status = 400),
        (status = 410)
    ),
    security(("owner" = []))
)]
pub(in crate::web) async fn export(
    admin: Data<AdminService>,
    DataOwner(user_id): DataOwner,
) -> Result<HttpResponse, Problem> {
    // Before the answer begins, so that an unavailable database is a problem.
    let first = page(&admin, user_id.clone(), ExportCursor::start())
        .await
        .map_err(|error| Problem::from(AdminError::from(error)))?;
    let pages = stream::try_unfold(
        Some((admin, user_id, first, 0_u64)),
        async |state| -> Result<_, io::Error> {
            let Some((admin, user_id, found, lines)) = state else {
                return Ok(None);
            };
            let lines = lines + found.lines.len() as u64;
            let mut body = String::new();
            for line in &found.lines {
                body.push_str(&line.to_string());
                body.push('\n');
            }
            let next = match found.next {
                Some(at) => {
                    let found = page(&admin, user_id.clone(), at).await;
                    let found = found.map_err(io::Error::other)?;
                    Some((admin, user_id, found, lines))
                }
                None => {
                    let end = json!({"kind": "end", "lines": lines});
                    body.push_str(&format!("{end}\n"));
                    None
                }
            };
            Ok(Some((Bytes::from(body), next)))
        },
    );
    Ok(HttpResponse::Ok()
        .content_type(JSON_LINES)
        .streaming(Box::pin(pages)))
}

async fn page(
    admin: &AdminService,
    user_id: UserId,
    at: ExportCursor,
) -> Result<ExportPage, StoreError> {
    // A task of its own ends its query when the client has disconnected. Pages may take longer than other reads.
    let store = Arc::clone(&admin.dependencies.store);
    let reading = actix_web::rt::spawn(async move { store.export(&user_id, &at).await });
    let read = reading.await;
    read.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
}
