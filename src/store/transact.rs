//! How an operation of the store takes a session: `read!` for what only reads, `transact!` for what writes. Both select the
//! pool of the database, and a transaction is repeated after a deadlock or a lost connection.

use std::time::{Duration, Instant};

use futures_util::FutureExt;

use super::error::StoreError;
use super::session::{Mode, Session};
use crate::domain::Backoff;

/// Runs `$work` on a connection of the store that reads: `read!(self, timeout, |session| thing(session, ...))`.
macro_rules! read {
    ($store:expr, $timeout:expr, |$session:ident| $work:expr) => {
        $crate::store::transact::on!($store, readers, $timeout, |$session| $work)
    };
}

/// Runs `$work` on a connection of one of the store's pools. Its first statement tells whether the server has closed the
/// connection meanwhile, which spares each call a check. If so, it runs again in the time that is left, on a connection that
/// is checked first. A transaction begins with `BEGIN`, so nothing is written twice.
macro_rules! on {
    ($store:expr, $pool:ident, $timeout:expr, |$session:ident| $work:expr) => {{
        let started = ::std::time::Instant::now();
        let timeout: ::std::time::Duration = $timeout;
        let (mut left, mut is_checked) = (timeout, false);
        loop {
            let outcome = match &$store.backend {
                $crate::store::Backend::Sqlite(pools) => {
                    pools
                        .$pool
                        .run(left, is_checked, async |$session| $work.await)
                        .await
                }
                $crate::store::Backend::Mysql(pools) => {
                    pools
                        .$pool
                        .run(left, is_checked, async |$session| $work.await)
                        .await
                }
                $crate::store::Backend::Postgres(pools) => {
                    pools
                        .$pool
                        .run(left, is_checked, async |$session| $work.await)
                        .await
                }
            };
            match outcome {
                Some(outcome) => break outcome,
                None => {
                    left = timeout.saturating_sub(started.elapsed());
                    is_checked = true;
                }
            }
        }
    }};
}

/// Runs `$work` in a transaction that writes: `transact!(self, |session| thing(session, ...))`. Runs it again if a
/// deadlock, a lost connection or the like ended it, within the store's timeout in total, or another one:
/// `transact!(self, timeout, |session| ...)`. The work must be idempotent.
macro_rules! transact {
    ($store:expr, |$session:ident| $work:expr) => {
        $crate::store::transact::transact!($store, $store.timeout, |$session| $work)
    };
    ($store:expr, $timeout:expr, |$session:ident| $work:expr) => {
        $crate::store::transact::retried!($store, $timeout, |left| {
            $crate::store::transact::on!($store, writers, left, |$session| {
                $crate::store::transact::in_transaction($session, async |$session| $work.await)
            })
        })
    };
}

/// As [`transact!`], for work on inputs that it owns: `transact_owned!(self, timeout, inputs, |session, inputs| thing(session,
/// inputs))`. On SQLite a whole attempt runs in one blocking task, where other work needs a task for each statement.
macro_rules! transact_owned {
    ($store:expr, $timeout:expr, $owned:expr, |$session:ident, $inputs:ident| $work:expr) => {{
        let owned = ::std::sync::Arc::new($owned);
        if let $crate::store::Backend::Sqlite(pools) = &$store.backend {
            $crate::store::transact::retried!($store, $timeout, |left| {
                let owned = ::std::sync::Arc::clone(&owned);
                let work = move |session: &mut $crate::store::sqlite::Blocking<'_>| {
                    let $inputs = &*owned;
                    $crate::store::transact::ready($crate::store::transact::in_transaction(
                        session,
                        async |$session| $work.await,
                    ))
                };
                let done = pools
                    .writers
                    .run(left, true, async move |lent| lent.blocking(work).await)
                    .await;
                done.unwrap_or_else(|| unreachable!("the work ran on a checked connection"))
            })
        } else {
            let $inputs = &*owned;
            $crate::store::transact::transact!($store, $timeout, |$session| $work)
        }
    }};
}

/// Repeats an attempt, which gets the time that is left, as [`transact!`] says.
macro_rules! retried {
    ($store:expr, $timeout:expr, |$left:ident| $attempt:expr) => {{
        let mut attempts = $crate::store::transact::Attempts::within($timeout);
        let outcome = loop {
            let $left = attempts.left();
            let outcome = $attempt;
            if let Err($crate::store::error::StoreError::Unavailable(_)) = &outcome {
                // It may have committed, whatever the next attempt finds.
                $store.wrote(&outcome);
            }
            if let Some(outcome) = attempts.last(outcome).await {
                break outcome;
            }
        };
        $store.wrote(&outcome);
        outcome
    }};
}

