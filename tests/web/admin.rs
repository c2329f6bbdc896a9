//! `/admin`: the state of actors, authorization, and fault injection.

use serde_json::json;

use crate::support::checks::pipeline_drains;
use crate::support::database::Database;
use crate::support::servers::Kind;
use crate::support::service::Setup;
use crate::support::{until_equal, until_seen};

#[test]
fn actors_are_shown_in_the_order_of_the_flow() {
    const CAPACITY: u64 = 321;
    let service = Setup::new()
        .set("LIKEWISE_MAILBOX_CAPACITY", CAPACITY)
        .start();
    let client = service.client();
    for user in 1..=5 {
        client.like(user, 1);
    }
    pipeline_drains(&service);
    // The client rejects missing and unknown fields.
    let actors = until_seen(
        "every actor to be idle",
        || client.actors(),
        |actors| actors.iter().all(|actor| actor.mailbox.depth == 0),
    );
    let mut names: Vec<_> = actors.iter().map(|actor| actor.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "behavior_recorder",
            "cache_writer",
            "health_monitor",
            "history_keeper",
            "idempotency_keeper",
            "job_runner",
            "retry_scheduler",
            "sync_publisher"
        ]
    );
    for actor in &actors {
        assert_eq!(actor.state, "running");
        assert_eq!(actor.mailbox.capacity, CAPACITY);
        assert_eq!(actor.mailbox.oldest_ms, 0);
        assert_eq!((actor.errors, actor.panics, actor.restarts), (0, 0, 0));
        assert_eq!(actor.last_error, None);
        assert!(actor.details.is_object());
    }
    for name in ["behavior_recorder", "sync_publisher"] {
        assert_eq!(client.actor(name).processed, 5, "{name}");
    }
    assert!(client.actor("cache_writer").processed >= 10);
}

#[test]
fn mailbox_shows_depth_and_oldest_wait() {
    let service = Setup::new().start();
    let client = service.client();
    let held = service.database().hold_writes();
    let waiting = {
        let client = service.client();
        std::thread::spawn(move || client.like(1, 1))
    };
    let mailbox = || client.actor("behavior_recorder").mailbox;
    until_seen("the like to wait for a while", mailbox, |mailbox| {
        mailbox.depth == 1 && mailbox.oldest_ms >= 100
    });
    drop(held);
    waiting.join().expect("an accepted like");
    until_seen("the mailbox to be empty", mailbox, |mailbox| {
        (mailbox.depth, mailbox.oldest_ms) == (0, 0)
    });
}

#[test]
fn admin_token_is_required_once_configured() {
    let service = Setup::new()
        .set("LIKEWISE_ADMIN_TOKEN", "a secret of operators")
        .set("LIKEWISE_FAULT_INJECTION", true)
        .start();
    let client = service.client();
    for (method, path) in [
        ("GET", "/admin/actors"),
        ("POST", "/admin/faults/panic/cache_writer"),
        ("GET", "/admin/no/such/path"),
    ] {
        for headers in [
            &[][..],
            &[("Authorization", "")][..],
            &[("Authorization", "Bearer")][..],
            &[("Authorization", "Bearer ")][..],
            &[("Authorization", "Bearer a secret of operator")][..],
            &[("Authorization", "Bearer a secret of operators2")][..],
            &[("Authorization", "Basic a secret of operators")][..],
            &[("Authorization", "a secret of operators")][..],
        ] {
            let answer = client.send(method, path, headers);
            answer.is_problem(401, "unauthorized");
            let challenge = answer.header("www-authenticate").expect("a challenge");
            assert!(challenge.starts_with("Bearer realm="), "{challenge}");
        }
    }
    let right = [("Authorization", "Bearer a secret of operators")];
    let actors = client.send("GET", "/admin/actors", &right).ok();
    let mut actors = actors["actors"].as_array().expect("actors").iter();
    assert!(actors.all(|actor| actor["panics"] == 0));
    // The other routes do not require it.
    client.get("/readyz").ok();
    client.like(1, 1);
}

#[test]
fn fault_injection_must_be_enabled() {
    let service = Setup::new().start();
    let client = service.client();
    for actor in ["cache_writer", "behavior_recorder", "nobody"] {
        let answer = client.post(&format!("/admin/faults/panic/{actor}"), "");
        answer.is_problem(404, "not_found");
    }
    assert!(client.actors().iter().all(|actor| actor.panics == 0));

    let service = Setup::new().set("LIKEWISE_FAULT_INJECTION", true).start();
    let answer = service.client().post("/admin/faults/panic/nobody", "");
    answer.is_problem(404, "unknown_actor");
}

