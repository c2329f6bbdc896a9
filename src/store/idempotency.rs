//! Requests with an `Idempotency-Key`: which attempt holds one, and the stored response. The idempotency keeper
//! calls it; pruning deletes old keys.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamp};
use uuid::Uuid;

use super::dialect::Column::{Number, Text as AnyText, Time, Word};
use super::error::StoreError;
use super::session::{IdRow, Session, Sql};
use super::statement::{Param, time_text};
use super::text::id_text;
use super::{Store, transact};
use crate::domain::{KeyedRequest, Started, StoredRequest, Version};

/// The response of an attempt at a request with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResponse {
    /// The id of the request: the hash of caller and key.
    pub id: String,
    /// The attempt that did the request.
    pub holder: Uuid,
    /// The body of the response; `None` if the request may be tried again.
    pub answer: Option<String>,
}

impl Store {
    /// Starts attempts at requests with keys, and leases the requests to those that may do them. Returns how each
    /// attempt starts. A second call for the same attempts changes nothing.
    ///
    /// # Errors
    /// If the database cannot be reached, or refuses the data.
    pub async fn start_requests(
        &self,
        requests: &[KeyedRequest],
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> Result<Vec<Started>, StoreError> {
        transact!(self, |session| start(session, requests, now, lease_until))
    }

    /// Stores responses, except of attempts that no longer hold their request.
    ///
    /// # Errors
    /// If the database cannot be reached, or refuses the data.
    pub async fn store_responses(
        &self,
        responses: &[StoredResponse],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        transact!(self, |session| store(session, responses, now))
    }

    /// Deletes up to `limit` requests that came before this time. Returns their number.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn prune_requests(
        &self,
        before: DateTime<Utc>,
        limit: usize,
    ) -> Result<usize, StoreError> {
        transact!(self, |session| prune(session, before, limit))
    }
}

async fn start<S: Session>(
    session: &mut S,
    requests: &[KeyedRequest],
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
) -> Result<Vec<Started>, StoreError> {
    let schema = session.schema();
    let mut rows: Vec<_> = requests
        .iter()
        .map(|request| {
            (
                &request.id,
                &request.caller,
                &request.key,
                &request.fingerprint,
                id_text(request.identity.event_id),
                request.identity.version,
            )
        })
        .collect();
    // In one order everywhere: two processes with the same keys do not wait for each other.
    rows.sort();
    let ids: BTreeSet<_> = rows.iter().map(|row| (row.0,)).collect();
    let ids: Vec<_> = ids.into_iter().collect();
    let params = [
        Param::rows(&rows),
        Param::time(now),
        Param::time(lease_until),
    ];
    session.execute(INSERT.on(schema), &params).await?;
    let rows: Vec<StoredRow> = session
        .load(STORED.on(schema), &[Param::rows(&ids)])
        .await?;
    let stored: Result<BTreeMap<_, _>, _> = rows.into_iter().map(StoredRow::request).collect();
    let mut stored = stored?;
    let mut taken = Vec::new();
    let mut started = Vec::with_capacity(requests.len());
    for request in requests {
        let Some(found) = stored.get_mut(&request.id) else {
            // It was pruned in between. The next look finds the key free.
            started.push(Started::InProgress);
            continue;
        };
        let (outcome, is_taken) = found.start(request, now, lease_until);
        started.push(outcome);
        if is_taken {
            taken.push((
                &request.id,
                request.fingerprint.clone(),
                id_text(found.event_id),
                found.version,
                id_text(found.holder),
                time_text(found.created_at),
            ));
        }
    }
    if !taken.is_empty() {
        let params = [Param::rows(&taken), Param::time(lease_until)];
        session.execute(TAKE.on(schema), &params).await?;
    }
    Ok(started)
}

/// A row of `likewise_idempotency_keys`.
#[derive(Debug, QueryableByName)]
struct StoredRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Text)]
    fingerprint: String,
    #[diesel(sql_type = Text)]
    event_id: String,
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = Text)]
    holder: String,
    #[diesel(sql_type = Timestamp)]
    lease_until: NaiveDateTime,
    #[diesel(sql_type = Nullable<Text>)]
    answer: Option<String>,
    #[diesel(sql_type = Timestamp)]
    created_at: NaiveDateTime,
}

