//! Changed counts reach their watchers, in this process and in others, and a watcher resumes where it stopped.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{videos, watch, watch_after};
use crate::support::checks::pipeline_drains;
use crate::support::nginx::{Gateway, HOST, TOKEN};
use crate::support::say;
use crate::support::service::Setup;
use crate::support::sse::EventSource;
use crate::support::tokens::service_token;

/// Far more than a push takes, so that only a push that waits for something else fails.
const SOON: Duration = Duration::from_secs(8);

matrix!([embedded, mariadb_stack, postgres_stack]: changed_count_is_pushed);

fn changed_count_is_pushed(setup: Setup) {
    const LIKES: i64 = 20;
    let service = setup.start();
    let client = service.client();
    let source = watch(&service, 7);
    let head = source.received().head;
    for header in [
        "content-type: text/event-stream",
        "cache-control: no-store",
        "x-accel-buffering: no",
    ] {
        assert!(head.contains(header), "{head}");
    }
    // The current count comes first, of a video that nobody has liked.
    source.until_count(7, 0);
    assert!(source.received().retry.is_some_and(|wait| wait >= 1_000));
    let mut waits = Vec::new();
    for user in 1..=LIKES {
        let began = Instant::now();
        client.like(user, 7);
        let event = source.until_count(7, user);
        waits.push(event.at - began);
        assert!(event.id.is_some());
        assert_eq!(event.data["resource_type"], "video");
    }
    waits.sort();
    say(format_args!(
        "from the request to the watcher: median {:?}, longest {:?}",
        waits[waits.len() / 2],
        waits[waits.len() - 1]
    ));
    assert!(waits[waits.len() / 2] < SOON, "{waits:?}");
    client.unlike(3, 7);
    source.until_count(7, LIKES - 1);
    let events = source.received().events;
    let revisions: Vec<_> = events.iter().map(|event| event.count().2).collect();
    assert!(
        revisions.is_sorted_by(|one, next| one < next),
        "{revisions:?}"
    );
    // Of another watcher, the first event has the current count.
    let second = watch(&service, 7);
    second.until_count(7, LIKES - 1);
    assert_eq!(second.received().events.len(), 1);
    drop((source, second));
    service.stop();
}

#[test]
fn burst_of_likes_is_coalesced() {
    const LIKES: i64 = 1_000;
    let service = Setup::new().start();
    let source = watch(&service, 7);
    let behavior = |user| json!({"user_id": user, "resource_type": "video", "resource_id": 7, "behavior": "like"});
    let behaviors: Vec<_> = (1..=LIKES).map(behavior).collect();
    let client = service.client();
    for some in behaviors.chunks(100) {
        client.post("/v1/likes", json!({"behaviors": some})).ok();
    }
    source.until_count(7, LIKES);
    let received = source.received();
    say(format_args!(
        "{} events of {LIKES} likes",
        received.events.len()
    ));
    let times: Vec<_> = received.events.iter().map(|event| event.at).collect();
    let span = *times.last().expect("events") - times[0];
    let most = span.as_millis() / 50 + 2;
    // At most one in 50 ms; a busy machine delivers some together.
    assert!(
        (times.len() as u128) < 2 * most + 5,
        "{} in {span:?}",
        times.len()
    );
    service.stop();
}

#[test]
fn watcher_resumes_on_another_process() {
    let first = Setup::on_parts(crate::support::servers::Kind::MariaDb).start();
    let second = first.setup().beside().start();
    let source = watch(&first, 7);
    first.client().like(1, 7);
    let seen = source.until_count(7, 1).id.expect("an id");
    drop(source);
    first.client().like(2, 7);
    pipeline_drains(&first);
    let resumed = watch_after(&second, 7, Some(&seen));
    let newest = resumed.until_count(7, 2).id.expect("an id");
    // Nothing is newer than the newest: the next event is the next change.
    let again = watch_after(&first, 7, Some(&newest));
    second.client().like(3, 7);
    again.until_count(7, 3);
    assert_eq!(again.received().events.len(), 1, "{:?}", again.received());
    resumed.until_count(7, 3);
    // Ids of others, and of nobody, show everything.
    for id in ["", "7", "0-0-0", &newest[1..]] {
        watch_after(&second, 7, Some(id)).until_count(7, 3);
    }
    first.stop();
    second.stop();
}

#[test]
fn likes_on_one_process_are_pushed_by_another() {
    let setup = Setup::on_parts(crate::support::servers::Kind::Postgres);
    let api = setup.start_as(&["serve", "--role", "api"]);
    let other = api.setup().beside().start_as(&["serve", "--role", "api"]);
    let worker = api
        .setup()
        .beside()
        .start_as(&["serve", "--role", "worker"]);
    let sources = [watch(&api, 7), watch(&other, 7)];
    let mut longest = Duration::ZERO;
    for user in 1..=10 {
        let began = Instant::now();
        let client = [&api, &other][user as usize % 2].client();
        client.like(user, 7);
        for source in &sources {
            longest = longest.max(source.until_count(7, user).at - began);
        }
    }
    say(format_args!("over NATS, the longest push took {longest:?}"));
    // The database, which is read every ten seconds, was not needed.
    assert!(longest < SOON, "{longest:?}");
    for service in [api, other, worker] {
        service.stop();
    }
}

