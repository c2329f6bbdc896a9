//! Requests from web pages, for other hosts and through gateways, and the secrecy of answers.

use std::fs;

use serde_json::json;

use super::auth::{with_secret, with_services, write};
use crate::support::http::{Answer, Client};
use crate::support::nginx::{Gateway, HOST, TOKEN};
use crate::support::raw_tcp::Raw;
use crate::support::servers::{Kind, Server};
use crate::support::service::{Service, Setup};
use crate::support::tokens::sha256;
use crate::support::{PATIENCE, until};

const PATH: &str = "/v1/videos/7/like";
const APP: &str = "https://app.example.com";
const EVIL: &str = "https://evil.example.com";
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// Requests that write, each with its body.
const WRITES: [(&str, &str, &str); 7] = [
    ("PUT", PATH, ""),
    ("DELETE", PATH, ""),
    (
        "POST",
        "/v1/likes",
        r#"{"behaviors":[{"user_id":1,"resource_type":"video","resource_id":7,"behavior":"like"}]}"#,
    ),
    (
        "POST",
        "/v1/action/like",
        r#"{"video_id":"7","action_type":"1"}"#,
    ),
    ("POST", "/admin/jobs", r#"{"kind":"audit"}"#),
    ("POST", "/admin/jobs/none/cancel", ""),
    ("POST", "/admin/faults/panic/cache_writer", ""),
];

/// Reads that need a right.
const READS: [&str; 7] = [
    PATH,
    "/v1/videos/7/likes",
    "/v1/videos/top",
    "/v1/users/me/likes",
    "/v1/action/list",
    "/admin/actors",
    "/metrics",
];

/// Public reads.
const PUBLIC: [&str; 5] = [
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/docs",
    "/docs/page.js",
];

fn send(
    client: &Client,
    (method, path, body): (&str, &str, &str),
    headers: &[(&str, &str)],
) -> Answer {
    let mut all = vec![("X-User-Id", "1")];
    all.extend(headers);
    let answer = client.try_send(method, path, &all, body.as_bytes());
    answer.expect("an answer")
}

#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str, what: &str) {
    assert_eq!(answer.status, status, "{what}: {answer:?}");
    assert_eq!(answer.problem(), code, "{what}");
}

/// Checks that no request has changed anything.
#[track_caller]
fn is_untouched(service: &Service) {
    for (table, rows) in service.database().sizes() {
        assert_eq!(rows, 0, "{table}");
    }
    let jobs = service
        .database()
        .number("SELECT COUNT(*) FROM likewise_jobs WHERE slot IS NULL");
    assert_eq!(jobs, 0, "jobs");
}

#[test]
fn non_json_bodies_are_rejected() {
    let service = Setup::new().start();
    let client = service.client();
    for request in WRITES.into_iter().filter(|(_, _, body)| !body.is_empty()) {
        for content_type in [
            "text/plain",
            "text/plain;charset=UTF-8",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "text/json",
            "",
        ] {
            let answer = send(&client, request, &[("Content-Type", content_type)]);
            let what = format!("{request:?} as '{content_type}'");
            refused(&answer, 415, "unsupported_media_type", &what);
        }
    }
    // A missing `Content-Type` is refused too, and so is a PUT with such a body.
    let body = r#"{"video_id":"7","action_type":"1"}"#;
    for (line, length) in [
        (
            "POST /v1/action/like",
            format!("Content-Length: {}", body.len()),
        ),
        (
            "POST /v1/action/like",
            "Transfer-Encoding: chunked".to_owned(),
        ),
        (
            "PUT /v1/videos/7/like",
            format!("Content-Length: {}", body.len()),
        ),
    ] {
        let sent = match length.starts_with('C') {
            true => body.to_owned(),
            false => format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
        };
        let mut raw = Raw::connect(service.address());
        let head =
            format!("{line} HTTP/1.1\r\nHost: localhost\r\nX-User-Id: 1\r\n{length}\r\n\r\n");
        raw.send(head.as_bytes()).send(sent.as_bytes()).half_close();
        let answer = raw.answer().expect("an answer");
        assert_eq!(answer.status, 415, "{line} {length}: {answer:?}");
    }
    is_untouched(&service);

    for content_type in [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/x+json",
    ] {
        let answer = send(&client, WRITES[3], &[("Content-Type", content_type)]);
        assert_eq!(answer.status, 200, "{content_type}: {answer:?}");
    }
}

