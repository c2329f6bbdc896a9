//! The start and the end of the service.

use std::fmt::Display;
use std::time::Duration;

use crate::telemetry::dependency::Dependency;
use crate::telemetry::logging::seconds;

/// The service listens.
pub struct ServiceStarted<'a> {
    /// Its URL.
    pub url: &'a str,
    /// The database's kind.
    pub database: &'static str,
    /// The cache's kind.
    pub cache: &'static str,
    /// The broker's kind.
    pub broker: &'static str,
    /// The role of this process.
    pub role: &'static str,
}

impl ServiceStarted<'_> {
    /// Logs it.
    pub fn emit(self) {
        log::info!(
            target: "likewise",
            url = self.url, role = self.role, database = self.database, cache = self.cache, broker = self.broker;
            "listening"
        );
    }
}

/// The database turned out to be unusable after the service started to listen.
pub struct StartFailed<'a> {
    /// Why.
    pub error: &'a dyn Display,
}

impl StartFailed<'_> {
    /// Logs it.
    pub fn emit(self) {
        log::error!(target: "likewise", error:% = self.error; "the database cannot be used");
    }
}

/// The service shuts down.
pub struct ShutdownStarted {
    /// Why.
    pub reason: &'static str,
    /// How long requests are still served, so that load balancers notice.
    pub delay: Duration,
}

impl ShutdownStarted {
    /// Logs it.
    pub fn emit(self) {
        if self.delay.is_zero() {
            log::info!(target: "likewise", reason = self.reason; "shutting down: draining");
        } else {
            log::info!(
                target: "likewise", reason = self.reason, delay_seconds = seconds(self.delay);
                "shutting down: /readyz fails, and requests are served during the delay; a second signal ends it"
            );
        }
    }
}

/// The service shut down.
pub struct ShutdownEnded {
    /// The duration of the shutdown.
    pub took: Duration,
    /// The number of events that were not drained in time. The next process takes them up from the ledger.
    pub left: usize,
}

impl ShutdownEnded {
    /// Logs it.
    pub fn emit(self) {
        if self.left == 0 {
            log::info!(target: "likewise", seconds = seconds(self.took); "stopped: everything drained");
        } else {
            log::warn!(
                target: "likewise", seconds = seconds(self.took), events = self.left;
                "stopped with undrained events; the ledger keeps them for the next start"
            );
        }
    }
}

/// Certificates were read again, because their files have changed.
pub struct CertificatesRead {
    /// Whose.
    pub dependency: Dependency,
}

impl CertificatesRead {
    /// Logs it.
    pub fn emit(self) {
        log::info!(
            target: "likewise", dependency = self.dependency.as_str();
            "certificates read again; new connections use them"
        );
    }
}

/// Changed certificates cannot be used. Said once until they can.
pub struct CertificatesKept<'a> {
    /// Whose.
    pub dependency: Dependency,
    /// Why.
    pub error: &'a dyn Display,
}

impl CertificatesKept<'_> {
    /// Logs it.
    pub fn emit(self) {
        log::error!(
            target: "likewise", dependency = self.dependency.as_str(), error:% = self.error;
            "changed certificates are not used, and the old ones stay"
        );
    }
}

/// Keys or service tokens were read again, and others are in force.
pub struct CredentialsRead;

impl CredentialsRead {
    /// Logs it.
    pub fn emit(self) {
        log::info!(target: "likewise", "keys and service tokens read again: the new ones are in force");
    }
}

/// Changed keys or service tokens cannot be used. Said once until they can.
pub struct CredentialsKept<'a> {
    /// Why.
    pub error: &'a str,
}

impl CredentialsKept<'_> {
    /// Logs it.
    pub fn emit(self) {
        log::error!(
            target: "likewise", error = self.error;
            "keys or service tokens cannot be read again, and the old ones stay in force"
        );
    }
}

/// Another process on the same database is set up differently. Said once for each difference.
pub struct ProcessesDiffer<'a> {
    /// The difference.
    pub warning: &'a str,
}

impl ProcessesDiffer<'_> {
    /// Logs it.
    pub fn emit(self) {
        log::warn!(target: "likewise", warning = self.warning; "processes differ");
    }
}

/// All processes on the same database are set up alike again.
pub struct ProcessesAgree;

impl ProcessesAgree {
    /// Logs it.
    pub fn emit(self) {
        log::info!(target: "likewise", "all processes on this database are set up alike again");
    }
}

/// The service started while a dependency that it is set up with cannot be used.
pub struct StartedWithout {
    /// Which one.
    pub dependency: Dependency,
    /// The setting that names it.
    pub setting: &'static str,
    /// What that means until it can be used.
    pub meaning: &'static str,
}

impl StartedWithout {
    /// Logs it.
    pub fn emit(self) {
        log::warn!(
            target: "likewise",
            dependency = self.dependency.as_str(), setting = self.setting, meaning = self.meaning;
            "started without a dependency; Likewise keeps trying"
        );
    }
}

/// The database was restored from an earlier state, so a new generation of the deployment started.
pub struct DatabaseRestored<'a> {
    /// The generation whose cache and consumer are no longer used.
    pub before: &'a str,
    /// The new generation.
    pub generation: &'a str,
}

impl DatabaseRestored<'_> {
    /// Logs it.
    pub fn emit(self) {
        log::warn!(
            target: "likewise", generation = self.generation, before = self.before;
            "the database is in an earlier state than cache or stream, as after restoring a backup, so a new generation \
             starts: the cache starts empty, and events that the stream still holds are taken again"
        );
    }
}

/// The process works under another generation of the deployment now.
pub struct GenerationChanged<'a> {
    /// The generation until now.
    pub before: &'a str,
    /// The generation from now on.
    pub generation: &'a str,
}

impl GenerationChanged<'_> {
    /// Logs it.
    pub fn emit(self) {
        log::warn!(
            target: "likewise", generation = self.generation, before = self.before;
            "the deployment has a new generation: the cache starts empty"
        );
    }
}

/// Another deployment used this Redis last. Each has keys of its own.
pub struct CacheShared<'a> {
    /// The id of the other deployment.
    pub other: &'a str,
}

impl CacheShared<'_> {
    /// Logs it.
    pub fn emit(self) {
        log::warn!(
            target: "likewise", deployment = self.other;
            "Redis also holds the cache of another database: its entries are not read"
        );
    }
}
