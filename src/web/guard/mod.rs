//! What web pages may do, and for which hosts this service answers: see
//! `docs/adr/0026-pages-and-gateways.md`. The rules are in the files beside this one; the middleware here
//! applies them before limits are counted and tokens are looked at.

mod host;
mod origin;
pub(super) mod proxy;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName};
use actix_web::http::uri::Authority;
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{HttpRequest, ResponseError};

pub use host::HostName;

use self::host::{Host, is_served};
use self::origin::Sender;
use super::{Context, Problem};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What is refused before a request is looked at any further.
#[derive(Debug, Clone)]
pub struct Guard {
    /// The hosts that this service answers for, beside loopback names; `None` if it answers for all.
    hosts: Option<Vec<HostName>>,
    /// The origins whose pages may call.
    origins: Vec<String>,
    /// Whether reads of pages of other sites are refused too: where users sign in, a page has no token.
    reads: bool,
}

impl Guard {
    /// The guard of a service that answers for these hosts, and for pages of these origins. With
    /// `sign_in` tokens protect what is read, and hosts are checked only if there are any.
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
        // A client may name the host in the first line, too.
        let named = request.uri().authority().map(Authority::as_str);
        self.check_host(host.map_err(|()| "more than one"))?;
        self.check_host(Ok(named))?;
        if self.is_closed_to_pages(request) {
            let host = named.or_else(|| host.ok().flatten()).and_then(Host::parse);
            let sender = Sender {
                site: single(headers, &SEC_FETCH_SITE).unwrap_or(Some("more than one")),
                origin: single(headers, &header::ORIGIN).unwrap_or(Some("more than one")),
            };
            if sender.is_foreign(host, &self.origins) {
                return Err(Problem::cross_site());
            }
        }
        // What no route takes is refused for that.
        let is_taken = matches!(
            *request.method(),
            Method::GET | Method::PUT | Method::POST | Method::DELETE
        );
        if is_taken && has_body(headers) && !is_json(headers) {
            return Err(Problem::unsupported_media_type());
        }
        Ok(())
    }

    /// Refuses a host that this service does not answer for. A request without any is no page's.
    fn check_host(&self, text: Result<Option<&str>, &str>) -> Result<(), Problem> {
        let Some(configured) = &self.hosts else {
            return Ok(());
        };
        let host = match text {
            Ok(None) => return Ok(()),
            Ok(Some(text)) => Host::parse(text).ok_or(text),
            Err(text) => Err(text),
        };
        match host {
            Ok(host) if is_served(host, configured) => Ok(()),
            Ok(host) => Err(Problem::host_not_allowed(host.name)),
            Err(text) => Err(Problem::host_not_allowed(text)),
        }
    }

    /// Whether this is refused to pages of other sites. `OPTIONS` asks whether a page may call, and gets
    /// nothing else.
    fn is_closed_to_pages(&self, request: &HttpRequest) -> bool {
        match *request.method() {
            Method::OPTIONS => false,
            Method::GET | Method::HEAD => self.reads && !is_public(request.path()),
            _ => true,
        }
    }
}

/// Whether everybody may read what is at this path: documentation, and whether the service is up.
fn is_public(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/openapi.json" | "/docs") || path.starts_with("/docs/")
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

/// Whether the body is said to be JSON. A page of another site cannot say that without being asked for
/// permission first (a CORS preflight), as it can of a form or plain text.
fn is_json(headers: &HeaderMap) -> bool {
    let Ok(Some(text)) = single(headers, &header::CONTENT_TYPE) else {
        return false;
    };
    let essence = text.split(';').next().unwrap_or_default().trim();
    let Some((kind, subtype)) = essence.split_once('/') else {
        return false;
    };
    let subtype = subtype.to_ascii_lowercase();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
    kind.eq_ignore_ascii_case("application")
        && subtype.bytes().all(plain)
        && (subtype == "json"
            || subtype
                .strip_suffix("+json")
                .is_some_and(|name| !name.is_empty()))
}

/// Refuses what a page of another site sends, what is for another host, and bodies that are not JSON.
///
/// # Errors
/// Those of what it calls.
pub async fn guard<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let checked = {
        let request = request.request();
        Context::of(request).and_then(|context| context.guard.check(request))
    };
    match checked {
        Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
        Err(problem) => Ok(request
            .into_response(problem.error_response())
            .map_into_right_body()),
    }
}

impl Problem {
    fn host_not_allowed(found: &str) -> Self {
        Self::new(
            StatusCode::MISDIRECTED_REQUEST,
            "host_not_allowed",
            "Host not allowed",
            format!(
                "this service does not answer for the host '{found:.40}', only for localhost and \
                 loopback addresses and the names in LIKEWISE_HTTP_HOSTS; add the name there if it is \
                 yours"
            ),
        )
    }

    fn cross_site() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "cross_site",
            "Cross-site request refused",
            "a web page of another origin sent this request; if that page may call, add its origin to \
             LIKEWISE_CORS_ORIGINS",
        )
    }

    fn unsupported_media_type() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "Unsupported media type",
            "a body must be JSON; send it with the header 'Content-Type: application/json'",
        )
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
    fn documentation_and_health_are_public() {
        for path in [
            "/docs",
            "/docs/page.js",
            "/openapi.json",
            "/healthz",
            "/readyz",
        ] {
            assert!(is_public(path), "{path}");
        }
        for path in [
            "/",
            "/metrics",
            "/admin/actors",
            "/docsx",
            "/v1/videos/top",
            "/healthz/",
        ] {
            assert!(!is_public(path), "{path}");
        }
    }
}
