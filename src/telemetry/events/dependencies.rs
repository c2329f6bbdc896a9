//! Calls to dependencies that fail and recover, migrations, and the clocks.

use std::fmt::Display;
use std::time::Duration;

use chrono::TimeDelta;

use crate::domain::ClockNews;
use crate::telemetry::dependency::Dependency;
use crate::telemetry::logging::seconds;
use crate::telemetry::metrics::{METRICS, PartLabels};
use crate::telemetry::outages;

/// A call to a dependency failed.
pub struct DependencyFailed<'a> {
    /// The dependency.
    pub dependency: Dependency,
    /// The action that failed.
    pub doing: &'static str,
    /// The error.
    pub error: &'a dyn Display,
}

impl DependencyFailed<'_> {
    /// Counts the failure, and logs it once per outage; see [`outages`](crate::telemetry::outages).
    pub fn emit(self) {
        METRICS
            .part_failures
            .get_or_create(&PartLabels {
                part: self.dependency.as_str(),
            })
            .inc();
        outages::failed(self.dependency, self.doing, 0, self.error);
    }

    /// Reports the failure if it is news. Otherwise the call was not made, because the dependency is known to be down: only its
    /// outage goes on, if there is one.
    pub fn emit_if(self, is_news: bool) {
        if is_news {
            self.emit();
        } else {
            outages::not_made(self.dependency, self.doing);
        }
    }
}

/// A call to a dependency succeeded, which may end an outage that [`DependencyFailed`] began.
pub struct DependencyWorked {
    /// The dependency.
    pub dependency: Dependency,
    /// The action that succeeded.
    pub doing: &'static str,
}

impl DependencyWorked {
    /// Ends the outage of this action, if there is one.
    pub fn emit(self) {
        outages::worked(self.dependency, self.doing);
    }
}

/// The masters of the cache's Redis Cluster were probed.
pub struct CacheMastersSeen {
    /// The number of those that answer.
    pub up: usize,
    /// The number of the others.
    pub down: usize,
}

impl CacheMastersSeen {
    /// Sets their number: zeros if the cache is no cluster.
    pub fn emit(self) {
        METRICS.masters_seen(self.up, self.down);
    }
}

/// A circuit breaker opened: the dependency failed several times in a row, and is not called for a moment.
pub struct DependencyAway<'a> {
    /// The dependency.
    pub dependency: Dependency,
    /// The last error.
    pub error: &'a dyn Display,
}

impl DependencyAway<'_> {
    /// Counts and logs it.
    pub fn emit(self) {
        METRICS.dependency_away(self.dependency, true);
        log::warn!(
            target: "likewise", dependency = self.dependency.as_str(), error:% = self.error;
            "dependency is unavailable and is retried continually"
        );
    }
}

/// A circuit breaker closed: the dependency answers again.
pub struct DependencyBack {
    /// The dependency.
    pub dependency: Dependency,
    /// The duration of the outage.
    pub away_for: Duration,
}

impl DependencyBack {
    /// Counts and logs it.
    pub fn emit(self) {
        METRICS.dependency_away(self.dependency, false);
        log::info!(
            target: "likewise", dependency = self.dependency.as_str(), seconds = seconds(self.away_for);
            "dependency is back"
        );
    }
}

/// A migration was applied.
pub struct Migrated<'a> {
    /// The migration's name.
    pub migration: &'a str,
}

impl Migrated<'_> {
    /// Logs the migration.
    pub fn emit(self) {
        log::info!(target: "likewise", migration = self.migration; "migrated");
    }
}

/// The process waits before it can migrate.
pub struct MigrationAwaited<'a> {
    /// The cause of the wait.
    pub reason: &'a str,
}

impl MigrationAwaited<'_> {
    /// Logs the wait.
    pub fn emit(self) {
        log::warn!(
            target: "likewise", reason = self.reason;
            "waiting to bring the tables up to date"
        );
    }
}

/// The process waits for a database that is unreachable at the start.
pub struct DatabaseAwaited<'a> {
    /// The database's URL without the password.
    pub url: &'a str,
    /// Why it is unreachable.
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
            target: "likewise", url = self.url, reason = self.reason;
            "waiting for the database"
        );
    }
}

/// This process's clock was compared with the database's.
pub struct ClockMeasured {
    /// The lead of the process's clock over the database's; negative if it is behind.
    pub skew: TimeDelta,
    /// The change since the last measurement that is worth a log line.
    pub news: Option<ClockNews>,
}

impl ClockMeasured {
    /// Sets the metric, and logs a change.
    pub fn emit(self) {
        let skew_seconds = self.skew.num_milliseconds() as f64 / 1_000.0;
        METRICS.clock_skew_seconds.set(skew_seconds);
        let Some(news) = self.news else {
            return;
        };
        match news {
            ClockNews::Off => log::warn!(
                target: "likewise::health", skew_seconds;
                "this process's clock is off from the database's; synchronize both, for example with NTP"
            ),
            ClockNews::Right => log::info!(
                target: "likewise::health", skew_seconds;
                "this process's clock agrees with the database's again"
            ),
        }
    }
}