pub(super) use on;
pub(super) use read;
pub(super) use retried;
pub(super) use transact;
pub(super) use transact_owned;

/// Returns the output of work on a [`Blocking`](super::sqlite::Blocking) session, which never waits.
pub(super) fn ready<T>(work: impl Future<Output = T>) -> T {
    work.now_or_never()
        .unwrap_or_else(|| unreachable!("a blocking session answers at once"))
}

/// Runs work in a transaction that writes.
pub(super) async fn in_transaction<S: Session, T: Send>(
    session: &mut S,
    work: impl AsyncFnOnce(&mut S) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    session.begin(Mode::Write).await?;
    let outcome = work(session).await;
    session.end(outcome).await
}

/// The attempts at one transaction.
pub(super) struct Attempts {
    timeout: Duration,
    deadline: Instant,
    made: u32,
    /// The error of the attempt before this one, or of an earlier one that may have committed.
    earlier: Option<StoreError>,
}

impl Attempts {
    /// Allows attempts within this time in total.
    pub(super) fn within(timeout: Duration) -> Self {
        Self {
            timeout,
            deadline: Instant::now() + timeout,
            made: 0,
            earlier: None,
        }
    }

    /// Returns the time that is left.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Takes the outcome of an attempt. Returns it if it is final; otherwise waits for the next attempt.
    pub(super) async fn last<T>(
        &mut self,
        outcome: Result<T, StoreError>,
    ) -> Option<Result<T, StoreError>> {
        self.made += 1;
        let wait = BACKOFF.draw(self.made);
        match outcome {
            Err(error)
                if worth_another(&error, self.made) && Instant::now() + wait < self.deadline =>
            {
                if !self.may_have_committed() {
                    self.earlier = Some(error);
                }
                tokio::time::sleep(wait).await;
                None
            }
            // The attempt before opened the breaker.
            Err(StoreError::Away) => Some(Err(self.earlier.take().unwrap_or(StoreError::Away))),
            Err(StoreError::TimedOut(_)) => Some(Err(StoreError::TimedOut(self.timeout))),
            // The server may have turned read-only after a commit whose answer was lost. Only the earlier error tells that.
            Err(error) if self.may_have_committed() && !error.was_answered() => {
                Some(Err(self.earlier.take().unwrap_or(error)))
            }
            outcome => Some(outcome),
        }
    }

    /// Returns whether an attempt before this one lost its connection, so that its commit may have succeeded.
    const fn may_have_committed(&self) -> bool {
        matches!(self.earlier, Some(StoreError::Unavailable(_)))
    }
}

/// The waits between the attempts of one transaction.
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(20),
    cap: Duration::from_millis(200),
};

/// Returns whether a transaction is tried again after this many failed attempts. A time-out ends it, because its caller
/// has waited long enough.
fn worth_another(error: &StoreError, attempts: u32) -> bool {
    let passing = matches!(error, StoreError::Busy(_) | StoreError::Unavailable(_));
    passing && attempts < 4
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the final error of attempts that end with these errors.
    async fn last_of(errors: impl IntoIterator<Item = StoreError>) -> StoreError {
        let mut attempts = Attempts::within(Duration::from_secs(600));
        for error in errors {
            if let Some(outcome) = attempts.last(Err::<(), _>(error)).await {
                return outcome.expect_err("each attempt failed");
            }
        }
        panic!("no attempt was the last one");
    }

    #[tokio::test]
    async fn lost_connection_shows_through_what_follows_it() {
        let lost = || StoreError::Unavailable("the connection was lost".into());
        let busy = || StoreError::Busy("a deadlock".into());
        let read_only = || StoreError::ReadOnly("a replica".into());
        let error = last_of([lost(), busy(), read_only()]).await;
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
        let error = last_of([busy(), read_only()]).await;
        assert!(matches!(error, StoreError::ReadOnly(_)), "{error}");
        let error = last_of([busy(), StoreError::Away]).await;
        assert!(matches!(error, StoreError::Busy(_)), "{error}");
        // What answers is no outage. The caller decides as if the earlier attempt had committed.
        let error = last_of([lost(), StoreError::Refused("too long".into())]).await;
        assert!(matches!(error, StoreError::Refused(_)), "{error}");
    }
}
