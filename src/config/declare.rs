//! The macro that declares settings. From one line for each setting it makes the field of [`PartialConfig`], the key
//! in `likewise.toml`, the environment variable, the flag with its help, the default and the range.
//!
//! [`PartialConfig`]: super::PartialConfig

use std::fmt::Display;
use std::ops::{Bound, RangeBounds};

use super::ConfigError;

/// A setting as the documentation shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The environment variable.
    pub variable: &'static str,
    /// The default; `None` if the setting is optional.
    pub default: Option<String>,
}

/// The environment variable of a setting: `LIKEWISE_` and its name in capitals.
macro_rules! variable {
    ($name:ident) => {{
        const NAME: &str = concat!("LIKEWISE_", stringify!($name));
        const VARIABLE: [u8; NAME.len()] = super::declare::in_capitals(NAME);
        match std::str::from_utf8(&VARIABLE) {
            Ok(variable) => variable,
            Err(_) => NAME,
        }
    }};
}

pub(super) const fn in_capitals<const LENGTH: usize>(name: &str) -> [u8; LENGTH] {
    let mut capitals = [0; LENGTH];
    capitals.copy_from_slice(name.as_bytes());
    capitals.make_ascii_uppercase();
    capitals
}

/// Declares settings in groups, which are the headings of `--help`. `-h` shows only the groups with `short help`.
///
/// Each setting is `name [VALUE, more arguments of clap]: type = default, in range, or exception;`, with its help as the
/// doc comment. A default that depends on other settings is described after `as`. Secrets have no
/// flag, because every user of the machine can read flags.
macro_rules! settings {
    (
        $($heading:literal: $length:ident help {
            $(
                #[doc = $help:literal]
                $name:ident [$value:literal $(, $argument:ident = $setting:expr)*]: $type:ty
                    $(= $default:expr)? $(, in $range:expr $(, or $exception:expr)?)? $(, as $shown:literal)?;
            )+
        })+
        secrets {
            $(#[doc = $secret_help:literal] $secret:ident;)+
        }
    ) => {
        /// The settings that one source gives: flags and environment, or the file. Absent ones come from the next
        /// source, and from the defaults in the end.
        #[derive(Debug, Clone, Default, clap::Args, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct PartialConfig {
            $($(
                #[doc = $help]
                #[arg(
                    long,
                    env = variable!($name),
                    hide_env_values = true,
                    global = true,
                    value_name = $value,
                    help_heading = $heading,
                    hide_short_help = stringify!($length) == "long",
                    help = super::declare::help($help, default!($type $(= $default)? $(, as $shown)?))
                    $(, $argument = $setting)*
                )]
                pub(super) $name: Option<$type>,
            )+)+
            $(
                #[doc = $secret_help]
                #[arg(skip)]
                pub(super) $secret: Option<super::Secret>,
            )+
        }

        impl PartialConfig {
            /// Reads the secrets from the environment.
            #[must_use]
            pub fn with_secrets_from_environment(mut self) -> Self {
                $(self.$secret = super::Secret::from_environment(variable!($secret));)+
                self
            }

            /// Takes the settings that are absent here from `next`.
            pub(super) fn or(self, next: Self) -> Self {
                Self {
                    $($($name: self.$name.or(next.$name),)+)+
                    $($secret: self.$secret.or(next.$secret),)+
                }
            }

            /// Refuses a setting out of its range.
            pub(super) fn check_ranges(&self) -> Result<(), super::ConfigError> {
                $($($({
                    let exception: Option<$type> = None$(.or(Some($exception)))?;
                    super::declare::in_range(variable!($name), self.$name.as_ref(), $range, exception)?;
                })?)+)+
                Ok(())
            }

            $($($(
                #[doc = $help]
                #[allow(clippy::clone_on_copy, reason = "not every type is Copy")]
                pub(super) fn $name(&self) -> $type {
                    self.$name.clone().unwrap_or_else(|| $default)
                }
            )?)+)+

            /// The values as they are written, in the order of [`settings`](Self::settings); `None` where none is given.
            pub(super) fn values(&self) -> Vec<Option<String>> {
                use super::shown::Shown;
                vec![
                    $($(self.$name.as_ref().map(Shown::shown),)+)+
                    $(self.$secret.as_ref().map(Shown::shown),)+
                ]
            }

            /// Every setting, for the documentation.
            #[must_use]
            pub fn settings() -> Vec<super::Setting> {
                vec![
                    $($(super::Setting {
                        variable: variable!($name),
                        default: default!($type $(= $default)? $(, as $shown)?),
                    },)+)+
                    $(super::Setting { variable: variable!($secret), default: None },)+
                ]
            }
        }
    };
}

/// The default of a setting in words.
macro_rules! default {
    ($type:ty) => {
        None::<String>
    };
    ($type:ty, as $shown:literal) => {
        Some($shown.to_owned())
    };
    ($type:ty = $default:expr) => {{
        let default: $type = $default;
        Some(default.to_string())
    }};
}

pub(super) use {default, settings, variable};

pub(super) fn help(help: &str, default: Option<String>) -> String {
    let help = help.trim();
    match default {
        Some(default) => format!("{help} [default: {default}]"),
        None => help.to_owned(),
    }
}

pub(super) fn in_range<T: PartialOrd + Display>(
    setting: &'static str,
    value: Option<&T>,
    range: impl RangeBounds<T>,
    exception: Option<T>,
) -> Result<(), ConfigError> {
    let Some(value) =
        value.filter(|value| !range.contains(value) && exception.as_ref() != Some(*value))
    else {
        return Ok(());
    };
    let bounds = match (range.start_bound(), range.end_bound()) {
        (Bound::Included(least), Bound::Included(most)) => format!("between {least} and {most}"),
        (Bound::Included(least), _) => format!("{least} or more"),
        _ => "in its range".to_owned(),
    };
    Err(ConfigError::OutOfRange {
        setting,
        expected: match exception {
            Some(exception) => format!("{exception} or {bounds}"),
            None => bounds,
        },
        found: value.to_string(),
    })
}
