//! Timestamps in responses.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serializer;

/// Serializes a timestamp with all six digits of its microseconds, so that timestamps sort as text.
pub(super) fn micros<S: Serializer>(moment: &DateTime<Utc>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&moment.to_rfc3339_opts(SecondsFormat::Micros, true))
}
