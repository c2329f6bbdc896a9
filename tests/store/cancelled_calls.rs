//! A call whose caller no longer waits leaves a usable store, and so does one whose process no longer runs.

use std::time::Duration;

use chrono::Utc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::fixture::{Bench, like, waiting_for_table};
use crate::support::{PATIENCE, until};

matrix!(&[sqlite, mariadb, postgres]: cancelled_calls_leave_a_usable_store);

matrix!(&[mariadb, postgres]: frozen_transaction_does_not_hold_up_others);

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

fn frozen_transaction_does_not_hold_up_others(bench: &Bench) {
    // The server ends a silent transaction after twice this time.
    const LIMIT: Duration = Duration::from_secs(5);
    const SOON: Duration = Duration::from_millis(20);
    bench.complete(&[like(1.into(), 7)]);
    let rows = bench.record(&[like(2.into(), 7)]);
    let others = bench.record(&[like(3.into(), 7)]);
    let frozen = Bench::within(bench.database(), LIMIT);
    let store = frozen.store();
    let mut sync = Box::pin(store.sync(&rows, Utc::now()));

    // It has locked the count, and waits for its next table.
    let held = bench.database().hold_tables(&["sync_events"]);
    until("the sync to wait for a table", PATIENCE, || {
        let synced = frozen.wait(async { timeout(SOON, sync.as_mut()).await });
        assert!(synced.is_err(), "it waits for the lock: {synced:?}");
        match waiting_for_table(bench.database()) {
            0 => Err("it does not wait yet"),
            _ => Ok(()),
        }
    });
    // Nothing polls it any more, as if its process was suspended. The server grants the lock.
    drop(held);
    until("another worker to go on", PATIENCE / 2, || {
        bench.attempt(|store| store.sync(&others, Utc::now()))
    });

    // Its first answer may be that the transaction has ended.
    let _ = frozen.wait(sync);
    until("the frozen worker to go on", PATIENCE, || {
        frozen.attempt(|store| store.sync(&rows, Utc::now()))
    });
    assert_eq!(bench.database().count("video_likes"), 3);
    bench.verified();
}
