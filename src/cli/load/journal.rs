//! The journal of a load: one JSON line for each request with what became of it. `verify --journal` compares
//! it with the database.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use hyper::Method;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::client::{Failure, Outcome};
use super::drive::Observer;
use super::request::Request;
use crate::domain::{Action, ResourceType, UserId};

/// How long a line may wait to be written to the file.
const FLUSH_EVERY: Duration = Duration::from_millis(500);

/// One request, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Whose like.
    pub user_id: UserId,
    /// The kind of resource.
    pub resource_type: ResourceType,
    /// Which one.
    pub resource_id: i64,
    /// What was asked for.
    pub action: Action,
    /// What became of it.
    #[serde(flatten)]
    pub fate: Fate,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Fate {
    /// It was answered with 2xx: the event is durable.
    Acknowledged {
        /// The event's id.
        event_id: Uuid,
    },
    /// It was answered with something else. The event may have become durable all the same.
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// It was not answered. The event may have become durable all the same.
    Unknown {
        /// What happened.
        error: String,
    },
}

/// The answer to an accepted like, as far as the journal needs it.
#[derive(Deserialize)]
struct Answer {
    event_id: Uuid,
}

/// Writes the journal.
pub(super) struct Journal {
    out: RefCell<Out>,
}

struct Out {
    file: BufWriter<File>,
    flushed: Instant,
    failed: Option<io::Error>,
}

impl Journal {
    /// A new journal in this file, which must not be there yet: one that is there may still be needed.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = File::create_new(path)?;
        Ok(Self {
            out: RefCell::new(Out {
                file: BufWriter::new(file),
                flushed: Instant::now(),
                failed: None,
            }),
        })
    }

    /// Writes what is left, and says whether all of it was written.
    pub(super) fn finish(self) -> io::Result<()> {
        let mut out = self.out.into_inner();
        match out.failed {
            Some(error) => Err(error),
            None => out.file.flush(),
        }
    }
}

impl Observer for Journal {
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
            user_id: request.user_id,
            resource_type: ResourceType::Video,
            resource_id: video_id,
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
        if self.flushed.elapsed() >= FLUSH_EVERY {
            self.file.flush()?;
            self.flushed = Instant::now();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_back_as_what_it_was_written_for() {
        let event_id = Uuid::from_u128(7);
        for fate in [
            Fate::Acknowledged { event_id },
            Fate::Refused { status: 503 },
            Fate::Unknown {
                error: "connection closed".to_owned(),
            },
        ] {
            let entry = Entry {
                user_id: 1,
                resource_type: ResourceType::Video,
                resource_id: 2,
                action: Action::Unlike,
                fate,
            };
            let line = serde_json::to_string(&entry).expect("JSON");
            assert_eq!(
                serde_json::from_str::<Entry>(&line).expect("an entry"),
                entry
            );
        }
    }
}
