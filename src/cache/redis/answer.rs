//! The answers of the script in `rule/`, and other replies of Redis.

use redis::Value;

use super::entry::{coverage, event};
use crate::cache::{CacheError, Incarnation, Opened, OpenedPair};
use crate::domain::{Applied, CountFill, Coverage, UserId, Version};

/// Parses the answer to `overdue`.
pub(super) fn overdue(reply: Option<Value>) -> Result<Vec<(UserId, Version)>, CacheError> {
    let reply = reply.unwrap_or(Value::Array(Vec::new()));
    let events: Vec<(String, f64)> = redis::from_redis_value(reply).map_err(unreadable)?;
    let parse = |(name, score): &(String, f64)| {
        let parsed = event(name, *score as i64);
        parsed.map(|(user_id, event)| (user_id, event.state.version))
    };
    Ok(events.iter().filter_map(parse).collect())
}

/// Parses the answer to `apply` about one event.
pub(super) fn applied(answer: &str) -> Result<(Applied, Option<OpenedPair>), CacheError> {
    let mut parts = answer.split(':');
    let mut next = || parts.next().unwrap_or_default();
    let (changed, newer, like_count, user, count) = (next(), next(), next(), next(), next());
    let applied = Applied {
        changed: known(changed)?.map(|changed: u8| changed == 1),
        newer: known(newer)?.map(Version),
        like_count: known(like_count)?,
    };
    if user.is_empty() {
        return Ok((applied, None));
    }
    let opened = OpenedPair {
        user: opened_user(user)?,
        count: opened_count(count)?,
    };
    Ok((applied, Some(opened)))
}

/// Parses the answer to the filling of a count.
pub(super) fn count_fill(answer: &str) -> CountFill {
    match answer {
        "1" => CountFill::Taken,
        "2" => CountFill::Kept,
        _ => CountFill::Refused,
    }
}

/// Parses the answer to an event that waited for a fill; `None` if an entry refused it.
pub(super) fn applied_after_fill(answer: &str) -> Result<Option<Applied>, CacheError> {
    if answer.is_empty() {
        return Ok(None);
    }
    applied(answer).map(|(applied, _)| Some(applied))
}

/// Parses the answers to `open`: first those about `users` users, then those about counts.
pub(super) fn opened(answers: &[String], users: usize) -> Result<Opened, CacheError> {
    let Some((of_users, of_counts)) = answers.split_at_checked(users) else {
        return Err(CacheError::Unavailable(
            "the script answered about too few entries".to_owned(),
        ));
    };
    let users = of_users.iter().map(|text| opened_user(text));
    let counts = of_counts.iter().map(|text| opened_count(text));
    Ok(Opened {
        users: users.collect::<Result<_, _>>()?,
        counts: counts.collect::<Result<_, _>>()?,
    })
}

/// Parses the answer to `open` about one user.
fn opened_user(answer: &str) -> Result<(Incarnation, Coverage), CacheError> {
    let parsed = answer.split_at_checked(16).and_then(|(life, letter)| {
        let life = life.parse().ok()?;
        Some((life, coverage(letter)?))
    });
    parsed.ok_or_else(|| unreadable(format!("it opened a user entry with '{answer}'")))
}

/// Parses the answer to `open` about one count.
fn opened_count(answer: &str) -> Result<Option<Incarnation>, CacheError> {
    known(answer)
}

/// Returns the texts of an answer.
pub(super) fn texts(reply: Value) -> Result<Vec<String>, CacheError> {
    value(reply)
}

/// Parses a reply.
pub(super) fn value<T: redis::FromRedisValue>(reply: Value) -> Result<T, CacheError> {
    redis::from_redis_value(reply).map_err(unreadable)
}

/// Parses a part of the script's answer; an empty text is an unknown value.
fn known<T: std::str::FromStr<Err: ToString>>(text: &str) -> Result<Option<T>, CacheError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(unreadable)
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn unreadable(error: impl ToString) -> CacheError {
    CacheError::Unavailable(format!(
        "the script's answer cannot be read: {}",
        error.to_string()
    ))
}
