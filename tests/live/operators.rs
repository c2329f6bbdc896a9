//! `/admin/live`: the report of the actors, once a second for all who watch.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::support::service::Setup;
use crate::support::sse::{Event, EventSource};

const PATH: &str = "/admin/live";

fn sequences(events: &[Event]) -> Vec<i64> {
    let numbers = events.iter().map(|event| {
        assert_eq!(event.name, "actors");
        event.data["sequence"].as_i64().expect("a number")
    });
    numbers.collect()
}

#[test]
fn actor_reports_are_pushed_and_shared() {
    let service = Setup::new().start();
    let client = service.client();
    let began = Utc::now();
    let sources: Vec<_> = (0..5)
        .map(|_| EventSource::open(service.address(), PATH, &[]))
        .collect();
    for source in &sources {
        source.until("four reports", |received| {
            (received.events.len() >= 4).then_some(())
        });
    }
    client.like(1, 7);
    let first = sources[0].received();
    assert!(first.head.contains("content-type: text/event-stream"));
    // The same JSON as that of /admin/actors.
    let names = |actors: &serde_json::Value| -> BTreeSet<String> {
        let actors = actors["actors"].as_array().expect("actors").iter();
        actors
            .map(|actor| actor["name"].as_str().expect("a name").to_owned())
            .collect()
    };
    let asked = client.get("/admin/actors").ok();
    assert_eq!(names(&first.events[0].data), names(&asked));
    // One report a second for all of them: five watchers draw no more numbers than one.
    let mut seen: BTreeMap<i64, DateTime<Utc>> = BTreeMap::new();
    for source in &sources {
        let events = source.received().events;
        let numbers = sequences(&events);
        assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
        let times = events.iter().map(|event| {
            let captured_at = event.data["captured_at"].as_str().expect("a time");
            captured_at.parse::<DateTime<Utc>>().expect("a time")
        });
        seen.extend(numbers.into_iter().zip(times));
    }
    let last = seen.values().max().expect("reports");
    // The first may be that of a second that has nearly passed, and clocks are corrected a little.
    let seconds = (*last - began).as_seconds_f64() + 2.5;
    assert!(seen.len() as f64 <= seconds, "{seen:?} since {began}");
    // And that of the whole deployment.
    let all = EventSource::open(service.address(), "/admin/live?scope=cluster", &[]);
    let report = all.until("a report", |received| {
        received.events.first().map(|event| event.data.clone())
    });
    let asked = client.get("/admin/actors?scope=cluster").ok();
    let fields = |report: &serde_json::Value| -> BTreeSet<String> {
        report
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect()
    };
    assert_eq!(fields(&report), fields(&asked));
    assert_eq!(client.get("/admin/live?scope=world").status, 400);
    drop((sources, all));
    // Without watchers, no report is made.
    let sequence = || {
        client.get("/admin/actors").ok()["sequence"]
            .as_i64()
            .expect("a number")
    };
    crate::support::until_equal("no report without watchers", true, || {
        let before = sequence();
        std::thread::sleep(std::time::Duration::from_millis(1_500));
        sequence() == before + 1
    });
    service.stop();
}

#[test]
fn worker_reports_to_operators_with_the_scope() {
    let service = Setup::new()
        .with_sign_in()
        .with_services()
        .start_as(&["serve", "--role", "worker"]);
    let status = |headers: &[(&str, &str)]| {
        EventSource::open(service.address(), PATH, headers)
            .received()
            .status
    };
    assert_eq!(status(&[]), 401);
    assert_eq!(status(&[("Authorization", "Bearer lkw_writer")]), 403);
    assert_eq!(status(&[("Authorization", "Bearer lkw_watcher")]), 200);
    service.stop();
}