#[test]
fn hundred_resources_share_a_stream() {
    let service = Setup::new().start();
    let client = service.client();
    client.like(1, 5);
    client
        .send("PUT", "/v1/comments/5/like", &[("X-User-Id", "1")])
        .ok();
    pipeline_drains(&service);
    let mut path = videos(1..=99);
    path += ",comment:5,video:5";
    let source = EventSource::open(service.address(), &path, &[]);
    let first = source.until("the current counts", |received| {
        (received.events.len() >= 100).then(|| received.events.clone())
    });
    assert_eq!(first.len(), 100);
    let of = |kind: &str| {
        first
            .iter()
            .find(|event| event.data["resource_type"] == kind && event.count().0 == 5)
    };
    assert_eq!(of("video").map(|event| event.count().1), Some(1));
    assert_eq!(of("comment").map(|event| event.count().1), Some(1));
    // Only the last event of a transmission has an id, so a watcher never resumes in the middle of one.
    assert!(first[..99].iter().all(|event| event.id.is_none()));
    let id = first[99].id.clone().expect("an id");
    for video in 1..=99 {
        client.like(2, video);
    }
    for video in 1..=99 {
        source.until_count(video, 1 + i64::from(video == 5));
    }
    drop(source);
    // Every video has changed since, and the comment has not.
    let resumed = EventSource::open(service.address(), &path, &[("Last-Event-ID", &id)]);
    let events = resumed.until("what has changed", |received| {
        (received.events.len() >= 99).then(|| received.events.clone())
    });
    let counts: BTreeMap<_, _> = events
        .iter()
        .map(|event| (event.count().0, event.count().1))
        .collect();
    assert_eq!((events.len(), counts.len(), counts[&5]), (99, 99, 2));
    assert!(
        events
            .iter()
            .all(|event| event.data["resource_type"] == "video")
    );
    service.stop();
}

#[test]
fn text_ids_are_watched() {
    let service = Setup::new()
        .set("LIKEWISE_RESOURCE_IDS", "text")
        .set("LIKEWISE_RESOURCE_TYPES", "post")
        .start();
    let client = service.client();
    // An id with a comma and a percent sign is encoded within the list, and the list in the URL.
    let path = "/v1/likes/live?resources=post:a%252Cb%2525%2Cpost:c%7Cd";
    let source = EventSource::open(service.address(), path, &[]);
    for id in ["a%2Cb%25", "c%7Cd"] {
        client
            .send(
                "PUT",
                &format!("/v1/posts/{id}/like"),
                &[("X-User-Id", "1")],
            )
            .ok();
    }
    for id in ["a,b%", "c|d"] {
        source.until("its count", |received| {
            let mut events = received.events.iter();
            events
                .find(|event| event.data["resource_id"] == id && event.data["like_count"] == 1)
                .map(drop)
        });
    }
    service.stop();
}

#[test]
fn numbers_are_text_where_json_has_them_so() {
    let service = Setup::new().set("LIKEWISE_JSON_IDS", "string").start();
    let source = watch(&service, 7);
    let id = source.until("an event", |received| {
        received
            .events
            .first()
            .map(|event| event.data["resource_id"].clone())
    });
    assert_eq!(id, "7");
}

#[test]
fn unusable_requests_are_refused() {
    let service = Setup::new().start();
    let client = service.client();
    let many = videos(1..=101);
    for (path, code, detail) in [
        ("/v1/likes/live", "invalid_parameter", "resources"),
        (
            "/v1/likes/live?resources=",
            "invalid_parameter",
            "video:7,comment:9",
        ),
        ("/v1/likes/live?resources=7", "invalid_parameter", "'7'"),
        (
            "/v1/likes/live?resources=post:7",
            "invalid_parameter",
            "post",
        ),
        (
            "/v1/likes/live?resources=video:x",
            "invalid_parameter",
            "an id",
        ),
        (
            "/v1/likes/live?resources=video:7&user=1",
            "invalid_parameter",
            "user",
        ),
        (many.as_str(), "invalid_parameter", "at most 100"),
        ("/v1/videos/x/likes/live", "invalid_resource_id", "number"),
    ] {
        let answer = client.get(path);
        assert_eq!(answer.status, 400, "{path}");
        assert_eq!(answer.problem(), code, "{path}");
        assert!(answer.text.contains(detail), "{answer:?}");
    }
    let long = format!("/v1/likes/live?resources={}", "video:1,".repeat(1_200));
    assert_eq!(client.get(&long).problem(), "uri_too_long");
    assert_eq!(client.send("POST", "/v1/likes/live", &[]).status, 405);
    let head = client.send("HEAD", "/v1/videos/7/likes/live", &[]);
    assert_eq!((head.status, &*head.text), (200, ""));
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
}

#[test]
fn erased_resource_ends_its_stream() {
    let service = Setup::new().start();
    let client = service.client();
    client.like(1, 7);
    pipeline_drains(&service);
    let source = watch(&service, 7);
    source.until_count(7, 1);
    client.send("DELETE", "/v1/videos/7", &[]);
    let event = source.until("the end of the video", |received| {
        let last = received.events.last()?;
        (last.name == "erased").then(|| last.clone())
    });
    assert_eq!(
        event.data,
        json!({"resource_type": "video", "resource_id": 7})
    );
    source.until_ended();
    assert_eq!(
        client.get("/v1/videos/7/likes/live").problem(),
        "resource_erased"
    );
    service.stop();
}

#[test]
fn events_pass_nginx_at_once() {
    let setup = Setup::new()
        .set("LIKEWISE_HTTP_HOSTS", HOST)
        .set("LIKEWISE_TOKENS_FILE", "tokens.toml");
    let entry = service_token("gateway", TOKEN, &["likes:write:any"]);
    setup.write("tokens.toml", entry);
    let service = setup.start();
    let gateway = Gateway::before(&service);
    let open =
        |path: &str| EventSource::open(gateway.recommended_address(), path, &[("Host", HOST)]);
    let sources = [open("/v1/videos/7/likes/live"), open(&videos([7, 8]))];
    for source in &sources {
        source.until_count(7, 0);
    }
    for user in 1..=3 {
        service.client().like(user, 7);
        for source in &sources {
            source.until_count(7, user);
        }
    }
}
