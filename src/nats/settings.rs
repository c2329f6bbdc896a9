//! The settings of the stream and its consumer: compares those of the server with the configuration, and decides which
//! changes are safe. It works on the JSON of JetStream's API, without I/O.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::jetstream::moment;
use super::subjects::{covers, our_subjects, overlap};

/// The owner of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// The stream.
    Stream,
    /// The workers' consumer.
    Consumer,
}

impl Owner {
    /// Returns its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Consumer => "consumer",
        }
    }
}

/// The severity of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Acknowledged likes are safe, but the limits differ, or messages wait.
    Warning,
    /// Acknowledged likes could be lost: nothing is published.
    Error,
}

impl Severity {
    /// Returns its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One setting, configured and current.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Setting {
    /// Its owner.
    pub owner: Owner,
    /// Its name, with the unit.
    pub name: &'static str,
    /// The configured value.
    #[schema(value_type = serde_json::Value)]
    pub configured: Value,
    /// The server's value; null if the stream or consumer is missing.
    #[schema(value_type = serde_json::Value)]
    pub current: Value,
    /// The severity of the difference; null if there is none.
    pub difference: Option<Severity>,
    /// Its name in JetStream's API.
    #[serde(skip)]
    pub(super) field: &'static str,
    /// The configured value in JetStream's API.
    #[serde(skip)]
    pub(super) raw: Value,
}

impl Setting {
    /// Returns a description of the difference.
    #[must_use]
    pub fn sentence(&self) -> String {
        format!(
            "{} {} is {}, configured is {}",
            self.owner.as_str(),
            self.name,
            self.current,
            self.configured
        )
    }
}

/// The display format of a value of JetStream's API.
#[derive(Clone, Copy)]
enum Unit {
    Plain,
    /// Nanoseconds, shown in seconds.
    Nanoseconds,
    /// A setting that may be absent.
    Optional,
}

/// The comparison rule of one setting.
struct Rule {
    owner: Owner,
    field: &'static str,
    name: &'static str,
    unit: Unit,
    severity: fn(configured: &Value, current: &Value) -> Severity,
}

const fn rule(
    owner: Owner,
    field: &'static str,
    name: &'static str,
    unit: Unit,
    severity: fn(&Value, &Value) -> Severity,
) -> Rule {
    Rule {
        owner,
        field,
        name,
        unit,
        severity,
    }
}

const fn warning(_: &Value, _: &Value) -> Severity {
    Severity::Warning
}

const fn error(_: &Value, _: &Value) -> Severity {
    Severity::Error
}

/// Additional subjects are allowed if none of ours is missing.
fn missing_subject(configured: &Value, current: &Value) -> Severity {
    let current = texts(current);
    if texts(configured).iter().all(|ours| covers(&current, ours)) {
        Severity::Warning
    } else {
        Severity::Error
    }
}

