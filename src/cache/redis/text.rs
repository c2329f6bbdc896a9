//! Numbers, ids and resources as text for Redis, without the formatting machinery, which costs more than their few bytes: a
//! like has some twenty of them.

use std::fmt::{self, Write};

use crate::domain::{Id, Resource, Version};

/// The length of most keys and arguments. Longer ones make a buffer grow.
pub(super) const TEXT: usize = 40;

/// The most digits of a number.
const MOST: usize = 20;

/// The decimal digits of a number.
pub(super) struct Digits {
    digits: [u8; MOST],
    start: usize,
}

impl Digits {
    /// Returns the digits of a number, after zeros if they are fewer than `least`.
    pub(super) fn of(number: u64, least: usize) -> Self {
        let (mut digits, mut start, mut left) = ([b'0'; MOST], MOST, number);
        while left > 0 {
            start -= 1;
            digits[start] += (left % 10) as u8;
            left /= 10;
        }
        Self {
            digits,
            start: start.min(MOST - least),
        }
    }

    /// Returns a version, which is never negative, as the script compares it: as text of always the same length.
    pub(super) fn of_version(version: Version) -> Self {
        Self::of(version.0.unsigned_abs(), 18)
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.digits[self.start..]).unwrap_or_default()
    }
}

/// Appends a number.
pub(super) fn write_number(out: &mut impl Write, number: i64) -> fmt::Result {
    if number < 0 {
        out.write_char('-')?;
    }
    out.write_str(Digits::of(number.unsigned_abs(), 1).as_str())
}

/// Appends what [`Id::key`] shows.
pub(super) fn write_id(out: &mut impl Write, id: &Id) -> fmt::Result {
    match id {
        Id::Number(number) => write_number(out, *number),
        Id::Text(text) => {
            out.write_char('=')?;
            out.write_str(text)
        }
    }
}

/// Appends what [`Resource::key`] shows.
pub(super) fn write_resource(out: &mut impl Write, resource: &Resource) -> fmt::Result {
    out.write_str(resource.resource_type.as_str())?;
    out.write_char(':')?;
    write_id(out, &resource.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_a_format() {
        for number in [0, 7, 10, 1_763_000_000_000_001, u64::MAX] {
            assert_eq!(Digits::of(number, 1).as_str(), number.to_string());
            assert_eq!(Digits::of(number, 18).as_str(), format!("{number:018}"));
        }
        for number in [i64::MIN, -1, 0, i64::MAX] {
            let mut text = String::new();
            write_number(&mut text, number).expect("text");
            assert_eq!(text, number.to_string());
        }
    }

    #[test]
    fn ids_are_those_of_cache_keys() {
        for id in [Id::Number(7), Id::Number(i64::MAX), Id::from("a:b}")] {
            let resource = Resource {
                id,
                ..Resource::video(1)
            };
            let mut text = String::new();
            write_resource(&mut text, &resource).expect("text");
            assert_eq!(text, resource.key().to_string());
        }
    }
}
