//! Filters for ledger rows, and their conditions in SQL. Used by `search.rs` and, for jobs on rows, by
//! `job_snapshots.rs`. [`Conditions`] also makes those of other tables.

use chrono::{DateTime, Datelike, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema::Schema;
use super::statement::Param;
use crate::domain::{Id, ResourceType, Status};

/// A filter for ledger rows; an absent field matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerFilter {
    /// Their status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The kind of resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_type: Option<ResourceType>,
    /// The resource's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub resource_id: Option<Id>,
    /// Whose like.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub user_id: Option<Id>,
    /// Recorded at this moment or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Recorded before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// A part of the error message, in small or capital letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Whether every database can store this time.
#[must_use]
pub fn is_storable(time: DateTime<Utc>) -> bool {
    (1..=9_999).contains(&time.year())
}

impl LedgerFilter {
    /// Checks that every database accepts the filter. Returns the reason if one does not.
    ///
    /// # Errors
    /// If a time or a text is one that a database rejects.
    pub fn check(&self) -> Result<(), &'static str> {
        check_times(self.since, self.until)?;
        check_error(self.error.as_deref())
    }
}

/// Checks that every database accepts the text that a filter looks for in errors.
pub(super) fn check_error(error: Option<&str>) -> Result<(), &'static str> {
    match error.unwrap_or_default().contains('\0') {
        true => Err("'error' must be text without NUL"),
        false => Ok(()),
    }
}

/// Checks that every database accepts the time range of a filter.
pub(super) fn check_times(
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
) -> Result<(), &'static str> {
    match since.into_iter().chain(until).all(is_storable) {
        true => Ok(()),
        false => Err("'since' and 'until' must be in the years 1 to 9999"),
    }
}

/// The statuses of failures, which an index finds.
pub(super) const FAILURES: [Status; 2] = [Status::Failed, Status::Dead];

/// Matches the rows of a status that an index finds. The status is part of the text: a partial index serves no
/// parameter.
pub(super) fn is_failure(d: &Schema, status: Status) -> String {
    format!("{} = '{status}'", d.failure_status())
}

/// Conditions that all must hold, and their parameters.
#[derive(Default)]
pub(super) struct Conditions {
    all: Vec<String>,
    pub(super) params: Vec<Param>,
}

impl Conditions {
    /// The conditions of a filter on ledger rows `e`.
    pub(super) fn of(d: &Schema, filter: &LedgerFilter) -> Self {
        let mut conditions = Self::default();
        if let Some(status) = filter.status {
            let status = conditions.text(status.as_str().to_owned());
            conditions.and(format!("e.status = {status}"));
        }
        let resource = (filter.resource_type, filter.resource_id.as_ref());
        conditions.about(d, "e", resource, filter.user_id.as_ref());
        conditions.times(d, filter);
        if let Some(error) = &filter.error {
            conditions.contains("COALESCE(e.error_message, '')", error);
        }
        conditions
    }

    /// Adds the conditions that rows with this alias are about a resource of this type, or this id, and about this user.
    pub(super) fn about(
        &mut self,
        d: &Schema,
        alias: &str,
        (resource_type, resource_id): (Option<ResourceType>, Option<&Id>),
        user_id: Option<&Id>,
    ) {
        if let Some(resource_type) = resource_type {
            let resource_type = self.text(resource_type.as_str().to_owned());
            self.and(format!("{alias}.resource_type = {resource_type}"));
        }
        if let Some(id) = resource_id {
            let id = d.resource(&self.param(id.into()));
            self.and(format!("{alias}.resource_id = {id}"));
        }
        if let Some(id) = user_id {
            let id = d.user(&self.param(id.into()));
            self.and(format!("{alias}.user_id = {id}"));
        }
    }

    /// Adds the time range of a filter on ledger rows `e`.
    pub(super) fn times(&mut self, d: &Schema, filter: &LedgerFilter) {
        self.between(d, "e.created_at", (filter.since, filter.until));
    }

    /// Adds the condition that a column has a time of the first one or later, and before the second.
    pub(super) fn between(
        &mut self,
        d: &Schema,
        column: &str,
        (since, until): (Option<DateTime<Utc>>, Option<DateTime<Utc>>),
    ) {
        if let Some(since) = since {
            let since = self.param(Param::time(since));
            self.and(format!("{column} >= {}", d.time(&since)));
        }
        if let Some(until) = until {
            let until = self.param(Param::time(until));
            self.and(format!("{column} < {}", d.time(&until)));
        }
    }

    /// Adds the condition that a text contains this one, in small or capital letters.
    pub(super) fn contains(&mut self, column: &str, text: &str) {
        let pattern = self.text(contains(text));
        self.and(format!("LOWER({column}) LIKE {pattern} ESCAPE '!'"));
    }

    /// Adds a condition.
    pub(super) fn and(&mut self, condition: String) {
        self.all.push(condition);
    }

    /// Adds a parameter. Returns its name.
    pub(super) fn param(&mut self, param: Param) -> String {
        self.params.push(param);
        format!("${}", self.params.len())
    }

    /// Adds a text as a parameter. Returns its name.
    pub(super) fn text(&mut self, text: String) -> String {
        self.param(Param::Text(text))
    }

    /// Returns the conditions as SQL.
    pub(super) fn sql(&self) -> String {
        if self.all.is_empty() {
            return "true".to_owned();
        }
        self.all.join(" AND ")
    }
}

/// A pattern of `LIKE` for text that contains this one.
fn contains(text: &str) -> String {
    let mut pattern = "%".to_owned();
    for c in text.to_lowercase().chars() {
        if matches!(c, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}
