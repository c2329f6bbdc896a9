//! Facts in webhooks: retries, order, dead letters, signatures and their rotation.

use std::collections::BTreeSet;
use std::fs;

use serde_json::json;

use super::{
    Fact, are_in_order, first_arrivals, tell_the_database, tell_the_database_in_the_order_of_pairs,
};
use crate::support::checks::pipeline_drains;
use crate::support::crowd::Crowd;
use crate::support::service::{Service, Setup};
use crate::support::webhook_receiver::Hook;
use crate::support::{PATIENCE, seed, until, until_equal, until_seen};

matrix!([embedded, mariadb, postgres]:
    failing_receiver_gets_every_fact_in_order,
    dead_letters_are_listed_retried_and_discarded,
    facts_have_ids_of_any_kind,
);

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Another secret.
const NEW_SECRET: &str = "whsec_bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3";

fn posting_to(setup: Setup, hooks: &[&Hook]) -> Setup {
    let urls: Vec<_> = hooks.iter().map(|hook| hook.url()).collect();
    setup
        .set("LIKEWISE_WEBHOOK_URLS", urls.join(", "))
        .set("LIKEWISE_WEBHOOK_SECRET", SECRET)
        .set("LIKEWISE_LEASE_SECONDS", 3)
}

/// The facts that a receiver took.
fn taken(hook: &Hook) -> Vec<Fact> {
    let posted = hook.posted();
    let taken = posted.iter().filter(|posted| posted.status == 204);
    taken
        .flat_map(|posted| posted.facts())
        .map(|fact| serde_json::from_value(fact).expect("a fact"))
        .collect()
}

/// Whether a body has a fact of this user.
fn is_of(body: &str, user: i64) -> bool {
    body.contains(&format!("\"user_id\":{user},"))
        || body.contains(&format!("\"user_id\":{user}}}"))
}

#[track_caller]
fn takes_everything(hook: &Hook, service: &Service) {
    until("the receiver to take every fact", PATIENCE, || {
        tell_the_database(&first_arrivals(&taken(hook)), service.database())
    });
    are_in_order(&first_arrivals(&taken(hook)));
}

#[track_caller]
fn waiting(service: &Service) -> i64 {
    service
        .database()
        .count("likewise_outbox WHERE dead_at IS NULL")
}

/// The receiver refuses each delivery with a fact of user 3, and is down for a while. Other pairs pass, and all facts
/// arrive in the order of their pairs.
fn failing_receiver_gets_every_fact_in_order(setup: Setup) {
    const CROWD: Crowd = Crowd {
        first_user: 1,
        threads: 3,
        users: 3,
        videos: 3,
    };
    let mut rng = seed::rng("webhooks");
    let hook = Hook::start(|body| if is_of(body, 3) { 500 } else { 204 });
    let service = posting_to(setup, &[&hook]).start();
    let running = CROWD.start(&service, &mut rng);
    running.wait_for(100);
    let users = || {
        taken(&hook)
            .iter()
            .map(|fact| fact.user_id)
            .collect::<BTreeSet<_>>()
    };
    until_seen("others to pass", users, |users| users.len() >= 8);
    let is_refused = || hook.posted().iter().any(|posted| posted.status == 500);
    until_equal("a fact of user 3 to be refused", true, is_refused);
    hook.obey(|_| 503);
    running.wait_for(200);
    hook.obey(|_| 204);
    running.stop();
    pipeline_drains(&service);
    until("the receiver to take every fact", PATIENCE, || {
        let facts = first_arrivals(&taken(&hook));
        tell_the_database_in_the_order_of_pairs(&facts, service.database())
    });
    are_in_order(&first_arrivals(&taken(&hook)));
    assert!(is_refused());
    until_equal("the outbox to be empty", 0, || waiting(&service));
}

