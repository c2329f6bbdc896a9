//! The ids of users and resources: numbers, UUIDs or text, as the product assigns them.

use std::borrow::Cow;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use super::words::UnknownWord;

/// The id of a user.
pub type UserId = Id;

/// The id of a resource.
pub type ResourceId = Id;

/// The id of a user or a resource. [`IdKind`] decides which ids a deployment accepts.
///
/// Ids are ordered as the database orders them: numbers by value, text by its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Id {
    /// A positive number.
    Number(i64),
    /// A UUID in its canonical form, in lower case with hyphens, or any other text.
    Text(Arc<str>),
}

impl Id {
    /// Returns the number; `None` for text.
    #[must_use]
    pub const fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(_) => None,
        }
    }

    /// Returns the id as text.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Number(number) => Cow::Owned(number.to_string()),
            Self::Text(text) => Cow::Borrowed(text),
        }
    }

    /// Returns a number to spread ids over shards by.
    #[must_use]
    pub fn spread(&self) -> u64 {
        match self {
            Self::Number(number) => number.unsigned_abs(),
            Self::Text(text) => {
                let mut hasher = DefaultHasher::new();
                text.hash(&mut hasher);
                hasher.finish()
            }
        }
    }

    /// Returns the id in the keys of the cache, where `=` tells text from a number.
    #[must_use]
    pub const fn key(&self) -> IdKey<'_> {
        IdKey(self)
    }

    /// Reads what [`key`](Self::key) wrote.
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        match key.strip_prefix('=') {
            Some(text) => Some(Self::from(text)),
            None => key.parse().ok().map(Self::Number),
        }
    }
}

/// An id as the keys of the cache show it: see [`Id::key`].
#[derive(Debug, Clone, Copy)]
pub struct IdKey<'a>(&'a Id);

impl fmt::Display for IdKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Id::Number(number) => fmt::Display::fmt(number, f),
            Id::Text(text) => write!(f, "={text}"),
        }
    }
}

impl From<i64> for Id {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Id {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => fmt::Display::fmt(number, f),
            Self::Text(text) => f.pad(text),
        }
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => fmt::Debug::fmt(number, f),
            Self::Text(text) => fmt::Debug::fmt(text, f),
        }
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_i64(*number),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

/// Reads a number or text. [`IdKind::check`] then tells whether the deployment accepts it.
impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrText;

        impl Visitor<'_> for NumberOrText {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number or text")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Id, E> {
                Ok(Id::Number(number))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Id, E> {
                // A number beyond the range is an id of no kind; as text it gets a clear error.
                Ok(i64::try_from(number)
                    .map_or_else(|_| Id::from(&*number.to_string()), Id::Number))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
                Ok(Id::from(text))
            }
        }

        deserializer.deserialize_any(NumberOrText)
    }
}

/// The kind of the ids of all users, or of all resources. It is chosen before the first migration.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum IdKind {
    /// Numbers from 1 to 2⁶³ − 1.
    #[default]
    Number,
    /// UUIDs of any version, except the nil UUID.
    Uuid,
    /// Text of 1 to 64 bytes, without control characters and without spaces at its ends.
    Text,
}

impl IdKind {
    /// The longest text, in bytes.
    pub const MAX_LENGTH: usize = 64;

    /// Returns its name in settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Uuid => "uuid",
            Self::Text => "text",
        }
    }

    /// Returns what an id of this kind is, for an error message.
    #[must_use]
    pub const fn expected(self) -> &'static str {
        match self {
            Self::Number => "a number from 1 to 9223372036854775807",
            Self::Uuid => "a UUID such as 018f3f52-7d1e-7c60-a5ae-0b9d2a1c0f11",
            Self::Text => {
                "text of 1 to 64 bytes, without control characters and without spaces at its ends"
            }
        }
    }

    /// Reads an id of this kind from text.
    ///
    /// # Errors
    /// If the text is no such id.
    pub fn parse(self, text: &str) -> Result<Id, InvalidId> {
        let id = match self {
            // Digits only: no sign, no spaces.
            Self::Number => text
                .bytes()
                .all(|byte| byte.is_ascii_digit())
                .then(|| text.parse().ok())
                .flatten()
                .filter(|number| *number > 0)
                .map(Id::Number),
            Self::Uuid => Uuid::try_parse(text)
                .ok()
                .filter(|uuid| !uuid.is_nil())
                .map(|uuid| Id::from(&*uuid.hyphenated().to_string())),
            Self::Text => is_text(text).then(|| Id::from(text)),
        };
        id.ok_or_else(|| InvalidId::new(self, text))
    }

    /// Brings an id, as a message or a body has it, into the form of this kind. A number may be text.
    ///
    /// # Errors
    /// If it is no id of this kind.
    pub fn check(self, id: Id) -> Result<Id, InvalidId> {
        match (self, id) {
            (Self::Number, Id::Number(number)) if number > 0 => Ok(Id::Number(number)),
            (_, Id::Text(text)) => self.parse(&text),
            (_, Id::Number(number)) => Err(InvalidId::new(self, &number.to_string())),
        }
    }

    /// Returns an id that precedes every id of this kind, and is none itself.
    #[must_use]
    pub fn before_all(self) -> Id {
        match self {
            Self::Number => Id::Number(i64::MIN),
            Self::Uuid => Id::from("00000000-0000-0000-0000-000000000000"),
            Self::Text => Id::from(""),
        }
    }

    /// Returns an id that no id of this kind follows.
    #[must_use]
    pub fn after_all(self) -> Id {
        match self {
            Self::Number => Id::Number(i64::MAX),
            Self::Uuid => Id::from("ffffffff-ffff-ffff-ffff-ffffffffffff"),
            Self::Text => Id::from(&*"\u{10FFFF}".repeat(Self::MAX_LENGTH / 4)),
        }
    }
}

