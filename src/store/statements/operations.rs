//! The statements of what operators see and do.

use super::{Statement, total};
use crate::domain::{JobKind, Status};
use crate::store::dialect::Column::{Text, Word};
use crate::store::dialect::Dialect;
use crate::store::operations::{JOB_LIMIT, LedgerFilter};
use crate::store::rows::Param;
use crate::store::schema::LEDGER_COLUMNS;

/// A place among ledger rows in the order of their time: `created_at` and the id.
pub(in crate::store) type Place<'a> = (&'a str, &'a str);

/// How many rows are counted exactly; beyond that, their number is an estimate.
pub(in crate::store) const COUNTED_EXACTLY: usize = 10_000;

/// How many of the last failed rows, and of the last dead ones, a summary looks at for their errors.
const ERRORS_LOOKED_AT: usize = 10_000;

/// How many rows one page of a search looks at where no index leads to those that match.
const WINDOW: usize = 10_000;

/// The statuses that have an index.
const FAILURES: [&str; 2] = ["failed", "dead"];

/// Matches the rows of a status that has an index. The status is part of the text, because a partial index
/// serves no parameter.
fn is_failure(d: &dyn Dialect, status: &str) -> String {
    format!("{} = '{status}'", d.failure_status())
}

/// A way through the ledger.
pub(in crate::store) struct Way {
    rows: Rows,
    /// Whether it may pass many rows that do not match, so that a page looks at a window only.
    pub(in crate::store) windowed: bool,
}

/// The rows that a way passes.
enum Rows {
    /// Those that this condition matches, in the order of an index.
    Ledger(String),
    /// The open ones.
    Open,
    /// The events of the filter's user.
    OfUser,
}

/// The statements of what operators see and do, for one dialect.
pub(in crate::store) struct OperationsStatements {
    dialect: &'static dyn Dialect,
    /// How many open rows are due. Parameters: now.
    pub(in crate::store) due_rows: Statement,
    /// When the oldest open row was recorded.
    pub(in crate::store) oldest_open: Statement,
    /// How many rows of each status there are, but for completed ones.
    pub(in crate::store) open_by_status: Statement,
    /// How many rows there are, up to one more than [`COUNTED_EXACTLY`].
    pub(in crate::store) few_rows: Statement,
    /// About how many rows there are.
    pub(in crate::store) about_rows: Statement,
    /// The most frequent errors of the last failed and dead rows. Parameters: the most errors.
    pub(in crate::store) errors: Statement,
    /// A ledger row. Parameters: its id.
    pub(in crate::store) ledger_entry: Statement,
    /// A behavior. Parameters: its event id.
    pub(in crate::store) behavior: Statement,
    /// An event's history. Parameters: its id, the most entries.
    pub(in crate::store) event_history: Statement,
    /// Rows that can be tried again, locked. Parameters: rows `(event_id)`.
    pub(in crate::store) retriable: Statement,
    /// Rows that can be discarded, locked. Parameters: rows `(event_id)`, now.
    pub(in crate::store) discardable: Statement,
    /// Parameters: rows `(event_id)`, now, the priority.
    pub(in crate::store) retry: Statement,
    /// Parameters: rows `(event_id, error)`, now.
    pub(in crate::store) discard: Statement,
    /// Parameters: rows `(id, kind, spec, requested_by, slot)`, now.
    pub(in crate::store) insert_job: Statement,
    /// How many rows a job's snapshot has. Parameters: the job's id.
    pub(in crate::store) snapshot_size: Statement,
    /// Parameters: the job's id, the size of its snapshot.
    pub(in crate::store) set_total: Statement,
    /// A job. Parameters: its id.
    pub(in crate::store) job: Statement,
    /// As `job`, and locks it until the transaction ends.
    pub(in crate::store) lock_job: Statement,
    /// The last jobs. Parameters: the most jobs.
    pub(in crate::store) jobs: Statement,
    /// The last jobs of a kind. Parameters: the most jobs, the kind.
    pub(in crate::store) jobs_of_kind: Statement,
    /// The oldest job that nobody is at, locked. Parameters: now.
    pub(in crate::store) free_job: Statement,
    /// The job with this id if nobody is at it, locked. Parameters: now, the id.
    pub(in crate::store) free_job_of_id: Statement,
    /// Takes a job. Parameters: its id, now, the end of the lease.
    pub(in crate::store) claim_job: Statement,
    /// The next events of a snapshot. Parameters: the job's id, after which, the most events.
    pub(in crate::store) next_events: Statement,
    /// Notes what became of events. Parameters: rows `(job_id, event_id, outcome)`.
    pub(in crate::store) set_outcomes: Statement,
    /// Moves a job on. Parameters: its id, now, done, changed, position, state, the end of the lease.
    pub(in crate::store) move_job: Statement,
    /// Reports of a job. Parameters: its id, now, total, done, changed, state, result, error, the end of the
    /// lease, the position.
    pub(in crate::store) report_job: Statement,
    /// Ends a job. Parameters: its id, now.
    pub(in crate::store) cancel_job: Statement,
    /// Jobs that ended, locked. Parameters: before when, the most jobs.
    pub(in crate::store) prunable_jobs: Statement,
    /// Parameters: rows `(event_id)`, which are jobs.
    pub(in crate::store) delete_job_events: Statement,
    /// Parameters: rows `(event_id)`, which are jobs.
    pub(in crate::store) delete_jobs: Statement,
    /// A message in quarantine. Parameters: its id.
    pub(in crate::store) quarantine_entry: Statement,
    /// As `quarantine_entry`, and locks it until the transaction ends.
    pub(in crate::store) lock_quarantined: Statement,
    /// Notes what became of a message. Parameters: its id, now, the resolution, the operator.
    pub(in crate::store) resolve: Statement,
}

