//! Delivers facts to a webhook: many in one request, halved to find a fact that the receiver refuses. Later facts of a
//! pair wait for its earlier ones.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::Round;
use crate::config::WebhookOptions;
use crate::domain::{Bisection, Fact, Pair};
use crate::store::{FailedDelivery, OutboxRow, RowLease, Store, StoreError};
use crate::telemetry::{
    Dependency, DependencyFailed, DependencyWorked, FactsDelivered, FactsNotDelivered,
};
use crate::webhooks::{Answer, Webhook};

/// The limit of the pages that a round reads to pass facts that wait for their next attempt.
const MOST_PAGES: usize = 50;

/// The number of single facts refused in a row, with none taken, after which the receiver counts as down.
const REFUSALS: usize = 3;

/// The longest error in the database, in characters.
const LONGEST_ERROR: usize = 500;

/// A webhook.
pub(super) struct WebhookReceiver {
    webhook: Arc<Webhook>,
    options: WebhookOptions,
    /// The name of this work in the log.
    doing: &'static str,
    /// The number of rounds in a row that found the receiver down.
    failures: u32,
    /// The end of the pause after the last one.
    paused_until: Option<Instant>,
}

/// How the facts of one request fared.
enum Outcome {
    Delivered,
    Failed {
        error: String,
        /// The wait before the next attempt; `None` if the facts are dead.
        wait: Option<Duration>,
    },
}

impl WebhookReceiver {
    pub(super) fn new(webhook: Webhook, options: WebhookOptions) -> Self {
        // One for each receiver of the process.
        let doing = Box::leak(format!("posting facts to {}", webhook.name()).into_boxed_str());
        Self {
            webhook: Arc::new(webhook),
            options,
            doing,
            failures: 0,
            paused_until: None,
        }
    }

    /// Posts the next batch.
    pub(super) async fn round(
        &mut self,
        store: &Store,
        lease: &RowLease,
    ) -> Result<Round, StoreError> {
        if self.paused_until.is_some_and(|end| end > Instant::now()) {
            return Ok(Round::Idle);
        }
        let batch = self.due(store).await?;
        if batch.is_empty() {
            return Ok(Round::Idle);
        }
        let (mut delivered, mut refused) = (0, HashSet::new());
        let mut last_error = None;
        let mut parts = Bisection::of(batch.len());
        while let Some(part) = parts.next_part() {
            let rows: Vec<&OutboxRow> = batch[part.clone()]
                .iter()
                .filter(|row| !refused.contains(&row.fact.pair))
                .collect();
            if rows.is_empty() {
                continue;
            }
            if !store.renew_receiver(lease).await? {
                return Ok(Round::Lost);
            }
            let (outcome, is_down) = match self.post(&rows, store.now()).await {
                Answer::Delivered => (Outcome::Delivered, false),
                Answer::Gone(error) => (Outcome::Failed { error, wait: None }, false),
                Answer::Refused(_) if rows.len() > 1 && parts.halve(&part) => continue,
                Answer::Refused(error) => {
                    refused.extend(rows.iter().map(|row| row.fact.pair.clone()));
                    let attempts = rows[0].attempts.unsigned_abs() + 1;
                    let wait = Some(self.options.backoff.draw(attempts));
                    let is_down = delivered == 0 && refused.len() >= REFUSALS;
                    (Outcome::Failed { error, wait }, is_down)
                }
                Answer::Unavailable {
                    reason,
                    retry_after,
                } => {
                    let wait = self.options.backoff.draw(self.failures + 1);
                    let wait = Some(wait.max(retry_after.unwrap_or_default()));
                    let error = reason;
                    (Outcome::Failed { error, wait }, true)
                }
            };
            match outcome {
                Outcome::Delivered => {
                    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
                    store.delivered(&ids).await?;
                    delivered += rows.len();
                    self.worked(rows.len());
                }
                Outcome::Failed { error, wait } => {
                    if is_down {
                        self.failures += 1;
                        self.paused_until = wait.map(|wait| Instant::now() + wait);
                    }
                    self.failed(store, &rows, &error, wait).await?;
                    last_error = Some(error);
                }
            }
            if is_down {
                break;
            }
        }
        Ok(match last_error {
            Some(error) if delivered == 0 => Round::Failed(error),
            _ => Round::Delivered(delivered),
        })
    }