fn is_text(text: &str) -> bool {
    (1..=IdKind::MAX_LENGTH).contains(&text.len())
        && text.trim().len() == text.len()
        && !text.chars().any(char::is_control)
}

impl FromStr for IdKind {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        [Self::Number, Self::Uuid, Self::Text]
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or_else(|| UnknownWord(word.to_owned(), "kind of ids: use number, uuid or text"))
    }
}

impl fmt::Display for IdKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An id that the deployment does not accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be {}, got '{found}'", kind.expected())]
pub struct InvalidId {
    /// The kind of the deployment's ids.
    kind: IdKind,
    /// The beginning of the id.
    found: String,
}

impl InvalidId {
    fn new(kind: IdKind, found: &str) -> Self {
        Self {
            kind,
            found: found.chars().take(80).collect(),
        }
    }
}

/// The kinds of a deployment's ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdKinds {
    /// Of the users.
    pub users: IdKind,
    /// Of the resources.
    pub resources: IdKind,
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "018f3f52-7d1e-7c60-a5ae-0b9d2a1c0f11";

    #[test]
    fn id_of_the_kind_is_accepted() {
        assert_eq!(IdKind::Number.parse("7"), Ok(Id::Number(7)));
        assert_eq!(IdKind::Number.check(Id::from("7")), Ok(Id::Number(7)));
        let upper = UUID.to_uppercase();
        assert_eq!(IdKind::Uuid.parse(&upper), Ok(Id::from(UUID)));
        assert_eq!(
            IdKind::Uuid.parse(&UUID.replace('-', "")),
            Ok(Id::from(UUID))
        );
        for text in ["7", "a b", "auth0|5f7c8ec7", "ü}:/%", &"x".repeat(64)] {
            assert_eq!(IdKind::Text.parse(text), Ok(Id::from(text)));
        }
    }

    #[test]
    fn id_of_another_kind_is_refused() {
        for text in [
            "",
            "0",
            "-1",
            "+1",
            " 1",
            "1.0",
            "9223372036854775808",
            UUID,
        ] {
            assert!(IdKind::Number.parse(text).is_err(), "{text}");
        }
        assert!(IdKind::Number.check(Id::Number(-7)).is_err());
        for text in ["7", "", "00000000-0000-0000-0000-000000000000"] {
            assert!(IdKind::Uuid.parse(text).is_err(), "{text}");
        }
        for text in ["", " a", "a\n", "a\0b", &"x".repeat(65)] {
            assert!(IdKind::Text.parse(text).is_err(), "{text:?}");
        }
        // A number in JSON is no text: 7 and "7" would be two spellings of one id.
        assert!(IdKind::Text.check(Id::Number(7)).is_err());
    }

    #[test]
    fn id_survives_keys_and_json() {
        for id in [Id::Number(7), Id::from("7"), Id::from(UUID), Id::from("=}")] {
            assert_eq!(Id::from_key(&id.key().to_string()), Some(id.clone()));
            let json = serde_json::to_string(&id).expect("JSON");
            assert_eq!(serde_json::from_str::<Id>(&json).ok(), Some(id));
        }
    }

    #[test]
    fn every_id_lies_between_the_bounds_of_its_kind() {
        for (kind, text) in [
            (IdKind::Number, "1"),
            (IdKind::Uuid, UUID),
            (IdKind::Text, "a"),
            (IdKind::Text, "\u{10FFFE}"),
        ] {
            let id = kind.parse(text).expect("valid");
            assert!(kind.before_all() < id && id < kind.after_all(), "{text}");
        }
    }
}
