//! Erasing from what operators and workers wrote: parameters, results and reasons of jobs, reasons in the history of
//! events, and the places of imports.

use chrono::{DateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use serde_json::Value;

use super::{EXAMINED, Erased, Sweep, Swept, json_of, note};
use crate::domain::{DataSubject, Id};
use crate::store::dialect::Column::{Number, Text as AnyText};
use crate::store::error::StoreError;
use crate::store::examined::{examine, last_key};
use crate::store::jobs::{CANCEL, JOB_COLUMNS, JobRow};
use crate::store::session::{Session, Sql};
use crate::store::statement::Param;

pub(super) async fn jobs<S: Session>(
    session: &mut S,
    sweep: &Sweep,
    own: &str,
    after: &str,
    limit: usize,
    now: DateTime<Utc>,
) -> Result<Swept, StoreError> {
    let d = session.schema();
    let params = [Param::Text(after.to_owned()), Param::limit(limit)];
    let rows: Vec<JobRow> = session.load(JOB_PAGE.on(d), &params).await?;
    let mut swept = Swept::default();
    for row in rows {
        let mut job = row.job()?;
        swept.position = Some(job.id.clone());
        let is_about = sweep.subject.redact(&mut job.spec);
        let mut changed = is_about;
        if let Some(result) = &mut job.result {
            changed |= sweep.subject.redact(result);
        }
        let mut error = job.error_message.unwrap_or_default();
        if changed || is_distinctive(&sweep.subject) {
            changed |= sweep.subject.redact_text(&mut error);
            if let Some(Value::String(reason)) = job.spec.get_mut("reason") {
                changed |= sweep.subject.redact_text(reason);
            }
        }
        if changed && job.id != own {
            if is_about && job.state.is_open() && job.kind.is_of_user() {
                let params = [Param::Text(job.id.clone()), Param::time(now)];
                session.execute(CANCEL.on(d), &params).await?;
            }
            let params = [
                Param::Text(job.id),
                Param::Text(job.spec.to_string()),
                Param::Text(job.result.map(|json| json.to_string()).unwrap_or_default()),
                Param::Text(error),
            ];
            session.execute(REDACT_JOB.on(d), &params).await?;
            swept.rows += 1;
        }
    }
    let erased = Erased {
        redacted_jobs: swept.rows as u64,
        ..Erased::default()
    };
    note(session, &sweep.digest, erased).await?;
    Ok(swept)
}

/// Parameters: the id after which, the most rows.
static JOB_PAGE: Sql = Sql::new(|d| {
    format!(
        "SELECT {JOB_COLUMNS} FROM likewise_jobs j WHERE j.id > $1 ORDER BY j.id LIMIT $2{}",
        d.for_update("j")
    )
});

/// Parameters: the job's id, the spec, the result and the error, or empty texts.
static REDACT_JOB: Sql = Sql::new(|_| {
    "UPDATE likewise_jobs SET spec = $2, result = NULLIF($3, ''), error_message = NULLIF($4, '') \
     WHERE id = $1"
        .to_owned()
});

/// Looks through the next entries of all histories, because the reason of a decision about somebody may name others.
pub(super) async fn history<S: Session>(
    session: &mut S,
    sweep: &Sweep,
    after: &str,
) -> Result<Swept, StoreError> {
    if !is_distinctive(&sweep.subject) {
        return Ok(Swept::default());
    }
    let d = session.schema();
    let after: i64 = after.parse().unwrap_or_default();
    let Some(examined) = examine(session, &LAST_HISTORY, after, EXAMINED).await? else {
        return Ok(Swept::default());
    };
    let params = [Param::Number(after), Param::Number(examined.last)];
    let rows: Vec<ReasonRow> = session.load(REASONS.on(d), &params).await?;
    let mut redacted = Vec::new();
    for mut row in rows {
        if sweep.subject.redact_text(&mut row.reason) {
            redacted.push((row.history_id, row.reason));
        }
    }
    let mut erased = Erased::default();
    if !redacted.is_empty() {
        let params = [Param::rows(&redacted)];
        erased.redacted_reasons = session.execute(REDACT_REASONS.on(d), &params).await? as u64;
    }
    note(session, &sweep.digest, erased).await?;
    Ok(Swept {
        rows: redacted.len(),
        position: examined.next.map(|next| next.to_string()),
        ..Swept::default()
    })
}

/// Whether the id means the subject wherever it is a word. A number in a text about somebody else may count something.
const fn is_distinctive(subject: &DataSubject) -> bool {
    !matches!(subject.id(), Id::Number(_))
}

/// An entry of a history with a reason or an error.
#[derive(Debug, QueryableByName)]
struct ReasonRow {
    #[diesel(sql_type = BigInt)]
    history_id: i64,
    #[diesel(sql_type = Text)]
    reason: String,
}

/// Parameters: the id after which, the most rows.
static LAST_HISTORY: Sql = Sql::new(|d| last_key(d, "likewise_sync_event_history", "history_id"));

/// Parameters: the id after which, the last id.
static REASONS: Sql = Sql::new(|_| {
    "SELECT h.history_id, h.error_message AS reason FROM likewise_sync_event_history h \
     WHERE h.history_id > $1 AND h.history_id <= $2 AND h.error_message IS NOT NULL"
        .to_owned()
});

/// Parameters: rows `(number, reason)`.
static REDACT_REASONS: Sql = Sql::new(|d| {
    d.update(
        "likewise_sync_event_history",
        &d.rows("$1", &[Number("number"), AnyText("reason")]),
        "e.history_id = r.number",
        &[("error_message", "r.reason")],
    )
});

/// Forgets the places of imports that are a row of the subject. Those imports begin anew, and find their events recorded.
pub(super) async fn forget_places<S: Session>(
    session: &mut S,
    sweep: &Sweep,
) -> Result<(), StoreError> {
    let d = session.schema();
    let open: Vec<PlaceRow> = session.load(OPEN_PLACES.on(d), &[]).await?;
    let id = sweep.subject.id().text();
    for row in open {
        let named = json_of(&row.position).is_some_and(|place| has_text(&place, &id));
        if named {
            let params = [Param::Number(row.import_id)];
            session.execute(FORGET_PLACE.on(d), &params).await?;
        }
    }
    Ok(())
}

fn has_text(json: &Value, text: &str) -> bool {
    match json {
        Value::String(found) => found == text,
        Value::Array(items) => items.iter().any(|item| has_text(item, text)),
        Value::Object(fields) => fields.values().any(|value| has_text(value, text)),
        _ => false,
    }
}

/// A lane of an import that has not ended.
#[derive(Debug, QueryableByName)]
struct PlaceRow {
    #[diesel(sql_type = BigInt)]
    import_id: i64,
    #[diesel(sql_type = Text)]
    position: String,
}

/// A lane without a position has none to forget.
static OPEN_PLACES: Sql = Sql::new(|d| {
    format!(
        "SELECT l.import_id, l.position FROM likewise_import_lanes l WHERE l.position <> '' \
         ORDER BY l.import_id, l.lane{}",
        d.for_update("l")
    )
});

/// Parameters: the import's number.
static FORGET_PLACE: Sql =
    Sql::new(|_| "UPDATE likewise_import_lanes SET position = '' WHERE import_id = $1".to_owned());
