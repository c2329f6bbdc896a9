//! The web pages in headless Chromium: the front page and the console, in one process and on all servers. The scripts of
//! the tests are in `console/tests/`; they fail if a page loads anything from another host, breaks the content security
//! policy, or has a serious accessibility violation.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::nats::{LIKES, Publisher, event};
use crate::support::checks::pipeline_drains;
use crate::support::database::Database;
use crate::support::http::Client;
use crate::support::servers::{Kind, program};
use crate::support::service::{Service, Setup};
use crate::support::tokens;
use crate::support::{say, until_equal, until_seen};

/// The sources of the pages.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("console")
}

/// A user whose id JavaScript's numbers cannot hold.
const LARGE: i64 = 9_007_199_254_740_993;

/// A copy of the sources, beside the packages that they need.
fn workshop() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["src", "tests"] {
        fs::create_dir(folder.path().join(name)).expect("a folder");
        for entry in fs::read_dir(sources().join(name)).expect("a folder") {
            let path = entry.expect("an entry").path();
            let copy = folder
                .path()
                .join(name)
                .join(path.file_name().expect("a name"));
            fs::copy(&path, copy).expect("a copy");
        }
    }
    for name in ["build.mjs", "tsconfig.json", "package.json"] {
        fs::copy(sources().join(name), folder.path().join(name)).expect("a copy");
    }
    let packages = program("LIKEWISE_TEST_CONSOLE").join("node_modules");
    std::os::unix::fs::symlink(packages, folder.path().join("node_modules")).expect("a link");
    folder
}

/// Runs a script of the workshop, which must succeed, and returns what it printed.
#[track_caller]
fn node(workshop: &TempDir, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(program("LIKEWISE_TEST_NODE"));
    let ran = command
        .current_dir(workshop.path())
        .args(arguments)
        .env("CHROMIUM", program("LIKEWISE_TEST_CHROMIUM"))
        .envs(environment.iter().copied())
        .output()
        .expect("Node.js starts");
    let printed = String::from_utf8_lossy(&ran.stdout).into_owned();
    let failed = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{arguments:?}: {printed}{failed}");
    printed
}

/// Runs a test in the browser against a service.
#[track_caller]
fn browse(service: &Service, script: &str, more: &[(&str, &str)]) {
    let url = service.url();
    let environment = [&[("URL", url.as_str())], more].concat();
    node(&workshop(), &[&format!("tests/{script}.mjs")], &environment);
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("a folder");
    let read = |path: PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy();
        (name.into_owned(), fs::read(&path).expect("a file"))
    };
    entries
        .map(|entry| read(entry.expect("an entry").path()))
        .collect()
}

#[test]
fn embedded_pages_are_built_from_their_sources() {
    let workshop = workshop();
    node(&workshop, &["build.mjs"], &[]);
    let (built, committed) = (
        files(&workshop.path().join("dist")),
        files(&sources().join("dist")),
    );
    assert_eq!(
        built.keys().collect::<Vec<_>>(),
        committed.keys().collect::<Vec<_>>()
    );
    for (name, content) in built {
        assert!(
            committed[&name] == content,
            "console/dist/{name} is outdated: run `npm ci && npm run build` in console/"
        );
    }
}

#[test]
fn pages_match_the_types_of_the_api() {
    let service = Setup::new().start();
    let workshop = workshop();
    let document = service.client().get("/openapi.json").text;
    fs::write(workshop.path().join("openapi.json"), document).expect("a file");
    let generator = "node_modules/openapi-typescript/bin/cli.js";
    node(
        &workshop,
        &[generator, "openapi.json", "--output", "src/schema.d.ts"],
        &[],
    );
    node(
        &workshop,
        &["node_modules/typescript/bin/tsc", "--noEmit"],
        &[],
    );
}

