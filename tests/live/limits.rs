//! Who may watch, how many, and for how long.

use std::time::{Duration, Instant};

use super::{videos, watch};
use crate::support::raw_tcp::Raw;
use crate::support::service::{Service, Setup, Signal};
use crate::support::sse::EventSource;
use crate::support::tokens::token_of;
use crate::support::{PATIENCE, say, until_equal, until_seen};

/// The number of open streams, as the metrics tell.
fn open_streams(service: &Service) -> i64 {
    let metrics = service.client().get("/metrics").text;
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("likewise_live_streams{kind=\"counts\"} "));
    line.and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

#[test]
fn connections_are_bounded() {
    let service = Setup::new().set("LIKEWISE_LIVE_CONNECTIONS", 2).start();
    let client = service.client();
    let path = "/v1/videos/7/likes/live";
    let first = watch(&service, 7);
    let second = watch(&service, 8);
    let refused = client.get(path);
    assert_eq!(refused.status, 503);
    assert_eq!(refused.problem(), "too_many_watchers");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(open_streams(&service), 2);
    // Other requests are not affected, and neither are the operators.
    client.like(1, 7);
    first.until_count(7, 1);
    let operator = EventSource::open(service.address(), "/admin/live", &[]);
    assert_eq!(operator.received().status, 200);
    // A watcher that leaves makes room at once, not at the next heartbeat.
    let began = Instant::now();
    drop(first);
    until_equal("a free place", 1, || open_streams(&service));
    say(format_args!(
        "the place was free after {:?}",
        began.elapsed()
    ));
    assert!(began.elapsed() < Duration::from_secs(12));
    watch(&service, 7).until_count(7, 1);
    drop(second);
    service.stop();
}

#[test]
fn watchers_need_the_right_to_read_counts() {
    let path = "/v1/videos/7/likes/live";
    let several = videos([7, 8]);
    let status = |service: &Service, path: &str, headers: &[(&str, &str)]| {
        EventSource::open(service.address(), path, headers)
            .received()
            .status
    };
    let closed = Setup::new().with_sign_in().with_services().start();
    let bearer = format!("Bearer {}", token_of(42));
    for path in [path, &several] {
        assert_eq!(status(&closed, path, &[]), 401);
        assert_eq!(status(&closed, path, &[("Authorization", &bearer)]), 200);
        assert_eq!(
            status(&closed, path, &[("Authorization", "Bearer lkw_reader")]),
            200
        );
        assert_eq!(
            status(&closed, path, &[("Authorization", "Bearer lkw_watcher")]),
            403
        );
    }
    let open = Setup::new()
        .with_sign_in()
        .set("LIKEWISE_PUBLIC_READS", true)
        .start();
    assert_eq!(status(&open, path, &[]), 200);
    // Pages of other origins may not read without sign-in.
    let none = Setup::new().start();
    assert_eq!(
        status(&none, path, &[("Origin", "https://evil.example")]),
        403
    );
    let limited = Setup::new()
        .set("LIKEWISE_RATE_LIMIT_ADDRESS", "2/3000")
        .start();
    assert_eq!(status(&limited, path, &[]), 200);
    assert_eq!(status(&limited, &several, &[]), 200);
    assert_eq!(status(&limited, path, &[]), 429);
}

#[test]
fn streams_end_when_the_process_stops() {
    let mut service = Setup::new().start();
    let sources: Vec<_> = (1..=20).map(|video| watch(&service, video)).collect();
    let operator = EventSource::open(service.address(), "/admin/live", &[]);
    let began = Instant::now();
    service.signal(Signal::TERM);
    for source in sources.iter().chain([&operator]) {
        source.until_ended();
        // The server would break off a stream that it had waited for in vain.
        assert!(source.received().is_whole, "{:?}", source.received());
    }
    let ended = began.elapsed();
    assert!(service.wait(PATIENCE).success());
    say(format_args!(
        "the streams ended after {ended:?}, the process after {:?}",
        began.elapsed()
    ));
}

#[test]
fn streams_stay_open_during_the_drain_delay() {
    let mut service = Setup::new()
        .set("LIKEWISE_DRAIN_DELAY_SECONDS", 300)
        .start();
    let source = watch(&service, 7);
    service.signal(Signal::TERM);
    service.client().until_status("/readyz", 503);
    service.client().like(1, 7);
    source.until_count(7, 1);
    service.signal(Signal::INT);
    source.until_ended();
    assert!(service.wait(PATIENCE).success());
}

#[test]
fn slow_reader_hurts_nobody_and_is_closed() {
    let service = Setup::new().start();
    let client = service.client();
    let path = videos(1..=100);
    // Reads nothing at all.
    let mut slow = Raw::connect(service.address());
    slow.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    let healthy = EventSource::open(service.address(), &path, &[]);
    until_equal("two streams", 2, || open_streams(&service));
    let before = service.memory_kib();
    let mut user = 0;
    // Changes of all hundred videos, until the connection that takes no bytes is closed.
    until_seen(
        "the end of the slow stream",
        || {
            user += 1;
            let behaviors: Vec<_> = (1..=100)
                .map(|video| {
                    serde_json::json!({
                        "user_id": user, "resource_type": "video", "resource_id": video, "behavior": "like",
                    })
                })
                .collect();
            client
                .post("/v1/likes", serde_json::json!({"behaviors": behaviors}))
                .ok();
            open_streams(&service)
        },
        |open| *open == 1,
    );
    for video in 1..=100 {
        healthy.until_count(video, user);
    }
    let grown = service.memory_kib().saturating_sub(before);
    say(format_args!(
        "{user} changes of 100 counts, memory grew by {grown} KiB"
    ));
    drop(slow);
    service.stop();
}
