//! A repeated `Idempotency-Key` gives the same event and the same answer, across processes, restarts and crashes.

use std::collections::BTreeSet;
use std::thread::ScopedJoinHandle;

use rand::RngExt;
use serde_json::json;

use crate::support::checks::{everything_holds, pipeline_drains};
use crate::support::database::Database;
use crate::support::http::{Answer, Client};
use crate::support::redis_and_nats::Stack;
use crate::support::servers::{Kind, Server};
use crate::support::service::{Service, Setup};
use crate::support::{PATIENCE, seed, until, until_seen};

fn send(client: &Client, method: &str, path: &str, user: i64, key: &str) -> Answer {
    let client = client.as_user(user);
    client.send(method, path, &[("Idempotency-Key", key)])
}

fn path(video: i64) -> String {
    format!("/v1/videos/{video}/like")
}

fn behaviors(service: &Service) -> i64 {
    service.database().count("user_behaviors")
}

fn keys(service: &Service) -> i64 {
    service.database().count("likewise_idempotency_keys")
}

#[track_caller]
fn is_replayed(answer: &Answer, first: &Answer) {
    answer.has_status(200);
    assert_eq!(answer.header("Idempotency-Replayed"), Some("true"));
    assert_eq!(answer.text, first.text);
}

#[test]
fn same_key_same_answer_after_a_restart() {
    let service = Setup::new().start();
    let like = |service: &Service| send(&service.client(), "PUT", &path(7), 1, "k");
    let unlike = |service: &Service| send(&service.client(), "DELETE", &path(7), 1, "other");
    let first = like(&service);
    first.has_status(200);
    assert_eq!(first.header("Idempotency-Replayed"), None);
    is_replayed(&like(&service), &first);
    // Later requests change neither the stored answer nor their own effect.
    let second = unlike(&service);
    second.has_status(200);
    let service = service.kill().start();
    is_replayed(&like(&service), &first);
    is_replayed(&unlike(&service), &second);
    assert!(!service.client().read(1, 7).liked);
    // Another caller's equal key is another key.
    let theirs = send(&service.client(), "PUT", &path(7), 2, "k");
    assert_eq!(theirs.json()["user_id"], 2);
    everything_holds(&service);
    assert_eq!(behaviors(&service), 3);
}

#[test]
fn same_key_same_answer_in_another_process() {
    let setup = Setup::on_parts(Kind::MariaDb);
    let one = setup.beside().start();
    let other = setup.start();
    let first = send(&one.client(), "PUT", &path(7), 1, "k");
    assert_eq!(first.json()["durability"], "broker", "{first:?}");
    is_replayed(&send(&other.client(), "PUT", &path(7), 1, "k"), &first);
    let batch = json!({"behaviors": [
        {"user_id": 5, "resource_type": "video", "resource_id": 7, "behavior": "like"},
        {"user_id": 6, "resource_type": "comment", "resource_id": 7, "behavior": "view"},
    ]});
    let post = |service: &Service| {
        let client = service.client().with("Idempotency-Key", "batch");
        client.post("/v1/likes", &batch)
    };
    let first = post(&other);
    assert_eq!(first.json()["accepted"], 2, "{first:?}");
    is_replayed(&post(&one), &first);
    let metrics = one.client().get("/metrics").text;
    let replayed = "likewise_requests_replayed_total 1\n";
    assert!(metrics.contains(replayed), "{metrics}");
    everything_holds(&one);
    assert_eq!(behaviors(&one), 3);
}

#[test]
fn key_is_bound_to_one_request() {
    let service = Setup::new().start();
    let client = service.client();
    send(&client, "PUT", &path(7), 1, "k");
    for (method, video) in [("PUT", 8), ("DELETE", 7)] {
        let refused = send(&client, method, &path(video), 1, "k");
        refused.is_problem(422, "idempotency_key_reused");
    }
    let longest = "x".repeat(255);
    send(&client, "PUT", &path(7), 1, &longest).ok();
    for key in ["", &"x".repeat(256), "ä"] {
        let refused = send(&client, "PUT", &path(7), 1, key);
        refused.is_problem(400, "invalid_idempotency_key");
    }
    let twice = client.with("Idempotency-Key", "a");
    let refused = send(&twice, "PUT", &path(7), 1, "a");
    refused.is_problem(400, "invalid_idempotency_key");
    everything_holds(&service);
    assert_eq!(behaviors(&service), 2);
}

