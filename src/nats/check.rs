//! Checks the stream: creates it and its consumer if they are absent, and compares them with the settings if they
//! exist. It changes nothing that exists.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::NatsError;
use super::connection::{Broker, LastCheck};
use super::report::StreamReport;
use super::settings::Setting;
use crate::telemetry::{
    BrokerReady, Dependency, DependencyFailed, DependencyWorked, StreamCompared,
};

/// The name of this work in the log.
const CHECKING: &str = "checking the stream";

/// The interval at which a ready stream is compared again.
const COMPARE_EVERY: Duration = Duration::from_secs(10);

impl Broker {
    /// Checks the server, and compares the stream and its consumer with the configuration. Creates missing ones; never changes
    /// existing ones.
    ///
    /// # Errors
    /// If the server is too old, does not answer, refuses to create them, or has them with settings that would
    /// lose acknowledged likes.
    pub async fn check(&self) -> Result<(), NatsError> {
        let _one_at_a_time = self.checking.lock().await;
        let was_ready = self.is_ready();
        let checked = self.compare_or_create().await;
        self.last_check().checked = Some(Instant::now());
        match &checked {
            Ok(report) => {
                self.compared(report);
                self.ready.store(true, Ordering::Relaxed);
                DependencyWorked {
                    dependency: Dependency::Broker,
                    doing: CHECKING,
                }
                .emit();
                if !was_ready {
                    BrokerReady.emit();
                }
            }
            // A server that is slow to describe a stream may still accept events; publishing shows it.
            Err(NatsError::Unavailable(_)) if was_ready => {}
            Err(error) => {
                self.suspect();
                DependencyFailed {
                    dependency: Dependency::Broker,
                    doing: CHECKING,
                    error,
                }
                .emit();
            }
        }
        checked.map(drop)
    }

    /// Runs [`check`](Self::check) if it is due: while the stream is not in order, and every ten seconds. Logs each cause of a
    /// failure once.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub async fn check_if_due(&self) -> Result<(), NatsError> {
        if !self.is_connected() || self.checking.try_lock().is_err() {
            return Ok(());
        }
        let checked = self.last_check().checked;
        let is_fresh = checked.is_some_and(|checked| checked.elapsed() < COMPARE_EVERY);
        if self.is_ready() && is_fresh {
            return Ok(());
        }
        self.check().await
    }

    /// Returns descriptions of the differences that the last check found.
    #[must_use]
    pub fn differences(&self) -> Vec<String> {
        self.last_check().differences.clone()
    }

    /// Returns the reason why nothing is published, if it lies in the stream's settings.
    #[must_use]
    pub fn misconfigured(&self) -> Option<String> {
        self.last_check().error.clone()
    }

    fn last_check(&self) -> MutexGuard<'_, LastCheck> {
        self.last_check
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the result of a comparison. Logs the differences when they change.
    fn compared(&self, report: &StreamReport) {
        let differences: Vec<_> = report.differences().map(Setting::sentence).collect();
        let errors = report.errors();
        let mut last = self.last_check();
        last.error = (!errors.is_empty()).then(|| self.misconfiguration(&errors).to_string());
        let changed = last.differences != differences;
        last.differences.clone_from(&differences);
        drop(last);
        StreamCompared {
            stream: &report.stream,
            differences: &differences,
            errors: errors.len(),
            changed,
        }
        .emit();
    }

    pub(super) fn misconfiguration(&self, errors: &[String]) -> NatsError {
        NatsError::Misconfigured {
            stream: self.options.stream.clone(),
            reason: errors.join("; "),
        }
    }

    async fn compare_or_create(&self) -> Result<StreamReport, NatsError> {
        if !self.is_connected() {
            return Err(NatsError::Unavailable(format!(
                "no connection to {}",
                self.options.url_without_password()
            )));
        }
        self.check_version()?;
        let mut found = self.find().await?;
        if found.stream.is_none() {
            found.stream = Some(self.create_stream(&self.stream_config()).await?);
        }
        let errors = self.report(&found, None).errors();
        // A process that started without its database can publish before it knows its consumer.
        if found.consumer.is_none() && errors.is_empty() && self.is_named() {
            found.consumer = Some(self.create_consumer().await?);
        }
        let report = self.report(&found, None);
        let errors = report.errors();
        if errors.is_empty() {
            return Ok(report);
        }
        self.compared(&report);
        Err(self.misconfiguration(&errors))
    }
}
