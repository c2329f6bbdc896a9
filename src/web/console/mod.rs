//! The web pages: `/`, on which to like something, and `/admin`, the console. Both are built from `console/` and part of
//! the program; they load nothing from elsewhere, and everything that they show comes from the API. `about.rs` says what
//! they know before their first request.

mod about;

use std::hash::{DefaultHasher, Hash, Hasher};

use actix_web::http::header::{self, ETag, EntityTag, Header, IfNoneMatch};
use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use utoipa::OpenApi;

pub(super) use about::About;

use super::methods::{get, only_get};
use super::problem::{Code, Problem};

/// Its operations, for the OpenAPI document.
#[derive(OpenApi)]
#[openapi(
    tags((name = "pages", description = "Web pages.")),
    paths(home, admin, admin_with_slash, console, console_with_slash, file)
)]
pub(super) struct Document;

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(only_get("/", get().to(home)))
        .service(only_get("/admin", get().to(admin)))
        .service(only_get("/admin/", get().to(admin_with_slash)))
        .service(only_get("/console", get().to(console)))
        .service(only_get("/console/", get().to(console_with_slash)))
        .service(only_get("/console/{file}", get().to(file)));
}

/// The content security policy: a page loads its own files and calls its own service. Scripts set styles only through
/// the object model, which the policy allows.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// What a page's HTML has in place of what it knows.
const ABOUT: &str = "{about}";

macro_rules! built {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/console/dist/", $name))
    };
}

/// The files that the pages load: name, media type and content.
const FILES: [(&str, &str, &str); 4] = [
    ("home.js", SCRIPT, built!("home.js")),
    ("admin.js", SCRIPT, built!("admin.js")),
    (
        "console.css",
        "text/css; charset=utf-8",
        built!("console.css"),
    ),
    ("icon.svg", "image/svg+xml", built!("icon.svg")),
];

/// What the pages of a process consist of.
#[derive(Debug)]
pub(super) struct Pages {
    home: String,
    admin: String,
    /// A file's tag changes with its content, so browsers ask for a file once a version.
    tags: [EntityTag; FILES.len()],
}

impl Pages {
    /// The pages of a process.
    pub(super) fn new(about: &About) -> Self {
        let about = about.attribute();
        Self {
            home: built!("home.html").replace(ABOUT, &about),
            admin: built!("admin.html").replace(ABOUT, &about),
            tags: FILES.map(|(_, _, content)| {
                let mut hasher = DefaultHasher::new();
                content.hash(&mut hasher);
                EntityTag::new_strong(format!("{:016x}", hasher.finish()))
            }),
        }
    }
}

/// The front page: a few videos to like, and the last like as it travels through the service.
#[utoipa::path(
    get,
    path = "/",
    tag = "pages",
    operation_id = "home",
    responses((status = 200, body = String, content_type = HTML))
)]
async fn home(pages: Data<Pages>) -> HttpResponse {
    page(&pages.home)
}

/// The console for operators.
///
/// The page itself is open, since it has no data; its requests to the paths below need what these need.
#[utoipa::path(
    get,
    path = "/admin",
    tag = "pages",
    operation_id = "console",
    responses((status = 200, body = String, content_type = HTML))
)]
async fn admin(pages: Data<Pages>) -> HttpResponse {
    page(&pages.admin)
}

/// Leads to the console, whose files have paths relative to `/admin`.
#[utoipa::path(
    get,
    path = "/admin/",
    tag = "pages",
    operation_id = "admin_with_slash",
    responses((status = 308, description = "The console is at /admin"))
)]
async fn admin_with_slash() -> HttpResponse {
    moved("../admin")
}

/// Leads to the console.
#[utoipa::path(
    get,
    path = "/console",
    tag = "pages",
    operation_id = "console_by_name",
    responses((status = 308, description = "The console is at /admin"))
)]
async fn console() -> HttpResponse {
    moved("admin")
}

/// Leads to the console.
#[utoipa::path(
    get,
    path = "/console/",
    tag = "pages",
    operation_id = "console_by_name_with_slash",
    responses((status = 308, description = "The console is at /admin"))
)]
async fn console_with_slash() -> HttpResponse {
    moved("../admin")
}

/// Redirects to a path relative to that of the request, because a gateway may serve everything below a prefix.
fn moved(to: &'static str) -> HttpResponse {
    HttpResponse::PermanentRedirect()
        .insert_header((header::LOCATION, to))
        .finish()
}

fn page(html: &str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(HTML)
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(html.to_owned())
}

/// A file of these pages.
#[utoipa::path(
    get,
    path = "/console/{file}",
    tag = "pages",
    operation_id = "console_file",
    params(("file" = String, Path, description = "The file's name", example = "console.css")),
    responses(
        (
            status = 200,
            content((String = SCRIPT), (String = "text/css; charset=utf-8"), (String = "image/svg+xml"))
        ),
        (status = 304, description = "The browser has this file"),
        (status = 404)
    )
)]
async fn file(
    pages: Data<Pages>,
    name: Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let mut files = FILES.iter().zip(&pages.tags);
    let found = files.find(|((file, ..), _)| *file == *name);
    let Some(((_, content_type, content), tag)) = found else {
        return Err(Problem::new(Code::Absent, "the pages have no such file"));
    };
    let is_known = match IfNoneMatch::parse(&request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(tag)),
        Err(_) => false,
    };
    let mut answer = if is_known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    answer
        .insert_header(ETag(tag.clone()))
        .insert_header((header::CACHE_CONTROL, "no-cache"));
    if is_known {
        return Ok(answer.finish());
    }
    Ok(answer.content_type(*content_type).body(*content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_load_only_files_that_are_there() {
        for html in [built!("home.html"), built!("admin.html")] {
            assert!(html.contains(ABOUT), "{html}");
            let loaded: Vec<_> = html.split("\"console/").skip(1).collect();
            assert_eq!(loaded.len(), 3, "{html}");
            for rest in loaded {
                let name = rest.split('"').next().unwrap_or_default();
                assert!(FILES.iter().any(|(file, ..)| *file == name), "{name}");
            }
            assert!(
                !html.contains("<style") && !html.contains("style="),
                "{html}"
            );
        }
    }
}