/// The settings that are compared. All others keep the server's values.
const RULES: [Rule; 23] = {
    use Owner::{Consumer, Stream};
    use Unit::{Nanoseconds, Optional, Plain};
    [
        rule(Stream, "subjects", "subjects", Plain, missing_subject),
        // The server stores messages under subjects that the consumer's filter skips.
        rule(
            Stream,
            "subject_transform",
            "subject_transform",
            Optional,
            error,
        ),
        // Work-queue retention on several replicas loses messages at max_deliver. Interest retention drops messages without
        // a consumer.
        rule(Stream, "retention", "retention", Plain, error),
        rule(Stream, "storage", "storage", Plain, error),
        // With `async`, the server acknowledges messages before it writes them.
        rule(Stream, "persist_mode", "persist_mode", Plain, error),
        rule(Stream, "num_replicas", "replicas", Plain, warning),
        rule(Stream, "max_age", "max_age_seconds", Nanoseconds, warning),
        rule(Stream, "max_bytes", "max_bytes", Plain, warning),
        rule(Stream, "max_msgs", "max_messages", Plain, warning),
        rule(Stream, "max_msg_size", "max_message_bytes", Plain, warning),
        // Beyond this number the server drops the oldest message of a subject.
        rule(
            Stream,
            "max_msgs_per_subject",
            "max_messages_per_subject",
            Plain,
            error,
        ),
        // With `old`, a full stream drops unrecorded messages.
        rule(Stream, "discard", "discard", Plain, error),
        rule(
            Stream,
            "duplicate_window",
            "duplicate_window_seconds",
            Nanoseconds,
            warning,
        ),
        rule(Stream, "no_ack", "no_ack", Plain, error),
        rule(Stream, "sealed", "sealed", Plain, error),
        // Erasures do not end while the server deletes no message.
        rule(Stream, "deny_delete", "deny_delete", Plain, warning),
        rule(
            Consumer,
            "filter_subjects",
            "filter_subjects",
            Plain,
            missing_subject,
        ),
        rule(Consumer, "ack_policy", "ack_policy", Plain, error),
        rule(
            Consumer,
            "ack_wait",
            "ack_wait_seconds",
            Nanoseconds,
            warning,
        ),
        rule(
            Consumer,
            "max_ack_pending",
            "max_ack_pending",
            Plain,
            warning,
        ),
        // Beyond this number of deliveries the server drops a message.
        rule(Consumer, "max_deliver", "max_deliver", Plain, error),
        rule(Consumer, "headers_only", "headers_only", Plain, error),
        // A pause has an end, and its messages wait for that.
        rule(Consumer, "pause_until", "pause_until", Optional, warning),
    ]
};

/// Compares the configured settings of the stream or the consumer with those of the server; `None` if the server has
/// none.
#[must_use]
pub(super) fn compare(owner: Owner, configured: &Value, current: Option<&Value>) -> Vec<Setting> {
    compare_at(owner, configured, current, Utc::now())
}

fn compare_at(
    owner: Owner,
    configured: &Value,
    current: Option<&Value>,
    now: DateTime<Utc>,
) -> Vec<Setting> {
    let subjects = texts(&configured["subjects"]);
    let rules = RULES.iter().filter(|rule| rule.owner == owner);
    rules
        .map(|rule| {
            let raw = value(rule.field, configured, configured);
            let found = current.map(|current| {
                let found = value(rule.field, current, &raw);
                match rule.field {
                    "subject_transform" if !moves(&found, &subjects) => Value::Null,
                    "pause_until" if moment(&found).is_none_or(|until| until <= now) => Value::Null,
                    _ => found,
                }
            });
            let difference = found
                .as_ref()
                .filter(|found| **found != raw)
                .map(|found| (rule.severity)(&raw, found));
            Setting {
                owner,
                name: rule.name,
                configured: shown(&raw, rule.unit),
                current: found.map_or(Value::Null, |found| shown(&found, rule.unit)),
                difference,
                field: rule.field,
                raw,
            }
        })
        .collect()
}

/// Normalises a value: sorts lists, fills in omitted values, and represents no limit as -1.
fn value(field: &str, config: &Value, like: &Value) -> Value {
    let found = match field {
        // A single filter has its own field.
        "filter_subjects" => match (&config["filter_subjects"], &config["filter_subject"]) {
            (Value::Array(filters), _) if !filters.is_empty() => json!(filters),
            (_, Value::String(filter)) if !filter.is_empty() => json!([filter]),
            _ => json!([]),
        },
        "max_msgs" | "max_msgs_per_subject" | "max_msg_size" | "max_bytes" => {
            match config[field].as_i64() {
                None | Some(0) => json!(-1),
                Some(limit) => json!(limit),
            }
        }
        // Servers before 2.12 have no other.
        "persist_mode" => match config[field].as_str() {
            None | Some("") => json!("default"),
            Some(mode) => json!(mode),
        },
        "subject_transform" | "pause_until" => return config[field].clone(),
        _ => config[field].clone(),
    };
    match found {
        Value::Null => match like {
            Value::Number(_) => json!(0),
            Value::Array(_) => json!([]),
            Value::String(_) => json!(""),
            _ => json!(false),
        },
        Value::Array(_) => {
            let mut texts = texts(&found);
            texts.sort();
            json!(texts)
        }
        found => found,
    }
}

