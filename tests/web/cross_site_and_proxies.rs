//! Requests from web pages, for other hosts and through gateways, and the secrecy of answers.

use serde_json::json;

use crate::support::http::{Answer, Client};
use crate::support::nginx::{Gateway, HOST, TOKEN};
use crate::support::raw_tcp::Raw;
use crate::support::servers::{Kind, Server};
use crate::support::service::{Service, Setup};
use crate::support::tokens::service_token;

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
    let answer = client
        .as_user(1)
        .try_send(method, path, headers, body.as_bytes());
    answer.expect("an answer")
}

/// Gets a path as a user, with these headers.
fn get(client: &Client, path: &str, headers: &[(&str, &str)]) -> Answer {
    send(client, ("GET", path, ""), headers)
}

/// Returns every request that needs a right.
fn guarded() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    WRITES
        .into_iter()
        .chain(READS.map(|path| ("GET", path, "")))
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
            answer.is_problem(415, "unsupported_media_type");
        }
    }
    // A missing `Content-Type` is refused too, and so is a PUT with such a body.
    let body = r#"{"video_id":"7","action_type":"1"}"#;
    let length = format!("Content-Length: {}", body.len());
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for (line, length, sent) in [
        ("POST /v1/action/like", length.as_str(), body),
        (
            "POST /v1/action/like",
            "Transfer-Encoding: chunked",
            &chunks,
        ),
        ("PUT /v1/videos/7/like", &length, body),
    ] {
        let mut raw = Raw::connect(service.address());
        let head =
            format!("{line} HTTP/1.1\r\nHost: localhost\r\nX-User-Id: 1\r\n{length}\r\n\r\n");
        raw.send(head.as_bytes()).send(sent.as_bytes()).half_close();
        let answer = raw.answer().expect("an answer");
        assert_eq!(answer.status, 415, "{line} {length}: {answer:?}");
    }
    service.stored_nothing();

    for content_type in [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/x+json",
    ] {
        send(&client, WRITES[3], &[("Content-Type", content_type)]).ok();
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
    for setup in [Setup::new(), Setup::new().with_sign_in()] {
        let setup = setup.set("LIKEWISE_FAULT_INJECTION", true);
        let service = setup.set("LIKEWISE_CORS_ORIGINS", APP).start();
        let client = service.client();
        for request in WRITES {
            for headers in FOREIGN {
                send(&client, request, headers).is_problem(403, "cross_site");
            }
        }
        service.stored_nothing();
    }
}

#[test]
fn cross_site_pages_read_nothing_without_sign_in() {
    let service = Setup::new().start();
    let client = service.client();
    for headers in FOREIGN {
        for path in READS {
            get(&client, path, headers).is_problem(403, "cross_site");
        }
        for path in PUBLIC {
            get(&client, path, headers).has_status(200);
        }
    }
    // A link on another site, and a typed address.
    for site in ["cross-site", "none"] {
        let navigation = [("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", "navigate")];
        get(&client, "/docs", &navigation).has_status(200);
    }
    let typed = [("Sec-Fetch-Site", "none"), ("Sec-Fetch-Mode", "navigate")];
    get(&client, "/admin/actors", &typed).has_status(200);
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
            assert!((200..300).contains(&answer.status), "{answer:?}");
        }
        for path in READS {
            get(&client, path, headers).has_status(200);
        }
    }
    let answer = send(&client, WRITES[0], pages[3]);
    assert_eq!(answer.header("access-control-allow-origin"), Some(APP));
    // A page of an allowed origin can read every refusal.
    let form = [("Origin", APP), ("Content-Type", "text/plain")];
    let answer = send(&client, WRITES[3], &form);
    answer.is_problem(415, "unsupported_media_type");
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
            let answer = get(&client, path, &[("Host", host)]);
            answer.is_problem(421, "host_not_allowed");
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
            get(&client, path, &[("Host", host)]).has_status(200);
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
    service.stored_nothing();
}

