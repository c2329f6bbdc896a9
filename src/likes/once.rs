//! Idempotent requests: a request that repeats an `Idempotency-Key` takes effect once and gets the same answer.
//! `web/idempotency.rs` calls it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actor_kit::Refused;
use tokio::time::sleep;
use uuid::Uuid;

use super::Likes;
use super::uncancelled::Uncancelled;
use crate::domain::{Identity, KeyedRequest, Started};
use crate::messages::{Begin, End};
use crate::store::StoredResponse;
use crate::telemetry::RequestReplayed;

/// How long a request waits for a request in progress with the same key.
const PATIENCE: Duration = Duration::from_secs(2);

/// The time between two looks at the request in progress.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The identity of a request with an `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyed {
    /// The hash of caller and key.
    pub id: String,
    /// The caller.
    pub caller: String,
    /// The key.
    pub key: String,
    /// The hash of the request's content.
    pub fingerprint: String,
}

/// The result of processing a request.
#[derive(Debug)]
pub struct Attempt<T> {
    /// The answer to this request.
    pub answer: T,
    /// The answer to store for repeated requests; `None` if a repeated request is processed again.
    pub keep: Option<String>,
}

/// The answer to a request with a key.
#[derive(Debug)]
pub enum Once<T> {
    /// The request was processed.
    Done(T),
    /// The stored answer to the first request with this key.
    Replayed(String),
}

/// Why a request with a key was not processed. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotOnce {
    /// An earlier, different request had the same key.
    #[error("this Idempotency-Key was used for another request")]
    Reused,
    /// Another request with the same key is in progress.
    #[error("a request with this Idempotency-Key is in progress")]
    InProgress,
    /// The keeper's mailbox is full.
    #[error("{0}")]
    Overloaded(Refused),
    /// The database, which stores the keys, does not answer. The keeper has logged why.
    #[error("the database, which stores the keys, does not answer now")]
    Unavailable,
}

impl Likes {
    /// Runs `work`, which draws `events` versions, unless an answer is stored for the key. Dropping the future does
    /// not cancel the work.
    ///
    /// # Errors
    /// If the key is in use, or the database does not answer.
    pub async fn once<T: 'static, W, F>(
        self: &Arc<Self>,
        keyed: Keyed,
        events: usize,
        work: W,
    ) -> Result<Once<T>, NotOnce>
    where
        W: FnOnce(Identity) -> F + 'static,
        F: Future<Output = Attempt<T>> + 'static,
    {
        let likes = Arc::clone(self);
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
        Uncancelled::new(work)
            .await
            .unwrap_or(Err(NotOnce::Unavailable))
    }

    /// Claims the key for a request, or returns the stored answer.
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

    /// Stores the answer. If that fails, the keeper logs why, and the claim expires. A repeated request is then
    /// processed again, with the same event ids and versions.
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
