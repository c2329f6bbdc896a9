//! Rate limits of users and addresses.

use super::auth::with_services;
use crate::support::http::{Answer, Client};
use crate::support::service::Setup;
use crate::support::tokens::sha256;
use crate::support::{PATIENCE, until};

fn read(client: &Client, user: &str, others: &[(&str, &str)]) -> Answer {
    let headers = [&[("X-User-Id", user)], others].concat();
    client.send("GET", "/v1/videos/7/like", &headers)
}

#[track_caller]
fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer
        .header(name)
        .unwrap_or_else(|| panic!("no {name}: {answer:?}"))
}

#[test]
fn rate_limit_applies_to_one_user() {
    let service = Setup::new()
        .set("LIKEWISE_RATE_LIMIT_USER", "3/3000")
        .start();
    let client = service.client();
    for remaining in [2, 1, 0] {
        let answer = client.try_like("PUT", 42, 7).expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(header(&answer, "ratelimit-policy"), "\"user\";q=3;w=3000");
        let left = format!("\"user\";r={remaining};t={}", (3 - remaining) * 1_000);
        assert_eq!(header(&answer, "ratelimit"), left);
    }
    let written = || {
        service
            .database()
            .number("SELECT COUNT(*) FROM user_behaviors")
    };
    let before = written();
    let answer = client.try_like("DELETE", 42, 7).expect("an answer");
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (429, "rate_limited")
    );
    let wait: u64 = header(&answer, "retry-after").parse().expect("seconds");
    assert!((900..=1_000).contains(&wait), "{wait}");
    assert_eq!(header(&answer, "ratelimit"), "\"user\";r=0;t=3000");
    assert_eq!(header(&answer, "ratelimit-policy"), "\"user\";q=3;w=3000");
    assert!(
        client.read(43, 7).like_count == Some(1),
        "the like is still there"
    );
    assert_eq!(written(), before);
    // Monitoring paths have no limits and no limit headers.
    for path in ["/healthz", "/readyz", "/metrics"] {
        for _ in 0..5 {
            let answer = client.get(path);
            assert_eq!((answer.status, answer.header("ratelimit")), (200, None));
        }
    }
    // Errors count too.
    let bad = client.send("GET", "/v1/videos/x/like", &[("X-User-Id", "44")]);
    assert_eq!(bad.status, 400);
    assert_eq!(header(&bad, "ratelimit"), "\"user\";r=2;t=1000");
}

#[test]
fn retry_after_allows_the_next_request() {
    let service = Setup::new().set("LIKEWISE_RATE_LIMIT_USER", "2/2").start();
    let client = service.client();
    let refused = until("a refusal", PATIENCE, || {
        let answer = read(&client, "42", &[]);
        if answer.status == 429 {
            Ok(answer)
        } else {
            Err("all were let through")
        }
    });
    assert_eq!(header(&refused, "retry-after"), "1");
    until("the limit to recover", PATIENCE, || {
        // A refused request costs nothing, so polling does not prolong the wait.
        let answer = read(&client, "42", &[]);
        if answer.status == 200 {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    });
}

#[test]
fn client_address_is_the_peer_or_from_a_trusted_proxy() {
    let limited = || with_services(Setup::new()).set("LIKEWISE_RATE_LIMIT_ADDRESS", "2/2000");
    // In mode `none` a proxy needs a token.
    let from = |address| {
        let token = ("Authorization", "Bearer lkw_reader");
        [token, ("X-Forwarded-For", address)]
    };
    // No proxy is trusted, so a client counts as one address whatever headers it sends.
    let service = limited().start();
    let client = service.client();
    let ask = |address| read(&client, "1", &from(address)).status;
    assert_eq!(
        [ask("192.0.2.1"), ask("192.0.2.2"), ask("192.0.2.3")],
        [200, 200, 429]
    );
    // No other spelling of a path avoids the limits.
    assert_eq!(
        client
            .send("GET", "/%761/videos/7/like", &[("X-User-Id", "1")])
            .status,
        429
    );
    assert_eq!(client.get("/healthz").status, 200);

    let service = limited()
        .set("LIKEWISE_TRUSTED_PROXIES", "10.0.0.0/8, 127.0.0.1")
        .start();
    let client = service.client();
    let ask = |address| read(&client, "1", &from(address)).status;
    assert_eq!(
        [ask("192.0.2.1"), ask("192.0.2.1"), ask("192.0.2.1")],
        [200, 200, 429]
    );
    // Hops that the client made up do not help it.
    assert_eq!(ask("198.51.100.9, 192.0.2.1"), 429);
    assert_eq!(ask("192.0.2.2"), 200);
}

#[test]
fn only_services_that_write_are_exempt_from_limits() {
    let setup = Setup::new().set("LIKEWISE_RATE_LIMIT_USER", "2/2000");
    let entry = |name: &str, scope: &str| {
        let hash = sha256(&format!("lkw_{name}"));
        format!("[[token]]\nname = \"{name}\"\nsha256 = \"{hash}\"\nscopes = [\"{scope}\"]\n")
    };
    let tokens = entry("writer", "likes:write:any") + &entry("reader", "likes:read");
    std::fs::write(setup.folder().join("tokens.toml"), tokens).expect("a file");
    let setup = setup
        .set("LIKEWISE_RATE_LIMIT_ADDRESS", "4/4000")
        .set("LIKEWISE_TOKENS_FILE", "tokens.toml");
    let service = setup.start();
    let client = service.client();
    for _ in 0..10 {
        let answer = read(&client, "42", &[("Authorization", "Bearer lkw_writer")]);
        assert_eq!((answer.status, answer.header("ratelimit")), (200, None));
    }
    let reads = || read(&client, "42", &[("Authorization", "Bearer lkw_reader")]).status;
    assert_eq!([reads(), reads(), reads()], [200, 200, 429]);
    // The user named by the services has all requests left; the address has used three.
    let answer = read(&client, "42", &[]);
    assert_eq!(
        header(&answer, "ratelimit-policy"),
        "\"address\";q=4;w=4000, \"user\";q=2;w=2000"
    );
    assert_eq!(
        header(&answer, "ratelimit"),
        "\"address\";r=0;t=4000, \"user\";r=1;t=1000"
    );
    // Clients that guess tokens exceed the limit before their tokens are verified.
    let answer = read(&client, "42", &[("Authorization", "Bearer lkw_guess")]);
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (429, "rate_limited")
    );
}
