//! Page reads and lists: invalid requests, callers without the right, and outages of the database.

use serde_json::json;

use crate::support::checks::pipeline_drains;
use crate::support::database::Database;
use crate::support::http::{Answer, Client};
use crate::support::redis_and_nats::Stack;
use crate::support::servers::{Kind, Server};
use crate::support::service::Setup;
use crate::support::tokens::token_of;
use crate::support::until_equal;

const STATUS: &str = "/v1/likes/status";
const USER: (&str, &str) = ("X-User-Id", "42");

fn post(client: &Client, body: &str) -> Answer {
    client.as_user(42).post(STATUS, body)
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
    for body in [
        "",
        "{",
        "{}",
        r#"{"items": 7}"#,
        r#"{"items": [], "user_id": 7}"#,
        r#"{"items": [{"resource_type": "video"}]}"#,
        r#"{"items": [{"resource_type": "Video", "resource_id": 7}]}"#,
        r#"{"items": [{"resource_type": "video", "resource_id": 7.5}]}"#,
        r#"{"items": [{"resource_type": "video", "resource_id": 7, "x": 1}]}"#,
    ] {
        post(&client, body).is_problem(400, "invalid_body");
    }
    for body in [
        r#"{"items": [{"resource_type": "video", "resource_id": "seven"}]}"#,
        r#"{"items": [{"resource_type": "video", "resource_id": 0}]}"#,
        r#"{"items": [{"resource_type": "comment", "resource_id": -7}]}"#,
        &videos(0),
        &videos(501),
    ] {
        post(&client, body).is_problem(422, "unprocessable");
    }
    let most = post(&client, &videos(500)).ok();
    assert_eq!(most["items"].as_array().map(Vec::len), Some(500));
    service.stored_nothing();
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
    let page = client.as_user(1).get(&format!("{likers}?limit=1")).ok();
    let cursor = page["next_cursor"].as_str().expect("another page");
    let user = client.as_user(42);
    for path in [
        "/v1/videos/7/likes?limit=0",
        "/v1/videos/7/likes?limit=201",
        "/v1/videos/7/likes?limit=-1",
        "/v1/videos/7/likes?limit=ten",
        "/v1/videos/7/likes?page=2",
        "/v1/videos/7/likes?limit=1&limit=2",
        "/v1/videos/7/likes?cursor=",
        "/v1/videos/7/likes?cursor=zz",
        &format!("/v1/videos/7/likes?cursor={}", &cursor[2..]),
        &format!("/v1/users/me/likes?cursor={cursor}"),
        &format!("/v1/videos/top?cursor={cursor}"),
        "/v1/users/me/likes?resource_type=photo",
        "/v1/users/me/likes?resource_type=",
    ] {
        user.get(path).is_problem(400, "invalid_parameter");
    }
    for (path, code) in [
        ("/v1/videos/0/likes", "invalid_resource_id"),
        ("/v1/videos/x/likes", "invalid_resource_id"),
        ("/v1/users/0/likes", "invalid_user_id"),
        ("/v1/users/Me/likes", "invalid_user_id"),
    ] {
        user.get(path).is_problem(400, code);
    }
    client
        .get("/v1/users/me/likes")
        .is_problem(400, "missing_user");
    user.get("/v1/users/1/likes").is_problem(403, "forbidden");
    for (method, path, allow) in [
        ("POST", likers, "GET, HEAD"),
        ("GET", STATUS, "POST"),
        ("DELETE", "/v1/users/me/likes", "GET, HEAD"),
        ("PUT", "/v1/comments/top", "GET, HEAD"),
    ] {
        let refused = user.send(method, path, &[]);
        refused.has_status(405);
        assert_eq!(refused.header("Allow"), Some(allow));
    }
    // Public reads need no user.
    let likes = client.get(likers).ok()["likes"].as_array().map(Vec::len);
    assert_eq!(likes, Some(3));
    let top = client.get("/v1/videos/top").ok();
    assert_eq!(top["resources"][0]["like_count"], 3);
}

