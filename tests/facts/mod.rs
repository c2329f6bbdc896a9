//! Facts for other services: the stream and the webhooks receive what changed, at least once, in the order of each pair.

mod example_consumers;
mod stream;
mod webhooks;

use std::collections::{BTreeMap, BTreeSet};

use async_nats::jetstream;
use serde::Deserialize;

use crate::support::checks::{stored_counts, stored_states};
use crate::support::crowd::Pair;
use crate::support::database::Database;
use crate::support::runtime;

/// A fact, as receivers see it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fact {
    event_id: String,
    fact: String,
    user_id: i64,
    resource_type: String,
    resource_id: i64,
    like_count: i64,
    version: i64,
    happened_at: String,
}

impl Fact {
    fn pair(&self) -> Pair {
        (self.user_id, self.resource_id)
    }

    fn liked(&self) -> bool {
        self.fact == "liked"
    }
}

/// The facts in the order of their first arrival.
fn first_arrivals(facts: &[Fact]) -> Vec<Fact> {
    let mut seen = BTreeSet::new();
    let first = facts
        .iter()
        .filter(|fact| seen.insert(fact.event_id.clone()));
    first.cloned().collect()
}

/// Checks that the facts of each pair alternate and have ascending versions.
#[track_caller]
fn are_in_order(facts: &[Fact]) {
    let mut last: BTreeMap<Pair, (bool, i64)> = BTreeMap::new();
    for fact in facts {
        let (liked, version) = last.get(&fact.pair()).copied().unwrap_or((false, 0));
        assert_ne!(fact.liked(), liked, "{fact:?} repeats the state");
        assert!(fact.version > version, "{fact:?} is older than {version}");
        last.insert(fact.pair(), (fact.liked(), fact.version));
    }
}

/// Returns why the facts, in the order of the commits, do not tell the states and counts of the database yet.
fn tell_the_database(facts: &[Fact], database: &Database) -> Result<(), String> {
    tell_the_states(facts, database)?;
    let count = |fact: &Fact| (fact.resource_id, fact.like_count);
    let counts: BTreeMap<_, _> = facts.iter().map(count).collect();
    let mut stored = stored_counts(database);
    stored.retain(|video, _| counts.contains_key(video));
    if counts != stored {
        return Err(format!("facts count {counts:?}, stored is {stored:?}"));
    }
    Ok(())
}

/// As [`tell_the_database`], of facts that are only in the order of their pairs, because the receiver refused some for a
/// while. The last commit to a video made the last fact of some pair, so one of these has the stored count.
fn tell_the_database_in_the_order_of_pairs(
    facts: &[Fact],
    database: &Database,
) -> Result<(), String> {
    tell_the_states(facts, database)?;
    let last: BTreeMap<Pair, i64> = facts
        .iter()
        .map(|fact| (fact.pair(), fact.like_count))
        .collect();
    let mut counts: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
    for ((_, video), count) in last {
        counts.entry(video).or_default().insert(count);
    }
    let stored = stored_counts(database);
    for (video, counts) in counts {
        let stored = stored.get(&video).copied().unwrap_or_default();
        if !counts.contains(&stored) {
            return Err(format!(
                "facts count {counts:?} of {video}, stored is {stored}"
            ));
        }
    }
    Ok(())
}

/// Returns why the last fact of each pair does not tell its state in the database yet.
fn tell_the_states(facts: &[Fact], database: &Database) -> Result<(), String> {
    let state = |fact: &Fact| (fact.pair(), fact.liked());
    let states: BTreeMap<_, _> = facts.iter().map(state).collect();
    let mut stored = stored_states(database);
    // A pair that no commit has left liked has no facts.
    stored.retain(|pair, liked| *liked || states.contains_key(pair));
    if states != stored {
        return Err(format!("facts tell {states:?}, stored is {stored:?}"));
    }
    Ok(())
}

/// Returns the messages of the stream, each with its subject and its header `Nats-Msg-Id`.
fn in_stream(url: &str) -> Result<Vec<(String, String, Fact)>, String> {
    runtime().block_on(async {
        let client = async_nats::connect(url)
            .await
            .map_err(|error| error.to_string())?;
        let stream = jetstream::new(client).get_stream("LIKEWISE_FACTS").await;
        let mut stream = stream.map_err(|error| error.to_string())?;
        let state = stream.info().await.map_err(|error| error.to_string())?;
        let (first, last) = (state.state.first_sequence, state.state.last_sequence);
        let mut messages = Vec::new();
        for sequence in first..=last {
            let message = stream.get_raw_message(sequence).await;
            let message = message.map_err(|error| error.to_string())?;
            let id = message.headers.get("Nats-Msg-Id").map(ToString::to_string);
            let fact = serde_json::from_slice(&message.payload).expect("a fact");
            messages.push((message.subject.to_string(), id.unwrap_or_default(), fact));
        }
        Ok(messages)
    })
}

/// Returns the facts in the stream.
fn facts_in_stream(url: &str) -> Result<Vec<Fact>, String> {
    let messages = in_stream(url)?;
    Ok(messages.into_iter().map(|(_, _, fact)| fact).collect())
}
