//! Each view, share and comment counts once, whatever is repeated, delivered again or killed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::nats::Publisher;
use crate::support::checks::pipeline_drains;
use crate::support::http::{Answer, Client};
use crate::support::service::{Service, Setup};
use crate::support::{PATIENCE, say, seed, until};

matrix!([embedded, mariadb_stack, postgres_stack]:
    behaviors_count_once_across_kills,
    repeated_and_redelivered_behaviors_count_once,
);

const KINDS: [&str; 3] = ["view", "share", "comment"];

/// The videos that behaviors are about.
const VIDEOS: i64 = 5;

fn post(client: &Client, path: &str, headers: &[(&str, &str)], body: &Value) -> Option<Answer> {
    let sent = client.try_send("POST", path, headers, body.to_string().as_bytes());
    sent.ok()
}

fn behavior(user: i64, video: i64, behavior: &str) -> Value {
    json!({"user_id": user, "resource_type": "video", "resource_id": video, "behavior": behavior})
}

/// Some behaviors, likes among them.
fn batch(rng: &mut SmallRng) -> Value {
    let kinds = ["view", "share", "comment", "like"];
    let one = |rng: &mut SmallRng| {
        let kind = kinds[rng.random_range(0..kinds.len())];
        behavior(rng.random_range(1..=20), rng.random_range(1..=VIDEOS), kind)
    };
    let behaviors: Vec<_> = (0..8).map(|_| one(rng)).collect();
    json!({ "behaviors": behaviors })
}

/// The counts that the service answers, by video and behavior, from one request for all videos. A request for one video
/// answers the same.
fn answered(client: &Client) -> BTreeMap<(i64, String), i64> {
    let item = |video| json!({"resource_type": "video", "resource_id": video});
    let items: Vec<_> = (1..=VIDEOS).map(item).collect();
    let all = post(
        client,
        "/v1/behaviors/count",
        &[],
        &json!({ "items": items }),
    );
    let all = all.expect("an answer").json();
    let mut counts = BTreeMap::new();
    for (video, item) in (1..=VIDEOS).zip(all["items"].as_array().expect("items")) {
        assert_eq!(item["resource_id"], video);
        let one = client.get(&format!("/v1/videos/{video}/behaviors/count"));
        assert_eq!(&one.json(), item);
        for kind in KINDS {
            let count = item["counts"][kind].as_i64().expect("a count");
            counts.insert((video, kind.to_owned()), count);
        }
    }
    counts
}

/// The numbers of recorded behaviors, by video and behavior.
fn recorded(service: &Service) -> BTreeMap<(i64, String), i64> {
    let rows = service.database().rows(
        "SELECT resource_id, behavior_type, COUNT(*) FROM user_behaviors \
         WHERE behavior_type IN ('view', 'share', 'comment') GROUP BY resource_id, behavior_type",
    );
    let zero = (1..=VIDEOS).flat_map(|video| KINDS.map(|kind| ((video, kind.to_owned()), 0)));
    let mut all: BTreeMap<_, _> = zero.collect();
    all.extend(rows.iter().map(|row| {
        let key = (row[0].number(), row[1].text().to_owned());
        (key, row[2].number())
    }));
    all
}

/// Sends behaviors until the service no longer answers. Returns the ids of the acknowledged ones.
fn send_until_killed(client: &Client, mut rng: SmallRng, sent: &AtomicUsize) -> Vec<String> {
    let mut acknowledged = Vec::new();
    while let Some(answer) = post(client, "/v1/likes", &[], &batch(&mut rng)) {
        for result in answer.json()["results"].as_array().into_iter().flatten() {
            if result["status"] == 200 {
                acknowledged.push(result["event_id"].as_str().expect("an id").to_owned());
            }
        }
        sent.fetch_add(1, Ordering::Relaxed);
    }
    acknowledged
}