/// The headers of current and older browsers for a page of another site.
const FOREIGN: [&[(&str, &str)]; 6] = [
    &[("Origin", EVIL)],
    &[("Origin", "null")],
    &[("Origin", EVIL), ("Sec-Fetch-Site", "cross-site")],
    &[
        ("Origin", "http://localhost:3000"),
        ("Sec-Fetch-Site", "same-site"),
    ],
    &[("Origin", "http://localhost:3000")],
    &[
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Mode", "no-cors"),
    ],
];

#[test]
fn cross_site_pages_change_nothing() {
    let setups = [Setup::new(), with_secret()].map(|setup| {
        setup
            .set("LIKEWISE_FAULT_INJECTION", true)
            .set("LIKEWISE_CORS_ORIGINS", APP)
    });
    for setup in setups {
        let service = setup.start();
        let client = service.client();
        for request in WRITES {
            for headers in FOREIGN {
                let answer = send(&client, request, headers);
                refused(
                    &answer,
                    403,
                    "cross_site",
                    &format!("{request:?} {headers:?}"),
                );
            }
        }
        is_untouched(&service);
    }
}

#[test]
fn cross_site_pages_read_nothing_without_sign_in() {
    let service = Setup::new().start();
    let client = service.client();
    for headers in FOREIGN {
        for path in READS {
            let answer = send(&client, ("GET", path, ""), headers);
            refused(&answer, 403, "cross_site", &format!("{path} {headers:?}"));
        }
        for path in PUBLIC {
            let answer = send(&client, ("GET", path, ""), headers);
            assert_eq!(answer.status, 200, "{path} {headers:?}: {answer:?}");
        }
    }
    // A link on another site, and a typed address.
    for site in ["cross-site", "none"] {
        let navigation = [("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", "navigate")];
        let answer = send(&client, ("GET", "/docs", ""), &navigation);
        assert_eq!(answer.status, 200, "{site}: {answer:?}");
    }
    let typed = [("Sec-Fetch-Site", "none"), ("Sec-Fetch-Mode", "navigate")];
    assert_eq!(
        send(&client, ("GET", "/admin/actors", ""), &typed).status,
        200
    );
}

#[test]
fn own_pages_and_allowed_origins_may_call() {
    let service = Setup::new().set("LIKEWISE_CORS_ORIGINS", APP).start();
    let client = service.client();
    let own = service.url();
    // `/docs` sends the first two, with and without `Sec-Fetch-Site`; the last is from an allowed origin.
    let pages: [&[(&str, &str)]; 4] = [
        &[("Origin", &own), ("Sec-Fetch-Site", "same-origin")],
        &[("Origin", &own)],
        &[("Sec-Fetch-Site", "same-origin")],
        &[("Origin", APP), ("Sec-Fetch-Site", "cross-site")],
    ];
    for headers in pages {
        for request in &WRITES[..5] {
            let answer = send(&client, *request, headers);
            assert!(
                (200..300).contains(&answer.status),
                "{headers:?}: {answer:?}"
            );
        }
        for path in READS {
            let answer = send(&client, ("GET", path, ""), headers);
            assert_eq!(answer.status, 200, "{path} {headers:?}: {answer:?}");
        }
    }
    let answer = send(&client, WRITES[0], pages[3]);
    assert_eq!(answer.header("access-control-allow-origin"), Some(APP));
    // A page of an allowed origin can read every refusal.
    let form = [("Origin", APP), ("Content-Type", "text/plain")];
    let answer = send(&client, WRITES[3], &form);
    refused(&answer, 415, "unsupported_media_type", "a form");
    assert_eq!(answer.header("access-control-allow-origin"), Some(APP));
}

#[test]
fn unconfigured_hosts_are_rejected() {
    let port = |service: &Service| service.address().port();
    let service = Setup::new().start();
    let client = service.client();
    for path in READS.iter().chain(&PUBLIC) {
        for host in [
            "evil.example.com",
            &format!("evil.example.com:{}", port(&service)),
            "localhost.evil.example.com",
            "0.0.0.0",
            "192.0.2.7",
            "not a host",
        ] {
            let answer = send(&client, ("GET", path, ""), &[("Host", host)]);
            refused(
                &answer,
                421,
                "host_not_allowed",
                &format!("{path} at {host}"),
            );
            let detail = answer.json()["detail"].to_string();
            assert!(detail.contains("LIKEWISE_HTTP_HOSTS"), "{detail}");
        }
        for host in [
            "localhost",
            "LOCALHOST:1234",
            "127.0.0.1",
            "127.9.9.9:80",
            "[::1]:8080",
        ] {
            let answer = send(&client, ("GET", path, ""), &[("Host", host)]);
            assert_eq!(answer.status, 200, "{path} at {host}: {answer:?}");
        }
    }
    // The request line may name a host too, and a header may be repeated.
    for head in [
        "GET http://evil.example.com/admin/actors HTTP/1.1\r\nHost: localhost\r\n",
        "GET http://evil.example.com/admin/actors HTTP/1.1\r\nHost: evil.example.com\r\n",
        "GET http://localhost/admin/actors HTTP/1.1\r\nHost: evil.example.com\r\n",
        "GET /admin/actors HTTP/1.1\r\nHost: localhost\r\nHost: evil.example.com\r\n",
    ] {
        let mut raw = Raw::connect(service.address());
        raw.send(head.as_bytes()).send(b"\r\n").half_close();
        let answer = raw.answer().expect("an answer");
        assert!([400, 421].contains(&answer.status), "{head}: {answer:?}");
    }
    is_untouched(&service);
}

