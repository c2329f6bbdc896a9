//! The settings of the stream and its consumer: how the server's compare with the configured ones, and which
//! changes are safe. Pure: it compares the JSON of JetStream's API and asks nobody.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::domain::origin::{ACCEPTED, BEHAVIORS};

/// What a setting belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// The stream.
    Stream,
    /// The workers' consumer.
    Consumer,
}

impl Owner {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Consumer => "consumer",
        }
    }
}

/// What a difference means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The stream keeps its promises within other limits.
    Warning,
    /// Acknowledged likes could be lost: nothing is published.
    Error,
}

impl Severity {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One setting, side by side.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Setting {
    /// What it belongs to.
    pub owner: Owner,
    /// Its name, with the unit.
    pub name: &'static str,
    /// What this process is configured with.
    #[schema(value_type = serde_json::Value)]
    pub configured: Value,
    /// What the server has; null if it has no such stream or consumer.
    #[schema(value_type = serde_json::Value)]
    pub current: Value,
    /// What the difference means; null if there is none.
    pub difference: Option<Severity>,
    /// Its name in JetStream's API.
    #[serde(skip)]
    pub(super) field: &'static str,
    /// The configured value in JetStream's API.
    #[serde(skip)]
    pub(super) raw: Value,
}

impl Setting {
    /// The difference in words.
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

/// How a value of JetStream's API is shown.
#[derive(Clone, Copy)]
enum Unit {
    Plain,
    /// Nanoseconds, shown in seconds.
    Nanoseconds,
}

/// How one setting is compared.
struct Rule {
    owner: Owner,
    field: &'static str,
    name: &'static str,
    unit: Unit,
    severity: fn(current: &Value) -> Severity,
}

const fn rule(
    owner: Owner,
    field: &'static str,
    name: &'static str,
    unit: Unit,
    severity: fn(&Value) -> Severity,
) -> Rule {
    Rule {
        owner,
        field,
        name,
        unit,
        severity,
    }
}

const fn warning(_: &Value) -> Severity {
    Severity::Warning
}

const fn error(_: &Value) -> Severity {
    Severity::Error
}

/// Other subjects are allowed as long as none of ours is missing.
fn missing_subject(current: &Value) -> Severity {
    if covers_ours(&texts(current)) {
        Severity::Warning
    } else {
        Severity::Error
    }
}

/// Every setting that is compared. What is not here is left as the server has it.
const RULES: [Rule; 17] = {
    use Owner::{Consumer, Stream};
    use Unit::{Nanoseconds, Plain};
    [
        rule(Stream, "subjects", "subjects", Plain, missing_subject),
        // A work queue on several replicas loses messages at max_deliver; an interest stream drops what no
        // consumer has asked for yet.
        rule(Stream, "retention", "retention", Plain, error),
        rule(Stream, "storage", "storage", Plain, error),
        rule(Stream, "num_replicas", "replicas", Plain, warning),
        rule(Stream, "max_age", "max_age_seconds", Nanoseconds, warning),
        rule(Stream, "max_bytes", "max_bytes", Plain, warning),
        rule(Stream, "max_msgs", "max_messages", Plain, warning),
        // Beyond this number the server drops the oldest of a subject.
        rule(
            Stream,
            "max_msgs_per_subject",
            "max_messages_per_subject",
            Plain,
            error,
        ),
        // With `old`, a full stream drops what is not recorded yet.
        rule(Stream, "discard", "discard", Plain, error),
        rule(
            Stream,
            "duplicate_window",
            "duplicate_window_seconds",
            Nanoseconds,
            warning,
        ),
        rule(Stream, "no_ack", "no_ack", Plain, error),
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
        // Beyond this number of deliveries the server gives a message up.
        rule(Consumer, "max_deliver", "max_deliver", Plain, error),
        rule(Consumer, "headers_only", "headers_only", Plain, error),
    ]
};

/// Compares the configured settings of the stream or the consumer with those of the server, which are `None`
/// if it has none.
#[must_use]
pub(super) fn compare(owner: Owner, configured: &Value, current: Option<&Value>) -> Vec<Setting> {
    let rules = RULES.iter().filter(|rule| rule.owner == owner);
    rules
        .map(|rule| {
            let raw = value(rule.field, configured, configured);
            let found = current.map(|current| value(rule.field, current, &raw));
            let difference = found
                .as_ref()
                .filter(|found| **found != raw)
                .map(|found| (rule.severity)(found));
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

/// A value in one form: lists are sorted, what the server leaves out is the empty value, and no limit is -1.
fn value(field: &str, config: &Value, like: &Value) -> Value {
    let found = match field {
        // One filter has a field of its own.
        "filter_subjects" => match (&config["filter_subjects"], &config["filter_subject"]) {
            (Value::Array(filters), _) if !filters.is_empty() => json!(filters),
            (_, Value::String(filter)) if !filter.is_empty() => json!([filter]),
            _ => json!([]),
        },
        "max_msgs" | "max_msgs_per_subject" | "max_bytes" => match config[field].as_i64() {
            None | Some(0) => json!(-1),
            Some(limit) => json!(limit),
        },
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

fn shown(value: &Value, unit: Unit) -> Value {
    const SECOND: i64 = 1_000_000_000;
    match (unit, value.as_i64()) {
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

/// The subjects of the stream.
#[must_use]
pub(super) fn our_subjects() -> Vec<String> {
    vec![format!("{ACCEPTED}.>"), format!("{BEHAVIORS}.>")]
}

/// Whether these subjects include all of ours.
fn covers_ours(subjects: &[String]) -> bool {
    our_subjects().iter().all(|ours| covers(subjects, ours))
}

/// Whether one of these subjects includes every subject that `wanted` stands for.
fn covers(subjects: &[String], wanted: &str) -> bool {
    subjects.iter().any(|subject| includes(subject, wanted))
}

fn includes(subject: &str, wanted: &str) -> bool {
    let (mut outer, mut inner) = (subject.split('.'), wanted.split('.'));
    loop {
        match (outer.next(), inner.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

/// The subjects of ours that the consumer's filter leaves out, and that it will take with the configured one.
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

/// What the stream holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Holds {
    /// Messages, done or not.
    pub messages: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// When the oldest was published; null if there is none.
    pub oldest_at: Option<DateTime<Utc>>,
    /// Messages that the workers have not acknowledged yet.
    pub unacknowledged: u64,
    /// When the oldest of those was published; null if there is none.
    pub oldest_unacknowledged_at: Option<DateTime<Utc>>,
}

/// How much longer than the age of the oldest unacknowledged message the stream must keep messages, so that
/// the workers have time to take it.
const AGE_MARGIN: TimeDelta = TimeDelta::minutes(1);

/// Why these changes would lose acknowledged likes, or cannot be made in place. Empty if they are safe.
#[must_use]
pub(super) fn refusals(
    changes: &[Setting],
    holds: &Holds,
    now: DateTime<Utc>,
    fewer_replicas: bool,
) -> Vec<String> {
    changes
        .iter()
        .filter_map(|change| refusal(change, holds, now, fewer_replicas))
        .collect()
}

fn refusal(
    change: &Setting,
    holds: &Holds,
    now: DateTime<Utc>,
    fewer_replicas: bool,
) -> Option<String> {
    let wanted = change.raw.as_i64().unwrap_or(0);
    let name = change.name;
    match change.field {
        "max_age" if wanted > 0 => {
            let age = now - holds.oldest_unacknowledged_at?;
            let kept = Duration::from_nanos(wanted.unsigned_abs());
            let kept = TimeDelta::from_std(kept).unwrap_or(TimeDelta::MAX);
            (kept < age + AGE_MARGIN).then(|| {
                format!(
                    "{name}: the oldest of {} unacknowledged messages is {} s old, and the server \
                     would delete it; wait until the workers have taken it (`likewise verify`), or \
                     keep messages for at least {} s (LIKEWISE_NATS_MAX_AGE_SECONDS)",
                    holds.unacknowledged,
                    age.num_seconds(),
                    (age + AGE_MARGIN).num_seconds() + 1
                )
            })
        }
        "max_bytes" | "max_msgs" if wanted > 0 => {
            let held = match change.field {
                "max_bytes" => holds.bytes,
                _ => holds.messages,
            };
            (wanted.unsigned_abs() < held).then(|| {
                format!(
                    "{name}: the stream holds {held} already, more than {wanted}; wait until messages \
                     have left by their age, or raise LIKEWISE_NATS_MAX_BYTES"
                )
            })
        }
        "num_replicas" if !fewer_replicas => {
            let current = change.current.as_i64().unwrap_or(0);
            (wanted < current).then(|| {
                format!(
                    "{name}: {current} servers keep each message, and {wanted} would; say \
                     --fewer-replicas if that is meant, or set LIKEWISE_NATS_REPLICAS={current}"
                )
            })
        }
        "storage" => Some(in_place(name)),
        "retention" if change.current == "workqueue" => Some(in_place(name)),
        _ => None,
    }
}

fn in_place(name: &str) -> String {
    format!(
        "{name}: the server cannot change it in place; stop the other publishers, wait until the \
         workers have taken everything (`likewise verify`), delete the stream, and the next process \
         creates it anew"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured() -> Value {
        json!({
            "subjects": our_subjects(), "retention": "limits", "storage": "file",
            "num_replicas": 1, "max_age": 3_600_000_000_000_i64, "max_bytes": 1_000,
            "discard": "new", "duplicate_window": 120_000_000_000_i64, "max_msgs": 0,
            "max_msgs_per_subject": 0,
        })
    }

    fn with(field: &str, value: Value) -> Value {
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
        ] {
            let found = differences(&with(field, value));
            assert_eq!(found, [(name, severity)], "{field}");
        }
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

    #[test]
    fn wildcards_match_their_subjects() {
        for (subject, wanted, included) in [
            (">", "likewise.accepted.>", true),
            ("likewise.*.>", "likewise.accepted.>", true),
            ("likewise.accepted.>", "likewise.accepted.>", true),
            ("likewise.accepted.*", "likewise.accepted.>", false),
            ("likewise.accepted.*.*", "likewise.accepted.>", false),
            ("likewise.accepted", "likewise.accepted.>", false),
            ("likewise.accepted.video.>", "likewise.accepted.>", false),
        ] {
            assert_eq!(includes(subject, wanted), included, "{subject} {wanted}");
        }
    }

    fn refused(current: &Value, configured: &Value, holds: &Holds, fewer: bool) -> Vec<String> {
        let changes: Vec<_> = compare(Owner::Stream, configured, Some(current))
            .into_iter()
            .filter(|setting| setting.difference.is_some())
            .collect();
        assert!(!changes.is_empty());
        refusals(
            &changes,
            holds,
            DateTime::UNIX_EPOCH + TimeDelta::hours(2),
            fewer,
        )
    }

    #[test]
    fn no_change_drops_unacknowledged_messages() {
        let hour = |hours: i64| json!(hours * 3_600_000_000_000);
        let holds = Holds {
            messages: 5,
            bytes: 900,
            oldest_at: Some(DateTime::UNIX_EPOCH),
            unacknowledged: 1,
            oldest_unacknowledged_at: Some(DateTime::UNIX_EPOCH + TimeDelta::minutes(30)),
        };
        let idle = Holds {
            unacknowledged: 0,
            oldest_unacknowledged_at: None,
            ..holds.clone()
        };
        let long = with("max_age", hour(100));
        let one = |configured: &Value, holds: &Holds| refused(&long, configured, holds, false);
        // The oldest of them is 90 minutes old.
        assert!(one(&with("max_age", hour(1)), &holds)[0].contains("5400 s old"));
        assert_eq!(one(&with("max_age", hour(2)), &holds), [] as [&str; 0]);
        assert_eq!(one(&with("max_age", hour(0)), &holds), [] as [&str; 0]);
        assert_eq!(one(&with("max_age", hour(1)), &idle), [] as [&str; 0]);
        let large = with("max_bytes", json!(5_000));
        let mut small = configured();
        small["max_bytes"] = json!(899);
        assert!(refused(&large, &small, &idle, false)[0].contains("holds 900"));
        small["max_bytes"] = json!(900);
        assert_eq!(refused(&large, &small, &holds, false), [] as [&str; 0]);
    }

    #[test]
    fn fewer_replicas_require_confirmation() {
        let (three, one) = (with("num_replicas", json!(3)), configured());
        let holds = Holds::default();
        assert!(refused(&three, &one, &holds, false)[0].contains("--fewer-replicas"));
        assert_eq!(refused(&three, &one, &holds, true), [] as [&str; 0]);
        assert_eq!(refused(&one, &three, &holds, false), [] as [&str; 0]);
    }

    #[test]
    fn storage_and_retention_are_not_changed_in_place() {
        for (field, value) in [("storage", "memory"), ("retention", "workqueue")] {
            let found = refused(
                &with(field, json!(value)),
                &configured(),
                &Holds::default(),
                true,
            );
            assert!(found[0].contains("in place"), "{found:?}");
        }
    }
}
