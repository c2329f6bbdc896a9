//! The cost of operators' and audits' queries depends on the open rows or the chunk, not on the size of the tables.

use std::time::Instant;

use chrono::Utc;
use likewise::domain::{IdKinds, JobKind, ResourceType, Status};
use likewise::store::{JobRows, LedgerFilter, NewJob, Pass, Sample, Store};

use super::bulk_rows;
use super::fixture::{Bench, lease_at, now};
use crate::support::database::{Database, Value};
use crate::support::say;
use crate::support::servers::Kind;

matrix!(&[sqlite, mariadb, postgres]:
    admin_statements_scan_no_table,
    narrow_search_continues_window_by_window,
);

/// The number of rows, most of them completed.
const ROWS: i64 = 30_000;

/// Keys in the tables that [`bulk_rows::fill`] filled.
fn sample(bench: &Bench) -> Sample {
    let filter = LedgerFilter::default();
    let first = bench.ask(|store| store.search(&filter, None, 5));
    let place = first.next.expect("more rows");
    let middle = bench.database().rows(
        "SELECT event_id, user_id FROM user_behaviors ORDER BY user_behavior_id LIMIT 2 OFFSET 1000",
    );
    let id = middle[0][0].text().to_owned();
    let user_id = middle[0][1].number();
    Sample {
        now: Utc::now(),
        place,
        user_id,
        numbers: (user_id, user_id + 1),
        ids: (id.clone(), format!("{}~", &id[..7])),
    }
}

fn explained(database: &Database, sql: &str) -> Vec<String> {
    let explain = match database {
        Database::Sqlite(_) => "EXPLAIN QUERY PLAN",
        Database::MariaDb(_) | Database::Postgres(_) => "EXPLAIN",
    };
    let rows = database.rows(&format!("{explain} {sql}"));
    let line = |row: &Vec<Value>| {
        let cells = row.iter().map(|value| match value {
            Value::Null => "-".to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Text(text) => text.clone(),
        });
        cells.collect::<Vec<_>>().join(" | ")
    };
    rows.iter().map(line).collect()
}

/// Returns whether a line of a plan reads a whole table, or a whole index of all its rows.
fn scans(database: &Database, plan: &[String], line: &str) -> bool {
    match database {
        // An ordered index scan ends with the page, and the index of due rows has open ones only. A derived table is no
        // table.
        Database::Sqlite(_) => {
            let tables = [
                "b",
                "c",
                "e",
                "f",
                "l",
                "s",
                "x",
                "sync_events",
                "user_behaviors",
            ];
            let scanned = line.split_once("SCAN ").map(|(_, rest)| rest);
            let name = scanned.and_then(|rest| rest.split(' ').next());
            let fine = ["sync_events_due_by_priority", "sync_events_created"];
            let derived = name.is_some_and(|name| {
                plan.iter()
                    .any(|line| line.ends_with(&format!("CO-ROUTINE {name}")))
            });
            name.is_some_and(|name| tables.contains(&name))
                && !derived
                && !fine.iter().any(|index| line.contains(index))
        }
        Database::MariaDb(_) => {
            let cells: Vec<_> = line.split(" | ").collect();
            // select_type, table, type, possible_keys, key, key_len, ref, rows
            let derived = cells[2].starts_with('<');
            let rows: i64 = cells[8].parse().unwrap_or_default();
            !derived
                && (["ALL", "index"].contains(&cells[3]) || rows > ROWS / 2)
                && !cells[9].contains("table")
        }
        Database::Postgres(_) => {
            line.contains("Seq Scan on") && !line.contains("Seq Scan on likewise_retention")
        }
    }
}