#[test]
fn configured_hosts_are_served_in_both_modes() {
    let hosts = format!("{HOST}, 192.0.2.7");
    for setup in [Setup::new(), with_secret()] {
        let service = setup.set("LIKEWISE_HTTP_HOSTS", &hosts).start();
        let client = service.client();
        for (host, status) in [
            (HOST, 200),
            ("Likes.Example.com:8443", 200),
            ("192.0.2.7:80", 200),
            ("127.0.0.1", 200),
            ("evil.example.com", 421),
        ] {
            let answer = client.send("GET", "/docs", &[("Host", host)]);
            assert_eq!(answer.status, status, "{host}: {answer:?}");
        }
    }
    // With sign-in, tokens protect a service without configured hosts.
    let service = with_secret().start();
    let answer = service
        .client()
        .send("GET", "/docs", &[("Host", "anything.example.com")]);
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Signs that a request came through a proxy.
const PROXIES: [(&str, &str); 6] = [
    ("Forwarded", "for=198.51.100.7"),
    ("X-Forwarded-For", "198.51.100.7"),
    ("X-Forwarded-Host", "likes.example.com"),
    ("X-Forwarded-Proto", "https"),
    ("X-Real-Ip", "127.0.0.1"),
    ("Via", "1.1 proxy"),
];

#[test]
fn proxy_without_a_token_is_unauthenticated() {
    let setup = Setup::new().set("LIKEWISE_FAULT_INJECTION", true);
    // A proxy that is trusted for addresses is still no user.
    let service = setup.set("LIKEWISE_TRUSTED_PROXIES", "127.0.0.1").start();
    let client = service.client();
    for proxy in PROXIES {
        for request in WRITES
            .into_iter()
            .chain(READS.map(|path| ("GET", path, "")))
        {
            let answer = send(&client, request, &[proxy]);
            let what = format!("{request:?} {proxy:?}");
            if request.1.starts_with("/v1/action") {
                assert_eq!(answer.status, 401, "{what}: {answer:?}");
                assert!(
                    answer.text.contains("proxy_without_token"),
                    "{what}: {answer:?}"
                );
            } else {
                refused(&answer, 401, "proxy_without_token", &what);
            }
            assert!(answer.header("www-authenticate").is_some(), "{what}");
        }
        for path in PUBLIC {
            let answer = send(&client, ("GET", path, ""), &[proxy]);
            assert_eq!(answer.status, 200, "{path} {proxy:?}: {answer:?}");
        }
    }
    is_untouched(&service);
    assert!(client.actors().iter().all(|actor| actor.panics == 0));
}

#[test]
fn proxy_with_a_token_has_the_token_scopes() {
    let service = with_services(Setup::new()).start();
    let client = service.client();
    for (token, request, status) in [
        ("lkw_writer", WRITES[0], 200),
        ("lkw_writer", WRITES[2], 200),
        ("lkw_writer", ("GET", PATH, ""), 200),
        ("lkw_writer", ("GET", "/admin/actors", ""), 403),
        ("lkw_writer", ("GET", "/metrics", ""), 403),
        ("lkw_reader", ("GET", "/v1/videos/top", ""), 200),
        ("lkw_reader", WRITES[0], 403),
        ("lkw_watcher", ("GET", "/admin/actors", ""), 200),
        ("lkw_watcher", ("GET", "/metrics", ""), 200),
        ("lkw_stranger", WRITES[0], 401),
    ] {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str()), PROXIES[1]];
        let answer = send(&client, request, &headers);
        assert_eq!(answer.status, status, "{token} {request:?}: {answer:?}");
    }
}