    /// Returns the next facts that are due, in order, without those of a pair whose earlier fact waits.
    async fn due(&self, store: &Store) -> Result<Vec<OutboxRow>, StoreError> {
        let now = store.now();
        let limit = self.options.largest_batch;
        let mut waiting = HashSet::new();
        let mut after = 0;
        for _ in 0..MOST_PAGES {
            let page = store.outbox(self.webhook.name(), after, limit).await?;
            let (Some(last), is_full) = (page.last(), page.len() == limit) else {
                break;
            };
            after = last.id;
            let due = select(page, now, &mut waiting);
            if !due.is_empty() || !is_full {
                return Ok(due);
            }
        }
        Ok(Vec::new())
    }

    async fn post(&self, rows: &[&OutboxRow], now: DateTime<Utc>) -> Answer {
        let facts: Vec<Fact> = rows.iter().map(|row| row.fact.clone()).collect();
        let webhook = Arc::clone(&self.webhook);
        let posted = tokio::task::spawn_blocking(move || {
            let facts: Vec<&Fact> = facts.iter().collect();
            webhook.post(&facts, now)
        });
        posted.await.unwrap_or_else(|error| Answer::Unavailable {
            reason: error.to_string(),
            retry_after: None,
        })
    }

    fn worked(&mut self, facts: usize) {
        self.failures = 0;
        self.paused_until = None;
        FactsDelivered {
            receiver: self.webhook.name(),
            facts,
        }
        .emit();
        DependencyWorked {
            dependency: Dependency::Webhook,
            doing: self.doing,
        }
        .emit();
    }

    /// Records a failed attempt on facts.
    async fn failed(
        &self,
        store: &Store,
        rows: &[&OutboxRow],
        error: &str,
        wait: Option<Duration>,
    ) -> Result<(), StoreError> {
        let now = store.now();
        let failed: Vec<_> = rows
            .iter()
            .map(|row| {
                let attempts = row.attempts.saturating_add(1);
                let wait = wait.filter(|_| attempts < self.options.max_attempts);
                FailedDelivery {
                    id: row.id,
                    attempts,
                    next_attempt_at: wait.map(|wait| now + wait),
                    error: error.chars().take(LONGEST_ERROR).collect(),
                }
            })
            .collect();
        store.not_delivered(&failed, now).await?;
        let dead = failed.iter().filter(|one| one.next_attempt_at.is_none());
        FactsNotDelivered {
            receiver: self.webhook.name(),
            first: &rows[0].fact,
            facts: rows.len(),
            dead: dead.count(),
            error,
        }
        .emit();
        DependencyFailed {
            dependency: Dependency::Webhook,
            doing: self.doing,
            error: &error,
        }
        .emit();
        Ok(())
    }
}

/// Returns the rows that are due. `waiting` has the pairs of earlier rows that are not, and gets those of these rows.
fn select(page: Vec<OutboxRow>, now: DateTime<Utc>, waiting: &mut HashSet<Pair>) -> Vec<OutboxRow> {
    let mut due = Vec::new();
    for row in page {
        if row.next_attempt_at.is_some_and(|next| next > now) {
            waiting.insert(row.fact.pair);
        } else if !waiting.contains(&row.fact.pair) {
            due.push(row);
        }
    }
    due
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{FactKind, Resource, Version};

    fn row(id: i64, user: i64, next_attempt_at: Option<DateTime<Utc>>) -> OutboxRow {
        OutboxRow {
            id,
            fact: Fact {
                event_id: Uuid::nil(),
                kind: FactKind::Liked,
                pair: Pair {
                    resource: Resource::video(7),
                    user_id: user.into(),
                },
                like_count: 1,
                version: Version(id),
                trace: None,
            },
            attempts: 0,
            next_attempt_at,
        }
    }

    #[test]
    fn later_facts_of_a_pair_wait_for_its_earlier_ones() {
        let now = Utc::now();
        let later = Some(now + Duration::from_secs(1));
        let mut waiting = HashSet::new();
        let first = vec![
            row(1, 1, later),
            row(2, 2, Some(now)),
            row(3, 1, None),
            row(4, 3, None),
        ];
        let ids = |rows: Vec<OutboxRow>| rows.iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(ids(select(first, now, &mut waiting)), [2, 4]);
        let next = vec![row(5, 1, None), row(6, 2, None)];
        assert_eq!(ids(select(next, now, &mut waiting)), [6]);
    }
}
