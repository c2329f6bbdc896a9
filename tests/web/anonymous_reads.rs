//! Visitors: callers without a user read like counts, and nothing else.

use serde_json::{Value, json};

use super::auth::{send_body, with_secret, with_services};
use crate::support::checks::pipeline_drains;
use crate::support::database::Database;
use crate::support::http::{Answer, Client};
use crate::support::servers::{Kind, Server};
use crate::support::service::Setup;
use crate::support::tokens::{SECRET, claims, hs256, now, with};

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

/// Those of the reads that ignore `X-User-Id`.
const NAMES_NO_USER: [&str; 4] = [COUNT, TOP, BEHAVIORS, ALL_BEHAVIORS];

/// Sends one of the reads, or another request.
fn send(client: &Client, (method, path): (&str, &str), headers: &[(&str, &str)]) -> Answer {
    let items = json!([
        {"resource_type": "video", "resource_id": 7},
        {"resource_type": "comment", "resource_id": 7},
    ]);
    let body = match path {
        STATUS | ALL_BEHAVIORS => json!({ "items": items }).to_string(),
        _ => String::new(),
    };
    let sent = client.try_send(method, path, headers, body.as_bytes());
    sent.expect("an answer")
}

#[track_caller]
fn is_refused(answer: &Answer, status: u16, code: &str, what: &str) {
    let found = (answer.status, answer.problem());
    assert_eq!(found, (status, code.to_owned()), "{what}: {answer:?}");
}

/// The answer to a visitor while this many users like video 7.
#[track_caller]
fn counts_are_read(client: &Client, headers: &[(&str, &str)], likes: i64) {
    let read = |request| {
        let answer = send(client, request, headers);
        assert_eq!(answer.status, 200, "{request:?}: {answer:?}");
        answer.json()
    };
    let item = |kind: &str, rest: Value| {
        let mut item = json!({"resource_type": kind, "resource_id": 7});
        let fields = rest.as_object().expect("an object").clone();
        item.as_object_mut().expect("an object").extend(fields);
        item
    };
    let count = item("video", json!({"like_count": likes}));
    assert_eq!(read(("GET", COUNT)), count);
    let nobody = json!({"user_id": null, "liked": null, "like_count": likes});
    assert_eq!(read(("GET", LIKE)), item("video", nobody));
    let status = json!({"user_id": null, "items": [
        item("video", json!({"liked": null, "like_count": likes})),
        item("comment", json!({"liked": null, "like_count": 0})),
    ]});
    assert_eq!(read(("POST", STATUS)), status);
    let none = json!({"counts": {"view": 0, "share": 0, "comment": 0}});
    assert_eq!(read(("GET", BEHAVIORS)), item("video", none.clone()));
    let behaviors = json!({"items": [item("video", none.clone()), item("comment", none)]});
    assert_eq!(read(("POST", ALL_BEHAVIORS)), behaviors);
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
    let count = client.get(COUNT);
    assert_eq!(count.json()["like_count"], 2, "{count:?}");
    pipeline_drains(&service);
    counts_are_read(&client, &[], 2);
    let other = client.get("/v1/comments/7/likes/count");
    assert_eq!(other.json()["like_count"], 0, "{other:?}");
}

#[test]
fn counts_come_from_the_cache_and_are_never_guessed() {
    let mut database = Server::start(Kind::MariaDb);
    let service = Setup::new()
        .on(&Database::first_of(&database))
        .set("LIKEWISE_READ_TIMEOUT_SECONDS", 2)
        .start();
    service.client().like(1, 7);
    pipeline_drains(&service);
    // The cache of a new process is empty.
    let service = service.stop().start();
    let client = service.client();
    counts_are_read(&client, &[], 1);
    database.kill();
    for path in [COUNT, LIKE, "/v1/comments/7/likes/count"] {
        let known = client.get(path);
        assert_eq!(known.status, 200, "{path}: {known:?}");
    }
    for path in ["/v1/videos/8/likes/count", "/v1/videos/8/like"] {
        let unknown = client.get(path);
        is_refused(&unknown, 503, "unavailable", path);
        assert!(unknown.header("retry-after").is_some(), "{unknown:?}");
    }
}

#[test]
fn invalid_user_is_rejected_and_not_anonymous() {
    let service = Setup::new().start();
    let client = service.client();
    for request in [("GET", LIKE), ("POST", STATUS)] {
        for headers in [
            &[("X-User-Id", "0")][..],
            &[("X-User-Id", "")][..],
            &[("X-User-Id", "1"), ("X-User-Id", "2")][..],
        ] {
            let refused = send(&client, request, headers);
            is_refused(&refused, 400, "invalid_user_id", &format!("{request:?}"));
        }
    }
    for request in READS {
        let proxied = send(&client, request, &[("X-Forwarded-For", "198.51.100.7")]);
        is_refused(
            &proxied,
            401,
            "proxy_without_token",
            &format!("{request:?}"),
        );
    }
    let refused = client.get("/v1/videos/0/likes/count");
    is_refused(&refused, 400, "invalid_resource_id", "count");
    let refused = client.send("POST", COUNT, &[]);
    is_refused(&refused, 405, "method_not_allowed", "count");
}

