//! The migrations in this program: the files under `migrations/`, written for the default settings, and rendered for a
//! schema.

use std::collections::BTreeSet;

use crate::domain::ResourceType;
use crate::store::schema::Schema;

/// A migration of one database, as its files say.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Script {
    /// The name of its folder.
    pub(in crate::store) name: &'static str,
    /// Creates its tables.
    pub(in crate::store) up: &'static str,
}

/// Lists the migrations in a folder of `migrations/`, in the order in which they run.
macro_rules! scripts {
    ($folder:literal) => {
        $crate::store::migrate::scripts!(
            $folder:
            "2026-11-25-000000_create_deployment",
            "2026-11-25-000001_create_behaviors",
            "2026-11-25-000002_create_ledger",
            "2026-11-25-000003_create_like_counts",
            "2026-11-25-000004_create_quarantine",
            "2026-11-25-000005_create_jobs",
            "2026-11-25-000006_create_retention",
            "2026-11-25-000007_create_idempotency_keys",
            "2026-11-26-000001_create_processes",
            "2026-11-26-000002_create_erasures",
            "2026-11-26-000003_create_outbox",
            "2026-11-26-000004_create_imports",
            "2026-11-26-000005_create_behavior_counts",
            "2026-11-26-000006_create_operations",
            "2026-11-26-000007_create_history",
            "2026-11-25-000008_create_video_likes",
        )
    };
    ($folder:literal: $($name:literal,)+) => {
        [$($crate::store::migrate::Script {
            name: $name,
            up: include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"), "/migrations/", $folder, "/", $name, "/up.sql"
            )),
        }),+]
    };
}

pub(in crate::store) use scripts;

/// The script that the read model of every resource type is derived from.
const LIKES: &str = "_create_video_likes";

/// A migration of one deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Migration {
    /// Its name, which the table of migrations has once it ran.
    pub(super) name: String,
    /// Creates its tables.
    pub(super) up: String,
}

/// A table that a migration creates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    /// Its name.
    pub(super) name: String,
    /// The names of its columns.
    pub(super) columns: BTreeSet<String>,
}

impl Table {
    /// The words that begin an item of a table that is no column.
    const OTHER_ITEMS: [&str; 7] = [
        "CHECK",
        "CONSTRAINT",
        "FOREIGN",
        "INDEX",
        "KEY",
        "PRIMARY",
        "UNIQUE",
    ];

    /// Reads the table that a statement creates; `None` if it does something else.
    pub(super) fn of(statement: &str) -> Option<Self> {
        let rest = statement.strip_prefix("CREATE TABLE ")?;
        let rest = rest.strip_prefix("IF NOT EXISTS ").unwrap_or(rest);
        let (name, items) = rest.split_once('(')?;
        let mut depth = 0;
        let items = items.split(|c: char| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            c == ',' && depth == 0
        });
        let first_words = items.filter_map(|item| item.split_whitespace().next());
        let columns = first_words.filter(|word| !Self::OTHER_ITEMS.contains(word));
        Some(Self {
            name: name.trim().to_owned(),
            columns: columns.map(str::to_owned).collect(),
        })
    }
}

impl Migration {
    /// Returns the migrations of a deployment, in the order in which they run: those that all deployments have, then the
    /// read model of each resource type.
    pub(super) fn all(scripts: &[Script], schema: &Schema) -> Vec<Self> {
        let mut all = Vec::new();
        for script in scripts {
            if !script.name.ends_with(LIKES) {
                all.push(Self {
                    name: script.name.to_owned(),
                    up: schema.migration(script.up),
                });
                continue;
            }
            for resource_type in schema.resource_types().iter() {
                let video = ResourceType::VIDEO.as_str();
                all.push(Self {
                    name: format!("create_{resource_type}_likes"),
                    up: schema.migration(&script.up.replace(video, resource_type.as_str())),
                });
            }
        }
        all
    }

    /// Returns the tables that it creates.
    pub(super) fn tables(&self) -> impl Iterator<Item = Table> {
        Self::statements(&self.up).filter_map(|statement| Table::of(&statement))
    }

    /// Returns the statements of a script, each of which a database can execute on its own.
    pub(super) fn statements(sql: &str) -> impl Iterator<Item = String> {
        let code: Vec<_> = sql
            .lines()
            .filter(|line| !line.trim_start().starts_with("--"))
            .collect();
        let statements: Vec<_> = code
            .join("\n")
            .split(';')
            .map(|one| one.trim().to_owned())
            .filter(|one| !one.is_empty())
            .collect();
        statements.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{IdKind, IdKinds, ResourceTypes};
    use crate::store::dialect;

    const SCRIPTS: [Script; 16] = scripts!("postgres");

    fn migrations(prefix: &str, types: &str, kinds: IdKinds) -> Vec<Migration> {
        let types: ResourceTypes = types.parse().expect("types");
        Migration::all(
            &SCRIPTS,
            Schema::of(&dialect::Postgres, prefix, &types, kinds),
        )
    }

    #[test]
    fn each_resource_type_has_its_table() {
        let all = migrations("app_", "post,photo", IdKinds::default());
        let tables = all.iter().flat_map(Migration::tables);
        let tables: Vec<_> = tables.map(|table| table.name).collect();
        assert!(
            tables.ends_with(&["app_post_likes", "app_photo_likes"].map(str::to_owned)),
            "{tables:?}"
        );
        assert!(
            tables.iter().all(|table| table.starts_with("app_")),
            "{tables:?}"
        );
        assert!(all.iter().all(|one| !one.up.contains("video")));
    }

    #[test]
    fn columns_of_a_table_are_read_from_its_statement() {
        let statement = "CREATE TABLE IF NOT EXISTS app_likes (\n    id CHAR(36) NOT NULL,\n    \
                         kind VARCHAR(16) AS (CASE WHEN a IN ('b', 'c') THEN a END),\n    \
                         PRIMARY KEY (id, kind),\n    KEY app_likes_kind (kind, id)\n) ENGINE = InnoDB";
        let table = Table::of(statement).expect("a table");
        assert_eq!(table.name, "app_likes");
        assert!(table.columns.iter().eq(["id", "kind"]), "{table:?}");
        assert_eq!(Table::of("CREATE INDEX a ON b (c)"), None);
    }

    #[test]
    fn id_columns_have_the_type_of_their_kind() {
        let kinds = IdKinds {
            users: IdKind::Uuid,
            resources: IdKind::Text,
        };
        let all = migrations("", "video", kinds);
        let likes = &all.last().expect("likes").up;
        assert!(likes.contains("user_id UUID NOT NULL"), "{likes}");
        assert!(
            likes.contains("video_id TEXT COLLATE \"C\" NOT NULL"),
            "{likes}"
        );
        let default = migrations("", "video", IdKinds::default());
        let files: Vec<_> = SCRIPTS.iter().map(|script| script.up).collect();
        let rendered: Vec<_> = default.iter().map(|one| one.up.as_str()).collect();
        assert_eq!(rendered, files);
    }
}
