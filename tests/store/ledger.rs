//! `claim` and `fail`: which worker may process a row, for how long, and the record of each failure.

use std::collections::BTreeSet;
use std::thread::ScopedJoinHandle;

use chrono::{DateTime, TimeDelta, Utc};
use likewise::config::StoreOptions;
use likewise::domain::{Id, LedgerRow, Verdict};
use likewise::store::{self, Claimed, Lease, Store};

use super::fixture::{Bench, MAX_RETRIES, failed, later, lease_at, like, now, options};
use crate::support::database::{Database, Value};

matrix!(&[sqlite, mariadb, postgres]:
    only_due_rows_are_claimed,
    most_urgent_row_is_claimed_first,
    unreadable_row_does_not_block_claims,
    row_of_an_unserved_type_waits_for_others,
    last_abandoned_attempt_makes_the_row_dead,
    concurrent_claims_never_share_a_row,
    claim_skips_locked_rows,
    failed_attempt_is_recorded,
    failure_with_an_old_token_changes_nothing,
    renewed_lease_is_not_claimed,
);

fn record(bench: &Bench, rows: i64) -> Vec<LedgerRow> {
    let events: Vec<_> = (1..=rows).map(|user| like(user.into(), 7)).collect();
    bench.record(&events)
}

fn only_due_rows_are_claimed(bench: &Bench) {
    let rows = record(bench, 5);
    // The recorder's lease still runs.
    assert_eq!(bench.claim(now(), 10), []);
    let then = later();
    let first = bench.claim(then, 2);
    let second = bench.claim(then, 10);
    assert_eq!((first.len(), second.len()), (2, 3));
    for row in first.iter().chain(&second) {
        // No attempt had started, so none counts as failed.
        assert_eq!((row.fencing_token, row.retry_count), (2, 0));
    }
    let ids = |row: &LedgerRow| row.event_id;
    let claimed: BTreeSet<_> = first.iter().chain(&second).map(ids).collect();
    assert_eq!(claimed, rows.iter().map(ids).collect());
    // Under the new lease of a minute, nothing is due, and nothing is due after the row is completed.
    assert_eq!(bench.claim(then + TimeDelta::seconds(59), 10), []);
    bench.sync(&first);
    assert_eq!(bench.claim(then + TimeDelta::seconds(61), 10).len(), 3);
    assert_eq!(bench.claim(then, 0), []);
}

fn most_urgent_row_is_claimed_first(bench: &Bench) {
    record(bench, 6);
    // The bulk rows have been due the longest.
    bench.execute(&[
        "UPDATE sync_events SET priority = -1, next_attempt_at = '2026-01-01 00:00:00' \
         WHERE user_id <= 2",
        "UPDATE sync_events SET priority = 1 WHERE user_id = 5",
    ]);
    let users: Vec<_> = (0..3)
        .flat_map(|_| bench.claim(later(), 2))
        .map(|row| row.user_id)
        .collect();
    assert_eq!(users[0], 5.into(), "{users:?}");
    let mut normal = users[1..4].to_vec();
    normal.sort_unstable();
    assert_eq!(normal, [3, 4, 6].map(Id::from), "{users:?}");
}

fn unreadable_row_does_not_block_claims(bench: &Bench) {
    record(bench, 5);
    bench.execute(&[
        "UPDATE sync_events SET id = 'no event id' WHERE user_id = 1",
        "UPDATE sync_events SET action_type = 'sing' WHERE user_id = 2",
    ]);
    let claimed = bench.ask(|store| store.claim(lease_at(later()), 10));
    let users: BTreeSet<_> = claimed.rows.into_iter().map(|row| row.user_id).collect();
    assert_eq!(users, BTreeSet::from([3, 4, 5].map(Id::from)));
    assert_eq!(claimed.unreadable.len(), 2, "{:?}", claimed.unreadable);
    let dead = bench.database().rows(
        "SELECT user_id, error_message FROM sync_events WHERE status = 'dead' \
         AND next_attempt_at IS NULL AND processed_at IS NOT NULL ORDER BY user_id",
    );
    assert_eq!(dead.len(), 2, "{dead:?}");
    assert!(dead[0][1].text().contains("no event id"), "{dead:?}");
    assert!(dead[1][1].text().contains("sing"), "{dead:?}");
}