#[test]
fn private_likes_need_the_user_or_a_reading_service() {
    let service = Setup::new().with_sign_in().with_services().start();
    let client = service.client();
    let (token, other) = (token_of(1), token_of(2));
    client.with_token(&token).put("/v1/videos/7/like").ok();
    pipeline_drains(&service);
    let get = |path: &str, token: &str| client.with_token(token).get(path);
    for (path, token) in [
        ("/v1/users/me/likes", token.as_str()),
        ("/v1/users/1/likes", token.as_str()),
        ("/v1/users/1/likes", "lkw_reader"),
        ("/v1/users/1/likes?resource_type=video", "lkw_writer"),
        ("/v1/videos/7/likes", other.as_str()),
        ("/v1/videos/7/likes", "lkw_reader"),
    ] {
        let likes = get(path, token).ok()["likes"].as_array().map(Vec::len);
        assert_eq!(likes, Some(1), "{path}");
    }
    for (path, token, status, code) in [
        ("/v1/users/1/likes", other.as_str(), 403, "forbidden"),
        ("/v1/users/1/likes", "lkw_watcher", 403, "forbidden"),
        ("/v1/users/me/likes", "lkw_reader", 400, "missing_user"),
        ("/v1/videos/7/likes", "lkw_operator", 403, "forbidden"),
        ("/v1/videos/top", "lkw_operator", 403, "forbidden"),
        ("/v1/videos/top", "lkw_nobody", 401, "unauthorized"),
    ] {
        get(path, token).is_problem(status, code);
    }
    for path in ["/v1/users/1/likes", "/v1/videos/7/likes", "/v1/videos/top"] {
        client.get(path).has_status(401);
    }
    let post = |token| client.as_user(1).with_token(token).post(STATUS, videos(7));
    assert_eq!(post("lkw_reader").ok()["items"][6]["liked"], true);
    post("lkw_watcher").has_status(403);
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
    warm.ok();
    database.kill();
    for path in ["/v1/videos/1/likes", "/v1/users/me/likes", "/v1/videos/top"] {
        let refused = client.send("GET", path, &[USER]);
        refused.is_problem(503, "unavailable");
        assert!(refused.header("Retry-After").is_some());
    }
    let known = post(&client, &videos(3));
    assert_eq!(known.text, warm.text);
    // The entry of the user is complete, and only the database knows the count of the fourth.
    let fourth = &post(&client, &videos(4)).ok()["items"][3];
    assert_eq!(
        (&fourth["liked"], &fourth["like_count"]),
        (&json!(false), &json!(null))
    );
    let stranger = client.as_user(43);
    stranger
        .post("/v1/likes/status", videos(4))
        .is_problem(503, "unavailable");
    database.run();
    until_equal("the database to be queried again", (200, 200), || {
        let listed = client.send("GET", "/v1/users/me/likes", &[USER]);
        (post(&client, &videos(4)).status, listed.status)
    });
}

#[test]
fn errors_name_the_parameter_and_what_it_may_be() {
    let service = Setup::new().start();
    let client = service.client();
    let user = client.as_user(42);
    for (path, detail) in [
        (
            "/v1/videos/7/likes?limit=-1",
            "'limit': invalid value: string \"-1\", expected a positive whole number of at most 18 digits",
        ),
        (
            "/v1/users/me/likes?limit=x",
            "'limit': invalid value: string \"x\", expected a positive whole number of at most 18 digits",
        ),
        (
            "/admin/ledger/events?status=foo",
            "'status': unknown variant `foo`, expected one of `pending`, `processing`, `completed`, `failed`, \
             `dead`",
        ),
        (
            "/admin/ledger/events?since=noon",
            "'since': invalid value: string \"noon\", expected a time such as 2026-01-31T23:59:00Z",
        ),
        ("/v1/likes/live", "missing field `resources`"),
        (
            "/v1/videos/top?page=2",
            "'page': unknown field `page`, expected `limit` or `cursor`",
        ),
    ] {
        let answer = user.get(path);
        answer.is_problem(400, "invalid_parameter");
        let expected = format!("the query is invalid: {detail}");
        assert_eq!(answer.json()["detail"], expected, "{path}");
    }
}

#[test]
fn errors_name_the_field_of_a_body() {
    let service = Setup::new().start();
    let client = service.client();
    for (body, detail) in [
        (json!([]), "it must be a JSON object"),
        (json!("likes"), "it must be a JSON object"),
        (json!({"behaviors": 7}), "'behaviors': "),
        (json!({}), "missing field `behaviors`"),
    ] {
        let answer = client.post("/v1/likes", body);
        answer.is_problem(400, "invalid_body");
        let answer = answer.json();
        let found = answer["detail"].as_str().expect("a text");
        let expected = format!("the body is invalid: {detail}");
        assert!(found.starts_with(&expected), "{found}");
    }
}
