//! Voided likes do not count and are not listed, their user still sees them, and a restoration gives them back exactly.

use serde_json::{Value, json};

use crate::support::checks::{everything_holds, pipeline_drains};
use crate::support::http::{Answer, Client};
use crate::support::service::{Service, Setup};
use crate::support::until_seen;

/// The user whose likes are voided.
const FRAUD: i64 = 1;

matrix!([embedded, mariadb_stack]: voided_likes_are_hidden_until_restored);

fn post(client: &Client, path: &str, body: Value) -> Answer {
    client.with("X-Operator", "ann").post(path, body)
}

fn moderate(client: &Client, decision: &str, body: Value) -> Answer {
    let path = format!("/admin/users/{FRAUD}/likes/{decision}");
    post(client, &path, body)
}

/// Waits until a new job is completed, and returns it.
#[track_caller]
fn until_completed(client: &Client, job: &Value) -> Value {
    let path = format!("/admin/jobs/{}", job["id"].as_str().expect("an id"));
    let job = || client.get(&path).json();
    until_seen("the job to end", job, |job| job["state"] == "completed")
}

/// Voids or restores all likes of the user. Returns the job as it ended.
#[track_caller]
fn decide(client: &Client, decision: &str) -> Value {
    let job = moderate(client, decision, json!({"reason": "a click farm"}));
    let job = job.has_status(201).json();
    assert_eq!(job["kind"], decision);
    assert_eq!(job["requested_by"], "ann");
    assert_eq!(job["spec"]["reason"], "a click farm");
    until_completed(client, &job)
}

/// Everything that visitors and the user see of the likes.
fn seen(client: &Client) -> Value {
    let get = |path: &str| client.as_user(FRAUD).get(path).json();
    let visitor = |path: &str| client.get(path).json();
    json!({
        "count": visitor("/v1/videos/7/likes/count")["like_count"],
        "comment": visitor("/v1/comments/9/likes/count")["like_count"],
        "likers": visitor("/v1/videos/7/likes")["likes"],
        "top": visitor("/v1/videos/top")["resources"],
        "status": get("/v1/videos/7/like"),
        "own": get("/v1/users/me/likes")["likes"],
        "action_list": get("/v1/action/list")["data"]["total"],
    })
}

/// What is seen, once the pipeline is idle and the cache is settled.
#[track_caller]
fn seen_at_rest(service: &Service) -> Value {
    pipeline_drains(service);
    everything_holds(service);
    seen(&service.client())
}

/// An audit of everything, the cache included.
#[track_caller]
fn audit_is_clean(client: &Client) {
    let job = post(client, "/admin/jobs", json!({"kind": "audit"}));
    let ended = until_completed(client, &job.has_status(201).json());
    assert_eq!(ended["result"]["findings"], json!({}), "{ended:#}");
}

fn voided_likes_are_hidden_until_restored(setup: Setup) {
    let service = setup.start();
    let client = service.client();
    for user in [FRAUD, 2, 3] {
        client.like(user, 7);
    }
    client.like(FRAUD, 8);
    client.as_user(FRAUD).put("/v1/comments/9/like").ok();
    let before = seen_at_rest(&service);
    assert_eq!(before["count"], 3);
    assert_eq!(before["own"].as_array().expect("likes").len(), 3);

    let preview = json!({"dry_run": true, "total": 3, "likes": {"comment": 1, "video": 2}});
    let long = json!({"dry_run": true, "reason": "x".repeat(501)});
    moderate(&client, "void", long).is_problem(422, "unprocessable");
    let counted = moderate(&client, "void", json!({"dry_run": true})).ok();
    assert_eq!(counted, preview);
    let of_type = json!({"dry_run": true, "resource_type": "comment"});
    assert_eq!(moderate(&client, "void", of_type).ok()["total"], 1);
    for invalid in [
        json!({}),
        json!({"reason": " "}),
        json!({"reason": "x", "resource_type": "song"}),
        json!({"reason": "x", "liked_after": "2026-02-01T00:00:00Z", "liked_before": "2026-01-01T00:00:00Z"}),
        json!({"reason": "x", "user_id": 2}),
    ] {
        let answer = moderate(&client, "void", invalid);
        assert!([400, 422].contains(&answer.status), "{answer:?}");
    }
    let of_me = post(
        &client,
        "/admin/users/me/likes/void",
        json!({"reason": "x"}),
    );
    of_me.is_problem(400, "invalid_user_id");
    let job = json!({"kind": "void", "reason": "x"});
    post(&client, "/admin/jobs", job).has_status(422);
    // No client can send a decision as a behavior.
    let behavior =
        json!({"user_id": 2, "resource_type": "video", "resource_id": 7, "behavior": "void"});
    let refused = client.post("/v1/likes", json!({"behaviors": [behavior]}));
    assert_eq!(refused.json()["accepted"], 0, "{refused:?}");
    assert_eq!(seen_at_rest(&service), before);

    let job = decide(&client, "void");
    assert_eq!(
        [&job["total"], &job["done"], &job["changed"]],
        [&json!(3); 3]
    );
    assert_eq!(job["result"], json!({"likes": {"comment": 1, "video": 2}}));
    let voided = seen_at_rest(&service);
    assert_eq!(
        (&voided["count"], &voided["comment"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(voided["top"], json!([{"resource_id": 7, "like_count": 2}]));
    let likers = voided["likers"].as_array().expect("likes");
    let users: Vec<_> = likers.iter().map(|like| &like["user_id"]).collect();
    assert_eq!(users, [3, 2]);
    let status = &voided["status"];
    assert_eq!(
        (&status["liked"], &status["like_count"]),
        (&json!(true), &json!(2))
    );
    for own in ["own", "action_list"] {
        assert_eq!(voided[own], before[own]);
    }
    audit_is_clean(&client);

    // Other users like, and the user of the voided likes does too.
    client.like(4, 7);
    client.unlike(FRAUD, 7);
    assert_eq!(seen_at_rest(&service)["count"], 3);
    client.like(FRAUD, 7);
    assert_eq!(seen_at_rest(&service)["count"], 3);
    client.unlike(4, 7);
    audit_is_clean(&client);
    let rebuild = json!({"kind": "rebuild"});
    post(&client, "/admin/jobs", rebuild).has_status(201);
    let job = decide(&client, "restore");
    assert_eq!(job["changed"], 3);
    let after = seen_at_rest(&service);
    for field in ["count", "comment", "top", "status"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    audit_is_clean(&client);

    // Without likes of the user in between, everything is as before.
    decide(&client, "void");
    assert_ne!(seen_at_rest(&service), after);
    decide(&client, "restore");
    assert_eq!(seen_at_rest(&service), after);
    let setup = service.stop();
    setup.verify(30).holds();

    // The command line does the same.
    let fraud = FRAUD.to_string();
    let reason = ["--reason", "a click farm", "--yes"];
    setup.run(&["users", "void", &fraud]).exits(2);
    let counted = setup.run(&["users", "void", &fraud, "--dry-run"]);
    counted.prints("3 likes of user 1: 1 comment, 2 videos");
    let void = setup.run(&[&["users", "void", &fraud], &reason[..]].concat());
    void.prints("3 likes changed");
    let service = setup.start();
    assert_eq!(seen_at_rest(&service)["count"], 2);
    let setup = service.stop();
    let restore = setup.run(&[&["users", "restore", &fraud], &reason[..]].concat());
    restore.prints("3 likes changed");
    let service = setup.start();
    assert_eq!(seen_at_rest(&service), after);
    service.stop();
}
