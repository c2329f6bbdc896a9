//! The statements whose cost must not follow the size of the tables. A test has the database explain them.

use chrono::{DateTime, Utc};

use super::session::Param;
use super::{Store, audit, claim, job_snapshots, ledger, lists, retention, search};
use crate::domain::Priority;

/// The rows that the statements look for.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Now.
    pub now: DateTime<Utc>,
    /// The time and id of a ledger row.
    pub place: (DateTime<Utc>, String),
    /// A user with a few events.
    pub user_id: i64,
    /// A range of users or resources.
    pub numbers: (i64, i64),
    /// A range of event ids.
    pub ids: (String, String),
}

impl Store {
    /// Returns the statements whose cost must not follow the size of the tables, each with a name, with their
    /// parameters in the text, for the database to explain.
    #[must_use]
    pub fn bounded_statements(&self, sample: &Sample) -> Vec<(String, String)> {
        let d = self.schema;
        let mut all = ledger::bounded(d, sample);
        all.extend(Priority::DESCENDING.map(|priority| {
            let params = [
                Param::time(sample.now),
                Param::limit(500),
                Param::Number(priority.as_number()),
            ];
            let due = claim::DUE.on(d).spelled(&params);
            (format!("claim: {priority:?}"), due)
        }));
        all.extend(search::bounded(d, sample));
        all.extend(job_snapshots::bounded(d));
        all.extend(audit::bounded(d, sample));
        all.push(retention::bounded(d, sample));
        all.extend(lists::bounded(d, sample));
        all
    }
}
