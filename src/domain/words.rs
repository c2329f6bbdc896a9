//! Enums whose values have one name each in SQL, JSON and NATS subjects.

/// A word outside the known values of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a known {1}")]
pub struct UnknownWord(pub String, pub &'static str);

/// Gives an enum the names of its values: `ALL`, `as_str`, `Display` and `FromStr`. `$kind` names the enum in errors.
macro_rules! words {
    ($type:ident, $kind:literal, [$($value:ident = $word:literal),+ $(,)?]) => {
        impl $type {
            /// Every value, in order of declaration.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$value),+];

            /// Returns the value's name in SQL, JSON and NATS subjects.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $word,)+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::domain::words::UnknownWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                Self::ALL
                    .into_iter()
                    .find(|value| value.as_str() == word)
                    .ok_or_else(|| $crate::domain::words::UnknownWord(word.to_owned(), $kind))
            }
        }
    };
}

pub(super) use words;

#[cfg(test)]
mod tests {
    use std::fmt::{Debug, Display};
    use std::str::FromStr;

    use serde::Serialize;
    use serde_json::Value;

    use crate::domain::{
        Action, BehaviorType, JobKind, JobState, Moderation, OperationResult, OperationTarget,
        OperatorAction, Resolution, Status, Step,
    };

    fn check<T>(values: impl IntoIterator<Item = T>)
    where
        T: Copy + Debug + Display + FromStr<Err: Debug + PartialEq> + PartialEq + Serialize,
    {
        for value in values {
            assert_eq!(value.to_string().parse(), Ok(value));
            let json = serde_json::to_value(value).expect("a word");
            assert_eq!(json, Value::String(value.to_string()));
        }
        assert!("dislike".parse::<T>().is_err());
    }

    #[test]
    fn every_enum_word_round_trips() {
        check(BehaviorType::ALL);
        check(Action::ALL);
        check(Status::ALL);
        check(Step::ALL);
        check(JobKind::ALL);
        check(JobState::ALL);
        check(Moderation::ALL);
        check(OperatorAction::ALL);
        check(OperationTarget::ALL);
        check(OperationResult::ALL);
        check(Resolution::ALL);
    }
}
