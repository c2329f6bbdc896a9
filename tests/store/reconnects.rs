//! The store reconnects to a server that restarts, hangs or turns read-only, without a restart of the service.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use likewise::config::StoreOptions;
use likewise::domain::{FailureKind, JobKind, Resource};
use likewise::store::{self, JobRows, LedgerFilter, NewJob, Store};

use super::fixture::{Bench, lease_at, like, now, options, pair, waiting_for_table};
use crate::support::database::Database;
use crate::support::forwarder::Forwarder;
use crate::support::servers::{Kind, Server};
use crate::support::{PATIENCE, runtime, say, until, until_seen, wait};

/// Starts a server of its own, because the tests stop it, with the tables.
#[track_caller]
fn migrated(kind: Kind) -> (Server, Database) {
    let server = Server::start(kind);
    let database = Database::first_of(&server);
    wait(store::migrate(&options(&database))).expect("migrations");
    (server, database)
}

matrix!([mariadb, postgres]: store_reconnects_after_a_restart);

fn store_reconnects_after_a_restart(kind: Kind) {
    let (mut server, database) = migrated(kind);
    let bench = Bench::on(&database);
    let mut rows = bench.record(&[like(1.into(), 7)]);

    // The restart happens between two calls, so the pooled connections die unnoticed.
    server.kill();
    server.run();
    rows.extend(bench.record(&[like(2.into(), 7)]));
    server.stop();
    server.run();
    bench.ask(likewise::store::Store::ping);
    bench.sync(&rows);

    // During the outage, every call fails soon with a temporary error.
    server.kill();
    for _ in 0..2 {
        let error = bench
            .attempt(likewise::store::Store::ping)
            .expect_err("no database");
        assert_eq!(error.kind(), FailureKind::Infrastructure, "{error}");
        let error = bench.attempt(|store| store.sync(&rows, chrono::Utc::now()));
        let error = error.expect_err("no database");
        assert_eq!(error.kind(), FailureKind::Infrastructure, "{error}");
    }
    server.run();
    // After a pause, the circuit breaker lets a call through.
    until("the database to be found again", PATIENCE, || {
        bench.attempt(|store| store.sync(&rows, chrono::Utc::now()))
    });

    // The restart happens during a load.
    let worker = Bench::on(bench.database());
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut recorded = 0;
            for user in 100..=400 {
                let event = like(user.into(), 7);
                let lease = super::fixture::lease_at(chrono::Utc::now());
                until("the database to take it", PATIENCE, || {
                    worker.attempt(|store| {
                        let event = &event;
                        Box::pin(async move { store.record(&[event], lease).await })
                    })
                });
                recorded += 1;
            }
            recorded
        });
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(200));
            server.kill();
            server.run();
        }
        assert_eq!(load.join().expect("a worker"), 301);
    });
    let behaviors = "SELECT COUNT(*) FROM user_behaviors";
    assert_eq!(bench.database().number(behaviors), 303);
}

matrix!([mariadb, postgres]: hung_server_times_out_and_recovers);

fn hung_server_times_out_and_recovers(kind: Kind) {
    let (server, database) = migrated(kind);
    let timeout = Duration::from_secs(1);
    let bench = Bench::within(&database, timeout);
    let patient = Bench::on(&database);
    let rows = patient.record(&[like(1.into(), 7)]);
    server.suspend();
    let started = Instant::now();
    let error = bench.attempt(|store| store.sync(&rows, chrono::Utc::now()));
    let error = error.expect_err("no answer");
    assert_eq!(error.kind(), FailureKind::Infrastructure, "{error}");
    assert!(started.elapsed() < 10 * timeout, "{:?}", started.elapsed());
    server.resume();
    until("the database to take it", PATIENCE, || {
        bench.attempt(|store| store.sync(&rows, chrono::Utc::now()))
    });
    patient.verified();
}

/// Uses all connections of the pool at once, and returns the server's ids of them.
#[track_caller]
fn all_connections(bench: &Bench) -> BTreeSet<i64> {
    let database = bench.database();
    let held = database.hold_tables(&["user_behaviors"]);
    let held_by = database.connections();
    let connections = options(database).max_connections;
    let writes = bench.wait(async {
        let spawn = |user| {
            let store = bench.store();
            tokio::spawn(async move {
                let event = like((1_000 + user as i64).into(), 7);
                store.record(&[&event], lease_at(Utc::now())).await
            })
        };
        (0..connections).map(spawn).collect::<Vec<_>>()
    });
    let used = until("each connection to be in use", PATIENCE, || {
        bench.wait(async { tokio::time::sleep(Duration::from_millis(20)).await });
        let all = database.connections();
        let writes = (all.len() > connections).then_some(all.clone());
        writes.ok_or_else(|| format!("{all:?}, the lock is held by one of {held_by:?}"))
    });
    drop(held);
    for write in writes {
        // A lock time-out does not fail this test.
        let _ = bench.wait(write).expect("a task");
    }
    used
}

