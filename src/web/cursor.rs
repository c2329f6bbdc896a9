//! Pages of lists: their length, and the cursor at which the next page begins. Cursors are opaque to clients.

use chrono::{DateTime, Utc};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::IntoParams;
use uuid::Uuid;

use super::parameters::number;
use super::problem::{Code, Problem};
use crate::store::is_storable;

/// The default number of entries of a page of likes.
pub(super) const LIMIT: usize = 50;

/// The most entries of a page of likes.
pub(super) const MOST: usize = 200;

/// The page of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// The most entries.
    #[param(minimum = 1, maximum = 200, default = 50)]
    #[serde(default, deserialize_with = "number")]
    pub(super) limit: Option<usize>,
    /// `next_cursor` of the page before; absent for the first page.
    pub(super) cursor: Option<String>,
}

/// The last entry of a page that is ordered by time and id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    #[serde(deserialize_with = "storable")]
    pub(super) at: DateTime<Utc>,
    pub(super) id: Uuid,
}

fn storable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
    let at = DateTime::deserialize(deserializer)?;
    if is_storable(at) {
        return Ok(at);
    }
    Err(D::Error::custom("the time is out of range"))
}

impl From<After> for (DateTime<Utc>, String) {
    fn from(after: After) -> Self {
        (after.at, after.id.hyphenated().to_string())
    }
}

/// The cursor of the page after this entry.
pub(super) fn write<T: Serialize>(after: &T) -> String {
    let json = serde_json::to_vec(after)
        .unwrap_or_else(|error| unreachable!("a cursor is always JSON: {error}"));
    hex::encode(json)
}

/// The entry after which a page begins; `None` for the first page.
pub(super) fn read<T: DeserializeOwned>(cursor: Option<&str>) -> Result<Option<T>, Problem> {
    let Some(cursor) = cursor else {
        return Ok(None);
    };
    let json = hex::decode(cursor).ok();
    let after = json.and_then(|json| serde_json::from_slice(&json).ok());
    match after {
        Some(after) => Ok(Some(after)),
        None => Err(Problem::new(
            Code::InvalidParameter,
            "'cursor' was not issued by this path",
        )),
    }
}

/// The number of entries of a page.
pub(super) fn limit(given: Option<usize>, default: usize, most: usize) -> Result<usize, Problem> {
    let limit = given.unwrap_or(default);
    if (1..=most).contains(&limit) {
        return Ok(limit);
    }
    let detail = format!("'limit' must be from 1 to {most}, got {limit}");
    Err(Problem::new(Code::InvalidParameter, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_round_trips_and_anything_else_is_rejected() {
        let after = After {
            at: DateTime::UNIX_EPOCH,
            id: Uuid::max(),
        };
        assert_eq!(read(Some(&write(&after))).expect("a cursor"), Some(after));
        assert_eq!(read::<After>(None).expect("the first page"), None);
        for bad in ["", "7", "zz", "7b7d", &write(&"7")] {
            assert!(read::<After>(Some(bad)).is_err(), "{bad}");
        }
    }
}
