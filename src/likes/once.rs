//! Doing a request once: whoever sends the same key again gets the same answer.

use std::time::{Duration, Instant};

use actor_kit::Refused;
use tokio::time::sleep;
use uuid::Uuid;

use super::Likes;
use crate::domain::{Identity, KeyedRequest, Started};
use crate::messages::{Begin, End};
use crate::store::StoredResponse;
use crate::telemetry::RequestReplayed;

/// How long a request waits for another one with its key that is being worked on.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a request with an `Idempotency-Key` is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyed {
    /// The hash of caller and key.
    pub id: String,
    /// Who sends it.
    pub caller: String,
    /// The key.
    pub key: String,
    /// The hash of what it asks for.
    pub fingerprint: String,
}

/// What came of the work.
#[derive(Debug)]
pub struct Attempt<T> {
    /// For whoever asked now.
    pub answer: T,
    /// For whoever asks with the same key again; `None` if the work is then to be tried again.
    pub keep: Option<String>,
}

/// What a request with a key is answered with.
#[derive(Debug)]
pub enum Once<T> {
    /// What came of the work.
    Done(T),
    /// What was answered before.
    Replayed(String),
}

/// Why a request with a key was not done. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotOnce {
    /// Its key was used for something else.
    #[error("this Idempotency-Key was used for another request")]
    Reused,
    /// Another request with its key is being worked on.
    #[error("a request with this Idempotency-Key is being worked on")]
    InProgress,
    /// More is waiting than may wait.
    #[error("{0}")]
    Overloaded(Refused),
    /// Keys cannot be looked up; the keeper has logged why.
    #[error("the database, where keys are kept, cannot be asked now")]
    Unavailable,
}

impl Likes {
    /// Does `work` of so many events, unless a request with the same key was answered before. The work goes
    /// on to its end even if the caller goes away.
    ///
    /// # Errors
    /// If it is not done.
    pub async fn once<T: 'static, W, F>(
        &self,
        keyed: Keyed,
        events: usize,
        work: W,
    ) -> Result<Once<T>, NotOnce>
    where
        W: FnOnce(Identity) -> F + 'static,
        F: Future<Output = Attempt<T>> + 'static,
    {
        let likes = self.clone();
        let request = KeyedRequest {
            id: keyed.id,
            caller: keyed.caller,
            key: keyed.key,
            fingerprint: keyed.fingerprint,
            identity: Identity {
                event_id: Uuid::now_v7(),
                version: self.clock.next_of_at(events.max(1), self.now()),
                resumed: false,
            },
        };
        let work = async move {
            let identity = match likes.begin(&request).await? {
                Ok(identity) => identity,
                Err(answer) => {
                    RequestReplayed.emit();
                    return Ok(Once::Replayed(answer));
                }
            };
            let Attempt { answer, keep } = work(identity).await;
            likes.end(request, keep).await;
            Ok(Once::Done(answer))
        };
        actix::spawn(work)
            .await
            .unwrap_or(Err(NotOnce::Unavailable))
    }

    /// Takes a request to work on, or finds its answer.
    async fn begin(&self, request: &KeyedRequest) -> Result<Result<Identity, String>, NotOnce> {
        let keeper = self.keeper.as_ref().ok_or(NotOnce::Unavailable)?;
        let started = Instant::now();
        loop {
            let begin = Begin {
                request: request.clone(),
            };
            let begun = keeper.ask(begin).map_err(NotOnce::Overloaded)?.await;
            let begun = begun.map_err(|_| NotOnce::Unavailable)?;
            match begun.map_err(|_| NotOnce::Unavailable)? {
                Started::Yours(identity) => return Ok(Ok(identity)),
                Started::Answered(answer) => return Ok(Err(answer)),
                Started::Reused => return Err(NotOnce::Reused),
                Started::InProgress if started.elapsed() < PATIENCE => sleep(LOOK_EVERY).await,
                Started::InProgress => return Err(NotOnce::InProgress),
            }
        }
    }

    /// Keeps the answer. If that fails, which the keeper reports, the request lapses: sent again, it is
    /// worked on again, with the same events.
    async fn end(&self, request: KeyedRequest, answer: Option<String>) {
        let response = StoredResponse {
            id: request.id,
            holder: request.identity.event_id,
            answer,
        };
        if let Some(keeper) = &self.keeper
            && let Ok(kept) = keeper.ask_or_wait(End { response }).await
        {
            let _ = kept.await;
        }
    }
}