fn dead_letters_are_listed_retried_and_discarded(setup: Setup) {
    let hook = Hook::start(|body| match body {
        body if is_of(body, 13) => 422,
        body if is_of(body, 14) => 410,
        _ => 204,
    });
    let setup = posting_to(setup, &[&hook]).set("LIKEWISE_WEBHOOK_MAX_ATTEMPTS", 2);
    let service = setup.start();
    let client = service.client();
    client.like(12, 7);
    client.like(13, 7);
    let dead = |number: usize| {
        let listed = || client.get("/admin/webhooks/dead").json()["dead"].clone();
        let dead = until_seen("dead letters", listed, |dead| {
            dead.as_array().map(Vec::len) == Some(number)
        });
        dead.as_array().expect("dead letters").clone()
    };
    let letter = &dead(1)[0];
    assert_eq!(letter["user_id"], 13);
    assert_eq!(letter["fact"], "liked");
    assert_eq!(letter["attempts"], 2);
    assert_eq!(letter["receiver"], hook.url());
    assert_eq!(letter["last_error"], "the receiver answered 422");
    let answer = client.get("/admin/webhooks").json();
    let receiver = &answer["receivers"][0];
    assert_eq!(
        (&receiver["configured"], &receiver["dead"]),
        (&true.into(), &1.into()),
        "{answer}"
    );
    let retry = |body: &str, path: &str| {
        let headers = [("X-Operator", "ada")];
        let path = format!("/admin/webhooks/{path}");
        client
            .try_send("POST", &path, &headers, body.as_bytes())
            .expect("an answer")
    };
    assert_eq!(retry("{}", "discard").problem(), "invalid_body");
    assert_eq!(retry("{\"ids\":[4711]}", "retry").status, 404);

    // The version shows that a later fact of the pair passed the dead one.
    client.unlike(13, 7);
    dead(2);
    hook.obey(|body| if is_of(body, 14) { 410 } else { 204 });
    let shown = client
        .get(&format!("/admin/webhooks/dead/{}", letter["id"]))
        .ok();
    assert_eq!(shown["last_error"], letter["last_error"]);
    assert!(
        shown["created_at"].as_str() < shown["dead_at"].as_str(),
        "{shown}"
    );
    client
        .get("/admin/webhooks/dead/4711")
        .is_problem(404, "absent");
    let listed = |query: &str| {
        let path = format!("/admin/webhooks/dead?{query}");
        client.get(&path).ok()["dead"].as_array().map(Vec::len)
    };
    assert_eq!(
        listed("user_id=13&resource_type=video&error=ANSWERED"),
        Some(2)
    );
    assert_eq!(listed("user_id=12"), Some(0));
    assert_eq!(listed("until=2020-01-01T00:00:00Z"), Some(0));
    // All that match are retried by a job, after a dry run.
    let job = |dry_run: bool| {
        let filter = json!({"receiver": hook.url(), "user_id": 13});
        let body = json!({"kind": "retry_webhooks", "dead_letters": filter, "dry_run": dry_run});
        client.with("X-Operator", "ada").post("/admin/jobs", body)
    };
    let counted = job(true).ok();
    assert_eq!(counted["total"], 2, "{counted}");
    assert_eq!(counted["rows"][hook.url()], 2, "{counted}");
    let created = job(false).has_status(201).json();
    let path = format!("/admin/jobs/{}", created["id"].as_str().expect("an id"));
    let ended = until_seen(
        "the job to end",
        || client.get(&path).json(),
        |job| job["finished_at"].is_string(),
    );
    assert_eq!(
        (&ended["state"], &ended["total"], &ended["changed"]),
        (&"completed".into(), &2.into(), &2.into()),
        "{ended}"
    );
    let said = "rows retried operator=ada action=retried rows=2";
    // The log follows the end of the job.
    until_equal("the retry to be logged", 1, || service.logged(said).len());
    until_seen(
        "the retried facts to arrive",
        || first_arrivals(&taken(&hook)),
        |facts| facts.len() == 3,
    );
    takes_everything(&hook, &service);

    // The receiver answers 410, so the fact is dead at once.
    client.like(14, 7);
    let letter = &dead(1)[0];
    assert_eq!(letter["attempts"], 1);
    let ran = service.setup().run(&["webhooks", "dead"]);
    ran.prints("the receiver answered 410");
    let id = letter["id"].to_string();
    let ran = service.setup().run(&["webhooks", "discard", &id]);
    assert_eq!(ran.stdout, "1 dead letters are deleted\n", "{ran:?}");
    dead(0);
    // Those of a receiver, by a job that the command runs itself or leaves to the worker.
    client.like(14, 8);
    dead(1);
    let url = hook.url();
    let of_receiver = ["webhooks", "discard", "--receiver", &url];
    let ran = service
        .setup()
        .run(&[&of_receiver[..], &["--dry-run"]].concat());
    assert_eq!(ran.stdout, "1 dead letters match\n", "{ran:?}");
    let ran = service
        .setup()
        .run(&[&of_receiver[..], &["--yes"]].concat());
    ran.prints("completed: 1 dead letters are deleted");
    dead(0);
    let ran = service.setup().run(&["webhooks", "list", "--json"]);
    assert!(ran.stdout.contains(&hook.url()), "{ran:?}");
}

