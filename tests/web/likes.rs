//! `/v1/videos/{video_id}/like` with invalid requests: nothing is stored, and each answer is a problem with a stable
//! code.

use insta::assert_json_snapshot;
use serde_json::{Value, json};

use crate::support::checks::pipeline_drains;
use crate::support::http::Actor;
use crate::support::raw_tcp::Raw;
use crate::support::service::{Service, Setup};
use crate::support::{redacted, until_seen};

const PATH: &str = "/v1/videos/7/like";
const USER: (&str, &str) = ("X-User-Id", "42");

#[track_caller]
fn is_untouched(service: &Service) {
    service.stored_nothing();
    let client = service.client();
    client.get("/readyz").ok();
    // The retry scheduler reserves room while it looks for due rows.
    let are_idle = |actors: &Vec<Actor>| actors.iter().all(|actor| actor.mailbox.depth == 0);
    for actor in until_seen("empty mailboxes", || client.actors(), are_idle) {
        assert_eq!((actor.errors, actor.panics), (0, 0), "{actor:?}");
        assert_eq!(actor.state, "running");
    }
}

#[test]
fn repeated_like_keeps_its_time_and_place() {
    let service = Setup::new().start();
    let client = service.client();
    let list = || {
        pipeline_drains(&service);
        let answer = client.as_user(42).get("/v1/users/me/likes").ok();
        let likes = answer["likes"].as_array().expect("likes");
        let like = |like: &Value| (like["resource_id"].clone(), like["liked_at"].clone());
        likes.iter().map(like).collect::<Vec<_>>()
    };
    client.like(42, 7);
    client.like(42, 8);
    let before = list();
    assert_eq!((&before[0].0, &before[1].0), (&json!(8), &json!(7)));
    let again = client.like(42, 7);
    assert_eq!((again.changed, again.like_count), (Some(false), Some(1)));
    assert_eq!(list(), before);
    client.unlike(42, 7);
    client.like(42, 7);
    let after = list();
    assert_eq!((&after[0].0, &after[1]), (&json!(7), &before[0]));
    assert!(after[0].1.as_str() > before[1].1.as_str(), "{after:?}");
}

