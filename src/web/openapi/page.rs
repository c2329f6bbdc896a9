//! `GET /docs`: the document as a web page on which to try requests out. All files are part of this program; the
//! page may load nothing from elsewhere.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::Path;
use utoipa_swagger_ui::{Config, SwaggerFile, serve};

use crate::web::problem::{Code, Problem};

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");

/// The files of Swagger UI that the page loads.
const FILES: [&str; 3] = [
    "swagger-ui-bundle.js",
    "swagger-ui.css",
    "favicon-32x32.png",
];

/// The content security policy: the page may load its own files, and use the inline styles of Swagger UI.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// This document as a web page, which loads nothing from elsewhere.
#[utoipa::path(
    get,
    path = "/docs",
    tag = "documentation",
    operation_id = "docs",
    responses((status = 200, body = String, content_type = "text/html; charset=utf-8"))
)]
pub(super) async fn show() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(PAGE)
}

/// A file of that page.
#[utoipa::path(
    get,
    path = "/docs/{file}",
    tag = "documentation",
    operation_id = "docs_file",
    params(("file" = String, Path, description = "The file's name", example = "page.js")),
    responses(
        (
            status = 200,
            content(
                (String = "text/javascript"),
                (String = "text/css"),
                (Vec<u8> = "image/png")
            )
        ),
        (status = 404)
    )
)]
pub(super) async fn asset(file: Path<String>) -> Result<HttpResponse, Problem> {
    let absent = || Problem::new(Code::Absent, "the page has no such file");
    let mut answer = HttpResponse::Ok();
    answer
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::CACHE_CONTROL, "no-cache"));
    if *file == "page.js" {
        return Ok(answer.content_type("text/javascript").body(SCRIPT));
    }
    if !FILES.contains(&file.as_str()) {
        return Err(absent());
    }
    let found = serve(&file, Arc::new(Config::from("openapi.json")));
    let found = found.map_err(|error| Problem::internal(error.to_string()))?;
    let SwaggerFile {
        bytes,
        content_type,
        ..
    } = found.ok_or_else(absent)?;
    Ok(answer.content_type(content_type).body(bytes.into_owned()))
}
