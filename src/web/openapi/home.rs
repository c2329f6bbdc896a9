//! `GET /`: a page that leads to the others.

use actix_web::HttpResponse;
use actix_web::http::header;

const PAGE: &str = concat!(
    "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Likewise</title>\n<h1>Likewise ",
    env!("CARGO_PKG_VERSION"),
    r#"</h1>
<ul>
<li><a href="docs">/docs</a> shows the API and sends requests
<li><a href="openapi.json">/openapi.json</a> is its OpenAPI document
<li><a href="readyz">/readyz</a> reports whether likes can be accepted now
<li><a href="metrics">/metrics</a> has the metrics
</ul>
</html>
"#
);

/// The content security policy: the page loads nothing.
const POLICY: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A page with links to the documentation, readiness and metrics.
#[utoipa::path(
    get,
    path = "/",
    tag = "documentation",
    operation_id = "home",
    responses((status = 200, body = String, content_type = "text/html; charset=utf-8"))
)]
pub(super) async fn show() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .body(PAGE)
}