fn behaviors_count_once_across_kills(setup: Setup) {
    let mut rng = seed::rng("behaviors_count_once_across_kills");
    let mut setup = setup.set("LIKEWISE_LEASE_SECONDS", 3);
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let service = setup.start();
        let sent = AtomicUsize::new(0);
        let wanted = rng.random_range(10..60);
        let clients: Vec<_> = (0..3)
            .map(|n| {
                (
                    service.client(),
                    seed::rng(&format!("round {round}, client {n}")),
                )
            })
            .collect();
        let (heard, stopped) = std::thread::scope(|scope| {
            let sending = clients.into_iter().map(|(client, rng)| {
                let sent = &sent;
                scope.spawn(move || send_until_killed(&client, rng, sent))
            });
            let sending: Vec<_> = sending.collect();
            until("the batches to be sent", PATIENCE, || {
                match sent.load(Ordering::Relaxed) {
                    enough if enough >= wanted => Ok(()),
                    few => Err(format!("{few} of {wanted}")),
                }
            });
            std::thread::sleep(Duration::from_micros(rng.random_range(0..20_000)));
            let stopped = service.kill();
            let heard = sending.into_iter().map(|one| one.join().expect("a client"));
            (heard.flatten().collect::<Vec<_>>(), stopped)
        });
        say(format_args!("round {round}: {} acknowledged", heard.len()));
        acknowledged.extend(heard);
        setup = stopped;
    }
    let service = setup.start();
    until("the service to be ready", PATIENCE, || {
        let answer = service.client().get("/readyz");
        (answer.status == 200).then_some(()).ok_or(answer.text)
    });
    pipeline_drains(&service);
    let stored = service
        .database()
        .texts("SELECT event_id FROM user_behaviors");
    for event in &acknowledged {
        let times = stored.iter().filter(|id| *id == event).count();
        assert_eq!(times, 1, "event {event} is recorded {times} times");
    }
    let recorded = recorded(&service);
    assert!(recorded.values().sum::<i64>() > 0, "{recorded:?}");
    assert_eq!(answered(&service.client()), recorded);
    // A killed process may leave the effect of an unanswered like on Redis, which this test is not about.
    let broken = service.stop().verify(60).broken();
    let is_of_redis = |promise: &str| promise.contains("Redis");
    assert!(
        broken.iter().all(|(promise, _)| is_of_redis(promise)),
        "{broken:?}"
    );
}

fn repeated_and_redelivered_behaviors_count_once(setup: Setup) {
    let nats = setup
        .has_broker()
        .then(|| setup.setting("LIKEWISE_NATS_URL"));
    let service = setup.start();
    let client = service.client();
    let views = json!({"behaviors": [
        behavior(1, 1, "view"), behavior(1, 1, "view"), behavior(2, 1, "share"), behavior(1, 2, "view"),
        behavior(1, 1, "like"), behavior(1, 1, "unlike"),
    ]});
    // With its key, the batch is done once. Its two views are two behaviors.
    for _ in 0..3 {
        let key = [("Idempotency-Key", "a page")];
        let sent = post(&client, "/v1/likes", &key, &views).expect("an answer");
        assert_eq!(sent.json()["accepted"], 6, "{sent:?}");
    }
    let mut expected = BTreeMap::from([((1, "view"), 2), ((1, "share"), 1), ((2, "view"), 1)]);
    if let Some(url) = nats {
        let publisher = Publisher::at(&url);
        let event = json!({
            "event_id": Uuid::now_v7(), "user_id": 3, "resource_type": "video", "resource_id": 2,
            "behavior": "comment", "occurred_at": "2026-01-02T12:00:00Z", "source": "feed",
        });
        for _ in 0..3 {
            publisher.publish("likewise.behaviors.video.comment", event.to_string());
        }
        // Other content under the id of that comment goes into quarantine.
        let mut other = event;
        other["behavior"] = json!("share");
        publisher.publish("likewise.behaviors.video.share", other.to_string());
        expected.insert((2, "comment"), 1);
    }
    pipeline_drains(&service);
    let answered = answered(&client);
    for ((video, kind), count) in &answered {
        let expected = expected.get(&(*video, kind.as_str())).copied();
        assert_eq!(*count, expected.unwrap_or(0), "{kind}s of {video}");
    }
    // Other resources and types have none, and likes are not among the counts.
    let none = client.get("/v1/comments/1/behaviors/count").json();
    let zero = json!({"view": 0, "share": 0, "comment": 0});
    assert_eq!(
        none,
        json!({"resource_type": "comment", "resource_id": 1, "counts": zero})
    );
    // A restarted process answers from the database too.
    let service = service.stop().start();
    assert_eq!(answered, self::answered(&service.client()));
    service.stop().verify(60).holds();
}
