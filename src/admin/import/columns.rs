//! Which column of an input is which: by the names that the operator gives, or by usual names.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::domain::{ResourceType, ResourceTypes};

/// What an import reads of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    User,
    Resource,
    Type,
    Time,
    Action,
    Deleted,
}

impl Field {
    pub(super) const ALL: [Self; 6] = [
        Self::User,
        Self::Resource,
        Self::Type,
        Self::Time,
        Self::Action,
        Self::Deleted,
    ];

    /// Its name in `--columns`.
    const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Resource => "resource",
            Self::Type => "type",
            Self::Time => "time",
            Self::Action => "action",
            Self::Deleted => "deleted",
        }
    }

    /// The usual names of its column, the likeliest first. A resource's column may also be named after its type.
    const fn usual(self) -> &'static [&'static str] {
        match self {
            Self::User => &[
                "user_id",
                "user",
                "userid",
                "uid",
                "member_id",
                "account_id",
            ],
            Self::Resource => &[
                "resource_id",
                "resource",
                "item_id",
                "item",
                "content_id",
                "object_id",
                "target_id",
            ],
            Self::Type => &["resource_type", "type", "item_type"],
            Self::Time => &[
                "liked_at",
                "time",
                "created_at",
                "occurred_at",
                "behavior_time",
                "event_time",
                "timestamp",
                "ts",
                "date",
            ],
            Self::Action => &[
                "action",
                "action_type",
                "behavior",
                "behavior_type",
                "liked",
            ],
            Self::Deleted => &[
                "deleted_at",
                "unliked_at",
                "removed_at",
                "deleted",
                "is_deleted",
            ],
        }
    }
}

/// The columns that the operator names, such as `user=member,time=ts`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnNames(BTreeMap<Field, String>);

impl FromStr for ColumnNames {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut names = BTreeMap::new();
        for part in text.split(',').map(str::trim) {
            let field = part.split_once('=').and_then(|(field, name)| {
                let field = Field::ALL
                    .into_iter()
                    .find(|one| one.as_str() == field.trim())?;
                Some((field, name.trim().to_owned()))
            });
            let (field, name) = field.filter(|(_, name)| !name.is_empty()).ok_or_else(|| {
                format!("'{part}' is not of the form user=NAME, resource=NAME, type=NAME, time=NAME, action=NAME or deleted=NAME")
            })?;
            if names.insert(field, name).is_some() {
                return Err(format!("'{}' is there twice", field.as_str()));
            }
        }
        Ok(Self(names))
    }
}

impl fmt::Display for ColumnNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self
            .0
            .iter()
            .map(|(field, name)| format!("{}={name}", field.as_str()))
            .collect();
        f.write_str(&names.join(","))
    }
}

impl ColumnNames {
    /// Returns the place of a field's column among these names, and the type that its name tells.
    fn find(
        &self,
        field: Field,
        names: &[&str],
        types: &ResourceTypes,
    ) -> Option<(usize, Option<ResourceType>)> {
        let place = |wanted: &str| {
            names
                .iter()
                .position(|name| name.eq_ignore_ascii_case(wanted))
        };
        if let Some(wanted) = self.0.get(&field) {
            return Some((place(wanted)?, None));
        }
        if field == Field::Resource {
            let named_after = |one: ResourceType| {
                let is_named_after = |name: &&str| {
                    name.split_at_checked(one.as_str().len())
                        .is_some_and(|(word, rest)| {
                            word.eq_ignore_ascii_case(one.as_str())
                                && rest.eq_ignore_ascii_case("_id")
                        })
                };
                Some((names.iter().position(is_named_after)?, Some(one)))
            };
            if let Some(found) = types.iter().find_map(named_after) {
                return Some(found);
            }
        }
        let found = field.usual().iter().find_map(|name| place(name));
        found.map(|place| (place, None))
    }

    /// Finds the columns among these names, such as those of a header.
    pub(super) fn resolve(&self, names: &[&str], types: &ResourceTypes) -> Result<Columns, String> {
        for wanted in self.0.values() {
            if !names.iter().any(|name| name.eq_ignore_ascii_case(wanted)) {
                return Err(format!(
                    "there is no column '{wanted}'; there are: {}",
                    names.join(", ")
                ));
            }
        }
        let columns = self.resolve_some(names, types);
        for (field, flag) in [(Field::User, "user"), (Field::Resource, "resource")] {
            if columns.place(field).is_none() {
                return Err(format!(
                    "no column is named like the {flag}'s id; name it with --columns {flag}=NAME; there are: {}",
                    names.join(", ")
                ));
            }
        }
        Ok(columns)
    }

    /// Finds those of the columns that are among these names.
    pub(super) fn resolve_some(&self, names: &[&str], types: &ResourceTypes) -> Columns {
        let mut columns = Columns::default();
        for field in Field::ALL {
            if let Some((place, named_type)) = self.find(field, names, types) {
                columns.places[field as usize] = Some(place);
                columns.named_type = columns.named_type.or(named_type);
            }
        }
        columns
    }
}

/// The places of the columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Columns {
    places: [Option<usize>; Field::ALL.len()],
    /// The type that the name of the resource's column tells, such as `video_id`.
    pub(super) named_type: Option<ResourceType>,
}

impl Columns {
    /// Returns the place of a field's column.
    pub(super) const fn place(&self, field: Field) -> Option<usize> {
        self.places[field as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(names: &str, header: &[&str]) -> Result<Columns, String> {
        let names: ColumnNames = match names {
            "" => ColumnNames::default(),
            names => names.parse().expect("valid"),
        };
        names.resolve(header, &ResourceTypes::default())
    }

    #[test]
    fn usual_names_are_found() {
        let found = resolve("", &["Created_At", "video_id", "x", "USER_ID"]).expect("found");
        assert_eq!(found.place(Field::User), Some(3));
        assert_eq!(found.place(Field::Resource), Some(1));
        assert_eq!(found.place(Field::Time), Some(0));
        assert_eq!(found.place(Field::Deleted), None);
        assert_eq!(found.named_type, Some(ResourceType::VIDEO));
        let found = resolve("", &["user", "item_id", "type", "ts"]).expect("found");
        assert_eq!(
            (found.place(Field::Type), found.named_type),
            (Some(2), None)
        );
    }

    #[test]
    fn given_names_win_and_must_exist() {
        let header = ["user_id", "member", "video_id", "created_at", "seen_at"];
        let found = resolve("user=member,time=seen_at", &header).expect("found");
        assert_eq!(found.place(Field::User), Some(1));
        assert_eq!(found.place(Field::Time), Some(4));
        let error = resolve("time=when", &header).expect_err("missing");
        assert!(
            error.contains("no column 'when'") && error.contains("seen_at"),
            "{error}"
        );
        let error = resolve("", &["a", "b"]).expect_err("missing");
        assert!(error.contains("--columns user=NAME"), "{error}");
        for text in ["user", "who=x", "user=", "user=a,user=b"] {
            assert!(text.parse::<ColumnNames>().is_err(), "{text}");
        }
    }
}
