//! Compares the journal of a load with the database. `likewise verify --journal` calls [`compare`].

use std::collections::{BTreeMap, BTreeSet};

use harness::journal::{self, Journal};
use uuid::Uuid;

use super::Failure;
use crate::domain::{Id, Pair, Resource};
use crate::store::{Check, Difference, Store};

/// The most events, or pairs, that one query looks up.
const BATCH: usize = 2_000;

/// Checks the promises on the events and pairs of a journal: acknowledged events that were lost, events recorded
/// twice, and pairs in a state that was not requested last.
pub(super) async fn compare(
    journal: &Journal,
    store: &Store,
    examples: usize,
) -> Result<[Check; 3], Failure> {
    let check = |promise: &str, checked: usize| Check {
        promise: promise.to_owned(),
        checked: i64::try_from(checked).unwrap_or(i64::MAX),
        differences: 0,
        examples: Vec::new(),
    };
    let mut lost = check(
        "lost 0: each acknowledged event is recorded and completed",
        journal.acknowledged.len(),
    );
    let mut doubled = check(
        "doubled 0: no acknowledged event is recorded twice",
        journal.acknowledged.len(),
    );
    let mut wrong = check(
        "each pair is as its last request left it",
        journal.pairs.len(),
    );
    let mut missing = Vec::new();
    for ids in journal.acknowledged.chunks(BATCH) {
        let found = store.journaled(ids).await?;
        for id in ids {
            let subject = || format!("event {id}");
            let Some(one) = found.get(id) else {
                note(&mut lost, examples, subject(), "a behavior", "none");
                continue;
            };
            let status = one.status.as_deref().unwrap_or("no ledger row");
            if one.behaviors == 0 {
                missing.push(*id);
            }
            if one.behaviors == 0 || status != "completed" {
                let found = format!("{} behaviors, {status}", one.behaviors);
                note(
                    &mut lost,
                    examples,
                    subject(),
                    "one behavior, completed",
                    &found,
                );
            }
            if one.behaviors > 1 || one.ledger_rows > 1 {
                let found = format!("{} and {}", one.behaviors, one.ledger_rows);
                note(
                    &mut doubled,
                    examples,
                    subject(),
                    "one behavior, one ledger row",
                    &found,
                );
            }
        }
    }
    explain(&mut lost, store, &missing).await?;
    // The database's ids are unique, so a repeated id shows only here. Each request has its own event.
    let different: BTreeSet<_> = journal.acknowledged.iter().collect();
    let repeated = journal.acknowledged.len() - different.len();
    if repeated > 0 {
        let found = format!("{repeated} repeated ids");
        note(
            &mut doubled,
            examples,
            "the answers".to_owned(),
            "a distinct id each",
            &found,
        );
    }
    let mut liked: BTreeMap<Resource, i64> = BTreeMap::new();
    let pairs: Vec<_> = journal.pairs.iter().collect();
    let mut counts = BTreeMap::new();
    for batch in pairs.chunks(BATCH) {
        let mut allowed = BTreeMap::new();
        for (pair, states) in batch {
            allowed.insert(stored(pair, store)?, *states);
        }
        let found = store.find(&allowed.keys().cloned().collect()).await?;
        for (pair, allowed) in allowed {
            let state = found.states.get(&pair).is_some_and(|mark| mark.liked);
            *liked.entry(pair.resource.clone()).or_default() += i64::from(state);
            if !allowed.contains(&state) {
                let subject = format!("user {}, {}", pair.user_id, pair.resource);
                let expected = format!("liked {allowed:?}");
                note(
                    &mut wrong,
                    examples,
                    subject,
                    &expected,
                    &format!("liked {state}"),
                );
            }
        }
        counts.extend(found.counts);
    }
    for (resource, likes) in liked {
        let count = counts.get(&resource).map_or(0, |count| count.like_count);
        // Users outside the journal may like the video too, so the count may be higher.
        if count < likes {
            let found = format!("a count of {count}");
            note(
                &mut lost,
                examples,
                resource.to_string(),
                &format!("{likes} likes"),
                &found,
            );
        }
    }
    Ok([lost, doubled, wrong])
}

/// The store's type of a journal's pair.
fn stored(pair: &journal::Pair, store: &Store) -> Result<Pair, Failure> {
    let kinds = store.id_kinds();
    let of = |id: &journal::Id| match id {
        journal::Id::Number(number) => Id::from(*number),
        journal::Id::Text(text) => Id::from(text.as_str()),
    };
    let invalid = |name| move |error| Failure::Id(name, error);
    let resource_type = pair.resource_type.parse();
    Ok(Pair {
        resource: Resource {
            resource_type: resource_type.map_err(Failure::ResourceType)?,
            id: kinds
                .resources
                .check(of(&pair.resource_id))
                .map_err(invalid("a resource_id of the journal"))?,
        },
        user_id: kinds
            .users
            .check(of(&pair.user_id))
            .map_err(invalid("a user_id of the journal"))?,
    })
}

/// Adds the reason to the examples of lost events that are in quarantine.
async fn explain(lost: &mut Check, store: &Store, missing: &[Uuid]) -> Result<(), Failure> {
    let shown = missing.iter().take(lost.examples.len());
    let shown: Vec<_> = shown.copied().collect();
    if shown.is_empty() {
        return Ok(());
    }
    for (id, found) in store.quarantined_events(&shown).await? {
        let subject = format!("event {id}");
        for example in &mut lost.examples {
            if example.subject == subject {
                example.found.clone_from(&found);
            }
        }
    }
    Ok(())
}

fn note(check: &mut Check, examples: usize, subject: String, expected: &str, found: &str) {
    check.differences += 1;
    if check.examples.len() < examples {
        check.examples.push(Difference {
            subject,
            expected: expected.to_owned(),
            found: found.to_owned(),
        });
    }
}
