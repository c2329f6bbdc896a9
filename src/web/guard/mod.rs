//! Refuses requests of foreign web pages, requests for other hosts, and bodies that are not JSON; see
//! `docs/adr/0026-pages-and-gateways.md`. The middleware here applies the rules of `host.rs` and `origin.rs` before
//! rate limits and sign-in.

mod origin;
pub(super) mod proxy;

use actix_web::HttpRequest;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderName};
use actix_web::http::uri::Authority;
use actix_web::middleware::Next;

use self::origin::Sender;
use super::app_data::shared;
use super::problem::{Code, Problem};
use crate::config::{Host, HostName, is_served};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The rules of this process.
#[derive(Debug, Clone)]
pub struct Guard {
    /// The hosts that this service serves, besides loopback names; `None` if it serves all.
    hosts: Option<Vec<HostName>>,
    /// The origins whose pages may call.
    origins: Vec<String>,
    /// Whether foreign pages may not read either. In mode `jwt` they have no token to read with.
    reads: bool,
}

impl Guard {
    /// The rules of a service with these hosts and origins. With `sign_in`, tokens protect reads, and hosts are
    /// checked only if some are configured.
    #[must_use]
    pub fn new(hosts: &[HostName], origins: &[String], sign_in: bool) -> Self {
        Self {
            hosts: (!sign_in || !hosts.is_empty()).then(|| hosts.to_vec()),
            origins: origins.to_vec(),
            reads: !sign_in,
        }
    }

    fn check(&self, request: &HttpRequest) -> Result<(), Problem> {
        let headers = request.headers();
        let host = single(headers, &header::HOST);
        // The request line may name the host too.
        let named = request.uri().authority().map(Authority::as_str);
        self.check_host(host.map_err(|()| "more than one"))?;
        self.check_host(Ok(named))?;
        if self.is_closed_to_pages(request) {
            let host = named.or_else(|| host.ok().flatten());
            let sender = Sender {
                site: single(headers, &SEC_FETCH_SITE).unwrap_or(Some("more than one")),
                origin: single(headers, &header::ORIGIN).unwrap_or(Some("more than one")),
            };
            if sender.is_foreign(host, &self.origins) {
                return Err(Problem::new(
                    Code::CrossSite,
                    "a web page of another origin sent this request; to allow that page, add its origin to \
                     LIKEWISE_CORS_ORIGINS",
                ));
            }
        }
        // No route supports other methods, which is the better answer.
        let is_supported = matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::PUT | Method::POST | Method::DELETE
        );
        if is_supported && has_body(headers) && !is_json(headers) {
            return Err(Problem::new(
                Code::UnsupportedMediaType,
                "a body must be JSON; send it with the header 'Content-Type: application/json'",
            ));
        }
        Ok(())
    }

    /// Refuses a host that this service does not serve. No web page sends a request without a host.
    fn check_host(&self, text: Result<Option<&str>, &str>) -> Result<(), Problem> {
        let Some(configured) = &self.hosts else {
            return Ok(());
        };
        let found = match text {
            Ok(None) => return Ok(()),
            Ok(Some(text)) => match Host::parse(text) {
                Some(host) if is_served(host, configured) => return Ok(()),
                Some(host) => host.name,
                None => text,
            },
            Err(text) => text,
        };
        let detail = format!(
            "this service does not serve the host '{found:.40}', only localhost, loopback addresses and the \
             names in LIKEWISE_HTTP_HOSTS; if the name is yours, add it there"
        );
        Err(Problem::new(Code::HostNotAllowed, detail))
    }

    /// Whether foreign pages may not send this request. `OPTIONS` reveals only whether a page may call.
    fn is_closed_to_pages(&self, request: &HttpRequest) -> bool {
        match *request.method() {
            Method::OPTIONS => false,
            Method::GET | Method::HEAD => self.reads && !is_public(request.path()),
            _ => true,
        }
    }
}

/// Whether the path is public: documentation, health, and the pages themselves, which have no data.
fn is_public(path: &str) -> bool {
    matches!(
        path,
        "/" | "/admin"
            | "/admin/"
            | "/console"
            | "/healthz"
            | "/readyz"
            | "/openapi.json"
            | "/docs"
    ) || path.starts_with("/docs/")
        || path.starts_with("/console/")
}

/// The value of a header that may be there once; an error if it is there more often, or is no text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(drop),
        (Some(_), Some(_)) => Err(()),
    }
}

fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    length.is_some_and(|length| length != "0") || headers.contains_key(header::TRANSFER_ENCODING)
}

/// Whether the `Content-Type` is JSON. A foreign page needs permission (a CORS preflight) to send it, but not to
/// send a form or plain text.
fn is_json(headers: &HeaderMap) -> bool {
    let Ok(Some(text)) = single(headers, &header::CONTENT_TYPE) else {
        return false;
    };
    let essence = text.split(';').next().unwrap_or_default().trim();
    let Some((kind, subtype)) = essence.split_once('/') else {
        return false;
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
    let is_json = |word: &str| word.eq_ignore_ascii_case("json");
    kind.eq_ignore_ascii_case("application")
        && subtype.bytes().all(plain)
        && match subtype.rsplit_once('+') {
            Some((name, suffix)) => !name.is_empty() && is_json(suffix),
            None => is_json(subtype),
        }
}

/// Refuses requests of foreign pages, requests for other hosts, and bodies that are not JSON.
///
/// # Errors
/// Those of the inner service.
pub async fn guard<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let checked = {
        let request = request.request();
        shared::<Guard>(request).and_then(|guard| guard.check(request))
    };
    match checked {
        Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
        Err(problem) => Ok(request.error_response(problem).map_into_right_body()),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn only_json_media_types_are_json() {
        let is_json = |text: &str| {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_str(text).expect("a header");
            headers.insert(header::CONTENT_TYPE, value);
            super::is_json(&headers)
        };
        for json in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/json;charset=UTF-8;q=1",
            "application/merge-patch+json",
            "application/a+b+JSON",
            "application/problem+json ; x=y",
        ] {
            assert!(is_json(json), "{json}");
        }
        for other in [
            "",
            "json",
            "text/plain",
            "text/plain; application/json",
            "text/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=application/json",
            "application/jsonp",
            "application/+json",
            "application/json, text/plain",
            "text/plain, application/json",
        ] {
            assert!(!is_json(other), "{other}");
        }
        assert!(!super::is_json(&HeaderMap::new()));
    }

    #[test]
    fn documentation_health_and_pages_are_public() {
        for path in [
            "/",
            "/admin",
            "/admin/",
            "/console",
            "/console/",
            "/console/admin.js",
            "/docs",
            "/docs/page.js",
            "/openapi.json",
            "/healthz",
            "/readyz",
        ] {
            assert!(is_public(path), "{path}");
        }
        for path in [
            "//",
            "/metrics",
            "/admin/actors",
            "/admin/session",
            "/consoles",
            "/docsx",
            "/v1/videos/top",
            "/healthz/",
        ] {
            assert!(!is_public(path), "{path}");
        }
    }
}
