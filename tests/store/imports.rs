//! `import`: the chunks of an import take effect in their order, or not at all.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use likewise::store::{ImportChunk, NewImport, Turn};
use tokio::sync::watch;

use super::fixture::{Bench, like};

matrix!(&[sqlite, mariadb, postgres]: overtaken_chunk_of_an_import_records_nothing);

fn overtaken_chunk_of_an_import_records_nothing(bench: &Bench) {
    let new = NewImport {
        input: "a file".to_owned(),
        name: "likes.csv".to_owned(),
        position: "begun anew".to_owned(),
        default_time: None,
        restart: false,
    };
    let record = bench.ask(|store| store.begin_import(&new, Utc::now()));
    let chunk = ImportChunk {
        import_id: record.import_id,
        before: "one chunk".to_owned(),
        after: "two chunks".to_owned(),
        rows: 2,
        rejected: 0,
        events: Arc::new(vec![like(1.into(), 7), like(2.into(), 7)]),
        places: 0..2,
        may_be_recorded: false,
    };
    let committed = watch::Sender::new(0);
    let turn = Turn {
        number: 1,
        committed: committed.subscribe(),
    };
    let (store, now) = (bench.store(), Utc::now());
    let (imported, ()) = bench.wait(async {
        tokio::join!(store.import(&chunk, &turn, now), async {
            // It has inserted its events when it waits for its turn.
            while committed.receiver_count() == 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            committed.send_replace(1);
        })
    });
    assert_eq!(imported.expect("an answer"), None);
    assert_eq!(bench.database().count("user_behaviors"), 0);
    bench.verified();
}
