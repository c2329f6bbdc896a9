//! What an audit found.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::store::{Check, Discrepancy, Finding, Sizes};

/// How many discrepancies a report shows.
pub(super) const EXAMPLES: usize = 100;

/// How often something was found, and how often it was put right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Places where the data was not as promised.
    pub found: u64,
    /// Those that are in order now.
    pub mended: u64,
}

/// One place where the data was not as promised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// In which way.
    pub finding: Finding,
    /// Where.
    pub subject: String,
    /// What should have been there.
    pub expected: String,
    /// What was.
    pub found: String,
}

/// What an audit found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditReport {
    /// Whether it was to mend what it finds.
    pub repair: bool,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: DateTime<Utc>,
    /// How many rows it has looked at.
    pub checked: Sizes,
    /// How many cache entries it looked at; `None` if no cache can be reached from where it ran.
    pub cache_entries: Option<u64>,
    /// How much it found of each kind; what it did not find is absent.
    pub findings: BTreeMap<Finding, Tally>,
    /// The first of it.
    pub examples: Vec<Example>,
    /// Open ledger rows that have been due for five minutes and more: nobody works on them.
    pub overdue_rows: i64,
}

impl AuditReport {
    /// An empty one.
    #[must_use]
    pub(super) fn new(repair: bool) -> Self {
        let now = Utc::now();
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

    /// How much it found.
    #[must_use]
    pub fn found(&self) -> u64 {
        self.findings.values().map(|tally| tally.found).sum()
    }

    /// How much of that is in order now.
    #[must_use]
    pub fn mended(&self) -> u64 {
        self.findings.values().map(|tally| tally.mended).sum()
    }

    /// Whether the data is as promised now.
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

    /// Adds what a check of the database counted.
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

    pub(super) fn mend<'a>(&mut self, mended: impl Iterator<Item = &'a Discrepancy>) {
        for one in mended {
            self.findings.entry(one.finding).or_default().mended += 1;
        }
    }
}