fn row_of_an_unserved_type_waits_for_others(bench: &Bench) {
    record(bench, 2);
    bench.execute(&["UPDATE sync_events SET resource_type = 'song' WHERE user_id = 2"]);
    let claimed = bench.ask(|store| store.claim(lease_at(later()), 10));
    let users = |claimed: &Claimed| -> Vec<Id> {
        let rows = claimed.rows.iter();
        rows.map(|row| row.user_id.clone()).collect()
    };
    assert_eq!(
        (users(&claimed), claimed.unreadable),
        (vec![Id::from(1)], vec![])
    );
    let waiting = "SELECT status, retry_count, fencing_token FROM sync_events WHERE user_id = 2";
    assert_eq!(bench.database().line(waiting), "pending 0 1");
    // The row is visible to operators.
    assert_eq!(bench.ask(Store::open_rows), 2);
    let unserved = |before| bench.ask(|store| store.unserved_type(before));
    assert_eq!(unserved(later()).as_deref(), Some("song"));
    assert_eq!(unserved(now()), None);

    let serving = StoreOptions {
        resource_types: "video,comment,song".parse().expect("types"),
        ..options(bench.database())
    };
    let migrated = bench.wait(store::migrate(&serving));
    assert_eq!(migrated.expect("migrations"), ["create_song_likes"]);
    let other = bench.wait(store::connect(&serving)).expect("a store");
    let claimed = bench.wait(other.claim(lease_at(later()), 10));
    assert_eq!(users(&claimed.expect("a claim")), [Id::from(2)]);
}

/// The appended history entries, in order.
fn steps(bench: &Bench) -> Vec<(String, i64, i64, Option<String>)> {
    let rows = bench.database().rows(
        "SELECT step, retry_count, fencing_token, error_message FROM likewise_sync_event_history \
         ORDER BY history_id",
    );
    let text = |value: &Value| (*value != Value::Null).then(|| value.text().to_owned());
    rows.iter()
        .map(|row| {
            let step = row[0].text().to_owned();
            (step, row[1].number(), row[2].number(), text(&row[3]))
        })
        .collect()
}

fn last_abandoned_attempt_makes_the_row_dead(bench: &Bench) {
    record(bench, 1);
    let mut then = later();
    for retry_count in 0..=MAX_RETRIES {
        let claimed = bench.claim(then, 10);
        assert_eq!(claimed[0].retry_count, retry_count);
        assert_eq!(claimed[0].fencing_token, i64::from(retry_count) + 2);
        then += TimeDelta::minutes(2);
    }
    // This claim closed the row and reports it, so that the cache reverts the event.
    let last = bench.ask(|store| store.claim(lease_at(then), 10));
    assert_eq!((last.rows.len(), last.dead.len()), (0, 1));
    assert_eq!(last.dead[0].user_id, 1.into());
    let closed = "sync_events WHERE status = 'dead' AND next_attempt_at IS NULL \
        AND lease_until IS NULL AND error_message LIKE '%lease ran out%'";
    let retries = bench
        .database()
        .rows(&format!("SELECT retry_count FROM {closed}"));
    assert_eq!(retries, [[i64::from(MAX_RETRIES + 1).into()]]);
    let steps: Vec<_> = steps(bench)
        .into_iter()
        .map(|(step, retry_count, token, error)| {
            assert!(error.is_some_and(|error| error.contains("lease ran out")));
            (step, retry_count, token)
        })
        .collect();
    let abandoned = |n: i64| ("abandoned".to_owned(), n, n + 1);
    let dead = ("dead".to_owned(), 3, 4);
    assert_eq!(steps, [abandoned(1), abandoned(2), dead]);
    assert_eq!(bench.ask(Store::open_rows), 0);
    bench.verified();
}

fn concurrent_claims_never_share_a_row(bench: &Bench) {
    const ROWS: i64 = 240;
    record(bench, ROWS);
    let then = later();
    let claimed: Vec<Vec<LedgerRow>> = std::thread::scope(|scope| {
        let claimers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let worker = Bench::on(bench.database());
                    let mut mine = Vec::new();
                    let mut empty = 0;
                    while empty < 5 {
                        let claimed = worker.claim(then, 7);
                        empty = if claimed.is_empty() { empty + 1 } else { 0 };
                        mine.extend(claimed);
                    }
                    mine
                })
            })
            .collect();
        let joined = claimers.into_iter().map(ScopedJoinHandle::join);
        joined.map(|mine| mine.expect("a claimer")).collect()
    });
    let all: Vec<_> = claimed.iter().flatten().collect();
    let different: BTreeSet<_> = all.iter().map(|row| row.event_id).collect();
    assert_eq!((all.len(), different.len()), (ROWS as usize, ROWS as usize));
    assert!(all.iter().all(|row| row.fencing_token == 2));
    assert_eq!(bench.ask(Store::open_rows), ROWS);
}

fn claim_skips_locked_rows(bench: &Bench) {
    // One writer after the other.
    if let Database::Sqlite(_) = bench.database() {
        return;
    }
    // Enough rows that MariaDB looks them up by key instead of scanning the table.
    let rows = record(bench, 300);
    let busy = rows[0].event_id;
    let held = bench
        .database()
        .hold_rows(&format!("SELECT id FROM sync_events WHERE id = '{busy}'"));
    let claimed = bench.claim(later(), 1_000);
    assert_eq!(claimed.len(), 299);
    assert!(claimed.iter().all(|row| row.event_id != busy));
    drop(held);
    assert_eq!(bench.claim(later(), 1_000).len(), 1);
}