const ENTRY_COLUMNS: &str = "e.id, e.user_id, e.resource_type, e.resource_id, e.action_type, \
    e.status, e.version, e.retry_count, e.max_retries, e.priority, e.error_message, \
    e.next_attempt_at, e.lease_until, e.fencing_token, e.created_at, e.updated_at, e.processed_at";

const JOB_COLUMNS: &str = "j.id, j.kind, j.state, j.spec, j.requested_by, j.total, j.done, \
    j.changed, j.position, j.result, j.error_message, j.fencing_token, j.created_at, \
    j.updated_at, j.finished_at";

const FREE: &str = "j.finished_at IS NULL AND (j.lease_until IS NULL OR j.lease_until <= ";

impl OperationsStatements {
    pub(in crate::store) fn new(d: &'static dyn Dialect) -> Self {
        let join = d.join();
        let now = d.time("$2");
        let open = d.open_rows();
        let ids = d.rows("$1", &[Word("event_id")]);
        let job = format!("SELECT {JOB_COLUMNS} FROM jobs j WHERE j.id = $1");
        let jobs = |condition: &str| -> Statement {
            format!(
                "SELECT {JOB_COLUMNS} FROM jobs j {condition} \
                 ORDER BY j.created_at DESC, j.id DESC LIMIT $1"
            )
            .into()
        };
        let quarantine_entry = format!(
            "SELECT {} FROM quarantined_events q WHERE q.id = $1",
            quarantine_columns(d)
        );
        // An empty text stands for what is not given.
        let optional = |param: &str| format!("NULLIF({param}, '')");
        Self {
            dialect: d,
            due_rows: total(
                "'due'",
                &format!("{open} WHERE e.next_attempt_at <= {}", d.time("$1")),
            ),
            oldest_open: format!("SELECT MIN(e.created_at) AS moment FROM {open}").into(),
            open_by_status: format!(
                "SELECT e.status AS label, COUNT(*) AS total FROM {open} \
                 WHERE e.status IN ('pending', 'processing') GROUP BY e.status{}",
                FAILURES.map(|status| format!(
                    " UNION ALL SELECT '{status}', COUNT(*) FROM sync_events e WHERE {}",
                    is_failure(d, status)
                )).concat()
            )
            .into(),
            few_rows: total(
                "'rows'",
                &format!(
                    "(SELECT 1 AS one FROM sync_events LIMIT {}) AS few",
                    COUNTED_EXACTLY + 1
                ),
            ),
            about_rows: d.estimate("sync_events").into(),
            errors: format!(
                "SELECT COALESCE(u.error_message, '') AS label, COUNT(*) AS total FROM ({}) AS u \
                 GROUP BY COALESCE(u.error_message, '') ORDER BY COUNT(*) DESC LIMIT $1",
                FAILURES.map(|status| format!(
                    "SELECT * FROM (SELECT e.error_message FROM sync_events e WHERE {} \
                     ORDER BY e.created_at DESC, e.id DESC LIMIT {ERRORS_LOOKED_AT}) AS {status}_rows",
                    is_failure(d, status)
                )).join(" UNION ALL ")
            )
            .into(),
            ledger_entry: format!("SELECT {ENTRY_COLUMNS} FROM sync_events e WHERE e.id = $1")
                .into(),
            behavior: "SELECT user_id, resource_type, resource_id, behavior_type, version, source, \
                 behavior_time, stream_sequence, created_at FROM user_behaviors \
                 WHERE event_id = $1"
                .to_owned()
                .into(),
            event_history: "SELECT step, retry_count, fencing_token, error_message, operator, \
                 created_at FROM sync_event_history WHERE event_id = $1 \
                 ORDER BY history_id LIMIT $2"
                .to_owned()
                .into(),
            retriable: format!(
                "SELECT {LEDGER_COLUMNS} FROM {ids} {join} sync_events e ON e.id = r.event_id \
                 WHERE e.status IN ('failed', 'dead'){}",
                d.for_update("e")
            )
            .into(),
            discardable: format!(
                "SELECT {LEDGER_COLUMNS} FROM {ids} {join} sync_events e ON e.id = r.event_id \
                 WHERE e.status IN ('failed', 'dead') OR (e.status IN ('pending', 'processing') \
                 AND e.next_attempt_at <= {now}){}",
                d.for_update("e")
            )
            .into(),
            retry: d
                .update(
                    "sync_events",
                    &ids,
                    "e.id = r.event_id",
                    &[
                        ("status", "'failed'"),
                        ("retry_count", "0"),
                        ("priority", "$3"),
                        ("next_attempt_at", &now),
                        ("lease_until", "NULL"),
                        ("fencing_token", "e.fencing_token + 1"),
                        ("updated_at", &now),
                        ("processed_at", "NULL"),
                    ],
                )
                .into(),
            discard: d
                .update(
                    "sync_events",
                    &d.rows("$1", &[Word("event_id"), Text("error")]),
                    "e.id = r.event_id",
                    &[
                        ("status", "'dead'"),
                        ("error_message", "r.error"),
                        ("next_attempt_at", "NULL"),
                        ("lease_until", "NULL"),
                        ("fencing_token", "e.fencing_token + 1"),
                        ("updated_at", &now),
                        ("processed_at", &now),
                    ],
                )
                .into(),
            insert_job: format!(
                "INSERT INTO jobs (id, kind, state, spec, requested_by, slot, done, changed, \
                 fencing_token, created_at, updated_at) SELECT r.id, r.job_kind, 'queued', r.spec, \
                 r.requested_by, r.slot, 0, 0, 0, {now}, {now} FROM {} WHERE true {}",
                d.rows(
                    "$1",
                    &[
                        Word("id"),
                        Word("job_kind"),
                        Text("spec"),
                        Text("requested_by"),
                        Word("slot"),
                    ]
                ),
                d.on_conflict("jobs", &["slot"], &[])
            )
            .into(),
            snapshot_size: total("'snapshot'", "job_events WHERE job_id = $1"),
            set_total: "UPDATE jobs SET total = $2 WHERE id = $1".to_owned().into(),
            lock_job: format!("{job}{}", d.for_update("j")).into(),
            job: job.into(),
            jobs: jobs(""),
            jobs_of_kind: jobs("WHERE j.kind = $2"),
            free_job: format!(
                "SELECT {JOB_COLUMNS} FROM jobs j WHERE {FREE}{}) \
                 ORDER BY j.created_at LIMIT 1{}",
                d.time("$1"),
                d.skip_locked("j")
            )
            .into(),
            free_job_of_id: format!(
                "SELECT {JOB_COLUMNS} FROM jobs j WHERE {FREE}{}) AND j.id = $2{}",
                d.time("$1"),
                d.for_update("j")
            )
            .into(),
            claim_job: format!(
                "UPDATE jobs SET state = 'running', fencing_token = fencing_token + 1, \
                 updated_at = {now}, lease_until = {} WHERE id = $1",
                d.time("$3")
            )
            .into(),
            next_events: "SELECT event_id AS bound FROM job_events WHERE job_id = $1 \
                 AND event_id > $2 ORDER BY event_id LIMIT $3"
                .to_owned()
                .into(),
            set_outcomes: d
                .update(
                    "job_events",
                    &d.rows("$1", &[Word("job_id"), Word("event_id"), Word("outcome")]),
                    "e.job_id = r.job_id AND e.event_id = r.event_id",
                    &[("outcome", "r.outcome")],
                )
                .into(),
            move_job: format!(
                "UPDATE jobs SET updated_at = {now}, done = done + $3, changed = changed + $4, \
                 position = $5, state = $6, lease_until = {}, \
                 finished_at = CASE WHEN $6 = 'running' THEN NULL ELSE {now} END WHERE id = $1",
                d.time("$7")
            )
            .into(),
            report_job: format!(
                "UPDATE jobs SET updated_at = {now}, total = NULLIF($3, -1), done = $4, changed = $5, \
                 state = $6, result = {}, error_message = {}, lease_until = {}, \
                 position = COALESCE({}, position), finished_at = CASE WHEN $6 IN ('queued', 'running') THEN NULL ELSE {now} END \
                 WHERE id = $1",
                optional("$7"),
                optional("$8"),
                d.time("$9"),
                optional("$10")
            )
            .into(),
            cancel_job: format!(
                "UPDATE jobs SET state = 'cancelled', updated_at = {now}, finished_at = {now}, \
                 lease_until = NULL WHERE id = $1"
            )
            .into(),
            prunable_jobs: format!(
                "SELECT j.id AS bound FROM jobs j WHERE j.finished_at < {} \
                 ORDER BY j.finished_at LIMIT $2{}",
                d.time("$1"),
                d.skip_locked("j")
            )
            .into(),
            delete_job_events: d
                .delete("job_events", &ids, &[("job_id", "r.event_id")])
                .into(),
            delete_jobs: d.delete("jobs", &ids, &[("id", "r.event_id")]).into(),
            lock_quarantined: format!("{quarantine_entry}{}", d.for_update("q")).into(),
            quarantine_entry: quarantine_entry.into(),
            resolve: format!(
                "UPDATE quarantined_events SET resolved_at = {now}, resolution = $3, \
                 resolved_by = $4 WHERE id = $1"
            )
            .into(),
        }
    }

