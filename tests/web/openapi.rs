//! `/openapi.json` and `/docs`: the document lists exactly the existing routes, and the page loads nothing from other
//! hosts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::checks::pipeline_drains;
use crate::support::http::{Answer, Client};
use crate::support::schemathesis::check_document;
use crate::support::service::Setup;
use crate::support::sse::EventSource;

const METHODS: [&str; 7] = ["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS"];

fn document(client: &Client) -> Value {
    let answer = client.get("/openapi.json");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.ok()
}

/// The documented methods of each path.
fn operations(document: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let paths = document["paths"].as_object().expect("paths");
    paths
        .iter()
        .map(|(path, item)| {
            let methods = item.as_object().expect("operations").keys();
            (
                path.clone(),
                methods.map(|name| name.to_uppercase()).collect(),
            )
        })
        .collect()
}

/// A path with a value for each of its parameters.
fn filled(path: &str) -> String {
    path.replace("{id}", "7")
        .replace("{event_id}", "01890a5d-ac96-774b-bcce-b302099a8057")
        .replace("{actor}", "nobody")
        .replace("{name}", "nobody")
        .replace("{file}", "nothing")
}

#[test]
fn exactly_the_documented_methods_are_served() {
    let service = Setup::new().set("LIKEWISE_FAULT_INJECTION", true).start();
    let client = service.client();
    let operations = operations(&document(&client));
    assert!(operations.len() > 20, "{operations:?}");
    for (path, documented) in operations {
        let uri = filled(&path);
        assert!(!uri.contains('{'), "{path}");
        // HEAD comes with GET.
        let mut supported = documented.clone();
        supported.extend(documented.contains("GET").then(|| "HEAD".to_owned()));
        for method in METHODS {
            if method == "GET" && uri.ends_with("/live") {
                // Its body has no end.
                let source = EventSource::open(service.address(), &uri, &[]);
                // The request before may have erased the resource.
                assert!(
                    [200, 400, 410].contains(&source.received().status),
                    "{path}"
                );
                continue;
            }
            // Two reads in a row are equal only if the pipeline is idle.
            pipeline_drains(&service);
            let answer = client.send(method, &uri, &[("X-User-Id", "42")]);
            if method == "HEAD" && uri.ends_with("/live") {
                assert_eq!(answer.text, "", "{path}");
                continue;
            }
            if method == "HEAD" && supported.contains(method) {
                let got = client.try_send("GET", &uri, &[("X-User-Id", "42")], b"");
                has_the_headers_of(&answer, &got, &path);
                continue;
            }
            if documented.contains(method) {
                assert_ne!(answer.status, 405, "{method} {path}");
                if answer.status == 404 {
                    assert_ne!(answer.problem(), "not_found", "{method} {path}");
                }
                continue;
            }
            assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
            let allowed = answer.header("allow").expect("a header Allow");
            let allowed: BTreeSet<_> = allowed.split(", ").map(str::to_owned).collect();
            assert_eq!(allowed, supported, "{path}");
        }
    }
}

/// Compares an answer to HEAD with that to GET, which cannot be read if it is a picture.
#[track_caller]
fn has_the_headers_of(head: &Answer, got: &Result<Answer, String>, path: &str) {
    assert_eq!(head.text, "", "{path}");
    let Ok(got) = got else {
        return;
    };
    assert_eq!(head.status, got.status, "{path}");
    let length = head.header("content-length");
    let length: usize = length.and_then(|text| text.parse().ok()).expect("a length");
    // The first scheduled jobs may run meanwhile.
    let has_state = [
        "/metrics",
        "/admin/actors",
        "/admin/audit",
        "/admin/history",
        "/admin/jobs",
        "/admin/ledger",
    ]
    .contains(&path);
    assert!(length == got.text.len() || has_state, "{path}: {head:?}");
    for name in ["content-type", "cache-control", "content-security-policy"] {
        assert_eq!(head.header(name), got.header(name), "{path}");
    }
}

#[test]
fn each_query_parameter_that_is_invalid_is_named() {
    let service = Setup::new().start();
    let client = service.client();
    let document = document(&client);
    let mut refused = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        let parameters = item["get"]["parameters"].as_array();
        for parameter in parameters.into_iter().flatten() {
            let schema = parameter["schema"].to_string();
            let is_text = !["integer", "boolean", "date-time", "enum"]
                .iter()
                .any(|kind| schema.contains(kind));
            // An id may be text in another deployment, so it is no error of the query.
            let name = parameter["name"].as_str().expect("a name");
            if parameter["in"] != "query" || is_text || name.ends_with("_id") {
                continue;
            }
            let uri = format!("{}?{name}=~", filled(path));
            // The user of the path.
            let answer = client.as_user(7).get(&uri);
            assert_eq!(answer.status, 400, "{uri}: {answer:?}");
            // The paths of the older service have the detail in their `message`.
            let problem = answer.json();
            let detail = format!("{} {}", problem["detail"], problem["message"]);
            assert!(detail.contains(&format!("'{name}': ")), "{uri}: {detail}");
            // The words of the parsers of numbers and times do not say what is expected.
            let says = ["expected", "true"]
                .iter()
                .any(|word| detail.contains(word));
            assert!(says, "{uri}: {detail}");
            refused += 1;
        }
    }
    assert!(refused > 10, "{refused} parameters");
}

