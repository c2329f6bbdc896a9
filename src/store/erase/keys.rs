//! Erasing idempotency keys, and the parts of the erased in stored answers.

use diesel::prelude::QueryableByName;
use diesel::sql_types::{Nullable, Text};
use serde_json::{Value, json};

use super::{Erased, Sweep, Swept, json_of, names, note};
use crate::domain::{DataSubject, Names};
use crate::store::dialect::Column::{Text as AnyText, Word};
use crate::store::error::StoreError;
use crate::store::session::{Session, Sql};
use crate::store::statement::Param;

/// An idempotency key with its caller and the stored answer.
#[derive(Debug, QueryableByName)]
pub(in crate::store) struct KeyRow {
    #[diesel(sql_type = Text)]
    pub(in crate::store) id: String,
    #[diesel(sql_type = Text)]
    pub(in crate::store) caller: String,
    #[diesel(sql_type = Text)]
    pub(in crate::store) idempotency_key: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub(in crate::store) answer: Option<String>,
}

pub(super) async fn keys<S: Session>(
    session: &mut S,
    sweep: &Sweep,
    after: &str,
    limit: usize,
) -> Result<Swept, StoreError> {
    let d = session.schema();
    let params = [Param::Text(after.to_owned()), Param::limit(limit)];
    let rows: Vec<KeyRow> = session.load(KEY_PAGE.on(d), &params).await?;
    let (mut owned, mut shared) = (Vec::new(), Vec::new());
    for row in &rows {
        match key_of(row, &sweep.subject, &names(d)) {
            KeyOf::Others => {}
            KeyOf::Subject => owned.push((&row.id,)),
            KeyOf::Both(answer) => shared.push((&row.id, answer)),
        }
    }
    let mut erased = Erased::default();
    if !owned.is_empty() {
        let params = [Param::rows(&owned)];
        erased.idempotency_keys = session.execute(DELETE_KEYS.on(d), &params).await? as u64;
    }
    if !shared.is_empty() {
        session
            .execute(REDACT_KEYS.on(d), &[Param::rows(&shared)])
            .await?;
        erased.redacted_answers = shared.len() as u64;
    }
    note(session, &sweep.digest, erased).await?;
    Ok(Swept {
        rows: owned.len() + shared.len(),
        position: rows.last().map(|row| row.id.clone()),
        ..Swept::default()
    })
}

/// Whose a key is.
pub(in crate::store) enum KeyOf {
    /// Of others alone.
    Others,
    /// Of the subject alone.
    Subject,
    /// Of a batch that names others too, with the answer in which the subject is replaced.
    Both(String),
}

/// Tells whose a key is: by its caller, who may be a user, and by whom the stored answer names.
pub(in crate::store) fn key_of(row: &KeyRow, subject: &DataSubject, names: &Names<'_>) -> KeyOf {
    if let DataSubject::User(_) = subject
        && row.caller == subject.to_string()
    {
        return KeyOf::Subject;
    }
    let Some(mut answer) = row.answer.as_deref().and_then(json_of) else {
        return KeyOf::Others;
    };
    if !subject.is_named_in(&answer, names) {
        return KeyOf::Others;
    }
    let Some(results) = answer["results"].as_array_mut() else {
        return KeyOf::Subject;
    };
    let named = |item: &Value| subject.is_named_in(item, names);
    if results.iter().all(named) {
        return KeyOf::Subject;
    }
    for item in results.iter_mut().filter(|item| named(item)) {
        *item = refused(subject);
    }
    KeyOf::Both(answer.to_string())
}

/// The result of a behavior of an erased subject, as the API answers it.
fn refused(subject: &DataSubject) -> Value {
    let kind = subject.kind().as_str();
    json!({"status": 410, "problem": {
        "type": format!("urn:likewise:problem:{kind}_erased"),
        "title": "Erased",
        "status": 410,
        "detail": format!("the {kind} was erased"),
        "code": format!("{kind}_erased"),
    }})
}

/// Parameters: the id after which, the most rows.
pub(in crate::store) static KEY_PAGE: Sql = Sql::new(|_| {
    "SELECT k.id, k.caller, k.idempotency_key, k.answer FROM likewise_idempotency_keys k \
     WHERE k.id > $1 ORDER BY k.id LIMIT $2"
        .to_owned()
});

/// Parameters: rows `(request_id)`.
static DELETE_KEYS: Sql = Sql::new(|d| {
    let rows = d.rows("$1", &[Word("request_id")]);
    d.delete(
        "likewise_idempotency_keys",
        &rows,
        &[("id", "r.request_id")],
    )
});

/// The id, a hash of caller and key, stays, so that the request is still answered once. Parameters: rows
/// `(request_id, answer)`.
static REDACT_KEYS: Sql = Sql::new(|d| {
    d.update(
        "likewise_idempotency_keys",
        &d.rows("$1", &[Word("request_id"), AnyText("answer")]),
        "e.id = r.request_id",
        &[("answer", "r.answer"), ("idempotency_key", "'erased'")],
    )
});
