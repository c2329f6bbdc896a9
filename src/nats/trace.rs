//! The trace of a message or an event on NATS. What is invalid names no trace, and refuses nothing.

use std::fmt;

use async_nats::{HeaderMap, HeaderValue};
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::domain::TraceParent;

/// Returns the trace in the headers of a message. Their names are case-sensitive on NATS, but Go's clients write
/// `Traceparent`.
#[must_use]
pub fn trace_of(headers: Option<&HeaderMap>) -> Option<TraceParent> {
    let values = headers?
        .iter()
        .filter(|(name, _)| AsRef::<str>::as_ref(*name).eq_ignore_ascii_case(TraceParent::HEADER))
        .flat_map(|(_, values)| values);
    TraceParent::parse_only(values.map(HeaderValue::as_str))
}

/// Reads the field of an event, which may be any JSON.
pub(super) fn read_leniently<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<TraceParent>, D::Error> {
    struct Lenient;

    impl<'de> Visitor<'de> for Lenient {
        type Value = Option<TraceParent>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any JSON")
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(TraceParent::parse(text))
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
            while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(None)
        }
    }

    deserializer.deserialize_any(Lenient)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn header_is_read_in_any_case_and_only_once() {
        let headers = |values: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in values {
                headers.append(*name, *value);
            }
            trace_of(Some(&headers)).map(|trace| trace.to_string())
        };
        for name in ["traceparent", "Traceparent", "TraceParent"] {
            let read = headers(&[("tracestate", "a=b"), (name, EXAMPLE)]);
            assert_eq!(read.as_deref(), Some(EXAMPLE), "{name}");
        }
        for none in [
            &[][..],
            &[("trace-parent", EXAMPLE)],
            &[("traceparent", "00")],
            &[("traceparent", EXAMPLE), ("Traceparent", EXAMPLE)],
            &[("traceparent", EXAMPLE), ("traceparent", EXAMPLE)],
        ] {
            assert_eq!(headers(none), None, "{none:?}");
        }
        assert_eq!(trace_of(None), None);
    }
}
