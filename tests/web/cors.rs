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
    let answer = client.as_user(1).with("Origin", ORIGIN).get(PATH);
    answer.is_problem(403, "cross_site");
    for answer in [answer, preflight(&client, ORIGIN, "PUT", "x-user-id")] {
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
}

#[test]
fn only_configured_origins_may_call() {
    let origins = format!("{ORIGIN}, http://localhost:3000");
    let service = Setup::new()
        .set("LIKEWISE_CORS_ORIGINS", origins)
        .set("LIKEWISE_RATE_LIMIT_USER", "2/2000")
        .start();
    let client = service.client();
    for origin in [ORIGIN, "http://localhost:3000"] {
        for method in ["PUT", "DELETE", "POST", "GET"] {
            let headers =
                "authorization, content-type, idempotency-key, traceparent, tracestate, x-user-id";
            let answer = preflight(&client, origin, method, headers);
            answer.has_status(200);
            assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
            let allowed = answer.header("access-control-allow-methods");
            assert!(allowed.expect("methods").contains(method), "{answer:?}");
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
        preflight(&client, origin, method, headers).has_status(400);
    }
    // Pages can read refusals too, and the rate limit headers.
    let ask = |origin| client.as_user(1).with("Origin", origin).get(PATH);
    for status in [200, 200, 429] {
        let answer = ask(ORIGIN);
        answer.has_status(status);
        assert_eq!(answer.header("access-control-allow-origin"), Some(ORIGIN));
        let list = |name| answer.header(name).expect(name).to_lowercase();
        let exposed = list("access-control-expose-headers");
        for name in ["ratelimit", "ratelimit-policy", "retry-after"] {
            assert!(
                exposed.split(", ").any(|exposed| exposed == name),
                "{exposed}"
            );
        }
        assert!(list("vary").contains("origin"));
    }
    let evil = ask("https://evil.example.com");
    assert_eq!(evil.header("access-control-allow-origin"), None);
}
