//! How the numbers in recorded interactions are sent, so that they suit a deployment with other ids or resource types.

use std::fmt::Display;

use clap::{Args, ValueEnum};

/// The form of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IdForm {
    /// The number itself.
    Number,
    /// A UUID that ends with the number.
    Uuid,
    /// `id-` and the number.
    Text,
}

impl IdForm {
    /// Returns the id that stands for a number.
    #[must_use]
    pub fn id(self, number: i64) -> String {
        match self {
            Self::Number => number.to_string(),
            Self::Uuid => format!("00000000-0000-4000-8000-{:012x}", number & 0xffff_ffff_ffff),
            Self::Text => format!("id-{number}"),
        }
    }
}

/// The ids and the resource type of a load.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Ids {
    /// Type of the liked resources
    #[arg(long, value_name = "TYPE", default_value = "video")]
    pub resource_type: String,

    /// How the users' numbers are sent, as LIKEWISE_USER_IDS of the server demands
    #[arg(long, value_enum, value_name = "FORM", default_value = "number")]
    pub users: IdForm,

    /// How the resources' numbers are sent, as LIKEWISE_RESOURCE_IDS of the server demands
    #[arg(long, value_enum, value_name = "FORM", default_value = "number")]
    pub resources: IdForm,
}

impl Default for Ids {
    /// Numbers of videos.
    fn default() -> Self {
        Self {
            resource_type: "video".to_owned(),
            users: IdForm::Number,
            resources: IdForm::Number,
        }
    }
}

impl Ids {
    /// Returns the path of a like, below the prefix of the server.
    pub(crate) fn path(&self, prefix: &str, resource: i64) -> String {
        let of = |id: &dyn Display| format!("{prefix}/v1/{}s/{id}/like", self.resource_type);
        match self.resources {
            // The common form needs no text of its own.
            IdForm::Number => of(&resource),
            form => of(&form.id(resource)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_the_form_of_the_servers_ids() {
        let ids = Ids {
            resource_type: "post".to_owned(),
            users: IdForm::Uuid,
            resources: IdForm::Text,
        };
        assert_eq!(ids.path("/x", 7), "/x/v1/posts/id-7/like");
        assert_eq!(ids.users.id(42), "00000000-0000-4000-8000-00000000002a");
        assert_eq!(Ids::default().path("", 7), "/v1/videos/7/like");
    }
}
