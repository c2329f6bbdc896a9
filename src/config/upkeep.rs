//! What a worker does from time to time: audits and pruning.

use std::path::PathBuf;
use std::time::Duration;

use super::PartialConfig;

const DAY: Duration = Duration::from_secs(86_400);

/// The automatic audit and pruning of a worker.
#[derive(Debug, Clone)]
pub struct UpkeepOptions {
    /// The interval of the audit; `None` disables it.
    pub audit_every: Option<Duration>,
    /// Whether the audit repairs its findings.
    pub audit_repair: bool,
    /// What is pruned once a day.
    pub prune: PruneOptions,
}

/// What is pruned, and at which age.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneOptions {
    /// The age of completed ledger rows since they were recorded; `None` keeps them.
    pub ledger_after: Option<Duration>,
    /// The age of behaviors that no promise needs since they were recorded; `None` keeps them.
    pub behaviors_after: Option<Duration>,
    /// The file that behaviors are appended to before they are deleted: gzip, one JSON object a line.
    pub archive: Option<PathBuf>,
}

impl UpkeepOptions {
    pub(super) fn new(config: &PartialConfig) -> Self {
        let unless_zero = |duration: Duration| (!duration.is_zero()).then_some(duration);
        Self {
            audit_every: unless_zero(Duration::from_secs(config.audit_interval_seconds())),
            audit_repair: config.audit_repair(),
            prune: PruneOptions {
                ledger_after: unless_zero(DAY * config.retention_ledger_days()),
                behaviors_after: unless_zero(DAY * config.retention_behaviors_days()),
                archive: config.retention_archive.clone(),
            },
        }
    }
}
