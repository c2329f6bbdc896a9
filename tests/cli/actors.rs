//! `likewise actors`.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};

use serde_json::Value;

use crate::support::checks::pipeline_drains;
use crate::support::service::{Ran, Service, Setup};
use crate::support::{PATIENCE, tokens, until};

fn actors(service: &Service, arguments: &[&str]) -> Ran {
    let url = service.url();
    let mut all = vec!["actors"];
    all.extend(arguments);
    all.extend(["--url", &url]);
    service.setup().run(&all)
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

#[test]
fn actors_are_listed_as_tables_or_json() {
    let service = Setup::new().start();
    service.client().like(1, 1);
    let table = actors(&service, &[]);
    table.exits(0).prints("runs now").prints("waits for");
    for actor in service.client().actors_and_disabled() {
        table.prints(&actor.name);
    }
    table.prints("event_publisher is disabled: ");
    assert!(!table.stdout.contains("has no NATS"), "{table:?}");

    let report = json(actors(&service, &["--json"]).exits(0));
    assert!(report["sequence"].as_u64() >= Some(1), "{report}");
    let cluster = json(actors(&service, &["--json", "--scope", "cluster"]).exits(0));
    let id = cluster["processes"][0]["id"].as_str().expect("an id");
    let names = |report: &Value| {
        let actors = report["actors"].as_array().expect("actors");
        let names = actors.iter().map(|actor| actor["name"].clone());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(&report), names(&cluster["processes"][0]["report"]));
    actors(&service, &["--scope", "cluster"])
        .exits(0)
        .prints(id)
        .prints("this process has no NATS");

    // The beginning of an id is enough.
    let begin = &id[..12];
    actors(&service, &["--process", begin]).exits(0).prints(id);
    actors(&service, &["--process", "nobody"])
        .exits(1)
        .reports("no process of the deployment has an id that begins with 'nobody'");
}

#[test]
fn one_actor_is_shown_in_full() {
    let service = Setup::new().start();
    service.client().like(1, 1);
    pipeline_drains(&service);
    // The cache learns last that the like is in the database.
    service.client().until_depth("cache_writer", 0);
    actors(&service, &["cache_writer"])
        .exits(0)
        .prints("cache_writer\n  state         running for ")
        .prints("  mailbox       0 of ")
        .prints("  cache         in-process")
        .prints("Apply");
    let report = json(actors(&service, &["cache_writer", "--json"]).exits(0));
    assert_eq!(report["name"], "cache_writer");
    actors(&service, &["nobody"])
        .exits(1)
        .reports("no actor is called 'nobody'");
}

#[test]
fn operations_ask_first_and_are_recorded() {
    let service = Setup::new().start();
    let state = || service.client().actor("retry_scheduler").state;
    actors(&service, &["pause", "retry_scheduler"])
        .exits(1)
        .reports("pass --yes");
    assert_eq!(state(), "running");

    actors(&service, &["pause", "retry_scheduler", "--yes"])
        .exits(0)
        .prints("retry_scheduler is paused: paused by ");
    assert_eq!(state(), "paused");
    actors(&service, &["restart", "retry_scheduler", "--yes"]).exits(0);
    let ran = actors(&service, &["resume", "retry_scheduler", "--json"]);
    assert_eq!(json(ran.exits(0))["state"], "running");

    let operations = service.client().get("/admin/operations").ok();
    let done: Vec<_> = operations["operations"]
        .as_array()
        .expect("operations")
        .iter()
        .map(|one| (one["action"].clone(), one["target"].clone()))
        .collect();
    let expected = ["resume", "restart", "pause"];
    assert_eq!(
        done,
        expected.map(|action| (action.into(), "retry_scheduler".into()))
    );

    actors(&service, &["pause", "event_publisher", "--yes"])
        .exits(1)
        .reports("event_publisher does not run in this process");
}

#[test]
fn token_comes_from_environment_or_file() {
    const TOKEN: &str = "a secret of operators";
    let service = Setup::new().set("LIKEWISE_ADMIN_TOKEN", TOKEN).start();
    actors(&service, &[]).exits(0).prints("cache_writer");

    let url = service.url();
    let without = Setup::new();
    without
        .run(&["actors", "--url", &url])
        .exits(1)
        .reports("refuses the token")
        .reports("set LIKEWISE_ADMIN_TOKEN, or name a file with --token-from");
    without.write("token", format!("{TOKEN}\n"));
    let with_file = ["actors", "--url", &url, "--token-from", "token"];
    without.run(&with_file).exits(0).prints("cache_writer");
    without.write("token", "another secret of operators");
    without
        .run(&with_file)
        .exits(1)
        .reports("refuses the token");
    let missing = ["actors", "--url", &url, "--token-from", "nothing"];
    without
        .run(&missing)
        .exits(1)
        .reports("cannot read the token in nothing");
}

#[test]
fn readers_may_look_and_not_operate() {
    let setup = Setup::new();
    let watcher = tokens::service_token("watcher", "lkw_watcher", &["admin:read"]);
    setup.write("tokens.toml", watcher);
    setup.write("token", "lkw_watcher");
    let service = setup.set("LIKEWISE_TOKENS_FILE", "tokens.toml").start();
    let by = ["--token-from", "token"];
    actors(&service, &by).exits(0).prints("cache_writer");
    let pause = [&["pause", "cache_writer", "--yes"][..], &by].concat();
    actors(&service, &pause).exits(1).reports("admin:operate");
    assert_eq!(
        service
            .client()
            .with_token("lkw_watcher")
            .actor("cache_writer")
            .state,
        "running"
    );
}

#[test]
fn service_that_does_not_answer_is_named() {
    let service = Setup::new().start();
    let url = service.url();
    let setup = service.stop();
    setup
        .run(&["actors", "--url", &url])
        .exits(1)
        .reports(&format!("cannot ask {url}: "))
        .reports("is `likewise serve` running there?");
}

#[test]
fn service_on_loopback_is_asked_without_the_proxy() {
    let proxy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = proxy.local_addr().expect("an address");
    let service = Setup::new()
        .set("ALL_PROXY", format!("http://{address}"))
        .set("NO_PROXY", "")
        .start();
    actors(&service, &[]).exits(0).prints("cache_writer");

    // Another host is asked through it.
    let _other = service
        .setup()
        .launch(&["actors", "--url", "http://likes.invalid"]);
    proxy.set_nonblocking(true).expect("a listener");
    let (connection, _) = until("the proxy to be asked", PATIENCE, || proxy.accept());
    connection.set_nonblocking(false).expect("a connection");
    let mut line = String::new();
    BufReader::new(connection)
        .read_line(&mut line)
        .expect("a request");
    assert_eq!(line, "CONNECT likes.invalid:80 HTTP/1.1\r\n");
}
