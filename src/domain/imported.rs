//! Imported history: how a row of a file or of a product's own table becomes like events. Called by `admin/import/`.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use ring::digest::{SHA256, digest};
use serde::Serialize;
use uuid::{Builder, Uuid};

use super::behavior::{Action, BehaviorEvent, Resource, Source};
use super::id::{Id, IdKinds, UserId};
use super::resource_type::{ResourceType, ResourceTypes};
use super::version::Version;

/// A row as the input has it. An empty field is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ImportedRow {
    /// The user's id.
    pub user: Option<String>,
    /// The resource's id.
    pub resource: Option<String>,
    /// The resource's type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub resource_type: Option<String>,
    /// The time of the action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// `like` or `unlike`, or whether the resource is liked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// When the like was taken back, or whether it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted: Option<String>,
}

/// What an import knows besides its rows.
#[derive(Debug, Clone)]
pub struct ImportRules {
    /// The kinds of the deployment's ids.
    pub kinds: IdKinds,
    /// The types that the deployment serves.
    pub types: ResourceTypes,
    /// The type of rows that name none.
    pub default_type: Option<ResourceType>,
    /// The time of rows that have none.
    pub default_time: DateTime<Utc>,
    /// The author of the events.
    pub source: Source,
}

impl ImportRules {
    /// Returns the like events of a row: one, or a like and the unlike that took it back. `named_type` is the type that
    /// the name of the resource's column tells.
    ///
    /// # Errors
    /// If the row is invalid, or later than `now`. The reason is for people.
    pub fn events(
        &self,
        row: &ImportedRow,
        named_type: Option<ResourceType>,
        now: DateTime<Utc>,
    ) -> Result<Vec<BehaviorEvent>, String> {
        let user = row.user.as_deref().ok_or("the user is missing")?;
        let user_id = self.kinds.users.parse(user);
        let user_id = user_id.map_err(|error| format!("the user {error}"))?;
        let resource = row.resource.as_deref().ok_or("the resource is missing")?;
        let id = self.kinds.resources.parse(resource);
        let resource = Resource {
            resource_type: self.resource_type(row, named_type)?,
            id: id.map_err(|error| format!("the resource {error}"))?,
        };
        let time = row.time.as_deref().map(read_time).transpose()?;
        let action = row
            .action
            .as_deref()
            .map_or(Ok(Action::Like), read_action)?;
        let mut moments = Vec::with_capacity(1);
        match row.deleted.as_deref().map(read_deleted).transpose()? {
            None | Some(Deleted::No) => moments.push((action, time)),
            // Without the time of the like, the default time would let the like win.
            Some(Deleted::At(deleted)) => {
                moments.extend(time.map(|time| (Action::Like, Some(time))));
                moments.push((Action::Unlike, time.max(Some(deleted))));
            }
            Some(Deleted::Yes) => moments.push((Action::Unlike, time)),
        }
        moments
            .into_iter()
            .map(|(action, time)| self.event(&user_id, &resource, action, time, now))
            .collect()
    }

    fn resource_type(
        &self,
        row: &ImportedRow,
        named_type: Option<ResourceType>,
    ) -> Result<ResourceType, String> {
        match &row.resource_type {
            Some(word) => word
                .parse()
                .and_then(|known| self.types.served(known))
                .map_err(|error| error.to_string()),
            None => self
                .default_type
                .or(named_type)
                .ok_or_else(|| "the type of the resource is missing".to_owned()),
        }
    }

