//! The log on standard error: text for people, or JSON for programs. Each record has a constant message; the values are in
//! keys, which are the same in both forms.

use std::any::Any;
use std::fmt::{self, Display};
use std::io::{self, Write};
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use env_logger::fmt::{Formatter, WriteStyle};
use log::kv::{self, Key, Source, Value, VisitSource, VisitValue};
use log::{Level, Record};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value as Json;

use crate::config::LogFormat;

/// The fields of every JSON line.
const FIELDS: [&str; 4] = ["timestamp", "level", "target", "message"];

/// Starts logging to standard error. `RUST_LOG` sets the filter (default: `info`).
pub fn init_logging(format: LogFormat) {
    let filter =
        env_logger::Env::default().default_filter_or("info,actix_server=warn,async_nats=warn");
    let mut builder = env_logger::Builder::from_env(filter);
    match format {
        LogFormat::Text => builder
            .format_timestamp_millis()
            .format_key_values(write_keys),
        LogFormat::Json => builder.write_style(WriteStyle::Never).format(write_json),
    };
    builder.init();
}

/// Writes panics to the log.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        log::error!(
            target: "likewise",
            error = text_of(panic.payload()),
            place = panic.location().map(ToString::to_string).as_deref(),
            thread = thread.name();
            "panic"
        );
    }));
}

/// The text of a panic.
fn text_of(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without text")
}

/// Writes the error that ends this process to standard error, whatever the filter of the log.
pub fn write_failure(format: LogFormat, error: &dyn Display) {
    let mut out = io::stderr().lock();
    // Ignore a closed standard error.
    let _ = match format {
        LogFormat::Text => writeln!(out, "likewise: {error}"),
        LogFormat::Json => write_json(
            &mut out,
            &Record::builder()
                .level(Level::Error)
                .target("likewise")
                .args(format_args!("failed"))
                .key_values(&[("error", Value::from_dyn_display(error))])
                .build(),
        ),
    };
}

/// Returns a duration as the value of a key, in seconds, to the microsecond.
pub(super) fn seconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e6
}

/// Writes keys after the message, as `key=value`. Values with spaces or special characters are in quotes, so that a record
/// is one line and no value looks like another key.
fn write_keys(out: &mut Formatter, keys: &dyn Source) -> io::Result<()> {
    struct Keys<'a>(&'a mut dyn Write);

    impl<'kvs> VisitSource<'kvs> for Keys<'_> {
        fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
            match json_of(&value)? {
                Json::Null => {}
                Json::String(text) if !is_plain(&text) => write!(self.0, " {key}={text:?}")?,
                Json::String(text) => write!(self.0, " {key}={text}")?,
                other => write!(self.0, " {key}={other}")?,
            }
            Ok(())
        }
    }

    keys.visit(&mut Keys(out)).map_err(io::Error::other)
}

fn is_plain(text: &str) -> bool {
    let is_special = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '=' | '\\');
    !text.is_empty() && !text.contains(is_special)
}

/// Writes a record as a JSON object and ends the line.
fn write_json(out: &mut impl Write, record: &Record<'_>) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &Line(record))?;
    writeln!(out)
}

/// A record as a JSON object.
struct Line<'a>(&'a Record<'a>);

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(record) = self;
        let timestamp = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let level = match record.level() {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(FIELDS[0], &timestamp)?;
        map.serialize_entry(FIELDS[1], level)?;
        map.serialize_entry(FIELDS[2], record.target())?;
        map.serialize_entry(FIELDS[3], record.args())?;
        let mut entries = Entries {
            map: &mut map,
            error: None,
        };
        let visited = record.key_values().visit(&mut entries);
        if let Some(error) = entries.error {
            return Err(error);
        }
        visited.map_err(serde::ser::Error::custom)?;
        map.end()
    }
}

/// Adds keys to a JSON object.
struct Entries<'a, M: SerializeMap> {
    map: &'a mut M,
    error: Option<M::Error>,
}

impl<'kvs, M: SerializeMap> VisitSource<'kvs> for Entries<'_, M> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let value = json_of(&value)?;
        if value.is_null() {
            return Ok(());
        }
        let written = if FIELDS.contains(&key.as_str()) {
            // A library's key, because none of ours is named like a field.
            self.map.serialize_entry(&format!("{key}_"), &value)
        } else {
            self.map.serialize_entry(key.as_str(), &value)
        };
        written.map_err(|error| {
            self.error = Some(error);
            kv::Error::from(fmt::Error)
        })
    }
}

/// The value of a key as JSON: numbers and booleans as such, and everything else as text.
fn json_of(value: &Value<'_>) -> Result<Json, kv::Error> {
    struct Visited(Json);

    impl<'v> VisitValue<'v> for Visited {
        fn visit_any(&mut self, value: Value<'_>) -> Result<(), kv::Error> {
            self.0 = Json::String(value.to_string());
            Ok(())
        }

        fn visit_null(&mut self) -> Result<(), kv::Error> {
            self.0 = Json::Null;
            Ok(())
        }

        fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
            self.0 = value.into();
            Ok(())
        }

        fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
            self.0 = value.into();
            Ok(())
        }

        fn visit_f64(&mut self, value: f64) -> Result<(), kv::Error> {
            self.0 = value.into();
            Ok(())
        }

        fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
            self.0 = value.into();
            Ok(())
        }
    }

    let mut visited = Visited(Json::Null);
    value.visit(&mut visited)?;
    Ok(visited.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(keys: &[(&str, Value<'_>)], message: fmt::Arguments<'_>) -> Json {
        let record = Record::builder()
            .level(Level::Warn)
            .target("likewise::sync")
            .args(message)
            .key_values(&keys)
            .build();
        let mut line = Vec::new();
        write_json(&mut line, &record).expect("a line");
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(line.last(), Some(&b'\n'));
        serde_json::from_slice(&line).expect("JSON")
    }

    #[test]
    fn json_line_has_typed_keys_and_escapes() {
        let nothing: Option<&str> = None;
        let keys = [
            ("rows", Value::from(3_u64)),
            ("skew_seconds", Value::from(-0.25)),
            ("dropped", Value::from(true)),
            ("error", Value::from("two\nlines \u{1b}[31m and \"quotes\"")),
            ("trace_id", kv::ToValue::to_value(&nothing)),
            ("level", Value::from("a library's")),
            ("ratio", Value::from(f64::NAN)),
        ];
        let mut found = json(&keys, format_args!("message with\na line break"));
        let time = found["timestamp"].take();
        let time = time.as_str().expect("a time");
        assert!(time.ends_with('Z') && time.len() == 24, "{time}");
        let expected = serde_json::json!({
            "timestamp": null,
            "level": "warn",
            "target": "likewise::sync",
            "message": "message with\na line break",
            "rows": 3,
            "skew_seconds": -0.25,
            "dropped": true,
            "error": "two\nlines \u{1b}[31m and \"quotes\"",
            "level_": "a library's",
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn text_values_cannot_look_like_other_keys() {
        for plain in ["x", "likewise::sync", "2026-11-26", "sqlite://a.db", "é"] {
            assert!(is_plain(plain), "{plain}");
        }
        for quoted in [
            "",
            "two words",
            "a=b",
            "\"",
            "line\n",
            "\u{1b}[31m",
            "\\n",
            "\u{2028}",
        ] {
            assert!(!is_plain(quoted), "{quoted:?}");
        }
    }

    #[test]
    fn durations_are_seconds_to_the_microsecond() {
        let value = serde_json::Value::from(seconds(Duration::from_nanos(1_234_567_891)));
        assert_eq!(value.to_string(), "1.234567");
    }
}
