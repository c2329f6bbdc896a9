//! The statements whose cost must not follow the size of the tables. A test has the database explain them.

use super::sample::Sample;
use super::statement::Param;
use super::{Store, audit, claim, job_snapshots, ledger, lists, retention, search};
use crate::domain::Priority;

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
