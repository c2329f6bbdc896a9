//! Page reads and lists: invalid requests, callers without the right, and outages of the database.

use serde_json::json;

use super::auth::{send_body, with_secret, with_services};
use crate::support::checks::pipeline_drains;
use crate::support::database::Database;
use crate::support::http::{Answer, Client};
use crate::support::redis_and_nats::Stack;
use crate::support::servers::{Kind, Server};
use crate::support::service::Setup;
use crate::support::tokens::{SECRET, claims, hs256};
use crate::support::{PATIENCE, until};

const STATUS: &str = "/v1/likes/status";
const USER: (&str, &str) = ("X-User-Id", "42");

fn post(client: &Client, body: &str) -> Answer {
    let sent = client.try_send("POST", STATUS, &[USER], body.as_bytes());
    sent.expect("an answer")
}

/// The body of a read of the videos from 1 to this one.
fn videos(count: i64) -> String {
    let item = |id| json!({"resource_type": "video", "resource_id": id});
    json!({"items": (1..=count).map(item).collect::<Vec<_>>()}).to_string()
}

#[test]
fn invalid_status_requests_are_rejected() {
    let service = Setup::new().start();
    let client = service.client();
    let item = |item| json!({ "items": [item] }).to_string();
    for (body, status, code) in [
        (String::new(), 400, "invalid_body"),
        ("{".to_owned(), 400, "invalid_body"),
        ("{}".to_owned(), 400, "invalid_body"),
        (json!({"items": 7}).to_string(), 400, "invalid_body"),
        (
            json!({"items": [], "user_id": 7}).to_string(),
            400,
            "invalid_body",
        ),
        (item(json!({"resource_type": "video"})), 400, "invalid_body"),
        (
            item(json!({"resource_type": "Video", "resource_id": 7})),
            400,
            "invalid_body",
        ),
        (
            item(json!({"resource_type": "video", "resource_id": "seven"})),
            422,
            "unprocessable",
        ),
        (
            item(json!({"resource_type": "video", "resource_id": 7.5})),
            400,
            "invalid_body",
        ),
        (
            item(json!({"resource_type": "video", "resource_id": 7, "x": 1})),
            400,
            "invalid_body",
        ),
        (
            item(json!({"resource_type": "video", "resource_id": 0})),
            422,
            "unprocessable",
        ),
        (
            item(json!({"resource_type": "comment", "resource_id": -7})),
            422,
            "unprocessable",
        ),
        (videos(0), 422, "unprocessable"),
        (videos(501), 422, "unprocessable"),
    ] {
        let refused = post(&client, &body);
        assert_eq!(refused.status, status, "{body:.80}: {refused:?}");
        assert_eq!(refused.problem(), code, "{body:.80}");
    }
    let most = post(&client, &videos(500));
    assert_eq!(most.status, 200, "{most:?}");
    assert_eq!(most.json()["items"].as_array().map(Vec::len), Some(500));
    for (table, rows) in service.database().sizes() {
        assert_eq!(rows, 0, "{table}");
    }
}

#[test]
fn invalid_list_requests_are_rejected() {
    let service = Setup::new().start();
    let client = service.client();
    for user in 1..=3 {
        client.like(user, 7);
    }
    pipeline_drains(&service);
    let likers = "/v1/videos/7/likes";
    let cursor_of = |path: &str| {
        let page = client.send("GET", &format!("{path}?limit=1"), &[("X-User-Id", "1")]);
        page.json()["next_cursor"].as_str().map(str::to_owned)
    };
    let cursor = cursor_of(likers).expect("another page");
    for (path, code) in [
        (format!("{likers}?limit=0"), "invalid_parameter"),
        (format!("{likers}?limit=201"), "invalid_parameter"),
        (format!("{likers}?limit=-1"), "invalid_parameter"),
        (format!("{likers}?limit=ten"), "invalid_parameter"),
        (format!("{likers}?page=2"), "invalid_parameter"),
        (format!("{likers}?limit=1&limit=2"), "invalid_parameter"),
        (format!("{likers}?cursor="), "invalid_parameter"),
        (format!("{likers}?cursor=zz"), "invalid_parameter"),
        (
            format!("{likers}?cursor={}", &cursor[2..]),
            "invalid_parameter",
        ),
        (
            format!("/v1/users/me/likes?cursor={cursor}"),
            "invalid_parameter",
        ),
        (
            format!("/v1/videos/top?cursor={cursor}"),
            "invalid_parameter",
        ),
        (
            "/v1/users/me/likes?resource_type=photo".to_owned(),
            "invalid_parameter",
        ),
        (
            "/v1/users/me/likes?resource_type=".to_owned(),
            "invalid_parameter",
        ),
        ("/v1/videos/0/likes".to_owned(), "invalid_resource_id"),
        ("/v1/videos/x/likes".to_owned(), "invalid_resource_id"),
        ("/v1/users/0/likes".to_owned(), "invalid_user_id"),
        ("/v1/users/Me/likes".to_owned(), "invalid_user_id"),
    ] {
        let refused = client.send("GET", &path, &[USER]);
        assert_eq!(refused.status, 400, "{path}: {refused:?}");
        assert_eq!(refused.problem(), code, "{path}");
    }
    assert_eq!(client.get("/v1/users/me/likes").problem(), "missing_user");
    let theirs = client.send("GET", "/v1/users/1/likes", &[USER]);
    assert_eq!(
        (theirs.status, theirs.problem()),
        (403, "forbidden".to_owned())
    );
    for (method, path, allow) in [
        ("POST", likers, "GET, HEAD"),
        ("GET", STATUS, "POST"),
        ("DELETE", "/v1/users/me/likes", "GET, HEAD"),
        ("PUT", "/v1/comments/top", "GET, HEAD"),
    ] {
        let refused = client.send(method, path, &[USER]);
        assert_eq!(
            (refused.status, refused.header("Allow")),
            (405, Some(allow))
        );
    }
    // Public reads need no user.
    assert_eq!(
        client.get(likers).json()["likes"].as_array().map(Vec::len),
        Some(3)
    );
    assert_eq!(
        client.get("/v1/videos/top").json()["resources"][0]["like_count"],
        3
    );
}