impl StoredRow {
    /// Returns its id and the request.
    fn request(self) -> Result<(String, StoredRequest), StoreError> {
        let uuid = |text: &str| {
            Uuid::parse_str(text).map_err(|error| StoreError::Unreadable {
                table: TABLE,
                reason: format!("'{text}': {error}"),
            })
        };
        let request = StoredRequest {
            event_id: uuid(&self.event_id)?,
            holder: uuid(&self.holder)?,
            fingerprint: self.fingerprint,
            version: Version(self.version),
            lease_until: self.lease_until.and_utc(),
            answer: self.answer,
            created_at: self.created_at.and_utc(),
        };
        Ok((self.id, request))
    }
}

const TABLE: &str = "likewise_idempotency_keys";

/// Inserts unused keys. Parameters: rows `(request_id, caller, request_key, fingerprint, event_id, version)`, now,
/// the end of the lease.
static INSERT: Sql = Sql::new(|d| {
    let rows = d.rows(
        "$1",
        &[
            Word("request_id"),
            AnyText("caller"),
            AnyText("request_key"),
            Word("fingerprint"),
            Word("event_id"),
            Number("version"),
        ],
    );
    let (now, lease_until) = (d.time("$2"), d.time("$3"));
    let keep = d.on_conflict(TABLE, &["id"], &[]);
    format!(
        "INSERT INTO {TABLE} (id, caller, idempotency_key, fingerprint, event_id, version, \
         holder, lease_until, created_at) SELECT r.request_id, r.caller, r.request_key, \
         r.fingerprint, r.event_id, r.version, r.event_id, {lease_until}, {now} FROM {rows} \
         WHERE true {keep}"
    )
});

/// The stored requests, locked. Parameters: rows `(request_id)`.
static STORED: Sql = Sql::new(|d| {
    let (ids, join) = (d.rows("$1", &[Word("request_id")]), d.join());
    format!(
        "SELECT k.id, k.fingerprint, k.event_id, k.version, k.holder, k.lease_until, \
         k.answer, k.created_at FROM {ids} {join} {TABLE} k ON k.id = r.request_id{}",
        d.for_update("k")
    )
});

/// Gives requests to other attempts. Parameters: rows `(request_id, fingerprint, event_id, version, holder,
/// first_seen)`, the end of the lease.
static TAKE: Sql = Sql::new(|d| {
    let rows = d.rows(
        "$1",
        &[
            Word("request_id"),
            Word("fingerprint"),
            Word("event_id"),
            Number("version"),
            Word("holder"),
            Time("first_seen"),
        ],
    );
    d.update(
        TABLE,
        &rows,
        "e.id = r.request_id",
        &[
            ("fingerprint", "r.fingerprint"),
            ("event_id", "r.event_id"),
            ("version", "r.version"),
            ("holder", "r.holder"),
            ("created_at", "r.first_seen"),
            ("answer", "NULL"),
            ("lease_until", &d.time("$2")),
        ],
    )
});

async fn store<S: Session>(
    session: &mut S,
    responses: &[StoredResponse],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let mut rows: Vec<_> = responses
        .iter()
        .map(|response| (&response.id, id_text(response.holder), &response.answer))
        .collect();
    rows.sort();
    let params = [Param::rows(&rows), Param::time(now)];
    session.execute(STORE.on(session.schema()), &params).await?;
    Ok(())
}

/// Parameters: rows `(request_id, holder, answer)`, now.
static STORE: Sql = Sql::new(|d| {
    d.update(
        TABLE,
        &d.rows(
            "$1",
            &[Word("request_id"), Word("holder"), AnyText("answer")],
        ),
        "e.id = r.request_id AND e.holder = r.holder",
        &[("answer", "r.answer"), ("lease_until", &d.time("$2"))],
    )
});

async fn prune<S: Session>(
    session: &mut S,
    before: DateTime<Utc>,
    limit: usize,
) -> Result<usize, StoreError> {
    let schema = session.schema();
    let params = [Param::time(before), Param::limit(limit)];
    let old: Vec<IdRow> = session.load(PRUNABLE.on(schema), &params).await?;
    let ids: Vec<_> = old.iter().map(|row| (&row.id,)).collect();
    if !ids.is_empty() {
        session
            .execute(DELETE.on(schema), &[Param::rows(&ids)])
            .await?;
    }
    Ok(ids.len())
}

/// Parameters: the time before which requests came, the most rows.
static PRUNABLE: Sql = Sql::new(|d| {
    let before = d.time("$1");
    format!("SELECT id FROM {TABLE} WHERE created_at < {before} LIMIT $2")
});

/// Parameters: rows `(request_id)`.
static DELETE: Sql = Sql::new(|d| {
    let ids = d.rows("$1", &[Word("request_id")]);
    d.delete(TABLE, &ids, &[("id", "r.request_id")])
});