#[test]
fn configured_hosts_are_served_in_both_modes() {
    let hosts = format!("{HOST}, 192.0.2.7");
    for setup in [Setup::new(), Setup::new().with_sign_in()] {
        let service = setup.set("LIKEWISE_HTTP_HOSTS", &hosts).start();
        let client = service.client();
        for (host, status) in [
            (HOST, 200),
            ("Likes.Example.com:8443", 200),
            ("192.0.2.7:80", 200),
            ("127.0.0.1", 200),
            ("evil.example.com", 421),
        ] {
            client.with("Host", host).get("/docs").has_status(status);
        }
    }
    // With sign-in, tokens protect a service without configured hosts.
    let service = Setup::new().with_sign_in().start();
    let client = service.client().with("Host", "anything.example.com");
    client.get("/docs").has_status(200);
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
        for request in guarded() {
            let answer = send(&client, request, &[proxy]);
            answer.has_status(401);
            assert!(answer.text.contains("proxy_without_token"), "{answer:?}");
            assert!(answer.header("www-authenticate").is_some(), "{answer:?}");
        }
        for path in PUBLIC {
            get(&client, path, &[proxy]).has_status(200);
        }
    }
    service.stored_nothing();
    assert!(client.actors().iter().all(|actor| actor.panics == 0));
}

#[test]
fn proxy_with_a_token_has_the_token_scopes() {
    let service = Setup::new().with_services().start();
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
        send(&client.with_token(token), request, &[PROXIES[1]]).has_status(status);
    }
}

/// The service behind the gateway of `docs/nginx.conf`.
fn behind_a_gateway() -> Service {
    let setup = Setup::new()
        .set("LIKEWISE_HTTP_HOSTS", HOST)
        .set("LIKEWISE_TOKENS_FILE", "tokens.toml");
    let entry = service_token("gateway", TOKEN, &["likes:write:any"]);
    setup.write("tokens.toml", entry);
    setup.start()
}

#[test]
fn documented_proxy_binds_likes_to_the_user() {
    let service = behind_a_gateway();
    let gateway = Gateway::before(&service);
    let client = gateway.recommended();
    let alice = [("Host", HOST), ("Cookie", "session=alice")];
    let with = |more: &[(&'static str, &'static str)]| [&alice[..], more].concat();

    // Alice is user 42, also if her browser sends other headers.
    let own_page = with(&[
        ("Origin", "https://likes.example.com"),
        ("Sec-Fetch-Site", "same-origin"),
    ]);
    let other_user = with(&[
        ("X-User-Id", "43"),
        ("Authorization", "Bearer lkw_stranger"),
    ]);
    for headers in [&alice[..], &own_page, &other_user] {
        assert_eq!(client.send("PUT", PATH, headers).ok()["user_id"], 42);
    }
    let likes = client.send("GET", "/v1/users/me/likes", &other_user).ok();
    assert_eq!(likes["user_id"], 42);
    let items = json!({"items": [{"resource_type": "video", "resource_id": 7}]});
    let signed_in = client.with(alice[0].0, HOST).with(alice[1].0, alice[1].1);
    let status = signed_in.post("/v1/likes/status", items).ok();
    assert_eq!(status["items"][0]["liked"], true);

    // Callers who have not signed in are refused by routes for users.
    for headers in [
        &[("Host", HOST)][..],
        &[("Host", HOST), ("X-User-Id", "43")][..],
    ] {
        client.send("PUT", PATH, headers).has_status(401);
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
        answer.expect("an answer").has_status(404);
    }
    // Anyone reads counts.
    for path in ["/v1/videos/7/likes/count", "/v1/videos/top"] {
        client
            .with("Host", HOST)
            .as_user(43)
            .get(path)
            .has_status(200);
    }
    let anyone = client.with("Host", HOST).get("/v1/videos/7/likes");
    anyone.has_status(401);
    // The gateway setup refuses pages of other sites too.
    let answer = client.send("PUT", PATH, &with(&[("Origin", EVIL)]));
    answer.is_problem(403, "cross_site");
    let others = service
        .database()
        .count("user_behaviors WHERE user_id <> 42");
    assert_eq!(others, 0);
}

