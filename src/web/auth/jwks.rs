//! Fetches the key set of an identity provider. Blocks its thread, for ten seconds at most.

use std::time::Duration;

use actix_web::http::Uri;

use super::error::AuthError;
use crate::http_client;

/// How long a fetch may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The limit of a key set in bytes. Those of identity providers have a few thousand.
const LARGEST: u64 = 1 << 20;

/// Fetches the text of a key set.
pub(super) fn fetch(url: &str) -> Result<String, AuthError> {
    let failed = |reason: String| AuthError::Fetch {
        url: url.to_owned(),
        reason,
    };
    if !url.starts_with("https://") && !is_loopback(url) {
        return Err(failed(
            "it must begin with https://, because whoever can change the keys can sign in as anyone".to_owned(),
        ));
    }
    let agent = http_client::agent(url, TIMEOUT).map_err(|error| failed(error.to_string()))?;
    let mut answer = agent
        .get(url)
        .header("Accept", "application/json")
        .call()
        .map_err(|error| failed(error.to_string()))?;
    if answer.status() != 200 {
        return Err(failed(format!("the server answered {}", answer.status())));
    }
    answer
        .body_mut()
        .with_config()
        .limit(LARGEST)
        .read_to_string()
        .map_err(|error| failed(error.to_string()))
}

/// Whether the URL is of this machine, where nobody can change an answer on its way. `*.localhost` is not, unlike in
/// `http_client.rs`: a resolver may ask other machines for it.
fn is_loopback(url: &str) -> bool {
    let host = url.parse::<Uri>().ok();
    let host = host.as_ref().and_then(Uri::host).unwrap_or_default();
    let host = host.trim_matches(['[', ']']);
    let is_loopback = |address: std::net::IpAddr| address.is_loopback();
    host == "localhost" || host.parse().is_ok_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_from_another_machine_need_https() {
        for url in [
            "http://id.example.com/jwks",
            "ftp://127.0.0.1.example.com/",
            "jwks.json",
        ] {
            let refused = fetch(url).expect_err("not secure").to_string();
            assert!(refused.contains("must begin with https://"), "{refused}");
        }
        for url in [
            "http://127.0.0.1:1/jwks",
            "http://[::1]:1/jwks",
            "http://localhost:1/",
        ] {
            assert!(is_loopback(url), "{url}");
        }
    }
}
