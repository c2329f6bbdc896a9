//! The types of resource that users can like: words that a setting names, such as `video`.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::{fmt, ptr};

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::words::UnknownWord;

/// A type of resource. Its word is its name in SQL, JSON, paths and NATS subjects.
///
/// Each word is stored once for the life of the process, so a type is as cheap to copy as a reference.
#[derive(Clone, Copy)]
pub struct ResourceType(&'static str);

impl PartialEq for ResourceType {
    /// Compares words by their places first: equal ones nearly always share theirs.
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.0, other.0) || self.0 == other.0
    }
}

impl Eq for ResourceType {}

impl PartialOrd for ResourceType {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ResourceType {
    /// Orders types by their words.
    fn cmp(&self, other: &Self) -> Ordering {
        if ptr::eq(self.0, other.0) {
            return Ordering::Equal;
        }
        self.0.cmp(other.0)
    }
}

impl Hash for ResourceType {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// The declared words.
static WORDS: RwLock<BTreeSet<&'static str>> = RwLock::new(BTreeSet::new());

impl ResourceType {
    /// The video of the older service's API.
    pub const VIDEO: Self = Self("video");

    /// The comment of the older service's API.
    pub const COMMENT: Self = Self("comment");

    /// The longest word, in bytes.
    pub const MAX_LENGTH: usize = 16;

    /// The words that other paths or columns use: `/v1/users/...`, `/v1/likes/...`.
    const RESERVED: [&'static str; 2] = ["like", "user"];

    /// Returns its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// Returns the type of a word; `None` unless it was declared before.
    #[must_use]
    pub fn known(word: &str) -> Option<Self> {
        if let Some(one) = [Self::VIDEO, Self::COMMENT]
            .into_iter()
            .find(|one| one.0 == word)
        {
            return Some(one);
        }
        let words = WORDS.read().unwrap_or_else(PoisonError::into_inner);
        words.get(word).map(|word| Self(word))
    }
}

impl FromStr for ResourceType {
    type Err = UnknownWord;

    /// Returns the type of a known word.
    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::known(word).ok_or_else(|| UnknownWord(word.to_owned(), "resource type"))
    }
}

impl ResourceType {
    /// Returns whether a word can name a type, known or not: it is well-formed, and no other path uses it.
    #[must_use]
    pub fn is_usable(word: &str) -> bool {
        let is_inner =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        word.len() <= Self::MAX_LENGTH
            && word.starts_with(|first: char| first.is_ascii_lowercase())
            && word.bytes().all(is_inner)
            && !Self::RESERVED.contains(&word)
    }

    /// Declares the type of a word: from then on it is known. Settings, the command line and rows of our own tables call
    /// it, never a request, because the word is stored for the life of the process.
    ///
    /// # Errors
    /// If the word is malformed, or other paths use it.
    pub fn declare(word: &str) -> Result<Self, UnknownWord> {
        if let Some(known) = Self::known(word) {
            return Ok(known);
        }
        if !Self::is_usable(word) {
            return Err(UnknownWord(word.to_owned(), "resource type"));
        }
        let mut words = WORDS.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = words.get(word) {
            return Ok(Self(known));
        }
        let stored: &'static str = Box::leak(word.to_owned().into_boxed_str());
        words.insert(stored);
        Ok(Self(stored))
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

impl fmt::Debug for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Serialize for ResourceType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for ResourceType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;

        impl de::Visitor<'_> for Word {
            type Value = ResourceType;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a resource type")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<ResourceType, E> {
                word.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Word)
    }
}

impl PartialSchema for ResourceType {
    /// Text. The document of a process lists its words.
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .build()
            .into()
    }
}

impl ToSchema for ResourceType {}

/// The types that a deployment serves, in the order of the setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceTypes(Arc<[ResourceType]>);

impl ResourceTypes {
    /// The most types of one deployment: each has a table of its own.
    pub const MOST: usize = 32;

    /// Returns the types, in the order of the setting.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = ResourceType> + ExactSizeIterator {
        self.0.iter().copied()
    }

    /// Returns whether the deployment serves this type.
    #[must_use]
    pub fn contains(&self, resource_type: ResourceType) -> bool {
        self.0.contains(&resource_type)
    }

    /// Returns the type, if the deployment serves it.
    ///
    /// # Errors
    /// If it does not.
    pub fn served(&self, resource_type: ResourceType) -> Result<ResourceType, UnknownWord> {
        match self.contains(resource_type) {
            true => Ok(resource_type),
            false => Err(UnknownWord(resource_type.to_string(), "resource type")),
        }
    }

    /// Returns these types, and then others.
    #[must_use]
    pub fn with(&self, others: &[ResourceType]) -> Self {
        let others = others.iter().filter(|one| !self.contains(**one));
        Self(self.iter().chain(others.copied()).collect())
    }
}

impl Default for ResourceTypes {
    /// `video` and `comment`.
    fn default() -> Self {
        Self(Arc::new([ResourceType::VIDEO, ResourceType::COMMENT]))
    }
}

/// Reads comma-separated words.
impl FromStr for ResourceTypes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut types: Vec<ResourceType> = Vec::new();
        for word in text.split(',').map(str::trim) {
            let one = ResourceType::declare(word).map_err(|_| {
                format!(
                    "'{word}' is not a usable word: use 1 to {} lower-case letters, digits and '_', \
                     beginning with a letter, but neither 'like' nor 'user'",
                    ResourceType::MAX_LENGTH
                )
            })?;
            if types.contains(&one) {
                return Err(format!("'{word}' is there twice"));
            }
            types.push(one);
        }
        if types.len() > Self::MOST {
            return Err(format!("there are more than {} types", Self::MOST));
        }
        Ok(Self(types.into()))
    }
}

impl fmt::Display for ResourceTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.iter().map(ResourceType::as_str).collect();
        f.write_str(&words.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_names_the_types_in_order() {
        let types: ResourceTypes = "post, photo".parse().expect("valid");
        assert_eq!(types.to_string(), "post,photo");
        assert!(types.contains(ResourceType::declare("photo").expect("a word")));
        assert!(!types.contains(ResourceType::VIDEO));
        assert_eq!(ResourceTypes::default().to_string(), "video,comment");
    }

    #[test]
    fn further_types_follow_once() {
        let post = ResourceType::declare("post").expect("a word");
        let more = ResourceTypes::default().with(&[ResourceType::VIDEO, post]);
        assert_eq!(more.to_string(), "video,comment,post");
    }

    #[test]
    fn unusable_words_are_refused() {
        for text in [
            "",
            "Post",
            "a-b",
            "1st",
            "user",
            "like",
            "post,",
            "a,a",
            "a_word_of_17_____",
        ] {
            assert!(text.parse::<ResourceTypes>().is_err(), "{text}");
        }
    }

    #[test]
    fn words_are_equal_wherever_they_are_stored() {
        let elsewhere = ResourceType(String::from("video").leak());
        assert_eq!(elsewhere, ResourceType::VIDEO);
        assert_eq!(elsewhere.cmp(&ResourceType::VIDEO), Ordering::Equal);
        let types = BTreeSet::from([elsewhere, ResourceType::COMMENT, ResourceType::VIDEO]);
        assert!(types.iter().eq([&ResourceType::COMMENT, &elsewhere]));
    }

    #[test]
    fn request_cannot_add_a_word() {
        let read = |word: &str| serde_json::from_value::<ResourceType>(word.into());
        assert!(read("unheard_of").is_err());
        let named = ResourceType::declare("heard_of").expect("a word");
        assert_eq!(read("heard_of").ok(), Some(named));
    }
}
