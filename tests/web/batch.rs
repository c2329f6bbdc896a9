//! `POST /v1/likes`: batches of behaviors from trusted services, with a result for each behavior.

use std::collections::BTreeMap;

use rand::RngExt;
use serde_json::{Value, json};

use crate::support::checks::everything_holds;
use crate::support::seed;
use crate::support::servers::Kind;
use crate::support::service::Setup;
use crate::support::tokens::token_of;

const PATH: &str = "/v1/likes";

fn behavior(user: i64, resource_type: &str, id: i64, behavior: &str) -> Value {
    json!({"user_id": user, "resource_type": resource_type, "resource_id": id, "behavior": behavior})
}

#[test]
fn invalid_behavior_of_a_batch_fails_alone() {
    let service = Setup::new().start();
    let client = service.client();
    let mut text_id = behavior(1, "video", 7, "like");
    text_id["user_id"] = json!("one");
    let mut extra = behavior(1, "video", 7, "like");
    extra["event_id"] = json!("mine");
    let behaviors = [
        (behavior(1, "video", 7, "like"), 200),
        (behavior(0, "video", 7, "like"), 400),
        (behavior(2, "video", 7, "like"), 200),
        (behavior(2, "comment", 7, "like"), 200),
        (behavior(1, "video", -7, "like"), 400),
        (behavior(1, "picture", 7, "like"), 400),
        (behavior(1, "video", 7, "dislike"), 400),
        (behavior(1, "video", 7, "view"), 200),
        (text_id, 400),
        (extra, 400),
        (json!(7), 400),
        (behavior(2, "video", 7, "unlike"), 200),
    ];
    let items: Vec<_> = behaviors.iter().map(|(item, _)| item).collect();
    let answer = client.post(PATH, json!({"behaviors": items})).ok();
    assert_eq!(
        (&answer["accepted"], &answer["refused"]),
        (&json!(5), &json!(7))
    );
    let results = answer["results"].as_array().expect("results");
    assert_eq!(results.len(), behaviors.len());
    for ((item, status), result) in behaviors.iter().zip(results) {
        assert_eq!(result["status"], *status, "{item}: {result}");
        if *status == 200 {
            for field in ["user_id", "resource_type", "resource_id", "behavior"] {
                assert_eq!(result[field], item[field], "{result}");
            }
        } else {
            assert_eq!(result["problem"]["code"], "invalid_behavior", "{result}");
        }
    }
    // Unknown if the database had both before the cache was filled.
    for place in [2, 11] {
        assert_ne!(results[place]["changed"], false, "{answer}");
    }
    assert_eq!(results[7]["changed"], Value::Null);
    everything_holds(&service);
    assert!(client.read(1, 7).liked);
    assert!(!client.read(2, 7).liked);
    assert_eq!(service.database().count("user_behaviors"), 5);
    assert_eq!(service.database().count("sync_events"), 4);
}

#[test]
fn invalid_batch_is_rejected_and_changes_nothing() {
    let service = Setup::new().start();
    let client = service.client();
    let good = behavior(1, "video", 7, "like");
    let unknown_field = json!({"behaviors": [good], "dry_run": true});
    let too_many = json!({"behaviors": vec![good; 1_001]});
    for (body, status, code) in [
        (String::new(), 400, "invalid_body"),
        ("{}".to_owned(), 400, "invalid_body"),
        ("[]".to_owned(), 400, "invalid_body"),
        (json!({"behaviors": {}}).to_string(), 400, "invalid_body"),
        (unknown_field.to_string(), 400, "invalid_body"),
        (json!({"behaviors": []}).to_string(), 422, "unprocessable"),
        (too_many.to_string(), 422, "unprocessable"),
        ("x".repeat(256 * 1024 + 1), 413, "body_too_large"),
    ] {
        client.post(PATH, body).is_problem(status, code);
    }
    let refused = client.get(PATH);
    refused.has_status(405);
    assert_eq!(refused.header("Allow"), Some("POST"));
    service.stored_nothing();
}

/// A full batch with several behaviors of each pair. The last one of each pair wins, and each is recorded as an event.
#[test]
fn last_behavior_of_a_pair_wins_in_the_largest_batch() {
    let mut rng = seed::rng("the_last_behavior_of_a_pair_wins");
    for setup in [Setup::new(), Setup::on_parts(Kind::MariaDb)] {
        let service = setup.start();
        let client = service.client();
        let mut model: BTreeMap<(i64, i64), bool> = BTreeMap::new();
        for _ in 0..3 {
            let mut items = Vec::new();
            for _ in 0..1_000 {
                let (user, video) = (rng.random_range(1..=40), rng.random_range(1..=8));
                let liked = rng.random_bool(0.5);
                model.insert((user, video), liked);
                let word = if liked { "like" } else { "unlike" };
                items.push(behavior(user, "video", video, word));
            }
            let answer = client.post(PATH, json!({"behaviors": items})).ok();
            assert_eq!(answer["accepted"], 1_000);
            for ((user, video), liked) in &model {
                assert_eq!(client.read(*user, *video).liked, *liked, "{user} {video}");
            }
        }
        everything_holds(&service);
        for ((user, video), liked) in &model {
            assert_eq!(client.read(*user, *video).liked, *liked, "{user} {video}");
        }
        let events = service.database().count("sync_events");
        assert_eq!(events, 3_000);
    }
}

#[test]
fn batch_requires_the_scope_to_write_for_any_user() {
    let service = Setup::new().with_sign_in().with_services().start();
    let client = service.client();
    let body = json!({"behaviors": [behavior(1, "video", 7, "like")]});
    let user = token_of(1);
    for (token, status, code) in [
        (user.as_str(), 403, "forbidden"),
        ("lkw_reader", 403, "forbidden"),
        ("lkw_operator", 403, "forbidden"),
        ("lkw_unknown", 401, "unauthorized"),
    ] {
        let refused = client.with_token(token).post(PATH, &body);
        refused.is_problem(status, code);
    }
    client.post(PATH, &body).has_status(401);
    service.stored_nothing();
    let accepted = client.with_token("lkw_writer").post(PATH, &body).ok();
    assert_eq!(accepted["accepted"], 1);
}
