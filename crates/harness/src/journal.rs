//! The journal of a load: one JSON line for each request with its outcome. `load` writes it with
//! [`JournalWriter`]; `likewise verify --journal` reads it as a [`Journal`] and compares it with the database.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hyper::Method;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::client::{Failure, Outcome};
use crate::drive::Observer;
use crate::ids::{IdForm, Ids};
use crate::request::Request;

/// The longest time that a line stays in memory before it is written to the file, while requests go on.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);

/// One line: a request and its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    user_id: Id,
    resource_type: String,
    resource_id: Id,
    action: Action,
    #[serde(flatten)]
    fate: Fate,
}

/// An id as the server has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Id {
    /// A number.
    Number(i64),
    /// A UUID or text.
    Text(String),
}

impl Id {
    fn of(form: IdForm, number: i64) -> Self {
        match form {
            IdForm::Number => Self::Number(number),
            form => Self::Text(form.id(number)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Like,
    Unlike,
}

/// The outcome of a request, as the journal records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
enum Fate {
    /// It was answered with 2xx: the event is durable.
    Acknowledged { event_id: Uuid },
    /// It was answered with another status. The event may be durable nevertheless.
    Refused { status: u16 },
    /// It was not answered. The event may be durable nevertheless.
    Unknown { error: String },
}

/// The part of a like's answer that the journal records.
#[derive(Deserialize)]
struct Answer {
    event_id: Uuid,
}

/// Writes a journal. Write errors are kept until [`JournalWriter::finish`].
pub(crate) struct JournalWriter {
    ids: Ids,
    out: RefCell<Out>,
}

struct Out {
    file: BufWriter<File>,
    flushed: Instant,
    failed: Option<io::Error>,
}

impl JournalWriter {
    /// Creates the file. It must not exist: an older journal may still be needed.
    pub(crate) fn create(path: &Path, ids: Ids) -> io::Result<Self> {
        let file = File::create_new(path)?;
        Ok(Self {
            ids,
            out: RefCell::new(Out {
                file: BufWriter::new(file),
                flushed: Instant::now(),
                failed: None,
            }),
        })
    }

    /// Writes the remaining lines. Returns the first error of any line.
    pub(crate) fn finish(self) -> io::Result<()> {
        let mut out = self.out.into_inner();
        match out.failed {
            Some(error) => Err(error),
            None => out.file.flush(),
        }
    }
}

impl Observer for JournalWriter {
    fn answered(&self, request: &Request, outcome: &Outcome, body: &[u8]) {
        let Some(video_id) = request.video_id else {
            return;
        };
        let fate = match outcome {
            Ok(_) => match serde_json::from_slice::<Answer>(body) {
                Ok(answer) => Fate::Acknowledged {
                    event_id: answer.event_id,
                },
                Err(error) => Fate::Unknown {
                    error: format!("the answer cannot be read: {error}"),
                },
            },
            Err(Failure::Status(status)) => Fate::Refused {
                status: status.as_u16(),
            },
            Err(failure) => Fate::Unknown {
                error: failure.to_string(),
            },
        };
        let entry = Entry {
            user_id: Id::of(self.ids.users, request.user_id),
            resource_type: self.ids.resource_type.clone(),
            resource_id: Id::of(self.ids.resources, video_id),
            action: if request.method == Method::DELETE {
                Action::Unlike
            } else {
                Action::Like
            },
            fate,
        };
        let mut out = self.out.borrow_mut();
        if let Err(error) = out.write(&entry) {
            out.failed.get_or_insert(error);
        }
    }
}

impl Out {
    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        serde_json::to_writer(&mut self.file, entry)?;
        self.file.write_all(b"\n")?;
        if self.flushed.elapsed() >= FLUSH_INTERVAL {
            self.file.flush()?;
            self.flushed = Instant::now();
        }
        Ok(())
    }
}

/// Why a journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be read.
    #[error("cannot read the journal {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        reason: io::Error,
    },
    /// A line is not an entry of a journal.
    #[error("line {line} of the journal {} is no entry: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The error of the JSON parser.
        reason: String,
    },
}

/// A user and a resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// The type of the resource.
    pub resource_type: String,
    /// The resource.
    pub resource_id: Id,
    /// The user.
    pub user_id: Id,
}

/// The contents of a journal. It takes about 100 bytes of memory for each request.
#[derive(Debug, Default)]
pub struct Journal {
    /// The event ids of acknowledged requests, in the order of their answers.
    pub acknowledged: Vec<Uuid>,
    /// For each pair, the states that it may have: the one of its last acknowledged request, and those of the
    /// requests after it, which the service may have executed. `true` is liked.
    pub pairs: BTreeMap<Pair, BTreeSet<bool>>,
    /// The number of requests answered with a status other than 2xx.
    pub refused: usize,
    /// The number of requests without an answer.
    pub unknown: usize,
    /// Whether the last line is incomplete, as after a load that was killed.
    pub torn: bool,
}

