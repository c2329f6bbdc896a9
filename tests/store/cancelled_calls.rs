//! A call whose caller no longer waits leaves a usable store.

use std::time::Duration;

use chrono::Utc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::fixture::{Bench, like};

matrix!(&[sqlite, mariadb, postgres]: cancelled_calls_leave_a_usable_store);

fn cancelled_calls_leave_a_usable_store(bench: &Bench) {
    const SOON: Duration = Duration::from_millis(200);
    let rows = bench.record(&[like(1.into(), 7)]);
    let store = bench.store();
    bench.wait(async {
        // More often than there are connections, so that none may get lost or stay inside a transaction.
        for _ in 0..6 {
            let database = bench.database().clone();
            let held = spawn_blocking(move || database.hold_writes()).await;
            let synced = timeout(SOON, store.sync(&rows, Utc::now())).await;
            assert!(synced.is_err(), "it waits for the lock: {synced:?}");
            spawn_blocking(move || drop(held)).await.expect("no lock");
        }
    });
    bench.sync(&rows);
    bench.ask(likewise::store::Store::ping);
    assert_eq!(bench.database().count("video_likes"), 1);
}