#[test]
fn misconfigured_proxy_grants_nothing() {
    let service = Setup::new().start();
    let gateway = Gateway::before(&service);
    for client in [gateway.bare(), gateway.telling()] {
        for request in guarded() {
            let answer = send(&client, request, &[]);
            answer.has_status(401);
            assert!(answer.text.contains("proxy_without_token"), "{answer:?}");
        }
        assert_eq!(client.get("/readyz").status, 200);
    }
    service.stored_nothing();
}

#[test]
fn responses_forbid_sniffing_and_caching() {
    let service = Setup::new()
        .set("LIKEWISE_CORS_ORIGINS", APP)
        .set("LIKEWISE_REQUEST_TIMEOUT_SECONDS", 1)
        .start();
    let client = service.client();
    let mut answers = vec![
        get(&client, PATH, &[("Host", "evil.example.com")]),
        get(&client, "/nothing", &[]),
        send(&client, ("PATCH", PATH, ""), &[]),
    ];
    let reads = READS.iter().chain(&PUBLIC);
    answers.extend(reads.map(|path| get(&client, path, &[])));
    answers.extend(WRITES.map(|request| send(&client, request, &[])));
    // A request that times out gets its problem.
    let held = service.database().hold_writes();
    let timed_out = send(&client, WRITES[0], &[]);
    timed_out.has_status(503);
    answers.push(timed_out);
    drop(held);
    for answer in answers {
        let sniffing = answer.header("x-content-type-options");
        assert_eq!(sniffing, Some("nosniff"), "{answer:?}");
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
fn tells_nothing(answer: &Answer, words: &[&str]) {
    let text = answer.text.to_lowercase();
    for word in words {
        assert!(!text.contains(&word.to_lowercase()), "{word}: {answer:?}");
    }
}

/// Sends every kind of request that needs the database, and returns the answers. The last one is that of `/readyz`.
fn ask_for_everything(client: &Client) -> Vec<Answer> {
    let reads = READS[..5].iter().map(|path| get(client, path, &[]));
    let writes = WRITES[..4]
        .iter()
        .map(|request| send(client, *request, &[]));
    let mut answers: Vec<_> = reads.chain(writes).collect();
    answers.push(send(client, WRITES[0], &[("Idempotency-Key", "a key")]));
    answers.push(get(client, "/readyz", &[]));
    answers
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
        let rename = format!("ALTER TABLE {table} RENAME TO {table}_away");
        service.database().execute(&[&rename]);
    }
    let answers = ask_for_everything(&client);
    for answer in &answers {
        tells_nothing(
            answer,
            &[&TABLES[..], &["no such table", "SELECT"]].concat(),
        );
    }
    let (_, answers) = answers.split_last().expect("answers");
    let unavailable = answers.iter().filter(|answer| answer.status == 503);
    for answer in unavailable.clone() {
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        assert!(answer.text.contains("database"), "{answer:?}");
    }
    assert!(unavailable.count() >= 6, "{answers:?}");
    let ready = client.get("/readyz").json();
    assert_eq!(ready["parts"]["database"]["state"], "down", "{ready:#}");
    for table in ["video_likes", "user_behaviors"] {
        service.until_logged(&format!("no such table: {table}"));
    }
}

#[test]
fn answers_hide_the_address_of_the_database() {
    let mut server = Server::start(Kind::MariaDb);
    let url = server.url();
    let (address, _) = url.rsplit_once('/').expect("a database");
    let (_, port) = address.rsplit_once(':').expect("a port");
    let service = Setup::new()
        .set("LIKEWISE_DATABASE_URL", server.url())
        .start();
    let client = service.client();
    client.like(1, 7);
    server.kill();
    client.until_status("/readyz", 503);
    for answer in ask_for_everything(&client) {
        tells_nothing(&answer, &[port, "127.0.0.1", "os error", "refused"]);
    }
    service.until_logged("checking the database failed");
}
