//! Compares what a load was answered with what the database holds: nothing acknowledged is lost, nothing has
//! counted twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::Failure;
use super::load::journal::{Entry, Fate};
use crate::domain::{Action, Pair, Resource};
use crate::store::{Check, Difference, Store};

/// How many events, or pairs, are looked up in one query.
const AT_ONCE: usize = 2_000;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    /// The file cannot be read.
    #[error("cannot read the journal {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// A line is none of a journal's.
    #[error("line {line} of the journal {} is no entry: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a journal says, about 100 bytes for each request.
#[derive(Debug, Default)]
pub(super) struct Told {
    acknowledged: Vec<Uuid>,
    /// For each pair, the states that it may be in: that of the last acknowledged request, and those of
    /// requests after it, which may have been carried out.
    pairs: BTreeMap<Pair, BTreeSet<bool>>,
    pub(super) refused: usize,
    pub(super) unknown: usize,
    /// Whether the last line was cut off, as by a load that was killed.
    pub(super) torn: bool,
}

impl Told {
    pub(super) fn read(path: &Path) -> Result<Self, JournalError> {
        let unreadable = |reason| JournalError::Unreadable {
            path: path.to_owned(),
            reason,
        };
        let mut told = Self::default();
        let mut reader = BufReader::new(File::open(path).map_err(unreadable)?);
        let mut text = String::new();
        for line in 1.. {
            text.clear();
            if reader.read_line(&mut text).map_err(unreadable)? == 0 {
                break;
            }
            match serde_json::from_str::<Entry>(&text) {
                Ok(entry) => told.add(&entry),
                Err(_) if !text.ends_with('\n') => told.torn = true,
                Err(error) => {
                    return Err(JournalError::Malformed {
                        path: path.to_owned(),
                        line,
                        reason: error.to_string(),
                    });
                }
            }
        }
        Ok(told)
    }

    fn add(&mut self, entry: &Entry) {
        let resource = Resource {
            resource_type: entry.resource_type,
            id: entry.resource_id,
        };
        let pair = Pair {
            resource,
            user_id: entry.user_id,
        };
        let liked = entry.action == Action::Like;
        // Nobody liked anything before the load.
        let allowed = self
            .pairs
            .entry(pair)
            .or_insert_with(|| BTreeSet::from([false]));
        match &entry.fate {
            Fate::Acknowledged { event_id } => {
                self.acknowledged.push(*event_id);
                *allowed = BTreeSet::from([liked]);
            }
            Fate::Refused { .. } => {
                self.refused += 1;
                allowed.insert(liked);
            }
            Fate::Unknown { .. } => {
                self.unknown += 1;
                allowed.insert(liked);
            }
        }
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Pairs that may be in either state.
    pub(super) fn ambiguous(&self) -> usize {
        let ambiguous = self.pairs.values().filter(|allowed| allowed.len() > 1);
        ambiguous.count()
    }

    /// What speaks against the promises: events that were lost, events that have counted twice, and pairs
    /// in a state that nobody asked for last.
    pub(super) async fn compare(
        &self,
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
            self.acknowledged.len(),
        );
        let mut doubled = check(
            "doubled 0: no acknowledged event is recorded twice",
            self.acknowledged.len(),
        );
        let mut wrong = check("each pair is as it was last asked for", self.pairs.len());
        let mut missing = Vec::new();
        for ids in self.acknowledged.chunks(AT_ONCE) {
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
        // The ids are unique to the database, but in the answers too: each request has an event of its own.
        let different: BTreeSet<_> = self.acknowledged.iter().collect();
        let repeated = self.acknowledged.len() - different.len();
        if repeated > 0 {
            let found = format!("{repeated} ids more than once");
            note(
                &mut doubled,
                examples,
                "the answers".to_owned(),
                "an id each",
                &found,
            );
        }
        let mut liked: BTreeMap<Resource, i64> = BTreeMap::new();
        let pairs: Vec<_> = self.pairs.keys().copied().collect();
        let mut counts = BTreeMap::new();
        for some in pairs.chunks(AT_ONCE) {
            let found = store.find(&some.iter().copied().collect()).await?;
            for pair in some {
                let state = found.states.get(pair).is_some_and(|mark| mark.liked);
                *liked.entry(pair.resource).or_default() += i64::from(state);
                let allowed = &self.pairs[pair];
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
            // Users outside the journal may like it too; what it journals must be in the count.
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
}

/// Says of the examples of lost events which are in quarantine, and why.
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
