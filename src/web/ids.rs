//! The ids of users and resources in requests and responses: which ones the deployment accepts, and how it shows them.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};

use super::app_data::shared;
use super::problem::{Code, Problem};
use crate::domain::{Id, IdKinds, InvalidId, ResourceId, UserId};
use crate::store::LedgerEntry;

/// The rules for ids in HTTP.
#[derive(Debug, Clone, Copy)]
pub struct Ids {
    /// The kinds of the deployment's ids.
    pub(super) kinds: IdKinds,
    /// Whether responses have numbers as text, for clients that lose digits of large numbers.
    pub(super) as_text: bool,
}

/// Copies the rules: of a shared value, every request of every HTTP worker would write the reference count.
impl FromRequest for Ids {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(shared::<Self>(request).copied())
    }
}

impl Ids {
    /// Returns the id of a user, in the form of its kind. A number may be text.
    ///
    /// # Errors
    /// If the deployment does not accept it. The error begins with what the id must be.
    pub(super) fn user(&self, id: Id) -> Result<UserId, InvalidId> {
        self.kinds.users.check(id)
    }

    /// Returns the id of a resource, in the form of its kind. A number may be text.
    ///
    /// # Errors
    /// If the deployment does not accept it. The error begins with what the id must be.
    pub(super) fn resource(&self, id: Id) -> Result<ResourceId, InvalidId> {
        self.kinds.resources.check(id)
    }

    /// Returns the ids of a resource and of a user by which a query filters.
    ///
    /// # Errors
    /// If the deployment does not accept one.
    pub(super) fn in_filter(
        &self,
        resource_id: Option<Id>,
        user_id: Option<Id>,
    ) -> Result<(Option<ResourceId>, Option<UserId>), Problem> {
        let invalid = |name: &str, error: InvalidId| {
            Problem::new(Code::InvalidParameter, format!("{name} {error}"))
        };
        let resource_id = resource_id.map(|id| self.resource(id)).transpose();
        let user_id = user_id.map(|id| self.user(id)).transpose();
        Ok((
            resource_id.map_err(|error| invalid("resource_id", error))?,
            user_id.map_err(|error| invalid("user_id", error))?,
        ))
    }

    /// Returns the id of a user in a cursor.
    ///
    /// # Errors
    /// If this service did not write the cursor.
    pub(super) fn user_in_cursor(&self, id: Id) -> Result<UserId, Problem> {
        self.user(id).map_err(|error| cursor_problem(&error))
    }

    /// Returns the id of a resource in a cursor.
    ///
    /// # Errors
    /// If this service did not write the cursor.
    pub(super) fn resource_in_cursor(&self, id: Id) -> Result<ResourceId, Problem> {
        self.resource(id).map_err(|error| cursor_problem(&error))
    }

    /// Returns an id as responses show it.
    pub(super) fn shown(&self, id: &Id) -> Id {
        match id {
            Id::Number(number) if self.as_text => Id::from(&*number.to_string()),
            id => id.clone(),
        }
    }

    /// Returns a ledger row as responses show it.
    pub(super) fn ledger_entry(&self, entry: LedgerEntry) -> LedgerEntry {
        LedgerEntry {
            user_id: self.shown(&entry.user_id),
            resource_id: self.shown(&entry.resource_id),
            ..entry
        }
    }
}

fn cursor_problem(error: &InvalidId) -> Problem {
    let detail = format!("the cursor was not issued by this endpoint: an id in it {error}");
    Problem::new(Code::InvalidParameter, detail)
}
