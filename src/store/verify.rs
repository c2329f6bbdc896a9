//! What the data can show of the promises.

use std::collections::BTreeMap;

use serde::Serialize;

use super::rows::DifferenceRow;
use crate::domain::ResourceType;

/// What the data shows, as of one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Verification {
    /// Each promise.
    pub checks: Vec<Check>,
    /// How many pairs are liked.
    pub liked: BTreeMap<ResourceType, i64>,
}

impl Verification {
    /// Whether every promise holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.checks.iter().all(Check::holds)
    }
}

/// One promise, checked on the data.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What should hold.
    pub promise: String,
    /// How many rows were looked at.
    pub checked: i64,
    /// How many of them break it.
    pub differences: i64,
    /// The first of those.
    pub examples: Vec<Difference>,
}

/// One place where the data is not as promised.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// Where.
    pub subject: String,
    /// What should be there.
    pub expected: String,
    /// What is.
    pub found: String,
}

impl Check {
    /// The outcome of one or more queries for differences, each row of which says how many there are.
    pub(super) fn new(
        promise: impl Into<String>,
        checked: i64,
        found: Vec<Vec<DifferenceRow>>,
    ) -> Self {
        Self {
            promise: promise.into(),
            checked,
            differences: found
                .iter()
                .filter_map(|rows| rows.first().map(|row| row.total))
                .sum(),
            examples: found
                .into_iter()
                .flatten()
                .map(|row| Difference {
                    subject: row.subject,
                    expected: row.expected,
                    found: row.found,
                })
                .collect(),
        }
    }

    /// Whether the promise holds.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.differences == 0
    }
}
