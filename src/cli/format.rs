//! Numbers, durations and facts of actors as text, for tables and for the terminal.

use serde_json::Value;

use super::reports::{ActorReport, ActorState, MailboxReport, ProcessReport};

/// Returns a number with separators between thousands.
pub(super) fn whole(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a number a second: with a decimal only if it is small.
pub(super) fn rate(a_second: f64) -> String {
    if a_second < 0.05 {
        "0".to_owned()
    } else if a_second < 9.95 {
        format!("{a_second:.1}")
    } else {
        whole(a_second.round() as u64)
    }
}

/// Returns milliseconds with a unit that suits them.
pub(super) fn duration(ms: f64) -> String {
    let (seconds, minutes, hours) = (ms / 1e3, ms / 60e3, ms / 3_600e3);
    if ms < 0.005 {
        "0 ms".to_owned()
    } else if ms < 1.0 {
        format!("{ms:.2} ms")
    } else if ms < 9.95 {
        format!("{ms:.1} ms")
    } else if ms < 999.5 {
        format!("{ms:.0} ms")
    } else if seconds < 9.95 {
        format!("{seconds:.1} s")
    } else if seconds < 120.0 {
        format!("{seconds:.0} s")
    } else if minutes < 120.0 {
        format!("{minutes:.0} min")
    } else if hours < 48.0 {
        format!("{hours:.0} h")
    } else {
        format!("{:.0} d", hours / 24.0)
    }
}

/// Returns a number of milliseconds with a unit that suits it.
pub(super) fn millis(ms: u64) -> String {
    duration(ms as f64)
}

/// Returns a number of things: `1 message`, `2 messages`.
pub(super) fn plural(number: u64, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        number => format!("{} {one}s", whole(number)),
    }
}

/// Returns what an actor works on now: `Record ×500 for 1.2 s`; nothing if it does not work.
pub(super) fn runs_now(actor: &ActorReport) -> String {
    let running = actor.running().into_iter().map(|message| {
        let running = message.running;
        let number = whole(running.messages);
        let age = millis(running.oldest_ms);
        format!("{} ×{number} for {age}", message.name)
    });
    let tick = actor.tick_ms.map(|ms| format!("tick for {}", millis(ms)));
    let parts: Vec<_> = running.chain(tick).collect();
    parts.join(", ")
}

/// Returns the actors that an actor waits for: `sync_publisher for 1.2 s`; nothing if it waits for none.
pub(super) fn waits_for(actor: &ActorReport) -> String {
    let waits = actor.waits_for.iter();
    let waits = waits.map(|wait| format!("{} for {}", wait.actor, millis(wait.oldest_ms)));
    waits.collect::<Vec<_>>().join(", ")
}

/// Returns the fill level of a mailbox: `12 of 10,000`, and how much of its room is reserved.
pub(super) fn level(mailbox: MailboxReport) -> String {
    let reserved = match mailbox.reserved {
        0 => String::new(),
        room => format!(", {} reserved", whole(room)),
    };
    let (depth, capacity) = (whole(mailbox.depth), whole(mailbox.capacity));
    format!("{depth} of {capacity}{reserved}")
}

/// Returns the age of the oldest message in a mailbox; nothing if it is empty.
pub(super) fn oldest(mailbox: MailboxReport) -> String {
    match mailbox.depth {
        0 => String::new(),
        _ => millis(mailbox.oldest_ms),
    }
}

/// Returns what there is to know of an actor beside its messages, each fact with its name.
pub(super) fn facts(process: &ProcessReport, actor: &ActorReport) -> Vec<(String, String)> {
    let captured_at = process.report.captured_at;
    let in_state = actor.in_state(captured_at).num_milliseconds();
    let mut facts = vec![(
        "state".to_owned(),
        format!(
            "{} for {}, since {}",
            actor.state.as_str(),
            millis(in_state.unsigned_abs()),
            actor.since.format("%F %T")
        ),
    )];
    let mut add = |name: &str, value: String| {
        if !value.is_empty() {
            facts.push((name.to_owned(), value));
        }
    };
    add("reason", actor.reason.clone().unwrap_or_default());
    add("process", format!("{}, id {}", process.title(), process.id));
    if actor.state != ActorState::Disabled {
        let oldest = oldest(actor.mailbox);
        let oldest = match oldest.as_str() {
            "" => oldest,
            age => format!(", the oldest for {age}"),
        };
        add("mailbox", format!("{}{oldest}", level(actor.mailbox)));
        add("runs now", runs_now(actor));
        let waits = actor.waits_for.iter().map(|wait| {
            let messages = plural(wait.messages, "message");
            format!("{}: {messages}, {}", wait.actor, millis(wait.oldest_ms))
        });
        add("waits for", waits.collect::<Vec<_>>().join("; "));
        add("processed", whole(actor.processed));
        add("errors", whole(actor.errors));
        add("last error", actor.last_error.clone().unwrap_or_default());
        let supervision = &actor.supervision;
        add(
            "panics",
            format!(
                "{}, restarts {}; in the last {} s {} of {}",
                whole(actor.panics),
                whole(actor.restarts),
                supervision.window_seconds,
                supervision.panics_in_window,
                supervision.max_restarts
            ),
        );
        if let Some(panic) = &supervision.last_panic {
            let place = panic.place.as_deref().unwrap_or("an unknown place");
            let at = panic.at.format("%F %T");
            add("last panic", format!("{at} at {place}: {}", panic.message));
        }
    }
    for (name, detail) in actor.details.as_object().into_iter().flatten() {
        add(&name.replace('_', " "), shown(detail));
    }
    facts
}

/// Returns a value of JSON without quotes; nothing for null.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => other.to_string(),
    }
}

/// The columns of the messages of an actor.
pub(super) const MESSAGE_COLUMNS: [&str; 7] = [
    "message",
    "received",
    "failed",
    "waiting",
    "running",
    "batch p50/max",
    "latency p50/p99",
];

/// Returns each type of message of an actor, in the columns of [`MESSAGE_COLUMNS`].
pub(super) fn message_rows(actor: &ActorReport) -> Vec<[String; 7]> {
    let rows = actor.messages.iter().map(|message| {
        let running = match message.running.batches {
            0 => String::new(),
            _ => {
                let number = whole(message.running.messages);
                format!("{number} for {}", millis(message.running.oldest_ms))
            }
        };
        let sizes = message.batch_size;
        let latency = message.latency_ms;
        [
            message.name.clone(),
            whole(message.received),
            whole(message.failed),
            whole(message.waiting),
            running,
            format!("{:.0} / {:.0}", sizes.p50, sizes.max),
            format!("{} / {}", duration(latency.p50), duration(latency.p99)),
        ]
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_units() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(whole(number), text);
        }
        for (number, text) in [
            (0.0, "0"),
            (0.04, "0"),
            (9.94, "9.9"),
            (9.96, "10"),
            (1234.4, "1,234"),
        ] {
            assert_eq!(rate(number), text);
        }
        for (ms, text) in [
            (0.0, "0 ms"),
            (0.25, "0.25 ms"),
            (9.96, "10 ms"),
            (999.6, "1.0 s"),
            (61_000.0, "61 s"),
            (3_600_000.0, "60 min"),
            (36e6, "10 h"),
            (3e8, "3 d"),
        ] {
            assert_eq!(duration(ms), text);
        }
        assert_eq!(
            (plural(1, "message"), plural(2, "message")),
            ("1 message".into(), "2 messages".into())
        );
    }
}
