//! What reads of entries, and heartbeats, send to Redis, and what the replies mean. One server and a cluster differ in how
//! the commands travel.

use redis::{Cmd, Value};

use super::answer;
use super::entry::{self, CountText, UserText};
use super::keys::{BEAT_KEPT_FOR, DEPLOYMENT_KEY, Keys, beat_key};
use crate::cache::CacheError;
use crate::cache::memory::reading_of;
use crate::domain::{DataSubject, Deployment, EntryId, Reading, Resource, Version};

/// Returns what a user entry and count entries tell. Events before `before` are overdue.
pub(super) fn readings(
    user: Option<&str>,
    counts: &[Option<String>],
    resources: &[Resource],
    before: Version,
) -> Vec<Reading> {
    let count = |text: &Option<String>| {
        let entry = text.as_deref().and_then(CountText::parse);
        entry.unwrap_or_default().reading(before)
    };
    let mut readings: Vec<Reading> = counts.iter().map(count).collect();
    if let Some(entry) = user.and_then(UserText::parse) {
        for (reading, pair) in readings.iter_mut().zip(entry.read(resources)) {
            *reading = reading_of(pair, *reading, before);
        }
    }
    readings
}

/// Returns the command that reads a string, with its key.
pub(super) fn get(key: String) -> (String, Cmd) {
    let mut get = redis::cmd("GET");
    get.arg(&key);
    (key, get)
}

/// Returns the command that reads the last heartbeat of a generation, with its key.
pub(super) fn beat(deployment: &Deployment) -> (String, Cmd) {
    get(beat_key(deployment))
}

/// Returns the commands that note a heartbeat and claim this Redis for the deployment, with their keys. The second answers
/// with the id of the deployment that used it last.
pub(super) fn note_beat(deployment: &Deployment, beat: i64) -> [(String, Cmd); 2] {
    let (key, mut set) = (beat_key(deployment), redis::cmd("SET"));
    let kept = BEAT_KEPT_FOR.as_secs();
    set.arg(&key).arg(beat).arg("EX").arg(kept);
    let (id, mut claim) = (deployment.id.to_string(), redis::cmd("SET"));
    claim.arg(DEPLOYMENT_KEY).arg(&id).arg("GET");
    [(key, set), (DEPLOYMENT_KEY.to_owned(), claim)]
}

/// Returns the id that the second command of [`note_beat`] answered with, if it is that of another deployment.
pub(super) fn other_deployment(own: &Deployment, previous: Option<String>) -> Option<String> {
    previous.filter(|previous| *previous != own.id.to_string())
}

/// Returns the commands that tell whether entries name a subject, each with its key. The names of some entries suffice.
pub(super) fn searches<'a>(
    keys: &'a Keys,
    entries: &'a [EntryId],
    subject: &'a DataSubject,
) -> impl Iterator<Item = (String, Cmd)> + 'a {
    entries
        .iter()
        .flat_map(move |entry| match (entry, subject) {
            (EntryId::User(user_id), DataSubject::Resource(_)) => {
                vec![get(keys.user(user_id).text())]
            }
            (EntryId::Count(resource), DataSubject::User(wanted)) => {
                let (key, mut scores) = (keys.events(resource), redis::cmd("ZMSCORE"));
                scores.arg(key).arg(&entry::event_names(wanted));
                vec![get(keys.count(resource).text()), (key.text(), scores)]
            }
            (EntryId::User(_), DataSubject::User(_))
            | (EntryId::Count(_), DataSubject::Resource(_)) => Vec::new(),
        })
}

/// Returns whether each entry names the subject, by the replies to [`searches`].
pub(super) fn found(
    entries: &[EntryId],
    subject: &DataSubject,
    replies: Vec<Value>,
) -> Result<Vec<bool>, CacheError> {
    let mut replies = replies.into_iter();
    let mut next = || replies.next().unwrap_or(Value::Nil);
    let mut found = Vec::with_capacity(entries.len());
    for entry in entries {
        found.push(match (entry, subject) {
            (EntryId::User(user_id), DataSubject::User(wanted)) => user_id == wanted,
            (EntryId::Count(resource), DataSubject::Resource(wanted)) => resource == wanted,
            (EntryId::User(_), DataSubject::Resource(wanted)) => {
                let text: Option<String> = answer::value(next())?;
                let entry = text.as_deref().and_then(UserText::parse);
                entry.is_some_and(|entry| entry.holds(wanted))
            }
            (EntryId::Count(_), DataSubject::User(wanted)) => {
                let text: Option<String> = answer::value(next())?;
                let scores: Vec<Option<f64>> = answer::value(next())?;
                text.is_some_and(|text| entry::has_event(&text, wanted))
                    || scores.iter().any(Option::is_some)
            }
        });
    }
    Ok(found)
}
