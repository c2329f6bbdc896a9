//! Values whose errors name the field that cannot be read: the parameters of a query, and bodies.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// A value whose errors begin with the field, if one is at fault: `'limit': ...`.
pub(super) struct Named<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = serde_path_to_error::deserialize(deserializer);
        read.map(Self).map_err(|error| {
            if error.path().iter().next().is_none() {
                return error.into_inner();
            }
            D::Error::custom(format_args!("'{}': {}", error.path(), error.inner()))
        })
    }
}
