//! The limits of the HTTP API, and the hosts and origins that it serves.

use std::str::FromStr;
use std::time::Duration;

use actix_web::http::Uri;

use super::{AuthMode, ConfigError, HostName, JsonIds, Network, PartialConfig, Quota};

/// The settings of the HTTP server.
#[derive(Debug, Clone)]
pub struct WebOptions {
    /// The origins whose web pages may call.
    pub cors_origins: Vec<String>,
    /// The hosts that the service serves, besides loopback names.
    pub hosts: Vec<HostName>,
    /// Whether the front page sends likes for random users.
    pub demo: bool,
    /// The rate limits.
    pub limits: LimitOptions,
    /// Whether responses have ids that are numbers as text.
    pub ids_as_text: bool,
    /// How long the service may take to answer a request.
    pub request_timeout: Duration,
    /// The limit of the connections that watch counts live.
    pub live_connections: usize,
}

/// The configured limits.
#[derive(Debug, Clone, Default)]
pub struct LimitOptions {
    /// Of each user.
    pub user: Option<Quota>,
    /// Of each address.
    pub address: Option<Quota>,
    /// The proxies whose `Forwarded` and `X-Forwarded-For` name the client.
    pub trusted_proxies: Vec<Network>,
}

impl WebOptions {
    pub(super) fn new(config: &PartialConfig) -> Result<Self, ConfigError> {
        let cors_origins: Vec<String> = list(
            "LIKEWISE_CORS_ORIGINS",
            config.cors_origins.as_deref(),
            ORIGINS,
        )?;
        if let Some(found) = cors_origins.iter().find(|origin| !is_origin(origin)) {
            return Err(wrong("LIKEWISE_CORS_ORIGINS", ORIGINS, found));
        }
        // Without sign-in, a client could evade the limit by naming another user.
        let default = match config.auth_mode() {
            AuthMode::None => "off",
            AuthMode::Jwt => "600/60",
        };
        let user = config.rate_limit_user.as_deref().unwrap_or(default);
        let address = config.rate_limit_address();
        let hosts = list::<HostName>(
            "LIKEWISE_HTTP_HOSTS",
            config.http_hosts.as_deref(),
            "names or addresses without ports (likes.example.com), with commas between them",
        )?;
        Ok(Self {
            ids_as_text: config.json_ids() == JsonIds::String,
            cors_origins,
            hosts,
            demo: config
                .demo
                .unwrap_or_else(|| config.http_addr().ip().is_loopback()),
            limits: LimitOptions {
                user: quota("LIKEWISE_RATE_LIMIT_USER", user)?,
                address: quota("LIKEWISE_RATE_LIMIT_ADDRESS", &address)?,
                trusted_proxies: list::<Network>(
                    "LIKEWISE_TRUSTED_PROXIES",
                    config.trusted_proxies.as_deref(),
                    "addresses or networks (10.0.0.0/8), with commas between them",
                )?,
            },
            request_timeout: Duration::from_secs(config.request_timeout_seconds()),
            live_connections: config.live_connections(),
        })
    }
}

const ORIGINS: &str =
    "origins as browsers send them (https://app.example.com), with commas between them";

/// Whether the text is an origin as browsers send it: scheme, host and port.
fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else {
        return false;
    };
    let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    // `Uri` adds the path '/', which an origin does not have.
    let host = uri
        .host()
        .is_some_and(|host| !host.is_empty() && !host.contains('*'));
    let bare = text.matches('/').count() == 2 && !text.contains(['@', '?', '#']);
    scheme && host && bare && text == text.to_lowercase()
}

fn wrong(setting: &'static str, expected: &str, found: &str) -> ConfigError {
    ConfigError::OutOfRange {
        setting,
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
}

fn list<T: FromStr>(
    setting: &'static str,
    text: Option<&str>,
    expected: &str,
) -> Result<Vec<T>, ConfigError> {
    let words = text.unwrap_or_default().split(',').map(str::trim);
    words
        .filter(|word| !word.is_empty())
        .map(|word| word.parse().map_err(|_| wrong(setting, expected, word)))
        .collect()
}

fn quota(setting: &'static str, text: &str) -> Result<Option<Quota>, ConfigError> {
    if text.trim().is_empty() || text == "off" {
        return Ok(None);
    }
    let expected = "COUNT/SECONDS (100/60), each from 1 to 1000000, or 'off'";
    text.parse()
        .map(Some)
        .map_err(|()| wrong(setting, expected, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_in_users_are_rate_limited_by_default() {
        let user = |mode, limit: Option<&str>| {
            let given = PartialConfig {
                auth_mode: Some(mode),
                rate_limit_user: limit.map(str::to_owned),
                ..PartialConfig::default()
            };
            let options = WebOptions::new(&given).expect("valid");
            options.limits.user.map(|quota| quota.to_string())
        };
        assert_eq!(user(AuthMode::None, None), None);
        assert_eq!(user(AuthMode::Jwt, None).as_deref(), Some("600/60"));
        assert_eq!(user(AuthMode::Jwt, Some("off")), None);
        assert_eq!(user(AuthMode::None, Some("5/1")).as_deref(), Some("5/1"));
    }

    #[test]
    fn list_error_names_the_first_invalid_item() {
        let refused =
            |given: PartialConfig| WebOptions::new(&given).expect_err("a mistake").to_string();
        for bad in [
            "*",
            "app.example.com",
            "https://app.example.com/",
            "https://*.example.com",
        ] {
            let given = PartialConfig {
                cors_origins: Some(format!("https://good.example.com, {bad}")),
                ..PartialConfig::default()
            };
            let error = refused(given);
            assert!(error.contains("LIKEWISE_CORS_ORIGINS"), "{error}");
            assert!(error.ends_with(&format!("got {bad}")), "{error}");
        }
        for bad in ["10.0.0.0/33", "proxy", "::1/129"] {
            let given = PartialConfig {
                trusted_proxies: Some(format!("127.0.0.1, 10.0.0.0/8, {bad}")),
                ..PartialConfig::default()
            };
            assert!(refused(given).ends_with(&format!("got {bad}")));
        }
        for bad in ["*", "likes.example.com:8080", "https://likes.example.com"] {
            let given = PartialConfig {
                http_hosts: Some(format!("likes.example.com, 192.0.2.7, {bad}")),
                ..PartialConfig::default()
            };
            let error = refused(given);
            assert!(error.contains("LIKEWISE_HTTP_HOSTS"), "{error}");
            assert!(error.ends_with(&format!("got {bad}")), "{error}");
        }
        for bad in ["100", "0/60", "100/0", "-1/2", "1/2/3", "1000001/1"] {
            let given = PartialConfig {
                rate_limit_address: Some(bad.to_owned()),
                ..PartialConfig::default()
            };
            assert!(refused(given).contains("LIKEWISE_RATE_LIMIT_ADDRESS must be COUNT/SECONDS"));
        }
    }
}
