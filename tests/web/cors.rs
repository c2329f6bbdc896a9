//! CORS: web pages that may call from a browser.

use crate::support::http::{Answer, Client};
use crate::support::service::Setup;

const PATH: &str = "/v1/videos/7/like";
const ORIGIN: &str = "https://app.example.com";

fn preflight(client: &Client, origin: &str, method: &str, headers: &str) -> Answer {
    let headers = [
        ("Origin", origin),
        ("Access-Control-Request-Method", method),
        ("Access-Control-Request-Headers", headers),
    ];
    client.send("OPTIONS", PATH, &headers)
}

#[test]
fn no_cross_origin_call_without_configured_origins() {
    let service = Setup::new().start();
    let client = service.client();
    assert_eq!(preflight(&client, ORIGIN, "PUT", "x-user-id").status, 405);
    let answer = client.send("GET", PATH, &[("X-User-Id", "1"), ("Origin", ORIGIN)]);
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (403, "cross_site")
    );
    for answer in [answer, preflight(&client, ORIGIN, "PUT", "x-user-id")] {
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
}

#[test]
fn only_configured_origins_may_call() {
    let service = Setup::new()
        .set(
            "LIKEWISE_CORS_ORIGINS",
            format!("{ORIGIN}, http://localhost:3000"),
        )
        .set("LIKEWISE_RATE_LIMIT_USER", "2/2000")
        .start();
    let client = service.client();
    for origin in [ORIGIN, "http://localhost:3000"] {
        for method in ["PUT", "DELETE", "POST", "GET"] {
            let headers = "authorization, content-type, idempotency-key, x-user-id";
            let answer = preflight(&client, origin, method, headers);
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
            let allowed = answer
                .header("access-control-allow-methods")
                .expect("methods");
            assert!(allowed.contains(method), "{allowed}");
            assert_eq!(answer.header("access-control-allow-credentials"), None);
        }
    }
    for (origin, method, headers) in [
        ("https://evil.example.com", "PUT", "x-user-id"),
        ("https://app.example.com.evil.org", "PUT", "x-user-id"),
        ("null", "PUT", "x-user-id"),
        (ORIGIN, "PATCH", "x-user-id"),
        (ORIGIN, "PUT", "x-other"),
    ] {
        let answer = preflight(&client, origin, method, headers);
        assert_eq!(
            answer.status, 400,
            "{origin} {method} {headers}: {answer:?}"
        );
    }
    // Pages can read refusals too, and the rate limit headers.
    let ask = |origin| client.send("GET", PATH, &[("X-User-Id", "1"), ("Origin", origin)]);
    for status in [200, 200, 429] {
        let answer = ask(ORIGIN);
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), Some(ORIGIN));
        let exposed = answer
            .header("access-control-expose-headers")
            .expect("headers");
        let exposed = exposed.to_lowercase();
        for name in ["ratelimit", "ratelimit-policy", "retry-after"] {
            assert!(
                exposed.split(", ").any(|exposed| exposed == name),
                "{exposed}"
            );
        }
        assert!(
            answer
                .header("vary")
                .expect("vary")
                .to_lowercase()
                .contains("origin")
        );
    }
    assert_eq!(
        ask("https://evil.example.com").header("access-control-allow-origin"),
        None
    );
}
