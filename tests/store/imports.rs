//! `import`: a chunk of an import takes effect at its position and in its run, or not at all.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::Utc;
use futures_util::future::join_all;
use likewise::store::{ImportChunk, Imported, NewImport};

use super::fixture::{Bench, like};

matrix!(&[sqlite, mariadb, postgres]:
    overtaken_chunk_of_an_import_records_nothing,
    imports_that_begin_at_once_have_their_own_records,
);

fn new_import(input: String) -> NewImport {
    NewImport {
        input,
        name: "likes.csv".to_owned(),
        position: "no chunk".to_owned(),
        lanes: 2,
        default_time: None,
        restart: false,
    }
}

fn overtaken_chunk_of_an_import_records_nothing(bench: &Bench) {
    let new = new_import("a file".to_owned());
    let begin = |restart| {
        let new = NewImport {
            restart,
            ..new.clone()
        };
        bench.ask(|store| store.begin_import(&new, Utc::now()))
    };
    let first = begin(false);
    assert_eq!(first.positions, ["no chunk", "no chunk"]);
    let of_run = |run| ImportChunk {
        import_id: first.record.import_id,
        run,
        lane: 1,
        before: "no chunk".to_owned(),
        after: "one chunk".to_owned(),
        rows: 2,
        rejected: 0,
        events: Arc::new(vec![like(1.into(), 7), like(2.into(), 7)]),
        places: 0..2,
        may_be_recorded: false,
    };
    let import = |chunk: &ImportChunk| bench.ask(|store| store.import(chunk, Utc::now()));
    let records = |expected: (i64, i64)| {
        let database = bench.database();
        let read = database.number("SELECT MAX(rows_read) FROM likewise_imports");
        assert_eq!((database.count("user_behaviors"), read), expected);
    };

    let second = begin(false);
    assert!(second.run > first.run);
    assert_eq!(import(&of_run(first.run)), None, "of an older run");
    records((0, 0));

    let chunk = of_run(second.run);
    let imported = import(&chunk).expect("written");
    assert_eq!((imported.settled.states.len(), imported.repeated), (2, 0));
    records((2, 2));
    let Imported { settled, .. } = import(&chunk).expect("written before");
    assert_eq!(settled.states, imported.settled.states);
    records((2, 2));

    let after = ImportChunk {
        before: "two chunks".to_owned(),
        after: "three chunks".to_owned(),
        events: Arc::new(vec![like(3.into(), 7), like(4.into(), 7)]),
        ..chunk.clone()
    };
    assert_eq!(import(&after), None, "at another position");
    records((2, 2));
    let third = begin(false);
    assert_eq!(third.positions, ["no chunk", "one chunk"]);

    let anew = begin(true);
    assert_eq!(anew.positions, ["no chunk", "no chunk"]);
    assert_eq!(import(&of_run(third.run)), None, "begun anew since");
    bench.verified();
}

fn imports_that_begin_at_once_have_their_own_records(bench: &Bench) {
    let mut ids = BTreeSet::new();
    for round in 0..10 {
        let new = [0, 1, 2].map(|file| new_import(format!("file {file} of {round}")));
        let (store, now) = (bench.store(), Utc::now());
        let begun = bench.wait(join_all(new.iter().map(|new| store.begin_import(new, now))));
        for begun in begun {
            ids.insert(begun.expect("begun").record.import_id);
        }
    }
    assert_eq!(ids.len(), 30);
    assert_eq!(bench.database().count("likewise_imports"), 30);
}
