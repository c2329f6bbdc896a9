//! Webhooks: posts facts to a URL, signed as the Standard Webhooks specification says. The fact publisher calls it.

mod answer;
mod secret;

pub use answer::Answer;
pub use secret::{BadSecret, SigningKeys, new_secret};

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::json;
use ureq::Agent;
use uuid::Uuid;

use crate::config::{WebhookOptions, WebhookUrl};
use crate::domain::{Fact, TraceParent};
use crate::http_client;
use crate::tls::TlsError;

/// The type of the message, in its body.
pub const TYPE: &str = "likewise.facts";

/// The limit of the bytes of an answer that are read.
const LARGEST_ANSWER: u64 = 64 << 10;

/// The limit of the characters of an answer that an error quotes.
const QUOTED: usize = 200;

/// A receiver of webhooks.
pub struct Webhook {
    url: WebhookUrl,
    agent: Agent,
    keys: Arc<Mutex<SigningKeys>>,
    ids_as_text: bool,
}

impl Webhook {
    /// Creates the webhooks of the options, which share the signing keys.
    ///
    /// # Errors
    /// If the secret cannot be read or used, or the system has no certificate authorities for `https://`.
    pub fn all(options: &WebhookOptions, ids_as_text: bool) -> Result<Vec<Self>, WebhookError> {
        let keys = SigningKeys::load(options.secret.as_ref(), options.secret_file.as_deref())?;
        let keys = Arc::new(Mutex::new(keys));
        let webhook = |url: &WebhookUrl| {
            Ok(Self {
                url: url.clone(),
                agent: http_client::agent(url.expose(), options.timeout)?,
                keys: Arc::clone(&keys),
                ids_as_text,
            })
        };
        options.urls.iter().map(webhook).collect()
    }

    /// Returns its URL without the secret parts.
    #[must_use]
    pub fn name(&self) -> &str {
        self.url.name()
    }

    /// Posts facts, and returns how the receiver answered. Blocks its thread.
    #[must_use]
    pub fn post(&self, facts: &[&Fact], now: DateTime<Utc>) -> Answer {
        let id = message_id(facts);
        let data: Vec<_> = facts
            .iter()
            .map(|fact| fact.json(self.ids_as_text))
            .collect();
        let body = json!({
            "type": TYPE,
            "timestamp": now.to_rfc3339_opts(SecondsFormat::Secs, true),
            "data": data,
        })
        .to_string();
        let timestamp = now.timestamp();
        let signature = {
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            keys.refresh();
            keys.sign(&id, timestamp, &body)
        };
        let mut request = self
            .agent
            .post(self.url.expose())
            .header("Content-Type", "application/json")
            .header("Webhook-Id", &id)
            .header("Webhook-Timestamp", timestamp.to_string())
            .header("Webhook-Signature", signature);
        if let Some(trace) = common_trace(facts) {
            request = request.header(TraceParent::HEADER, trace.to_string());
        }
        let sent = request.send(body.as_bytes());
        let mut answer = match sent {
            Ok(answer) => answer,
            Err(error) => return Answer::unreachable(&error.to_string()),
        };
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get("retry-after");
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        // An answer that is read to its end leaves the connection usable.
        let mut text = Vec::new();
        let reader = answer.body_mut().as_reader();
        let _ = reader.take(LARGEST_ANSWER).read_to_end(&mut text);
        let text: String = String::from_utf8_lossy(&text)
            .chars()
            .take(QUOTED)
            .collect();
        Answer::of(status, retry_after, text.trim())
    }
}

/// Returns the trace of a request: that of its facts, if they have a single one. Its parent is the first fact's event.
fn common_trace(facts: &[&Fact]) -> Option<TraceParent> {
    let first = facts.first()?.trace?;
    let is_common = |fact: &&Fact| fact.trace.is_some_and(|trace| trace.is_of_one_with(first));
    facts.iter().all(is_common).then_some(first)
}

/// Returns the id of a message: the same for the same facts, so that a receiver recognises a repeat.
fn message_id(facts: &[&Fact]) -> String {
    let ids: Vec<u8> = facts
        .iter()
        .flat_map(|fact| *fact.event_id.as_bytes())
        .collect();
    let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, &ids);
    format!("msg_{}", id.simple())
}

/// Why webhooks cannot be sent as configured.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The secret cannot be read or used.
    #[error(transparent)]
    Secret(#[from] BadSecret),
    /// The system has no certificate authorities.
    #[error(transparent)]
    Tls(#[from] TlsError),
}