    /// The ways through the ledger that together pass all rows which a filter matches.
    pub(in crate::store) fn ways(&self, filter: &LedgerFilter) -> Vec<Way> {
        let d = self.dialect;
        let narrow = filter.resource_type.is_some()
            || filter.resource_id.is_some()
            || filter.error.is_some();
        match filter.status {
            Some(status @ (Status::Failed | Status::Dead)) => vec![Way {
                rows: Rows::Ledger(is_failure(d, status.as_str())),
                windowed: narrow || filter.user_id.is_some(),
            }],
            Some(Status::Pending | Status::Processing) => vec![Way {
                rows: Rows::Open,
                windowed: false,
            }],
            _ if filter.user_id.is_some() => vec![Way {
                rows: Rows::OfUser,
                windowed: false,
            }],
            Some(Status::Completed) => vec![Way {
                rows: Rows::Ledger(d.walk_of_completed().to_owned()),
                windowed: true,
            }],
            None => d
                .walks()
                .iter()
                .map(|walk| Way {
                    rows: Rows::Ledger((*walk).to_owned()),
                    windowed: narrow,
                })
                .collect(),
        }
    }

    /// The last row of the window that one page of a search looks at, if there are more rows than that.
    pub(in crate::store) fn window_end(
        &self,
        way: &Way,
        filter: &LedgerFilter,
        after: Option<Place<'_>>,
    ) -> (Statement, Vec<Param>) {
        let d = self.dialect;
        let mut conditions = Conditions::default();
        conditions.times(d, filter);
        conditions.below(d, after);
        let from = self.from(way, filter, &mut conditions);
        let sql = format!(
            "SELECT e.created_at, e.id FROM {from} WHERE {} \
             ORDER BY e.created_at DESC, e.id DESC LIMIT 1 OFFSET {WINDOW}",
            conditions.sql()
        );
        (sql.into(), conditions.params)
    }

