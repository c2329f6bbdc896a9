//! Calls to dependencies that fail and recover, migrations, and the clocks.

use std::fmt::Display;
use std::time::Duration;

use chrono::TimeDelta;

use crate::domain::ClockNews;
use crate::telemetry::dependency::Dependency;
use crate::telemetry::metrics::{METRICS, PartLabels};
use crate::telemetry::outages;

/// A call to a dependency failed.
pub struct DependencyFailed<'a> {
    /// Which one.
    pub dependency: Dependency,
    /// What was being done.
    pub doing: &'static str,
    /// Why it failed.
    pub error: &'a dyn Display,
}

impl DependencyFailed<'_> {
    /// Counts it, and logs it once for an outage: see [`outages`](crate::telemetry::outages).
    pub fn emit(self) {
        METRICS
            .part_failures
            .get_or_create(&PartLabels {
                part: self.dependency.as_str(),
            })
            .inc();
        outages::failed(self.dependency, self.doing, 0, self.error);
    }
}

/// A call to a dependency succeeded, of a kind that [`DependencyFailed`] reports when it fails.
pub struct DependencyWorked {
    /// Which one.
    pub dependency: Dependency,
    /// What was being done.
    pub doing: &'static str,
}

impl DependencyWorked {
    /// Ends the outage, if there is one.
    pub fn emit(self) {
        outages::worked(self.dependency, self.doing);
    }
}

/// a dependency has failed several times in a row, and is left alone for a moment at a time.
pub struct DependencyAway<'a> {
    /// Which one.
    pub dependency: Dependency,
    /// Why.
    pub error: &'a dyn Display,
}

impl DependencyAway<'_> {
    /// Counts and logs it.
    pub fn emit(self) {
        METRICS.part_away(self.dependency.as_str(), true);
        log::warn!(
            target: "likewise",
            "the {} is away and is tried again every moment: {}", self.dependency.as_str(), self.error
        );
    }
}

/// a dependency that was away answers again.
pub struct DependencyBack {
    /// Which one.
    pub dependency: Dependency,
    /// How long it was away.
    pub away_for: Duration,
}

impl DependencyBack {
    /// Counts and logs it.
    pub fn emit(self) {
        METRICS.part_away(self.dependency.as_str(), false);
        log::info!(
            target: "likewise",
            "the {} is back after {:?}", self.dependency.as_str(), self.away_for
        );
    }
}

/// A migration has been run.
pub struct Migrated<'a> {
    /// Its name.
    pub migration: &'a str,
}

impl Migrated<'_> {
    /// Logs it.
    pub fn emit(self) {
        log::info!(target: "likewise", "migrated: {}", self.migration);
    }
}

/// The process waits before it can migrate.
pub struct MigrationAwaited<'a> {
    /// For what.
    pub reason: &'a str,
}

impl MigrationAwaited<'_> {
    /// Logs it.
    pub fn emit(self) {
        log::warn!(
            target: "likewise",
            "waiting to bring the tables up to date: {}", self.reason
        );
    }
}

/// The process waits for a database that it has not reached yet.
pub struct DatabaseAwaited<'a> {
    /// Which, without its password.
    pub url: &'a str,
    /// Why it could not be reached.
    pub reason: &'a str,
}

impl DatabaseAwaited<'_> {
    /// Counts and logs it.
    pub fn emit(self) {
        METRICS
            .part_failures
            .get_or_create(&PartLabels {
                part: Dependency::Database.as_str(),
            })
            .inc();
        log::warn!(
            target: "likewise",
            "waiting for the database {}: {}", self.url, self.reason
        );
    }
}

/// This process's clock was compared with the database's.
pub struct ClockMeasured {
    /// How far it is ahead of the database's; negative if behind.
    pub skew: TimeDelta,
    /// What is new about that.
    pub news: Option<ClockNews>,
}

impl ClockMeasured {
    /// Notes the skew, and logs it if it is news.
    pub fn emit(self) {
        let seconds = self.skew.num_milliseconds() as f64 / 1_000.0;
        METRICS.clock_skew.set(seconds);
        let Some(news) = self.news else {
            return;
        };
        match news {
            ClockNews::Off => log::warn!(
                target: "likewise::health",
                "this process's clock is off: skew_seconds={seconds:+.3} from the database's; \
                 set one of them right, for example with NTP"
            ),
            ClockNews::Right => log::info!(
                target: "likewise::health",
                "this process's clock agrees with the database's again: skew_seconds={seconds:+.3}"
            ),
        }
    }
}
