//! Reads what the cache lacks: all rows of some users, the states of some pairs, and the counts of some resources. Called
//! by the cache writer and the cache audit.

use std::collections::{BTreeMap, BTreeSet};

use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Text};

use super::dialect::Column::User;
use super::error::StoreError;
use super::ids::AnyId;
use super::reads::{Found, find};
use super::schema::likes_table;
use super::session::{Mode, Param, Session, Sql};
use super::text::word;
use super::{Store, read};
use crate::domain::{Id, Pair, Resource, UserId, Version, VersionedState};

/// What the cache lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The users of whom all rows are wanted.
    pub users: BTreeSet<UserId>,
    /// The pairs of other users.
    pub pairs: BTreeSet<Pair>,
    /// The resources whose counts are wanted.
    pub resources: BTreeSet<Resource>,
}

/// What the database holds of it, as of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// All rows of the users, liked and unliked; `None` of a user who has more than the limit.
    pub users: BTreeMap<UserId, Option<Vec<(Resource, VersionedState)>>>,
    /// The states and the counts.
    pub found: Found,
}

/// The number of rows that one statement loads for all its users. Beyond it, each user's rows are loaded alone.
const ROWS: usize = 50_000;

impl Store {
    /// Reads users with at most `limit` rows, the states of pairs, and counts, from one snapshot.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn load_entries(&self, wanted: &Wanted, limit: usize) -> Result<Loaded, StoreError> {
        read!(self, self.timeout, |session| load_entries(
            session, wanted, limit
        ))
    }
}

async fn load_entries<S: Session>(
    session: &mut S,
    wanted: &Wanted,
    limit: usize,
) -> Result<Loaded, StoreError> {
    // Of one kind, one statement reads all: its own snapshot suffices.
    if wanted.users.is_empty() && wanted.pairs.is_empty() {
        return load(session, wanted, limit).await;
    }
    session.begin(Mode::Snapshot).await?;
    let outcome = load(session, wanted, limit).await;
    session.end(outcome).await
}

async fn load<S: Session>(
    session: &mut S,
    wanted: &Wanted,
    limit: usize,
) -> Result<Loaded, StoreError> {
    let found = find(session, &wanted.pairs, &wanted.resources).await?;
    let mut users: BTreeMap<UserId, Option<Vec<_>>> = BTreeMap::new();
    if !wanted.users.is_empty() {
        let rows = rows_of(session, wanted.users.iter(), ROWS).await?;
        if rows.len() <= ROWS {
            users.extend(
                wanted
                    .users
                    .iter()
                    .map(|user_id| (user_id.clone(), Some(Vec::new()))),
            );
            for row in &rows {
                let (resource, state) = row.state()?;
                if let Some(Some(held)) = users.get_mut(&row.user_id) {
                    held.push((resource, state));
                }
            }
        } else {
            for user_id in &wanted.users {
                let rows = rows_of(session, std::iter::once(user_id), limit).await?;
                let states: Result<Vec<_>, _> = rows.iter().map(UserRow::state).collect();
                users.insert(user_id.clone(), Some(states?));
            }
        }
        for held in users.values_mut() {
            if held.as_ref().is_some_and(|rows| rows.len() > limit) {
                *held = None;
            }
        }
    }
    Ok(Loaded { users, found })
}

/// Loads all rows of some users; one more than `limit` if there are more.
async fn rows_of<S: Session>(
    session: &mut S,
    users: impl Iterator<Item = &UserId>,
    limit: usize,
) -> Result<Vec<UserRow>, StoreError> {
    let users: Vec<_> = users.map(|user_id| (user_id,)).collect();
    let params = [Param::rows(&users), Param::limit(limit + 1)];
    session.load(USER_ROWS.on(session.schema()), &params).await
}

/// A row of a read model.
#[derive(Debug, QueryableByName)]
struct UserRow {
    #[diesel(sql_type = AnyId)]
    user_id: Id,
    #[diesel(sql_type = Text)]
    resource_type: String,
    #[diesel(sql_type = AnyId)]
    resource_id: Id,
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = BigInt)]
    liked: i64,
}

impl UserRow {
    fn state(&self) -> Result<(Resource, VersionedState), StoreError> {
        let resource = Resource {
            resource_type: word(&self.resource_type, "likes")?,
            id: self.resource_id.clone(),
        };
        let state = VersionedState {
            version: Version(self.version),
            liked: self.liked == 1,
        };
        Ok((resource, state))
    }
}

/// The rows of users in all read models, by their primary keys. Parameters: rows `(user_id)`, the most rows.
static USER_ROWS: Sql = Sql::new(|d| {
    let (rows, join) = (d.rows("$1", &[User("user_id")]), d.join());
    let liked = d.number("CASE WHEN l.deleted_at IS NULL THEN 1 ELSE 0 END");
    let of_type = |resource_type| {
        let (table, id) = likes_table(resource_type);
        format!(
            "SELECT l.user_id, '{resource_type}' AS resource_type, l.{id} AS resource_id, l.version, \
             {liked} AS liked FROM {rows} {join} {table} l ON l.user_id = r.user_id"
        )
    };
    let all: Vec<_> = d.resource_types().iter().map(of_type).collect();
    format!("{} LIMIT $2", all.join(" UNION ALL "))
});