    /// Ledger rows of one way that a filter matches, newest first, below one place and down to another.
    pub(in crate::store) fn search(
        &self,
        way: &Way,
        filter: &LedgerFilter,
        (after, end): (Option<Place<'_>>, Option<Place<'_>>),
        limit: usize,
    ) -> (Statement, Vec<Param>) {
        let d = self.dialect;
        let mut conditions = Conditions::of(d, filter);
        conditions.below(d, after);
        conditions.down_to(d, end);
        let from = self.from(way, filter, &mut conditions);
        let limit = conditions.param(Param::limit(limit));
        let sql = format!(
            "SELECT {ENTRY_COLUMNS} FROM {from} WHERE {} \
             ORDER BY e.created_at DESC, e.id DESC LIMIT {limit}",
            conditions.sql()
        );
        (sql.into(), conditions.params)
    }

    /// What a way reads from.
    fn from(&self, way: &Way, filter: &LedgerFilter, conditions: &mut Conditions) -> String {
        let d = self.dialect;
        match &way.rows {
            Rows::Ledger(condition) => {
                conditions.and(condition.clone());
                "sync_events e".to_owned()
            }
            Rows::Open => d.open_rows(),
            Rows::OfUser => {
                let (join, fence) = (d.join(), d.fence());
                let user_id = conditions.param(Param::Number(filter.user_id.unwrap_or_default()));
                format!(
                    "(SELECT s.* FROM (SELECT b.event_id FROM user_behaviors b \
                     WHERE b.user_id = {user_id}{fence}) AS r \
                     {join} sync_events s ON s.id = r.event_id{fence}) AS e"
                )
            }
        }
    }

