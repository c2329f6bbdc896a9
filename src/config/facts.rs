//! Facts for other services: the stream and the webhooks that receive them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::{ConfigError, JsonIds, PartialConfig, Secret};
use crate::domain::{Backoff, Lease};

/// The receivers of facts. Without any, no fact is stored.
#[derive(Debug, Clone, Default)]
pub struct FactsOptions {
    /// The stream, if it receives facts.
    pub stream: Option<FactStreamOptions>,
    /// The webhooks, if any receive facts.
    pub webhooks: Option<WebhookOptions>,
    /// The duration of a process's lease on a receiver.
    pub lease: Duration,
    /// Whether JSON has ids that are numbers as text.
    pub ids_as_text: bool,
}

/// The limits of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactStreamOptions {
    /// Its name.
    pub name: String,
    /// The age at which it deletes a fact.
    pub max_age: Duration,
    /// Its size limit in bytes; when it is full, it deletes the oldest facts.
    pub max_bytes: i64,
}

impl FactStreamOptions {
    /// The name of this receiver in the outbox. URLs begin otherwise.
    pub const RECEIVER: &'static str = "stream";
}

/// The webhooks.
#[derive(Debug, Clone)]
pub struct WebhookOptions {
    /// Where facts are posted to.
    pub urls: Vec<WebhookUrl>,
    /// What signs them.
    pub secret: Option<Secret>,
    /// A file with what signs them.
    pub secret_file: Option<PathBuf>,
    /// The limit of the facts in one webhook.
    pub largest_batch: usize,
    /// How long a receiver may take to answer.
    pub timeout: Duration,
    /// The number of failed attempts after which a fact is a dead letter.
    pub max_attempts: i32,
    /// The wait between a failed attempt and the next.
    pub backoff: Backoff,
}

/// The URL of a webhook. Its user, password and query may be secret.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl {
    url: String,
    name: String,
}

impl WebhookUrl {
    /// The longest URL without its query, in bytes.
    const LONGEST: usize = 200;

    fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let is_plain = url.bytes().all(|byte| byte.is_ascii_graphic());
        if !matches!(scheme, "http" | "https") || !is_plain || url.contains('#') {
            return None;
        }
        let parsed: actix_web::http::Uri = url.parse().ok()?;
        parsed.host().filter(|host| !host.is_empty())?;
        let (place, query) = rest
            .split_once('?')
            .map_or((rest, None), |(place, query)| (place, Some(query)));
        let (authority, path) = match place.find('/') {
            Some(slash) => place.split_at(slash),
            None => (place, ""),
        };
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let mut name = format!("{scheme}://{host}{path}");
        if name.len() > Self::LONGEST {
            return None;
        }
        if user.is_some() || query.is_some() {
            // Two URLs that differ in their secret parts are two receivers.
            let digest = ring::digest::digest(&ring::digest::SHA256, url.as_bytes());
            name.push_str("?sha256=");
            name.push_str(&hex::encode(&digest.as_ref()[..4]));
        }
        Some(Self {
            url: url.to_owned(),
            name,
        })
    }

    /// Returns the whole URL, for the request.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.url
    }

    /// Returns the URL without its secret parts: the name of the receiver in the outbox and for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FactsOptions {
    pub(super) fn new(config: &PartialConfig) -> Result<Self, ConfigError> {
        let has_nats = super::not_blank(config.nats_url.as_deref()).is_some();
        if config.facts_stream() && !has_nats {
            return Err(ConfigError::Facts(
                "LIKEWISE_FACTS_STREAM needs NATS: set LIKEWISE_NATS_URL, or receive facts by LIKEWISE_WEBHOOK_URLS, \
                 which need none"
                    .to_owned(),
            ));
        }
        let stream = config.facts_stream().then(|| FactStreamOptions {
            name: "LIKEWISE_FACTS".to_owned(),
            max_age: Duration::from_secs(config.facts_max_age_seconds()),
            max_bytes: config.facts_max_bytes(),
        });
        Ok(Self {
            stream,
            webhooks: WebhookOptions::new(config)?,
            lease: Duration::from_secs(config.lease_seconds()),
            ids_as_text: config.json_ids() == JsonIds::String,
        })
    }

    /// Returns the names of the receivers in the outbox.
    #[must_use]
    pub fn receivers(&self) -> Vec<String> {
        let stream = self.stream.iter().map(|_| FactStreamOptions::RECEIVER);
        let urls = self.webhooks.iter().flat_map(|webhooks| &webhooks.urls);
        stream
            .chain(urls.map(WebhookUrl::name))
            .map(str::to_owned)
            .collect()
    }
}

