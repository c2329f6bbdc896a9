//! `likewise stream apply`: changes the stream and its consumer to the configured settings when an operator asks.

use chrono::Utc;
use serde::Serialize;
use serde_json::Value;

use super::NatsError;
use super::connection::Broker;
use super::jetstream::{Found, number};
use super::refusals::refusals;
use super::settings::{Owner, Setting, newly_filtered};

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
    /// If NATS does not answer or refuses.
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
            refusals: refusals(&changes, &held, Utc::now(), fewer_replicas),
            redelivers_from: self.passed_over(&found).await?,
            changes,
        };
        if !applied.refusals.is_empty() {
            applied.redelivers_from = None;
        }
        if dry_run || !applied.refusals.is_empty() {
            return Ok(applied);
        }
        let changes = |owner: Owner| {
            let changes = applied.changes.iter();
            changes.filter(move |change| change.owner == owner)
        };
        match found.stream_config() {
            None => drop(self.create_stream(&self.stream_config()).await?),
            Some(config) if changes(Owner::Stream).next().is_some() => {
                let config = overlaid(config, changes(Owner::Stream));
                let subject = format!("STREAM.UPDATE.{}", self.options.stream);
                self.ask(&subject, &config).await?;
            }
            Some(_) => {}
        }
        let replaced = changes(Owner::Consumer).any(|change| change.field == "ack_policy");
        match found.consumer_config() {
            None => drop(self.create_consumer().await?),
            Some(_) if replaced || applied.redelivers_from.is_some() => {
                // From the beginning if the consumer did not need acknowledgements: taken messages may not be recorded.
                let from = applied.redelivers_from.filter(|_| !replaced);
                self.replace_consumer(from).await?;
            }
            Some(config) if changes(Owner::Consumer).next().is_some() => {
                let config = overlaid(config, changes(Owner::Consumer));
                self.write_consumer("update", &config).await?;
            }
            Some(_) => {}
        }
        Ok(applied)
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

/// Returns the server's settings with these changes.
fn overlaid<'a>(config: &Value, changes: impl Iterator<Item = &'a Setting>) -> Value {
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