impl Journal {
    /// Reads a journal. An incomplete last line is not an error.
    ///
    /// # Errors
    /// When the file cannot be read, or a whole line is not an entry.
    pub fn read(path: &Path) -> Result<Self, JournalError> {
        let unreadable = |reason| JournalError::Unreadable {
            path: path.to_owned(),
            reason,
        };
        let mut journal = Self::default();
        let mut reader = BufReader::new(File::open(path).map_err(unreadable)?);
        let mut text = String::new();
        for line in 1.. {
            text.clear();
            if reader.read_line(&mut text).map_err(unreadable)? == 0 {
                break;
            }
            match serde_json::from_str::<Entry>(&text) {
                Ok(entry) => journal.add(entry),
                Err(_) if !text.ends_with('\n') => journal.torn = true,
                Err(error) => {
                    return Err(JournalError::Malformed {
                        path: path.to_owned(),
                        line,
                        reason: error.to_string(),
                    });
                }
            }
        }
        Ok(journal)
    }

    /// The number of pairs that may be in either state.
    #[must_use]
    pub fn ambiguous(&self) -> usize {
        let ambiguous = self.pairs.values().filter(|states| states.len() > 1);
        ambiguous.count()
    }

    fn add(&mut self, entry: Entry) {
        let pair = Pair {
            resource_type: entry.resource_type,
            resource_id: entry.resource_id,
            user_id: entry.user_id,
        };
        let liked = entry.action == Action::Like;
        // Before the load, no pair is liked.
        let states = self
            .pairs
            .entry(pair)
            .or_insert_with(|| BTreeSet::from([false]));
        match entry.fate {
            Fate::Acknowledged { event_id } => {
                self.acknowledged.push(event_id);
                *states = BTreeSet::from([liked]);
            }
            Fate::Refused { .. } => {
                self.refused += 1;
                states.insert(liked);
            }
            Fate::Unknown { .. } => {
                self.unknown += 1;
                states.insert(liked);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> Pair {
        Pair {
            resource_type: "video".to_owned(),
            resource_id: Id::Number(2),
            user_id: Id::Text("ann".to_owned()),
        }
    }

    fn entry(action: Action, fate: Fate) -> Entry {
        let pair = pair();
        Entry {
            user_id: pair.user_id,
            resource_type: pair.resource_type,
            resource_id: pair.resource_id,
            action,
            fate,
        }
    }

    fn acknowledged(id: u128) -> Fate {
        Fate::Acknowledged {
            event_id: Uuid::from_u128(id),
        }
    }

    #[test]
    fn journal_line_round_trips() {
        for fate in [
            acknowledged(7),
            Fate::Refused { status: 503 },
            Fate::Unknown {
                error: "connection closed".to_owned(),
            },
        ] {
            let entry = entry(Action::Unlike, fate);
            let line = serde_json::to_string(&entry).expect("JSON");
            assert_eq!(
                serde_json::from_str::<Entry>(&line).expect("an entry"),
                entry
            );
        }
    }

    #[test]
    fn unanswered_request_makes_its_pair_ambiguous() {
        let mut journal = Journal::default();
        let unknown = || Fate::Unknown {
            error: "timed out".to_owned(),
        };
        journal.add(entry(Action::Like, unknown()));
        assert_eq!(journal.pairs[&pair()], BTreeSet::from([false, true]));
        journal.add(entry(Action::Like, acknowledged(1)));
        assert_eq!(journal.pairs[&pair()], BTreeSet::from([true]));
        assert_eq!(journal.ambiguous(), 0);
        journal.add(entry(Action::Unlike, Fate::Refused { status: 503 }));
        assert_eq!(journal.pairs[&pair()], BTreeSet::from([false, true]));
        assert_eq!(
            (journal.acknowledged.len(), journal.refused, journal.unknown),
            (1, 1, 1)
        );
    }

    #[test]
    fn incomplete_last_line_is_no_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("journal");
        let line = serde_json::to_string(&entry(Action::Like, acknowledged(1))).expect("JSON");
        std::fs::write(&path, format!("{line}\n{}", &line[..20])).expect("a file");
        let journal = Journal::read(&path).expect("a journal");
        assert_eq!((journal.acknowledged.len(), journal.torn), (1, true));
        std::fs::write(&path, format!("{}\n{line}\n", &line[..20])).expect("a file");
        assert!(matches!(
            Journal::read(&path),
            Err(JournalError::Malformed { line: 1, .. })
        ));
    }
}