#[test]
fn private_likes_need_the_user_or_a_reading_service() {
    let service = with_services(with_secret()).start();
    let client = service.client();
    let token = hs256(SECRET.as_bytes(), &claims(1));
    let other = hs256(SECRET.as_bytes(), &claims(2));
    let liked = send_body(&client, "PUT", "/v1/videos/7/like", &token, "");
    assert_eq!(liked.status, 200, "{liked:?}");
    pipeline_drains(&service);
    let get = |path: &str, token: &str| send_body(&client, "GET", path, token, "");
    for (path, token) in [
        ("/v1/users/me/likes", token.as_str()),
        ("/v1/users/1/likes", token.as_str()),
        ("/v1/users/1/likes", "lkw_reader"),
        ("/v1/users/1/likes?resource_type=video", "lkw_writer"),
        ("/v1/videos/7/likes", other.as_str()),
        ("/v1/videos/7/likes", "lkw_reader"),
    ] {
        let answer = get(path, token);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(
            answer.json()["likes"].as_array().map(Vec::len),
            Some(1),
            "{path}"
        );
    }
    for (path, token, status, code) in [
        ("/v1/users/1/likes", other.as_str(), 403, "forbidden"),
        ("/v1/users/1/likes", "lkw_watcher", 403, "forbidden"),
        ("/v1/users/me/likes", "lkw_reader", 400, "missing_user"),
        ("/v1/videos/7/likes", "lkw_operator", 403, "forbidden"),
        ("/v1/videos/top", "lkw_operator", 403, "forbidden"),
        ("/v1/videos/top", "lkw_nobody", 401, "unauthorized"),
    ] {
        let refused = get(path, token);
        assert_eq!(refused.status, status, "{path} {token}: {refused:?}");
        assert_eq!(refused.problem(), code, "{path} {token}");
    }
    for path in ["/v1/users/1/likes", "/v1/videos/7/likes", "/v1/videos/top"] {
        assert_eq!(client.get(path).status, 401, "{path}");
    }
    let headers = [("Authorization", "Bearer lkw_reader"), ("X-User-Id", "1")];
    let read = client.try_send("POST", STATUS, &headers, videos(7).as_bytes());
    let read = read.expect("an answer");
    assert_eq!(read.status, 200, "{read:?}");
    assert_eq!(read.json()["items"][6]["liked"], true);
    let headers = [("Authorization", "Bearer lkw_watcher"), ("X-User-Id", "1")];
    let refused = client.try_send("POST", STATUS, &headers, videos(7).as_bytes());
    assert_eq!(refused.expect("an answer").status, 403);
}

#[test]
fn without_database_lists_fail_and_nothing_is_guessed() {
    let stack = Stack::start();
    let mut database = Server::start(Kind::MariaDb);
    let service = stack.setup().on(&Database::first_of(&database)).start();
    let client = service.client();
    client.like(42, 1);
    client.like(42, 2);
    pipeline_drains(&service);
    let warm = post(&client, &videos(3));
    assert_eq!(warm.status, 200, "{warm:?}");
    database.kill();
    for path in ["/v1/videos/1/likes", "/v1/users/me/likes", "/v1/videos/top"] {
        let refused = client.send("GET", path, &[USER]);
        assert_eq!(refused.status, 503, "{path}: {refused:?}");
        assert_eq!(refused.problem(), "unavailable", "{path}");
        assert!(refused.header("Retry-After").is_some());
    }
    let known = post(&client, &videos(3));
    assert_eq!(known.text, warm.text);
    let unknown = post(&client, &videos(4));
    assert_eq!(
        (unknown.status, unknown.problem()),
        (503, "unavailable".to_owned())
    );
    database.run();
    until("the database to be asked again", PATIENCE, || {
        let read = post(&client, &videos(4));
        let listed = client.send("GET", "/v1/users/me/likes", &[USER]);
        if (read.status, listed.status) == (200, 200) {
            Ok(())
        } else {
            Err(format!("{read:?} {listed:?}"))
        }
    });
}
