//! Filters for messages in quarantine, and their conditions in SQL. Used by `quarantine.rs` and, for jobs, by
//! `job_snapshots.rs`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ledger_filter::{Conditions, check_times};
use super::schema::Schema;

/// A filter for messages in quarantine; an absent field matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuarantineFilter {
    /// A part of the reason, in small or capital letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A part of the subject, in small or capital letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Quarantined at this moment or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Quarantined before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
}

impl QuarantineFilter {
    /// Checks that every database accepts the filter. Returns the reason if one does not.
    ///
    /// # Errors
    /// If a time or a text is one that a database rejects.
    pub fn check(&self) -> Result<(), &'static str> {
        check_times(self.since, self.until)?;
        let mut texts = self.reason.iter().chain(&self.subject);
        match texts.any(|text| text.contains('\0')) {
            true => Err("'reason' and 'subject' must be text without NUL"),
            false => Ok(()),
        }
    }

    /// Returns the conditions on messages `q`; only the resolved or only the unresolved ones, if `resolved` is given.
    pub(super) fn conditions(&self, d: &Schema, resolved: Option<bool>) -> Conditions {
        let mut conditions = Conditions::default();
        if let Some(resolved) = resolved {
            let not = if resolved { "NOT " } else { "" };
            conditions.and(format!("q.resolved_at IS {not}NULL"));
        }
        for (column, text) in [("q.reason", &self.reason), ("q.subject", &self.subject)] {
            if let Some(text) = text {
                conditions.contains(column, text);
            }
        }
        conditions.between(d, "q.created_at", (self.since, self.until));
        conditions
    }
}