/// The service behind the gateway of `docs/nginx.conf`.
fn behind_a_gateway() -> Service {
    let setup = Setup::new()
        .set("LIKEWISE_HTTP_HOSTS", HOST)
        .set("LIKEWISE_TOKENS_FILE", "tokens.toml");
    let hash = sha256(TOKEN);
    let entry = format!(
        "[[token]]\nname = \"gateway\"\nsha256 = \"{hash}\"\nscopes = [\"likes:write:any\"]\n"
    );
    write(&setup, "tokens.toml", &entry);
    setup.start()
}

#[test]
fn documented_proxy_binds_likes_to_the_user() {
    let service = behind_a_gateway();
    let gateway = Gateway::before(&service);
    let client = gateway.recommended();
    let alice = [("Host", HOST), ("Cookie", "session=alice")];
    let with = |more: &[(&'static str, &'static str)]| [&alice[..], more].concat();

    // Alice is user 42, whatever headers her browser sends.
    let own_page = with(&[
        ("Origin", "https://likes.example.com"),
        ("Sec-Fetch-Site", "same-origin"),
    ]);
    let other_user = with(&[
        ("X-User-Id", "43"),
        ("Authorization", "Bearer lkw_stranger"),
    ]);
    for headers in [&alice[..], &own_page, &other_user] {
        let answer = client.send("PUT", PATH, headers);
        assert_eq!(answer.status, 200, "{headers:?}: {answer:?}");
        assert_eq!(answer.json()["user_id"], 42);
    }
    let answer = client.send("GET", "/v1/users/me/likes", &other_user);
    assert_eq!(
        (answer.status, &answer.json()["user_id"]),
        (200, &json!(42))
    );
    let body = br#"{"items":[{"resource_type":"video","resource_id":7}]}"#;
    let answer = client.try_send("POST", "/v1/likes/status", &alice, body);
    let answer = answer.expect("an answer");
    assert_eq!(answer.json()["items"][0]["liked"], true, "{answer:?}");

    // Callers who have not signed in are refused by routes for users.
    for headers in [
        &[("Host", HOST)][..],
        &[("Host", HOST), ("X-User-Id", "43")][..],
    ] {
        assert_eq!(client.send("PUT", PATH, headers).status, 401);
    }
    for (method, path, body) in [
        WRITES[2],
        WRITES[4],
        ("GET", "/admin/actors", ""),
        ("GET", "/metrics", ""),
        ("GET", "/v1/users/43/likes", ""),
        ("POST", "/v1/%6cikes", WRITES[2].2),
        ("POST", "/v1//likes", WRITES[2].2),
        ("POST", "/v1/videos/../likes", WRITES[2].2),
        ("GET", "/%61dmin/actors", ""),
    ] {
        let answer = client.try_send(method, path, &with(&[JSON]), body.as_bytes());
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 404, "{method} {path}: {answer:?}");
    }
    // Anyone reads counts.
    for path in ["/v1/videos/7/likes/count", "/v1/videos/top"] {
        let answer = client.send("GET", path, &[("Host", HOST), ("X-User-Id", "43")]);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    let anyone = client.send("GET", "/v1/videos/7/likes", &[("Host", HOST)]);
    assert_eq!(anyone.status, 401, "{anyone:?}");
    // The gateway setup refuses pages of other sites too.
    let answer = client.send("PUT", PATH, &with(&[("Origin", EVIL)]));
    refused(&answer, 403, "cross_site", "another site");
    let users = "SELECT COUNT(*) FROM user_behaviors WHERE user_id <> 42";
    assert_eq!(service.database().number(users), 0);
}

#[test]
fn misconfigured_proxy_grants_nothing() {
    let service = Setup::new().start();
    let gateway = Gateway::before(&service);
    for client in [gateway.bare(), gateway.telling()] {
        for request in WRITES
            .into_iter()
            .chain(READS.map(|path| ("GET", path, "")))
        {
            let answer = send(&client, request, &[]);
            assert_eq!(answer.status, 401, "{request:?}: {answer:?}");
            assert!(answer.text.contains("proxy_without_token"), "{answer:?}");
        }
        assert_eq!(client.get("/readyz").status, 200);
    }
    is_untouched(&service);
}

