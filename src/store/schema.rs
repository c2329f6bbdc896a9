//! The schema of one deployment: its dialect, and the names that its tables have. Statements are rendered for a schema.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::{Mutex, PoisonError, RwLock};

use super::dialect::{Column, Dialect};
use super::statement::Statement;
use crate::domain::{IdKind, IdKinds, ResourceType, ResourceTypes};

/// The columns of a ledger row `e` that a worker needs: see [`StoredLedgerRow`](super::ledger_row::StoredLedgerRow).
pub(super) const LEDGER_COLUMNS: &str = "e.id, e.user_id, e.resource_type, e.resource_id, \
    e.action_type, e.status, e.version, e.retry_count, e.max_retries, e.fencing_token, \
    e.next_attempt_at, e.traceparent";

/// Matches ledger rows `e` that this worker still holds: nobody has claimed them since, and they are open. The batch
/// `r` has their ids and fencing tokens.
pub(super) const HELD: &str = "e.id = r.event_id AND e.fencing_token = r.token \
    AND e.status IN ('pending', 'processing')";

/// Matches the behaviors `b` that `likewise_behavior_counts` counts: neither likes nor decisions about likes. An index has
/// exactly these: see [`Dialect::counted_resource`].
pub(super) const COUNTED_BEHAVIORS: &str =
    "b.behavior_type NOT IN ('like', 'unlike', 'void', 'restore')";

/// Returns the read model's table of a resource type, and its column of the resource's id.
pub(super) fn likes_table(resource_type: ResourceType) -> (String, String) {
    (
        format!("{resource_type}_likes"),
        format!("{resource_type}_id"),
    )
}

/// How the default names of our tables and of their indexes begin, besides those of the read models. No other word of
/// our SQL begins so.
const NAMES: [&str; 3] = ["user_behaviors", "sync_events", "likewise_"];

/// Identifies a rendered statement: the address of its [`Sql`](super::session::Sql), and the resource type.
type StatementKey = (usize, Option<ResourceType>);

