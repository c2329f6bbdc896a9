//! What request headers and paths hold: a user's id, a positive number, printable text. Extractors, sign-in
//! and rate limits read them here.

use std::fmt::Display;

use actix_web::http::header::{HeaderMap, HeaderName};

use super::problem::{Code, Problem};
use crate::domain::{IdKind, UserId};

/// The header that names the user.
pub(super) const USER: &str = "X-User-Id";

/// [`USER`], parsed once: looking a header up by text would allocate for each request.
pub(super) static X_USER_ID: HeaderName = HeaderName::from_static("x-user-id");

/// The user in the header `X-User-Id`.
pub(super) fn named_user(headers: &HeaderMap, kind: IdKind) -> Result<UserId, Problem> {
    let mut values = headers.get_all(&X_USER_ID);
    let invalid = |reason: &dyn Display| {
        Problem::new(Code::InvalidUserId, format!("the header {USER} {reason}"))
    };
    match (values.next(), values.next()) {
        (None, _) => Err(Problem::new(
            Code::MissingUser,
            "the header X-User-Id must name the user",
        )),
        (Some(value), None) => kind
            .parse(&String::from_utf8_lossy(value.as_bytes()))
            .map_err(|error| invalid(&error)),
        (Some(_), Some(_)) => Err(invalid(&"must be there once")),
    }
}

/// Whether the header `X-User-Id` is absent or names this user.
pub(super) fn names_only(headers: &HeaderMap, kind: IdKind, user_id: &UserId) -> bool {
    let mut values = headers.get_all(&X_USER_ID);
    values.all(|value| {
        let named = kind.parse(&String::from_utf8_lossy(value.as_bytes()));
        named.is_ok_and(|named| named == *user_id)
    })
}

/// The text of a header that is absent, or present once with 1 to `longest` printable ASCII characters; an
/// error if it is anything else.
pub(super) fn printable<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    longest: usize,
) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let text = value.to_str().map_err(|_| ())?;
            // `to_str` accepts tabs too.
            let fits = (1..=longest).contains(&text.len()) && !text.contains('\t');
            fits.then_some(Some(text)).ok_or(())
        }
        (Some(_), Some(_)) => Err(()),
    }
}

/// A positive number in decimal digits, without a sign.
pub(super) fn positive(text: &str) -> Option<i64> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_header_has_one_name() {
        assert_eq!(X_USER_ID, USER);
    }

    #[test]
    fn ids_are_positive_decimal_numbers() {
        assert_eq!(positive("7"), Some(7));
        assert_eq!(positive("9223372036854775807"), Some(i64::MAX));
        for bad in [
            "",
            "0",
            "-1",
            "+1",
            "1.0",
            " 1",
            "seven",
            "9223372036854775808",
            "٧",
        ] {
            assert_eq!(positive(bad), None, "{bad}");
        }
    }
}