#[test]
fn document_is_valid_openapi_with_valid_examples() {
    let setup = Setup::new();
    let service = setup.start();
    let document = document(&service.client());
    assert_eq!(document["openapi"], "3.1.0");
    let check = include_str!("openapi_document.py");
    check_document(check, service.setup().folder(), &document);
}

#[test]
fn worker_documents_its_own_routes() {
    let service = Setup::new().start_as(&["serve", "--role", "worker"]);
    let client = service.client();
    let operations = operations(&document(&client));
    assert!(operations.contains_key("/admin/ledger"));
    assert!(operations.contains_key("/readyz"));
    let mut paths = operations.keys();
    assert!(
        !paths.any(|path| path.starts_with("/v1/")),
        "{operations:?}"
    );
}

#[test]
fn document_names_security_per_route() {
    let security = |setup: Setup| {
        let service = setup.start();
        let client = service.client();
        client.get("/docs").has_status(200);
        let document = document(&client);
        [
            ("/v1/videos/{id}/like", "put"),
            ("/v1/videos/top", "get"),
            ("/admin/ledger", "get"),
            ("/metrics", "get"),
            ("/healthz", "get"),
        ]
        .map(|(path, method)| document["paths"][path][method]["security"].clone())
    };
    let user = json!({"user": []});
    let token = json!({"token": []});
    let both = json!({"user": [], "token": []});
    let (writes, open, asked, none) = (
        &json!([user, both]),
        &json!([{}, token]),
        &json!([token]),
        &json!([]),
    );
    let admin = Setup::new().set("LIKEWISE_ADMIN_TOKEN", "a secret of operators");
    for (setup, expected) in [
        (Setup::new(), [writes, open, open, open, none]),
        (admin, [writes, open, asked, open, none]),
        (
            Setup::new().with_sign_in(),
            [asked, asked, asked, asked, none],
        ),
    ] {
        assert_eq!(security(setup).each_ref(), expected);
    }
}

#[test]
fn docs_page_loads_nothing_external() {
    let service = Setup::new().start();
    let client = service.client();
    let page = client.get("/docs");
    page.has_status(200);
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"));
    assert!(
        !policy.contains("http") && !policy.contains('*'),
        "{policy}"
    );
    let mut files = Vec::new();
    for quoted in page.text.split('"').skip(1).step_by(2) {
        assert!(!quoted.contains("//"), "the page names {quoted}");
        files.extend(quoted.starts_with("docs/").then(|| format!("/{quoted}")));
    }
    assert_eq!(files.len(), 4, "{files:?}");
    for file in files {
        let answer = client.try_send("GET", &file, &[], b"");
        let Ok(answer) = answer else {
            // Images are not text.
            assert!(file.ends_with(".png"), "{file}: {answer:?}");
            continue;
        };
        assert_eq!(answer.status, 200, "{file}");
        // The bundle contains URLs in texts and licences. The content security policy prevents loading them; this
        // checks the files that load without a script.
        if file.ends_with(".css") {
            for loaded in answer.text.split("url(").skip(1) {
                let url = loaded.trim_start_matches(['"', '\'']);
                assert!(url.starts_with("data:"), "{file}");
            }
            assert!(!answer.text.contains("@import"), "{file}");
        }
        if file.ends_with("page.js") {
            assert!(!answer.text.contains("//") || !answer.text.contains("http"));
            assert!(answer.text.contains("validatorUrl: null"));
        }
    }
}

#[test]
fn docs_page_is_dark_where_the_system_is() {
    let service = Setup::new().start();
    let client = service.client();
    let text = |file: &str| client.get(file).has_status(200).text.clone();
    let page = text("/docs");
    // The script runs before the page is painted.
    let (head, _) = page.split_once("<body>").expect("a body");
    assert!(head.contains("docs/page.js"), "{page}");
    let script = text("/docs/page.js");
    for part in ["(prefers-color-scheme: dark)", "toggle(\"dark-mode\""] {
        assert!(script.contains(part), "{script}");
    }
    // The class has a theme.
    assert!(text("/docs/swagger-ui.css").contains("html.dark-mode .swagger-ui{"));
}
