//! `likewise stream apply`: changes the stream and its consumer to the configured settings when an operator asks.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::NatsError;
use super::connection::Broker;
use super::consumer::BEAT_TIMEOUT;
use super::jetstream::{Found, number};
use super::refusals::refusals;
use super::settings::{Owner, Setting, newly_filtered};

/// The number of times that the consumer is changed before the command gives up.
const ATTEMPTS: usize = 3;

/// The wait before a change of the consumer is read back. A heartbeat that read the settings before the change has written
/// them by then, unless its connection breaks meanwhile; then the next check of the settings reports the difference.
const READ_BACK_AFTER: Duration = BEAT_TIMEOUT.saturating_add(Duration::from_millis(500));

/// The result of `stream apply`, or of its dry run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Applied {
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// Whether the stream or its consumer is created.
    pub creates: bool,
    /// The settings that change.
    pub changes: Vec<Setting>,
    /// The reasons to refuse. If there is one, nothing changes.
    pub refusals: Vec<String>,
    /// The stream sequence at which a new consumer starts, if the existing one skipped messages of required subjects. Events
    /// that arrive twice count once.
    pub redelivers_from: Option<u64>,
}

impl Broker {
    /// Changes the stream and its consumer to the configured settings, or creates them. Changes nothing if any
    /// change could lose acknowledged likes; see [`Applied::refusals`].
    ///
    /// # Errors
    /// If NATS does not answer or refuses, or another client changes the consumer back.
    pub async fn apply(&self, dry_run: bool, fewer_replicas: bool) -> Result<Applied, NatsError> {
        self.check_version()?;
        let found = self.find().await?;
        let holds = self.holds(&found).await?;
        let report = self.report(&found, holds);
        let changes: Vec<_> = report.differences().cloned().collect();
        let held = report.holds.clone().unwrap_or_default();
        let mut applied = Applied {
            dry_run,
            creates: found.stream.is_none() || found.consumer.is_none(),
            refusals: refusals(&changes, &held, fewer_replicas),
            redelivers_from: self.passed_over(&found).await?,
            changes,
        };
        if !applied.refusals.is_empty() {
            applied.redelivers_from = None;
        }
        if dry_run || !applied.refusals.is_empty() {
            return Ok(applied);
        }
        let changes = of_owner(&applied.changes, Owner::Stream);
        match found.stream_config() {
            None => drop(self.create_stream(&self.stream_config()).await?),
            Some(config) if !changes.is_empty() => {
                let config = overlaid(config, &changes);
                let subject = format!("STREAM.UPDATE.{}", self.options.stream);
                self.ask(&subject, &config).await?;
            }
            Some(_) => {}
        }
        self.apply_to_consumer(found, applied.redelivers_from)
            .await?;
        Ok(applied)
    }

    /// Creates the consumer, or changes it until it keeps the configured settings: the heartbeat of a process may undo a
    /// change; see [`note_beat`](Self::note_beat). `from` is the first message that the found consumer skipped.
    async fn apply_to_consumer(
        &self,
        mut found: Found,
        mut from: Option<u64>,
    ) -> Result<(), NatsError> {
        let mut attempts = 0;
        while let Some(config) = found.consumer_config() {
            let report = self.report(&found, None);
            let changes = of_owner(&report.settings, Owner::Consumer);
            if changes.is_empty() {
                return Ok(());
            }
            if attempts == ATTEMPTS {
                let differences: Vec<_> = changes.into_iter().map(Setting::sentence).collect();
                return Err(NatsError::ChangedBack {
                    consumer: self.consumer_name()?,
                    reason: differences.join("; "),
                });
            }
            attempts += 1;
            let replaced = changes.iter().any(|change| change.field == "ack_policy");
            if replaced || from.is_some() {
                // From the beginning if the consumer did not need acknowledgements: taken messages may not be recorded.
                self.replace_consumer(from.filter(|_| !replaced)).await?;
            } else {
                let config = overlaid(config, &changes);
                self.write_consumer("update", &config).await?;
            }
            tokio::time::sleep(READ_BACK_AFTER).await;
            found = self.find().await?;
            from = self.passed_over(&found).await?;
        }
        self.create_consumer().await.map(drop)
    }

    /// Returns the sequence of the first message that the consumer's filter skipped; `None` if it skipped none.
    async fn passed_over(&self, found: &Found) -> Result<Option<u64>, NatsError> {
        let Some(consumer) = &found.consumer else {
            return Ok(None);
        };
        let delivered = number(&consumer["delivered"]["stream_seq"]);
        let mut first = None;
        for subject in newly_filtered(&consumer["config"]) {
            let message = self.message_after(1, &subject).await?;
            let sequence = message.map(|message| number(&message["seq"]));
            if let Some(sequence) = sequence.filter(|sequence| *sequence <= delivered) {
                let unacknowledged = number(&consumer["ack_floor"]["stream_seq"]) + 1;
                let from = sequence.min(unacknowledged);
                first = Some(first.map_or(from, |first: u64| first.min(from)));
            }
        }
        Ok(first)
    }
}

/// Returns the settings of this owner that differ.
fn of_owner(settings: &[Setting], owner: Owner) -> Vec<&Setting> {
    let differs = |setting: &&Setting| setting.owner == owner && setting.difference.is_some();
    settings.iter().filter(differs).collect()
}

/// Returns the server's settings with these changes.
fn overlaid(config: &Value, changes: &[&Setting]) -> Value {
    let mut config = config.clone();
    for change in changes {
        if change.field == "filter_subjects"
            && let Some(config) = config.as_object_mut()
        {
            config.remove("filter_subject");
        }
        config[change.field] = change.raw.clone();
    }
    config
}
