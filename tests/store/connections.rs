//! A server that dies and comes back is found again without a restart of the service.

use std::time::{Duration, Instant};

use likewise::domain::FailureKind;
use likewise::store;

use super::bench::{Bench, like, options};
use crate::support::database::Database;
use crate::support::servers::{Kind, Server};
use crate::support::{PATIENCE, until, wait};

matrix!([mariadb, postgres]: store_reconnects_after_a_restart);

fn store_reconnects_after_a_restart(kind: Kind) {
    let mut server = Server::start(kind);
    let database = Database::first_of(&server);
    wait(store::migrate(&options(&database))).expect("migrations");
    let bench = Bench::on(&database);
    let mut rows = bench.record(&[like(1, 7)]);

    // Between two calls: the connections that lie in the pool are dead, and nobody notices.
    server.kill();
    server.run();
    rows.extend(bench.record(&[like(2, 7)]));
    server.stop();
    server.run();
    bench.ask(|store| store.ping());
    bench.sync(&rows);

    // While it is away, every call says so, soon, and as what may pass.
    server.kill();
    for _ in 0..2 {
        let error = bench
            .attempt(|store| store.ping())
            .expect_err("no database");
        assert_eq!(error.kind(), FailureKind::Infrastructure, "{error}");
        let error = bench.attempt(|store| store.sync(&rows, chrono::Utc::now()));
        let error = error.expect_err("no database");
        assert_eq!(error.kind(), FailureKind::Infrastructure, "{error}");
    }
    server.run();
    // It is left alone for a moment, and then found again.
    until("the database to be found again", PATIENCE, || {
        bench.attempt(|store| store.sync(&rows, chrono::Utc::now()))
    });

    // In the middle of a load.
    let database = bench.database();
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let worker = Bench::on(database);
            let mut recorded = 0;
            for user in 100..=400 {
                let event = like(user, 7);
                let lease = super::bench::lease_at(chrono::Utc::now());
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
    let server = Server::start(kind);
    let database = Database::first_of(&server);
    wait(store::migrate(&options(&database))).expect("migrations");
    let timeout = Duration::from_secs(1);
    let bench = Bench::within(&database, timeout);
    let rows = bench.record(&[like(1, 7)]);
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
    bench.verified();
}