#[test]
fn sign_in_hides_counts_by_default() {
    let service = with_services(with_secret()).start();
    let client = service.client();
    let token = hs256(SECRET.as_bytes(), &claims(1));
    let liked = send_body(&client, "PUT", LIKE, &token, "");
    assert_eq!(liked.status, 200, "{liked:?}");
    pipeline_drains(&service);
    for request in READS {
        let refused = send(&client, request, &[]);
        is_refused(&refused, 401, "unauthorized", &format!("{request:?}"));
        let watcher = send(&client, request, &[("Authorization", "Bearer lkw_watcher")]);
        is_refused(&watcher, 403, "forbidden", &format!("{request:?}"));
    }
    // A service that names no user reads as a visitor does.
    for service in ["Bearer lkw_reader", "Bearer lkw_writer"] {
        counts_are_read(&client, &[("Authorization", service)], 1);
    }
    let own = send_body(&client, "GET", LIKE, &token, "");
    assert_eq!(own.json()["liked"], true, "{own:?}");
    let count = send_body(&client, "GET", COUNT, &token, "");
    assert_eq!(count.json()["like_count"], 1, "{count:?}");
}

#[test]
fn public_reads_setting_opens_only_counts() {
    let setup = with_services(with_secret()).set("LIKEWISE_PUBLIC_READS", true);
    let service = setup.start();
    let client = service.client();
    let token = hs256(SECRET.as_bytes(), &claims(1));
    let liked = send_body(&client, "PUT", LIKE, &token, "");
    assert_eq!(liked.status, 200, "{liked:?}");
    pipeline_drains(&service);
    counts_are_read(&client, &[], 1);
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
        let refused = send(&client, request, &[]);
        assert_eq!(refused.status, 401, "{request:?}: {refused:?}");
    }
    let expired = with(claims(1), "exp", Some((now() - 3_600).into()));
    let expired = format!("Bearer {}", hs256(SECRET.as_bytes(), &expired));
    let forged = format!(
        "Bearer {}",
        hs256(b"another secret, of nobody here", &claims(1))
    );
    for request in READS {
        let what = &format!("{request:?}");
        for (headers, code) in [
            // A header alone names no user.
            (("X-User-Id", "1"), "unauthorized"),
            (("Authorization", "Basic dTpw"), "unauthorized"),
            (("Authorization", "Bearer lkw_unknown"), "unauthorized"),
            (("Authorization", expired.as_str()), "token_expired"),
            (("Authorization", forged.as_str()), "token_invalid"),
        ] {
            let names_user = headers.0 == "X-User-Id" && NAMES_NO_USER.contains(&request.1);
            if !names_user {
                is_refused(&send(&client, request, &[headers]), 401, code, what);
            }
        }
    }
    let own = send_body(&client, "GET", LIKE, &token, "");
    assert_eq!(own.json()["liked"], true, "{own:?}");
    let security = |path: &str, method: &str| {
        let document = client.get("/openapi.json").json();
        document["paths"][path][method]["security"].clone()
    };
    let open = json!([{}, {"token": []}]);
    assert_eq!(security("/v1/videos/{id}/likes/count", "get"), open);
    assert_eq!(security("/v1/videos/{id}/like", "get"), open);
    assert_eq!(
        security("/v1/videos/{id}/like", "put"),
        json!([{"token": []}])
    );
    assert_eq!(
        security("/v1/videos/{id}/likes", "get"),
        json!([{"token": []}])
    );
}

#[test]
fn visitors_have_the_rate_limit_of_their_address() {
    let setup = with_secret()
        .set("LIKEWISE_PUBLIC_READS", true)
        .set("LIKEWISE_RATE_LIMIT_ADDRESS", "7/3000")
        .set("LIKEWISE_TRUSTED_PROXIES", "127.0.0.1");
    let service = setup.start();
    let client = service.client();
    let visitor = [("X-Forwarded-For", "198.51.100.7")];
    for request in READS {
        let answer = send(&client, request, &visitor);
        assert_eq!(answer.status, 200, "{request:?}: {answer:?}");
        let policy = answer.header("ratelimit-policy");
        assert_eq!(policy, Some("\"address\";q=7;w=3000"), "{answer:?}");
    }
    assert_eq!(send(&client, ("GET", COUNT), &visitor).status, 200);
    for request in READS {
        let refused = send(&client, request, &visitor);
        is_refused(&refused, 429, "rate_limited", &format!("{request:?}"));
        let other = send(&client, request, &[("X-Forwarded-For", "198.51.100.8")]);
        assert_eq!(other.status, 200, "{request:?}: {other:?}");
    }
}

#[test]
fn request_without_token_spends_no_users_quota() {
    let service = with_secret()
        .set("LIKEWISE_RATE_LIMIT_USER", "2/3000")
        .start();
    let client = service.client();
    for _ in 0..5 {
        let refused = client.send("GET", LIKE, &[("X-User-Id", "42")]);
        is_refused(&refused, 401, "unauthorized", LIKE);
    }
    let token = hs256(SECRET.as_bytes(), &claims(42));
    let answer = send_body(&client, "GET", LIKE, &token, "");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("ratelimit"), Some("\"user\";r=1;t=1500"));
}
