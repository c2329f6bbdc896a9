//! Reads what the cache lacks: all rows of some users, the states of some pairs, and the counts of some resources. Called
//! by the cache writer and the cache audit.

use std::collections::{BTreeMap, BTreeSet};

use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::dialect::Column::{self, ResourceId, User};
use super::error::StoreError;
use super::ids::AnyId;
use super::like_counts::{RESOURCE, resource_rows};
use super::reads::{Found, find};
use super::schema::{Schema, likes_table};
use super::session::{Mode, Session, Sql};
use super::statement::Param;
use super::text::word;
use super::{Store, read};
use crate::domain::{Id, LikeCount, Pair, Resource, ResourceType, UserId, Version, VersionedState};

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
    // What one statement reads needs no snapshot but its own.
    if wanted.users.is_empty() && wanted.pairs.is_empty() {
        return load_in_parts(session, wanted, limit).await;
    }
    if let Some(loaded) = load_at_once(session, wanted, limit).await? {
        return Ok(loaded);
    }
    session.begin(Mode::Snapshot).await?;
    let outcome = load_in_parts(session, wanted, limit).await;
    session.end(outcome).await
}

/// Loads all of it with one statement; `None` if the users have very many rows.
async fn load_at_once<S: Session>(
    session: &mut S,
    wanted: &Wanted,
    limit: usize,
) -> Result<Option<Loaded>, StoreError> {
    let most = ROWS + wanted.pairs.len() + wanted.resources.len();
    let rows = load_rows(session, wanted, most).await?;
    let Rows { of_users, found } = rows;
    if of_users.len() + found.states.len() + found.counts.len() > most {
        return Ok(None);
    }
    let users = by_user(wanted, limit, of_users);
    Ok(Some(Loaded { users, found }))
}

/// Loads the counts, the states of the pairs, and the rows of each user, with a statement for each of them.
async fn load_in_parts<S: Session>(
    session: &mut S,
    wanted: &Wanted,
    limit: usize,
) -> Result<Loaded, StoreError> {
    let found = find(session, &wanted.pairs, &wanted.resources).await?;
    let mut states = Vec::new();
    for user_id in &wanted.users {
        let one = Wanted {
            users: BTreeSet::from([user_id.clone()]),
            ..Wanted::default()
        };
        states.extend(load_rows(session, &one, limit).await?.of_users);
    }
    let users = by_user(wanted, limit, states);
    Ok(Loaded { users, found })
}

/// Returns the rows of each user; `None` of one who has more than `limit`.
fn by_user(
    wanted: &Wanted,
    limit: usize,
    states: impl IntoIterator<Item = (UserId, (Resource, VersionedState))>,
) -> BTreeMap<UserId, Option<Vec<(Resource, VersionedState)>>> {
    let users = wanted.users.iter().cloned();
    let mut rows: BTreeMap<UserId, Vec<_>> = users.map(|user_id| (user_id, Vec::new())).collect();
    for (user_id, state) in states {
        rows.entry(user_id).or_default().push(state);
    }
    rows.into_iter()
        .map(|(user_id, rows)| (user_id, Some(rows).filter(|rows| rows.len() <= limit)))
        .collect()
}

/// What one statement loads.
#[derive(Default)]
struct Rows {
    of_users: Vec<(UserId, (Resource, VersionedState))>,
    found: Found,
}