/// Times that a database may not be able to store, and texts that its columns may not hold.
fn odd_requests() -> Vec<(&'static str, String, String)> {
    const MOMENTS: [&str; 5] = [
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999999Z",
        "+262000-01-01T00:00:00Z",
        "-262000-01-01T00:00:00Z",
    ];
    const TEXTS: [(&str, &str); 4] = [
        ("\0", "%00"),
        ("\u{e9}", "%C3%A9"),
        ("\u{1f600}%_\\", "%F0%9F%98%80%25_%5C"),
        (
            "01890a5d-ac96-774b-bcce-b302099a8057\0",
            "01890a5d-ac96-774b-bcce-b302099a8057%00",
        ),
    ];
    let mut requests = Vec::new();
    let mut get = |path: String| requests.push(("GET", path, String::new()));
    for id in [i64::MIN, -1, 0, i64::MAX] {
        get(format!(
            "/admin/ledger/events?resource_id={id}&user_id={id}"
        ));
    }
    for moment in MOMENTS {
        let encoded = moment.replace('+', "%2B");
        get(format!("/admin/ledger/events?since={encoded}"));
        get(format!("/admin/ledger/events?until={encoded}"));
        for (id, _) in TEXTS {
            let cursor = hex::encode(json!({"at": moment, "id": id}).to_string());
            get(format!("/admin/ledger/events?cursor={cursor}"));
            get(format!("/admin/quarantine?cursor={cursor}"));
            get(format!("/admin/operations?cursor={cursor}"));
        }
        get(format!("/admin/history?since={encoded}"));
        let cursor = json!({"at": moment, "id": "01890a5d-ac96-774b-bcce-b302099a8057"});
        let cursor = hex::encode(cursor.to_string());
        get(format!("/admin/ledger/events?cursor={cursor}"));
        get(format!("/admin/quarantine?cursor={cursor}"));
    }
    for (_, encoded) in TEXTS {
        get(format!("/admin/ledger/events?error={encoded}"));
        for filter in ["target", "operator", "process"] {
            get(format!("/admin/operations?{filter}={encoded}"));
        }
        for path in ["jobs", "ledger/events", "quarantine"] {
            get(format!("/admin/{path}/{encoded}"));
        }
    }
    let mut post = |path: String, body: String| requests.push(("POST", path, body));
    for (text, encoded) in TEXTS {
        post(format!("/admin/jobs/{encoded}/cancel"), String::new());
        for dry_run in [true, false] {
            let filter = json!({"error": text});
            let job =
                json!({"kind": "discard", "filter": filter, "reason": text, "dry_run": dry_run});
            post("/admin/jobs".to_owned(), job.to_string());
        }
    }
    for moment in MOMENTS {
        for bound in ["since", "until"] {
            let job = json!({"kind": "retry", "filter": {bound: moment}});
            post("/admin/jobs".to_owned(), job.to_string());
        }
    }
    for id in [json!("13"), json!("x"), json!(""), json!(-1)] {
        for name in ["user_id", "resource_id"] {
            let job = json!({"kind": "retry", "filter": {name: id}});
            post("/admin/jobs".to_owned(), job.to_string());
        }
    }
    let prune = json!({"kind": "prune", "ledger_days": u32::MAX, "behaviors_days": u32::MAX});
    post("/admin/jobs".to_owned(), prune.to_string());
    requests
}

#[test]
fn unusual_values_cause_no_database_error() {
    for setup in [
        Setup::new(),
        Setup::new().on(&Database::hosted(Kind::MariaDb)),
        Setup::new().on(&Database::hosted(Kind::Postgres)),
    ] {
        let service = setup.start();
        let client = service.client();
        let mut faults = Vec::new();
        for (method, path, body) in odd_requests() {
            let answer = client.send_body(method, &path, &body);
            if answer.status >= 500 {
                faults.push((answer, body));
            }
        }
        assert!(faults.is_empty(), "{faults:#?}");
    }
}

#[test]
fn operator_name_is_printable() {
    let service = Setup::new().start();
    let client = service.client();
    for name in ["a\tb", "\t", "\u{e9}", ""] {
        let answer = client
            .with("X-Operator", name)
            .post("/admin/jobs/none/cancel", "");
        answer.is_problem(400, "invalid_operator");
    }
}

#[test]
fn prune_job_without_old_rows_deletes_nothing() {
    let service = Setup::new().start();
    let client = service.client();
    client.like(1, 7);
    let body = r#"{"kind": "prune", "ledger_days": 36500, "behaviors_days": 36500}"#;
    let job = client.post("/admin/jobs", body).json();
    let path = format!("/admin/jobs/{}", job["id"].as_str().expect("an id"));
    until_equal("the job to end", json!("completed"), || {
        client.get(&path).json()["state"].clone()
    });
    assert_eq!(client.actor("job_runner").panics, 0);
}
