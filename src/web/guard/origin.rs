//! Whether a foreign web page sent a request, by the headers that browsers set and pages cannot.

use crate::config::Host;

/// The headers about the page that sent a request.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sender<'a> {
    /// `Sec-Fetch-Site`.
    pub(super) site: Option<&'a str>,
    /// `Origin`.
    pub(super) origin: Option<&'a str>,
}

impl Sender<'_> {
    /// Whether a page of another origin sent the request, and the origin is not allowed. Clients that are no
    /// browsers send neither header. `host` is the host of the request, which is parsed only if it decides.
    pub(super) fn is_foreign(self, host: Option<&str>, allowed: &[String]) -> bool {
        let is_allowed = |origin: &str| allowed.iter().any(|allowed| allowed == origin);
        match (self.site, self.origin) {
            // The browser has compared the origins; a proxy may have changed the host since.
            (Some("same-origin" | "none"), _) | (None, None) => false,
            (Some(_), None) => true,
            (Some(_), Some(origin)) => !is_allowed(origin),
            (None, Some(origin)) => {
                let host = host.and_then(Host::parse);
                !is_allowed(origin) && !host.is_some_and(|host| is_own(origin, host))
            }
        }
    }
}

/// Whether an origin has this host. Its scheme may be either, since a proxy may terminate TLS.
fn is_own(origin: &str, host: Host<'_>) -> bool {
    let (default, rest) = match origin.split_once("://") {
        Some(("http", rest)) => (80, rest),
        Some(("https", rest)) => (443, rest),
        _ => return false,
    };
    let port = |host: Host<'_>| host.port.unwrap_or(default);
    Host::parse(rest).is_some_and(|origin| origin.is(host.name) && port(origin) == port(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: &str = "https://app.example.com";

    fn is_foreign(site: Option<&str>, origin: Option<&str>, host: &str) -> bool {
        let allowed = [ALLOWED.to_owned()];
        Sender { site, origin }.is_foreign(Some(host), &allowed)
    }

    #[test]
    fn same_origin_and_originless_requests_are_allowed() {
        for (site, origin) in [
            (None, None),
            (Some("none"), None),
            (Some("same-origin"), None),
            (Some("same-origin"), Some("http://127.0.0.1:8080")),
            (None, Some("http://127.0.0.1:8080")),
            (None, Some("https://127.0.0.1:8080")),
            (None, Some(ALLOWED)),
            (Some("cross-site"), Some(ALLOWED)),
            (Some("same-site"), Some(ALLOWED)),
        ] {
            let foreign = is_foreign(site, origin, "127.0.0.1:8080");
            assert!(!foreign, "{site:?} {origin:?}");
        }
    }

    #[test]
    fn cross_origin_requests_are_foreign() {
        for (site, origin) in [
            (Some("cross-site"), None),
            (Some("same-site"), None),
            (Some("something new"), None),
            (Some("cross-site"), Some("null")),
            (Some("cross-site"), Some("https://evil.example.com")),
            (Some("same-site"), Some("http://127.0.0.1:3000")),
            (None, Some("null")),
            (None, Some("")),
            (None, Some("https://evil.example.com")),
            (None, Some("http://127.0.0.1:3000")),
            (None, Some("http://127.0.0.1")),
            (None, Some("http://localhost:8080")),
            (None, Some("ftp://127.0.0.1:8080")),
            (None, Some("https://app.example.com.evil.org")),
            (None, Some("https://app.example.com/")),
        ] {
            let foreign = is_foreign(site, origin, "127.0.0.1:8080");
            assert!(foreign, "{site:?} {origin:?}");
        }
    }

    #[test]
    fn default_port_of_a_scheme_is_optional() {
        for (origin, host) in [
            ("https://likes.example.com", "likes.example.com"),
            ("https://likes.example.com", "Likes.example.com:443"),
            ("http://likes.example.com", "likes.example.com:80"),
            ("http://[::1]:8080", "[0:0::1]:8080"),
        ] {
            assert!(!is_foreign(None, Some(origin), host), "{origin} {host}");
        }
        assert!(is_foreign(None, Some("http://a.example"), "a.example:443"));
    }
}
