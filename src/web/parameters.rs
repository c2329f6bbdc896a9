//! The query string, read into the parameters of an operation. Each error names the parameter and what it may be.

use std::str::FromStr;

use actix_web::error::QueryPayloadError;
use actix_web::{HttpRequest, web};
use chrono::{DateTime, Utc};
use serde::de::{DeserializeOwned, Error, Unexpected};
use serde::{Deserialize, Deserializer};

use super::named::Named;
use super::problem::{Code, Problem};

/// Reads the query string.
pub(super) fn query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, Problem> {
    read(request.query_string()).map_err(|detail| Problem::new(Code::InvalidParameter, detail))
}

fn read<T: DeserializeOwned>(query: &str) -> Result<T, String> {
    let named = web::Query::<Named<T>>::from_query(query);
    named.map(|query| query.into_inner().0).map_err(|error| {
        let reason = match error {
            QueryPayloadError::Deserialize(error) => error.to_string(),
            error => error.to_string(),
        };
        format!("the query is invalid: {reason}")
    })
}

/// Reads a number. serde's own error does not say that one is expected.
pub(super) fn number<'de, D, N>(deserializer: D) -> Result<Option<N>, D::Error>
where
    D: Deserializer<'de>,
    N: FromStr,
{
    parsed(deserializer, "a positive whole number of at most 18 digits")
}

/// Reads a time. chrono's own error does not say that one is expected.
pub(super) fn time<'de, D>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error>
where
    D: Deserializer<'de>,
{
    parsed(deserializer, "a time such as 2026-01-31T23:59:00Z")
}

fn parsed<'de, D, V>(deserializer: D, expected: &str) -> Result<Option<V>, D::Error>
where
    D: Deserializer<'de>,
    V: FromStr,
{
    let text = String::deserialize(deserializer)?;
    let value = text.parse().map(Some);
    value.map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        Failed,
        Dead,
    }

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Parameters {
        text: String,
        #[serde(default, deserialize_with = "number")]
        limit: Option<usize>,
        word: Option<Word>,
        #[serde(default, deserialize_with = "time")]
        since: Option<DateTime<Utc>>,
        only: Option<bool>,
    }

    #[test]
    fn query_is_read_with_its_types() {
        let query = "text=a%20b%26&limit=7&word=dead&since=1970-01-01T00:00:00Z&only=true";
        let expected = Parameters {
            text: "a b&".to_owned(),
            limit: Some(7),
            word: Some(Word::Dead),
            since: Some(DateTime::UNIX_EPOCH),
            only: Some(true),
        };
        assert_eq!(read::<Parameters>(query).expect("parameters"), expected);
        assert_eq!(read::<Parameters>("text=").expect("defaults").limit, None);
    }

    #[test]
    fn errors_name_the_parameter_and_what_it_may_be() {
        for (query, expected) in [
            ("", "missing field `text`"),
            (
                "text=&limit=-1",
                "'limit': invalid value: string \"-1\", expected a positive whole number of at most 18 digits",
            ),
            (
                "text=&since=noon",
                "'since': invalid value: string \"noon\", expected a time such as 2026-01-31T23:59:00Z",
            ),
            (
                "text=&word=foo",
                "'word': unknown variant `foo`, expected `failed` or `dead`",
            ),
            (
                "text=&only=1",
                "'only': provided string was not `true` or `false`",
            ),
            (
                "text=&txt=",
                "'txt': unknown field `txt`, expected one of `text`, `limit`, `word`, `since`, `only`",
            ),
            ("text=a&text=b", "duplicate field `text`"),
        ] {
            let error = read::<Parameters>(query).expect_err(query);
            let reason = error.strip_prefix("the query is invalid: ");
            assert_eq!(reason, Some(expected), "{query}");
        }
    }
}
