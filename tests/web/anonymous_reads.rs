//! Visitors: callers without a user read like counts, and nothing else.

use serde_json::json;

use crate::support::checks::pipeline_drains;
use crate::support::database::Database;
use crate::support::http::{Answer, Client};
use crate::support::servers::{Kind, Server};
use crate::support::service::Setup;
use crate::support::tokens::{SECRET, claims, hs256, now, token_of, with};

const COUNT: &str = "/v1/videos/7/likes/count";
const LIKE: &str = "/v1/videos/7/like";
const TOP: &str = "/v1/videos/top";
const STATUS: &str = "/v1/likes/status";
const BEHAVIORS: &str = "/v1/videos/7/behaviors/count";
const ALL_BEHAVIORS: &str = "/v1/behaviors/count";

/// The reads that visitors may make.
const READS: [(&str, &str); 6] = [
    ("GET", COUNT),
    ("GET", LIKE),
    ("GET", TOP),
    ("POST", STATUS),
    ("GET", BEHAVIORS),
    ("POST", ALL_BEHAVIORS),
];

/// Sends one of the reads, or another request.
fn send(client: &Client, (method, path): (&str, &str)) -> Answer {
    let items = json!([
        {"resource_type": "video", "resource_id": 7},
        {"resource_type": "comment", "resource_id": 7},
    ]);
    match path {
        STATUS | ALL_BEHAVIORS => client.post(path, json!({ "items": items })),
        _ => client.send(method, path, &[]),
    }
}

/// Checks the answers to a visitor while this many users like video 7.
#[track_caller]
fn counts_are_read(client: &Client, likes: i64) {
    let read = |request| send(client, request).ok();
    let count = json!({"resource_type": "video", "resource_id": 7, "like_count": likes});
    assert_eq!(read(("GET", COUNT)), count);
    let mut like = json!({"user_id": null, "liked": null});
    let fields = count.as_object().expect("an object").clone();
    like.as_object_mut().expect("an object").extend(fields);
    assert_eq!(read(("GET", LIKE)), like);
    let status = json!({"user_id": null, "items": [
        {"resource_type": "video", "resource_id": 7, "liked": null, "like_count": likes},
        {"resource_type": "comment", "resource_id": 7, "liked": null, "like_count": 0},
    ]});
    assert_eq!(read(("POST", STATUS)), status);
    let none = json!({"view": 0, "share": 0, "comment": 0});
    let behaviors = json!([
        {"resource_type": "video", "resource_id": 7, "counts": none},
        {"resource_type": "comment", "resource_id": 7, "counts": none},
    ]);
    assert_eq!(read(("GET", BEHAVIORS)), behaviors[0]);
    assert_eq!(read(("POST", ALL_BEHAVIORS)), json!({"items": behaviors}));
    let top = read(("GET", TOP));
    assert_eq!(
        top["resources"][0],
        json!({"resource_id": 7, "like_count": likes})
    );
}

matrix!([embedded, mariadb_stack, postgres_stack]: counts_need_no_user);

fn counts_need_no_user(setup: Setup) {
    let service = setup.start();
    let client = service.client();
    for user in 1..=3 {
        client.like(user, 7);
    }
    client.unlike(3, 7);
    // The cache counts likes before the database does.
    assert_eq!(client.get(COUNT).ok()["like_count"], 2);
    pipeline_drains(&service);
    counts_are_read(&client, 2);
    let other = client.get("/v1/comments/7/likes/count").ok();
    assert_eq!(other["like_count"], 0);
}

#[test]
fn counts_come_from_the_cache_and_are_never_guessed() {
    let mut database = Server::start(Kind::MariaDb);
    let service = Setup::new().on(&Database::first_of(&database)).start();
    service.client().like(1, 7);
    pipeline_drains(&service);
    // The cache of a new process is empty.
    let service = service.stop().start();
    let client = service.client();
    counts_are_read(&client, 1);
    database.kill();
    for path in [COUNT, LIKE, "/v1/comments/7/likes/count"] {
        client.get(path).ok();
    }
    for path in ["/v1/videos/8/likes/count", "/v1/videos/8/like"] {
        let unknown = client.get(path);
        unknown.is_problem(503, "unavailable");
        assert!(unknown.header("retry-after").is_some(), "{unknown:?}");
    }
}

#[test]
fn invalid_user_is_rejected_and_not_anonymous() {
    let service = Setup::new().start();
    let client = service.client();
    for request in [("GET", LIKE), ("POST", STATUS)] {
        for client in [
            client.as_user(0),
            client.as_user(""),
            client.as_user(1).as_user(2),
        ] {
            send(&client, request).is_problem(400, "invalid_user_id");
        }
    }
    for request in READS {
        let proxied = send(&client.with("X-Forwarded-For", "198.51.100.7"), request);
        proxied.is_problem(401, "proxy_without_token");
    }
    let invalid = client.get("/v1/videos/0/likes/count");
    invalid.is_problem(400, "invalid_resource_id");
    client.post(COUNT, "").is_problem(405, "method_not_allowed");
}