    /// How many rows of each status a job would take.
    pub(in crate::store) fn count_matching(
        &self,
        kind: JobKind,
        filter: &LedgerFilter,
    ) -> (Statement, Vec<Param>) {
        let mut conditions = Conditions::of(self.dialect, filter);
        let rows = self.job_rows("e.status", kind, &mut conditions);
        let sql = format!(
            "SELECT u.status AS label, COUNT(*) AS total FROM ({rows}) AS u GROUP BY u.status"
        );
        (sql.into(), conditions.params)
    }

    /// Takes a job's snapshot: one row more than a job can take, if there are so many.
    pub(in crate::store) fn snapshot(
        &self,
        job_id: &str,
        kind: JobKind,
        filter: &LedgerFilter,
    ) -> (Statement, Vec<Param>) {
        let mut conditions = Conditions::of(self.dialect, filter);
        let rows = self.job_rows("e.id", kind, &mut conditions);
        let job = conditions.text(job_id.to_owned());
        let limit = conditions.param(Param::limit(JOB_LIMIT + 1));
        let sql = format!(
            "INSERT INTO job_events (job_id, event_id) SELECT {job}, u.id FROM ({rows}) AS u \
             LIMIT {limit}"
        );
        (sql.into(), conditions.params)
    }

    /// A column of the rows that match and that a job of this kind can do something to: failed and dead ones,
    /// and open ones for a discard. Their number bounds what this costs.
    fn job_rows(&self, column: &str, kind: JobKind, conditions: &mut Conditions) -> String {
        let d = self.dialect;
        let matching = conditions.sql();
        let mut ways = FAILURES
            .map(|status| {
                let failure = is_failure(d, status);
                format!("SELECT {column} FROM sync_events e WHERE {failure} AND {matching}")
            })
            .to_vec();
        if kind != JobKind::Retry {
            ways.push(format!(
                "SELECT {column} FROM {} WHERE e.status IN ('pending', 'processing') AND {matching}",
                d.open_rows()
            ));
        }
        ways.join(" UNION ALL ")
    }

