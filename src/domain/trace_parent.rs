//! The trace of an event: `traceparent`, as W3C Trace Context specifies it. A caller may send one; it goes with the event
//! through NATS into the ledger and to the receivers of facts.

use std::fmt;

use serde::{Serialize, Serializer};
use uuid::Uuid;

/// A `traceparent` of version 00.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceParent {
    trace_id: [u8; 16],
    parent_id: [u8; 8],
    flags: u8,
}

impl TraceParent {
    /// The name of the HTTP header, of the NATS header and of the JSON field.
    pub const HEADER: &'static str = "traceparent";

    /// The length of its text, in bytes.
    pub const LENGTH: usize = 55;

    /// The flag of a trace that the caller may have recorded.
    const SAMPLED: u8 = 0x01;

    /// The flag of a trace id whose last seven bytes are random.
    const RANDOM: u8 = 0x02;

    /// Reads the value of a header. `None` if it is invalid, as then the caller has no trace. A later version is read as far
    /// as version 00 goes, and only its sampled flag is kept.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let (known, rest) = bytes.split_at_checked(Self::LENGTH)?;
        let [v0, v1, b'-', ids @ ..] = known else {
            return None;
        };
        let [version] = hex([*v0, *v1])?;
        let kept = match (version, rest) {
            (0, []) => Self::SAMPLED | Self::RANDOM,
            (1..=0xfe, [] | [b'-', ..]) => Self::SAMPLED,
            _ => return None,
        };
        let (trace_id, rest) = ids.split_first_chunk::<32>()?;
        let (parent_id, rest) = rest.strip_prefix(b"-")?.split_first_chunk::<16>()?;
        let flags = rest.strip_prefix(b"-")?.first_chunk::<2>()?;
        let [flags] = hex(*flags)?;
        let parsed = Self {
            trace_id: hex(*trace_id)?,
            parent_id: hex(*parent_id)?,
            flags: flags & kept,
        };
        let is_valid = parsed.trace_id != [0; 16] && parsed.parent_id != [0; 8];
        is_valid.then_some(parsed)
    }

    /// Reads the values of a header that may be there once. Several name no trace.
    #[must_use]
    pub fn parse_only<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut values = values.into_iter();
        let value = values.next()?;
        values.next().is_none().then(|| Self::parse(value))?
    }

    /// Returns the trace with the event's own span as the parent of what follows. The span's id is made of the event's, so
    /// that every process and every retry gives the event the same one.
    #[must_use]
    pub fn of_event(self, event_id: Uuid) -> Self {
        let (_, low) = event_id.as_u64_pair();
        Self {
            // Zero is no id. No UUID of a known version ends so.
            parent_id: low.max(1).to_be_bytes(),
            ..self
        }
    }

    /// Returns whether both are of the same trace.
    #[must_use]
    pub fn is_of_one_with(self, other: Self) -> bool {
        self.trace_id == other.trace_id
    }

    /// Returns the id of the trace: 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> String {
        hex::encode(self.trace_id)
    }
}

