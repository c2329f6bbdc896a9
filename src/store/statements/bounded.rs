//! The statements whose cost must not follow the size of the tables, spelled out to be explained.

use chrono::{DateTime, Utc};

use super::{Statement, Statements};
use crate::domain::Priority;
use crate::store::session::Param;

/// Where in the tables the statements are to look.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Now.
    pub now: DateTime<Utc>,
    /// A place among the ledger rows by time.
    pub place: (DateTime<Utc>, String),
    /// A user with a few events.
    pub user_id: i64,
    /// A chunk of users or resources.
    pub numbers: (i64, i64),
    /// A chunk of event ids.
    pub ids: (String, String),
}

impl Statements {
    /// Each of them with a name.
    pub(in crate::store) fn bounded(&self, sample: &Sample) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let mut add = |name: &str, statement: &Statement, params: &[Param]| {
            all.push((name.to_owned(), statement.spelled(params)));
        };
        let now = || Param::time(sample.now);
        for priority in Priority::DESCENDING {
            let params = [
                now(),
                Param::limit(500),
                Param::Number(priority.as_number()),
            ];
            add(&format!("claim: {priority:?}"), &self.due, &params);
        }
        all
    }
}
