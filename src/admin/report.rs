//! The report of an audit: counts of each finding, and examples. Served by `/admin/audit` and printed by
//! `likewise audit`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::store::{Check, Discrepancy, Finding, Sizes};

/// The number of examples in a report.
pub(super) const EXAMPLES: usize = 100;

/// The number of discrepancies of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Discrepancies found.
    pub found: u64,
    /// Discrepancies repaired.
    pub mended: u64,
}

/// One discrepancy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// Its kind.
    pub finding: Finding,
    /// The event, pair or resource.
    pub subject: String,
    /// The expected value.
    pub expected: String,
    /// The value found.
    pub found: String,
}

/// The report of an audit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditReport {
    /// Whether the audit repaired what it found.
    pub repair: bool,
    /// When the audit started.
    pub started_at: DateTime<Utc>,
    /// When the audit ended.
    pub finished_at: DateTime<Utc>,
    /// The number of compared rows of each table.
    pub checked: Sizes,
    /// The number of compared cache entries; `None` if the audit could not reach the cache.
    pub cache_entries: Option<u64>,
    /// The discrepancies of each kind; kinds without any are absent.
    pub findings: BTreeMap<Finding, Tally>,
    /// The first discrepancies.
    pub examples: Vec<Example>,
    /// The number of open ledger rows that have been due for at least five minutes.
    pub overdue_rows: i64,
}

impl AuditReport {
    /// An empty report of an audit that starts now.
    #[must_use]
    pub(super) fn new(repair: bool, now: DateTime<Utc>) -> Self {
        Self {
            repair,
            started_at: now,
            finished_at: now,
            checked: Sizes::default(),
            cache_entries: None,
            findings: BTreeMap::new(),
            examples: Vec::new(),
            overdue_rows: 0,
        }
    }

    /// The number of discrepancies.
    #[must_use]
    pub fn found(&self) -> u64 {
        self.findings.values().map(|tally| tally.found).sum()
    }

    /// The number of repaired discrepancies.
    #[must_use]
    pub fn mended(&self) -> u64 {
        self.findings.values().map(|tally| tally.mended).sum()
    }

    /// Whether every discrepancy was repaired.
    #[must_use]
    pub fn in_order(&self) -> bool {
        self.found() == self.mended()
    }

    pub(super) fn add(&mut self, found: &[Discrepancy]) {
        for one in found {
            self.findings.entry(one.finding).or_default().found += 1;
            if self.examples.len() < EXAMPLES {
                self.examples.push(Example {
                    finding: one.finding,
                    subject: one.subject.to_string(),
                    expected: one.expected.clone(),
                    found: one.found.clone(),
                });
            }
        }
    }

    /// Adds the differences that a check counted.
    pub(super) fn add_check(&mut self, finding: Finding, check: Check) {
        let found = u64::try_from(check.differences).unwrap_or(0);
        if found == 0 {
            return;
        }
        self.findings.entry(finding).or_default().found += found;
        let room = EXAMPLES.saturating_sub(self.examples.len());
        let examples = check.examples.into_iter().take(room);
        self.examples.extend(examples.map(|one| Example {
            finding,
            subject: one.subject,
            expected: one.expected,
            found: one.found,
        }));
    }

    pub(super) fn add_repaired<'a>(&mut self, repaired: impl Iterator<Item = &'a Discrepancy>) {
        for one in repaired {
            self.findings.entry(one.finding).or_default().mended += 1;
        }
    }
}
