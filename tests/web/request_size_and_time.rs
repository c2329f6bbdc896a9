//! The limits of one request: length and time. Slow clients are disconnected.

use std::thread;
use std::time::Duration;

use crate::support::raw_tcp::{Raw, RawAnswer};
use crate::support::service::{Service, Setup};
use crate::support::until_equal;

const PATH: &str = "/v1/videos/7/like";

/// The start of a like.
const HEAD: &str = "PUT /v1/videos/7/like HTTP/1.1\r\nHost: localhost\r\n";

/// The header of a request with a body.
const JSON: &str = "Content-Type: application/json\r\n";

/// Sends the start and then single bytes, for at most 40 s. Returns the answer, and whether the server disconnected.
fn trickle(service: &Service, start: &str, rest: &str) -> (Option<RawAnswer>, bool) {
    let mut raw = Raw::connect(service.address());
    raw.send(start.as_bytes());
    let mut slow = raw.again();
    let rest = rest.as_bytes().to_vec();
    let sender = thread::spawn(move || {
        rest.iter().cycle().take(200).any(|byte| {
            thread::sleep(Duration::from_millis(200));
            !slow.try_send(&[*byte])
        })
    });
    let answer = raw.answer();
    (answer, sender.join().expect("the sender ends"))
}

#[test]
fn slow_client_is_disconnected_and_stores_nothing() {
    let service = Setup::new().start();
    let head = format!("{HEAD}X-User-Id: 42\r\n{JSON}");
    let body = format!("{head}Content-Length: 1000\r\n\r\n");
    let chunks = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    let health = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n";
    let second = format!("{health}\r\n{HEAD}");
    let unread = format!("{health}{JSON}Transfer-Encoding: chunked\r\n\r\n");
    let cases = [
        ("a head", HEAD, "X-Slow: a\r\n", 408),
        ("a body", &body, "x", 408),
        ("chunks", &chunks, "1\r\nx\r\n", 408),
        (
            "the head of a second request",
            &second,
            "X-Slow: a\r\n",
            200,
        ),
        ("a body that no handler reads", &unread, "1\r\nx\r\n", 200),
    ];
    thread::scope(|scope| {
        for (what, start, rest, status) in &cases {
            let service = &service;
            scope.spawn(move || {
                let (answer, is_disconnected) = trickle(service, start, rest);
                let answer = answer.unwrap_or_else(|| panic!("{what}: no answer"));
                assert_eq!(answer.status, *status, "{what}: {answer:?}");
                assert!(is_disconnected, "{what}: {answer:?}");
            });
        }
    });
    service.stored_nothing();
    assert_eq!(service.client().like(42, 7).like_count, Some(1));
}

#[test]
fn oversized_requests_are_rejected() {
    let service = Setup::new().start();
    let client = service.client().as_user(42);
    let long = |bytes| "x".repeat(bytes);
    let answer = client.put(&format!("{PATH}?{}", long(3_000)));
    answer.is_problem(414, "uri_too_long");
    let answer = client.with("X-Long", long(20_000)).put(PATH);
    answer.is_problem(431, "headers_too_large");
    let many = (0..70).fold(client, |client, number| {
        client.with(&format!("X-{number}"), "x")
    });
    many.put(PATH).is_problem(431, "headers_too_large");
    for (name, head) in [
        ("headers", "X: y\r\n".repeat(2_000)),
        ("one header", format!("X: {}", long(200_000))),
    ] {
        let mut raw = Raw::connect(service.address());
        raw.send(format!("{HEAD}X-User-Id: 42\r\n{head}\r\n\r\n").as_bytes());
        // The server may close the connection before the whole request was sent.
        raw.half_close();
        if let Some(answer) = raw.answer() {
            assert_eq!(answer.status, 431, "{name}: {answer:?}");
        }
    }
    service.stored_nothing();
}

#[test]
fn timed_out_request_still_stores_its_like() {
    let setup = Setup::new().set("LIKEWISE_REQUEST_TIMEOUT_SECONDS", 1);
    let service = setup.start();
    let client = service.client();
    let held = service.database().hold_writes();
    // A lock keeps the database from answering until this request is answered.
    let answer = client.as_user(42).put(PATH);
    answer.is_problem(503, "timed_out");
    assert_eq!(answer.header("retry-after"), Some("1"));
    drop(held);
    service.database().until_count("user_behaviors", 1);
    // The connection stays usable, and a like that times out again counts once.
    let like = || client.as_user(43).put(PATH).status;
    until_equal("a like in time", 200, like);
    assert_eq!(client.read(43, 7).like_count, Some(2));
}

#[test]
fn client_that_reads_no_response_is_disconnected() {
    // More than the socket buffers of both sides hold.
    const REQUESTS: usize = 30;
    let service = Setup::new().start();
    let file = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut raw = Raw::connect(service.address());
    raw.send(file.repeat(REQUESTS).as_bytes());
    let mut writer = raw.again();
    until_equal("the service to take more", false, || {
        thread::sleep(Duration::from_secs(1));
        writer.try_send(b"\r\n")
    });
    let answer = raw.answer().expect("the first answers");
    let answers = answer.body.matches("HTTP/1.1 200 OK").count() + 1;
    assert!(answers < REQUESTS, "{answers} answers");
}

#[test]
fn pausing_client_keeps_its_connection() {
    const PAUSE: Duration = Duration::from_millis(1_500);
    const REQUESTS: usize = 5;
    // The lock on the database outlasts no other limit, however busy the machine is.
    let service = Setup::new()
        .set("LIKEWISE_DATABASE_TIMEOUT_SECONDS", 60)
        .set("LIKEWISE_LEASE_SECONDS", 90)
        .set("LIKEWISE_REQUEST_TIMEOUT_SECONDS", 120)
        .start();
    let mut raw = Raw::connect(service.address());
    for request in 0..REQUESTS {
        let like = format!("{HEAD}X-User-Id: {}\r\n", request + 1);
        raw.send(like.as_bytes()).send(b"\r\n");
        thread::sleep(PAUSE);
    }
    // Longer than the limit for a request head: this time is the service's, not the client's.
    let held = service.database().hold_writes();
    let last = format!("{HEAD}X-User-Id: 42\r\nConnection: close\r\n\r\n");
    raw.send(last.as_bytes());
    thread::sleep(4 * PAUSE + Duration::from_secs(2));
    drop(held);
    let answer = raw.answer().expect("answers");
    let answers = format!("{}\r\n\r\n{}", answer.head, answer.body).to_lowercase();
    let accepted = answers.matches("http/1.1 200 ok").count();
    assert_eq!(accepted, REQUESTS + 1, "{answers}");
}
