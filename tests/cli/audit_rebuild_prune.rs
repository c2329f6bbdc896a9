//! `likewise audit`, `rebuild` and `prune`.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use crate::support::checks::{pipeline_drains, reads_come_to_equal_the_database};
use crate::support::crowd::Crowd;
use crate::support::service::Setup;
use crate::support::{seed, until_equal};

const CROWD: Crowd = Crowd {
    first_user: 1,
    threads: 3,
    users: 20,
    videos: 15,
};

matrix!([embedded, mariadb_stack]: online_rebuild_restores_lost_data);

/// The read models are lost under load, and rebuilt from `user_behaviors` under load.
fn online_rebuild_restores_lost_data(setup: Setup) {
    let mut rng = seed::rng("rebuild");
    let service = setup.start();
    let running = CROWD.start(&service, &mut rng);
    running.wait_for(600);
    service.database().execute(&[
        "DELETE FROM video_likes",
        "UPDATE likewise_like_counts SET like_count = like_count + 9",
    ]);
    running.wait_for(50);
    let ran = service.setup().run(&["rebuild"]);
    ran.exits(0).prints("rebuilt read models and counts from");
    running.wait_for(100);
    let diary = running.stop();
    assert!(diary.not_acknowledged().is_empty());
    pipeline_drains(&service);
    reads_come_to_equal_the_database(&service);
    let setup = service.stop();
    setup.verify(30).holds();
    // Correct rows stay unchanged.
    let again = setup.run(&["rebuild", "read-models"]);
    again.prints("; changed 0 rows");
}

#[test]
fn audit_reports_differences_and_sets_exit_code() {
    let service = Setup::new().start();
    let client = service.client();
    for user in 1..=3 {
        client.like(user, 7);
    }
    pipeline_drains(&service);
    let setup = service.stop();
    let clean = setup.run(&["audit"]);
    clean.exits(0).prints("no differences");
    setup
        .database()
        .execute(&["UPDATE likewise_like_counts SET like_count = 77"]);
    let wrong = setup.run(&["audit"]);
    wrong.exits(1);
    for said in [
        "wrong_count",
        "video 7",
        "expected 3 likes, found 77 likes",
        "--repair",
    ] {
        wrong.prints(said);
    }
    setup.run(&["audit", "--repair"]).exits(0);
    setup.run(&["audit"]).exits(0);
    setup.verify(5).holds();
}

#[test]
fn prune_archives_before_deleting_and_keeps_guarantees() {
    let service = Setup::new().start();
    let client = service.client();
    for _ in 0..3 {
        client.like(1, 7);
        client.unlike(1, 7);
    }
    client.like(2, 7);
    pipeline_drains(&service);
    let setup = service.stop();
    let nothing = setup.run(&["prune"]);
    nothing.exits(1);
    let young = setup.run(&["prune", "--ledger-days", "1", "--behaviors-days", "1"]);
    young.prints("0 ledger rows and 0 behaviors");
    let (old, database) = ("'2020-01-01 00:00:00'", setup.database());
    database.execute(&[
        &format!("UPDATE user_behaviors SET created_at = {old}"),
        &format!("UPDATE sync_events SET created_at = {old}"),
    ]);
    let superseded: BTreeSet<_> = database
        .texts("SELECT event_id FROM user_behaviors WHERE user_id = 1 ORDER BY version LIMIT 5")
        .into_iter()
        .collect();
    let prune = [
        "prune",
        "--behaviors-days",
        "30",
        "--archive",
        "old.ndjson.gz",
    ];
    let pruned = setup.run(&prune);
    pruned.prints("0 ledger rows and 5 behaviors");
    let archive = std::fs::File::open(setup.folder().join("old.ndjson.gz")).expect("an archive");
    let archived: BTreeSet<_> = BufReader::new(MultiGzDecoder::new(archive))
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(&line.expect("text")).expect("JSON");
            line["event_id"].as_str().expect("an id").to_owned()
        })
        .collect();
    assert_eq!(archived, superseded);
    setup.verify(5).holds();
    let pruned = setup.run(&["prune", "--ledger-days", "30"]);
    pruned.prints("2 ledger rows and 0 behaviors");
    setup.verify(5).holds();
    setup.run(&["audit"]).exits(0);
    let service = setup.start();
    let read = service.client().read(2, 7);
    assert_eq!((read.liked, read.like_count), (true, Some(1)));
    service.client().like(1, 7);
    pipeline_drains(&service);
    service.stop().verify(5).holds();
}