#[test]
fn concurrent_requests_with_one_key_are_one_event() {
    let service = Setup::on_parts(Kind::MariaDb).start();
    for round in 0..5 {
        let key = format!("key {round}");
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            // A request waits a moment for the first one with its key. After that, the client has to send it again.
            let like = || {
                let client = service.client();
                until("an answer", PATIENCE, || {
                    let answer = send(&client, "PUT", &path(round + 1), 1, &key);
                    match answer.status {
                        409 if answer.problem() == "idempotency_key_in_progress" => {
                            Err(format!("{answer:?}"))
                        }
                        _ => Ok(answer),
                    }
                })
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(like)).collect();
            let joined = threads.into_iter().map(ScopedJoinHandle::join);
            joined.map(|answer| answer.expect("no panic")).collect()
        });
        let is_replayed = |answer: &&Answer| answer.header("Idempotency-Replayed").is_some();
        let replayed = answers.iter().filter(is_replayed);
        assert_eq!(replayed.count(), 7, "{answers:?}");
        let texts: BTreeSet<_> = answers.iter().map(|answer| &answer.text).collect();
        assert_eq!(texts.len(), 1, "{texts:?}");
    }
    everything_holds(&service);
    assert_eq!(behaviors(&service), 5);
}

/// Kills the service while requests with keys are in flight, and repeats each until it is answered. There are as many
/// events as keys, and a repeated answer equals the first.
#[test]
fn request_interrupted_by_a_crash_takes_effect_once() {
    let mut rng = seed::rng("request_interrupted_by_a_crash_takes_effect_once");
    let mut setup = Setup::on_parts(Kind::Postgres).set("LIKEWISE_LEASE_SECONDS", 3);
    let requests: Vec<(i64, String)> = (1..=160).map(|n| (n, format!("key {n}"))).collect();
    let mut answered: Vec<Option<String>> = vec![None; requests.len()];
    for round in 0..4 {
        let service = setup.start();
        let enough = rng.random_range(8..25);
        let client = service.client();
        let before = keys(&service);
        let from = round * 40;
        let seen: Vec<Option<String>> = std::thread::scope(|scope| {
            let threads: Vec<_> = requests[from..from + 40]
                .chunks(10)
                .map(|part| {
                    let client = client.clone();
                    scope.spawn(move || {
                        let ask = |(user, key): &(i64, String)| {
                            let client = client.as_user(user).with("Idempotency-Key", key);
                            let answer = client.try_send("PUT", &path(1), &[], b"").ok()?;
                            (answer.status == 200).then_some(answer.text)
                        };
                        part.iter().map(ask).collect::<Vec<_>>()
                    })
                })
                .collect();
            let started = || keys(&service) - before;
            until_seen("some requests to be under way", started, |started| {
                *started >= enough
            });
            service.signal(crate::support::service::Signal::KILL);
            threads
                .into_iter()
                .flat_map(|thread| thread.join().expect("a thread that does not panic"))
                .collect()
        });
        answered[from..from + 40].clone_from_slice(&seen);
        setup = service.end();
    }
    let interrupted = answered.iter().filter(|answer| answer.is_none()).count();
    assert!((1..160).contains(&interrupted), "{interrupted}");
    let service = setup.start();
    let client = service.client();
    for ((user, key), before) in requests.iter().zip(&answered) {
        let again = until("an answer", PATIENCE, || {
            let answer = send(&client, "PUT", &path(1), *user, key);
            match answer.status {
                200 => Ok(answer),
                409 => Err(format!("{answer:?}")),
                _ => panic!("{answer:?}"),
            }
        });
        if let Some(before) = before {
            assert_eq!(&again.text, before);
        }
    }
    everything_holds(&service);
    assert_eq!(behaviors(&service), 160);
    assert_eq!(client.read(1, 1).like_count, Some(160));
}

/// A resumed request does not override what its user has done since.
#[test]
fn resumed_request_does_not_override_later_ones() {
    let service = Setup::new().start();
    let client = service.client();
    let first = send(&client, "PUT", &path(7), 1, "k").json();
    let unliked = client.unlike(1, 7);
    assert_eq!(unliked.like_count, Some(0));
    pipeline_drains(&service);
    // As if the process had died before it could store the answer.
    service.database().execute(&[
        "UPDATE likewise_idempotency_keys SET answer = NULL, lease_until = '2020-01-01 00:00:00'",
    ]);
    let again = send(&client, "PUT", &path(7), 1, "k").ok();
    assert_eq!(again["event_id"], first["event_id"]);
    assert!(!client.read(1, 7).liked);
    everything_holds(&service);
    assert_eq!(behaviors(&service), 2);
    assert!(!client.read(1, 7).liked);
}

#[test]
fn without_database_only_likes_without_key_are_accepted() {
    let stack = Stack::start();
    let mut database = Server::start(Kind::MariaDb);
    let service = stack.setup().on(&Database::first_of(&database)).start();
    let client = service.client();
    client.like(1, 7);
    database.kill();
    let like = || send(&client, "PUT", &path(8), 1, "k");
    let refused = until_seen("the database to be missed", like, |answer| {
        answer.status == 503
    });
    assert_eq!(refused.problem(), "unavailable");
    assert!(refused.header("Retry-After").is_some());
    assert_eq!(client.like(1, 9).durability, "broker");
    database.run();
    let answer = until_seen("the key to be accepted", like, |answer| {
        answer.status == 200
    });
    is_replayed(&send(&client, "PUT", &path(8), 1, "k"), &answer);
    everything_holds(&service);
    assert_eq!(answer.json()["liked"], true);
    assert_eq!(behaviors(&service), 3);
}