#[test]
fn pages_are_public_and_their_files_cached_by_content() {
    let service = Setup::new().with_sign_in().start();
    let client = service.client();
    for path in ["/", "/admin"] {
        let page = client.send("GET", path, &[("Sec-Fetch-Site", "cross-site")]);
        page.has_status(200);
        let policy = page.header("content-security-policy").expect("a policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self';"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(page.text.contains("&quot;sign_in&quot;:true"), "{page:?}");
        assert!(page.text.contains("&quot;demo&quot;:false"), "{page:?}");
    }
    for (path, target) in [
        ("/admin/", "../admin"),
        ("/console", "admin"),
        ("/console/", "../admin"),
    ] {
        let moved = client.send("GET", path, &[("Sec-Fetch-Site", "cross-site")]);
        let location = moved.has_status(308).header("location");
        assert_eq!(location, Some(target), "{path}");
    }
    let file = client.get("/console/console.css");
    let tag = file.has_status(200).header("etag").expect("a tag");
    let again = client.send("GET", "/console/console.css", &[("If-None-Match", tag)]);
    assert_eq!((again.status, again.text.as_str()), (304, ""));
    client.get("/console/schema.d.ts").is_problem(404, "absent");
    client.get("/admin/session").is_problem(401, "unauthorized");
}

#[test]
fn session_tells_what_the_token_allows() {
    let service = Setup::new().with_services().start();
    let session = |token: &str| {
        let client = service.client().with_token(token);
        client.get("/admin/session").ok()
    };
    let expected = json!({
        "operator": "watcher",
        "scopes": ["admin:read"],
        "unauthenticated": false,
        "fault_injection": false,
    });
    assert_eq!(session("lkw_watcher"), expected);
    let open = Setup::new().start();
    let session = open.client().get("/admin/session").ok();
    assert_eq!(session["scopes"], json!(["admin:read", "admin:operate"]));
    assert_eq!(session["unauthenticated"], true);
}

#[test]
fn demo_is_on_for_loopback_unless_set() {
    let demo = |setup: Setup| {
        let service = setup.start();
        let page = service.client().get("/").text;
        page.contains("&quot;demo&quot;:true")
    };
    assert!(demo(Setup::new()));
    assert!(!demo(Setup::new().set("LIKEWISE_DEMO", false)));
    assert!(!demo(
        Setup::new().with_sign_in().set("LIKEWISE_DEMO", true)
    ));
}

/// Likes of 500 users, whose ledger rows have failed; and one of a user with a large id.
fn failed_events(client: &Client, service: &Service) {
    let behaviors: Vec<_> = (1..=500)
        .map(|user| json!({"user_id": user, "resource_type": "video", "resource_id": 5, "behavior": "like"}))
        .collect();
    client
        .post("/v1/likes", json!({"behaviors": behaviors}))
        .has_status(200);
    client.like(LARGE, 5);
    pipeline_drains(service);
    fail(service.database());
}

fn fail(database: &Database) {
    database.execute(&["UPDATE sync_events SET status = 'failed', retry_count = 1, processed_at = NULL, \
                        error_message = 'an injected failure', next_attempt_at = '2090-01-01 00:00:00' \
                        WHERE user_id <= 500 AND resource_id = 5"]);
}

#[test]
fn browser_shows_likes_and_faults_of_one_process() {
    let service = Setup::new().set("LIKEWISE_FAULT_INJECTION", true).start();
    browse(
        &service,
        "home",
        &[("STATIONS", "api cache recorded completed")],
    );
    browse(&service, "flow", &[]);
}

#[test]
fn browser_notices_a_service_that_hangs() {
    let service = Setup::new().start();
    let process = service.id().to_string();
    browse(&service, "outage", &[("PROCESS", &process)]);
}

#[test]
fn browser_retries_failed_events_of_one_process() {
    let service = Setup::new().start();
    failed_events(&service.client(), &service);
    browse(&service, "keyboard", &[]);
    browse(&service, "events", &[]);
}

/// 120 dead letters of a receiver that is not configured, so that those that are retried wait; one is about a user with a
/// large id.
fn dead_letters(database: &Database) {
    let letters: Vec<_> = (1..=120)
        .map(|n| {
            let (user, error) = match n {
                1 => (LARGE, "422"),
                2..=60 => (n, "500"),
                _ => (n, "503"),
            };
            let id = format!("01890a5d-ac96-774b-bcce-{n:012}");
            format!(
                "('https://search.example.com/likes', '{id}', 'liked', {user}, 'video', 7, {n}, {n}, \
                 '2026-01-02 03:04:05', 20, 'the receiver answered {error}', '2026-01-02 04:05:06')"
            )
        })
        .collect();
    database.execute(&[&format!(
        "INSERT INTO likewise_outbox (receiver, event_id, fact, user_id, resource_type, resource_id, like_count, version, \
         created_at, attempts, last_error, dead_at) VALUES {}",
        letters.join(", ")
    )]);
}

#[test]
fn browser_resolves_dead_letters() {
    let service = Setup::new().start();
    dead_letters(service.database());
    browse(&service, "webhooks", &[]);
    let left = "likewise_outbox WHERE dead_at IS NOT NULL";
    assert_eq!(service.database().count(left), 60);
    assert_eq!(service.database().count("likewise_outbox"), 120);
}

#[test]
fn browser_voids_and_restores_likes_of_a_user() {
    let service = Setup::new().start();
    let client = service.client();
    for video in 1..=3 {
        client.like(LARGE, video);
    }
    let headers = [("X-User-Id", &*LARGE.to_string())];
    client
        .send("PUT", "/v1/comments/1/like", &headers)
        .has_status(200);
    pipeline_drains(&service);
    browse(&service, "moderation", &[]);
}

/// Messages in quarantine that a newer program can decode, all but one.
fn quarantined_by_an_old_program(database: &Database) {
    let messages: Vec<_> = (1..=25)
        .map(|n| {
            let id = format!("01890a5d-ac96-774b-bcce-{n:012}");
            let payload = match n {
                1 => "{".to_owned(),
                n => event(1_000 + n, 8, "like", "2026-01-02T12:00:00Z").to_string(),
            };
            format!("('{id}', {n}, '{LIKES}', '{payload}', 'unknown to an old program', '2026-01-02 03:04:05')")
        })
        .collect();
    database.execute(&[&format!(
        "INSERT INTO likewise_quarantined_events (id, stream_sequence, subject, payload, reason, created_at) VALUES {}",
        messages.join(", ")
    )]);
}

#[test]
fn browser_shows_readers_nothing_that_is_refused() {
    let setup = Setup::new().with_services();
    let chief = tokens::service_token("chief", "lkw_chief", &["admin:read", "admin:operate"]);
    let watcher = tokens::service_token("watcher", "lkw_watcher", &["admin:read"]);
    setup.write("tokens.toml", chief + &watcher);
    let service = setup.start();
    let client = service.client();
    let like = client.like(1, 5);
    client.like(2, 5);
    pipeline_drains(&service);
    let message = "01890a5d-ac96-774b-bcce-b302099a8057";
    let quarantine = format!(
        "INSERT INTO likewise_quarantined_events (id, stream_sequence, subject, payload, reason, created_at) \
         VALUES ('{message}', 1, '{LIKES}', '{{', 'it is cut off', '2026-01-02 03:04:05')"
    );
    service.database().execute(&[&quarantine]);
    fail(service.database());
    dead_letters(service.database());
    let letter = service
        .database()
        .texts("SELECT CAST(MIN(id) AS CHAR(20)) FROM likewise_outbox")
        .remove(0);
    let created = service
        .client()
        .with_token("lkw_chief")
        .post("/admin/jobs", json!({"kind": "audit"}));
    let job = created.has_status(201).json();
    let ids = [
        ("EVENT", like.event_id.as_str()),
        ("MESSAGE", message),
        ("LETTER", &letter),
        ("JOB", job["id"].as_str().expect("an id")),
    ];
    browse(&service, "read-only", &ids);
}

/// Takes pictures of every view, on a phone and on a desktop, light and dark, for the people who change the pages to look at.
/// Fails if a page is wider than its screen.
#[test]
fn browser_takes_pictures_of_every_view() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("console-pictures");
    let _ = fs::remove_dir_all(&folder);
    let service = Setup::on_parts(Kind::MariaDb).start();
    let client = service.client();
    let like = client.like(LARGE, 6);
    failed_events(&client, &service);
    let database = service.database();
    dead_letters(database);
    quarantined_by_an_old_program(database);
    let create = |body: Value| {
        let client = client.with("X-Operator", "ada");
        let job = client.post("/admin/jobs", body).has_status(201).json();
        let path = format!("/admin/jobs/{}", job["id"].as_str().expect("an id"));
        until_seen(
            "the job to end",
            || client.get(&path).json(),
            |job| job["finished_at"].is_string(),
        );
        job["id"].as_str().expect("an id").to_owned()
    };
    create(json!({"kind": "audit"}));
    let job =
        create(json!({"kind": "discard_messages", "messages": {"until": "2020-01-01T00:00:00Z"}}));
    let path = format!("/admin/users/{LARGE}/likes/void");
    let reason = json!({"reason": "a click farm", "resource_type": "video"});
    client.post(&path, reason).has_status(201);
    let letter = database
        .texts("SELECT CAST(MIN(id) AS CHAR(20)) FROM likewise_outbox")
        .remove(0);
    let folder = folder.to_string_lossy();
    let environment = [
        ("OUT", &*folder),
        ("EVENT", &like.event_id),
        ("LETTER", &letter),
        ("JOB", &job),
        ("MESSAGE", "01890a5d-ac96-774b-bcce-000000000002"),
        ("USER_ID", &LARGE.to_string()),
    ];
    browse(&service, "screenshots", &environment);
    say(format_args!("the pictures are in {folder}"));
}

