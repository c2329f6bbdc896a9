//! The service conforms to its OpenAPI document: the answers to valid and invalid requests of Schemathesis are
//! documented, and none is an internal error.

use serde_json::json;

use crate::support::checks::pipeline_drains;
use crate::support::http::Client;
use crate::support::matrix::Backends;
use crate::support::schemathesis::{Known, fuzz};
use crate::support::service::{Service, Setup};
use crate::support::tokens::token_of;

const ADMIN_TOKEN: &str = "an admin token of tests";

/// Limits that the test never reaches, so that every answer has the limit headers.
fn with_limits(setup: Setup) -> Setup {
    setup
        .set("LIKEWISE_RATE_LIMIT_USER", "1000000/1")
        .set("LIKEWISE_RATE_LIMIT_ADDRESS", "1000000/1")
}

/// Creates data for the ids in the paths.
fn fill(service: &Service, client: &Client) -> Vec<(&'static str, &'static str, Vec<String>)> {
    let events: Vec<_> = (1..=3)
        .map(|user| client.like(user, 7).event_id)
        .chain([client.unlike(1, 7).event_id])
        .collect();
    pipeline_drains(service);
    let create = |kind: &str| {
        let answer = client.post("/admin/jobs", json!({"kind": kind}));
        let job = answer.has_status(201).json();
        job["id"].as_str().expect("an id").to_owned()
    };
    let jobs = vec![create("audit"), create("rebuild")];
    let message = "01890a5d-ac96-774b-bcce-b302099a8057";
    service.database().execute(&[&format!(
        "INSERT INTO likewise_quarantined_events (id, stream_sequence, subject, payload, reason, created_at) \
         VALUES ('{message}', 1, 'likewise.behaviors.video.like', '{{', 'it is cut off', \
         '2026-01-02 03:04:05')"
    )]);
    let messages = vec![message.to_owned()];
    let mut known = Vec::new();
    for (path, parameter, ids) in [
        ("/admin/ledger/events/{event_id}", "event_id", &events),
        ("/admin/ledger/events/{event_id}/retry", "event_id", &events),
        (
            "/admin/ledger/events/{event_id}/discard",
            "event_id",
            &events,
        ),
        ("/admin/jobs/{id}", "id", &jobs),
        ("/admin/jobs/{id}/cancel", "id", &jobs),
        ("/admin/quarantine/{id}", "id", &messages),
        ("/admin/quarantine/{id}/republish", "id", &messages),
        ("/admin/quarantine/{id}/discard", "id", &messages),
    ] {
        known.push((path, parameter, ids.clone()));
    }
    known
}

matrix!([embedded, mariadb_stack, postgres_stack]: fuzzed_answers_are_documented);

/// Fuzzes a service without sign-in, with and without a user.
fn fuzzed_answers_are_documented(backends: Backends) {
    let test = &format!("fuzz_{}", backends.name);
    let service = with_limits(backends.into()).start();
    let client = service.client();
    let known = fill(&service, &client);
    fuzz(test, &service, &[("X-User-Id", "42")], &known);
    fuzz(test, &service, &[], &known);
    most_are_answered(&client);
    // The service still works, with ids that no request erased.
    assert!(client.like(5_550_123, 5_550_124).liked);
    assert!(client.actors().iter().all(|actor| actor.panics == 0));
}

/// Checks that the service was seldom unavailable.
#[track_caller]
fn most_are_answered(client: &Client) {
    let metrics = client.get("/metrics").text;
    let requests = |status: &str| -> f64 {
        let lines = metrics.lines().filter(|line| {
            line.starts_with("likewise_http_requests_total{") && line.contains(status)
        });
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    };
    let (all, unavailable) = (requests("status="), requests("status=\"503\""));
    assert!(
        all > 500.0 && unavailable < all / 10.0,
        "{unavailable} of {all} requests"
    );
}

matrix!([embedded, mariadb_stack, postgres_stack]: fuzzed_answers_with_uuid_and_text_ids);

fn fuzzed_answers_with_uuid_and_text_ids(backends: Backends) {
    const USER: &str = "018f3f52-7d1e-7c60-a5ae-0b9d2a1c0f11";
    let service = with_limits(backends.into())
        .set("LIKEWISE_USER_IDS", "uuid")
        .set("LIKEWISE_RESOURCE_IDS", "text")
        .set("LIKEWISE_RESOURCE_TYPES", "post,photo")
        .start();
    let client = service.client();
    let user = &[("X-User-Id", USER)];
    client.send("PUT", "/v1/posts/a%2Fb/like", user).ok();
    fuzz(&format!("fuzz_text_{}", backends.name), &service, user, &[]);
    assert!(client.actors().iter().all(|actor| actor.panics == 0));
}

#[test]
fn fuzzed_answers_are_documented_with_sign_in() {
    const NOTHING: &Known<'_> = &[];
    let service = with_limits(Setup::new())
        .with_sign_in()
        .set("LIKEWISE_ADMIN_TOKEN", ADMIN_TOKEN)
        .start();
    fuzz("fuzz_nobody", &service, &[], NOTHING);
    for (name, token) in [("fuzz_user", &*token_of(42)), ("fuzz_admin", ADMIN_TOKEN)] {
        let bearer = format!("Bearer {token}");
        fuzz(name, &service, &[("Authorization", &bearer)], NOTHING);
    }
}

#[test]
fn fuzzed_answers_are_documented_under_rate_limit() {
    let service = Setup::new()
        .set("LIKEWISE_RATE_LIMIT_USER", "2/3000")
        .set("LIKEWISE_RATE_LIMIT_ADDRESS", "100/3000")
        .start();
    fuzz("fuzz_limited", &service, &[("X-User-Id", "42")], &[]);
}
