//! What each setting is and where it comes from, for `likewise config`. Secrets and passwords are hidden.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;

use super::shown::HIDDEN;
use super::{ConfigError, PartialConfig};

/// Where a setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Nobody has set it.
    Default,
    /// The settings file.
    File,
    /// The environment.
    Environment,
    /// A flag.
    Flag,
}

impl Source {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
            Self::Flag => "flag",
        }
    }
}

/// A setting with its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettingReport {
    /// The environment variable.
    pub variable: &'static str,
    /// The value as it is written, or the default in words; `None` if it is not set and has no default.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: Source,
}

impl PartialConfig {
    /// Reports every setting: those of this, which come from the flags named in `flags` or else from the environment, and
    /// those of the settings file at `path`.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn report(
        &self,
        path: &Path,
        flags: &BTreeSet<String>,
    ) -> Result<Vec<SettingReport>, ConfigError> {
        let file = Self::from_file(path)?;
        let values = self.values().into_iter().zip(file.values());
        Ok(Self::settings()
            .into_iter()
            .zip(values)
            .map(|(setting, (given, in_file))| {
                let id = setting
                    .variable
                    .trim_start_matches("LIKEWISE_")
                    .to_lowercase();
                let (value, source) = match (given, in_file) {
                    (Some(value), _) if flags.contains(&id) => (Some(value), Source::Flag),
                    (Some(value), _) => (Some(value), Source::Environment),
                    (None, Some(value)) => (Some(value), Source::File),
                    (None, None) => (setting.default, Source::Default),
                };
                SettingReport {
                    variable: setting.variable,
                    value: value.map(|value| without_passwords(&value)),
                    source,
                }
            })
            .collect())
    }
}

/// Hides the passwords of URLs: of `scheme://user:password@host`, several with commas between, the token of NATS
/// (`nats://token@host`), and parameters whose names say so.
fn without_passwords(value: &str) -> String {
    if !value.contains("://") {
        return value.to_owned();
    }
    let hidden = value.split(',').map(|url| {
        let Some((scheme, rest)) = url.split_once("://") else {
            return url.to_owned();
        };
        let host = rest.rfind('@').unwrap_or_default();
        let (rest, query) = match rest[host..].find('?') {
            Some(at) => rest.split_at(host + at),
            None => (rest, ""),
        };
        let rest = match rest.rsplit_once('@') {
            Some((credentials, host)) => match credentials.split_once(':') {
                Some((user, _)) => format!("{user}:{HIDDEN}@{host}"),
                None if matches!(scheme, "nats" | "tls") => format!("{HIDDEN}@{host}"),
                None => format!("{credentials}@{host}"),
            },
            None => rest.to_owned(),
        };
        let parameters = query.split('&').map(|parameter| {
            let Some((name, _)) = parameter.split_once('=') else {
                return parameter.to_owned();
            };
            let lower = name.to_lowercase();
            let is_secret = ["password", "passwd", "secret", "token"]
                .iter()
                .any(|word| lower.contains(word));
            if is_secret {
                format!("{name}={HIDDEN}")
            } else {
                parameter.to_owned()
            }
        });
        let query = parameters.collect::<Vec<_>>().join("&");
        format!("{scheme}://{rest}{query}")
    });
    hidden.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_urls_are_hidden() {
        for (url, shown) in [
            ("mysql://u:hush@db/app", "mysql://u:***@db/app"),
            ("mysql://u:hu@sh@db/app", "mysql://u:***@db/app"),
            ("mysql://u:hu?sh@db/app?a=b", "mysql://u:***@db/app?a=b"),
            ("redis://:hush@cache:6379/0", "redis://:***@cache:6379/0"),
            (
                "redis+cluster://u:hush@a:6379,b:6379",
                "redis+cluster://u:***@a:6379,b:6379",
            ),
            (
                "postgres://u@db/app?password=hush&x=1",
                "postgres://u@db/app?password=***&x=1",
            ),
            (
                "nats://hush@a:4222,nats://u:hush@b",
                "nats://***@a:4222,nats://u:***@b",
            ),
            ("sqlite://likewise.db", "sqlite://likewise.db"),
            ("off; 600/60 in mode jwt", "off; 600/60 in mode jwt"),
        ] {
            assert_eq!(without_passwords(url), shown);
        }
    }

    #[test]
    fn each_setting_names_its_source() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(super::super::FILE);
        std::fs::write(
            &path,
            "batch_size = 8\nmax_retries = 3\njwt_secret = \"hush\"",
        )
        .expect("a file");
        let given = PartialConfig {
            batch_size: Some(7),
            lease_seconds: Some(30),
            ..PartialConfig::default()
        };
        let flags = BTreeSet::from(["batch_size".to_owned()]);
        let report = given.report(&path, &flags).expect("valid");
        let of = |variable: &str| {
            let mut settings = report.iter();
            let setting = settings.find(|setting| setting.variable == variable);
            let setting = setting.expect("a setting");
            (setting.value.as_deref(), setting.source)
        };
        assert_eq!(of("LIKEWISE_BATCH_SIZE"), (Some("7"), Source::Flag));
        assert_eq!(
            of("LIKEWISE_LEASE_SECONDS"),
            (Some("30"), Source::Environment)
        );
        assert_eq!(of("LIKEWISE_MAX_RETRIES"), (Some("3"), Source::File));
        assert_eq!(of("LIKEWISE_JWT_SECRET"), (Some(HIDDEN), Source::File));
        assert_eq!(of("LIKEWISE_REDIS_URL"), (None, Source::Default));
        assert_eq!(of("LIKEWISE_ROLE"), (Some("all"), Source::Default));
    }
}