/// Returns the source and the destination of a transform. The server reads a missing source as all subjects.
fn mapping(transform: &Value) -> (&str, &str) {
    let subject = |end: &'static str| transform[end].as_str().unwrap_or_default();
    match (subject("src"), subject("dest")) {
        ("", destination) => (">", destination),
        both => both,
    }
}

/// Returns whether a transform stores messages of these subjects under others.
fn moves(transform: &Value, subjects: &[String]) -> bool {
    let (source, destination) = mapping(transform);
    !destination.is_empty()
        && destination != source
        && subjects.iter().any(|subject| overlap(source, subject))
}

fn shown(value: &Value, unit: Unit) -> Value {
    const SECOND: i64 = 1_000_000_000;
    match (unit, value.as_i64()) {
        (Unit::Optional, _) if value.is_null() => json!("none"),
        (Unit::Optional, _) if value.is_object() => {
            let (source, destination) = mapping(value);
            json!(format!("{source} to {destination}"))
        }
        (Unit::Nanoseconds, Some(nanoseconds)) if nanoseconds % SECOND == 0 => {
            json!(nanoseconds / SECOND)
        }
        (Unit::Nanoseconds, Some(nanoseconds)) => json!(nanoseconds as f64 / SECOND as f64),
        _ => value.clone(),
    }
}

fn texts(list: &Value) -> Vec<String> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .filter_map(|item| Some(item.as_str()?.to_owned()))
        .collect()
}