fn admin_statements_scan_no_table(bench: &Bench) {
    let database = bench.database();
    let views = ROWS / 10;
    bulk_rows::fill(database, ROWS - 400 - views, 400);
    bulk_rows::add_views(database, views);
    let sample = sample(bench);
    let statements = bench.with(|store| store.bounded_statements(&sample));
    assert!(statements.len() > 40, "{}", statements.len());
    let mut wrong = Vec::new();
    for (name, sql) in statements {
        let plan = explained(database, &sql);
        if plan.iter().any(|line| scans(database, &plan, line)) {
            wrong.push(format!("{name}: {sql}\n  {}", plan.join("\n  ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn narrow_search_continues_window_by_window(bench: &Bench) {
    let database = bench.database();
    bulk_rows::fill(database, ROWS, 0);
    let health = bench.ask(|store| store.ledger_health(now()));
    assert!(health.completed_is_estimate);
    let completed = health.rows[&Status::Completed];
    assert!((ROWS / 2..=ROWS * 2).contains(&completed), "{completed}");
    // The oldest row is in the last window.
    let filter = LedgerFilter {
        resource_id: Some((database.number("SELECT MIN(resource_id) FROM sync_events")).into()),
        ..LedgerFilter::default()
    };
    let (mut after, mut pages, mut found) = (None, 0, 0);
    loop {
        let place = after.take();
        let page = bench.ask(|store| store.search(&filter, place, 50));
        pages += 1;
        found += page.entries.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    // MariaDB reads failed and dead rows separately, and there are none.
    assert_eq!((found, pages), (1, 3));
}

/// Ten million rows, or `LIKEWISE_SCALE_ROWS`, on the database that `LIKEWISE_SCALE_ON` names; see
/// `scripts/ledger-scale`.
#[test]
#[ignore = "takes minutes and gigabytes; scripts/ledger-scale runs it"]
fn ledger_of_ten_million_rows() {
    let setting = |name: &str| std::env::var(name).ok();
    let kind = match setting("LIKEWISE_SCALE_ON").as_deref() {
        Some("postgres") => Some(Kind::Postgres),
        Some("sqlite") => None,
        _ => Some(Kind::MariaDb),
    };
    let rows = setting("LIKEWISE_SCALE_ROWS").map_or(10_000_000, |rows| {
        rows.parse().expect("LIKEWISE_SCALE_ROWS is a number")
    });
    let bench = Bench::new(kind);
    let started = Instant::now();
    bulk_rows::fill(bench.database(), rows, 8_000);
    say(format_args!(
        "{rows} rows loaded in {:.0?}",
        started.elapsed()
    ));
    let sample = sample(&bench);
    for (name, sql) in bench.with(|store| store.bounded_statements(&sample)) {
        let plan = explained(bench.database(), &sql);
        say(format_args!("--- {name}\n{sql}\n  {}", plan.join("\n  ")));
    }
    timed(&bench, &sample);
}

/// Prints the duration of each operator's query: the first run, and the best of five.
fn timed(bench: &Bench, sample: &Sample) {
    let time = |name: &str, work: &dyn Fn()| {
        let times = [(); 5].map(|()| {
            let started = Instant::now();
            work();
            started.elapsed()
        });
        let best = times.iter().min().expect("five times");
        say(format_args!(
            "{name:40} first {:>9.2?}  best {best:>9.2?}",
            times[0]
        ));
    };
    time("open rows", &|| {
        bench.ask(Store::open_rows);
    });
    time("summary", &|| {
        bench.ask(|store| store.ledger_health(now()));
    });
    let any = LedgerFilter::default;
    for status in Status::ALL {
        let filter = LedgerFilter {
            status: Some(status),
            ..any()
        };
        time(&format!("search: {status}"), &|| {
            bench.ask(|store| store.search(&filter, None, 50));
        });
    }
    let narrow = [
        ("all", any()),
        (
            "user",
            LedgerFilter {
                user_id: Some(sample.user_id.into()),
                ..any()
            },
        ),
        (
            "resource",
            LedgerFilter {
                resource_id: Some(sample.numbers.0.into()),
                resource_type: Some(ResourceType::VIDEO),
                ..any()
            },
        ),
        (
            "error of dead",
            LedgerFilter {
                status: Some(Status::Dead),
                error: Some("LOCK".to_owned()),
                ..any()
            },
        ),
    ];
    for (name, filter) in &narrow {
        time(&format!("search: {name}"), &|| {
            bench.ask(|store| store.search(filter, None, 50));
        });
    }
    for pass in [
        Pass::Behaviors,
        Pass::Ledger,
        Pass::Likes(ResourceType::VIDEO),
        Pass::Counts(ResourceType::VIDEO),
    ] {
        let rows = match pass {
            Pass::Counts(_) => 500,
            _ => 5_000,
        };
        time(&format!("audit step: {pass:?}"), &|| {
            let chunk = bench.ask(|store| store.chunk(pass, pass.start(IdKinds::default()), rows));
            let found = bench.ask(|store| store.inspect(&chunk));
            assert_eq!(found, []);
        });
    }
    for kind in [JobKind::Retry, JobKind::Discard] {
        let filter = LedgerFilter {
            error: Some("lock".to_owned()),
            ..any()
        };
        time(&format!("job snapshot: {kind}"), &|| {
            let job = NewJob {
                kind,
                spec: serde_json::json!({}),
                requested_by: "ann".to_owned(),
                slot: None,
                now: now(),
            };
            let made = bench.ask(|store| store.create_job(&job, Some(JobRows::Events(&filter))));
            assert!(made.expect("a job").total >= Some(1_000));
        });
    }
    // Each claim takes other rows.
    time("claim of 500 due rows", &|| {
        let claimed = bench.ask(|store| store.claim(lease_at(now()), 500));
        assert_eq!(claimed.rows.len(), 500);
    });
}