/// Loads what is wanted with one statement; one row more than `most` if there are more.
async fn load_rows<S: Session>(
    session: &mut S,
    wanted: &Wanted,
    most: usize,
) -> Result<Rows, StoreError> {
    let schema = session.schema();
    let users: Vec<_> = wanted.users.iter().map(|user_id| (user_id,)).collect();
    let mut params = vec![
        Param::rows(&users),
        resource_rows(&wanted.resources),
        Param::limit(most + 1),
    ];
    let mut statement = USERS_AND_COUNTS.on(schema);
    if !wanted.pairs.is_empty() {
        let of_type = |resource_type| pair_rows(&wanted.pairs, resource_type);
        params.extend(schema.resource_types().iter().map(of_type));
        statement = USERS_PAIRS_AND_COUNTS.on(schema);
    }
    let loaded: Vec<StateOrCountRow> = session.load(statement, &params).await?;
    let mut rows = Rows::default();
    for row in loaded {
        let resource = Resource {
            resource_type: word(&row.resource_type, "likes")?,
            id: row.resource_id,
        };
        let Some(user_id) = row.user_id else {
            let count = LikeCount {
                like_count: row.number,
                revision: row.flag_or_revision,
            };
            rows.found.counts.insert(resource, count);
            continue;
        };
        let state = VersionedState {
            version: Version(row.number),
            liked: row.flag_or_revision == 1,
        };
        if wanted.users.contains(&user_id) {
            rows.of_users.push((user_id, (resource, state)));
        } else {
            rows.found.states.insert(Pair { resource, user_id }, state);
        }
    }
    Ok(rows)
}

/// The columns of a pair of one resource type.
const PAIR: [Column; 2] = [User("user_id"), ResourceId("resource_id")];

/// Returns rows of [`PAIR`]: the pairs of this resource type.
fn pair_rows(pairs: &BTreeSet<Pair>, resource_type: ResourceType) -> Param {
    let mut rows: Vec<_> = pairs
        .iter()
        .filter(|pair| pair.resource.resource_type == resource_type)
        .map(|pair| (&pair.user_id, &pair.resource.id))
        .collect();
    // In the order of the primary key, whose neighbours are found in one page.
    rows.sort_unstable();
    Param::rows(&rows)
}

/// A row of a read model, or a count, which has no user.
#[derive(Debug, QueryableByName)]
struct StateOrCountRow {
    #[diesel(sql_type = Nullable<AnyId>)]
    user_id: Option<Id>,
    #[diesel(sql_type = Text)]
    resource_type: String,
    #[diesel(sql_type = AnyId)]
    resource_id: Id,
    /// The version, or the like count.
    #[diesel(sql_type = BigInt)]
    number: i64,
    /// Whether the pair is liked, or the revision of the count.
    #[diesel(sql_type = BigInt)]
    flag_or_revision: i64,
}

/// The rows of users in all read models, by their primary keys, and counts. Parameters: rows `(user_id)`, rows of
/// [`RESOURCE`], the most rows.
static USERS_AND_COUNTS: Sql = Sql::new(|d| select(d, false));

/// As [`USERS_AND_COUNTS`], with the rows of pairs. Further parameters: rows of [`PAIR`] of each resource type.
static USERS_PAIRS_AND_COUNTS: Sql = Sql::new(|d| select(d, true));

fn select(d: &Schema, with_pairs: bool) -> String {
    let (users, join) = (d.rows("$1", &[User("user_id")]), d.join());
    let is_liked = d.number("CASE WHEN l.deleted_at IS NULL THEN 1 ELSE 0 END");
    let mut selects = Vec::new();
    for (place, resource_type) in d.resource_types().iter().enumerate() {
        let (table, id) = likes_table(resource_type);
        let states_of = |rows: &str| {
            format!(
                "SELECT '{resource_type}' AS resource_type, l.{id} AS resource_id, l.version AS number, \
                 {is_liked} AS flag_or_revision, l.user_id FROM {rows} {join} {table} l \
                 ON l.user_id = r.user_id"
            )
        };
        selects.push(states_of(&users));
        if with_pairs {
            let pairs = d.rows(&format!("${}", 4 + place), &PAIR);
            selects.push(format!("{} AND l.{id} = r.resource_id", states_of(&pairs)));
        }
    }
    selects.push(format!(
        "SELECT c.resource_type, c.resource_id, c.like_count AS number, c.revision AS flag_or_revision, \
         NULL AS user_id FROM {} {join} likewise_like_counts c ON c.resource_type = r.resource_type \
         AND c.resource_id = r.resource_id",
        d.rows("$2", &RESOURCE)
    ));
    format!("{} LIMIT $3", selects.join(" UNION ALL "))
}
