//! `likewise bench`, with few likes.

use std::fs;

use serde_json::Value;

use crate::support::service::{Ran, Setup, Signal};
use crate::support::{PATIENCE, until};

/// Few likes on few connections, into the working directory.
const SMALL: [&str; 14] = [
    "bench",
    "--likes=200",
    "--warm-up=20",
    "--hot-likes=100",
    "--concurrency=4",
    "--rounds=2",
    "--seconds=1",
    "--rate=100",
    "--keys=uniform,hot",
    "--json=result.json",
    "--svg=result.svg",
    "--data=.",
    "--limit=120",
    "--on=embedded",
];

fn result(setup: &Setup) -> Value {
    let json = fs::read_to_string(setup.folder().join("result.json")).expect("the result");
    serde_json::from_str(&json).expect("JSON")
}

fn cases(result: &Value) -> Vec<&str> {
    let cases = result["cases"].as_array().expect("cases").iter();
    cases
        .map(|case| case["case"].as_str().expect("a name"))
        .collect()
}

/// The folders that a benchmark has left behind.
fn left_behind(setup: &Setup) -> Vec<String> {
    let entries = fs::read_dir(setup.folder()).expect("a folder");
    let names = entries.map(|entry| {
        entry
            .expect("an entry")
            .file_name()
            .to_string_lossy()
            .into_owned()
    });
    names
        .filter(|name| name.starts_with("likewise-bench-"))
        .collect()
}

#[test]
fn benchmark_measures_every_case_and_draws_it() {
    let setup = Setup::new();
    let ran = setup.run(&SMALL);
    ran.exits(0)
        .prints("full pipeline, one video")
        .prints("medians of 2 rounds");
    let result = result(&setup);
    assert_eq!(
        cases(&result),
        [
            "hello_put",
            "hello_get",
            "pipeline_uniform",
            "pipeline_hot",
            "get_warm",
            "get_cold",
            "get_hot",
            "status_of_100",
            "list_of_50_likers",
            "list_of_50_liked",
            "likes_at_rate",
            "likes_at_rate_completed",
            "mixed",
            "mixed_at_rate",
            "mixed_at_rate_reads",
            "mixed_at_rate_likes",
            "mixed_at_rate_completed",
        ]
    );
    for case in result["cases"].as_array().expect("cases") {
        let figures = &case["figures"];
        assert_eq!(
            figures["p99_ms"]["rounds"].as_array().map(Vec::len),
            Some(2),
            "{case:#}"
        );
        assert!(figures["p50_ms"]["median"].as_f64() > Some(0.0), "{case:#}");
    }
    let pipeline = &result["cases"][2]["figures"];
    for figure in ["completed_per_second", "memory_mib_likewise"] {
        assert!(
            pipeline[figure]["median"].as_f64() > Some(1.0),
            "{figure}: {pipeline:#}"
        );
    }
    let picture = fs::read_to_string(setup.folder().join("result.svg")).expect("the picture");
    assert!(
        picture.contains("full pipeline, one video · 4"),
        "{picture}"
    );
    assert_eq!(left_behind(&setup), [""; 0]);
}

#[test]
fn benchmark_on_rows_reports_the_bytes_of_a_like() {
    let setup = Setup::new();
    let growth = [
        "--rows=3000",
        "--only=pipeline",
        "--rounds=1",
        "--keys=skew",
    ];
    let arguments = SMALL
        .iter()
        .filter(|word| !word.starts_with("--rounds") && !word.starts_with("--keys"));
    let arguments: Vec<_> = arguments.chain(&growth).collect();
    let ran = setup.run(&arguments);
    ran.exits(0).prints("bytes in the database");
    let result = result(&setup);
    let tables = result["growth"]["tables"].as_array().expect("tables");
    assert_eq!(tables.len(), 4, "{tables:#?}");
    // Those stored by SQL, those that warmed up, and those that were measured.
    assert_eq!(tables[0]["rows"], 3_220, "{tables:#?}");
    let bytes = result["growth"]["bytes_a_like"].as_f64().expect("a number");
    assert!((200.0..5_000.0).contains(&bytes), "{bytes}");
}

#[test]
fn benchmark_accepts_likes_beside_a_backlog() {
    let setup = Setup::new();
    let backlog = ["--only=accept", "--in-flight=300", "--rounds=1"];
    let arguments = SMALL
        .iter()
        .filter(|word| !word.starts_with("--rounds") && !word.starts_with("--on"));
    let arguments: Vec<_> = arguments.chain(&["--on=mariadb"]).chain(&backlog).collect();
    let ran = setup.run(&arguments);
    ran.exits(0)
        .prints("accept, beside 300 likes in flight on one video");
    let expected = ["hello_put", "hello_get", "accept", "accept_beside"];
    assert_eq!(cases(&result(&setup)), expected);
}

#[test]
fn interrupted_benchmark_keeps_what_it_measured() {
    let setup = Setup::new();
    let mut arguments = SMALL.map(str::to_owned).to_vec();
    arguments[1] = "--likes=5000".to_owned();
    let process = setup.launch(&arguments);
    until("the first measurement", PATIENCE, || {
        let logged = process.logged();
        logged
            .contains("bare handler, GET")
            .then_some(())
            .ok_or(logged)
    });
    process.signal(Signal::INT);
    process.finish().exits(130).prints("interrupted");
    let result = result(&setup);
    assert_eq!(result["interrupted"], true);
    assert_eq!(cases(&result)[..2], ["hello_put", "hello_get"]);
    assert_eq!(left_behind(&setup), [""; 0]);
}

/// Runs the check of the data against these likes.
fn checked(setup: &Setup, sent: &str) -> Ran {
    setup.write("sent.csv", sent);
    setup.run(&["bench", "--tool", "check", "--from", "sent.csv"])
}

#[test]
fn benchmark_check_finds_each_difference() {
    let service = Setup::new().start();
    let client = service.client();
    for (user, video) in [(1, 7), (2, 7), (2, 7), (3, 8)] {
        client.like(user, video);
    }
    service.setup().verify(60).holds();
    let sent = "1,7\n2,7\n2,7\n3,8\n";
    checked(service.setup(), sent).exits(0);
    for (sent, difference) in [
        ("1,7\n2,7\n3,8\n", "3 requests, 4 behaviors"),
        ("1,7\n2,7\n2,7\n3,9\n", "liked pairs: 3 expected, 3 found"),
        (
            "1,7\n2,7\n2,7\n4,7\n",
            "counts (video, likes): 1 expected, 2 found",
        ),
    ] {
        checked(service.setup(), sent).exits(1).prints(difference);
    }
}

#[test]
fn unusable_peer_is_named() {
    let setup = Setup::new();
    setup.write("peer.json", "{");
    let ran = setup.run(&["bench", "--peer", "."]);
    ran.exits(1).reports("peer.json: ");
    let ran = setup.run(&["bench", "--from", "absent.csv"]);
    ran.exits(1).reports("cannot open absent.csv");
}
