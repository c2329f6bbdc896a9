//! The web pages in headless Chromium: the front page and the console, in one process and on all servers. The scripts of
//! the tests are in `console/tests/`; they fail if a page loads anything from another host, breaks the content security
//! policy, or has a serious accessibility violation.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::nats::{LIKES, Publisher, event};
use crate::support::checks::pipeline_drains;
use crate::support::database::Database;
use crate::support::http::Client;
use crate::support::servers::{Kind, program};
use crate::support::service::{Service, Setup};
use crate::support::tokens;

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
fn browser_retries_failed_events_of_one_process() {
    let service = Setup::new().start();
    failed_events(&service.client(), &service);
    browse(&service, "events", &[]);
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
    let ids = [("EVENT", like.event_id.as_str()), ("MESSAGE", message)];
    browse(&service, "read-only", &ids);
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
    browse(&service, "quarantine", &[]);

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