impl WebhookOptions {
    /// `None` if there are no webhooks.
    fn new(config: &PartialConfig) -> Result<Option<Self>, ConfigError> {
        let Some(text) = super::not_blank(config.webhook_urls.as_deref()) else {
            return Ok(None);
        };
        let mut urls: Vec<WebhookUrl> = Vec::new();
        for url in text.split(',').map(str::trim).filter(|url| !url.is_empty()) {
            // The error does not quote the URL, which may have a password.
            let url = WebhookUrl::parse(url).ok_or_else(|| {
                ConfigError::Facts(format!(
                    "LIKEWISE_WEBHOOK_URLS must be http:// or https:// URLs of at most {} bytes without a fragment, with \
                     commas between them; number {} is not",
                    WebhookUrl::LONGEST,
                    urls.len() + 1
                ))
            })?;
            if !urls.contains(&url) {
                urls.push(url);
            }
        }
        let secret = config.webhook_secret.clone();
        let secret = secret.filter(|secret| !secret.is_blank());
        if secret.is_none() && config.webhook_secret_file.is_none() {
            return Err(ConfigError::Facts(
                "LIKEWISE_WEBHOOK_URLS needs a secret to sign webhooks with: set LIKEWISE_WEBHOOK_SECRET or \
                 LIKEWISE_WEBHOOK_SECRET_FILE (`likewise webhooks secret` makes one)"
                    .to_owned(),
            ));
        }
        // A process that sends longer than its lease could overtake its successor.
        let longest = Lease::longest_attempt(Duration::from_secs(config.lease_seconds()));
        let timeout = match config.webhook_timeout_seconds.map(Duration::from_secs) {
            None => longest.min(Duration::from_secs(10)),
            Some(timeout) if timeout <= longest => timeout,
            Some(timeout) => {
                return Err(ConfigError::Facts(format!(
                    "LIKEWISE_WEBHOOK_TIMEOUT_SECONDS must be at most two thirds of LIKEWISE_LEASE_SECONDS, got {timeout:?}: \
                     a lease must outlast an attempt; lower the one or raise the other"
                )));
            }
        };
        Ok(Some(Self {
            urls,
            secret,
            secret_file: config.webhook_secret_file.clone(),
            largest_batch: config.webhook_batch_size(),
            timeout,
            max_attempts: config.webhook_max_attempts(),
            backoff: Backoff {
                base: Duration::from_secs(1),
                cap: Duration::from_secs(300),
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_parts_of_a_url_are_hidden() {
        let url = WebhookUrl::parse("https://me:hush@example.com/a?token=hush").expect("a URL");
        assert!(url.name().starts_with("https://example.com/a?sha256="));
        assert!(!format!("{url:?}").contains("hush"));
        let other = WebhookUrl::parse("https://me:hush@example.com/a?token=other").expect("a URL");
        assert_ne!(url.name(), other.name());
        let plain = WebhookUrl::parse("http://127.0.0.1:9000/hook").expect("a URL");
        assert_eq!(plain.name(), "http://127.0.0.1:9000/hook");
        for wrong in [
            "example.com",
            "ftp://example.com",
            "https://",
            "https://a/#b",
            "https://a b",
        ] {
            assert_eq!(WebhookUrl::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn facts_are_off_by_default_and_contradictions_are_refused() {
        let none = FactsOptions::new(&PartialConfig::default()).expect("defaults");
        assert!(none.receivers().is_empty());
        let refused = |config: PartialConfig| {
            FactsOptions::new(&config)
                .expect_err("a contradiction")
                .to_string()
        };
        let stream = PartialConfig {
            facts_stream: Some(true),
            ..PartialConfig::default()
        };
        assert!(refused(stream).contains("LIKEWISE_NATS_URL"));
        let unsigned = PartialConfig {
            webhook_urls: Some("http://127.0.0.1/".to_owned()),
            ..PartialConfig::default()
        };
        assert!(refused(unsigned.clone()).contains("LIKEWISE_WEBHOOK_SECRET"));
        let slow = PartialConfig {
            webhook_secret: Some(Secret::new("whsec_".to_owned())),
            webhook_timeout_seconds: Some(11),
            ..unsigned
        };
        assert!(refused(slow).contains("two thirds"));
    }
}
