//! Whether a request came through a proxy. Mode `none` trusts every caller on loopback, and a proxy on the machine
//! would make every remote client such a caller.

use actix_web::http::Version;
use actix_web::http::header::{HeaderMap, HeaderName};

/// The headers of proxies, besides those that begin with `x-forwarded-`.
const HEADERS: [&str; 8] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "true-client-ip",
    "cf-connecting-ip",
];

/// The header that reveals a proxy, or HTTP/1.0: clients no longer speak it, and nginx does to its upstreams by
/// default.
pub(in crate::web) fn sign(version: Version, headers: &HeaderMap) -> Option<&'static str> {
    let of_header = |name: &str| match name {
        "x-forwarded-for" => Some("X-Forwarded-For"),
        name if name.starts_with("x-forwarded-") => Some("X-Forwarded-..."),
        name => HEADERS.into_iter().find(|header| *header == name),
    };
    let mut names = headers.keys().map(HeaderName::as_str);
    let old = (version < Version::HTTP_11).then_some("HTTP/1.0");
    names.find_map(of_header).or(old)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn of(version: Version, names: &[&'static str]) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        for name in names {
            let value = HeaderValue::from_static("anything");
            headers.append(HeaderName::from_static(name), value);
        }
        sign(version, &headers)
    }

    #[test]
    fn proxy_is_detected_by_headers_or_http_version() {
        for header in [
            "forwarded",
            "via",
            "x-real-ip",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-forwarded-port",
            "cf-connecting-ip",
        ] {
            let found = of(Version::HTTP_11, &["host", "x-user-id", header]);
            assert!(found.is_some(), "{header}");
        }
        assert_eq!(of(Version::HTTP_10, &["host"]), Some("HTTP/1.0"));
        let direct = ["host", "user-agent", "accept", "x-user-id", "x-operator"];
        assert_eq!(of(Version::HTTP_11, &direct), None);
    }
}