#[test]
fn responses_forbid_sniffing_and_caching() {
    let service = Setup::new()
        .set("LIKEWISE_CORS_ORIGINS", APP)
        .set("LIKEWISE_REQUEST_TIMEOUT_SECONDS", 1)
        .start();
    let client = service.client();
    let mut answers = vec![
        send(&client, ("GET", PATH, ""), &[("Host", "evil.example.com")]),
        send(&client, ("GET", "/nothing", ""), &[]),
        send(&client, ("PATCH", PATH, ""), &[]),
    ];
    answers.extend(
        READS
            .iter()
            .chain(&PUBLIC)
            .map(|path| send(&client, ("GET", path, ""), &[])),
    );
    answers.extend(WRITES.map(|request| send(&client, request, &[])));
    // A request that times out gets its problem.
    let held = service.database().hold_writes();
    answers.push(send(&client, WRITES[0], &[]));
    assert_eq!(answers.last().map(|answer| answer.status), Some(503));
    drop(held);
    for answer in answers {
        assert_eq!(
            answer.header("x-content-type-options"),
            Some("nosniff"),
            "{answer:?}"
        );
        let cached = answer.header("cache-control");
        let page = answer.header("content-type").is_some_and(|kind| {
            kind.starts_with("text/html") || kind.starts_with("text/javascript")
        });
        let expected = if page { "no-cache" } else { "no-store" };
        assert_eq!(cached, Some(expected), "{answer:?}");
    }
}

/// No answer contains these words, which the database uses or which name its location.
#[track_caller]
fn tells_nothing(answer: &Answer, words: &[&str], what: &str) {
    let text = answer.text.to_lowercase();
    for word in words {
        assert!(
            !text.contains(&word.to_lowercase()),
            "{word}: {what}: {answer:?}"
        );
    }
}

/// Every kind of request that needs the database.
fn ask_for_everything(client: &Client) -> Vec<(String, Answer)> {
    let reads = READS[..5].iter().map(|path| (("GET", *path, ""), &[][..]));
    let writes = WRITES[..4].iter().map(|request| (*request, &[][..]));
    let keyed = ((WRITES[0]), &[("Idempotency-Key", "a key")][..]);
    let ready = (("GET", "/readyz", ""), &[][..]);
    reads
        .chain(writes)
        .chain([keyed, ready])
        .map(|(request, headers)| {
            (
                format!("{request:?} {headers:?}"),
                send(client, request, headers),
            )
        })
        .collect()
}

#[test]
fn database_text_is_in_the_log_and_not_in_answers() {
    let service = Setup::new().start();
    let client = service.client();
    const TABLES: [&str; 5] = [
        "user_behaviors",
        "video_likes",
        "likewise_like_counts",
        "likewise_idempotency_keys",
        "sync_events",
    ];
    for table in TABLES {
        service
            .database()
            .execute(&[&format!("ALTER TABLE {table} RENAME TO {table}_away")]);
    }
    let mut refused = 0;
    for (what, answer) in ask_for_everything(&client) {
        tells_nothing(
            &answer,
            &[&TABLES[..], &["no such table", "SELECT"]].concat(),
            &what,
        );
        if answer.status == 503 && !what.contains("readyz") {
            refused += 1;
            assert!(answer.header("retry-after").is_some(), "{what}: {answer:?}");
            let names_part = answer.text.contains("database");
            assert!(names_part, "{what}: {answer:?}");
        }
    }
    assert!(refused >= 6, "{refused} were refused");
    let ready = client.get("/readyz").json();
    assert_eq!(ready["parts"]["database"]["state"], "down", "{ready:#}");
    let log = fs::read_to_string(service.setup().folder().join("stderr.0")).expect("a log");
    for said in [
        "no such table: video_likes",
        "no such table: user_behaviors",
    ] {
        assert!(log.contains(said), "{said} is not in the log: {log}");
    }
}

#[test]
fn answers_hide_the_address_of_the_database() {
    let mut server = Server::start(Kind::MariaDb);
    let port = server
        .url()
        .rsplit(':')
        .next()
        .and_then(|rest| rest.split('/').next().map(str::to_owned));
    let port = port.expect("a port");
    let service = Setup::new()
        .set("LIKEWISE_DATABASE_URL", server.url())
        .start();
    let client = service.client();
    client.like(1, 7);
    server.kill();
    until("the service to notice", PATIENCE, || {
        match client.get("/readyz") {
            answer if answer.status == 503 => Ok(()),
            answer => Err(answer.text),
        }
    });
    let words = [port.as_str(), "127.0.0.1", "os error", "refused"];
    for (what, answer) in ask_for_everything(&client) {
        tells_nothing(&answer, &words, &what);
    }
    let log = fs::read_to_string(service.setup().folder().join("stderr.0")).expect("a log");
    assert!(log.contains("checking the database failed"), "{log}");
}
