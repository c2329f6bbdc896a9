//! The HTTP client for requests to other services: key sets (`web/auth/jwks.rs`), webhooks (`webhooks/`), and those of the
//! command line to a running service (`cli/service.rs`). A request blocks its thread.

use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::config::Host;
use crate::tls::{self, TlsError};

/// How long a connection that waits for its next request is kept. Many servers, among them Likewise and Node.js, close one
/// after five seconds, and a request that is sent while they do gets no answer.
pub const LONGEST_IDLE: Duration = Duration::from_secs(3);

/// Makes a client for this URL, which follows no redirect, trusts the authorities of the system, and returns answers of any
/// status. `timeout` limits a whole request.
///
/// Requests go through the proxy that the environment names, if it names one, but not those to this machine: a proxy would
/// connect to its own loopback address.
///
/// # Errors
/// If the client needs TLS, and the system has no authorities.
pub fn agent(url: &str, timeout: Duration) -> Result<Agent, TlsError> {
    // An invalid URL fails at its first request.
    let url: Uri = url.parse().unwrap_or_default();
    let is_secure = url.scheme_str() == Some("https");
    let mut config = Agent::config_builder()
        .timeout_global(Some(timeout))
        .max_idle_age(LONGEST_IDLE)
        .max_redirects(0)
        .http_status_as_error(false)
        .https_only(is_secure)
        .user_agent("likewise");
    if is_loopback(&url) {
        config = config.proxy(None);
    }
    if is_secure {
        tls::install();
        let roots = tls::authorities("SSL_CERT_FILE", None)?;
        let roots = roots
            .iter()
            .map(|root| Certificate::from_der(root).to_owned())
            .collect();
        let roots = RootCerts::Specific(Arc::new(roots));
        config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
    }
    Ok(Agent::new_with_config(config.build()))
}

fn is_loopback(url: &Uri) -> bool {
    let host = url.host().and_then(Host::parse);
    host.is_some_and(Host::is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_of_this_machine_are_asked_without_a_proxy() {
        for (url, expected) in [
            ("http://127.0.0.1:8080/admin/actors", true),
            ("http://[::1]:8080", true),
            ("https://localhost", true),
            ("http://user:password@127.0.0.1/hook?key=a", true),
            ("http://likes.example:8080", false),
            ("http://127.0.0.1.example", false),
            ("http://likes.example/?to=127.0.0.1", false),
            ("http://10.0.0.7:8080", false),
        ] {
            let url: Uri = url.parse().expect("a URL");
            assert_eq!(is_loopback(&url), expected, "{url}");
        }
    }
}