fn failed_attempt_is_recorded(bench: &Bench) {
    let error = format!("zu spät: 遅すぎる 🕰 \"'\\ $1 ? {}", "ü".repeat(2_000));
    let rows = record(bench, 3);
    let failed_at = now();
    let due = failed_at + TimeDelta::seconds(30);
    let attempts = [
        failed(&rows[0], Verdict::Retry(due), &error),
        failed(&rows[1], Verdict::Dead, "refused"),
    ];
    bench.ask(|store| store.fail(&attempts, failed_at));
    let ledger = |user: i64| {
        let rows = bench.database().rows(&format!(
            "SELECT status, retry_count, error_message, next_attempt_at, lease_until, \
             processed_at, updated_at, fencing_token FROM sync_events WHERE user_id = {user}"
        ));
        rows[0].clone()
    };
    let time = |moment: DateTime<Utc>| {
        let text = moment.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
        Value::from(text.as_str())
    };
    let attempt = |status: &str, error: &str| vec![status.into(), 1.into(), error.into()];
    let (null, at) = (Value::Null, time(failed_at));
    let times = [time(due), null.clone(), null.clone(), at.clone(), 1.into()];
    assert_eq!(
        ledger(1),
        [attempt("failed", &error), times.to_vec()].concat()
    );
    let times = [null.clone(), null, at.clone(), at, 1.into()];
    assert_eq!(
        ledger(2),
        [attempt("dead", "refused"), times.to_vec()].concat()
    );
    assert_eq!(ledger(3)[0], "pending".into());
    let failed = ("failed".to_owned(), 1, 1, Some(error.clone()));
    let dead = ("dead".to_owned(), 1, 1, Some("refused".to_owned()));
    let mut history = steps(bench);
    history.sort_unstable_by(|one, other| other.0.cmp(&one.0));
    assert_eq!(history, [failed, dead]);

    for status in ["dead", "failed", "pending"] {
        let rows = format!("sync_events WHERE status = '{status}'");
        assert_eq!(bench.database().count(&rows), 1, "{status}");
    }

    // The row is due at its time, and resumes with its attempts.
    assert_eq!(bench.claim(due - TimeDelta::seconds(1), 10), []);
    let again = bench.claim(due, 10);
    assert_eq!((again[0].retry_count, again[0].fencing_token), (1, 2));
    bench.sync(&again);
    let row = ledger(1);
    assert_eq!(row[..2], ["completed".into(), 1.into()]);
    assert_eq!(row[2].text(), error);
}

fn failure_with_an_old_token_changes_nothing(bench: &Bench) {
    let old = record(bench, 2);
    let new = bench.claim(later(), 10);
    let everything = "SELECT * FROM sync_events ORDER BY id";
    let before = bench.database().rows(everything);
    let attempts = [
        failed(&old[0], Verdict::Dead, "late"),
        failed(&old[1], Verdict::Retry(now()), "late"),
    ];
    bench.ask(|store| store.fail(&attempts, now()));
    assert_eq!(bench.database().rows(everything), before);
    // A call with the right token fails too when the row is closed.
    bench.sync(&new);
    let before = bench.database().rows(everything);
    let attempts: Vec<_> = new
        .iter()
        .map(|row| failed(row, Verdict::Dead, "late"))
        .collect();
    bench.ask(|store| store.fail(&attempts, now()));
    assert_eq!(bench.database().rows(everything), before);
    assert_eq!(steps(bench), []);
    bench.verified();
}

fn renewed_lease_is_not_claimed(bench: &Bench) {
    bench.record(&[like(1.into(), 7), like(2.into(), 7)]);
    let lease = lease_at(later());
    let held = bench.ask(|store| store.claim(lease, 10)).rows;
    assert_eq!(held.len(), 2);
    let at = |now| Lease { now, ..lease };
    let second = TimeDelta::seconds(1);
    let (soon, afterwards) = (lease.until() - second, lease.until() + second);
    bench.ask(|store| store.renew(&held, at(soon)));
    let claim_at = |now| bench.claim(now, 10);
    assert_eq!(claim_at(afterwards), []);
    let claimed = claim_at(at(soon).until() + TimeDelta::seconds(1));
    assert_eq!(claimed.len(), 2);
    // A worker that lost the rows renews nothing.
    let end = at(soon).until() + TimeDelta::minutes(10);
    bench.ask(|store| store.renew(&held, at(end)));
    assert_eq!(claim_at(end).len(), 2);
}