#[test]
fn sign_in_hides_counts_by_default() {
    let service = Setup::new().with_sign_in().with_services().start();
    let client = service.client();
    let user = client.with_token(&token_of(1));
    user.put(LIKE).ok();
    pipeline_drains(&service);
    for request in READS {
        send(&client, request).is_problem(401, "unauthorized");
        let watcher = client.with_token("lkw_watcher");
        send(&watcher, request).is_problem(403, "forbidden");
    }
    // A service that names no user reads as a visitor does.
    for token in ["lkw_reader", "lkw_writer"] {
        counts_are_read(&client.with_token(token), 1);
    }
    assert_eq!(user.get(LIKE).ok()["liked"], true);
    assert_eq!(user.get(COUNT).ok()["like_count"], 1);
}

#[test]
fn public_reads_setting_opens_only_counts() {
    let setup = Setup::new().with_sign_in().with_services();
    let service = setup.set("LIKEWISE_PUBLIC_READS", true).start();
    let client = service.client();
    let user = client.with_token(&token_of(1));
    user.put(LIKE).ok();
    pipeline_drains(&service);
    counts_are_read(&client, 1);
    for request in [
        ("GET", "/v1/videos/7/likes"),
        ("GET", "/v1/users/me/likes"),
        ("GET", "/v1/users/1/likes"),
        ("GET", "/v1/action/list"),
        ("GET", "/metrics"),
        ("GET", "/admin/ledger"),
        ("PUT", LIKE),
        ("DELETE", LIKE),
        ("POST", "/v1/likes"),
    ] {
        let refused = send(&client, request);
        assert_eq!(refused.status, 401, "{refused:?}");
    }
    let expired = with(claims(1), "exp", now() - 3_600);
    let expired = hs256(SECRET.as_bytes(), &expired);
    let forged = hs256(b"another secret, of nobody here", &claims(1));
    for request in READS {
        for (client, code) in [
            (client.with("Authorization", "Basic dTpw"), "unauthorized"),
            (client.with_token("lkw_unknown"), "unauthorized"),
            (client.with_token(&expired), "token_expired"),
            (client.with_token(&forged), "token_invalid"),
        ] {
            send(&client, request).is_problem(401, code);
        }
        // A header alone names no user, and these reads ignore it.
        if ![COUNT, TOP, BEHAVIORS, ALL_BEHAVIORS].contains(&request.1) {
            send(&client.as_user(1), request).is_problem(401, "unauthorized");
        }
    }
    assert_eq!(user.get(LIKE).ok()["liked"], true);
    let security = |path: &str, method: &str| {
        let document = client.get("/openapi.json").json();
        document["paths"][path][method]["security"].clone()
    };
    let (open, closed) = (json!([{}, {"token": []}]), json!([{"token": []}]));
    assert_eq!(security("/v1/videos/{id}/likes/count", "get"), open);
    assert_eq!(security("/v1/videos/{id}/behaviors/count", "get"), open);
    assert_eq!(security("/v1/videos/{id}/like", "get"), open);
    assert_eq!(security("/v1/videos/{id}/like", "put"), closed);
    assert_eq!(security("/v1/videos/{id}/likes", "get"), closed);
}

#[test]
fn visitors_have_the_rate_limit_of_their_address() {
    let setup = Setup::new()
        .with_sign_in()
        .set("LIKEWISE_PUBLIC_READS", true)
        .set("LIKEWISE_RATE_LIMIT_ADDRESS", "7/3000")
        .set("LIKEWISE_TRUSTED_PROXIES", "127.0.0.1");
    let service = setup.start();
    let visitor = service.client().with("X-Forwarded-For", "198.51.100.7");
    let other = service.client().with("X-Forwarded-For", "198.51.100.8");
    for request in READS {
        let answer = send(&visitor, request);
        answer.ok();
        let policy = answer.header("ratelimit-policy");
        assert_eq!(policy, Some("\"address\";q=7;w=3000"), "{answer:?}");
    }
    send(&visitor, ("GET", COUNT)).ok();
    for request in READS {
        send(&visitor, request).is_problem(429, "rate_limited");
        send(&other, request).ok();
    }
}

#[test]
fn request_without_token_spends_no_users_quota() {
    let setup = Setup::new().with_sign_in();
    let service = setup.set("LIKEWISE_RATE_LIMIT_USER", "2/3000").start();
    let client = service.client();
    for _ in 0..5 {
        client.as_user(42).get(LIKE).is_problem(401, "unauthorized");
    }
    let answer = client.with_token(&token_of(42)).get(LIKE);
    answer.ok();
    assert_eq!(answer.header("ratelimit"), Some("\"user\";r=1;t=1500"));
}