fn facts_have_ids_of_any_kind(setup: Setup) {
    const USER: &str = "018f3f52-7d1e-7c60-a5ae-0b9d2a1c0f11";
    let hook = Hook::start(|_| 204);
    let service = posting_to(setup, &[&hook])
        .set("LIKEWISE_USER_IDS", "uuid")
        .set("LIKEWISE_RESOURCE_IDS", "text")
        .set("LIKEWISE_RESOURCE_TYPES", "post,photo")
        .set("LIKEWISE_TABLE_PREFIX", "app_")
        .start();
    let headers = [("X-User-Id", USER)];
    let liked = service
        .client()
        .send("PUT", "/v1/photos/cafe%20au%20lait/like", &headers);
    assert_eq!(liked.status, 200, "{liked:?}");
    let posted = until_seen("the fact", || hook.posted(), |posted| !posted.is_empty());
    let fact = &posted[0].facts()[0];
    assert_eq!(fact["user_id"], USER);
    assert_eq!(fact["resource_type"], "photo");
    assert_eq!(fact["resource_id"], "cafe au lait");
    assert_eq!(fact["event_id"], liked.json()["event_id"]);
}

#[test]
fn slow_receiver_delays_neither_others_nor_likes() {
    let silent = Hook::start(|_| 0);
    let redirecting = Hook::start(|_| 302);
    let prompt = Hook::start(|_| 204);
    let setup = posting_to(Setup::new(), &[&silent, &redirecting, &prompt]);
    let service = setup.set("LIKEWISE_WEBHOOK_TIMEOUT_SECONDS", 1).start();
    for user in 1..=5 {
        service.client().like(user, 7);
        pipeline_drains(&service);
    }
    takes_everything(&prompt, &service);
    let error = || {
        service.client().actor("fact_publisher").details["receivers"][0]["last_error"].to_string()
    };
    until_seen("the time-out to be reported", error, |error| {
        error.contains("timeout")
    });
    let failing = || service.client().get("/readyz").json()["failing"].to_string();
    let said = format!("posting facts to {}", redirecting.url());
    until_seen("the redirect to be reported", failing, |failing| {
        failing.contains(&said)
    });
    // A fact that was taken is deleted after the answer.
    until("the facts of two receivers to wait", PATIENCE, || {
        let waiting = waiting(&service);
        (waiting == 10).then_some(()).ok_or(waiting)
    });
    // Twenty attempts take minutes with a back-off, and seconds without.
    let attempts = redirecting.posted().len();
    assert!(attempts < 20, "{attempts} attempts");
    // They recover.
    silent.obey(|_| 204);
    redirecting.obey(|_| 204);
    takes_everything(&silent, &service);
    takes_everything(&redirecting, &service);
}

#[test]
fn kill_9_between_post_and_commit_repeats_and_loses_nothing() {
    const CROWD: Crowd = Crowd {
        first_user: 1,
        threads: 2,
        users: 5,
        videos: 3,
    };
    let mut rng = seed::rng("webhooks after kill");
    let hook = Hook::start(|_| 204);
    let mut service = posting_to(Setup::new(), &[&hook]).start();
    for _ in 0..3 {
        let running = CROWD.start(&service, &mut rng);
        running.wait_for(100);
        service = service.kill().start();
        running.stop();
    }
    pipeline_drains(&service);
    takes_everything(&hook, &service);
}

#[test]
fn changed_secret_signs_without_a_restart() {
    let hook = Hook::start(|_| 204);
    let setup = posting_to(Setup::new(), &[&hook]);
    let file = setup.folder().join("webhook-secret");
    fs::write(&file, SECRET).expect("a file");
    let service = setup
        .set("LIKEWISE_WEBHOOK_SECRET_FILE", file.display())
        .start();
    let client = service.client();
    client.like(1, 7);
    let signatures = |posts: usize| {
        let posted = until_seen(
            "a webhook",
            || hook.posted(),
            |posted| posted.len() >= posts,
        );
        let signature = posted
            .last()
            .map_or("", |last| last.header("webhook-signature"));
        signature.split(' ').map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(signatures(1).len(), 1);
    fs::write(&file, "nonsense").expect("a file");
    let said = || {
        client.like(2, 7);
        client.unlike(2, 7);
        service.logged("is not whsec_ and base64")
    };
    until_seen("the mistake to be reported", said, |said| !said.is_empty());
    fs::write(&file, format!("{NEW_SECRET} {SECRET}\n")).expect("a file");
    until_equal("both to sign", 2, || {
        client.like(3, 7);
        client.unlike(3, 7);
        let posted = hook.posted();
        let last = posted.last().expect("a webhook");
        last.header("webhook-signature").split(' ').count()
    });
}
