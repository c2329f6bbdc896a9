//! Erasing from stored messages: facts that wait for a receiver, and messages in quarantine.

use super::events::owned;
use super::{EXAMINED, Erased, Sweep, Swept, names, note};
use crate::store::dialect::Column::Word;
use crate::store::error::StoreError;
use crate::store::examined::{examine, last_key};
use crate::store::quarantine;
use crate::store::session::{Session, Sql};
use crate::store::statement::Param;

pub(super) async fn facts<S: Session>(
    session: &mut S,
    sweep: &Sweep,
    after: &str,
) -> Result<Swept, StoreError> {
    let d = session.schema();
    let after: i64 = after.parse().unwrap_or_default();
    let Some(examined) = examine(session, &LAST_FACT, after, EXAMINED).await? else {
        return Ok(Swept::default());
    };
    let (id, owned) = owned(d, &sweep.subject, "likewise_outbox", "$1");
    let statement = d.statement(format!(
        "DELETE FROM likewise_outbox WHERE {owned} AND likewise_outbox.id > $2 \
         AND likewise_outbox.id <= $3"
    ));
    let params = [id, Param::Number(after), Param::Number(examined.last)];
    let rows = session.execute(&statement, &params).await?;
    let erased = Erased {
        facts: rows as u64,
        ..Erased::default()
    };
    note(session, &sweep.digest, erased).await?;
    Ok(Swept {
        rows,
        position: examined.next.map(|next| next.to_string()),
        ..Swept::default()
    })
}

/// Parameters: the id after which, the most rows.
pub(in crate::store) static LAST_FACT: Sql = Sql::new(|d| last_key(d, "likewise_outbox", "id"));

pub(super) async fn quarantined<S: Session>(
    session: &mut S,
    sweep: &Sweep,
    after: &str,
    limit: usize,
) -> Result<Swept, StoreError> {
    let d = session.schema();
    let params = [Param::Text(after.to_owned()), Param::limit(limit)];
    let entries = quarantine::load(session, QUARANTINE_PAGE.on(d), &params).await?;
    let mut swept = Swept::default();
    let mut named = Vec::new();
    for entry in &entries {
        let id = entry.event.id.hyphenated().to_string();
        match sweep
            .subject
            .is_named_in_bytes(&entry.event.payload, &names(d))
        {
            Some(true) => named.push((id.clone(),)),
            Some(false) => {}
            None => swept.unreadable += 1,
        }
        swept.position = Some(id);
    }
    if !named.is_empty() {
        let params = [Param::rows(&named)];
        swept.rows = session.execute(DELETE_QUARANTINED.on(d), &params).await?;
        let erased = Erased {
            quarantined_messages: swept.rows as u64,
            ..Erased::default()
        };
        note(session, &sweep.digest, erased).await?;
    }
    Ok(swept)
}

/// Parameters: the id after which, the most rows.
pub(in crate::store) static QUARANTINE_PAGE: Sql = Sql::new(|d| {
    format!(
        "{} WHERE q.id > $1 ORDER BY q.id LIMIT $2",
        quarantine::messages(d)
    )
});

/// Parameters: rows `(message)`.
static DELETE_QUARANTINED: Sql = Sql::new(|d| {
    let rows = d.rows("$1", &[Word("message")]);
    d.delete("likewise_quarantined_events", &rows, &[("id", "r.message")])
});
