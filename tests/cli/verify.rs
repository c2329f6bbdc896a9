//! `likewise verify` reports differences to people and programs, and waits for the ledger. `store/verify.rs` plants every
//! kind of difference.

use crate::support::checks::pipeline_drains;
use crate::support::service::Setup;

#[test]
fn differences_are_reported_and_set_the_exit_code() {
    const BROKEN: [(&str, &str); 2] = [
        ("video_likes is the fold of user_behaviors", "no row"),
        (
            "each video's like count is its number of likes not voided",
            "3 likes",
        ),
    ];
    let service = Setup::new().start();
    let client = service.client();
    for user in 1..=4 {
        client.like(user, 7);
    }
    client.unlike(4, 7);
    pipeline_drains(&service);
    let setup = service.stop();
    setup.verify(0).holds();

    setup
        .database()
        .execute(&["DELETE FROM video_likes WHERE user_id = 1"]);
    let verified = setup.verify(0);
    assert_eq!(verified.code, Some(1), "{verified:#?}");
    assert_eq!(verified.report["holds"], false, "{verified:#?}");
    let for_people = setup.run(&["verify", "--wait", "0"]);
    for_people.exits(1);
    let broken = verified.broken();
    assert_eq!(broken.len(), BROKEN.len(), "{broken:#?}");
    for ((promise, examples), (expected, said)) in broken.iter().zip(BROKEN) {
        assert_eq!(promise, expected);
        assert!(examples.to_string().contains(said), "{examples}");
        for_people.prints(expected).prints(said);
    }
}

#[test]
fn verify_waits_for_open_ledger_rows() {
    let service = Setup::new().start();
    service.client().like(1, 1);
    pipeline_drains(&service);
    let setup = service.kill().set("LIKEWISE_LEASE_SECONDS", 3);
    setup.database().execute(&[
        "UPDATE sync_events SET status = 'pending', processed_at = NULL, \
         next_attempt_at = '2020-01-01 00:00:00', lease_until = '2020-01-01 00:00:00'",
    ]);
    let verified = setup.verify(0);
    assert_eq!(verified.code, Some(1));

    let waiting = setup.launch(&["verify", "--wait", "30"]);
    let service = setup.start();
    let ran = waiting.finish();
    ran.exits(0);
    drop(service);
}

#[test]
fn missing_database_is_named_and_not_created() {
    let setup = Setup::new();
    let ran = setup.run(&["verify"]);
    ran.exits(1)
        .reports("there is no file")
        .reports("likewise.db");
    assert!(!setup.folder().join("likewise.db").exists());
}
