//! Ids and words as the tables store them: text. Time is in `time.rs`.

use uuid::Uuid;

use super::error::StoreError;

/// Returns an id as every database stores it: as text, so that operators can read it.
pub(super) fn id_text(id: Uuid) -> String {
    id.hyphenated().to_string()
}

/// Parses a word that only this program writes.
///
/// # Errors
/// If the word is unknown.
pub(super) fn word<T: std::str::FromStr<Err: ToString>>(
    word: &str,
    table: &'static str,
) -> Result<T, StoreError> {
    word.parse()
        .map_err(|error: T::Err| StoreError::Unreadable {
            table,
            reason: error.to_string(),
        })
}
