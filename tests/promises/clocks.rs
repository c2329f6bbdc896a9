//! Promise 8, for clocks: wall clocks step and differ, and what was acknowledged counts all the same.

use chrono::{TimeDelta, Utc};

use crate::support::clock::Clock;
use crate::support::servers::Kind;
use crate::support::service::Setup;

/// The moment in an event's id, as seconds from now on the machine's clock.
fn seconds_ahead(event_id: &str) -> i64 {
    let id: uuid::Uuid = event_id.parse().expect("an event id");
    let (seconds, _) = id.get_timestamp().expect("a UUID v7").to_unix();
    seconds as i64 - Utc::now().timestamp()
}

#[test]
fn tests_step_the_clock_of_a_running_service() {
    let clock = Clock::new();
    let service = Setup::on_parts(Kind::MariaDb).with_clock(&clock).start();
    let client = service.client();
    // Forward only, because the ids of one process never go back.
    for offset in [-3_600, 0, 3_600] {
        clock.set(TimeDelta::seconds(offset));
        let ahead = seconds_ahead(&client.like(1, 1).event_id);
        assert!((ahead - offset).abs() < 60, "{ahead} s ahead, not {offset}");
    }
    clock.set(TimeDelta::zero());
}