/// Reads lower-case hexadecimal digits.
fn hex<const DIGITS: usize, const BYTES: usize>(digits: [u8; DIGITS]) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    if digits.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    Some(bytes)
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let digits = |bytes: &[u8], text: &mut [u8]| hex::encode_to_slice(bytes, text);
        digits(&self.trace_id, &mut text[3..35]).map_err(|_| fmt::Error)?;
        digits(&self.parent_id, &mut text[36..52]).map_err(|_| fmt::Error)?;
        digits(&[self.flags], &mut text[53..]).map_err(|_| fmt::Error)?;
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for TraceParent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(text: &str) -> Option<String> {
        TraceParent::parse(text).map(|parsed| parsed.to_string())
    }

    /// The example with another text at this place.
    fn with(start: usize, text: &str) -> String {
        let mut changed = EXAMPLE.to_owned();
        changed.replace_range(start..start + text.len(), text);
        changed
    }

    #[test]
    fn valid_trace_parent_round_trips() {
        assert_eq!(read(EXAMPLE).as_deref(), Some(EXAMPLE));
        assert_eq!(EXAMPLE.len(), TraceParent::LENGTH);
        for flags in ["00", "01", "02", "03"] {
            let text = with(53, flags);
            assert_eq!(read(&text), Some(text));
        }
        let parsed = TraceParent::parse(EXAMPLE).expect("valid");
        assert_eq!(parsed.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(serde_json::to_value(parsed).expect("JSON"), EXAMPLE);
    }

    #[test]
    fn several_values_name_no_trace() {
        let only = |values: &[&str]| TraceParent::parse_only(values.iter().copied());
        assert_eq!(only(&[EXAMPLE]), TraceParent::parse(EXAMPLE));
        assert_eq!(only(&[]), None);
        assert_eq!(only(&[EXAMPLE, EXAMPLE]), None);
    }

    #[test]
    fn unknown_flags_are_cleared() {
        assert_eq!(read(&with(53, "ff")), Some(with(53, "03")));
        assert_eq!(read(&with(53, "fc")), Some(with(53, "00")));
    }

    #[test]
    fn invalid_trace_parent_is_ignored() {
        let zeros = "0".repeat(32);
        for invalid in [
            String::new(),
            "00".to_owned(),
            EXAMPLE[..54].to_owned(),
            // Version 00 ends after the flags.
            format!("{EXAMPLE}-"),
            format!("{EXAMPLE}-00"),
            format!("{EXAMPLE}0"),
            format!(" {EXAMPLE}"),
            // Version ff is forbidden, and other versions are hexadecimal digits.
            with(0, "ff"),
            format!("{}-00", with(0, "ff")),
            with(0, "0G"),
            with(0, "-0"),
            with(3, &zeros),
            with(36, &zeros[..16]),
            with(3, "4BF9"),
            with(36, "00F0"),
            with(53, "0A"),
            with(0, "0A"),
            with(3, "4bg9"),
            with(36, "00.0"),
            with(53, "0-"),
            with(2, "_"),
            with(35, "."),
            with(52, "+"),
            with(3, "+bf9"),
            with(3, "é"),
            with(53, "é"),
        ] {
            assert_eq!(read(&invalid), None, "{invalid:?}");
        }
    }

    #[test]
    fn later_version_is_read_as_far_as_known() {
        for version in ["01", "cc", "fe"] {
            let later = with(0, version);
            assert_eq!(read(&later).as_deref(), Some(EXAMPLE));
            for more in ["-", "-00", "-what the future will be like"] {
                assert_eq!(read(&format!("{later}{more}")).as_deref(), Some(EXAMPLE));
            }
            for wrong in ["0", ".00", "é"] {
                assert_eq!(read(&format!("{later}{wrong}")), None);
            }
            assert_eq!(read(&later[..54]), None);
        }
        // A later version may mean something else by the other flags.
        let mut later = with(0, "01");
        later.replace_range(53.., "03");
        assert_eq!(read(&later).as_deref(), Some(EXAMPLE));
    }

    #[test]
    fn event_has_a_span_of_its_own_in_the_trace() {
        let caller = TraceParent::parse(EXAMPLE).expect("valid");
        let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
        let of_one = caller.of_event(one);
        assert_eq!(of_one.trace_id(), caller.trace_id());
        assert_ne!(of_one, caller);
        assert_ne!(of_one, caller.of_event(other));
        assert_eq!(of_one.of_event(one), of_one);
        let text = of_one.to_string();
        assert_eq!(TraceParent::parse(&text), Some(of_one));
        assert!(text.ends_with("-01"), "{text}");
        let nil = caller.of_event(Uuid::nil()).to_string();
        assert!(TraceParent::parse(&nil).is_some(), "{nil}");
    }
}
