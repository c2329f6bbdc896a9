//! `quarantine` stores any bytes once, and returns them unchanged.

use chrono::TimeDelta;
use likewise::domain::TraceParent;
use likewise::store::QuarantinedEvent;
use rand::RngExt;
use uuid::Uuid;

use super::fixture::{Bench, now};
use crate::support::seed;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

matrix!(&[sqlite, mariadb, postgres]: any_bytes_round_trip);

fn any_bytes_round_trip(bench: &Bench) {
    let mut rng = seed::rng("quarantine");
    let mut random = vec![0; 100 * 1024];
    rng.fill(&mut random[..]);
    let payloads = [
        Vec::new(),
        vec![0],
        vec![0xff, 0, 0xfe, b'\'', b'\\', b'\n'],
        (0..=255).collect(),
        "{\"so\": \"fast ein Ereignis 🙂\"}".into(),
        random,
    ];
    let start = now();
    let events: Vec<_> = payloads
        .into_iter()
        .enumerate()
        .map(|(n, payload)| QuarantinedEvent {
            id: Uuid::now_v7(),
            stream_sequence: n as i64 + 1,
            subject: format!("likewise.behaviors.video.lik€ {n}"),
            message_id: (n % 2 == 0).then(|| format!("id '{n}' 🙂")),
            trace: (n % 2 == 1).then(|| TraceParent::parse(TRACE).expect("valid")),
            reason: "kein JSON: 期待".to_owned(),
            payload,
            created_at: start + TimeDelta::milliseconds(n as i64),
        })
        .collect();
    bench.ask(|store| store.quarantine(&events));
    let newest_first: Vec<_> = events.iter().rev().cloned().collect();
    assert!(bench.ask(|store| store.quarantined(100)) == newest_first);

    // The second message has other content, and the first stays.
    let mut again = events.clone();
    for event in &mut again {
        event.reason = "another".to_owned();
    }
    bench.ask(|store| store.quarantine(&again));
    bench.ask(|store| store.quarantine(&[]));
    assert!(bench.ask(|store| store.quarantined(100)) == newest_first);
    let two = bench.ask(|store| store.quarantined(2));
    assert!(two == newest_first[..2]);
    let sizes = bench.database().sizes();
    assert!(
        sizes.contains(&("likewise_quarantined_events", events.len() as i64)),
        "{sizes:?}"
    );
}
