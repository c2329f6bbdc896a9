//! Erasures: what can be erased, the digest that stays as the proof, and who a message names.

use std::fmt;

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::behavior::Resource;
use super::id::{Id, IdKind, IdKinds, UserId};
use super::resource_type::{ResourceType, ResourceTypes};
use super::words::words;

/// The proof of an erasure: a SHA-256 of deployment, kind and id. The id itself is not kept.
pub type Digest = [u8; 32];

/// What an erasure erases.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ErasedKind {
    /// A user.
    User,
    /// A resource.
    Resource,
}

words!(
    ErasedKind,
    "kind of erasure",
    [User = "user", Resource = "resource"]
);

/// A user or a resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DataSubject {
    /// A user.
    User(UserId),
    /// A resource.
    Resource(Resource),
}

impl fmt::Display for DataSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user_id) => write!(f, "user {user_id}"),
            Self::Resource(resource) => write!(f, "{resource}"),
        }
    }
}

/// The digest of a subject, by its parts, so that the hot path clones nothing.
fn digest_of(deployment: Uuid, kind: &str, id: &Id) -> Digest {
    let mut context = Context::new(&SHA256);
    context.update(b"likewise erasure\0");
    context.update(deployment.as_bytes());
    context.update(kind.as_bytes());
    context.update(b"\0");
    context.update(id.text().as_bytes());
    let mut digest = Digest::default();
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// Returns the digest of a user.
#[must_use]
pub fn digest_of_user(deployment: Uuid, user_id: &UserId) -> Digest {
    digest_of(deployment, "user", user_id)
}

/// Returns the digest of a resource.
#[must_use]
pub fn digest_of_resource(deployment: Uuid, resource: &Resource) -> Digest {
    let kind = format!("resource:{}", resource.resource_type);
    digest_of(deployment, &kind, &resource.id)
}

impl DataSubject {
    /// Returns the digest that stays as the proof.
    #[must_use]
    pub fn digest(&self, deployment: Uuid) -> Digest {
        match self {
            Self::User(user_id) => digest_of_user(deployment, user_id),
            Self::Resource(resource) => digest_of_resource(deployment, resource),
        }
    }

    /// Returns its kind.
    #[must_use]
    pub const fn kind(&self) -> ErasedKind {
        match self {
            Self::User(_) => ErasedKind::User,
            Self::Resource(_) => ErasedKind::Resource,
        }
    }

    /// Returns the type of a resource.
    #[must_use]
    pub const fn resource_type(&self) -> Option<ResourceType> {
        match self {
            Self::User(_) => None,
            Self::Resource(resource) => Some(resource.resource_type),
        }
    }

    /// Returns the id.
    #[must_use]
    pub const fn id(&self) -> &Id {
        match self {
            Self::User(id) => id,
            Self::Resource(resource) => &resource.id,
        }
    }

    /// Returns whether a JSON value names the subject. Reads the fields of events in the spellings of several services.
    #[must_use]
    pub fn is_named_in(&self, json: &Value, names: &Names<'_>) -> bool {
        names.in_json(json).contains(self)
    }

    /// Returns whether these bytes name the subject; `None` if they are no JSON.
    #[must_use]
    pub fn is_named_in_bytes(&self, bytes: &[u8], names: &Names<'_>) -> Option<bool> {
        // Most messages are of others, and lack even the digits.
        if let Id::Number(_) = self.id() {
            let digits = self.id().text();
            let digits = digits.as_bytes();
            if !bytes.windows(digits.len()).any(|part| part == digits) {
                return Some(false);
            }
        }
        let json = serde_json::from_slice(bytes).ok()?;
        Some(self.is_named_in(&json, names))
    }

    /// Replaces the subject in the parameters and results of a job: ids in filters, and examples that name it. Returns
    /// whether anything changed.
    pub fn redact(&self, json: &mut Value) -> bool {
        match json {
            Value::Object(fields) => {
                let mut changed = self.redact_ids(fields);
                for value in fields.values_mut() {
                    changed |= self.redact(value);
                }
                changed
            }
            Value::Array(items) => {
                let before = items.len();
                items.retain(|item| !self.is_example(item));
                let mut changed = items.len() != before;
                for item in items {
                    changed |= self.redact(item);
                }
                changed
            }
            _ => false,
        }
    }

    /// Replaces the id where it is a word of a text that people wrote. Returns whether it was there.
    pub fn redact_text(&self, text: &mut String) -> bool {
        let id = self.id().text();
        let is_of_word = |c: char| c.is_alphanumeric();
        let ends = |edge: Option<char>| !edge.is_some_and(is_of_word);
        let (mut redacted, mut rest) = (String::new(), text.as_str());
        let mut changed = false;
        while let Some(at) = rest.find(&*id) {
            let (before, after) = (&rest[..at], &rest[at + id.len()..]);
            let last = before.chars().next_back().or(redacted.chars().next_back());
            redacted.push_str(before);
            if ends(last) && ends(after.chars().next()) {
                redacted.push_str("erased");
                changed = true;
            } else {
                redacted.push_str(&id);
            }
            rest = after;
        }
        if changed {
            redacted.push_str(rest);
            *text = redacted;
        }
        changed
    }

    fn redact_ids(&self, fields: &mut serde_json::Map<String, Value>) -> bool {
        let column = match self {
            Self::User(_) => "user_id",
            Self::Resource(resource) => {
                let named = fields.get("resource_type").and_then(Value::as_str);
                if named.is_some_and(|named| named != resource.resource_type.as_str()) {
                    return false;
                }
                "resource_id"
            }
        };
        match fields.get_mut(column) {
            Some(value) if is_id(value, self.id()) => {
                *value = Value::from("erased");
                true
            }
            _ => false,
        }
    }

    /// Whether it is an example of a report whose subject names this one.
    fn is_example(&self, item: &Value) -> bool {
        let Some(text) = item["subject"].as_str() else {
            return false;
        };
        let name = self.to_string();
        let mut parts = text.split(", ");
        parts.any(|part| part == name)
    }
}

fn is_id(value: &Value, id: &Id) -> bool {
    match value {
        Value::Number(number) => number.to_string() == *id.text(),
        Value::String(text) => *text == *id.text(),
        _ => false,
    }
}

/// Reads which users and resources a message names, even if it is no valid event.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The kinds of the deployment's ids.
    pub kinds: IdKinds,
    /// The resource types of the deployment.
    pub resource_types: &'a ResourceTypes,
}

