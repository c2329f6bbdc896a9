//! One recorded interaction and its text form `user_id,video_id`. `interactions` reads files of them.

/// A user who liked a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interaction {
    /// Above 0.
    pub user_id: i64,
    /// Above 0.
    pub video_id: i64,
}

/// The two fields of a line, without the spaces and quotes that some exports put around them.
fn fields(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let comma = line.iter().position(|byte| *byte == b',')?;
    Some((bare(&line[..comma]), bare(&line[comma + 1..])))
}

fn bare(field: &[u8]) -> &[u8] {
    let field = field.trim_ascii();
    field
        .strip_prefix(b"\"")
        .and_then(|field| field.strip_suffix(b"\""))
        .unwrap_or(field)
}

/// Parses a line: two integers above 0.
pub(crate) fn parse(line: &[u8]) -> Option<Interaction> {
    let (user, video) = fields(line)?;
    Some(Interaction {
        user_id: parse_id(user)?,
        video_id: parse_id(video)?,
    })
}

fn parse_id(digits: &[u8]) -> Option<i64> {
    let id = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (id > 0).then_some(id)
}

/// Whether a line is a header: two fields that look like column names. A damaged line of data must not pass as
/// one.
pub(crate) fn is_header(line: &[u8]) -> bool {
    let is_name = |field: &[u8]| {
        field.first().is_some_and(u8::is_ascii_alphabetic)
            && field
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-. ".contains(byte))
    };
    fields(line).is_some_and(|(user, video)| is_name(user) && is_name(video))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interaction_is_two_positive_integers() {
        let interaction = Interaction {
            user_id: 16_872,
            video_id: 17_407,
        };
        for line in ["16872,17407\n", " 16872 , 17407\r\n", "\"16872\",\"17407\""] {
            assert_eq!(parse(line.as_bytes()), Some(interaction), "{line}");
        }
        for line in [
            "0,1",
            "1,-1",
            "1",
            "1;2",
            "1,2,3",
            "1.5,2",
            "1,",
            "9223372036854775808,1",
            "\u{fffd},1",
        ] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn damaged_data_is_not_accepted_as_a_header() {
        assert!(is_header(b"user_id,video_id\n"));
        assert!(is_header(b"\"User ID\",\"Item ID\"\n"));
        for line in ["1,x", "-1,-2", "1.5,2.5", "user_id", "a,b,c", ",", "1,2"] {
            assert!(!is_header(line.as_bytes()), "{line}");
        }
    }
}
