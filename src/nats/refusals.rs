//! Which changes of the stream `likewise stream apply` refuses, because they would lose acknowledged likes. Pure.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::settings::Setting;

/// The content of the stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Holds {
    /// The time of the server when it described the stream. The ages of messages follow from it, because their times are
    /// the server's too.
    pub described_at: DateTime<Utc>,
    /// The number of messages, processed or not.
    pub messages: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// The time of the oldest message; null if there is none.
    pub oldest_at: Option<DateTime<Utc>>,
    /// The number of messages that the workers have not acknowledged.
    pub unacknowledged: u64,
    /// The time of the oldest unacknowledged message; null if there is none.
    pub oldest_unacknowledged_at: Option<DateTime<Utc>>,
}

/// The margin of `max_age` over the age of the oldest unacknowledged message, so that the workers have time to take it.
const AGE_MARGIN: TimeDelta = TimeDelta::minutes(1);

/// Returns the reasons why these changes would lose acknowledged likes or cannot be made in place. Empty if they are safe.
#[must_use]
pub(super) fn refusals(changes: &[Setting], holds: &Holds, fewer_replicas: bool) -> Vec<String> {
    changes
        .iter()
        .filter_map(|change| refusal(change, holds, fewer_replicas))
        .collect()
}

fn refusal(change: &Setting, holds: &Holds, fewer_replicas: bool) -> Option<String> {
    let wanted = change.raw.as_i64().unwrap_or(0);
    let name = change.name;
    match change.field {
        "max_age" if wanted > 0 => {
            let age = holds.described_at - holds.oldest_unacknowledged_at?;
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
        "storage" | "persist_mode" | "sealed" | "deny_delete" => Some(in_place(name)),
        "pause_until" => Some(format!(
            "{name}: the consumer is paused until {}, and `apply` does not resume it; resume it first (`nats consumer \
             resume`)",
            change.current.as_str().unwrap_or_default()
        )),
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
    use serde_json::{Value, json};

    use super::*;
    use crate::nats::Owner;
    use crate::nats::settings::compare;
    use crate::nats::settings::tests::{configured, with};

    fn refused(current: &Value, configured: &Value, holds: &Holds, fewer: bool) -> Vec<String> {
        let changes: Vec<_> = compare(Owner::Stream, configured, Some(current))
            .into_iter()
            .filter(|setting| setting.difference.is_some())
            .collect();
        assert!(!changes.is_empty());
        refusals(&changes, holds, fewer)
    }

    #[test]
    fn no_change_drops_unacknowledged_messages() {
        let hour = |hours: i64| json!(hours * 3_600_000_000_000);
        let holds = Holds {
            described_at: DateTime::UNIX_EPOCH + TimeDelta::hours(2),
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
    fn settings_that_stay_are_not_changed_in_place() {
        for (field, value) in [
            ("storage", json!("memory")),
            ("retention", json!("workqueue")),
            ("persist_mode", json!("async")),
            ("sealed", json!(true)),
            ("deny_delete", json!(true)),
        ] {
            let found = refused(&with(field, value), &configured(), &Holds::default(), true);
            assert!(found[0].contains("in place"), "{found:?}");
        }
    }
}
