//! What the pages know before their first request: nothing that is secret, since everyone may load them.

use serde::Serialize;

use crate::config::{Role, Settings};
use crate::domain::IdKind;

/// What a page knows of its process.
#[derive(Debug, Clone, Serialize)]
pub(in crate::web) struct About {
    /// The version of Likewise.
    version: &'static str,
    /// Whether users need a token.
    sign_in: bool,
    /// The role of the process.
    role: String,
    /// The types of resource that users can like.
    resource_types: Vec<String>,
    /// The kind of users' ids.
    user_ids: IdKind,
    /// The kind of resources' ids.
    resource_ids: IdKind,
    /// Whether the front page sends likes.
    demo: bool,
}

impl About {
    /// What the pages of a process with these settings know.
    pub(in crate::web) fn new(settings: &Settings, sign_in: bool) -> Self {
        let Settings {
            role, store, web, ..
        } = settings;
        Self {
            version: env!("CARGO_PKG_VERSION"),
            sign_in,
            role: role.to_string(),
            resource_types: store
                .resource_types
                .iter()
                .map(|one| one.to_string())
                .collect(),
            user_ids: store.id_kinds.users,
            resource_ids: store.id_kinds.resources,
            demo: web.demo && !sign_in && Role::is_api(*role),
        }
    }

    /// This as the value of an HTML attribute.
    pub(super) fn attribute(&self) -> String {
        let json = serde_json::to_string(self);
        let json = json.unwrap_or_else(|error| unreachable!("this is always JSON: {error}"));
        escaped(&json)
    }
}

/// Text as the value of an HTML attribute in double quotes.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('"', "&quot;")
        .replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attribute_values_are_escaped() {
        assert_eq!(
            escaped(r#"{"a":"<b>&amp;"}"#),
            "{&quot;a&quot;:&quot;&lt;b>&amp;amp;&quot;}"
        );
    }
}