fn retry_job() -> NewJob {
    NewJob {
        kind: JobKind::Retry,
        spec: serde_json::json!({}),
        requested_by: "ann".to_owned(),
        slot: None,
        now: now(),
    }
}

matrix!([mariadb, postgres]: connections_closed_by_the_server_fail_no_call);

fn connections_closed_by_the_server_fail_no_call(kind: Kind) {
    let (_server, database) = migrated(kind);
    let bench = Bench::on(&database);
    let rows = bench.record(&[like(1.into(), 7)]);
    let pairs = BTreeSet::from([pair(1.into(), Resource::video(7))]);
    let filter = LedgerFilter::default();
    let job = retry_job();
    // A probe, a transaction, a statement alone, a snapshot, and a transaction that is not repeated.
    let calls: [(&str, &dyn Fn()); 5] = [
        ("ping", &|| bench.ask(Store::ping)),
        ("sync", &|| drop(bench.sync(&rows))),
        ("find", &|| drop(bench.ask(|store| store.find(&pairs)))),
        ("verify", &|| drop(bench.ask(|store| store.verify(0)))),
        ("create_job", &|| {
            let events = Some(JobRows::Events(&filter));
            let created = bench.ask(|store| store.create_job(&job, events));
            created.expect("a job");
        }),
    ];
    for (name, call) in calls {
        all_connections(&bench);
        database.close_connections();
        say(format_args!("{name} on closed connections"));
        call();
    }
}

matrix!([mariadb, postgres]: job_is_not_created_again_on_a_lost_connection);

/// The connection is lost after the transaction has begun, so the work is not run again.
fn job_is_not_created_again_on_a_lost_connection(kind: Kind) {
    let (_server, database) = migrated(kind);
    let bench = Bench::on(&database);
    all_connections(&bench);
    let held = database.as_administrator().hold_tables(&["likewise_jobs"]);
    let job = retry_job();
    let created = std::thread::scope(|scope| {
        let creating = scope.spawn(|| bench.attempt(|store| store.create_job(&job, None)));
        until_seen(
            "the job to wait for its table",
            || waiting_for_table(&database),
            |waiting| *waiting >= 1,
        );
        database.close_connections();
        drop(held);
        creating.join().expect("a call")
    });
    let error = created.expect_err("the connection is lost");
    assert_eq!(error.kind(), FailureKind::Infrastructure, "{error}");
    assert_eq!(database.count("likewise_jobs"), 0);
}

/// The server commits a claim whose answer is lost, and the next attempt succeeds. The infrastructure has failed a write
/// all the same, so the lease that nobody holds does not count against the event.
#[test]
fn lost_commit_is_noted_although_a_later_attempt_succeeds() {
    let bench = Bench::new(Some(Kind::Postgres));
    bench.record(&[like(1.into(), 7)]);
    bench.execute(&["UPDATE sync_events SET next_attempt_at = '2020-01-01 00:00:00'"]);
    let (forwarder, url) = Forwarder::before(&bench.database().url());
    let runtime = runtime();
    let options = StoreOptions {
        url,
        ..options(bench.database())
    };
    let store = runtime.block_on(store::connect(&options)).expect("a store");
    let claim = |at| runtime.block_on(store.claim(lease_at(at), 10));

    forwarder.lose_only_commit_of("leased_until");
    let lost = claim(now() - TimeDelta::minutes(5)).expect("the second attempt");
    assert!(forwarder.has_lost_the_commit());
    assert_eq!(lost.rows, [], "the first attempt has claimed them");
    // The lease of the lost claim ended before now.
    let claimed = claim(now()).expect("a claim");
    let retries: Vec<_> = claimed.rows.iter().map(|row| row.retry_count).collect();
    assert_eq!(retries, [0]);
}

matrix!([mariadb, postgres]: read_only_server_keeps_no_connection);

fn read_only_server_keeps_no_connection(kind: Kind) {
    let (server, database) = migrated(kind);
    let bench = Bench::on(&database);
    let before = all_connections(&bench);

    // All connections are idle. One of them meets the read-only server.
    server.set_read_only(true);
    let event = like(1.into(), 7);
    // PostgreSQL applies the change to each session a moment later.
    let refused = until("a write to be refused", PATIENCE, || {
        match bench.wait(bench.store().record(&[&event], lease_at(Utc::now()))) {
            Err(refused) => Ok(refused),
            Ok(_) => Err("it was recorded"),
        }
    });
    assert_eq!(refused.kind(), FailureKind::Infrastructure, "{refused}");
    server.set_read_only(false);
    until("the database to be found again", PATIENCE, || {
        bench.wait(bench.store().record(&[&event], lease_at(Utc::now())))
    });

    let kept: BTreeSet<_> = all_connections(&bench)
        .intersection(&before)
        .copied()
        .collect();
    assert!(
        kept.is_empty(),
        "connections to the read-only server: {kept:?}"
    );
}