/// Returns our subjects that the consumer's filter skips and the configured filter includes.
#[must_use]
pub(super) fn newly_filtered(consumer: &Value) -> Vec<String> {
    let filters = texts(&value("filter_subjects", consumer, &json!([])));
    if filters.is_empty() {
        return Vec::new();
    }
    our_subjects()
        .into_iter()
        .filter(|ours| !covers(&filters, ours))
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::nats) fn configured() -> Value {
        json!({
            "subjects": our_subjects(), "retention": "limits", "storage": "file",
            "num_replicas": 1, "max_age": 3_600_000_000_000_i64, "max_bytes": 1_000,
            "discard": "new", "duplicate_window": 120_000_000_000_i64, "max_msgs": 0,
            "max_msgs_per_subject": 0,
        })
    }

    pub(in crate::nats) fn with(field: &str, value: Value) -> Value {
        let mut config = configured();
        config[field] = value;
        config
    }

    fn differences(current: &Value) -> Vec<(&'static str, Severity)> {
        compare(Owner::Stream, &configured(), Some(current))
            .into_iter()
            .filter_map(|setting| Some((setting.name, setting.difference?)))
            .collect()
    }

    #[test]
    fn server_normalization_is_no_difference() {
        let mut current = configured();
        current["max_msgs"] = json!(-1);
        current["max_msgs_per_subject"] = json!(-1);
        current["subjects"] = json!(["likewise.behaviors.>", "likewise.accepted.>"]);
        current["no_ack"] = json!(false);
        current["sealed"] = json!(false);
        current["deny_delete"] = json!(false);
        current["max_msg_size"] = json!(-1);
        current["persist_mode"] = json!("default");
        current["a_setting_of_a_later_server"] = json!(7);
        assert_eq!(differences(&current), []);
        let absent = compare(Owner::Stream, &configured(), None);
        assert!(
            absent
                .iter()
                .all(|one| one.difference.is_none() && one.current.is_null())
        );
    }

    #[test]
    fn limits_warn_and_settings_that_lose_likes_are_errors() {
        use Severity::{Error, Warning};
        for (field, value, name, severity) in [
            ("max_age", json!(1_500_000_000), "max_age_seconds", Warning),
            ("max_bytes", json!(-1), "max_bytes", Warning),
            ("num_replicas", json!(3), "replicas", Warning),
            (
                "duplicate_window",
                json!(0),
                "duplicate_window_seconds",
                Warning,
            ),
            ("max_msgs", json!(9), "max_messages", Warning),
            ("subjects", json!(["likewise.>"]), "subjects", Warning),
            (
                "subjects",
                json!(["likewise.behaviors.>"]),
                "subjects",
                Error,
            ),
            ("retention", json!("workqueue"), "retention", Error),
            ("storage", json!("memory"), "storage", Error),
            ("discard", json!("old"), "discard", Error),
            ("no_ack", json!(true), "no_ack", Error),
            ("persist_mode", json!("async"), "persist_mode", Error),
            ("sealed", json!(true), "sealed", Error),
            ("deny_delete", json!(true), "deny_delete", Warning),
            ("max_msg_size", json!(1_024), "max_message_bytes", Warning),
        ] {
            let found = differences(&with(field, value));
            assert_eq!(found, [(name, severity)], "{field}");
        }
    }

    #[test]
    fn transform_of_our_subjects_is_an_error() {
        let moved: &[_] = &[("subject_transform", Severity::Error)];
        let none: &[(&str, Severity)] = &[];
        for (source, destination, expected) in [
            ("likewise.accepted.>", "moved.>", moved),
            ("likewise.accepted.video.*", "moved.{{wildcard(1)}}", moved),
            ("likewise.>", "moved.>", moved),
            ("", "moved.>", moved),
            (">", ">", none),
            ("orders.>", "moved.>", none),
        ] {
            let transform = json!({"src": source, "dest": destination});
            let found = differences(&with("subject_transform", transform));
            assert_eq!(found, expected, "{source}");
        }
        let republish = json!({"src": "likewise.accepted.>", "dest": "copies.>"});
        assert_eq!(differences(&with("republish", republish)), none);
        let transform = json!({"src": "", "dest": "moved.>"});
        let current = with("subject_transform", transform);
        let sentence = compare(Owner::Stream, &configured(), Some(&current))
            .into_iter()
            .find(|one| one.difference.is_some())
            .map(|one| one.sentence());
        let expected = r#"stream subject_transform is "> to moved.>", configured is "none""#;
        assert_eq!(sentence.as_deref(), Some(expected));
    }

    #[test]
    fn pause_is_a_warning_until_it_ends() {
        let until = "2026-11-27T12:00:00Z";
        let current = json!({"pause_until": until});
        let at = |now: &str| {
            let now = now.parse().expect("a time");
            compare_at(Owner::Consumer, &json!({}), Some(&current), now)
                .into_iter()
                .find(|one| one.name == "pause_until")
                .expect("the setting")
        };
        let paused = at("2026-11-27T11:59:59Z");
        assert_eq!(paused.difference, Some(Severity::Warning));
        let sentence = format!(r#"consumer pause_until is "{until}", configured is "none""#);
        assert_eq!(paused.sentence(), sentence);
        let ended = at(until);
        assert_eq!((ended.difference, ended.current), (None, json!("none")));
    }

    #[test]
    fn consumer_filter_that_excludes_our_subjects_is_an_error() {
        let configured = json!({"filter_subjects": our_subjects(), "ack_policy": "explicit"});
        let severity = |current: Value| {
            compare(Owner::Consumer, &configured, Some(&current))
                .into_iter()
                .find(|one| one.name == "filter_subjects")
                .and_then(|one| one.difference)
        };
        let old = json!({"filter_subject": "likewise.behaviors.>", "ack_policy": "explicit"});
        assert_eq!(severity(old.clone()), Some(Severity::Error));
        assert_eq!(newly_filtered(&old), ["likewise.accepted.>"]);
        assert_eq!(newly_filtered(&json!({})), [] as [&str; 0]);
        assert_eq!(
            severity(json!({"filter_subject": "likewise.>"})),
            Some(Severity::Warning)
        );
        assert_eq!(severity(configured.clone()), None);
    }
}