    /// Messages in quarantine, newest first.
    pub(in crate::store) fn quarantine_entries(
        &self,
        resolved: Option<bool>,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> (Statement, Vec<Param>) {
        let mut conditions = Conditions::default();
        if let Some(resolved) = resolved {
            let not = if resolved { "NOT " } else { "" };
            conditions.and(format!("q.resolved_at IS {not}NULL"));
        }
        if let Some((moment, id)) = after {
            let moment = conditions.text(moment.to_owned());
            let moment = self.dialect.time(&moment);
            let id = conditions.text(id.to_owned());
            conditions.and(format!(
                "(q.created_at < {moment} OR (q.created_at = {moment} AND q.id < {id}))"
            ));
        }
        let limit = conditions.param(Param::limit(limit));
        let sql = format!(
            "SELECT {} FROM quarantined_events q WHERE {} \
             ORDER BY q.created_at DESC, q.id DESC LIMIT {limit}",
            quarantine_columns(self.dialect),
            conditions.sql()
        );
        (sql.into(), conditions.params)
    }
}

fn quarantine_columns(d: &dyn Dialect) -> String {
    format!(
        "q.id, q.stream_sequence, q.subject, q.message_id, q.reason, {} AS payload, q.created_at, \
         q.resolution, q.resolved_by, q.resolved_at",
        d.hex("q.payload")
    )
}

/// Conditions that all must hold, and their parameters.
#[derive(Default)]
struct Conditions {
    all: Vec<String>,
    params: Vec<Param>,
}

impl Conditions {
    fn of(d: &dyn Dialect, filter: &LedgerFilter) -> Self {
        let mut conditions = Self::default();
        if let Some(status) = filter.status {
            let status = conditions.text(status.as_str().to_owned());
            conditions.and(format!("e.status = {status}"));
        }
        if let Some(resource_type) = filter.resource_type {
            let resource_type = conditions.text(resource_type.as_str().to_owned());
            conditions.and(format!("e.resource_type = {resource_type}"));
        }
        if let Some(resource_id) = filter.resource_id {
            let resource_id = conditions.param(Param::Number(resource_id));
            conditions.and(format!("e.resource_id = {resource_id}"));
        }
        if let Some(user_id) = filter.user_id {
            let user_id = conditions.param(Param::Number(user_id));
            conditions.and(format!("e.user_id = {user_id}"));
        }
        conditions.times(d, filter);
        if let Some(error) = &filter.error {
            let error = conditions.text(contains(error));
            conditions.and(format!(
                "LOWER(COALESCE(e.error_message, '')) LIKE {error} ESCAPE '!'"
            ));
        }
        conditions
    }

    /// What a filter says of the time.
    fn times(&mut self, d: &dyn Dialect, filter: &LedgerFilter) {
        if let Some(since) = filter.since {
            let since = self.param(Param::time(since));
            self.and(format!("e.created_at >= {}", d.time(&since)));
        }
        if let Some(until) = filter.until {
            let until = self.param(Param::time(until));
            self.and(format!("e.created_at < {}", d.time(&until)));
        }
    }

    /// Rows older than this place. The first comparison is there for the index.
    fn below(&mut self, d: &dyn Dialect, place: Option<Place<'_>>) {
        if let Some((moment, id)) = place {
            let (moment, id) = self.place(d, (moment, id));
            self.and(format!(
                "e.created_at <= {moment} AND (e.created_at < {moment} OR e.id < {id})"
            ));
        }
    }

    /// Rows no older than this place. The first comparison is there for the index.
    fn down_to(&mut self, d: &dyn Dialect, place: Option<Place<'_>>) {
        if let Some((moment, id)) = place {
            let (moment, id) = self.place(d, (moment, id));
            self.and(format!(
                "e.created_at >= {moment} AND (e.created_at > {moment} OR e.id >= {id})"
            ));
        }
    }

    fn place(&mut self, d: &dyn Dialect, (moment, id): Place<'_>) -> (String, String) {
        let moment = self.text(moment.to_owned());
        (d.time(&moment), self.text(id.to_owned()))
    }

    fn and(&mut self, condition: String) {
        self.all.push(condition);
    }

    fn param(&mut self, param: Param) -> String {
        self.params.push(param);
        format!("${}", self.params.len())
    }

    fn text(&mut self, text: String) -> String {
        self.param(Param::Text(text))
    }

    fn sql(&self) -> String {
        if self.all.is_empty() {
            return "true".to_owned();
        }
        self.all.join(" AND ")
    }
}

/// A pattern of `LIKE` for text that contains this.
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