/// The longest nesting that is read.
const DEPTH: usize = 8;

impl Names<'_> {
    /// Returns the users and resources that a JSON value names: in `user_id`, `userId`, `resource_id` with
    /// `resource_type`, `video_id` and the like, at any place, as numbers or text.
    #[must_use]
    pub fn in_json(&self, json: &Value) -> Vec<DataSubject> {
        let mut found = Vec::new();
        self.collect(json, DEPTH, &mut found);
        found
    }

    fn collect(&self, json: &Value, depth: usize, found: &mut Vec<DataSubject>) {
        if depth == 0 {
            return;
        }
        match json {
            Value::Array(items) => {
                for item in items {
                    self.collect(item, depth - 1, found);
                }
            }
            Value::Object(fields) => {
                for (name, value) in fields {
                    self.field(&plain(name), value, fields, found);
                    self.collect(value, depth - 1, found);
                }
            }
            _ => {}
        }
    }

    fn field(
        &self,
        name: &str,
        value: &Value,
        fields: &serde_json::Map<String, Value>,
        found: &mut Vec<DataSubject>,
    ) {
        if matches!(name, "userid" | "user" | "uid") {
            found.extend(read(value, self.kinds.users).map(DataSubject::User));
        }
        let of = |resource_type| {
            let id = read(value, self.kinds.resources)?;
            Some(DataSubject::Resource(Resource { resource_type, id }))
        };
        if name == "resourceid" {
            let given = fields
                .iter()
                .find(|(name, _)| plain(name) == "resourcetype");
            match given.and_then(|(_, word)| word.as_str()?.parse().ok()) {
                Some(resource_type) => found.extend(of(resource_type)),
                // Without a usable type, it may be of each.
                None => found.extend(self.resource_types.iter().filter_map(of)),
            }
        }
        if let Some(word) = name.strip_suffix("id") {
            let named = self
                .resource_types
                .iter()
                .find(|one| plain(one.as_str()) == word);
            found.extend(named.and_then(of));
        }
    }
}

/// Returns a name without its case and separators.
fn plain(name: &str) -> String {
    name.chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

fn read(value: &Value, kind: IdKind) -> Option<Id> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return None,
    };
    kind.parse(&text).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(json: &Value) -> Vec<String> {
        let names = Names {
            kinds: IdKinds::default(),
            resource_types: &ResourceTypes::default(),
        };
        let found = names.in_json(json);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn message_names_users_and_resources_in_any_spelling() {
        assert_eq!(
            names(&json!({"user_id": "7", "resource_type": "video", "resource_id": 9})),
            ["video 9", "user 7"]
        );
        assert_eq!(
            names(&json!({"data": [{"userId": 7, "videoId": 9, "comment_id": 0}]})),
            ["user 7", "video 9"]
        );
        assert_eq!(names(&json!({"resource_id": 9})).len(), 2);
        assert_eq!(names(&json!({"video": 7, "id": 7, "users": 7})), [""; 0]);
    }

    #[test]
    fn digests_differ_by_deployment_kind_and_id() {
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let user = DataSubject::User(7.into());
        let video = DataSubject::Resource(Resource::video(7));
        assert_eq!(user.digest(one), user.digest(one));
        assert_ne!(user.digest(one), user.digest(other));
        assert_ne!(user.digest(one), video.digest(one));
        assert_ne!(user.digest(one), DataSubject::User(8.into()).digest(one));
        // A number and the same text are one id, whichever way it arrived.
        assert_eq!(user.digest(one), DataSubject::User("7".into()).digest(one));
    }

    #[test]
    fn job_keeps_no_trace_of_the_erased() {
        let user = DataSubject::User(7.into());
        let mut spec = json!({"filter": {"user_id": 7, "status": "dead"}});
        assert!(user.redact(&mut spec));
        assert_eq!(
            spec,
            json!({"filter": {"user_id": "erased", "status": "dead"}})
        );
        let mut result = json!({"examples": [
            {"subject": "user 7, video 9"}, {"subject": "user 70, video 7"}, {"subject": "video 7"},
        ]});
        assert!(user.redact(&mut result));
        assert_eq!(result["examples"].as_array().map(Vec::len), Some(2));
        assert!(!user.redact(&mut result));
        let mut reason = "7, not 70 or 17: user-7, see x7".to_owned();
        assert!(user.redact_text(&mut reason));
        assert_eq!(reason, "erased, not 70 or 17: user-erased, see x7");
    }
}
