//! `likewise load`.

use std::collections::BTreeSet;

use insta::assert_json_snapshot;
use serde_json::Value;

use crate::support::checks::everything_holds;
use crate::support::crowd::Pair;
use crate::support::service::{Ran, Service, Setup};
use crate::support::{interactions, redacted, seed};

fn load(service: &Service, file: &str, flags: &[&str]) -> Ran {
    let url = service.url();
    let mut arguments = vec!["load", "--json", "--from", file, "--url", &url];
    arguments.extend(flags);
    service.setup().run(&arguments)
}

fn report(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

#[test]
fn load_sends_every_line_and_some_unlikes() {
    const LINES: usize = 2_000;
    let mut rng = seed::rng("load");
    let service = Setup::new().start();
    let pairs: BTreeSet<Pair> = interactions::drawn(LINES, &mut rng).into_iter().collect();
    let pairs: Vec<Pair> = pairs.into_iter().collect();
    for file in ["likes.csv", "likes.csv.gz"] {
        interactions::write(&service.setup().folder().join(file), &pairs);
    }

    let ran = load(&service, "likes.csv", &[]);
    ran.exits(0);
    let plain = report(&ran);
    for (field, expected) in [
        ("sent", pairs.len()),
        ("accepted", pairs.len()),
        ("failed", 0),
        ("likes", pairs.len()),
        ("unlikes", 0),
    ] {
        assert_eq!(plain[field], expected, "{field}: {plain:#}");
    }
    assert!(plain["latency_ms"]["p99"].as_f64() > Some(0.0), "{plain:#}");
    let verified = service.setup().verify(60);
    assert_eq!(verified.holds().report["liked"]["video"], pairs.len());

    let flags = "--unlike-ratio 0.3 --seed 7 --concurrency 16";
    let flags: Vec<_> = flags.split(' ').collect();
    let ran = load(&service, "likes.csv.gz", &flags);
    ran.exits(0);
    let zipped = report(&ran);
    let unlikes = zipped["unlikes"].as_u64().expect("a number") as usize;
    let likely = pairs.len() / 5..pairs.len() / 2;
    assert!(likely.contains(&unlikes), "{zipped:#}");
    assert_eq!(zipped["likes"], pairs.len(), "{zipped:#}");
    assert_eq!(zipped["seed"], 7, "{zipped:#}");
    // No like is reverted twice.
    let verified = service.setup().verify(60);
    let liked = pairs.len() - unlikes;
    assert_eq!(verified.holds().report["liked"]["video"], liked);
    everything_holds(&service);
}

#[test]
fn unreachable_server_is_named() {
    let service = Setup::new().start();
    let url = service.url();
    let setup = service.stop();
    setup.write("likes.csv", "1,2\n");
    let ran = setup.run(&["load", "--from", "likes.csv", "--url", &url]);
    ran.exits(1).reports(&format!("cannot reach {url}"));
}

#[test]
fn invalid_line_is_named_and_nothing_is_sent() {
    let service = Setup::new().start();
    service
        .setup()
        .write("likes.csv", "user_id,video_id\n1,2\n3,x\n");
    let ran = load(&service, "likes.csv", &[]);
    ran.exits(1).reports("likes.csv, line 3");
    let ran = load(&service, "absent.csv", &[]);
    ran.exits(1).reports("cannot open absent.csv");
    service.stored_nothing();
}

#[test]
fn failed_requests_are_counted_and_reported() {
    let service = Setup::new().start();
    service.setup().write("likes.csv", "1,2\n3,4\n");
    let rename = "ALTER TABLE user_behaviors RENAME TO away";
    service.database().execute(&[rename]);
    let ran = load(&service, "likes.csv", &[]);
    ran.exits(1);
    let report = redacted(report(&ran), &["rate_per_second", "seconds", "seed"]);
    assert_json_snapshot!(report, @r#"
    {
      "accepted": 0,
      "failed": 2,
      "failures": {
        "HTTP 503 Service Unavailable": 2
      },
      "first_refusal": "HTTP 503 Service Unavailable: Unavailable: neither the broker nor the database can store this now; try again shortly, which is safe even if this request takes effect",
      "interrupted": false,
      "latency_ms": null,
      "likes": 2,
      "rate_per_second": "[rate_per_second]",
      "seconds": "[seconds]",
      "seed": "[seed]",
      "sent": 2,
      "unlikes": 0
    }
    "#);
}