#[test]
fn comment_likes_are_separate_from_video_likes() {
    let service = Setup::new().start();
    let client = service.client();
    let path = "/v1/comments/7/like";
    let liked = client.send("PUT", path, &[USER]).json();
    assert_json_snapshot!(redacted(liked, &["event_id"]), @r#"
    {
      "cached": true,
      "changed": true,
      "durability": "database",
      "event_id": "[event_id]",
      "like_count": 1,
      "liked": true,
      "resource_id": 7,
      "resource_type": "comment",
      "user_id": 42
    }
    "#);
    let read = |path: &str| client.send("GET", path, &[USER]).json();
    assert_json_snapshot!(read(path), @r#"
    {
      "like_count": 1,
      "liked": true,
      "resource_id": 7,
      "resource_type": "comment",
      "user_id": 42
    }
    "#);
    assert_eq!(read(PATH)["liked"], false);
    service.setup().verify(30).holds();
    let database = service.database();
    let rows = database.count("comment_likes WHERE comment_id = 7");
    assert_eq!(rows, 1);
    assert_eq!(database.count("video_likes"), 0);
    let unliked = client.send("DELETE", path, &[USER]).json();
    assert_json_snapshot!(redacted(unliked, &["event_id"]), @r#"
    {
      "cached": true,
      "changed": true,
      "durability": "database",
      "event_id": "[event_id]",
      "like_count": 0,
      "liked": false,
      "resource_id": 7,
      "resource_type": "comment",
      "user_id": 42
    }
    "#);
    assert_eq!(read(path)["liked"], false);
    let refused = client.send("POST", path, &[USER]);
    assert_eq!(refused.problem(), "method_not_allowed");
}

#[test]
fn invalid_ids_are_rejected() {
    let service = Setup::new().start();
    let client = service.client();
    for method in ["PUT", "DELETE", "GET"] {
        for id in [
            "0",
            "-1",
            "+1",
            "1.0",
            "1e3",
            "seven",
            "0x7",
            "%20",
            "%D9%A7",
            "9223372036854775808",
            "99999999999999999999999999",
            "18446744073709551617",
        ] {
            let answer = client.send(method, &format!("/v1/videos/{id}/like"), &[USER]);
            answer.is_problem(400, "invalid_resource_id");
        }
        for user in ["", "0", "-1", "1.5", "me", "9223372036854775808", "1,2"] {
            let answer = client.send(method, PATH, &[("X-User-Id", user)]);
            answer.is_problem(400, "invalid_user_id");
        }
        for (headers, code) in [
            (&[][..], "missing_user"),
            (&[("X-User", "42")][..], "missing_user"),
            (&[USER, ("X-User-Id", "43")][..], "invalid_user_id"),
            (&[USER, USER][..], "invalid_user_id"),
        ] {
            let answer = client.send(method, PATH, headers);
            // Without a user, the read succeeds as a visitor's.
            if (method, code) == ("GET", "missing_user") {
                answer.ok();
            } else {
                answer.is_problem(400, code);
            }
        }
    }
    is_untouched(&service);
}

#[test]
fn unknown_path_is_404_and_wrong_method_is_405() {
    let service = Setup::new().start();
    let client = service.client();
    for path in [
        "/v1",
        "/v1/videos",
        "/v1/videos/7/likers",
        "/v1/videos/7/like/8",
        "/v1/photos/7/like",
        "/v2/videos/7/like",
        "/admins",
        "/admin/secrets",
    ] {
        for method in ["GET", "PUT"] {
            let answer = client.send(method, path, &[USER]);
            answer.is_problem(404, "not_found");
        }
    }
    for (method, path, allow) in [
        ("POST", PATH, "GET, HEAD, PUT, DELETE"),
        ("PATCH", PATH, "GET, HEAD, PUT, DELETE"),
        ("GET", "/v1/videos/7", "DELETE"),
        ("PUT", "/healthz", "GET, HEAD"),
        ("POST", "/readyz", "GET, HEAD"),
        ("DELETE", "/metrics", "GET, HEAD"),
        ("POST", "/admin/actors", "GET, HEAD"),
        ("GET", "/admin/faults/panic/cache_writer", "POST"),
    ] {
        let answer = client.send(method, path, &[USER]);
        answer.is_problem(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
    }
    is_untouched(&service);
}

#[test]
fn body_over_its_limit_is_rejected() {
    let service = Setup::new().start();
    let client = service.client().as_user(42);
    let largest = "x".repeat(256 * 1024);
    let answer = client.send_body("PUT", PATH, &format!("{largest}x"));
    answer.is_problem(413, "body_too_large");

    // A body without a declared length has the same limit.
    let mut request = head("Transfer-Encoding: chunked");
    for _ in 0..33 {
        request.extend_from_slice(b"2000\r\n");
        request.extend_from_slice(&[b'x'; 0x2000]);
        request.extend_from_slice(b"\r\n");
    }
    let mut raw = Raw::connect(service.address());
    raw.send(&request).send(b"0\r\n\r\n").half_close();
    let answer = raw.answer().expect("an answer");
    assert_eq!(answer.status, 413, "{answer:?}");
    assert!(answer.body.contains("body_too_large"), "{answer:?}");
    is_untouched(&service);

    client.send_body("PUT", PATH, &largest).ok();
}

fn head(header: &str) -> Vec<u8> {
    format!("PUT {PATH} HTTP/1.1\r\nHost: localhost\r\nX-User-Id: 42\r\nContent-Type: application/json\r\n{header}\r\n\r\n").into_bytes()
}

#[test]
fn incomplete_request_stores_nothing() {
    let service = Setup::new().start();
    let with_length = head("Content-Length: 100");
    let half_body = [&with_length[..], &[b'x'; 50]].concat();
    let chunked = head("Transfer-Encoding: chunked");
    let half_chunk = [&chunked[..], b"64\r\nxxxxx"].concat();
    let no_last_chunk = [&chunked[..], b"4\r\nxxxx\r\n"].concat();
    let half_head = &with_length[..with_length.len() - 30];
    let almost_all_of_the_head = &with_length[..with_length.len() - 1];

    // The client keeps the connection open for the answer.
    for request in [&with_length, &half_body, &half_chunk, &no_last_chunk] {
        let mut raw = Raw::connect(service.address());
        raw.send(request).half_close();
        // No answer is allowed too, because the client broke its promise of a length.
        if let Some(answer) = raw.answer() {
            assert_eq!(answer.status, 400, "{answer:?}");
            let kind = "content-type: application/problem+json";
            assert!(answer.head.contains(kind), "{answer:?}");
            assert!(
                answer.body.contains("\"code\":\"incomplete_body\""),
                "{answer:?}"
            );
        }
    }
    // The client has disconnected.
    for request in [
        &with_length[..],
        &half_body,
        &half_chunk,
        &no_last_chunk,
        half_head,
        almost_all_of_the_head,
        b"PU",
        b"",
    ] {
        for _ in 0..5 {
            Raw::connect(service.address()).send(request);
        }
    }
    // The answer to a later request shows that the earlier ones were read too.
    for _ in 0..20 {
        assert_eq!(service.client().get("/healthz").status, 200);
    }
    is_untouched(&service);
    assert!(!service.client().read(42, 7).liked);
    assert_eq!(service.client().like(42, 7).like_count, Some(1));
}

#[test]
fn non_http_input_is_rejected() {
    let service = Setup::new().start();
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"LIKE 7\r\n\r\n",
        b"PUT /v1/videos/7/like HTTP/9.9\r\nX-User-Id: 42\r\n\r\n",
        b"PUT /v1/videos/7/like HTTP/1.1\r\nX-User-Id: 42\r\nContent-Length: -1\r\n\r\n",
        b"PUT /v1/videos/7/like HTTP/1.1\r\nX-User-Id: 42\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"PUT /v1/videos/7/like HTTP/1.1\r\nX-User-Id: \xff\xfe\r\n\r\n",
    ] {
        let mut raw = Raw::connect(service.address());
        raw.send(garbage).half_close();
        if let Some(answer) = raw.answer() {
            assert_eq!(answer.status, 400, "{answer:?}");
        }
    }
    is_untouched(&service);
}
