//! The start and the end of the service.

use std::fmt::Display;
use std::time::Duration;

/// The service listens.
pub struct ServiceStarted<'a> {
    /// The address of the listener.
    pub address: &'a str,
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
            "listening on http://{}, role {}, database {}, cache {}, broker {}",
            self.address, self.role, self.database, self.cache, self.broker
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
        log::error!(target: "likewise", "{}", self.error);
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
            log::info!(target: "likewise", "shutting down ({}): draining", self.reason);
        } else {
            log::info!(
                target: "likewise",
                "shutting down ({}): /readyz fails, and requests are served for {:?}; a second signal ends that",
                self.reason, self.delay
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
            log::info!(target: "likewise", "stopped after {:?}: everything drained", self.took);
        } else {
            log::warn!(
                target: "likewise",
                "stopped after {:?} with {} events undrained; the ledger keeps them for the next start",
                self.took, self.left
            );
        }
    }
}

/// Certificates were read again, because their files have changed.
pub struct CertificatesRead {
    /// Whose.
    pub what: &'static str,
}

impl CertificatesRead {
    /// Logs it.
    pub fn emit(self) {
        log::info!(
            target: "likewise",
            "certificates read again: what={}; new connections use them",
            self.what
        );
    }
}

/// Changed certificates cannot be used. Said once until they can.
pub struct CertificatesKept<'a> {
    /// Whose.
    pub what: &'static str,
    /// Why.
    pub error: &'a dyn Display,
}

impl CertificatesKept<'_> {
    /// Logs it.
    pub fn emit(self) {
        log::error!(
            target: "likewise",
            "changed certificates are not used, and the old ones stay: what={}: {}",
            self.what, self.error
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
            target: "likewise",
            "keys or service tokens cannot be read again, and the old ones stay in force: {}",
            self.error
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
        log::warn!(target: "likewise", "{}", self.warning);
    }
}

/// All processes on the same database are set up alike again.
pub struct ProcessesAgree;

impl ProcessesAgree {
    /// Logs it.
    pub fn emit(self) {
        log::info!(target: "likewise", "all processes on this database have the same Redis and NATS again");
    }
}

/// The service started while a dependency that it is set up with cannot be used.
pub struct StartedWithout {
    /// Which one, and the setting that names it.
    pub dependency: &'static str,
    /// What that means until it can be used.
    pub meaning: &'static str,
}

impl StartedWithout {
    /// Logs it.
    pub fn emit(self) {
        log::warn!(
            target: "likewise",
            "started without {}: {}; Likewise keeps trying",
            self.dependency, self.meaning
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
            target: "likewise",
            "the database is in an earlier state than cache or stream, as after restoring a backup: generation={} follows \
             {}; the cache starts empty, and events that the stream still holds are taken again",
            self.generation, self.before
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
            target: "likewise",
            "generation={} of the deployment follows {}: the cache starts empty", self.generation, self.before
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
            target: "likewise",
            "Redis also holds the cache of another database (deployment {}): its entries are not read", self.other
        );
    }
}