    fn event(
        &self,
        user_id: &UserId,
        resource: &Resource,
        action: Action,
        time: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<BehaviorEvent, String> {
        let version = Version::at(time.unwrap_or(self.default_time));
        if version > Version::at(now) {
            return Err(format!(
                "the time is in the future: {}",
                version.moment().to_rfc3339()
            ));
        }
        if version <= Version::NEVER {
            return Err("the time is before 1970".to_owned());
        }
        Ok(BehaviorEvent {
            event_id: event_id(user_id, resource, action, time),
            user_id: user_id.clone(),
            resource: resource.clone(),
            behavior: action.behavior_type(),
            version,
            occurred_at: version.moment(),
            source: self.source.clone(),
            stream_sequence: None,
            trace: None,
        })
    }
}

/// Returns the id of an imported event. The same content gives the same id, in whatever file it is, so a second import
/// changes nothing. Without a time, the id does not depend on the default time either.
///
/// It is a UUID v8: 32 bits that are [ordered as users are](order_of), then 90 of a digest of the content.
fn event_id(
    user_id: &UserId,
    resource: &Resource,
    action: Action,
    time: Option<DateTime<Utc>>,
) -> Uuid {
    let time = time.map(|time| Version::at(time).0).unwrap_or_default();
    // Ids contain no control characters.
    let content = format!(
        "{}\n{}\n{}\n{}\n{time}",
        user_id.key(),
        resource.resource_type,
        resource.id.key(),
        action.as_str()
    );
    let content = digest(&SHA256, content.as_bytes());
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&order_of(user_id));
    bytes[4..].copy_from_slice(&content.as_ref()[..12]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

/// Returns 32 bits that are ordered as the users are, so that events that are written in the order of their users follow
/// each other in the index of ids too. Of a number, that is its length in bits, and the first 26 of them; of a UUID, its
/// beginning. Other text may begin alike for all users, so there the events of one user are neighbours, and users are in
/// no order.
fn order_of(user_id: &UserId) -> [u8; 4] {
    match user_id {
        Id::Number(number) => {
            let number = number.unsigned_abs();
            let length = 64 - number.leading_zeros();
            let first = number >> length.saturating_sub(26);
            // The length takes six bits.
            (length << 26 | first as u32).to_be_bytes()
        }
        Id::Text(text) => {
            let beginning = match Uuid::try_parse(text) {
                Ok(uuid) => uuid.as_bytes().first_chunk().copied(),
                Err(_) => digest(&SHA256, text.as_bytes())
                    .as_ref()
                    .first_chunk()
                    .copied(),
            };
            beginning.unwrap_or_default()
        }
    }
}

/// Reads an action. Exports of a table may instead say whether the resource is liked.
fn read_action(word: &str) -> Result<Action, String> {
    let is = |words: &[&str]| words.iter().any(|one| word.eq_ignore_ascii_case(one));
    if is(&["like", "liked", "1", "true", "t"]) {
        Ok(Action::Like)
    } else if is(&["unlike", "unliked", "0", "false", "f"]) {
        Ok(Action::Unlike)
    } else {
        Err(format!(
            "the action must be like or unlike, got '{word:.40}'"
        ))
    }
}

/// Whether a like was taken back.
enum Deleted {
    No,
    Yes,
    At(DateTime<Utc>),
}

fn read_deleted(word: &str) -> Result<Deleted, String> {
    let is = |words: &[&str]| words.iter().any(|one| word.eq_ignore_ascii_case(one));
    if is(&["0", "false", "f"]) {
        Ok(Deleted::No)
    } else if is(&["1", "true", "t"]) {
        Ok(Deleted::Yes)
    } else {
        read_time(word).map(Deleted::At)
    }
}

/// Reads a time: RFC 3339, the text of an SQL timestamp, a date, or a Unix time in seconds, milliseconds or
/// microseconds. Without a time zone it is UTC.
///
/// # Errors
/// If it is none of these.
pub fn read_time(text: &str) -> Result<DateTime<Utc>, String> {
    let in_utc = |time: NaiveDateTime| time.and_utc();
    unix_time(text)
        .or_else(|| {
            let time = DateTime::parse_from_rfc3339(text).ok()?;
            Some(time.to_utc())
        })
        .or_else(|| {
            let time = DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z").ok()?;
            Some(time.to_utc())
        })
        .or_else(|| {
            ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"]
                .iter()
                .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
                .map(in_utc)
        })
        .or_else(|| {
            let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
            Some(in_utc(day.and_time(NaiveTime::MIN)))
        })
        .ok_or_else(|| {
            format!(
                "the time must be RFC 3339 or a Unix time in seconds, milliseconds or microseconds, got '{text:.40}'"
            )
        })
}

/// The greatest number of seconds, and of milliseconds: the years 5138 and 5138 again, far from the next unit.
const MOST: i64 = 100_000_000_000;

fn unix_time(text: &str) -> Option<DateTime<Utc>> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let number: i64 = whole.parse().ok()?;
    let micros = if number < MOST {
        let micros: i64 = format!("{fraction:0<6.6}").parse().ok()?;
        number * 1_000_000 + micros
    } else if number < MOST * 1_000 {
        let micros: i64 = format!("{fraction:0<3.3}").parse().ok()?;
        number * 1_000 + micros
    } else if number < MOST * 1_000_000 {
        number
    } else {
        return None;
    };
    DateTime::from_timestamp_micros(micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{BehaviorType, IdKind};

    fn rules() -> ImportRules {
        ImportRules {
            kinds: IdKinds::default(),
            types: ResourceTypes::default(),
            default_type: Some(ResourceType::VIDEO),
            default_time: at("2024-05-01T00:00:00Z"),
            source: Source::Foreign("import".to_owned()),
        }
    }

    fn at(text: &str) -> DateTime<Utc> {
        read_time(text).expect("a time")
    }

    fn row(time: Option<&str>, deleted: Option<&str>) -> ImportedRow {
        ImportedRow {
            user: Some("1".to_owned()),
            resource: Some("7".to_owned()),
            time: time.map(str::to_owned),
            deleted: deleted.map(str::to_owned),
            ..ImportedRow::default()
        }
    }

    fn events(row: &ImportedRow) -> Result<Vec<BehaviorEvent>, String> {
        rules().events(row, None, at("2025-01-01T00:00:00Z"))
    }

    #[test]
    fn times_are_read_in_every_notation() {
        let expected = at("2024-03-01T12:00:00.250Z");
        for text in [
            "2024-03-01T13:00:00.25+01:00",
            "2024-03-01 12:00:00.250",
            "2024-03-01T12:00:00.250000",
            "2024-03-01 12:00:00.25+00",
            "1709294400.25",
            "1709294400250",
            "1709294400250000",
        ] {
            assert_eq!(read_time(text), Ok(expected), "{text}");
        }
        assert_eq!(at("1709294400"), at("2024-03-01 12:00:00"));
        assert_eq!(at("2024-03-01"), at("2024-03-01T00:00:00Z"));
        for text in ["", "yesterday", "-5", "2024-13-01", "99999999999999999999"] {
            assert!(read_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn one_content_has_one_id() {
        let one = events(&row(Some("2024-03-01T12:00:00Z"), None)).expect("valid");
        let same = events(&row(Some("1709294400"), None)).expect("valid");
        let later = events(&row(Some("1709294401"), None)).expect("valid");
        assert_eq!(one, same);
        assert_ne!(one[0].event_id, later[0].event_id);
        // Another default time leaves the id as it is.
        let mut other = rules();
        other.default_time = at("2024-06-01");
        let untimed = other.events(&row(None, None), None, at("2025-01-01"));
        let untimed = untimed.expect("valid").remove(0);
        let before = events(&row(None, None)).expect("valid").remove(0);
        assert_eq!(untimed.event_id, before.event_id);
        assert!(untimed.version > before.version);
    }

    #[test]
    fn imported_ids_are_ordered_as_users_are() {
        let id = |user: &str, resource: i64| {
            let row = ImportedRow {
                user: Some(user.to_owned()),
                resource: Some(resource.to_string()),
                ..row(Some("2024-03-01"), None)
            };
            let mut rules = rules();
            rules.kinds.users = match user.parse::<u64>() {
                Ok(_) => IdKind::Number,
                Err(_) => IdKind::Text,
            };
            let events = rules.events(&row, None, at("2025-01-01T00:00:00Z"));
            events.expect("valid").remove(0).event_id
        };
        let of = |user: &str| {
            (1..=20)
                .map(|resource| id(user, resource))
                .collect::<Vec<_>>()
        };
        let exact = (1 << 26) - 1;
        let numbers = [1, 2, 3, 1_000, exact - 1, exact, 1 << 27, 1 << 40, i64::MAX];
        let mut ids: Vec<Uuid> = Vec::new();
        for user in numbers {
            let mut some = of(&user.to_string());
            some.sort_unstable();
            assert!(ids.last() < some.first(), "{user}");
            ids.extend(some);
        }
        ids.dedup();
        assert_eq!(ids.len(), 20 * numbers.len());
        assert!(ids.iter().all(|id| id.get_version_num() == 8));
        let uuids = [
            "018f3f52-7d1e-7c60-a5ae-0b9d2a1c0f11",
            "f18f3f52-7d1e-4c60-a5ae-0b9d2a1c0f11",
        ];
        assert!(of(uuids[0]).iter().max() < of(uuids[1]).iter().min());
        // The events of one user are neighbours in any case.
        let (one, other) = (of("auth0|5f7c8ec7"), of("auth0|5f7c8ec8"));
        assert!(one.iter().max() < other.iter().min() || other.iter().max() < one.iter().min());
    }

    #[test]
    fn deleted_row_is_a_like_and_its_unlike() {
        let states = |row: &ImportedRow| -> Vec<_> {
            let events = events(row).expect("valid");
            let state = |event: &BehaviorEvent| (event.behavior, event.occurred_at);
            events.iter().map(state).collect()
        };
        let (like, unlike) = (BehaviorType::Like, BehaviorType::Unlike);
        let (first, last) = (at("2024-01-01"), at("2024-02-01"));
        let (early, late) = (Some("2024-01-01"), Some("2024-02-01"));
        assert_eq!(states(&row(early, late)), [(like, first), (unlike, last)]);
        assert_eq!(states(&row(late, early)), [(like, last), (unlike, last)]);
        assert_eq!(states(&row(early, Some("0"))), [(like, first)]);
        assert_eq!(states(&row(early, Some("true"))), [(unlike, first)]);
        assert_eq!(states(&row(None, late)), [(unlike, last)]);
    }

    #[test]
    fn invalid_row_names_its_reason() {
        let valid = row(Some("2024-01-01"), None);
        let with = |change: fn(&mut ImportedRow)| {
            let mut row = valid.clone();
            change(&mut row);
            events(&row).expect_err("invalid")
        };
        for (reason, said) in [
            (with(|row| row.user = None), "user is missing"),
            (
                with(|row| row.user = Some("ann".into())),
                "the user must be",
            ),
            (with(|row| row.resource = Some("0".into())), "the resource"),
            (with(|row| row.time = Some("2025-06-01".into())), "future"),
            (with(|row| row.time = Some("1970-01-01".into())), "1970"),
            (
                with(|row| row.action = Some("view".into())),
                "like or unlike",
            ),
            (with(|row| row.resource_type = Some("cat".into())), "'cat'"),
        ] {
            assert!(reason.contains(said), "{reason}");
        }
    }
}