#[test]
fn counts_by_behavior_survive_prune_audit_and_rebuild() {
    let service = Setup::new().start();
    let view = r#"{"user_id": 1, "resource_type": "video", "resource_id": 7, "behavior": "view"}"#;
    let views = format!("{{\"behaviors\": [{view}, {view}, {view}]}}");
    let sent = service
        .client()
        .try_send("POST", "/v1/likes", &[], views.as_bytes());
    assert_eq!(sent.expect("an answer").status, 200);
    let setup = service.stop();
    let views = "SELECT behavior_count FROM likewise_behavior_counts WHERE behavior_type = 'view'";
    let counts = || setup.database().number(views);
    assert_eq!(counts(), 3);
    setup
        .database()
        .execute(&["DELETE FROM likewise_behavior_counts"]);
    let wrong = setup.run(&["audit"]);
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    for said in [
        "wrong_behavior_count",
        "video 7",
        "expected 3 views, found 0 views",
    ] {
        assert!(wrong.stdout.contains(said), "{said}: {wrong:?}");
    }
    let broken = setup.verify(5).broken();
    assert_eq!(broken.len(), 1, "{broken:?}");
    let rebuilt = setup.run(&["rebuild", "read-models"]);
    assert!(rebuilt.stdout.contains("; changed 1 rows"), "{rebuilt:?}");
    assert_eq!(counts(), 3);
    // Pruned behaviors still count.
    setup.database().execute(&[
        "UPDATE user_behaviors SET created_at = '2020-01-01 00:00:00' WHERE user_behavior_id > 1",
    ]);
    let prune = ["prune", "--behaviors-days", "30", "--archive", "old.gz"];
    let pruned = setup.run(&prune);
    assert!(pruned.stdout.contains("2 behaviors"), "{pruned:?}");
    setup
        .database()
        .execute(&["UPDATE likewise_behavior_counts SET behavior_count = 1"]);
    assert_eq!(setup.run(&["audit", "--repair"]).code, Some(0));
    assert_eq!(counts(), 3);
    setup.verify(5).holds();
}

#[test]
fn zero_retention_keeps_ledger_rows_but_no_old_keys_or_jobs() {
    let setup = Setup::new().set("LIKEWISE_RETENTION_LEDGER_DAYS", 0);
    let service = setup.start();
    service.client().like(1, 7);
    pipeline_drains(&service);
    let setup = service.stop();
    let database = setup.database();
    let old = "'2020-01-01 00:00:00.000000'";
    database.execute(&[
        "DELETE FROM likewise_jobs",
        &format!("UPDATE sync_events SET created_at = {old}"),
        &format!(
            "INSERT INTO likewise_jobs (id, kind, state, spec, requested_by, done, changed, fencing_token, \
             created_at, updated_at, finished_at) VALUES ('old', 'audit', 'completed', '{{}}', 'ann', \
             0, 0, 1, {old}, {old}, {old})"
        ),
        &format!(
            "INSERT INTO likewise_idempotency_keys (id, caller, idempotency_key, fingerprint, event_id, \
             version, holder, lease_until, created_at) VALUES ('old', 'ann', 'key', 'f', 'e', 1, 'h', \
             {old}, {old})"
        ),
    ]);
    let service = setup.start();
    let database = service.database();
    until_equal("the old key and the old job to go", 0, || {
        database.count("likewise_jobs WHERE id = 'old'")
            + database.count("likewise_idempotency_keys")
    });
    assert_eq!(database.count("sync_events"), 1);
}
