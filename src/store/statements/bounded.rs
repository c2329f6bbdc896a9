//! The statements whose cost must not follow the size of the tables, spelled out to be explained.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Statement, Statements};
use crate::domain::{JobKind, Priority, ResourceType, Status};
use crate::store::dialect::Dialect;
use crate::store::operations::LedgerFilter;
use crate::store::session::{Param, time_text};

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
    pub(in crate::store) fn bounded(
        &self,
        dialect: &'static dyn Dialect,
        sample: &Sample,
    ) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let mut add = |name: &str, statement: &Statement, params: &[Param]| {
            all.push((name.to_owned(), statement.spelled(params)));
        };
        let o = &self.operations;
        let now = || Param::time(sample.now);
        add("open rows", &self.open_rows, &[]);
        add("summary: due", &o.due_rows, &[now()]);
        add("summary: oldest open", &o.oldest_open, &[]);
        add("summary: by status", &o.open_by_status, &[]);
        add("summary: errors", &o.errors, &[Param::limit(10)]);
        for priority in Priority::DESCENDING {
            let params = [
                now(),
                Param::limit(500),
                Param::Number(priority.as_number()),
            ];
            add(
                &format!("claim: {priority:?}"),
                crate::store::claim::DUE.on(dialect),
                &params,
            );
        }
        let any = LedgerFilter::default;
        let of = |status| LedgerFilter {
            status: Some(status),
            ..any()
        };
        let mut filters = Status::ALL
            .map(|status| (status.to_string(), of(status)))
            .to_vec();
        filters.extend([
            ("all".to_owned(), any()),
            (
                "user".to_owned(),
                LedgerFilter {
                    user_id: Some(sample.user_id),
                    ..any()
                },
            ),
            (
                "resource".to_owned(),
                LedgerFilter {
                    resource_type: Some(ResourceType::Video),
                    resource_id: Some(sample.numbers.0),
                    ..any()
                },
            ),
            (
                "time".to_owned(),
                LedgerFilter {
                    since: Some(sample.now - TimeDelta::hours(1)),
                    until: Some(sample.now),
                    ..any()
                },
            ),
            (
                "error".to_owned(),
                LedgerFilter {
                    error: Some("lock".to_owned()),
                    ..of(Status::Dead)
                },
            ),
        ]);
        let place = time_text(sample.place.0);
        let place = (place.as_str(), sample.place.1.as_str());
        let below = time_text(sample.place.0 + TimeDelta::milliseconds(2));
        let below = (below.as_str(), sample.place.1.as_str());
        for (name, filter) in &filters {
            for (number, way) in o.ways(filter).iter().enumerate() {
                let down_to = way.windowed.then_some(place);
                if way.windowed {
                    let (statement, params) = o.window_end(way, filter, None);
                    add(&format!("window: {name} {number}"), &statement, &params);
                }
                let (statement, params) = o.search(way, filter, (None, down_to), 50);
                add(&format!("search: {name} {number}"), &statement, &params);
                let (statement, params) = o.search(way, filter, (Some(below), down_to), 50);
                add(
                    &format!("search below: {name} {number}"),
                    &statement,
                    &params,
                );
            }
        }
        for kind in [JobKind::Retry, JobKind::Discard] {
            let (statement, params) = o.count_matching(kind, &any());
            add(&format!("dry run: {kind}"), &statement, &params);
            let (statement, params) = o.snapshot("a job", kind, &any());
            add(&format!("snapshot: {kind}"), &statement, &params);
        }
        all
    }
}