/// The ids of the workers in a report of the deployment.
fn worker_ids(report: &Value) -> Vec<String> {
    let processes = report["processes"].as_array().expect("processes").iter();
    let workers = processes.filter(|process| process["role"] == "worker");
    workers
        .map(|worker| worker["id"].as_str().expect("an id").to_owned())
        .collect()
}

#[test]
fn browser_operates_an_api_and_two_workers_on_mariadb() {
    let setup = Setup::on_parts(Kind::MariaDb).set("LIKEWISE_FAULT_INJECTION", true);
    let workers = [(); 2].map(|()| setup.beside().start_as(&["serve", "--role", "worker"]));
    let nats = setup.setting("LIKEWISE_NATS_URL");
    let service = setup.start_as(&["serve", "--role", "api"]);
    browse(
        &service,
        "home",
        &[("STATIONS", "api cache broker recorded completed")],
    );

    failed_events(&service.client(), &service);
    browse(&service, "events", &[]);

    let wrong = event(LARGE, 7, "like", "2026-01-02T12:00:00Z").to_string();
    let wrong = wrong.replace("\"video\"", "\"vidio\"");
    Publisher::at(&nats).publish(LIKES, wrong);
    let database = service.database();
    database.until_count("likewise_quarantined_events", 1);
    quarantined_by_an_old_program(database);
    let processes = until_seen(
        "the reports of both workers",
        || service.client().get("/admin/actors?scope=cluster").ok(),
        |report| worker_ids(report).len() == 2,
    );
    let workers_ids = worker_ids(&processes).join(" ");
    browse(&service, "quarantine", &[("WORKERS", &workers_ids)]);
    until_equal("the republished events to count", 24, || {
        let answer = service.client().get("/v1/videos/8/likes/count").ok();
        answer["like_count"].as_i64().unwrap_or_default()
    });

    let [killed, other] = workers;
    let ids = [killed.id(), other.id()].map(|id| format!("process {id}"));
    let _data = killed.kill();
    browse(
        &service,
        "processes",
        &[("KILLED", &ids[0]), ("WORKER", &ids[1])],
    );
    drop(other);
}