/// The dialect's name, the prefix, the resource types and the kinds of ids.
type SchemaKey = (&'static str, String, String, IdKinds);

/// The dialect and the names of one deployment's tables.
///
/// The SQL in the code has the default names. Rendering puts the prefix before them.
pub(super) struct Schema {
    dialect: &'static dyn Dialect,
    prefix: String,
    resource_types: ResourceTypes,
    kinds: IdKinds,
    rendered: RwLock<HashMap<StatementKey, &'static Statement>>,
}

impl Schema {
    /// Returns the schema of these resource types, in tables whose names have this prefix. It lives as long as the
    /// process: there are few.
    pub(super) fn of(
        dialect: &'static dyn Dialect,
        prefix: &str,
        resource_types: &ResourceTypes,
        kinds: IdKinds,
    ) -> &'static Self {
        static SCHEMAS: Mutex<BTreeMap<SchemaKey, &Schema>> = Mutex::new(BTreeMap::new());
        let mut schemas = SCHEMAS.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (
            dialect.name(),
            prefix.to_owned(),
            resource_types.to_string(),
            kinds,
        );
        schemas.entry(key).or_insert_with(|| {
            Box::leak(Box::new(Self {
                dialect,
                prefix: prefix.to_owned(),
                resource_types: resource_types.clone(),
                kinds,
                rendered: RwLock::default(),
            }))
        })
    }

    /// Returns the resource types, each of which has a read model.
    pub(super) const fn resource_types(&self) -> &ResourceTypes {
        &self.resource_types
    }

    /// Returns this schema with further resource types.
    pub(super) fn with_types(&self, others: &[ResourceType]) -> &'static Self {
        let types = self.resource_types.with(others);
        Self::of(self.dialect, &self.prefix, &types, self.kinds)
    }

    /// Returns the condition that this process serves the resource type in a column.
    pub(super) fn serves(&self, column: &str) -> String {
        let words = self.resource_types.iter();
        let words: Vec<_> = words.map(|word| format!("'{word}'")).collect();
        format!("{column} IN ({})", words.join(", "))
    }

    /// Renders a migration that is written for the default settings.
    pub(super) fn migration(&self, sql: &str) -> String {
        let mut sql = sql.to_owned();
        let mut set = |column: &str, kind| {
            let default = self.dialect.id_column(IdKind::Number);
            sql = sql.replace(
                &format!("{column} {default} "),
                &format!("{column} {} ", self.dialect.id_column(kind)),
            );
        };
        set("user_id", self.kinds.users);
        set("resource_id", self.kinds.resources);
        for resource_type in self.resource_types.iter() {
            set(&likes_table(resource_type).1, self.kinds.resources);
        }
        self.named(&sql)
    }

    /// Returns the kinds of ids.
    pub(super) const fn kinds(&self) -> IdKinds {
        self.kinds
    }

    /// Returns this parameter, read as the id of a user.
    pub(super) fn user(&self, param: &str) -> String {
        self.dialect.id(self.kinds.users, param)
    }

    /// Returns this parameter, read as the id of a resource.
    pub(super) fn resource(&self, param: &str) -> String {
        self.dialect.id(self.kinds.resources, param)
    }

    /// Returns a derived table named `r` with these columns, fed by this parameter.
    pub(super) fn rows(&self, param: &str, columns: &[Column]) -> String {
        let of_kind = |kind, name| match kind {
            IdKind::Number => Column::Number(name),
            IdKind::Uuid => Column::Uuid(name),
            IdKind::Text => Column::Key(name),
        };
        let columns: Vec<_> = columns
            .iter()
            .map(|column| match *column {
                Column::User(name) => of_kind(self.kinds.users, name),
                Column::ResourceId(name) => of_kind(self.kinds.resources, name),
                column => column,
            })
            .collect();
        self.dialect.rows(param, &columns)
    }

    /// Parses a statement that is written with the default names.
    pub(super) fn statement(&self, sql: impl AsRef<str>) -> Statement {
        let sql = self.named(sql.as_ref());
        Statement::parse(&sql.replace("LIMIT $", self.dialect.limit_by_parameter()))
    }

    /// Returns a statement of fixed text, which it renders at the first use.
    pub(super) fn rendered(
        &self,
        key: StatementKey,
        render: impl FnOnce() -> String,
    ) -> &'static Statement {
        let known = self.rendered.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(statement) = known.get(&key) {
            return statement;
        }
        drop(known);
        let statement = self.statement(render());
        let mut known = self
            .rendered
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        known
            .entry(key)
            .or_insert_with(|| Box::leak(Box::new(statement)))
    }

    /// Puts the prefix before the names of tables and indexes.
    pub(super) fn named(&self, sql: &str) -> String {
        if self.prefix.is_empty() {
            return sql.to_owned();
        }
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut named = String::with_capacity(sql.len() + 64);
        let mut rest = sql;
        while !rest.is_empty() {
            let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            if self.is_name(&rest[..word]) {
                named.push_str(&self.prefix);
            }
            let gap = rest[word..].find(is_word).unwrap_or(rest.len() - word);
            named.push_str(&rest[..word + gap]);
            rest = &rest[word + gap..];
        }
        named
    }

    /// Returns whether this is the name of one of our tables.
    pub(super) fn is_own(&self, table: &str) -> bool {
        let table = table.to_ascii_lowercase();
        let Some(name) = table.strip_prefix(&self.prefix.to_ascii_lowercase()) else {
            return false;
        };
        let is_likes = |resource_type| likes_table(resource_type).0 == name;
        ["user_behaviors", "sync_events"].contains(&name)
            || name.starts_with("likewise_")
            || self.resource_types.iter().any(is_likes)
    }

    fn is_name(&self, word: &str) -> bool {
        let is_likes = |resource_type: ResourceType| {
            word.strip_prefix(resource_type.as_str())
                .is_some_and(|rest| rest.starts_with("_likes"))
        };
        NAMES.iter().any(|name| word.starts_with(name)) || self.resource_types.iter().any(is_likes)
    }
}

impl Deref for Schema {
    type Target = dyn Dialect;

    fn deref(&self) -> &Self::Target {
        self.dialect
    }
}

#[cfg(test)]
mod tests {
    use super::super::dialect::{Postgres, Sqlite};
    use super::super::statement::Param;
    use super::*;

    #[test]
    fn prefix_precedes_tables_and_indexes_only() {
        let sql = "SELECT l.user_id FROM video_likes l INDEXED BY video_likes_user, likewise_jobs \
                   WHERE event_type = 'video_like' AND \"likes\" = $1";
        let named = Schema::of(
            &Sqlite,
            "app_",
            &ResourceTypes::default(),
            IdKinds::default(),
        )
        .named(sql);
        assert_eq!(
            named,
            "SELECT l.user_id FROM app_video_likes l INDEXED BY app_video_likes_user, \
             app_likewise_jobs WHERE event_type = 'video_like' AND \"likes\" = $1"
        );
        assert_eq!(
            Schema::of(&Sqlite, "", &ResourceTypes::default(), IdKinds::default()).named(sql),
            sql
        );
    }

    #[test]
    fn limits_let_sqlite_keep_a_statement_prepared() {
        let spelled = |dialect: &'static dyn Dialect| {
            let schema = Schema::of(dialect, "", &ResourceTypes::default(), IdKinds::default());
            let statement = schema.statement("SELECT 1 LIMIT $1 OFFSET $2");
            statement.spelled(&[Param::limit(5), Param::limit(6)])
        };
        assert_eq!(spelled(&Sqlite), "SELECT 1 LIMIT 0+5 OFFSET 6");
        assert_eq!(spelled(&Postgres), "SELECT 1 LIMIT 5 OFFSET 6");
    }
}
