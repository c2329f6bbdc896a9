//! Rate limits of users and addresses.

use crate::support::http::Answer;
use crate::support::service::{Service, Setup};

const PATH: &str = "/v1/videos/7/like";

#[track_caller]
fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer
        .header(name)
        .unwrap_or_else(|| panic!("no {name}: {answer:?}"))
}

#[test]
fn rate_limit_applies_to_one_user() {
    let setup = Setup::new().set("LIKEWISE_RATE_LIMIT_USER", "3/3000");
    let service = setup.start();
    let client = service.client();
    for remaining in [2, 1, 0] {
        let answer = client.as_user(42).put(PATH);
        answer.ok();
        assert_eq!(header(&answer, "ratelimit-policy"), "\"user\";q=3;w=3000");
        let left = format!("\"user\";r={remaining};t={}", (3 - remaining) * 1_000);
        assert_eq!(header(&answer, "ratelimit"), left);
    }
    let written = || service.database().count("user_behaviors");
    let before = written();
    let answer = client.as_user(42).send("DELETE", PATH, &[]);
    answer.is_problem(429, "rate_limited");
    let wait: u64 = header(&answer, "retry-after").parse().expect("seconds");
    assert!((900..=1_000).contains(&wait), "{wait}");
    assert_eq!(header(&answer, "ratelimit"), "\"user\";r=0;t=3000");
    assert_eq!(header(&answer, "ratelimit-policy"), "\"user\";q=3;w=3000");
    assert_eq!(client.read(43, 7).like_count, Some(1));
    assert_eq!(written(), before);
    // Monitoring paths have no limits and no limit headers.
    for path in ["/healthz", "/readyz", "/metrics"] {
        for _ in 0..5 {
            let answer = client.get(path);
            assert_eq!((answer.status, answer.header("ratelimit")), (200, None));
        }
    }
    // Errors count too.
    let bad = client.as_user(44).get("/v1/videos/x/like");
    bad.has_status(400);
    assert_eq!(header(&bad, "ratelimit"), "\"user\";r=2;t=1000");
}

#[test]
fn retry_after_allows_the_next_request() {
    let service = Setup::new().set("LIKEWISE_RATE_LIMIT_USER", "2/2").start();
    let client = service.client().as_user(42);
    let refused = client.until_status(PATH, 429);
    assert_eq!(header(&refused, "retry-after"), "1");
    // A refused request costs nothing, so polling does not prolong the wait.
    client.until_status(PATH, 200);
}

#[test]
fn client_address_is_the_peer_or_from_a_trusted_proxy() {
    let limited = || {
        let setup = Setup::new().with_services();
        setup.set("LIKEWISE_RATE_LIMIT_ADDRESS", "2/2000")
    };
    // In mode `none` a proxy needs a token.
    let read = |service: &Service, address| {
        let client = service.client().as_user(1).with_token("lkw_reader");
        client.with("X-Forwarded-For", address).get(PATH).status
    };
    // No proxy is trusted, so the headers of a client do not change its address.
    let service = limited().start();
    let statuses = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|from| read(&service, from));
    assert_eq!(statuses, [200, 200, 429]);
    // No other spelling of a path avoids the limits.
    let client = service.client().as_user(1);
    client.get("/%761/videos/7/like").has_status(429);
    client.get("/healthz").ok();

    let trusted = limited().set("LIKEWISE_TRUSTED_PROXIES", "10.0.0.0/8, 127.0.0.1");
    let service = trusted.start();
    let statuses = ["192.0.2.1"; 3].map(|from| read(&service, from));
    assert_eq!(statuses, [200, 200, 429]);
    // Hops that the client made up do not help it.
    assert_eq!(read(&service, "198.51.100.9, 192.0.2.1"), 429);
    assert_eq!(read(&service, "192.0.2.2"), 200);
}

#[test]
fn only_services_that_write_are_exempt_from_limits() {
    let service = Setup::new()
        .with_services()
        .set("LIKEWISE_RATE_LIMIT_USER", "2/2000")
        .set("LIKEWISE_RATE_LIMIT_ADDRESS", "4/4000")
        .start();
    let client = service.client().as_user(42);
    for _ in 0..10 {
        let answer = client.with_token("lkw_writer").get(PATH);
        assert_eq!((answer.status, answer.header("ratelimit")), (200, None));
    }
    for status in [200, 200, 429] {
        client.with_token("lkw_reader").get(PATH).has_status(status);
    }
    // The user named by the services has all requests left; the address has used three.
    let answer = client.get(PATH);
    let policy = "\"address\";q=4;w=4000, \"user\";q=2;w=2000";
    assert_eq!(header(&answer, "ratelimit-policy"), policy);
    let left = "\"address\";r=0;t=4000, \"user\";r=1;t=1000";
    assert_eq!(header(&answer, "ratelimit"), left);
    // Clients that guess tokens exceed the limit before their tokens are verified.
    let guessed = client.with_token("lkw_guess").get(PATH);
    guessed.is_problem(429, "rate_limited");
}
